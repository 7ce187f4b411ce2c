"""A user's own images: one ``.npz`` or ``.safetensors`` file, checked whole.

Rules: ``images`` is N x H x W or N x H x W x C with C = 1 or 3, uint8 or floats in [0, 1],
H = W a multiple of 4 from 8 to 64, at least 7 images that are not all constant or all the
same. Every other array is a 1-D vector of length N: a named attribute. Files that need
pickle are refused.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from helpers.images import DataError

SMALLEST, LARGEST, STEP, FEWEST = 8, 64, 4, 7


def read(path: str | os.PathLike) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read and check a user's file.

    Parameters
    ----------
    path : str or path
        ``.npz`` or ``.safetensors``.

    Returns
    -------
    images : ndarray of uint8, ``[N, H, W, C]``
        Floats become ``floor(255 x + 1/2)``.
    attributes : dict of str to ndarray, ``[N]``

    Raises
    ------
    DataError
        A broken rule; the message names the file, the value and the rule.
    """
    arrays = _arrays(Path(path), path)
    if "images" not in arrays:
        present = ", ".join(sorted(arrays)) or "none"
        raise DataError(f"{path}: no array named 'images'; present: {present}")
    images = _images(arrays.pop("images"), path)
    return images, {name: _attribute(name, values, len(images), path)
                    for name, values in sorted(arrays.items())}


def _arrays(file: Path, path) -> dict[str, np.ndarray]:
    if file.suffix not in (".npz", ".safetensors"):
        raise DataError(f"{path}: neither a built-in data set (fashion16, digits8, mnist, cifar10) "
                        f"nor a .npz or .safetensors file (its ending is {file.suffix!r})")
    if not file.is_file():
        raise DataError(f"{path}: no such file")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        from safetensors.numpy import load_file

        return load_file(file)
    except Exception as error:
        if "Object arrays" in str(error):
            raise DataError(f"{path}: holds an object array, which needs pickle; save plain "
                            "numeric or string arrays instead") from error
        raise DataError(f"{path}: cannot be read as {file.suffix} "
                        f"({type(error).__name__}: {error}); the file is damaged") from error


def _images(images: np.ndarray, path) -> np.ndarray:
    shape = list(images.shape)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise DataError(f"{path}: images have shape {shape}; the rule is N x H x W or "
                        "N x H x W x C with C = 1 or 3")
    count, height, width, _ = images.shape
    if height != width:
        raise DataError(f"{path}: images are {height} x {width}; the rule is H = W (crop or pad)")
    if height % STEP or not SMALLEST <= height <= LARGEST:
        raise DataError(f"{path}: images have side {height}; the rule is a multiple of {STEP} "
                        f"from {SMALLEST} to {LARGEST}")
    if count < FEWEST:
        raise DataError(f"{path}: {count} images; at least {FEWEST} are needed for a 6:1 split")
    images = _as_bytes(images, path)
    if (images == images[:, :1, :1]).all():
        raise DataError(f"{path}: each of the {count} images is constant; at least one must not be")
    if (images == images[:1]).all():
        raise DataError(f"{path}: all {count} images are the same picture; at least two must "
                        "differ")
    return images


def _as_bytes(images: np.ndarray, path) -> np.ndarray:
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind != "f":
        raise DataError(f"{path}: images have dtype {images.dtype}; the rule is uint8, or floats "
                        "in [0, 1]")
    bad = np.argwhere(~np.isfinite(images))
    if len(bad):
        raise DataError(f"{path}: image {bad[0][0]} holds {images[tuple(bad[0])]} ({len(bad)} "
                        "values are not finite); all values must be finite")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise DataError(f"{path}: float images run from {low:g} to {high:g}; the rule is [0, 1] "
                        "(for 0 to 255, save them as uint8)")
    return np.floor(images.astype(np.float64) * 255.0 + 0.5).astype(np.uint8)


def _attribute(name: str, values: np.ndarray, count: int, path) -> np.ndarray:
    if values.shape != (count,):
        raise DataError(f"{path}: array {name!r} has shape {list(values.shape)}; every array but "
                        f"'images' must be a 1-D attribute vector of length {count}")
    if values.dtype.kind not in "biufU":
        raise DataError(f"{path}: attribute {name!r} has dtype {values.dtype}; the rule is "
                        "booleans, numbers or strings")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{path}: attribute {name!r} holds "
                        f"{np.count_nonzero(~np.isfinite(values))} values that are not finite")
    return values
