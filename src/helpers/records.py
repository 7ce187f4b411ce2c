"""Columns of records: decoded from the pinned wheels, kept as Parquet, or a user's own file.

Decoded columns are one-dimensional arrays by name: numbers or booleans for quantities, fixed-width
strings for categories (codes too). A hash of them survives another writer or compression.
Decoders take ``get``, as those in `helpers.decode`; no packaged code is imported.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.datasets import data_folder
from helpers.decode import Opener
from helpers.images import DataError, check_decoded
from helpers.project import replacing

NAMES = ("acs_ma", "adult")
PINNED = {
    "acs_ma": "223583d02d9b6365a5f23a5a09e636b2aa8503027f5849b9565bb0f91b87e783",
    "adult": "48ca20651b9d85c1c89cd3522737575ea831f1bf2afc09a463130fd56a05ca33",
}
ACS_PARTS = ("reference", "analysis", "analysis_target")
ACS_CODES = ("MAR", "RELP", "DIS", "ESP", "CIT", "MIG", "MIL", "ANC", "NATIVITY", "DEAR", "DEYE",
             "DREM", "SEX", "RAC1P")
ACS_AGES = (18, 64)
MOST_CATEGORIES = 50
ADULT_NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss",
                 "hours-per-week")
ADULT_WORDS = ("workclass", "education", "marital-status", "occupation", "relationship", "race",
               "sex", "native-country", "salary")


def acs_ma(get: Opener) -> dict[str, np.ndarray]:
    """ACS person records of Massachusetts, 2015 to 2018, ages 18 to 64, in the archive's order.

    The packager's two parts follow one another by `id`; a model's outputs and `id` are left out.

    Returns
    -------
    dict of str to ndarray, ``[n]``
        ``AGEP``, ``SCHL`` uint8; codes `ACS_CODES` as strings; ``employed`` bool; ``year`` int16.
    """
    reference, analysis, target = (
        pd.read_parquet(io.BytesIO(get(f"employment_MA_{part}.pq"))) for part in ACS_PARTS)
    analysis = analysis.merge(target, on="id", validate="one_to_one")
    frame = pd.concat([reference, analysis], ignore_index=True).sort_values("id", kind="stable")
    frame = frame[frame["AGEP"].between(*ACS_AGES)]
    numbers = {"AGEP": np.uint8, "SCHL": np.uint8}
    arrays = {name: frame[name].astype(int).to_numpy(kind) for name, kind in numbers.items()}
    arrays |= {name: _words(frame[name]) for name in ACS_CODES}
    return arrays | {"employed": frame["employed"].to_numpy(bool),
                     "year": frame["year"].to_numpy(np.int16)}


def adult(get: Opener) -> dict[str, np.ndarray]:
    """UCI Adult: the 45,222 complete rows in the archive's (shuffled) order.

    Returns
    -------
    dict of str to ndarray, ``[n]``
        `ADULT_NUMBERS` as int32; `ADULT_WORDS` as strings, their one-hot columns undone.

    Raises
    ------
    DataError
        A row without exactly one word of a column.
    """
    frame = pd.read_csv(io.BytesIO(get("adult.csv.zip")), compression="zip")
    arrays = {name: frame[name].to_numpy(np.int32) for name in ADULT_NUMBERS}
    for name in ADULT_WORDS:
        members = [column for column in frame if column.startswith(name + "_")]
        hot = frame[members].to_numpy()
        if (hot.sum(axis=1) != 1).any():
            raise DataError(f"adult: {np.count_nonzero(hot.sum(axis=1) != 1)} rows have not "
                            f"exactly one {name}")
        words = np.array([column.removeprefix(name + "_") for column in members])
        arrays[name] = words[hot.argmax(axis=1)]
    return arrays


DECODERS = {"acs_ma": acs_ma, "adult": adult}


def _words(values: pd.Series) -> np.ndarray:
    return np.array([str(value) for value in values.astype(object)], dtype=np.str_)


def columns(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Arrays ``[n]`` of a frame: numbers and booleans as they are, everything else as strings.

    A column of numbers with missing values becomes float64 with NaN.
    """
    arrays = {}
    for name, values in frame.items():
        if not pd.api.types.is_numeric_dtype(values.dtype):
            arrays[str(name)] = _words(values)
        elif values.isna().any():
            arrays[str(name)] = values.to_numpy(np.float64, na_value=np.nan)
        else:
            arrays[str(name)] = values.to_numpy(
                getattr(values.dtype, "numpy_dtype", values.dtype))
    return arrays


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write columns as zstd Parquet, strings as categoricals, through a rename."""
    frame = pd.DataFrame({name: pd.Categorical(values) if values.dtype.kind == "U" else values
                          for name, values in arrays.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        frame.to_parquet(part, engine="pyarrow", compression="zstd", compression_level=19,
                         index=False)


def read(name: str) -> dict[str, np.ndarray]:
    """Read a built-in table's compact file from the data folder, checked whole.

    Parameters
    ----------
    name : {"acs_ma", "adult"}

    Returns
    -------
    dict of str to ndarray, ``[n]``

    Raises
    ------
    DataError
        Missing, damaged, or other columns than the pinned ones; with the command that makes it.
    """
    path, remedy = data_folder() / f"{name}.parquet", f"python -m helpers data {name}"
    if not path.is_file():
        raise DataError(f"{path} is missing; make it with: {remedy}")
    try:
        arrays = columns(pd.read_parquet(path, engine="pyarrow"))
    except Exception as error:
        raise DataError(f"{path} is damaged ({error}); make it again with: {remedy}") from error
    check_decoded(path, arrays, PINNED[name])
    return arrays


def report(name: str) -> str:
    """One line on a built-in table's checked file, for ``python -m helpers data NAME --check``."""
    arrays = read(name)
    rows = len(next(iter(arrays.values())))
    return (f"{name}: {rows} records, {len(arrays)} columns, decoded columns as pinned: SHA-256 "
            f"{PINNED[name]}")


def read_own(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Read a user's own ``.csv`` or ``.parquet`` file.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    arrays : dict of str to ndarray, ``[n]``
        See `columns`. Codes that are categories must be words (``c1``; in Parquet also ``"1"``):
        a column of numbers counts as a quantity.
    missing : dict of str to int
        Missing or infinite values of the columns that have any.

    Raises
    ------
    DataError
        Another ending, no such file, or a file that cannot be read.
    """
    file = Path(path)
    if file.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path}: neither a built-in table ({', '.join(NAMES)}, fashion16) nor a "
                        f".csv or .parquet file (its ending is {file.suffix!r})")
    if not file.is_file():
        raise DataError(f"{path}: no such file")
    try:
        frame = (pd.read_csv(file, low_memory=False) if file.suffix == ".csv" else
                 pd.read_parquet(file, engine="pyarrow"))
    except Exception as error:
        raise DataError(f"{path}: cannot be read as {file.suffix} ({type(error).__name__}: "
                        f"{error}); the file is damaged") from error
    arrays, missing = columns(frame), {}
    for (name, values), absent in zip(arrays.items(), frame.isna().sum(), strict=True):
        count = np.count_nonzero(~np.isfinite(values)) if values.dtype.kind == "f" else absent
        if count:
            missing[name] = int(count)
    return arrays, missing


def need(holds: bool, otherwise: str) -> None:
    """Raise `DataError` with this message unless the condition holds."""
    if not holds:
        raise DataError(otherwise)


def present(name: object, wanted, there, what: str = "no column") -> None:
    """Raise `DataError` for the first wanted column that is not there; it lists those that are."""
    for column in wanted:
        need(column in there, f"{name}: {what} {column!r}; present: {', '.join(there)}")


def _whole(name: str, column: str, missing: Mapping[str, int]) -> None:
    need(column not in missing, f"{name}: column {column!r} holds {missing.get(column)} missing "
         "or infinite values; fill them, remove these rows, or drop the column")


def binary(name: str, arrays: Mapping[str, np.ndarray], told: str, what: str,
           known: Mapping[str, tuple] | None = None, missing: Mapping[str, int] | None = None,
           ) -> tuple[np.ndarray, str, str]:
    """Flag, shown name and source column of ``column`` or ``column=value``.

    Parameters
    ----------
    name : str
        The table, for messages.
    arrays : mapping of str to ndarray, ``[n]``
    told : str
        A known name, a column with two values (the larger one counts), or ``column=value``.
    what : {"label", "property"}
    known : mapping of str to tuple, optional
        Built-in names: (column, value, shown name).
    missing : mapping of str to int, optional
        Missing values by column.

    Returns
    -------
    flag : ndarray of uint8, ``[n]``
    shown : str
        One name for all spellings of the same thing.
    column : str

    Raises
    ------
    DataError
        Unknown or incomplete column, unknown value, a constant column, or not two values.
    """
    known = known or {}
    aliases = {spelt: names[:2] for key, names in known.items() for spelt in (key, names[2])}
    column, value = aliases.get(told) or (
        (told, None) if told in arrays else told.partition("=")[::2])
    also = f"; {what} names known here: {', '.join(known)}" if known else ""
    need(column in arrays, f"{name}: unknown {what} {told!r}: no column {column!r}{also}; columns, "
         f"for 'column=value': {', '.join(arrays)}")
    _whole(name, column, missing or {})
    values = arrays[column]
    found = np.unique(values)
    listed = ", ".join(map(str, found[:10])) + (", ..." if len(found) > 10 else "")
    need(len(found) > 1, f"{name}: {what} column {column!r} is constant ({listed}); choose one "
         "that varies")
    need(value is not None or len(found) == 2, f"{name}: {what} {column!r} is not binary: it has "
         f"{len(found)} values ({listed}); name one as '{column}=VALUE'")
    flag = values == _typed(found[1] if value is None else value, values.dtype)
    need(flag.any(), f"{name}: {what} {told!r}: column {column!r} has no value {value!r}; it has "
         f"{listed}")
    value = values[flag][0]
    shown = next((names[2] for names in known.values() if names[:2] == (column, str(value))), None)
    yes_no = values.dtype.kind != "U" and len(found) == 2 and value == found[1] == 1
    return flag.astype(np.uint8), shown or (column if yes_no else f"{column}={value}"), column


def _typed(value: object, kind: np.dtype) -> object:
    if kind.kind == "U":
        return str(value)
    try:
        return float({"True": 1, "False": 0}.get(str(value), value))
    except ValueError:
        return np.nan


def encode(name: str, arrays: Mapping[str, np.ndarray], missing: Mapping[str, int] | None = None,
           ) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Features: numbers standardised (population sd), categories one-hot, constants left out.

    Returns
    -------
    features : ndarray of float32, ``[n, d]``
    names, groups : tuple of str, ``d`` each
        Such as ``MAR=1`` and its source column ``MAR``; codes in numerical order.

    Raises
    ------
    DataError
        Missing values, more than 50 categories, or no column that varies.
    """
    parts, names, groups = [], [], []
    for column, values in arrays.items():
        _whole(name, column, missing or {})
        if values.dtype.kind != "U":
            numbers = values.astype(np.float64)
            if numbers.min() < numbers.max():
                parts.append(((numbers - numbers.mean()) / numbers.std())[:, None])
                names, groups = [*names, column], [*groups, column]
            continue
        words, place = np.unique(values, return_inverse=True)
        need(len(words) <= MOST_CATEGORIES, f"{name}: column {column!r} has {len(words)} "
             f"categories; at most {MOST_CATEGORIES} become features: merge some or drop it")
        if len(words) > 1:
            codes = all(word.isdecimal() for word in words.tolist())
            order = np.argsort(words.astype(int), kind="stable") if codes else np.arange(len(words))
            parts.append(place[:, None] == order[None])
            names += [f"{column}={word}" for word in words[order].tolist()]
            groups += [column] * len(words)
    need(bool(parts), f"{name}: no feature column that varies is left")
    return np.concatenate(parts, axis=1, dtype=np.float32), tuple(names), tuple(groups)
