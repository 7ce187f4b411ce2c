"""The audit: what it draws, how it compares, what it notes."""

import hashlib
import json

import numpy as np
import pytest

from helpers import audit, freshness, run
from helpers.project import UsageError
from helpers.store import Store, fingerprint

NOISE = "helpers.noise"


def made(arguments, device="cpu"):
    """Stands in for a stage's recompute function."""
    return {"images": np.full((4, 2, 2, 1), arguments["level"], np.uint8)}


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book with three published cells, one of which takes long."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "profiles.yml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("helpers.noise.made", made, raising=False)
    store = Store(tmp_path / "store", tmp_path / "results", True)
    for digit, level, seconds, stage in (("a", 10, 1, "map"), ("b", 20, 2, "map"),
                                         ("c", 30, 5000, "attack")):
        record = {"stage": stage, "version": 1, "cost": {"seconds": seconds, "peak_mb": 1},
                  "modules": [NOISE], "fingerprint": fingerprint([NOISE]),
                  "tolerance": {"agreement": 0.9},
                  "recompute": {"function": f"{NOISE}:made", "arguments": {"level": level}}}
        store.put(digit * 64, record, made({"level": level}), measurement=True)
    return tmp_path


def change(book, key, **fields):
    path = book / "results" / key[:2] / key / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    manifest = path.with_name("manifest.json")
    listed = json.loads(manifest.read_text())
    listed["files"]["record.json"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(listed))


def first(book):
    return audit.audit(*next(audit.published(book)))


def test_draws_what_fits_and_repeats_itself(book):
    records = {key: record for key, record, _ in audit.published(book)}
    assert len(records) == 3
    assert set(audit.draw(records, 5, 0, 600)) == {"a" * 64, "b" * 64}
    assert audit.draw(records, 1, 0, 600) == audit.draw(records, 1, 0, 600)
    assert audit.draw(records, 5, 0, 1) == ["a" * 64]
    assert {audit.draw(records, 1, seed, 600)[0] for seed in range(20)} == {"a" * 64, "b" * 64}
    assert len(audit.draw(records, 5, 0, 1e6)) == 3


def test_same_bits_pass(book, capsys):
    assert run.main(["audit", "--cells", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("same bits") == 2 and "aaaaaaaaaaaa" in out and "recomputing" in out


def test_a_wrong_cell_fails(book, capsys):
    change(book, "a" * 64, recompute={"function": f"{NOISE}:made", "arguments": {"level": 90}})
    assert run.main(["audit", "--cells", "2"]) == 1
    assert "OFF" in (out := capsys.readouterr().out) and "agreement 0 (limit 0.9)" in out
    change(book, "a" * 64, recompute={"function": f"{NOISE}:made", "arguments": {"level": 12}})
    assert run.main(["audit", "--cells", "2"]) == 0
    assert "within tolerance" in capsys.readouterr().out


@pytest.mark.parametrize("function", ["os:system", "helpers.noise", "", None])
def test_only_functions_of_the_package_are_called(book, function):
    change(book, "a" * 64, recompute={"function": function, "arguments": {}})
    finding = first(book)
    assert finding.result == "OFF" and "helpers.module:name" in finding.detail


def test_nothing_fits(book, capsys):
    assert run.main(["audit", "--max-seconds", "0.1"]) == 2
    assert "nothing published fits into 0.1 s (3 measurements" in capsys.readouterr().err


def test_per_stage(book, capsys):
    assert run.main(["audit", "--cells", "1", "--per-stage", "--max-seconds", "6000"]) == 0
    out = capsys.readouterr().out
    assert "attack" in out and "map" in out and out.count("same bits") == 2


def test_a_noted_audit_satisfies_the_check(book):
    for digit in "abc":
        change(book, digit * 64, fingerprint="old")
    assert len(freshness.record_problems(book)) == 2
    assert run.main(["audit", "--per-stage", "--max-seconds", "6000", "--record"]) == 0
    assert freshness.record_problems(book) == []
    notes = freshness.load_audits(book)
    assert notes == [{"stage": stage, "version": 1, "fingerprint": fingerprint([NOISE])}
                     for stage in ("attack", "map")]


def test_a_failed_audit_is_not_noted(book):
    change(book, "a" * 64, fingerprint="old",
           recompute={"function": f"{NOISE}:made", "arguments": {"level": 90}})
    with pytest.raises(UsageError):
        audit.main(book, 1, 0, 0.1, record=True)
    audit.note(book, [first(book)])
    assert freshness.load_audits(book) == [] and len(freshness.record_problems(book)) == 1


def test_comparisons():
    a = {"x": np.zeros((4, 2, 2, 1), np.uint8), "y": np.zeros(3, np.float32)}
    assert audit.compare(a, a, {}) == ("same bits", "")
    near = {**a, "y": a["y"] + 1e-3}
    assert audit.compare(a, near, {})[0] == "OFF"
    assert audit.compare(a, near, {"mean_abs": 0.01})[0] == "within tolerance"
    assert audit.compare(a, near, {"mean_abs": 1e-4})[0] == "OFF"
    half = {**a, "x": a["x"].copy()}
    half["x"][:2] = 200
    assert audit.compare(a, half, {"agreement": 0.5})[0] == "within tolerance"
    assert audit.compare(a, half, {"agreement": 0.6}) == ("OFF", "agreement 0.5 (limit 0.6)")
    assert audit.compare(a, {"x": a["x"]}, {"agreement": 0})[0] == "OFF"
    assert audit.compare(a, {**a, "y": np.zeros(4, np.float32)}, {"agreement": 0})[0] == "OFF"
    assert audit.compare({"e": np.zeros((0, 2))}, {"e": np.zeros((0, 2))}, {})[0] == "same bits"
    holes = {"y": np.array([np.nan, 1.0])}
    assert audit.compare(holes, {"y": np.array([np.nan, 1.5])}, {"mean_abs": 0.3})[0] != "OFF"
    assert audit.compare(holes, {"y": np.array([np.nan, 9.0])}, {"mean_abs": 0.3})[0] == "OFF"
    nan = {"y": np.array([np.nan])}
    assert audit.compare(nan, {"y": np.array([1.0])}, {"mean_abs": 1})[0] == "OFF"
