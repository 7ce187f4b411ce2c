"""The store: keys, whole entries or none, and every kind of damage that a disk can do."""

import copy
import dataclasses
import enum
import errno
import hashlib
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import helpers
from helpers import store as module
from helpers.store import (
    Store,
    StoreError,
    StoreWarning,
    canonical,
    data_hash,
    fingerprint,
    make_key,
)

SRC = str(Path(helpers.__file__).parents[1])
FILES = ("record.json", "arrays.safetensors", "manifest.json")
KEY = make_key("test", 1, "a small entry")
RECORD = {"n": 3}
ARRAYS = {"x": np.arange(3, dtype=np.uint8)}
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def python(code, *arguments, seed="0", **options):
    """Start another Python on `code`."""
    environment = {**os.environ, "PYTHONPATH": SRC, "PYTHONHASHSEED": seed,
                   "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )


def output(code, *arguments, **options):
    process = python(code, *arguments, **options)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def folder(base, key=KEY):
    return base / key[:2] / key


def same(entry, record=RECORD, arrays=ARRAYS):
    assert entry.record == record
    assert entry.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert entry.arrays[name].dtype == array.dtype
        assert entry.arrays[name].shape == array.shape
        np.testing.assert_array_equal(entry.arrays[name], array)
    return True


def temporaries(base):
    return list(base.glob("*/.tmp-*"))


# --- keys -----------------------------------------------------------------------------------------

CELLS = """
import dataclasses
from helpers.store import canonical, make_key

@dataclasses.dataclass(frozen=True)
class Bank:
    count: int = 1024
    seed: int = 0

@dataclasses.dataclass(frozen=True)
class Cell:
    dataset: str = "fashion16"
    n: int = 64
    half: int | None = None
    rate: float = 2e-3
    averaged: bool = True
    snapshots: tuple = (1, 2)
    bank: Bank = Bank()
    options: dict = dataclasses.field(default_factory=lambda: {"b": 1, "a": [0.5], "é": None})

KEY = make_key("weights", 3, Cell(), data="00ff", device="cpu", zeta=1, alpha=2)
"""
space: dict = {"__name__": "cells"}
exec(CELLS, space)
Cell, Bank = space["Cell"], space["Bank"]


def changed(value):
    if value is None:
        return 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, dict):
        return {**value, "new": 1}
    return (*value, 1)


def variants(cell):
    """Yield (field path, copy of the cell with that field changed), through nested dataclasses."""
    for field in dataclasses.fields(cell):
        value = getattr(cell, field.name)
        if dataclasses.is_dataclass(value):
            values = variants(value)
        else:
            values = [("", changed(value))]
        for path, new in values:
            other = copy.copy(cell)
            object.__setattr__(other, field.name, new)
            yield f"{field.name}.{path}".strip("."), other


def assert_every_field_counts(cell):
    names, cells = zip(*variants(cell), strict=True)
    keys = [make_key("s", 1, c) for c in (cell, *cells)]
    assert len(set(keys)) == len(keys), dict(zip(("cell", *names), keys, strict=True))
    return names


def test_the_key_changes_with_every_field():
    assert "bank.seed" in assert_every_field_counts(Cell())


def test_the_key_changes_with_every_field_of_the_real_cells():
    from helpers.diffusion import Cell as Real
    from helpers.maps import Closed, Trial

    assert "model.snapshots" in assert_every_field_counts(Trial(Real()))
    assert_every_field_counts(Trial(Closed("empirical")))


def test_the_key_changes_with_stage_version_and_context():
    keys = {
        make_key("s", 1, 0), make_key("t", 1, 0), make_key("s", 2, 0),
        make_key("s", 1, 0, data="a"), make_key("s", 1, 0, data="b"),
        make_key("s", 1, 0, other="a"),
    }
    assert len(keys) == 6


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_key_is_the_same_in_another_process(seed):
    assert output(CELLS + "print(KEY)", seed=seed) == space["KEY"]


def test_the_key_does_not_drift():
    # If this changes, every published result is orphaned.
    text = canonical({"b": (1, 1.0, True, None), "a": "é"})
    assert text == '{"a":"\\u00e9","b":[1,1.0,true,null]}'
    text = (
        '{"cell":{"__type__":"Bank","count":1024,"seed":0},"context":{"device":"cpu"},'
        '"stage":"map","version":1}'
    )
    assert make_key("map", 1, Bank(), device="cpu") == hashlib.sha256(text.encode()).hexdigest()


def test_the_type_of_a_cell_and_of_a_number_count():
    @dataclasses.dataclass
    class Other:
        count: int = 1024
        seed: int = 0

    assert make_key("s", 1, Other()) != make_key("s", 1, Bank())
    assert make_key("s", 1, {"count": 1024, "seed": 0}) != make_key("s", 1, Bank())
    assert len({make_key("s", 1, value) for value in (1, 1.0, True, "1", None, [1])}) == 6
    assert make_key("s", 1, [1, 2]) == make_key("s", 1, (1, 2))
    assert make_key("s", 1, {"a": 1, "b": 2}) == make_key("s", 1, {"b": 2, "a": 1})


class Color(enum.IntEnum):
    RED = 1


class Real(float):
    pass


@pytest.mark.parametrize("value", [
    np.float64(1), np.float32(1), np.int64(1), np.bool_(True), np.str_("a"), np.arange(2), {1, 2},
    frozenset(), b"a", 1j, Path("a"), object(), Color.RED, Real(1), len, Bank, range(3),
], ids=lambda v: type(v).__name__)
def test_unknown_types_are_refused_by_name_of_the_field(value):
    inside = copy.copy(Cell())
    object.__setattr__(inside, "options", {"deep": [0, value]})
    with pytest.raises(TypeError, match=r"cell\.options\.deep\[1\] is of type"):
        make_key("s", 1, inside)
    with pytest.raises(TypeError, match="data is of type"):
        make_key("s", 1, Cell(), data=value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match=r"cell\.rate is .*not finite"):
        make_key("s", 1, dataclasses.replace(Cell(), rate=value))


@pytest.mark.parametrize("value", [{1: 2}, {"__type__": "Bank"}, {None: 1}])
def test_dict_keys_that_could_be_confused_are_refused(value):
    with pytest.raises(TypeError, match="cell has the dict key"):
        make_key("s", 1, value)


def test_stage_and_version_are_checked():
    for stage, version in ((1, 1), ("s", "1"), ("s", True), ("s", 1.0)):
        with pytest.raises(TypeError, match="stage must be str and version int"):
            make_key(stage, version, 0)


def test_data_hash():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    base = data_hash({"x": x, "y": x[0]})
    assert base == data_hash({"y": x[0].copy(), "x": np.asfortranarray(x)})
    assert base == data_hash({"x": x.astype(">f4"), "y": x[0]})
    others = [
        {"x": x.astype(float), "y": x[0]}, {"x": x.reshape(3, 2), "y": x[0]}, {"z": x, "y": x[0]},
        {"x": x + 1, "y": x[0]}, {"x": x}, {"x": x.view(np.int32), "y": x[0]},
    ]
    assert len({base, *map(data_hash, others)}) == 7
    assert data_hash(x) == data_hash(x.copy()) != data_hash(x.T)
    assert data_hash(np.ones((), np.float32)) != data_hash(np.ones(1, np.float32))
    with pytest.raises(TypeError, match="'x' holds Python objects"):
        data_hash({"x": np.array([{}])})


# --- fingerprints ---------------------------------------------------------------------------------

SOURCE = '''"""Module."""
raise RuntimeError("imported")
def f(a, *, b=None):
    """Doc."""
    return a + 1.5, f"{b!r:>4}"
class C:
    "Doc."
    x: int = 1
'''
SAME = [
    SOURCE.replace("Module.", "Another."), SOURCE.replace('"""Doc."""', "'Other.'"),
    SOURCE.replace('    """Doc."""\n', ""), SOURCE.replace('"Doc."\n', '"Documentation."\n'),
    SOURCE.replace("a + 1.5", "(a  +  # why\n  1.50)"), "# licence\n\n\n" + SOURCE,
    SOURCE.replace("\n", "\r\n"),
]
DIFFERENT = [
    SOURCE + "y = 1\n",
    *(SOURCE.replace(old, new) for old, new in [
        ("+ 1.5", "- 1.5"), ("1.5", "1.25"), ("b=None", "b=0"), ("a, *, b", "a, b"),
        (":>4", ":>5"), ("class C", "class D"), ("imported", "loaded"), ("return ", ""),
        ("x: int", "x: str"), ("int = 1", "int = True"), ("int = 1", "int"),
        ("int = 1", "int = ..."),
    ]),
]


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def write(text, name="fingerprinted_module"):
        (tmp_path / f"{name}.py").write_bytes(text.encode())
        return fingerprint([name])

    return write


def test_fingerprint_ignores_what_does_not_run(written):
    base = written(SOURCE)
    for text in SAME:
        assert written(text) == base, text
    assert "fingerprinted_module" not in sys.modules


def test_fingerprint_sees_code(written):
    prints = [written(text) for text in (SOURCE, *DIFFERENT)]
    assert len(set(prints)) == len(prints)


def test_fingerprint_of_several_modules(written):
    written(SOURCE, "first_module")
    written(SOURCE, "second_module")
    both = fingerprint(["first_module", "second_module"])
    assert both == fingerprint(("second_module", "first_module", "first_module"))
    assert both != fingerprint(["first_module"]) != fingerprint(["second_module"])


@pytest.mark.parametrize("name", ["no_such_module", "helpers.no_such_module", "sys", "__main__x.y"])
def test_fingerprint_of_no_source(name):
    with pytest.raises(ValueError, match="no Python source found"):
        fingerprint([name])


def test_fingerprint_imports_nothing_heavy():
    code = "import sys; from helpers.store import fingerprint\n" \
        "print(fingerprint(['helpers.store', 'helpers.diffusion']), 'torch' in sys.modules)"
    assert output(code) == f"{fingerprint(['helpers.diffusion', 'helpers.store'])} False"


# --- entries --------------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    arrays = {
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "h": np.ones((2, 0), np.float16),
        "scalar": np.array(3, np.int64), "b": np.array([True, False]),
        "big": np.arange(3).astype(">i4"), "strided": np.arange(10, dtype=np.uint8)[::3],
    }
    record = {"name": "é", "t": (1, 2), "np": np.float64(0.5), "i": np.int64(7), "none": None,
              "nested": {"x": [1.5, True]}, "nan": float("inf")}
    store = Store(tmp_path / "new" / "store")
    assert store.get(KEY) is None and store.keys() == [] and not (tmp_path / "new").exists()
    kept = {**arrays, "big": np.arange(3, dtype=np.int32)}
    plain = {**record, "t": [1, 2], "np": 0.5, "i": 7}
    first, second = store.put(KEY, record, arrays), store.get(KEY)
    for entry in (first, second, Store(store.root).get(KEY)):
        assert entry.key == KEY
        assert same(entry, plain, kept)
        entry.arrays["f"][:] = 0  # a copy of the reader's own
    assert type(second.record["i"]) is int and type(second.record["np"]) is float
    assert sorted(path.name for path in folder(store.root).iterdir()) == sorted(FILES)
    assert store.keys() == [KEY] and [entry.key for entry in store.entries()] == [KEY]


def test_an_entry_may_be_empty_and_a_store_travels(tmp_path):
    store = pickle.loads(pickle.dumps(Store(tmp_path)))
    store.put(KEY, {}, {})
    assert same(store.get(KEY), {}, {})


@pytest.mark.parametrize("key", ["", "abc", "../" + "a" * 61, "A" * 64, "a" * 64 + "\n", "a" * 65])
def test_keys_that_are_not_keys(tmp_path, key):
    store = Store(tmp_path)
    for call in (lambda: store.get(key), lambda: store.put(key, {}, {}),
                 lambda: store.once(key, lambda: ({}, {}))):
        with pytest.raises(ValueError, match="not 64 hexadecimal digits"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("record", "arrays", "match"), [
    ({"x": np.arange(3)}, {}, "ndarray in a record"), ({"x": {1}}, {}, "set in a record"),
    ({}, {"x": np.array([None])}, "'x' holds Python objects"),
    ({}, {"x": np.zeros(2, np.longdouble)}, "cannot be stored"),
    ({}, {"x": np.array(["text"])}, "cannot be stored"),
    ({}, {"__metadata__": np.zeros(2)}, "cannot be stored"),
])
def test_what_cannot_be_stored_is_refused_before_writing(tmp_path, record, arrays, match):
    with pytest.raises(TypeError, match=match):
        Store(tmp_path).put(KEY, record, arrays)
    assert not list(tmp_path.iterdir())


def test_once(tmp_path):
    store, calls = Store(tmp_path), []

    def compute():
        calls.append(1)
        return RECORD, ARRAYS

    for _ in range(3):
        assert same(store.once(KEY, compute))
    assert len(calls) == 1


def test_once_after_a_failure_and_within_another(tmp_path):
    store = Store(tmp_path)
    other = make_key("test", 1, "other")
    for error in (ValueError("no"), OSError(errno.ENOSPC, "not the store's"), KeyboardInterrupt()):
        def fail(error=error):
            raise error

        with pytest.raises(type(error)) as caught:
            store.once(KEY, fail)
        assert caught.value is error  # an error of `compute` stays what it is
    assert same(store.once(KEY, lambda: (store.once(other, lambda: (RECORD, {})).record, ARRAYS)))
    assert store.keys() == sorted([KEY, other])


def test_two_roots(tmp_path):
    root, results = tmp_path / "store", tmp_path / "results"
    plain, publisher = Store(root, results), Store(root, results, publish=True)
    weights, published = make_key("t", 1, "weights"), make_key("t", 1, "published")
    plain.put(KEY, RECORD, ARRAYS, measurement=True)
    publisher.put(weights, RECORD, ARRAYS)
    assert folder(root).is_dir() and folder(root, weights).is_dir() and not results.exists()
    publisher.put(published, RECORD, ARRAYS, measurement=True)
    assert folder(results, published).is_dir() and not folder(root, published).exists()
    for store in (plain, publisher):
        assert store.keys() == sorted([KEY, weights, published])
        assert all(same(entry) for entry in store.entries())
    # What an earlier run measured is published when a publishing run reads it; weights are not.
    assert folder(results).is_dir() and not folder(results, weights).exists()
    assert not Store(root, None, publish=True).publish
    assert {path.name for path in results.iterdir()} <= {published[:2], KEY[:2]}  # no locks


def test_results_are_read_first(tmp_path):
    root, results = tmp_path / "store", tmp_path / "results"
    Store(root).put(KEY, {"from": "root"}, {})
    Store(results).put(KEY, {"from": "results"}, {})
    store = Store(root, results)
    assert store.get(KEY).record == {"from": "results"} and store.keys() == [KEY]
    (folder(results) / "record.json").write_bytes(b"{}")
    with pytest.warns(StoreWarning, match="left in place"):
        assert store.get(KEY).record == {"from": "root"}
    assert sorted(p.name for p in results.iterdir()) == [KEY[:2], "locks"]
    with pytest.warns(StoreWarning, match="moved to"):
        assert Store(root, results, publish=True).get(KEY).record == {"from": "root"}
    assert not folder(results).exists() and len(list((results / "quarantine").iterdir())) == 1


def test_another_entry_under_the_key_is_kept_aside(tmp_path):
    store = Store(tmp_path)
    store.put(KEY, RECORD, ARRAYS)
    store.put(KEY, {"n": 4}, {})
    assert same(store.get(KEY), {"n": 4}, {})
    (old,) = (tmp_path / "quarantine").iterdir()
    assert (old / "record.json").read_text() == '{\n "n": 3\n}\n'


# --- damage ---------------------------------------------------------------------------------------


@pytest.fixture
def intact(tmp_path):
    """Return a store of one small entry, and the bytes of its files."""
    store = Store(tmp_path)
    store.put(KEY, RECORD, ARRAYS)
    return store, {name: (folder(tmp_path) / name).read_bytes() for name in FILES}


def restore(store, contents):
    """Put an entry of exactly these files in place of any there is, and empty the quarantine."""
    for aside in (store.root / "quarantine").glob("*"):
        os.rename(aside, folder(store.root))
    for name in FILES:
        path = folder(store.root) / name
        if name not in contents:
            path.unlink()
        elif not path.exists() or path.read_bytes() != contents[name]:
            path.write_bytes(contents[name])


def assert_quarantined(store, damaged):
    """Reading gives a miss and a warning, and moves every byte of the entry aside."""
    with pytest.warns(StoreWarning, match="damaged store entry .* moved to .* counted as missing"):
        assert store.get(KEY) is None
    (aside,) = (store.root / "quarantine").iterdir()
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == damaged
    assert not folder(store.root).exists() and store.keys() == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get(KEY) is None


@pytest.mark.parametrize("name", FILES)
def test_truncation_at_every_byte(intact, name):
    store, contents = intact
    for length in range(len(contents[name])):
        damaged = {**contents, name: contents[name][:length]}
        restore(store, damaged)
        assert_quarantined(store, damaged)
    store.put(KEY, RECORD, ARRAYS)
    assert same(store.get(KEY))


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit(intact, name, monkeypatch):
    store, contents = intact
    for position, bit in itertools.product(range(len(contents[name])), range(8)):
        flipped = bytearray(contents[name])
        flipped[position] ^= 1 << bit
        if bit == position % 8:  # one bit of every byte on the disk
            damaged = {**contents, name: bytes(flipped)}
            restore(store, damaged)
            assert_quarantined(store, damaged)
        else:  # the others by the same reader, without the disk
            files = {**contents, name: bytes(flipped)}
            with monkeypatch.context() as patch:
                patch.setattr(module, "_read", lambda path, files=files: files[path.name])
                with pytest.raises(module._Damaged):
                    module._load(store.root, KEY)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("tail", [b"\n", b"\0" * 9, b"{}"])
def test_bytes_too_many(intact, name, tail):
    store, contents = intact
    damaged = {**contents, name: contents[name] + tail}
    restore(store, damaged)
    assert_quarantined(store, damaged)


@pytest.mark.parametrize("name", FILES[:2])
def test_a_missing_file_is_damage(intact, name):
    store, contents = intact
    del contents[name]
    restore(store, contents)
    assert_quarantined(store, contents)


def test_a_missing_manifest_is_a_miss(intact):
    store, contents = intact
    del contents["manifest.json"]
    restore(store, contents)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get(KEY) is None and store.keys() == []
        assert same(store.once(KEY, lambda: (RECORD, ARRAYS)))
        assert same(store.get(KEY))


def test_an_entry_under_the_wrong_key_is_damage(intact):
    store, _ = intact
    other = make_key("test", 1, "other")
    folder(store.root, other).parent.mkdir(exist_ok=True)
    os.rename(folder(store.root), folder(store.root, other))
    with pytest.warns(StoreWarning):
        assert store.get(other) is None


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_for_a_folder_and_the_reverse(intact, kind):
    store, _ = intact
    if kind == "file":
        shutil.rmtree(folder(store.root))
        folder(store.root).write_text("not a folder")
    else:
        (folder(store.root) / "record.json").unlink()
        (folder(store.root) / "record.json").mkdir()
    with pytest.warns(StoreWarning):
        assert store.get(KEY) is None
    assert same(store.once(KEY, lambda: (RECORD, ARRAYS)))


def test_once_replaces_a_damaged_entry(intact):
    store, contents = intact
    restore(store, {**contents, "record.json": b"{}"})
    with pytest.warns(StoreWarning):
        assert same(store.once(KEY, lambda: (RECORD, ARRAYS)))
    assert len(list((store.root / "quarantine").iterdir())) == 1


def test_a_reader_that_saw_damage_takes_what_another_process_put_there(intact, monkeypatch):
    store, contents = intact
    real, calls = module._load, []

    def load(base, key):
        calls.append(key)
        if len(calls) == 1:
            raise module._Damaged("seen before the other process replaced it")
        return real(base, key)

    monkeypatch.setattr(module, "_load", load)
    assert same(store.get(KEY)) and not (store.root / "quarantine").exists()


# --- interrupted writers --------------------------------------------------------------------------

KILLED = """
import os, sys, time, numpy as np
from helpers.store import Store, make_key
real, call, count, stop = os.fsync, os.rename, 0, sys.argv[2]
def block():
    print("blocked", flush=True)
    time.sleep(600)
def fsync(descriptor):
    global count
    count += 1
    if stop == str(count):
        block()
    real(descriptor)
def rename(a, b):
    if stop == "before":
        block()
    call(a, b)
    if stop == "after":
        block()
os.fsync, os.rename = fsync, rename
compute = lambda: ({"n": 3}, {"x": np.arange(3, dtype=np.uint8)})
Store(sys.argv[1]).once(make_key("test", 1, "a small entry"), compute)
"""


@linux
@pytest.mark.parametrize("stop", ["1", "2", "3", "4", "before", "after", "5"])
def test_kill_in_the_middle_of_a_write(tmp_path, stop):
    process = python(KILLED, tmp_path, stop)
    assert process.stdout.readline() == "blocked\n", process.stderr.read()
    store = Store(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = store.get(KEY)  # a reader beside the writer
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        entry = store.get(KEY)
    whole = stop in ("after", "5")
    assert (entry is not None) == (before is not None) == whole
    assert store.keys() == ([KEY] if whole else [])
    assert len(temporaries(tmp_path)) == (not whole)
    assert entry is None or same(entry)
    assert same(store.put(KEY, RECORD, ARRAYS)) and same(store.get(KEY))  # its lock is free
    assert (tmp_path / "quarantine").exists() == whole


def test_only_stale_temporary_folders_are_cleaned(tmp_path):
    store = Store(tmp_path)
    parent = folder(tmp_path).parent
    for name, hours in (("old", 25), ("new", 23)):
        (parent / f".tmp-{name}").mkdir(parents=True)
        (parent / f".tmp-{name}" / "record.json").write_text("{}")
        os.utime(parent / f".tmp-{name}", (time.time() - hours * 3600,) * 2)
    store.put(KEY, RECORD, ARRAYS)
    assert [path.name for path in temporaries(tmp_path)] == [".tmp-new"] and store.keys() == [KEY]


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_an_error_at_any_step_leaves_nothing_half_written(tmp_path, monkeypatch, call, number):
    real = getattr(os, call)
    for step in range(4 if call == "fsync" else 1):
        count = itertools.count()

        def broken(*arguments, count=count, step=step):
            if next(count) == step:
                raise OSError(number, os.strerror(number))
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, broken)
            with pytest.raises(StoreError, match="no room|read-only|cannot write") as caught:
                Store(tmp_path).put(KEY, RECORD, ARRAYS)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
        assert "another folder" in str(caught.value)
        assert Store(tmp_path).get(KEY) is None and not temporaries(tmp_path)
    assert same(Store(tmp_path).put(KEY, RECORD, ARRAYS))


def test_an_interrupt_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).put(KEY, RECORD, ARRAYS)
    assert not temporaries(tmp_path) and Store(tmp_path).get(KEY) is None


# --- several processes ----------------------------------------------------------------------------

TOGETHER = """
import os, sys, time, numpy as np
from helpers.store import Store, make_key
def compute():
    with open(sys.argv[2], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(1)
    return {"by": os.getpid()}, {"x": np.arange(3, dtype=np.uint8)}
print("ready", flush=True)
sys.stdin.readline()
print(Store(sys.argv[1]).once(make_key("test", 1, "a small entry"), compute).record["by"])
"""


def test_processes_at_once_compute_once(tmp_path):
    log = tmp_path / "log"
    processes = [python(TOGETHER, tmp_path / "s", log, stdin=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]
    (computed,) = log.read_text().split()
    assert [out.strip() for out, _ in answers] == [computed] * 3, answers


def test_threads_at_once_compute_once(tmp_path):
    calls, store = [], Store(tmp_path)

    def compute():
        calls.append(1)
        time.sleep(0.2)
        return RECORD, ARRAYS

    threads = [threading.Thread(target=store.once, args=(KEY, compute)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(calls) == 1 and same(store.get(KEY))


# --- read-only folders and full disks -------------------------------------------------------------

# Permissions do not bind root, so it becomes another user once everything is imported.
UNPRIVILEGED = """
import os, filelock, helpers.store
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""
READ_ONLY = """
import sys, warnings
from pathlib import Path
from helpers.store import Store, StoreError, StoreWarning, make_key
root, free = Path(sys.argv[1]), Path(sys.argv[2])
key, bad, new = (make_key("test", 1, name) for name in ("a small entry", "damaged", "new"))
store = Store(root)
assert store.get(key).record == {"n": 3} and store.keys() == sorted([key, bad])
assert store.once(key, None).record == {"n": 3}
for call in (store.put, lambda *a: store.once(a[0], lambda: 1 / 0)):
    try:
        call(new, {}, {})
        raise SystemExit("written")
    except StoreError as error:
        text = str(error)
        assert text.startswith(str(root)) and "is read-only: make it writable or" in text, text
        assert "\\n" not in text
for store in (Store(root), Store(free, root)):
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert store.get(bad) is None
        assert [w.category for w in caught] == [StoreWarning]
        assert "left in place" in str(caught[0].message), str(caught[0].message)
    assert sorted(p.name for p in (root / bad[:2] / bad).iterdir()) == [
        "arrays.safetensors", "manifest.json", "record.json"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # results read-only and damaged: computed into the free root
    assert store.once(bad, lambda: ({"n": 5}, {})).record == {"n": 5} == store.get(bad).record
print("done")
"""


@pytest.fixture
def two_entries():
    """Yield a folder any user may reach, holding a sound and a damaged entry, and a free folder."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        top = Path(name)
        top.chmod(0o755)
        root, free = top / "store", top / "free"
        free.mkdir()
        free.chmod(0o777)
        bad = make_key("test", 1, "damaged")
        for key in (KEY, bad):
            Store(root).put(key, RECORD, ARRAYS)
        (folder(root, bad) / "record.json").write_bytes(b"{}")
        shutil.rmtree(root / "locks")
        yield root, free


def mount(*arguments):
    """Mount for a test, or skip it where this process may not."""
    if sys.platform != "linux" or os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root on Linux may mount a file system for this test")
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


def unmount(path):
    subprocess.run(["umount", str(path)], check=True)


def test_a_read_only_file_system(two_entries):
    root, free = two_entries
    mount("--bind", root, root)
    try:
        mount("-o", "remount,bind,ro", root)
        assert output(READ_ONLY, root, free) == "done"
    finally:
        unmount(root)


@linux
def test_a_read_only_folder_of_another_user(two_entries):
    root, free = two_entries
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert output(UNPRIVILEGED + READ_ONLY, root, free) == "done"
    finally:
        for path in (root, *root.rglob("*")):
            path.chmod(0o755)


@linux
def test_a_folder_that_may_not_be_read(two_entries):
    root, _ = two_entries
    code = "import sys; from helpers.store import *\nStore(sys.argv[1]).get(sys.argv[2])"
    (folder(root) / "arrays.safetensors").chmod(0)
    process = python(UNPRIVILEGED + code, root, KEY)
    text = process.communicate(timeout=60)[1]
    assert "StoreError: cannot read" in text and "check its permissions" in text, text
    assert folder(root).is_dir()  # what cannot be judged is not moved


FULL = """
import sys, numpy as np
from pathlib import Path
from helpers.store import Store, StoreError, make_key
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))
root = Path(sys.argv[1])
store = Store(root)
key, small = make_key("test", 1, "large"), make_key("test", 1, "a small entry")
large = {"x": np.zeros(1 << 20, np.uint8)}
for call in (lambda: store.put(key, {}, large), lambda: store.once(key, lambda: ({}, large)),
             lambda: store.put(key, {"x": "y" * (1 << 20)}, {})):
    try:
        call()
        raise SystemExit("written")
    except StoreError as error:
        text = str(error)
        assert text.startswith("no room left to write in") and str(root) in text, text
        assert "free some space there or choose another folder" in text and "\\n" not in text
    assert store.get(key) is None and store.keys() == []
    assert not list(root.glob("*/.tmp-*"))
store.put(small, {"n": 3}, {"x": np.arange(3, dtype=np.uint8)})
assert store.get(small).record == {"n": 3}
print("done")
"""


def test_a_full_disk(tmp_path):
    mount("-t", "tmpfs", "-o", "size=128k", "tmpfs", tmp_path)
    try:
        assert output(FULL, tmp_path) == "done"
    finally:
        unmount(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_limit_on_file_size(tmp_path):
    assert output(FULL, tmp_path, "limit") == "done"


def test_a_path_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot write in .*file"):
        store.put(KEY, RECORD, ARRAYS)


# --- imports --------------------------------------------------------------------------------------


def test_no_torch(tmp_path):
    code = (
        "import sys, numpy; from helpers.store import *\n"
        "s = Store(sys.argv[1]); k = make_key('t', 1, 0)\n"
        "s.put(k, {}, {'x': numpy.ones(2)}); s.get(k)\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'scipy', 'matplotlib')])"
    )
    assert output(code, tmp_path) == "[]"
