"""Pixel arithmetic shared by every data set: scaling, model values, hashes.

Images are uint8 ``[n, H, W, C]``; a network sees float32 ``[n, C, H, W]`` in [-1, 1].
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

_MODEL_VALUES = (np.arange(256) / 127.5 - 1.0).astype(np.float32)
_CHUNK = 4096


class DataError(ValueError):
    """A data set or file breaks a rule; the message names it, the value and the rule."""


def decoded_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of named arrays: name, dtype, shape and little-endian C-order bytes, by name.

    Parameters
    ----------
    arrays : mapping of str to ndarray

    Returns
    -------
    str
        64 hexadecimal digits. Unlike a file's hash it survives recompression.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{name}|{array.dtype.str}|{list(array.shape)}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def check_decoded(name: object, arrays: Mapping[str, np.ndarray], pinned: str) -> None:
    """Raise `DataError` unless the decoded arrays have the pinned SHA-256."""
    found = decoded_hash(arrays)
    if found != pinned:
        raise DataError(f"{name}: decoded arrays have SHA-256 {found}, the pinned one is {pinned}")


def read_pinned(path: Path, name: str, sha256: str) -> dict[str, np.ndarray]:
    """Read the compact file (``.npz`` or ``.safetensors``) of a source, checked whole.

    Raises
    ------
    DataError
        Missing, damaged, or other arrays than the pinned ones; with the command that makes it.
    """
    remedy = f"python -m helpers data {name}"
    if not path.is_file():
        raise DataError(f"{path} is missing; make it with: {remedy}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        else:
            arrays = load_file(path)
    except Exception as error:
        raise DataError(f"{path} is damaged ({error}); make it again with: {remedy}") from error
    check_decoded(path, arrays, sha256)
    return arrays


def _overlap(side: int, size: int) -> np.ndarray:
    """Shared length of input pixel i and output pixel j, in units of ``1 / (side * size)``."""
    start, stop = np.arange(side) * size, np.arange(1, side + 1) * size
    low, high = (np.arange(size) * side)[:, None], (np.arange(1, size + 1) * side)[:, None]
    return np.clip(np.minimum(stop, high) - np.maximum(start, low), 0, None).astype(np.float64)


def _totals(images: np.ndarray, size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Area sums ``[n, size, size, ...]`` in float64, by chunks; whole numbers, hence exact."""
    overlap = _overlap(images.shape[1], size)
    for first in range(0, len(images), _CHUNK):
        rows = slice(first, first + _CHUNK)
        total = np.tensordot(images[rows].astype(np.float64), overlap, (1, 1))
        yield rows, np.moveaxis(np.tensordot(total, overlap, (1, 1)), (-2, -1), (1, 2))


def _check_square(images: np.ndarray, size: int, what: str) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[1] != images.shape[2]:
        raise DataError(f"{what}: need uint8 [n, H, H] or [n, H, H, C], got {images.dtype} "
                        f"{list(images.shape)}")
    if not 1 <= size <= images.shape[1]:
        raise DataError(f"{what}: size {size} is outside 1..{images.shape[1]}; images are only "
                        "ever shrunk")
    return images


def area(images: np.ndarray, size: int) -> np.ndarray:
    """Exact area average of square uint8 images, rounded half up: ``floor(mean + 1/2)``.

    The overlaps are whole numbers in units of ``1 / (H * size)`` of a side, so the float64
    products are exact and the result is the same on every machine.

    Parameters
    ----------
    images : ndarray of uint8, ``[n, H, H]`` or ``[n, H, H, C]``
    size : int
        Output side in pixels, 1 to H.

    Returns
    -------
    ndarray of uint8, ``[n, size, size]`` or ``[n, size, size, C]``

    Raises
    ------
    DataError
        Another dtype or shape, or a size outside 1..H.
    """
    images = _check_square(images, size, "area")
    if size == images.shape[1]:
        return images.copy()
    square = images.shape[1] ** 2
    out = np.empty((len(images), size, size, *images.shape[3:]), np.uint8)
    for rows, total in _totals(images, size):
        out[rows] = (2 * total.astype(np.int64) + square) // (2 * square)
    return out


def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """Area average without rounding: float32 ``[n, size, size, C]`` in [0, 1]."""
    images = _check_square(images, size, "shrink")
    scale = 255.0 * images.shape[1] ** 2
    out = np.empty((len(images), size, size, *images.shape[3:]), np.float32)
    for rows, total in _totals(images, size):
        out[rows] = total / scale
    return out


def to_model(images: np.ndarray) -> np.ndarray:
    """Turn uint8 ``[n, H, W, C]`` into float32 ``[n, C, H, W]`` in [-1, 1] (``u / 127.5 - 1``)."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"to_model: need uint8 [n, H, W, C], got {images.dtype} "
                        f"{list(images.shape)}")
    return np.ascontiguousarray(_MODEL_VALUES[images].transpose(0, 3, 1, 2))


def to_uint8(samples) -> np.ndarray:
    """Turn model values ``[n, C, H, W]`` (array or tensor) into uint8 ``[n, H, W, C]``, clipped.

    Raises
    ------
    DataError
        When a value is not finite: a diverged sampler is not hidden by clipping.
    """
    if hasattr(samples, "detach"):
        samples = samples.detach().cpu().numpy()
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim != 4:
        raise DataError(f"to_uint8: need [n, C, H, W], got {list(samples.shape)}")
    if not np.isfinite(samples).all():
        bad = np.count_nonzero(~np.isfinite(samples))
        raise DataError(f"to_uint8: {bad} of {samples.size} values are not finite; "
                        "the sampler diverged")
    pixels = np.floor(np.clip((samples + 1.0) * 127.5, 0.0, 255.0) + 0.5)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).astype(np.uint8)
