"""The runner: what it refuses, what it writes, and what it leaves alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import toy

from helpers import costs, execute, notebooks, planning, project, publish, run
from helpers.execute import ChapterError
from helpers.project import UsageError
from helpers.syntax import syntax

SOURCE = Path(run.__file__).resolve().parent.parent


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A toy book as the working directory."""
    for name in [name for name in os.environ if name.startswith("SAME_NOISE_")]:
        monkeypatch.delenv(name)
    book = toy.make(tmp_path / "book")
    monkeypatch.chdir(book)
    return book


def helpers(*arguments, **options):
    """Call the command line in this process."""
    return run.main([str(argument) for argument in arguments], **options)


def asked(*arguments):
    """The parsed arguments of a run."""
    return run.parser().parse_args(["run", *arguments])


def line(capsys):
    """The one line on standard error, without a traceback."""
    text = capsys.readouterr().err
    assert text.startswith("helpers: ") and text.count("\n") == 1, text
    return text


@pytest.mark.parametrize("arguments, said", [
    (["07"], ["unknown chapter '07'", "01_toy, 02_other"]),
    (["toy"], ["unknown chapter 'toy'", "01_toy"]),
    (["--profile", "fast"], ["unknown profile 'fast'", "quick, laptop, paper"]),
    (["01", "-p", "pionts", "5"], ["unknown parameter 'pionts'", "did you mean points?"]),
    (["01", "-p", "zzz", "5"], ["unknown parameter 'zzz'", "known: ", "points"]),
    (["01", "-p", "points", "1.5"], ["'points' wants int", "got float: 1.5"]),
    (["01", "-p", "points", "many"], ["'points' wants int", "got str: 'many'"]),
    (["01", "-p", "points", "True"], ["'points' wants int", "got bool"]),
    (["01", "-p", "grid", "[1, 'a']"], ["'grid' wants list[int]", "got list[int | str]"]),
    (["01", "-p", "grid", "16"], ["'grid' wants list[int]", "got int: 16"]),
    (["01", "-p", "flip", "3"], ["'flip' wants bool", "got int"]),
    (["01", "-p", "dataset", "nowhere/my.npz"], ["there is no file nowhere/my.npz"]),
    (["01", "-p", "seed", "3", "--out", "notebooks"], ["holds the published chapters"]),
    (["--profile", "quick", "--out", "notebooks"], ["only an unmodified run at profile laptop"]),
    (["--fresh", "--out", "notebooks"], ["--fresh ignores the published measurements"]),
    (["--profile", "quick", "-p", "seed", "1", "--out", "tests/notebooks"], ["profile quick"]),
    (["--out", "results/mine"], ["part of the book itself"]),
    (["--out", "."], ["part of the book itself"]),
    (["--out", ".."], ["part of the book itself or holds it"]),
])
def test_a_wrong_request_ends_in_one_line(root, capsys, arguments, said):
    before = sorted(root.rglob("*"))
    assert helpers("run", *arguments) == 2
    text = line(capsys)
    assert all(part in text for part in said), text
    assert sorted(root.rglob("*")) == before


def test_outside_the_book(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert helpers("run") == 2
    assert "change to the folder of the book" in line(capsys)


def test_a_wrong_profile_file_names_itself(root, capsys):
    (root / "notebooks" / "profiles.yml").write_text("quick: {01_toy: {rate: '1e-3'}}")
    assert helpers("run", "--profile", "quick") == 2
    assert "notebooks/profiles.yml: parameter 'rate' wants float" in line(capsys)
    (root / "notebooks" / "profiles.yml").write_text("quick: {01_toy: {raet: 1}}")
    assert helpers("run", "--profile", "quick") == 2
    assert "did you mean rate" in line(capsys)
    (root / "notebooks" / "profiles.yml").write_text("quick: {01_toy: [")
    assert helpers("run", "--profile", "quick") == 2
    assert "not valid YAML" in line(capsys)


def test_values_have_the_type_of_the_parameter():
    cell = ('a: int = 1  # one\nb: float = 2.0\nc: str = "x"\nd: list[float] = []\n'
            'e: int | None = None\nf: tuple = (1, 2)\ng: dict[str, int] = {}\n'
            'h: tuple[int, ...] = (1,)\n')
    known = project.parse_parameters(cell)
    assert known["b"].default == 2.0
    values = {name: project.parse_value(known[name], text) for name, text in [
        ("a", "3"), ("b", "3"), ("c", "3"), ("d", "[1, 2.5]"), ("e", "None"), ("f", "(3, 4)"),
        ("g", "{'a': 1}"), ("h", "[5, 6, 7]")]}
    assert values == {"a": 3, "b": 3.0, "c": "3", "d": [1, 2.5], "e": None, "f": (3, 4),
                      "g": {"a": 1}, "h": (5, 6, 7)}
    assert isinstance(values["b"], float) and isinstance(values["h"], tuple)
    for name, text in [("d", "['a']"), ("e", "x"), ("g", "{'a': 'b'}"), ("h", "[1.5]")]:
        with pytest.raises(UsageError, match=f"'{name}' wants"):
            project.parse_value(known[name], text)
    with pytest.raises(UsageError, match="only `name: type = value`"):
        project.parse_parameters("import os")
    with pytest.raises(UsageError, match="plain literal"):
        project.parse_parameters("a: int = 2 * x")


def test_an_unmodified_run_publishes_and_then_skips(root, capsys):
    assert helpers("run") == 0
    out = capsys.readouterr().out
    assert "01_toy: done in" in out and "02_other: done in" in out
    first = {path.name: path.read_bytes() for path in (root / "notebooks").glob("*.ipynb")}
    assert set(first) == {"01_toy.ipynb", "02_other.ipynb"}
    book = notebooks.read(root / "notebooks" / "01_toy.ipynb")
    assert book.metadata.run.profile == "laptop"
    assert book.metadata.run.parameters["points"] == 100
    assert len(book.metadata.run.source_hash) == 64
    assert [cell.id[:4] for cell in book.cells] == [f"{i:03d}-" for i in range(len(book.cells))]
    assert book.cells[3].outputs[0].text == "0\n1\n2\n1 laptop 1\n"
    text = first["01_toy.ipynb"].decode()
    assert str(root) not in text and "papermill\"" not in text and "start_time" not in text
    assert json.loads((root / "results" / "claims.json").read_text())["chapters"]["01_toy"][
        "records"][0]["value"] == 100
    assert helpers("run") == 0
    assert capsys.readouterr().out.count("up to date") == 2
    assert helpers("run", "01", "--force") == 0
    assert (root / "notebooks" / "01_toy.ipynb").read_bytes() == first["01_toy.ipynb"]


def test_prose_is_refreshed_and_code_makes_stale(root, capsys):
    assert helpers("run", "02") == 0
    script, target = root / "notebooks" / "02_other.py", root / "notebooks" / "02_other.ipynb"
    script.write_text(script.read_text().replace("And the other one?", "And a new title?"))
    stamp = time.time()
    capsys.readouterr()
    assert helpers("run", "02") == 0
    assert "text refreshed, outputs kept" in capsys.readouterr().out
    assert time.time() - stamp < 2
    book = notebooks.read(target)
    assert "new title" in book.cells[0].source and book.cells[2].outputs[0].text == "1\n"
    script.write_text(script.read_text().replace("seed + 1", "seed + 2"))
    assert publish.plan(root, asked("02"))[0].state == "stale"
    assert helpers("run", "02") == 0
    assert notebooks.read(target).cells[2].outputs[0].text == "2\n"


def test_a_damaged_notebook_is_stale(root):
    job, = planning.plan(root, asked("02"))
    for text in ("", "not JSON", "[]", "{}", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5}'):
        job.target.write_text(text)
        assert notebooks.state(job.prepared, job.target, job.run) == "stale"


def test_the_lock_file_and_the_modules_used_are_part_of_the_hash(root):
    script = notebooks.read_script(root / "notebooks" / "02_other.py")
    first = notebooks.source_hash(root, script, {})
    (root / "requirements.lock").write_text("# a remark\n")
    assert notebooks.source_hash(root, script, {}) == first
    (root / "requirements.lock").write_text("numpy==2.0\n")
    second = notebooks.source_hash(root, script, {})
    assert second != first != notebooks.source_hash(root, script, {"seed": 1})
    used = notebooks.modules_used(["from helpers import intervals"])
    assert used == ["intervals", "noise"]
    assert notebooks.modules_used(["x = 1"]) == []
    assert "gaussians" in notebooks.modules_used(["import helpers.patches"])
    plain, documented = "def f():\n    return 1", 'def f():\n    """Doc."""\n    return 1  # one'
    assert syntax(plain) == syntax(documented)
    assert syntax(plain) != syntax("def f():\n    return 2")


def test_a_modified_run_goes_to_its_own_folder(root, capsys):
    assert helpers("run", "01", "--profile", "quick", "-p", "grid", "[16,256]", "-p", "seed", "3",
                   "--out", "my_run") == 0
    book = notebooks.read(root / "my_run" / "01_toy.ipynb")
    injected = book.cells[2]
    assert injected.metadata.tags == ["injected-parameters"]
    assert "grid = [16, 256]" in injected.source and "seed = 3" in injected.source
    assert "rate = 1.0" in injected.source
    assert book.metadata.run.profile == "quick" and book.metadata.run.parameters.points == 10
    assert not (root / "notebooks" / "01_toy.ipynb").exists()
    assert not (root / "results").exists()
    assert "1 quick None" in str(book.cells[4].outputs)
    assert helpers("run", "02", "-p", "seed", "3") == 0
    assert (root / "_scratch" / "run" / "02_other.ipynb").is_file()


def test_a_failing_chapter_keeps_what_was_there(root, capsys):
    (root / "mine").mkdir()
    (root / "mine" / "01_toy.ipynb").write_bytes(before := b"what was there")
    assert helpers("run", "01", "--profile", "quick", "-p", "fail", "Broken", "--out", "mine") == 1
    text = line(capsys)
    assert "chapter 01_toy failed" in text and "Broken: a toy failure" in text
    assert (root / "mine" / "01_toy.ipynb").read_bytes() == before
    assert (root / "mine" / "failed" / "01_toy.ipynb").is_file()
    assert helpers("run", "01", "--profile", "quick", "-p", "fail", "StoreError",
                   "--out", "mine") == 2
    assert "StoreError: a toy failure" in line(capsys)


def test_full_disk_is_one_line(root, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(notebooks, "write", full)
    assert helpers("run", "02", "--profile", "quick") == 2
    assert "no space left on the device (somewhere): free some space" in line(capsys)


def test_a_write_that_fails_leaves_the_old_file(root, monkeypatch):
    book = nbformat.v4.new_notebook()
    target = root / "mine.ipynb"
    notebooks.write(book, target)
    before = target.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        notebooks.write(book, target)
    assert target.read_bytes() == before and list(root.glob(".mine*")) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_kernel_and_workers(root, tmp_path, sent):
    pids = tmp_path / "pids.json"
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "TOY_PIDS": str(pids)}
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers", "run", "01", "--profile", "quick", "-p", "pause", "300"],
        env=env, cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.time() + 60
    while not (pids.exists() and pids.read_text()) and time.time() < deadline:
        time.sleep(0.1)
    family = json.loads(pids.read_text())
    assert all(psutil.pid_exists(pid) for pid in family)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.startswith("helpers: interrupted") and errors.count("\n") == 1
    deadline = time.time() + 10
    while any(_alive(pid) for pid in family) and time.time() < deadline:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in family)
    assert list((root / "_scratch" / "run").glob("*")) == []


def _alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("name, more", [("store", ["--fresh"]), ("book", ["--build"])])
def test_a_readers_own_folder_is_never_emptied(root, tmp_path, capsys, name, more):
    mine = tmp_path / "mine" / name
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work")
    assert helpers("run", "01", "--profile", "quick", "--out", tmp_path / "mine", *more) == 2
    assert "did not make" in line(capsys) and (mine / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_cannot_be_written_is_found_before_anything_runs(root, tmp_path, capsys,
                                                                       monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(publish, "run_job", lambda *_: pytest.fail("a chapter ran"))
    assert helpers("run", "01", "--profile", "quick", "--out", tmp_path / "file" / "x") == 2
    assert "cannot be written to" in line(capsys)
    monkeypatch.setenv("SAME_NOISE_STORE", str(tmp_path / "file"))
    assert helpers("run", "01", "--profile", "quick", "--out", tmp_path / "mine") == 2
    assert "cannot be written to" in line(capsys)


@pytest.mark.parametrize("text, said", [
    ("- a", "got ['a']"), ("quick: 3", "quick: needed"), ("quick: {all: [1]}", "quick, all"),
    ("quick: {01_tyo: {points: 3}}", "no chapter '01_tyo'"), (b"\xff", "not valid YAML"),
])
def test_profiles_that_cannot_be_meant(root, capsys, text, said):
    raw = text if isinstance(text, bytes) else text.encode()
    (root / "notebooks" / "profiles.yml").write_bytes(raw)
    assert helpers("run", "01", "--profile", "quick") == 2
    assert said in line(capsys)


def test_a_parameters_cell_that_is_no_python(root, capsys):
    script = root / "notebooks" / "01_toy.py"
    script.write_text(script.read_text().replace("points: int = ", "points: int = 2000 + + = "))
    assert helpers("run", "01", "--dry-run") == 2
    assert "parameters cell, line" in line(capsys)


def test_dry_run_says_unknown_without_data(root, capsys):
    assert helpers("run", "--profile", "quick", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "01_toy" in out and "unknown" in out and not (root / "_scratch").exists()


def test_dry_run_adds_recorded_costs(root, capsys):
    job, = planning.plan(root, asked("02"))
    book, keys = notebooks.clean(job.prepared, job.run), ["a" * 64, "b" * 64]
    book.cells[2].outputs.append(nbformat.v4.new_output("display_data", data={
        "text/plain": ""}, metadata={"same_noise": {"run": {"keys": keys}}}))
    notebooks.write(book, job.target)
    for key in keys:
        folder = root / "results" / key[:2] / key
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(
            {"cost": {"seconds": 1200.0, "peak_mb": 300}}))
    capsys.readouterr()
    assert helpers("run", "02", "--dry-run") == 0
    out = capsys.readouterr().out
    workers = min(2, os.cpu_count() or 1)
    assert f"{2400 / workers / 60:.0f} min" in out and f"{300 * workers} MB" in out
    assert helpers("run", "02", "-p", "seed", "1", "--dry-run") == 0
    assert "unknown" in capsys.readouterr().out


def test_a_network_that_records_share_costs_once():
    def record(model, spent, trained, sampled):
        return {"cost": {"seconds": spent}, "training": {"seconds": trained},
                "sampling_seconds": sampled, "recompute": {"arguments": {"model": model}}}

    first = [record({"n": 1}, 110.0, 100.0, 7.0), record({"n": 1}, 100.0, 100.0, 5.0)]
    other, closed = record({"n": 2}, 60.0, 50.0, 9.0), {"cost": {"seconds": 3.0}}
    assert costs.seconds(first) == 100 + 10 + 5
    assert costs.seconds([*first, other, closed]) == 115 + 60 + 3


def test_chapters_side_by_side(root):
    assert helpers("run", "--profile", "quick", "--jobs", "2", "--out", "both") == 0
    assert len(list((root / "both").glob("*.ipynb"))) == 2


def test_settings_of_the_kernel(root, monkeypatch):
    options = asked("--profile", "quick", "--fresh")
    out = planning.out_folder(root, options)
    where = publish.settings(root, out, options)
    assert where["results"] == "off" and where["store"] == str(out / "store")
    assert where["publish"] is None and where["figures"] == str(out / "figures")
    where = publish.settings(root, root / "notebooks", asked())
    assert where["publish"] == "1" and where["results"] == str(root / "results")
    assert where["store"] == str(root / "_store")
    base = publish.settings(root, root / "tests" / "notebooks", asked("--profile", "quick"))
    assert base["results"] == "off" and base["figures"] is None and base["publish"] is None
    monkeypatch.setenv("SAME_NOISE_STORE", "elsewhere")
    monkeypatch.setenv("SAME_NOISE_PUBLISH", "1")
    assert publish.settings(root, out, asked())["store"] == "elsewhere"
    env = execute.environment(results="off", publish=None)
    assert env["OMP_NUM_THREADS"] == "1" and env["PYTHONHASHSEED"] == "0"
    assert env["TQDM_DISABLE"] == "1" and env["HF_HUB_OFFLINE"] == "1"
    assert env["SAME_NOISE_RESULTS"] == "off" and "SAME_NOISE_PUBLISH" not in env


def test_a_dead_kernel_is_reported(tmp_path):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import os; os._exit(1)")])
    with pytest.raises(ChapterError, match="DeadKernelError: Kernel died"):
        execute.execute(book, tmp_path, execute.environment(), execute.Progress())


MINE = ["--outputs", "mine.npz"]


@pytest.mark.parametrize("arguments, said", [
    ([], ["nothing to do", "--probes FILE.csv"]),
    (["--json", "out.json"], ["--json goes with --outputs"]),
    (["--outputs", "nowhere.npz"], ["there is no file nowhere.npz"]),
    ([*MINE, "--table", "census"], ["unknown --table 'census'", "acs_ma, adult"]),
    (["--probes", "p.csv", "--table", "fashion16"], ["images", "acs_ma, adult"]),
    ([*MINE, "--property", "age"], ["unknown --property 'age' of acs_ma", "sex, race"]),
    ([*MINE, "--ratios", "0.5"], ["two values", "got 1: 0.5"]),
    ([*MINE, "--ratios", "0.5", "0.3", "0.1"], ["two values", "got 3"]),
    ([*MINE, "--ratios", "0.5", "1.2"], ["1.2 is outside [0, 1]"]),
    ([*MINE, "--ratios", "nan", "0.3"], ["nan is outside [0, 1]"]),
    ([*MINE, "--ratios", "0.5", "0.33"], ["0.33 is not published", "0, 0.1, 0.2", "0.9, 1"]),
    ([*MINE, "--ratios", "0.4", "0.4"], ["both are 0.4", "n_leaked = 0"]),
    (MINE, ["neither", "exactly one of 'probabilities' and 'logits'"]),
    (["--probes", "nowhere/p.csv", "--table", "adult"], ["cannot write nowhere/p.csv"]),
])
def test_a_wrong_attack_ends_in_one_line(root, capsys, arguments, said):
    np.savez("mine.npz", outputs=np.zeros(2000))
    before = sorted(root.rglob("*"))
    assert helpers("attack", *arguments) == 2
    text = line(capsys)
    assert all(part in text for part in said), text
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("arrays, said", [
    ({"probabilities": np.full(2000, 1.5)}, "outside [0, 1]; if these are logits"),
    ({"probabilities": np.full(2000, np.nan)}, "2000 values are not finite"),
    ({"logits": np.zeros(1999)}, "shape [1999]; needed are [2000] or [models, 2000]"),
    ({"logits": np.zeros(2000), "probabilities": np.zeros(2000)}, "holds both"),
    ({"logits": np.zeros(2000)}, "attack --make-shadows --table acs_ma --property sex"),
])
def test_outputs_that_cannot_be_attacked_end_in_one_line(root, capsys, arrays, said):
    np.savez("mine.npz", **arrays)
    assert helpers("attack", *MINE) == 2
    assert said in line(capsys)


TABLE = """
# %% tags=["parameters"]
table: str = "adult"
property: str = "sex"
label: str = ""

# %%
print(table, property, label)
"""


@pytest.fixture
def tabled(root):
    """A toy book whose second chapter takes a table, and a reader's own table."""
    (root / "notebooks" / "02_other.py").write_text(toy.HEADER + TABLE)
    frame = {"age": range(300), "sex": ["Female", "Male", "Male"] * 100, "paid": [0, 1] * 150}
    pd.DataFrame(frame).to_csv(root / "my.csv", index=False)
    return root


@pytest.mark.parametrize("given, said", [
    (["table", "nowhere.csv"], "-p table: there is no file nowhere.csv"),
    (["table", "cenus"], "neither a built-in table"),
    (["table", "my.csv"], "a file needs label="),
    (["table", "my.csv", "label", "income"], "no column 'income'"),
    (["table", "my.csv", "label", "paid", "property", "race"], "no column 'race'"),
    (["table", "my.csv", "label", "age"], "not binary"),
    (["property", "footwear"], "adult: unknown property 'footwear'"),
    (["label", "wealth"], "adult: unknown label 'wealth'"),
])
def test_a_table_that_does_not_fit_ends_in_one_line(tabled, capsys, monkeypatch, given, said):
    monkeypatch.setattr(publish, "run_job", lambda *_: pytest.fail("a chapter ran"))
    pairs = [part for i in range(0, len(given), 2) for part in ("-p", *given[i:i + 2])]
    assert helpers("run", "02", *pairs) == 2
    assert said in line(capsys)


def test_a_table_of_ones_own_reaches_the_chapter_by_its_absolute_path(tabled):
    job, = planning.plan(tabled, asked("02", "-p", "table", "my.csv", "-p", "label", "paid",
                                       "-p", "property", "sex=Male"))
    assert job.run["parameters"] == {"table": str(tabled / "my.csv"), "property": "sex=Male",
                                     "label": "paid"}
    job, = planning.plan(tabled, asked("02", "-p", "table", ""))  # none, where that is allowed
    assert job.run["parameters"]["table"] == ""
    job, = planning.plan(tabled, asked("02", "-p", "property", "race"))
    assert job.run["parameters"]["table"] == "adult"


@pytest.mark.parametrize("command", ["run", "build", "check", "audit", "attack", "compare",
                                     "noise"])
def test_help_reads_like_a_manual(command, capsys):
    with pytest.raises(SystemExit) as stop:
        helpers(command, "--help")
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert "examples:" in out and "exit status:" in out and "options:" in out
    with pytest.raises(SystemExit):
        helpers("--help")
    out = capsys.readouterr().out
    assert command in out and "exit status:" in out


def test_light_commands_import_no_torch(root):
    code = ("import sys; from helpers.run import main; main(['check', '--no-pages']); "
            "heavy = {'torch', 'numpy', 'papermill', 'pyarrow'} & set(sys.modules); "
            "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], cwd=root, text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(SOURCE)})
    assert done.returncode == 0, done.stderr
    assert "01_toy.ipynb is missing" in done.stdout


def test_build_needs_a_book(root, capsys):
    assert helpers("build") == 2
    assert "no _config.yml" in line(capsys)
