"""Records of a reader's own for shadow diffusion models, their two halves, and draws from them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from helpers.images import DataError, decoded_hash
from helpers.noise import generator

__all__ = ["MOST", "Records", "draws", "fitting", "halves", "load"]

MOST = 2048  # training records of a shadow where none are given
TABLES = ("acs_ma", "adult")


@dataclass(frozen=True, eq=False)
class Records:
    """Records as a denoiser sees them, and which of them have the property.

    Attributes
    ----------
    name, property : str
        For sentences; of a file without its folder.
    values : ndarray, float32, shape [R, d]
        Pictures in [-1, 1], flattened channels first, or the encoded features of a table.
    attribute : ndarray of bool, shape [R]
    shape : tuple of int
        (channels, height, width), or (features,).
    sha256 : str
        Of the decoded source.
    names : tuple of str
        Of the features; empty for pictures.
    """

    name: str
    property: str
    values: np.ndarray
    attribute: np.ndarray
    shape: tuple[int, ...]
    sha256: str
    names: tuple[str, ...] = ()


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DataError(otherwise)


def load(data: str | os.PathLike, property: str | None = None, side: int | None = None,
         label: str | None = None) -> Records:
    """Load records by name or from a file, checked whole.

    Parameters
    ----------
    data : str or path
        ``fashion16`` (its training set); ``acs_ma``, ``adult`` or a ``.csv``/``.parquet`` file
        (:func:`helpers.tables.load`); or a ``.npz`` with ``images`` [n, H, W], [n, H, W, C] or
        [n, C, H, W] (C = 1 or 3), uint8 or floats in [-1, 1].
    property : str, optional
        Of a table as for :func:`helpers.tables.load`; of a ``.npz`` the array of 0 and 1, by
        default ``property``; of fashion16 by default ``footwear``.
    side : int, optional
        Pictures are averaged down to it; by default fashion16 to 8, others not at all.
    label : str, optional
        Of a table: the column that is its task, which gives no features.

    Raises
    ------
    DataError
        A broken rule; the message names the file, the value and the rule.
    """
    told = str(data)
    if told == "fashion16":
        _need(label is None, "--label goes with a table; fashion16 are pictures")
        return _fashion(property or "footwear", 8 if side is None else side)
    if told in TABLES or Path(told).suffix in (".csv", ".parquet"):
        _need(side is None, f"--side {side}: {told} is a table; pictures alone have a side")
        _need(property is not None, f"{told}: --property is missing; give column=value")
        return _table(told, property, label)
    _need(label is None, f"--label {label}: goes with a table; {told} holds pictures")
    _need(Path(told).suffix == ".npz", f"{told}: neither fashion16, {', '.join(TABLES)} nor a .npz "
          f"(pictures), .csv or .parquet (table) file; its ending is {Path(told).suffix!r}")
    return _own(Path(told), property or "property", side)


def _fashion(property: str, side: int) -> Records:
    from helpers.denoiser_groups import features
    from helpers.groups import Data, table

    data = Data("fashion16", property, mode="free")
    source, whole = table(data), table(data).features.shape[-1]
    _need(1 <= side <= whole and whole % side == 0, f"fashion16: --side {side} must divide the "
          f"pictures' side {whole}")
    return Records("fashion16", source.property_name, features(data, side),
                   source.attribute.astype(bool), (1, side, side), source.sha256)


def _table(told: str, property: str, label: str | None) -> Records:
    from helpers import tables

    try:
        source = tables.load(told, property=property, label=label)
    except DataError as error:
        raise DataError(str(error).replace("a file needs label='column' or label='column=value'",
                                           "a table needs --label column or column=value")
                        ) from error
    return Records(Path(told).name, source.property_name, np.ascontiguousarray(source.features),
                   source.attribute.astype(bool), source.features.shape[1:], source.sha256,
                   source.names)


def _own(path: Path, property: str, side: int | None) -> Records:
    _need(path.is_file(), f"there is no file {path}")
    _need(zipfile.is_zipfile(path), f"{path} is no .npz archive (numpy.savez writes one), or is "
          "damaged")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in (
                "images", property)}
            there = ", ".join(archive.files) or "none"
    except Exception as error:
        told = ("an object array, which needs pickle; save plain numbers" if
                "Object arrays" in str(error) else f"damaged ({error})")
        raise DataError(f"{path} cannot be read: {told}") from error
    for name in ("images", property):
        _need(name in arrays, f"{path} holds no array {name!r} (arrays: {there}); needed are "
              f"`images` and the property, 0 or 1 for each, as `property` or what --property names")
    pictures = _pictures(path, arrays["images"])
    flags = arrays[property]
    _need(flags.shape == pictures.shape[:1] and flags.dtype.kind in "biuf"
          and np.isin(flags, (0, 1)).all(), f"{path}: {property} is {flags.dtype} of shape "
          f"{list(flags.shape)}; needed is 0 or 1 for each of {len(pictures)} images")
    _need(0 < np.count_nonzero(flags) < len(flags), f"{path}: {property} is {flags[0]} for every "
          "image; needed are both 0 and 1")
    small = _averaged(path, pictures, side)
    return Records(path.name, property, small.reshape(len(small), prod(small.shape[1:])),
                   flags.astype(bool), small.shape[1:], decoded_hash(arrays))


def _pictures(path: Path, images: np.ndarray) -> np.ndarray:
    """Pictures as float32 [n, C, H, W]."""
    shape = list(images.shape)
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        images = np.moveaxis(images, 3, 1)
    _need(images.ndim == 4 and images.shape[1] in (1, 3) and images.size > 0, f"{path}: images "
          f"have shape {shape}; needed are [n, H, W], [n, H, W, C] or [n, C, H, W], C = 1 or 3")
    if images.dtype == np.uint8:
        return (images / np.float32(127.5) - np.float32(1)).astype(np.float32)
    _need(images.dtype.kind == "f", f"{path}: images are {images.dtype}; needed are uint8, or "
          "floats in [-1, 1]")
    _need(bool(np.isfinite(images).all()), f"{path}: {np.count_nonzero(~np.isfinite(images))} "
          "values of images are not finite")
    low, high = float(images.min()), float(images.max())
    _need(low >= -1 and high <= 1, f"{path}: images run from {low:.3g} to {high:.3g}; floats must "
          "lie in [-1, 1], grey levels of 0 to 255 are uint8")
    return images.astype(np.float32)


def _averaged(path: Path, pictures: np.ndarray, side: int | None) -> np.ndarray:
    height, width = pictures.shape[2:]
    if side is None:
        return np.ascontiguousarray(pictures)
    _need(height == width and 1 <= side <= width and width % side == 0, f"{path}: --side {side} "
          f"must divide the side of square images; these are {height} x {width}")
    by = width // side
    return pictures.reshape(*pictures.shape[:2], side, by, side, by).mean((3, 5))


def halves(records: Records, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of two disjoint halves of the records, each in increasing order."""
    order = generator("own shadows", seed).permutation(len(records.values))
    even, odd = np.array_split(order, 2)
    return np.sort(even), np.sort(odd)


def fitting(records: Records, ratios: Sequence[float], seed: int, n: int | None = None) -> int:
    """Return how many records a shadow can have: `n`, or the most that fit, up to `MOST`.

    Raises
    ------
    DataError
        When a half has too few records of one kind; names them and the largest n that fits.
    """
    have = np.array([[np.count_nonzero(records.attribute[half] == kind) for half in
                      halves(records, seed)] for kind in (False, True)]).min(1)
    sizes = np.arange(1, len(records.values) + 1)
    fits = np.ones(len(sizes), bool)
    for ratio in ratios:
        ones = np.rint(ratio * sizes)
        fits &= (sizes - ones <= have[0]) & (ones <= have[1])
    largest = int(sizes[fits].max(initial=0))
    told = (f"{records.name}: a half of the records has {have[1]} with {records.property} and "
            f"{have[0]} without")
    if n is None:
        _need(largest > 0, f"{told}; no number of records fits the ratios "
              f"{', '.join(f'{ratio:g}' for ratio in ratios)}")
        return int(sizes[fits & (sizes <= MOST)].max())
    if n > len(sizes) or not fits[n - 1]:
        short = next((ratio for ratio in ratios if round(ratio * n) > have[1]
                      or n - round(ratio * n) > have[0]), ratios[0])
        raise DataError(f"{told}, but {round(short * n)} and {n - round(short * n)} are wanted for "
                        f"ratio {short:g} at --n {n}; the largest n that fits all ratios is "
                        f"{largest}")
    return n


def draws(records: Records, ratio: float, n: int, numbers: Sequence[int], seed: int) -> np.ndarray:
    """Row numbers that shadows train on, int64 [len(numbers), n], ``round(ratio * n)`` with it.

    Even numbers draw from one half of the records, odd ones from the other; shadow i is the same
    whoever is trained beside it.
    """
    parts, ones, found = halves(records, seed), round(ratio * n), []
    for i in numbers:
        stream, half = generator("own draw", seed, round(ratio * 1e6), i), parts[i % 2]
        with_it = records.attribute[half]
        found.append(np.concatenate([stream.permutation(half[with_it])[:ones],
                                     stream.permutation(half[~with_it])[:n - ones]]))
    return np.stack(found)
