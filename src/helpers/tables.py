"""Records with a task label and a property, split between two parties, and draws of given ratio.

A draw picks rows without replacement from a pool so that an exact share of them has the property:
the training sets of victims and shadows. All randomness comes from named streams; rows are picked
by ranks of raw generator words, which NumPy keeps the same across versions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from helpers import datasets, records
from helpers.images import DataError, decoded_hash, to_model
from helpers.noise import generator
from helpers.records import binary, encode, need, present

__all__ = ["DataError", "MODES", "TableSet", "cells", "draw", "expected_overlap", "largest",
           "load", "overlap"]

MODES = ("cells", "free", "balanced")
VICTIM_SHARE, TRAIN_SHARE = 0.6, 0.8
FEWEST_ROWS = 200
ENCODING = 1  # of the features; to be raised when `records.encode` changes what it gives
TOPS = (2, 4, 6, 9)
# Per built-in table: its label, its properties as (column, value, shown name), what is no feature.
BUILT_IN = {
    "acs_ma": ("employed", {"sex": ("SEX", "2", "sex=Female"),
                            "race": ("RAC1P", "1", "race=White")}, ("year",)),
    "adult": ("salary", {"sex": ("sex", "Female", "sex=Female"),
                         "race": ("race", "White", "race=White")}, ("fnlwgt", "education")),
    "fashion16": (f"class in {{{','.join(map(str, TOPS))}}}",
                  {"footwear": ("footwear", "1", "footwear")}, ()),
}


@dataclass(frozen=True, eq=False)
class TableSet:
    """A checked table: features, label, property and the four parts that never share a row.

    Attributes
    ----------
    name : str
        Built-in name or the file's path as given.
    sha256 : str
        Key of all of the below: source, label, property, features' names and encoding, split.
        Not of the features' values, whose last bits differ between machines. Computed when "".
    features : ndarray of float32, ``[n, d]`` or ``[n, 1, 16, 16]``
        Numbers standardised over the whole table, categories one-hot; images in [-1, 1].
    names, groups : tuple of str, ``d`` each
        Name of each feature (``AGEP``, ``MAR=1``) and its source column; empty for images.
    label, attribute : ndarray of uint8, ``[n]``
        1 for the positive class; 1 for records that have the property.
    party : ndarray of uint8, ``[n]``
        0 victim (60 %), 1 adversary (40 %), stratified on label and attribute.
    label_name, property_name : str
    held_out : ndarray of bool, ``[n]``
        The 20 % of each party's rows kept from training, stratified too.
    source : str
        SHA-256 of the decoded columns or images.
    split_seed : int
    """

    name: str
    sha256: str
    features: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...]
    label: np.ndarray
    attribute: np.ndarray
    party: np.ndarray
    label_name: str
    property_name: str
    held_out: np.ndarray
    source: str
    split_seed: int = 0

    def __post_init__(self) -> None:
        parts = [self.pool(party, test) for party in (0, 1) for test in (False, True)]
        rows = np.sort(np.concatenate(parts))
        assert np.array_equal(rows, np.arange(len(self.label))), "the four parts share rows"
        if not self.sha256:
            told = np.array([self.source, self.label_name, self.property_name,
                             str(self.split_seed), f"encoding {ENCODING}", *self.names])
            object.__setattr__(self, "sha256", decoded_hash(
                {"label": self.label, "attribute": self.attribute, "party": self.party,
                 "held_out": self.held_out, "told": told}))
        for array in (self.features, self.label, self.attribute, self.party, self.held_out):
            array.setflags(write=False)

    def pool(self, party: int, test: bool = False) -> np.ndarray:
        """Row numbers (int64, ascending) of a party's training rows, or of its test rows."""
        if party not in (0, 1):
            raise DataError(f"{self.name}: party {party!r} is not 0 (victim) or 1 (adversary)")
        return np.flatnonzero((self.party == party) & (self.held_out == bool(test)))

    def without(self, *columns: str) -> TableSet:
        """The same table less the features of these source columns; label, property and split stay.

        Raises
        ------
        DataError
            A column that has no feature here, or no feature left.
        """
        present(self.name, columns, tuple(dict.fromkeys(self.groups)), "no features of column")
        keep = np.array([group not in columns for group in self.groups], bool)
        need(keep.any(), f"{self.name}: no feature is left without {', '.join(columns)}")
        return replace(self, features=np.ascontiguousarray(self.features[:, keep]), sha256="",
                       names=tuple(np.array(self.names)[keep].tolist()),
                       groups=tuple(np.array(self.groups)[keep].tolist()))


def load(name: str | os.PathLike, property: str = "sex", label: str | None = None,
         drop: tuple[str, ...] = (), split_seed: int = 0) -> TableSet:
    """Load a built-in table by name or a user's file by path, checked whole.

    Parameters
    ----------
    name : str or path
        ``acs_ma``, ``adult``, ``fashion16`` (training images), or a ``.csv``/``.parquet`` file,
        where columns of numbers are quantities and all others categories (50 at most).
    property : str
        A built-in property (``sex``, ``race``; ``footwear``) or ``column=value``. A column alone
        must have two values; the larger one is the property.
    label : str, optional
        Task label, spelt the same way. Built-in tables have one; a file needs it.
    drop : tuple of str
        Source columns that give no features. Adult's ``relationship`` is always dropped when sex is
        the property: it names husbands and wives. `property` itself stays unless dropped.
    split_seed : int
        Which split between the parties.

    Returns
    -------
    TableSet

    Raises
    ------
    DataError
        Unknown name, column or property, missing values, a label or property that is not binary or
        constant, too many categories, or fewer than 200 rows.
    """
    drop, told = (drop,) if isinstance(drop, str) else tuple(drop), str(name)
    if told == "fashion16":
        need(not drop, f"fashion16: drop={drop}: images have no columns to drop")
        return _images(property, label, split_seed)
    usual, known, excluded = BUILT_IN.get(told, (None, {}, ()))
    arrays, missing = (records.read(told), {}) if told in BUILT_IN else records.read_own(name)
    need(label or usual, f"{told}: a file needs label='column' or label='column=value'; columns: "
         f"{', '.join(arrays)}")
    present(told, drop, arrays)
    rows = len(next(iter(arrays.values()), ()))
    need(rows >= FEWEST_ROWS, f"{told}: {rows} rows; at least {FEWEST_ROWS} are needed")
    y, label_name, label_column = binary(told, arrays, label or usual, "label", missing=missing)
    z, property_name, column = binary(told, arrays, property, "property", known, missing)
    if told == "adult" and column == "sex":
        excluded += ("relationship",)
    feature = {key: values for key, values in arrays.items()
               if key != label_column and key not in drop and key not in excluded}
    features, names, groups = encode(told, feature, missing)
    return _table(told, features, names, groups, y, z, label_name, property_name,
                  records.PINNED.get(told) or decoded_hash(arrays), split_seed)


def _images(property: str, label: str | None, split_seed: int) -> TableSet:
    images = datasets.load("fashion16")
    usual, known, _ = BUILT_IN["fashion16"]
    classes = images.attribute("label")
    arrays = {"class": classes, "footwear": images.attribute("footwear")}
    z, property_name, _ = binary("fashion16", arrays, property, "property", known)
    if label in (None, usual):
        y, label_name = np.isin(classes, TOPS).astype(np.uint8), usual
    else:
        y, label_name, _ = binary("fashion16", arrays, label, "label")
    return _table("fashion16", to_model(images.train), (), (), y, z, label_name, property_name,
                  images.sha256, split_seed)


def _table(name, features, names, groups, label, attribute, label_name, property_name, source,
           split_seed) -> TableSet:
    need((label != attribute).any() and (label == attribute).any(), f"{name}: label "
         f"{label_name!r} and property {property_name!r} are the same; choose another of them")
    party, held_out = _split(2 * attribute + label, split_seed)
    return TableSet(name, "", features, names, groups, label, attribute, party, label_name,
                    property_name, held_out, source, split_seed)


def _split(cell: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Party and held-out flag ``[n]``; every cell's shares are exact up to rounding."""
    words = generator("parties", len(cell), seed).bit_generator.random_raw(len(cell))
    order = np.argsort(words, kind="stable")
    party, held_out = np.ones(len(cell), np.uint8), np.zeros(len(cell), bool)
    for value in np.unique(cell):
        rows = order[cell[order] == value]
        cut = round(VICTIM_SHARE * len(rows))
        party[rows[:cut]] = 0
        for part in (rows[:cut], rows[cut:]):
            held_out[part[round(TRAIN_SHARE * len(part)):]] = True
    return party, held_out


def cells(table: TableSet, pool: np.ndarray) -> np.ndarray:
    """Records of a pool by property and label: int64 ``[2, 2]``, ``[property, label]``."""
    code = 2 * table.attribute[pool] + table.label[pool]
    return np.bincount(code, minlength=4).reshape(2, 2)


def _wanted(have: np.ndarray, ones, size: int, mode: str) -> np.ndarray:
    """Records to take ``[..., 2, 2]`` (``[..., 2, 1]`` for "free"), `ones` with the property.

    No entry falls when `size` grows at one ratio, or when its own group grows.
    """
    members = np.stack([size - np.asarray(ones), np.asarray(ones)], -1)
    if mode == "free":
        return members[..., None]
    shares = (have[:, 1] / np.maximum(have.sum(1), 1) if mode == "cells" else
              np.full(2, have[:, 1].sum() / have.sum()))
    positive = np.rint(members * shares).astype(np.int64)
    return np.stack([members - positive, positive], -1)


def _checked(table: TableSet, pool: np.ndarray, ratio: float, mode: str) -> np.ndarray:
    need(mode in MODES, f"mode {mode!r} is not one of {', '.join(MODES)}")
    need(0 <= ratio <= 1, f"{table.name}: ratio {ratio} is outside 0..1; it is the share of "
         f"records with {table.property_name}")
    need(len(pool) > 0, f"{table.name}: the pool is empty")
    return cells(table, pool)


def _available(have: np.ndarray, mode: str) -> np.ndarray:
    return have.sum(1, keepdims=True) if mode == "free" else have


def _largest(have: np.ndarray, ratio: float, mode: str) -> int:
    there, low, high = _available(have, mode), 0, int(have.sum())
    while low < high:
        size = (low + high + 1) // 2
        fits = (_wanted(have, round(ratio * size), size, mode) <= there).all()
        low, high = (size, high) if fits else (low, size - 1)
    return low


def largest(table: TableSet, pool: np.ndarray, ratio: float, mode: str = "cells") -> int:
    """The largest size at which `draw` finds enough records in every cell at this ratio."""
    return _largest(_checked(table, pool, ratio, mode), ratio, mode)


def _shown(table: TableSet, group: int, label: int | None) -> str:
    told = [table.property_name if group else f"not {table.property_name}"]
    if label is not None:
        told.append(table.label_name if label else f"not {table.label_name}")
    return " and ".join(f"({each})" for each in told)


def _counts(table: TableSet, pool: np.ndarray, ratio: float, size: int, mode: str) -> np.ndarray:
    """Records to draw by cell, checked against the pool; see `draw` for the errors."""
    have = _checked(table, pool, ratio, mode)
    need(size >= 1, f"{table.name}: size {size} is below 1")
    wanted, there = _wanted(have, round(ratio * size), size, mode), _available(have, mode)
    short = np.argwhere(wanted > there)
    if len(short):
        group, label = short[0]
        fits = np.flatnonzero((_wanted(have, np.arange(size + 1), size, mode) <= there)
                              .all(axis=(1, 2)))
        ratios = (f"ratios from {fits[0] / size:.4g} to {fits[-1] / size:.4g} fit ({fits[0]} to "
                  f"{fits[-1]} records with the property)" if len(fits) else "no ratio fits")
        raise DataError(
            f"{table.name}: {there[group, label]} records of the pool are "
            f"{_shown(table, group, label if mode != 'free' else None)}, but "
            f"{wanted[group, label]} are wanted for ratio {ratio:g} at size {size}, mode {mode}; "
            f"the largest size at this ratio is {_largest(have, ratio, mode)}; at this size "
            f"{ratios}")
    if mode != "free":
        _both_classes(table, wanted.sum(0), ratio, size)
    return wanted


def _both_classes(table: TableSet, found: np.ndarray, ratio: float, size: int) -> None:
    for label in (0, 1):
        named = table.label_name if label else f"not {table.label_name}"
        need(found[label] > 0, f"{table.name}: label class {label} ({named}) would be missing "
             f"from the draw at ratio {ratio:g} and size {size}; choose a larger size or another "
             "ratio")


def draw(table: TableSet, pool: np.ndarray, ratio: float, size: int,
         seed_stream: np.random.Generator, mode: str = "cells") -> np.ndarray:
    """Draw rows without replacement, ``round(ratio * size)`` of them with the property.

    Parameters
    ----------
    table : TableSet
    pool : ndarray of int, ``[m]``
        Row numbers to draw from, as `TableSet.pool` gives them.
    ratio : float
        Share with the property, 0 to 1.
    size : int
    seed_stream : numpy.random.Generator
        From `helpers.noise.generator`; one draw takes ``m`` raw words from it.
    mode : {"cells", "free", "balanced"}
        Label counts in each property group: exact at the group's share in the pool; left to chance;
        or exact at the whole pool's share, so that the class ratio does not follow `ratio`.

    Returns
    -------
    ndarray of int64, ``[size]``
        In random order.

    Raises
    ------
    DataError
        A ratio outside 0..1, an unknown mode, a cell with too few records (with the largest size
        at this ratio and the ratios that fit at this size), or a label class that would be missing.
    """
    pool = np.asarray(pool)
    wanted = _counts(table, pool, ratio, size, mode)
    group = table.attribute[pool]
    if mode != "free":
        group = 2 * group + table.label[pool]
    words = seed_stream.bit_generator.random_raw(len(pool))
    chosen = []
    for value, count in enumerate(wanted.ravel().tolist()):
        if count:
            members = np.flatnonzero(group == value)
            chosen.append(members[np.argpartition(words[members], count - 1)[:count]])
    chosen = np.concatenate(chosen)
    rows = pool[chosen[np.argsort(words[chosen], kind="stable")]].astype(np.int64)
    if mode == "free":
        _both_classes(table, np.bincount(table.label[rows], minlength=2), ratio, size)
    return rows


def overlap(indices: np.ndarray) -> float:
    """Mean share of records that two draws have in common, over all pairs of draws.

    Parameters
    ----------
    indices : ndarray of int, ``[M, n]``
        One draw a row, no record twice in it.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    DataError
        Fewer than two draws, or draws without records.
    """
    indices = np.asarray(indices)
    need(indices.ndim == 2 and indices.shape[0] >= 2 and indices.size > 0,
         f"overlap: need at least two draws [M, n], got {list(indices.shape)}")
    count, size = indices.shape
    times = np.unique(indices, return_counts=True)[1].astype(np.float64)
    return float((times * (times - 1)).sum() / (count * (count - 1) * size))


def expected_overlap(table: TableSet, pool: np.ndarray, ratio: float, size: int,
                     mode: str = "cells") -> float:
    """Share of records that two independent draws have in common on average: sum k^2/N over n."""
    wanted = _counts(table, pool, ratio, size, mode)
    there = np.maximum(_available(cells(table, pool), mode), 1)
    return float((wanted**2 / there).sum() / size)
