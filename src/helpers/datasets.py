"""Real images: the built-in sets, a user's own file, and fixed subsets of them.

Images are uint8 ``[n, H, W, C]`` everywhere outside a network. Every set is checked
whole before it is returned, so a bad file fails before any training starts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from helpers.images import DataError, area, decoded_hash, read_pinned, to_model, to_uint8
from helpers.noise import generator

__all__ = ["BUILT_IN", "DataError", "ImageSet", "area", "data_folder", "decoded_hash", "load",
           "subset_indices", "to_model", "to_uint8"]

BUILT_IN = ("fashion16", "digits8", "mnist", "cifar10")
SIZES = range(8, 65, 4)
FOOTWEAR, ANIMALS = (5, 7, 9), (2, 3, 4, 5, 6, 7)
FASHION16_SHA256 = "04bcd1d2f2d9cd078f0d9f951cd03e1f3e1dda6817720d99f5317193aeefe97a"
SQUEEZENET_SHA256 = "31477dec85faa3aecfde9d89145ee3f2fd684b479f3ef893723e6d6bf94763c4"


@dataclass(frozen=True)
class ImageSet:
    """A checked image set with a train and a test part that never overlap.

    Attributes
    ----------
    name : str
        Built-in name or the file's path as given.
    train, test : ndarray of uint8, ``[N, H, W, C]`` and ``[M, H, W, C]``
    attributes, test_attributes : dict of str to ndarray ``[N]`` and ``[M]``
    sha256 : str
        Hash of the decoded arrays, images and attributes, both parts.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    test_attributes: dict[str, np.ndarray] = field(default_factory=dict)
    sha256: str = ""

    def __post_init__(self) -> None:
        arrays = {"train": self.train, "test": self.test}
        arrays |= {f"train.{k}": v for k, v in self.attributes.items()}
        arrays |= {f"test.{k}": v for k, v in self.test_attributes.items()}
        if not self.sha256:
            object.__setattr__(self, "sha256", decoded_hash(arrays))
        for array in arrays.values():
            array.setflags(write=False)

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        return self.train.shape[1]

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.train.shape[3]

    def require(self, n: int, half: int | None = None) -> None:
        """Raise `DataError` when fewer than `n` training images (of `half`) are there."""
        _available(len(self.train), n, half, self.name)

    def subset(self, n: int, seed: int = 0, half: int | None = None) -> np.ndarray:
        """The `n` training images that `subset_indices` picks: uint8 ``[n, H, W, C]``."""
        self.require(n, half)
        return self.train[subset_indices(len(self.train), n, seed, half)]

    def attribute(self, name: str, test: bool = False) -> np.ndarray:
        """Attribute vector by name; `DataError` lists those present for an unknown one."""
        found = self.test_attributes if test else self.attributes
        if name not in found:
            present = ", ".join(sorted(found)) or "none"
            raise DataError(f"{self.name}: no attribute {name!r}; present: {present}")
        return found[name]


def _available(total: int, n: int, half: int | None, name: str) -> None:
    if half not in (None, 0, 1):
        raise DataError(f"{name}: half {half!r} is not None, 0 or 1")
    available = total if half is None else (total + 1 - half) // 2
    if not 1 <= n <= available:
        part = "in all" if half is None else f"in half {half}"
        raise DataError(f"{name}: {n} images asked for, but there are {available} {part} (of "
                        f"{total}); choose n between 1 and {available}")


def subset_indices(total: int, n: int, seed: int = 0, half: int | None = None) -> np.ndarray:
    """Indices of a fixed random subset: nested in `n`, with two disjoint halves.

    One shuffle of ``range(total)`` per `seed` (ranks of raw Philox words). A subset is a
    prefix of it; ``half=0`` reads the even positions, ``half=1`` the odd ones.

    Parameters
    ----------
    total, n : int
        Images there are and images wanted.
    seed : int
    half : {None, 0, 1}

    Returns
    -------
    ndarray of int64, ``[n]``

    Raises
    ------
    DataError
        When `n` exceeds what is there, or `half` is something else.
    """
    _available(total, n, half, "subset")
    order = _shuffle(total, "subset", seed)
    return (order if half is None else order[half::2])[:n]


def _shuffle(total: int, stream: str, seed: int = 0) -> np.ndarray:
    words = generator(stream, total, seed).bit_generator.random_raw(total)
    return np.argsort(words, kind="stable").astype(np.int64)


def data_folder() -> Path:
    """Folder of the committed data: ``SAME_NOISE_DATA`` if set, else the repository's."""
    return Path(os.environ.get("SAME_NOISE_DATA") or Path(__file__).resolve().parents[2] / "data")


def load(name: str | os.PathLike, size: int | None = None) -> ImageSet:
    """Load a built-in set by name or a user's file by path, checked whole.

    Parameters
    ----------
    name : str or path
        ``fashion16``, ``digits8``, ``mnist``, ``cifar10``, or a ``.npz``/``.safetensors``
        file (see `helpers.userfiles.read`).
    size : int, optional
        Area-average to this side (a multiple of 4, 8 to 64, not above the set's own).

    Returns
    -------
    ImageSet

    Raises
    ------
    DataError
        Unknown name, missing or damaged file, or any broken rule of a user's file.
    """
    if size is not None and size not in SIZES:
        raise DataError(f"size {size!r}: the side must be a multiple of 4 from 8 to 64")
    if str(name) in BUILT_IN:
        return _built_in(str(name), size)
    from helpers import userfiles

    images, attributes = userfiles.read(name)
    return _shrunk(str(name), *_split(images, attributes, "user split"), size)


@lru_cache(maxsize=4)
def _built_in(name: str, size: int | None) -> ImageSet:
    if name == "fashion16":
        parts = _fashion16()
    elif name == "digits8":
        parts = _digits8()
    else:
        from helpers import archives

        train, labels, test, test_labels = archives.read(name)
        attributes = [{"label": y, **_derived(name, y)} for y in (labels, test_labels)]
        parts = (train, test, *attributes)
    return _shrunk(name, *parts, size)


def _derived(name: str, labels: np.ndarray) -> dict[str, np.ndarray]:
    if name == "cifar10":
        return {"animal": np.isin(labels, ANIMALS).astype(np.uint8)}
    return {"even": (labels % 2 == 0).astype(np.uint8)}


def _fashion16():
    arrays = read_pinned(data_folder() / "fashion16.npz", "fashion16", FASHION16_SHA256)
    images = arrays["images"][..., None]
    attributes = {"label": arrays["labels"], "footwear": arrays["footwear"]}
    return (images[:60000], images[60000:], {k: v[:60000] for k, v in attributes.items()},
            {k: v[60000:] for k, v in attributes.items()})


def _digits8():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images.astype(np.int64) * 255 + 8) // 16
    labels = digits.target.astype(np.uint8)
    attributes = {"label": labels, **_derived("digits8", labels)}
    return _split(images.astype(np.uint8)[..., None], attributes, "digits split")


def _split(images: np.ndarray, attributes: dict[str, np.ndarray], stream: str):
    order = _shuffle(len(images), stream)
    test, train = order[:len(images) // 7], order[len(images) // 7:]
    return (images[train], images[test], {k: v[train] for k, v in attributes.items()},
            {k: v[test] for k, v in attributes.items()})


def _shrunk(name, train, test, attributes, test_attributes, size) -> ImageSet:
    if size is not None and size != train.shape[1]:
        if size > train.shape[1]:
            raise DataError(f"{name}: size {size} is above the images' own {train.shape[1]}")
        train, test = area(train, size), area(test, size)
    return ImageSet(name, train, test, attributes, test_attributes)
