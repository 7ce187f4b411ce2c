"""The executed notebooks: fresh, small, complete, free of machine paths, with the right numbers."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import expected
import numpy as np
import pytest
import toy

from helpers import claims, freshness, notebooks, project, run
from helpers.project import UsageError
from helpers.store import Store
from helpers.verdicts import KEPT, RECORD_MIME

ROOT = Path(__file__).resolve().parent.parent
EXECUTED = sorted([*(ROOT / "notebooks").glob("*.ipynb"),
                   *(ROOT / "tests" / "notebooks").glob("*.ipynb")])
LIMIT = 600_000
PATHS = re.compile(r"(/root|/home|/tmp|/work|/Users|/var/folders)/|site-packages|[A-Z]:\\\\")
each = pytest.mark.parametrize(
    "path", EXECUTED, ids=lambda path: path.relative_to(ROOT).as_posix())


@pytest.mark.parametrize("folder", freshness.FOLDERS)
def test_notebooks_match_their_scripts(folder):
    assert freshness.notebook_problems(ROOT, folder) == []


def test_the_scoreboard_matches_the_notebooks():
    assert freshness.claim_problems(ROOT) == [] or not project.chapters(ROOT)


def test_the_table_of_measurements_matches_the_notebooks():
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = [path for path in EXECUTED if path.parent == ROOT / "notebooks"]
    if not paths:
        pytest.skip("no chapter is published yet")
    rows = parquet.read_table(ROOT / claims.PARQUET).to_pylist()
    assert rows == claims.measurements(claims.collect(paths))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_papermill_can_set_the_parameters(path):
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    book = parameterize_notebook(load_notebook_node(str(path)), {"seed": 7})
    tags = [cell.metadata.get("tags", []) for cell in book.cells]
    at = next(k for k, names in enumerate(tags) if "injected-parameters" in names)
    assert "parameters" in tags[at - 1] and "seed = 7" in book.cells[at].source


@pytest.mark.parametrize("profile", project.PROFILES)
def test_profiles_fit_the_chapters(profile):
    everywhere = set()
    for path in project.chapters(ROOT):
        script = notebooks.read_script(path)
        known = notebooks.parameters_of(script, path.stem)
        project.resolve(ROOT, profile, path.stem, known)
        everywhere |= set(known)
    part = project.read_profiles(ROOT).get(profile, {})
    assert set(part) <= {"all", *(path.stem for path in project.chapters(ROOT))}
    if project.chapters(ROOT):
        assert set(part.get("all", {})) <= everywhere


def test_the_published_book_runs_the_defaults():
    assert not any(project.read_profiles(ROOT).get("laptop", {}).values())


def test_every_claim_is_listed_once_with_its_chapter():
    listed = [claim for part in claims.load_claims(ROOT) for claim in part["claims"]]
    names = [claim["id"] for claim in listed]
    assert names == [*(f"C{i}" for i in range(1, 19)), *(f"DI-C{i}" for i in range(1, 9)),
                     "DI-R1", "DI-R2", *(f"ours {i}" for i in range(1, 8))]
    assert all(re.fullmatch(r"\d\d_[a-z_]+", claim["chapter"]) and claim["text"]
               for claim in listed)
    assert claims.table(claims.load_claims(ROOT), {}).count("not yet`") == len(names)


@each
def test_size(path):
    assert path.stat().st_size < LIMIT, "fewer or smaller figures: the limit is 600 kB"


@each
def test_no_machine_paths(path):
    found = PATHS.search(path.read_text("utf-8"))
    assert not found, f"{found.group()} in {path.name}"
    assert str(ROOT) not in path.read_text("utf-8")


@each
def test_every_cell_ran_without_errors_or_warnings(path):
    for cell in notebooks.read(path).cells:
        if cell.cell_type != "code":
            continue
        assert cell.execution_count, cell.source
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", f"{output.text}\n{cell.source}"


@each
def test_run_metadata(path):
    about = notebooks.read(path).metadata
    assert set(about) == {"kernelspec", "language_info", "run"}
    assert set(about.run) == {"profile", "parameters", "source_hash"}
    assert about.run.profile == ("laptop" if path.parent == ROOT / "notebooks" else "quick")
    assert re.fullmatch("[0-9a-f]{64}", about.run.source_hash)


@each
def test_numbers_stand_in_cells_that_nbval_ignores(path):
    for cell in notebooks.read(path).cells:
        kept = [output for output in cell.get("outputs", ())
                if KEPT in output.get("metadata", {}) or RECORD_MIME + "text/plain"
                in output.get("data", {})]
        assert not kept or "nbval-ignore-output" in cell.metadata.get("tags", []), cell.source


@pytest.mark.parametrize("path", [path for path in EXECUTED if path.parent.parent.name == "tests"],
                         ids=lambda path: path.stem)
def test_the_baseline_has_the_expected_numbers(path):
    wanted = expected.read(ROOT / "tests" / "expected.yml").get("numbers", {})
    assert expected.compare(path.stem, expected.records([path])[path.stem],
                            wanted.get(path.stem)) == []


def test_numbers_are_compared_within_their_tolerance():
    fresh = {"a": {"value": 0.5, "text": "0.50"}, "b": {"value": None, "text": "yes"}}
    rules = {"a": {"value": 0.52, "tolerance": 0.03}, "b": {"text": "yes"}}
    assert expected.compare("x", fresh, rules) == []
    rules["a"]["tolerance"] = 0.01
    assert expected.compare("x", fresh, rules) == ["x: a is 0.5, expected 0.52 within 0.01"]
    assert "is 'yes', expected 'no'" in expected.compare("x", fresh, {**rules, "b": {
        "text": "no"}})[1]
    assert "is None, expected the number" in expected.compare(
        "x", {"b": fresh["b"]}, {"b": {"value": 1, "tolerance": 1}})[0]
    assert expected.compare("x", {}, {"a": rules["a"]}) == ["x: a was not recorded"]
    assert "not in expected.yml" in expected.compare("x", fresh, {"b": rules["b"]})[0]
    assert "no numbers for it" in expected.compare("x", fresh, None)[0]


def test_tolerances_come_from_the_spread_over_seeds():
    base = {"a": {"value": 0.5, "text": ""}, "n": {"value": 8, "text": "8"},
            "w": {"value": "yes", "text": "yes"}}
    others = [{"a": {"value": value, "text": ""}, "n": {"value": 8, "text": "8"},
               "w": {"value": "yes", "text": "yes"}} for value in (0.4, 0.6)]
    assert expected.derive(base, others) == {"a": {"value": 0.5, "tolerance": 0.3},
                                             "n": {"value": 8, "tolerance": 0},
                                             "w": {"text": "yes"}}


NUMBERS = """
numbers:
  01_net: {loss: {value: 1.5, tolerance: 0.1}}
"""
NET = toy.HEADER + '''
# %% tags=["parameters"]
seed: int = 0  # seed

# %% tags=["nbval-ignore-output"]
from helpers import chapter
import numpy as np
c = chapter.begin("01_net", globals())
c.store.once("ab" * 32, lambda: ({"steps_made": 3}, {"x": np.zeros(1)}))
c.record("loss", 1.5 + seed, ".2f")

# %%
print("trained")
'''


FAULTS = (("1.5 + seed", "1.7 + seed"), ('"steps_made": 3', '"steps_made": 0'))


def test_nbval_turns_red_for_a_wrong_number(tmp_path, monkeypatch):
    """A fault that leaves all words in place is caught by its numbers."""
    root = toy.make(tmp_path / "book")
    for path in (root / "notebooks").glob("*.py"):
        path.unlink()
    (root / "notebooks" / "profiles.yml").write_text("quick: {all: {seed: 0}}")
    (root / "notebooks" / "01_net.py").write_text(NET)
    monkeypatch.chdir(root)
    monkeypatch.setenv("SAME_NOISE_STORE", str(tmp_path / "none"))
    assert run.main(["run", "--profile", "quick", "--out", "tests/notebooks"]) == 0
    for name in ("conftest.py", "expected.py", "nbval_sanitize.cfg"):
        shutil.copy(ROOT / "tests" / name, root / "tests" / name)
    (root / "tests" / "expected.yml").write_text(NUMBERS)
    status, said = nbval(root)
    assert status == 0 and "every number within its tolerance" in said, said
    book = notebooks.read(root / "tests" / "notebooks" / "01_net.ipynb")
    for cell in book.cells:
        for old, new in FAULTS:
            cell.source = cell.source.replace(old, new)
    notebooks.write(book, root / "tests" / "notebooks" / "01_net.ipynb")
    status, said = nbval(root)
    assert status == 1 and "loss is 1.7, expected 1.5 within 0.1" in said, said
    assert "no network was trained" in said and "4 passed" in said
    assert not (tmp_path / "none").exists()


def nbval(root):
    """Run nbval on the toy book's baseline in a process of its own: status and output."""
    # A worker of pytest-xdist would pass on that it is one, and then nothing is judged.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", "-p",
         "no:cacheprovider", "tests/notebooks"], cwd=root, text=True, capture_output=True,
        env={**kept, "PYTHONPATH": str(ROOT / "src")})
    return done.returncode, done.stdout + done.stderr


def test_freshness_is_reported(tmp_path, monkeypatch):
    root = toy.make(tmp_path / "book")
    found = freshness.notebook_problems(root, "notebooks")
    assert "notebooks/01_toy.ipynb is missing: `python -m helpers run 01` makes it anew" in found
    (root / "notebooks" / "09_gone.ipynb").write_text("{}")
    assert freshness.notebook_problems(root, "notebooks")[-1].endswith("no script "
                                                                       "notebooks/09_gone.py")
    assert "--profile quick --out tests/notebooks" in freshness.notebook_problems(
        root, "tests/notebooks")[0]


def test_records_of_changed_code_are_reported(tmp_path, monkeypatch):
    for key, print_ in (("ab" * 32, "old"), ("cd" * 32, "new")):
        folder = tmp_path / "results" / key[:2] / key
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(
            {"stage": "map", "version": 1, "modules": ["m"], "fingerprint": print_}))
        digest = hashlib.sha256((folder / "record.json").read_bytes()).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(
            {"files": {"record.json": {"sha256": digest}}}))
    monkeypatch.setattr(freshness, "code_fingerprint", lambda modules: "new")
    found = freshness.record_problems(tmp_path)
    assert len(found) == 1 and "1 published measurements of stage map (version 1)" in found[0]
    (tmp_path / "results" / "audits.json").write_text(json.dumps(
        [{"stage": "map", "version": 1, "fingerprint": "new"}]))
    assert freshness.record_problems(tmp_path) == []
    monkeypatch.setattr(freshness, "code_fingerprint", lambda modules: "newer")
    assert len(freshness.record_problems(tmp_path)) == 1


def test_damaged_measurements_are_reported(tmp_path):
    store = Store(tmp_path / "results")
    store.put("ab" * 32, {"stage": "map", "version": 1, "modules": [], "fingerprint": ""},
              {"x": np.arange(3)})
    sound = freshness.record_problems(tmp_path)
    assert not any("manifest" in line for line in sound)
    path = next((tmp_path / "results").rglob("arrays.safetensors"))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    found = freshness.record_problems(tmp_path)
    assert "results/abababababab: arrays.safetensors differ from the manifest" in found[0]
    path.with_name("record.json").write_text("{")
    with pytest.raises(UsageError, match="record.json is damaged .* `git checkout results`"):
        freshness.record_problems(tmp_path)
