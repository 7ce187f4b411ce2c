"""Copy-detection descriptors: whitened pixels, SqueezeNet taps, SSCD from a user's file.

A descriptor maps images to one or more blocks of unit vectors; the similarity of two images
is the largest cosine over the blocks. Whitening and threshold are fitted once on held-out
(test) images, never on a training subset.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from helpers import squeezenet as network
from helpers.datasets import SQUEEZENET_SHA256, data_folder
from helpers.images import DataError, decoded_hash, read_pinned, shrink
from helpers.noise import generator
from helpers.store import make_key

__all__ = ["Descriptor", "Whitening", "by_name", "load_weights", "pixels", "squeezenet", "sscd"]

FITTED, THRESHOLD_IMAGES, FEWEST = 5000, 2000, 40
DIMENSIONS, RIDGE, QUANTILE = 256, 0.1, 0.99
LOW_PASS, BLOCK = 8, 256
SSCD_THRESHOLD = 0.6  # the copy threshold of the reproducibility papers

Blocks = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Whitening:
    """PCA whitening with a ridge: ``z = (f - mean) @ matrix``, scaled to length 1.

    Attributes
    ----------
    mean : ndarray of float32, ``[d]``
    matrix : ndarray of float32, ``[d, k]``
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray, dimensions: int = DIMENSIONS, ridge: float = RIDGE) -> Whitening:
        """Fit on features ``[n, d]``: the k leading axes v_i, each divided by s_i + ridge s_1.

        s_i are the singular values of the centred rows; the ridge keeps axes with almost no
        variance from being blown up.
        """
        from scipy.linalg import eigh

        rows = np.asarray(rows, np.float64)
        mean = rows.mean(0)
        size = rows.shape[1]
        keep = min(dimensions, size, len(rows) - 1)
        gram = (rows - mean).T @ (rows - mean)
        values, vectors = eigh(gram, subset_by_index=(size - keep, size - 1))
        singular = np.sqrt(np.clip(values[::-1], 0.0, None))
        if singular[0] == 0:
            raise DataError(f"whitening: all {len(rows)} feature vectors are equal")
        matrix = vectors[:, ::-1] / (singular + ridge * singular[0])
        return cls(mean.astype(np.float32), np.ascontiguousarray(matrix, np.float32))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Whitened unit rows: float32 ``[n, k]``.

        Products run in float64, in blocks of one size, and are rounded once at the end, so a
        row's value does not depend on the rows around it.
        """
        matrix = self.matrix.astype(np.float64)
        out = np.empty((len(rows), matrix.shape[1]), np.float32)
        for first in range(0, len(rows), BLOCK):
            part = rows[first:first + BLOCK]
            padded = np.zeros((BLOCK, rows.shape[1]))
            padded[:len(part)] = part - self.mean.astype(np.float64)
            out[first:first + len(part)] = _unit(padded @ matrix)[:len(part)]
        return out


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True, eq=False)
class Descriptor:
    """Unit vectors for images, their similarity, and a copy threshold.

    Attributes
    ----------
    name : str
    threshold : float
        Two images count as the same above this similarity.
    features : callable
        uint8 ``[n, H, W, C]`` to a tuple of float32 ``[n, d_b]``, before whitening.
    whitenings : tuple of Whitening or None
        One per block; None scales to length 1 only.
    record : dict of str to str, int or float
        Everything that identifies it (weights' and held-out images' SHA-256, sizes).
    """

    name: str
    threshold: float
    features: Callable[[np.ndarray], Blocks]
    whitenings: tuple[Whitening | None, ...]
    record: dict[str, str | int | float] = field(default_factory=dict)

    def embed(self, images: np.ndarray) -> Blocks:
        """Embed uint8 ``[n, H, W, C]`` as unit rows: a float32 ``[n, d_b]`` per block.

        Batches have one fixed size, padded with zeros, so an image's row does not depend on
        how many others are embedded with it.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise DataError(f"{self.name}: need uint8 [n, H, W, 1 or 3], got {images.dtype} "
                            f"{list(images.shape)}")
        return tuple(_unit(f) if w is None else w(f)
                     for f, w in zip(self.features(images), self.whitenings, strict=True))

    @staticmethod
    def paired(a: Blocks, b: Blocks) -> np.ndarray:
        """Similarity of row i of `a` with row i of `b`: float32 ``[n]``, in [-1, 1]."""
        return np.max([np.einsum("nd,nd->n", x, y) for x, y in zip(a, b, strict=True)], axis=0)

    @staticmethod
    def nearest(a: Blocks, refs: Blocks, chunk: int = 4096) -> tuple[np.ndarray, np.ndarray]:
        """Most similar reference of every row of `a`; memory bounded by ``1024 * chunk``.

        Parameters
        ----------
        a, refs : blocks of float32, ``[n, d_b]`` and ``[m, d_b]``
        chunk : int
            References in one matrix product.

        Returns
        -------
        similarity : ndarray of float32, ``[n]``
        index : ndarray of int64, ``[n]``
            References that are equal may answer for one another.
        """
        if not len(refs[0]):
            raise DataError("nearest: there are no references")
        best = np.full(len(a[0]), -np.inf, np.float32)
        index = np.zeros(len(best), np.int64)
        for start in range(0, len(best), 1024):
            rows = slice(start, start + 1024)
            for first in range(0, len(refs[0]), chunk):
                similar = a[0][rows] @ refs[0][first:first + chunk].T
                for x, y in zip(a[1:], refs[1:], strict=True):
                    np.maximum(similar, x[rows] @ y[first:first + chunk].T, out=similar)
                place = similar.argmax(1)
                value = similar[np.arange(len(place)), place]
                better = value > best[rows]
                best[rows] = np.where(better, value, best[rows])
                index[rows] = np.where(better, place + first, index[rows])
        return best, index

    def embed_cached(self, images: np.ndarray, store) -> Blocks:
        """Do as `embed`, through a `helpers.store.Store`, keyed by the images' own hash."""
        key = make_key("embedding", 1, self.record, data=decoded_hash({"images": images}))
        entry = store.once(key, lambda: ({"stage": "embedding", **self.record},
                                         {str(i): b for i, b in enumerate(self.embed(images))}))
        return tuple(entry.arrays[str(i)] for i in range(len(self.whitenings)))


def _held_out(held_out: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint parts of the held-out images: for the whitening and for the threshold."""
    held_out = np.asarray(held_out)
    if len(held_out) < FEWEST:
        raise DataError(f"{name}: {len(held_out)} held-out images; at least {FEWEST} are needed to "
                        "fit the whitening and the threshold (of a file, one image in seven is "
                        f"held out: give it at least {7 * FEWEST})")
    words = generator("descriptor held-out", len(held_out)).bit_generator.random_raw(len(held_out))
    order = np.argsort(words, kind="stable")
    fitted = min(FITTED, len(held_out) // 2)
    return held_out[order[:fitted]], held_out[order[fitted:fitted + THRESHOLD_IMAGES]]


def _fit(name: str, features, held_out: np.ndarray, store=None, **extra) -> Descriptor:
    """Whiten on one part of the held-out images, set the threshold on the other."""
    record = {"descriptor": name, "held_out": decoded_hash({"images": held_out}),
              "dimensions": DIMENSIONS, "ridge": RIDGE, "quantile": QUANTILE, "fitted": FITTED,
              "threshold_images": THRESHOLD_IMAGES, "batch": network.BATCH, **extra}

    def compute():
        first, second = _held_out(held_out, name)
        raw = features(first)
        whitenings = tuple(Whitening.fit(block) for block in raw)
        fitted = Descriptor(name, np.nan, features, whitenings)
        refs = tuple(w(block) for w, block in zip(whitenings, raw, strict=True))
        similarity, _ = fitted.nearest(fitted.embed(second), refs)
        arrays = {"threshold": np.array([np.quantile(similarity, QUANTILE)])}
        for i, w in enumerate(whitenings):
            arrays |= {f"mean{i}": w.mean, f"matrix{i}": w.matrix}
        return {"stage": "descriptor", **record}, arrays

    key = make_key("descriptor", 1, record)
    arrays = store.once(key, compute).arrays if store else compute()[1]
    blocks = range(len(arrays) // 2)
    whitenings = tuple(Whitening(arrays[f"mean{i}"], arrays[f"matrix{i}"]) for i in blocks)
    threshold = float(arrays["threshold"][0])
    return Descriptor(name, threshold, features, whitenings, {**record, "threshold": threshold})


def _low_pass(images: np.ndarray) -> np.ndarray:
    """8 x 8 area average: float32 ``[n, 64 C]`` in [0, 1]."""
    return shrink(images, LOW_PASS).reshape(len(images), LOW_PASS**2 * images.shape[3])


def pixels(held_out: np.ndarray, store=None) -> Descriptor:
    """Whitened 8 x 8 low-pass image: cheap, blind to detail, not invariant to a flip.

    Parameters
    ----------
    held_out : ndarray of uint8, ``[n, H, W, C]``
        Test images: up to 5,000 (at most half) fit the whitening, 2,000 others the threshold,
        the 99th percentile of their nearest-neighbour similarity to the first (1 % of held-out
        images would be called copies; with more references the share rises).
    store : helpers.store.Store, optional
        Keeps the fit.
    """
    return _fit("pixels", lambda images: (_low_pass(images),), held_out, store)


def by_name(name: str, held_out: np.ndarray, store=None, *, sscd_path: str = "",
            sscd_sha256: str = "") -> Descriptor:
    """Fit a descriptor chosen by name, before any training; fits are kept in `store`.

    Raises
    ------
    DataError
        For an unknown name, too few held-out images, or an SSCD file that is not the one named.
    """
    if name == "sscd":
        return sscd(sscd_path, sscd_sha256)
    chosen = {"pixels": pixels, "squeezenet": squeezenet}
    if name not in chosen:
        raise DataError(f"unknown descriptor {name!r}; known: {', '.join(chosen)}, sscd")
    return chosen[name](held_out, store=store)


def load_weights() -> dict[str, np.ndarray]:
    """SqueezeNet v1.1 weights of the data folder, decoded hash checked; float32 by layer name."""
    return read_pinned(data_folder() / "squeezenet11.safetensors", "squeezenet", SQUEEZENET_SHA256)


def squeezenet(held_out: np.ndarray, store=None) -> Descriptor:
    """SqueezeNet taps (whitened) and the whitened low-pass image; the larger cosine counts.

    Not SSCD: the network was trained to classify. `held_out` and `store` as in `pixels`.
    """
    taps = network.Taps(load_weights())
    return _fit("squeezenet", lambda images: (taps(images), _low_pass(images)), held_out, store,
                weights=SQUEEZENET_SHA256, side=network.SIDE)


def sscd(path: str | os.PathLike, sha256: str, size: int = 320) -> Descriptor:
    """SSCD (Pizzi et al. 2022, arXiv:2202.10261) from the user's TorchScript file.

    Parameters
    ----------
    path : str or path
        TorchScript file, for example ``sscd_disc_large.torchscript.pt``.
    sha256 : str
        The file's SHA-256; checked before it is opened, and recorded.
    size : int
        Side in pixels that images are resized to.

    Raises
    ------
    DataError
        Missing file, another hash, or a file that is not TorchScript.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{path}: no such file (SSCD weights are not part of this book)")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256.lower():
        raise DataError(f"{path}: SHA-256 is {found}, not the {sha256} that was given; not opened")
    features = network.scripted(file, size)
    record = {"descriptor": "sscd", "weights": found, "side": size, "threshold": SSCD_THRESHOLD}
    return Descriptor("sscd", SSCD_THRESHOLD, lambda images: (features(images),), (None,), record)
