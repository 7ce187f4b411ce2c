"""What a trainer can do to its records before training, so that the model leaks less about them.

DP-SGD and adversarial training belong to training itself (`helpers.shadow.Recipe`). Everything here
acts on which records a model sees, their labels or their features; an adversary who knows the
defence does the same to its shadows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.images import DataError
from helpers.noise import generator, noise

__all__ = ["KINDS", "Defense", "defended", "noisy_features"]

KINDS = {
    "none": "records as they were drawn",
    "label noise": "this share of the labels is flipped",
    "feature noise": "normal noise of this standard deviation on every feature",
    "under": "records of the larger group are dropped until both groups are as large",
    "over": "records of the smaller group are repeated until both groups are as large",
    "fixed": "as `under`, then cut to this share of the records, whatever the ratio was",
}


@dataclass(frozen=True)
class Defense:
    """A defence and its strength.

    Attributes
    ----------
    kind : str
        A name in `KINDS`.
    strength : float
        Share of labels for ``label noise`` (0 to 1/2), standard deviation for ``feature noise``,
        share of the records kept for ``fixed`` (0 to 1); unused otherwise.
    """

    kind: str = "none"
    strength: float = 0.0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown defence {self.kind!r}; known: {', '.join(KINDS)}")
        top = {"label noise": 0.5, "fixed": 1.0}.get(self.kind, np.inf)
        if not 0 <= self.strength <= top or (self.kind == "fixed" and not self.strength):
            raise ValueError(f"{self.kind}: strength {self.strength} must lie in [0, {top:g}]"
                             f"{' and above 0' if self.kind == 'fixed' else ''}")


def defended(index: np.ndarray, labels: np.ndarray, attribute: np.ndarray, defense: Defense,
             seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply a defence to the records of many models.

    Parameters
    ----------
    index : ndarray of int, shape [M, n]
        Rows that each model would train on; each model with the same number of either group.
    labels, attribute : ndarray of uint8, shape [R]
        Of the whole table.
    defense : Defense
    seeds : ndarray of int, shape [M]
        Each model resamples, or flips labels, with a stream of its own.

    Returns
    -------
    index, own : ndarray, shape [M, m]
        Rows (repeated by ``over``) and their labels, for `helpers.shadow.fit`. ``under`` and
        ``over`` change m with the ratio, which itself gives the ratio away; ``fixed`` does not.

    Raises
    ------
    helpers.images.DataError
        When a group is empty, or too small for ``fixed``; before any training.
    """
    index = np.asarray(index)
    if defense.kind in ("under", "over", "fixed"):
        index = np.stack([_balanced(rows, attribute, defense, generator("resample", int(seed)))
                          for rows, seed in zip(index, seeds, strict=True)])
    own = labels[index]
    if defense.kind == "label noise":
        count = round(defense.strength * index.shape[1])
        for row, seed in zip(own, seeds, strict=True):
            flipped = generator("label noise", int(seed)).permutation(len(row))[:count]
            row[flipped] = 1 - row[flipped]
    return index, own


def _balanced(rows: np.ndarray, attribute: np.ndarray, defense: Defense,
              stream: np.random.Generator) -> np.ndarray:
    """One model's rows with as many of either group."""
    groups = [rows[attribute[rows] == value] for value in (0, 1)]
    small, large = sorted(len(group) for group in groups)
    if not small:
        raise DataError(f"{defense.kind}: none of {len(rows)} records is of the smaller group, so "
                        "no re-sampling can balance them; use a ratio strictly between 0 and 1")
    if defense.kind == "over":
        extra = [group[stream.integers(len(group), size=large - len(group))] for group in groups]
        return stream.permutation(np.concatenate([*groups, *extra]))
    size = small if defense.kind == "under" else round(defense.strength * len(rows) / 2)
    if size > small or not size:
        raise DataError(f"fixed: {size} records of each group are wanted (share "
                        f"{defense.strength:g} of {len(rows)}), the smaller one has {small}; use a "
                        f"strength of at most {2 * small / len(rows):.3g}")
    return stream.permutation(np.concatenate([stream.permutation(g)[:size] for g in groups]))


def noisy_features(features: np.ndarray, defense: Defense, party: int) -> np.ndarray:
    """Return features float32 [R, ...] with the defence's noise, drawn once for each record.

    Each party (0 victim, 1 adversary) has noise of its own; other defences leave features alone.
    """
    if defense.kind != "feature noise" or not defense.strength:
        return features
    flat = features.reshape(len(features), -1)
    drawn = noise(range(len(flat)), (flat.shape[1],), party, "feature noise")
    return (flat + np.float32(defense.strength) * drawn).reshape(features.shape)
