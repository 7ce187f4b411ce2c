"""One environment for all tests, and the numbers of `pytest --nbval`.

Every session gets an empty store and no published results, so a notebook that passes has really
trained its networks. nbval compares words and structure; the numbers of the fresh run, which the
chapters write to a file as they record them, are compared here with ``expected.yml``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
for folder in (HERE, SOURCE):
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import expected  # noqa: E402

from helpers.execute import environment  # noqa: E402

FOLDER = "SAME_NOISE_TEST_FOLDER"
passed: dict[str, bool] = {}
complaints: list[str] = []


def pytest_configure(config):
    """Set the kernels' environment; workers of pytest-xdist inherit the controller's."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    folder = tempfile.mkdtemp(prefix="same-noise-tests-")
    config.stash[_owned] = folder
    settings = environment(store=f"{folder}/store", results="off", profile="quick", device="cpu",
                           workers="1", records=f"{folder}/records.jsonl", test_folder=folder)
    for name in [name for name in os.environ if name not in settings]:
        del os.environ[name]
    os.environ.update(settings)


_owned = pytest.StashKey[str]()


def pytest_collection_modifyitems(items):
    """Skip tests marked ``gpu``, with the reason, where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device; torch finds none"))


def pytest_runtest_logreport(report):
    """Remember which notebooks nbval ran, and whether all of their cells passed."""
    path = Path(str(report.fspath))
    if path.suffix == ".ipynb" and report.when == "call":
        passed[path.stem] = passed.get(path.stem, True) and report.passed


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Compare the fresh numbers; the exit status is 1 if any is off."""
    if os.environ.get("PYTEST_XDIST_WORKER") or not passed:
        return
    folder = Path(os.environ[FOLDER])
    complaints.extend(judge(folder, passed, expected.read(HERE / "expected.yml")))
    if complaints and session.exitstatus == 0:
        session.exitstatus = 1


def judge(folder: Path, ran: dict[str, bool], wanted: dict) -> list[str]:
    """Compare what the notebooks recorded in `folder` with what is expected of them."""
    lines = (folder / "records.jsonl").read_text().splitlines() if (
        folder / "records.jsonl").is_file() else []
    fresh: dict[str, dict] = {}
    for line in lines:
        record = json.loads(line)
        fresh.setdefault(record["chapter"], {})[record["name"]] = record
    found = []
    for slug in ran:
        found += expected.compare(slug, fresh.get(slug, {}), wanted.get("numbers", {}).get(slug))
    records = [json.loads(path.read_text()) for path in (folder / "store").rglob("record.json")]
    trained = sum(bool(record.get("steps_made") or record.get("models")) for record in records)
    if set(ran) - set(wanted.get("untrained", [])) and not trained:
        found.append("no network was trained: the store of this session holds none")
    return found


@pytest.fixture(scope="module")
def quick_readers():
    """Train classifiers of the property on fewer records than usual."""
    from helpers import readers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "MOST", 2000)
        patch.setattr(readers, "PASSES", 5)
        readers.reader.cache_clear()
        yield
    readers.reader.cache_clear()


def pytest_terminal_summary(terminalreporter):
    """Say what the numbers looked like."""
    if not passed:
        return
    terminalreporter.section("numbers of the fresh notebooks")
    for complaint in complaints:
        terminalreporter.write_line(complaint)
    if not complaints:
        terminalreporter.write_line(f"{len(passed)} notebooks: every number within its tolerance")


def pytest_unconfigure(config):
    """Remove the session's store."""
    if _owned in config.stash:
        shutil.rmtree(config.stash[_owned], ignore_errors=True)
