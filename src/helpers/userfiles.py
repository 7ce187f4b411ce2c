"""A user's own images: one ``.npz`` or ``.safetensors`` file, checked whole.

Rules: ``images`` is N x H x W or N x H x W x C with C = 1 or 3, uint8 or floats in [0, 1],
H = W a multiple of 4 from 8 to 64, at least 7 images that are not all constant or all the
same. Every other array is a 1-D vector of length N: a named attribute. Files that need
pickle are refused.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

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
    try:
        arrays = _arrays(Path(path))
        _need("images" in arrays,
              f"no array named 'images'; present: {', '.join(sorted(arrays)) or 'none'}")
        images = _images(arrays.pop("images"))
        return images, {name: _attribute(name, values, len(images))
                        for name, values in sorted(arrays.items())}
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DataError(otherwise)


def _arrays(file: Path) -> dict[str, np.ndarray]:
    _need(file.suffix in (".npz", ".safetensors"),
          "neither a built-in data set (fashion16, digits8, mnist, cifar10) nor a .npz or "
          f".safetensors file (its ending is {file.suffix!r})")
    _need(file.is_file(), "no such file")
    try:
        if file.suffix == ".npz":
            _need(zipfile.is_zipfile(file), "is no .npz archive (numpy.savez writes one), or is "
                  "damaged")
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        return load_file(file)
    except DataError:
        raise
    except Exception as error:
        _need("bfloat16" not in str(error), "holds bfloat16 numbers; save them as float32")
        _need("Object arrays" not in str(error), "holds an object array, which needs pickle; save "
              "plain numeric or string arrays instead")
        raise DataError(f"cannot be read as {file.suffix} ({type(error).__name__}: {error}); the "
                        "file is damaged") from error


def _images(images: np.ndarray) -> np.ndarray:
    shape = list(images.shape)
    if images.ndim == 3:
        images = images[..., None]
    _need(images.ndim == 4 and images.shape[3] in (1, 3),
          f"images have shape {shape}; the rule is N x H x W or N x H x W x C with C = 1 or 3")
    count, height, width, _ = images.shape
    _need(height == width, f"images are {height} x {width}; the rule is H = W (crop or pad)")
    _need(height % STEP == 0 and SMALLEST <= height <= LARGEST, f"images have side {height}; the "
          f"rule is a multiple of {STEP} from {SMALLEST} to {LARGEST}")
    _need(count >= FEWEST, f"{count} images; at least {FEWEST} are needed for a 6:1 split")
    images = _as_bytes(images)
    _need((images != images[:, :1, :1]).any(),
          f"each of the {count} images is constant; at least one must not be")
    _need((images != images[:1]).any(),
          f"all {count} images are the same picture; at least two must differ")
    return images


def _as_bytes(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    _need(images.dtype.kind == "f",
          f"images have dtype {images.dtype}; the rule is uint8, or floats in [0, 1]")
    bad = np.argwhere(~np.isfinite(images))
    if len(bad):
        raise DataError(f"image {bad[0][0]} holds {images[tuple(bad[0])]} ({len(bad)} values are "
                        "not finite); all values must be finite")
    low, high = float(images.min()), float(images.max())
    _need(low >= 0 and high <= 1, f"float images run from {low:g} to {high:g}; the rule is [0, 1] "
          "(for 0 to 255, save them as uint8)")
    return np.floor(images.astype(np.float64) * 255.0 + 0.5).astype(np.uint8)


def _attribute(name: str, values: np.ndarray, count: int) -> np.ndarray:
    _need(values.shape == (count,), f"array {name!r} has shape {list(values.shape)}; every array "
          f"but 'images' must be a 1-D attribute vector of length {count}")
    _need(values.dtype.kind in "biufU", f"attribute {name!r} has dtype {values.dtype}; the rule is "
          "booleans, numbers or strings")
    bad = np.count_nonzero(~np.isfinite(values)) if values.dtype.kind == "f" else 0
    _need(not bad, f"attribute {name!r} holds {bad} values that are not finite")
    return values
