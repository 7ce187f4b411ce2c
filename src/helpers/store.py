"""Content-addressed results: atomic, checksummed, resumable; damaged entries are moved aside.

An entry is a folder ``ab/abcdef.../`` named by its key, with ``record.json`` (plain facts),
``arrays.safetensors`` (numbers) and ``manifest.json`` (the sizes and SHA-256 of the other two).
It is written in a sibling temporary folder, flushed to disk and renamed, so a reader sees a whole
entry or none. A folder without a manifest is a miss. An entry that does not agree with its manifest
is moved to ``quarantine/`` with a warning and counts as a miss; nothing is ever deleted but
temporary folders of interrupted writers, after a day.

The key says everything that decides a result (:func:`make_key`); the store knows no experiment.
"""

from __future__ import annotations

import ast
import dataclasses
import errno
import hashlib
import importlib.util
import json
import math
import os
import re
import shutil
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import safetensors.numpy
from filelock import FileLock
from safetensors import SafetensorError

RECORD, ARRAYS, MANIFEST = "record.json", "arrays.safetensors", "manifest.json"
KEY = re.compile(r"[0-9a-f]{64}")
TEMPORARY = ".tmp-"
STALE_SECONDS = 24 * 3600
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
UNREADABLE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO)
_held = threading.local()  # locks this thread holds, so that `once` may call `get` and `put`


class StoreError(RuntimeError):
    """The store cannot be read or written; the message says where and what to do."""


class StoreWarning(UserWarning):
    """A damaged entry was found and is treated as missing."""


class _Damaged(Exception):
    """An entry disagrees with its manifest."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One stored result: its key, its record (JSON types) and its arrays by name."""

    key: str
    record: dict
    arrays: dict[str, np.ndarray]


def canonical(obj: object) -> str:
    """Return the canonical JSON of a cell or of plain values.

    Allowed are None, bool, int, finite float, str, list, tuple, dict with str keys, and dataclasses
    of these, whose type name is kept. Lists and tuples are one thing; 1, 1.0 and True are three.
    NumPy scalars are refused rather than converted, because ``float32(0.1)`` is not ``0.1``.

    Raises
    ------
    TypeError
        For any other type, naming the field.
    ValueError
        For a non-finite float, naming the field.
    """
    return _dump(_plain(obj, "value"))


def _dump(plain: object) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(obj: object, where: str) -> object:
    kind = type(obj)
    if obj is None or kind in (bool, int, str):
        return obj
    if kind is float:
        if not math.isfinite(obj):
            raise ValueError(f"{where} is {obj}, not finite, so has no key; use None for no limit")
        return obj
    if kind in (list, tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(obj)]
    if kind is dict:
        for name in obj:
            if type(name) is not str or name == "__type__":
                raise TypeError(f"{where} has the dict key {name!r}: use str other than '__type__'")
        return {name: _plain(item, f"{where}.{name}") for name, item in obj.items()}
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        names = [field.name for field in dataclasses.fields(obj)]
        values = {name: _plain(getattr(obj, name), f"{where}.{name}") for name in names}
        return {"__type__": kind.__name__, **values}
    fix = "call .item() on it" if isinstance(obj, np.generic) else "use plain values or a dataclass"
    raise TypeError(
        f"{where} is of type {kind.__module__}.{kind.__qualname__}, which has no key: {fix}"
    )


def make_key(stage: str, version: int, cell: object, **context: object) -> str:
    """Return the key of a result.

    Parameters
    ----------
    stage, version : str, int
        What computes it, and its explicit version: raise it when the meaning of a result changes.
    cell : dataclass or plain values
        Everything that decides the result.
    **context
        The rest: hash of the data, device class, dtype, batch size.

    Returns
    -------
    str
        SHA-256 (64 hexadecimal digits) of the canonical JSON; the same in every process.

    Raises
    ------
    TypeError, ValueError
        As `canonical`, naming the field.
    """
    if type(stage) is not str or type(version) is not int:
        raise TypeError(f"stage must be str and version int, got {stage!r} and {version!r}")
    plain = {"stage": stage, "version": version, "cell": _plain(cell, "cell")}
    plain["context"] = {name: _plain(item, name) for name, item in context.items()}
    return hashlib.sha256(_dump(plain).encode()).hexdigest()


def data_hash(arrays: np.ndarray | dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of arrays: names, dtypes, shapes, bytes (row-major, little-endian)."""
    named = {"": arrays} if isinstance(arrays, np.ndarray) else arrays
    digest = hashlib.sha256()
    for name in sorted(named):
        array = _portable(name, named[name])
        digest.update(_dump([name, array.dtype.str, list(array.shape)]).encode() + b"\n")
        digest.update(array.tobytes())
    return digest.hexdigest()


def _portable(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, order="C")
    if array.dtype.hasobject:
        raise TypeError(f"array {name!r} holds Python objects; give it a number dtype")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def fingerprint(modules: Iterable[str]) -> str:
    """Return the SHA-256 of the code of modules, which are found but not imported.

    Comments, layout, positions and docstrings do not count: the hash is over syntax trees, written
    out here (absent fields left out) so that it does not depend on the Python version's own format.

    Raises
    ------
    ValueError
        If a module does not exist or has no Python source.
    """
    digest = hashlib.sha256()
    for name in sorted(set(modules)):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not str(spec.origin).endswith(".py"):
            raise ValueError(f"no Python source found for module {name!r}; check its name")
        tree = ast.parse(Path(spec.origin).read_bytes())
        digest.update(f"{name}\n{_tree(tree)}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _tree(node: object) -> str:
    if isinstance(node, list):
        return "[" + ",".join(map(_tree, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    parts = [f"{k}={_tree(v)}" for k, v in sorted(fields.items()) if v is not None and v != []]
    return f"{type(node).__name__}({','.join(parts)})"


class Store:
    """Results by key, in up to two folders of the same layout.

    Parameters
    ----------
    root : path
        The working store (weights and everything else); made when first written.
    results : path, optional
        Published measurements: read first, written only with `publish`.
    publish : bool
        Whether measurements go to `results`. One that an earlier run left in `root` is copied
        there when it is read.
    """

    def __init__(self, root: Path, results: Path | None = None, publish: bool = False):
        self.root = Path(root).absolute()
        self.results = None if results is None else Path(results).absolute()
        self.publish = publish and results is not None

    def keys(self) -> list[str]:
        """Return the sorted keys of all entries (not verified)."""
        return sorted({
            path.parent.name
            for base in self._bases()
            for path in base.glob(f"[0-9a-f][0-9a-f]/*/{MANIFEST}")
            if KEY.fullmatch(path.parent.name)
        })

    def entries(self) -> Iterator[Entry]:
        """Yield every sound entry in the order of the keys, one at a time."""
        for key in self.keys():
            entry = self.get(key)
            if entry is not None:
                yield entry

    def get(self, key: str) -> Entry | None:
        """Return a verified entry, or None; a damaged one is moved aside with a `StoreWarning`.

        Published results stay where they are unless this store publishes.

        Raises
        ------
        StoreError
            If files are there but may not be read.
        """
        _check(key)
        for base in self._bases():
            try:
                found = _load(base, key)
            except _Damaged as damage:
                found = self._quarantine(base, key, str(damage))
            if found is not None:
                entry, measurement = found
                if self.publish and measurement and base == self.root:
                    self._put(key, entry.record, entry.arrays, True)
                return entry
        return None

    def put(self, key: str, record: dict, arrays: dict[str, np.ndarray],
            measurement: bool = False) -> Entry:
        """Write an entry and return it as `get` would.

        Parameters
        ----------
        key : str
            From `make_key`. A different entry under the same key is moved to ``quarantine/``.
        record : dict
            JSON types and NumPy scalars (which become Python numbers).
        arrays : dict of str to ndarray
            Any shape; bool, integer or floating dtype.
        measurement : bool
            Whether it belongs in `results` (when this store publishes) rather than in `root`.

        Raises
        ------
        StoreError
            If the folder is read-only or the disk is full; no part of the entry is then visible.
        """
        _check(key)
        return self._put(key, record, arrays, measurement)

    def once(self, key: str, compute: Callable[[], tuple[dict, dict]],
             measurement: bool = False) -> Entry:
        """Return the entry, computed as ``record, arrays = compute()`` if there is none.

        Processes that ask for one key at the same time wait for the first, which computes.
        """
        entry = self.get(key)
        if entry is not None:
            return entry
        with self._locked(key):
            entry = self.get(key)
            return self.put(key, *compute(), measurement) if entry is None else entry

    def _bases(self) -> list[Path]:
        return [base for base in (self.results, self.root) if base is not None]

    @contextmanager
    def _locked(self, key: str):
        path = self.root / "locks" / f"{key}.lock"
        held = _held.__dict__.setdefault("paths", set())
        if path in held:
            yield
            return
        with _explained(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            lock.acquire()
        held.add(path)
        try:
            yield
        finally:
            held.discard(path)
            lock.release()

    def _put(self, key, record, arrays, measurement) -> Entry:
        base = self.results if measurement and self.publish else self.root
        named = {name: _portable(name, array) for name, array in arrays.items()}
        files = {RECORD: (json.dumps(record, indent=1, default=_number) + "\n").encode()}
        try:
            files[ARRAYS] = safetensors.numpy.save(named)
            entry = _entry(key, files)  # before writing: what cannot be read back is not written
        except SafetensorError as error:
            kinds = ", ".join(f"{name} {array.dtype}" for name, array in named.items())
            raise TypeError(f"arrays ({kinds}) cannot be stored: {error}") from error
        files[MANIFEST] = _manifest(key, measurement, files)
        with self._locked(key), _explained(base):
            _write(base, key, files)
        return entry

    def _quarantine(self, base: Path, key: str, reason: str) -> tuple[Entry, bool] | None:
        try:
            with self._locked(key):
                try:
                    return _load(base, key)  # another process may have replaced it meanwhile
                except _Damaged:
                    if base == self.results and not self.publish:
                        done = "left in place: only a publishing run changes published results"
                    else:
                        done = f"moved to {_aside(base, key)}"
        except (OSError, StoreError) as error:
            done = f"left in place, as it could not be moved: {error}"
        warnings.warn(
            f"damaged store entry {key[:12]} in {base} ({reason}), {done}; counted as missing",
            StoreWarning, stacklevel=4,
        )
        return None


def _check(key: str) -> None:
    if not KEY.fullmatch(key):
        raise ValueError(f"store key {key!r} is not 64 hexadecimal digits; use make_key")


def _number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a record: keep plain values there, arrays apart")


def _folder(base: Path, key: str) -> Path:
    return base / key[:2] / key


def _entry(key: str, files: dict[str, bytes]) -> Entry:
    return Entry(key, json.loads(files[RECORD]), safetensors.numpy.load(files[ARRAYS]))


def _manifest(key: str, measurement: bool, files: dict[str, bytes]) -> bytes:
    sums = {
        name: {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
        for name in (RECORD, ARRAYS)
    }
    plain = {"format": 1, "key": key, "measurement": bool(measurement), "files": sums}
    return (json.dumps(plain, indent=1) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in UNREADABLE:
            raise _Damaged(f"{path.name}: {error.strerror}") from error
        raise StoreError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def _load(base: Path, key: str) -> tuple[Entry, bool] | None:
    folder = _folder(base, key)
    try:
        manifest = _read(folder / MANIFEST)
    except _Damaged as damage:
        if isinstance(damage.__cause__, FileNotFoundError):
            return None
        raise
    files = {name: _read(folder / name) for name in (RECORD, ARRAYS)}
    # Sound means: the manifest is, byte for byte, the one that these files would get.
    measurement = b'"measurement": true' in manifest
    if manifest != _manifest(key, measurement, files):
        raise _Damaged("sizes or checksums differ from the manifest")
    return _entry(key, files), measurement


def _write(base: Path, key: str, files: dict[str, bytes]) -> None:
    folder = _folder(base, key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):  # another process cleans up too
            if time.time() - stale.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(stale, ignore_errors=True)
    temporary = folder.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        temporary.mkdir()
        for name, content in files.items():
            with open(temporary / name, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(temporary)
        if os.path.lexists(folder):
            _aside(base, key)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(folder.parent)


def _aside(base: Path, key: str) -> Path:
    target = base / "quarantine" / f"{key}-{uuid.uuid4().hex[:8]}"
    target.parent.mkdir(exist_ok=True)
    os.rename(_folder(base, key), target)
    return target


def _sync(folder: Path) -> None:
    if os.name != "posix":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(base: Path):
    try:
        yield
    except OSError as error:
        other = "or choose another folder (SAME_NOISE_STORE)"
        if error.errno in FULL:
            text = f"no room left to write in {base}: free some space there {other}"
        elif error.errno in READ_ONLY:
            text = f"{base} is read-only: make it writable {other}"
        else:
            text = f"cannot write in {base} ({error.strerror or error}): repair it {other}"
        raise StoreError(text) from error
