"""What a classifier puts out: logits and probabilities, as types that cannot be mixed up.

The released code of the second paper clips the raw logits of some victims into (0, 1) as if they
were probabilities (network victims against scikit-learn shadows). Here an attack takes
`Probabilities` only, and the one way from `Logits` to them is `Logits.probabilities`;
`as_released` repeats the defect on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

__all__ = ["CLIP", "Logits", "Probabilities", "as_released"]

CLIP = 1e-4  # the paper's: probabilities are kept at least so far from 0 and 1


@dataclass(frozen=True, eq=False)
class Probabilities:
    """Probabilities of the positive class, float64, shape [models, records].

    Raises
    ------
    ValueError
        For another shape, NaN, or a value outside [0, 1]; the message names the first one.
    """

    values: np.ndarray

    def __post_init__(self):
        values = _matrix(self.values, "probabilities")
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            model, record = np.argwhere(wrong)[0]
            raise ValueError(
                f"probability of model {model} on record {record} is {values[model, record]:g}, "
                "outside [0, 1]; give Logits(...) if these are logits, they are converted for you"
            )
        object.__setattr__(self, "values", values)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, models=slice(None), records=slice(None)) -> Probabilities:
        """Return some of the models and some of the records."""
        return Probabilities(self.values[models][:, records])

    def clipped(self, clip: float = CLIP) -> np.ndarray:
        """Return the values kept inside [clip, 1 - clip]."""
        return np.clip(self.values, clip, 1 - clip)

    def log_odds(self, clip: float = CLIP) -> np.ndarray:
        """Return the log-odds of the clipped values, shape [models, records]."""
        return logit(self.clipped(clip))

    def labels(self) -> np.ndarray:
        """Return the predicted labels (bool), True from probability 1/2 on."""
        return self.values >= 0.5

    def hardened(self, low: float = 0.01) -> Probabilities:
        """Return what a label-only victim shows: its labels, written as `low` and ``1 - low``."""
        return Probabilities(np.where(self.labels(), 1 - low, low))


@dataclass(frozen=True, eq=False)
class Logits:
    """Logits of the positive class, finite floats of shape [models, records]."""

    values: np.ndarray

    def __post_init__(self):
        values = _matrix(self.values, "logits")
        if not np.isfinite(values).all():
            model, record = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(f"logit of model {model} on record {record} is "
                             f"{values[model, record]}; logits must be finite")
        object.__setattr__(self, "values", values)

    def __len__(self) -> int:
        return len(self.values)

    def probabilities(self) -> Probabilities:
        """Return the logistic function of the logits; it never overflows."""
        return Probabilities(expit(self.values))


def as_released(logits: Logits) -> Probabilities:
    """Repeat the released code's defect: logits clipped into (0, 1) and called probabilities."""
    if not isinstance(logits, Logits):
        raise TypeError(f"the defect concerns Logits, got {type(logits).__name__}")
    return Probabilities(np.clip(logits.values, CLIP, 1 - CLIP))


def _matrix(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiub":
        raise ValueError(f"{what} of shape {values.shape} and type {values.dtype}: need numbers of "
                         "shape [models, records], at least one of each")
    return values.astype(np.float64)
