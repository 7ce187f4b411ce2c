"""Training laws: a set of real images, or a Gaussian mixture fitted to one, whose score is known.

A law hands out training images as float32 in [-1, 1]; subsets are nested and the two halves are
disjoint for both kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from helpers import datasets
from helpers.gaussians import Mixture
from helpers.noise import torch_generator
from helpers.store import Store, make_key

__all__ = ["Law", "load"]

PREFIX = "mixture:"
COMPONENTS = 10
DRAWS = 40_000
FITTED = 10_000  # images behind the fit
VERSION = 1


@dataclass(frozen=True)
class Law:
    """Images to train on, images held out, the hash of the data, and the mixture if it is one."""

    train: np.ndarray
    test: np.ndarray
    sha256: str
    mixture: Mixture | None = None

    def subset(self, n: int, seed: int = 0, half: int | None = None) -> np.ndarray:
        """Return ``n`` training images, float32, shape [n, C, H, W]."""
        return self._float(self.train[datasets.subset_indices(len(self.train), n, seed, half)])

    def held_out(self, n: int) -> np.ndarray:
        """Return the first ``n`` held-out images (or all), float32, shape [m, C, H, W]."""
        return self._float(self.test[:n])

    def _float(self, images: np.ndarray) -> np.ndarray:
        return images if images.dtype == np.float32 else datasets.to_model(images)


def load(name: str, size: int | None = None, store: Store | None = None) -> Law:
    """Load a law by name.

    Parameters
    ----------
    name : str
        A data set (see :func:`helpers.datasets.load`), or ``mixture:<data set>`` for the Gaussian
        mixture with full covariances fitted to its training images.
    size : int, optional
        Image side; area-averaged if smaller than the set's own.
    store : helpers.store.Store, optional
        Keeps the fitted mixture, whose fit takes a while.

    Returns
    -------
    Law
    """
    if not str(name).startswith(PREFIX):
        images = datasets.load(name, size)
        return Law(images.train, images.test, images.sha256)
    images = datasets.load(str(name)[len(PREFIX) :], size)

    def compute():
        fitted = Mixture.fit(
            torch.from_numpy(datasets.to_model(images.train[:FITTED])), COMPONENTS, seed=0
        )
        arrays = {
            "weights": fitted.weights.numpy(),
            "means": torch.stack([p.mean.view(fitted.shape) for p in fitted.parts]).numpy(),
            "covariances": torch.stack([_covariance(p) for p in fitted.parts]).numpy(),
        }
        return {"stage": "law"}, arrays

    key = make_key("law", VERSION, (str(name), size, COMPONENTS, FITTED, DRAWS), data=images.sha256)
    arrays = compute()[1] if store is None else store.once(key, compute).arrays
    parts = (torch.from_numpy(arrays[k].copy()) for k in ("weights", "means", "covariances"))
    mixture = Mixture(*parts)
    drawn = mixture.sample(DRAWS + 2048, torch_generator("law", 0)).to(torch.float32).numpy()
    return Law(drawn[:DRAWS], drawn[DRAWS:], key, mixture)


def _covariance(part) -> torch.Tensor:
    return (part.vectors * part.values) @ part.vectors.T
