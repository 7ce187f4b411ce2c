"""A classifier of the property, trained on one party's records: it counts, and it describes.

Its probabilities count the samples that have the property (Zhou et al., 2022; Hu and Pang, 2023);
its hidden units are the descriptor of the paired attacks.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import expit

from helpers.denoiser_groups import features
from helpers.groups import Data, table
from helpers.noise import generator

__all__ = ["Reader", "accuracy", "reader"]

UNITS, PASSES, MOST = 64, 30, 12_000


@dataclass(frozen=True, eq=False)
class Reader:
    """A network with one hidden layer (ReLU) that tells the property of a record.

    Attributes
    ----------
    layers : tuple of (ndarray [in, out], ndarray [out])
        Two layers, float32.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def hidden(self, records: np.ndarray) -> np.ndarray:
        """Hidden units, float32 [..., units], of records float32 [..., d]."""
        weight, bias = self.layers[0]
        return np.maximum(records @ weight + bias, 0)

    def logits(self, records: np.ndarray) -> np.ndarray:
        """Log-odds of the property, float32 [...]."""
        weight, bias = self.layers[1]
        return (self.hidden(records) @ weight + bias)[..., 0]

    def probability(self, records: np.ndarray) -> np.ndarray:
        """Probability of the property, float32 [...]."""
        return expit(self.logits(records))


@lru_cache(maxsize=8)
def reader(data: Data, side: int, shift: str = "", party: int = 1) -> Reader:
    """Train the property's classifier on a party's training records (12,000 at most)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    source = table(data)
    rows = generator("reader", party).permutation(source.pool(party))[:MOST]
    model = MLPClassifier((UNITS,), max_iter=PASSES, batch_size=200, learning_rate_init=2e-3,
                          random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after PASSES passes
        model.fit(features(data, side, shift)[rows], source.attribute[rows])
    return Reader(tuple((w.astype(np.float32), b.astype(np.float32))
                        for w, b in zip(model.coefs_, model.intercepts_, strict=True)))


def accuracy(found: Reader, data: Data, side: int) -> float:
    """Share of the victims' test records whose property the reader tells."""
    source = table(data)
    rows = source.pool(0, test=True)
    said = found.probability(features(data, side)[rows]) > 0.5
    return float((said == source.attribute[rows]).mean())
