"""A chapter's records, verdicts and provenance."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import chapter, claims, notebooks, run
from helpers.verdicts import at_least, at_most, every, word


def interval(value, low, high):
    return SimpleNamespace(value=value, low=low, high=high)


@pytest.fixture
def shown(monkeypatch):
    """Everything displayed: a list of (bundle, metadata)."""
    seen = []
    monkeypatch.setattr(chapter, "_display", lambda bundle, about=None: seen.append(
        (bundle, about or {})))
    return seen


@pytest.fixture
def opened(tmp_path, monkeypatch, shown):
    monkeypatch.setenv("SAME_NOISE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SAME_NOISE_RESULTS", "off")
    monkeypatch.setenv("SAME_NOISE_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    return chapter.begin("01_toy", {"seed": 3, "noises": 8})


@pytest.mark.parametrize("outcome, verdict", [
    ((True, True, False), "reproduced"),
    ((True, False, False), "partly"),
    ((True, None, False), "partly"),
    ((False, False, False), "not reproduced"),
    ((False, None, False), "not reproduced"),
    ((False, False, True), "refuted"),
    ((False, False, False, True), "partly"),
    ((False, False, True, True), "partly"),
    ((True, True, False, True), "reproduced"),
])
def test_the_verdict_rule(outcome, verdict):
    assert word(*outcome) == verdict


@pytest.mark.parametrize("outcome", [(True, True, True), (True, False, True), (False, True, False)])
def test_contradicting_outcomes_are_refused(outcome):
    with pytest.raises(ValueError, match="check the rule's evaluation"):
        word(*outcome)


def test_rules_with_a_limit():
    assert word(**at_least(interval(0.8, 0.7, 0.9), 0.6)) == "reproduced"
    assert word(**at_least(interval(0.65, 0.5, 0.9), 0.6)) == "partly"
    assert word(**at_least(interval(0.55, 0.5, 0.65), 0.6)) == "not reproduced"
    assert word(**at_least(interval(0.3, 0.2, 0.4), 0.6)) == "refuted"
    assert word(**at_most(interval(0.05, 0.0, 0.1), 0.1)) == "reproduced"
    assert word(**at_most(interval(0.5, 0.4, 0.6), 0.1)) == "refuted"
    nan = float("nan")
    assert word(**at_least(interval(0.8, nan, nan), 0.6)) == "partly"
    good, weak = at_least(interval(0.8, 0.7, 0.9), 0.6), at_least(interval(0.65, 0.5, 0.9), 0.6)
    wrong = at_least(interval(0.3, 0.2, 0.4), 0.6)
    assert word(**every(good, good)) == "reproduced"
    assert word(**every(good, weak)) == "partly"
    assert word(**every(good, wrong)) == "refuted"


def test_records_are_rounded_text_with_the_raw_number_beside(opened, shown, tmp_path, monkeypatch):
    monkeypatch.setenv("SAME_NOISE_RECORDS", str(tmp_path / "records.jsonl"))
    assert opened.record("loss", np.float32(0.123456), ".3f") == np.float32(0.123456)
    opened.record("models", 8)
    opened.record("score", interval(0.8123, 0.7, 0.9), unit="share")
    opened.record("word", "yes")
    texts = [bundle["application/papermill.record/text/plain"] for bundle, _ in shown]
    assert texts == ["0.123", "8", "0.81 [0.70, 0.90]", "yes"]
    about = shown[2][1]
    assert about["scrapbook"] == {"name": "score", "mime_prefix": "application/papermill.record/"}
    assert about["same_noise"]["record"]["low"] == 0.7
    assert about["same_noise"]["record"]["unit"] == "share"
    json.dumps([metadata for _, metadata in shown], allow_nan=False)
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["loss", "models", "score", "word"]
    assert lines[0]["chapter"] == "01_toy"
    with pytest.raises(ValueError, match="already made"):
        opened.record("models", 9)
    with pytest.raises(ValueError, match="lower-case"):
        opened.record("Models", 9)
    with pytest.raises(TypeError, match="ndarray"):
        opened.record("many", np.zeros(3))
    opened.record("nothing", float("nan"), ".2f")
    assert shown[-1][0]["application/papermill.record/text/plain"] == "nan"
    assert shown[-1][1]["same_noise"]["record"]["value"] is None


@pytest.mark.parametrize("number, fmt", [(16384, ",d"), (1234567.25, ",.1f"), (2.5, ".1f"),
                                         ("1, 2", ""), ("N = 3, 4", "")])
def test_the_book_prints_a_record_as_it_was_written(opened, shown, number, fmt):
    from ast import literal_eval

    opened.record("x", number, fmt)
    given = shown[0][0]["application/papermill.record/text/plain"]
    kept = opened.records["x"]["text"]
    try:
        printed = str(literal_eval(given))  # what the role does
    except (SyntaxError, ValueError):
        printed = given
    assert printed == kept == format(number, fmt)


def test_several_records_and_a_table(opened, shown):
    opened.record_all(".1f", "images", a=1.26, b=interval(2.0, 1.0, 3.0))
    assert [(r["text"], r["unit"]) for r in opened.records.values()] == [
        ("1.3", "images"), ("2.0 [1.0, 3.0]", "images")]
    opened.table(("A", "B", "C"), [[1, 0.123, "x|y"], [None, interval(0.5, 0.25, float("nan")), 2]],
                 "tab:x", "Caption.")
    text = shown[-1][0]["text/markdown"]
    assert text.startswith(":::{table} Caption.\n:name: tab:x\n")
    assert "| 1 | 0.12 | x\\|y |" in text and "| – | 0.50 [0.25, ?] | 2 |" in text


def test_a_verdict_table(opened, shown, capsys):
    assert opened.verdict("C1", "mean at least .6", paper=".82", value=interval(0.9, 0.85, 0.95),
                          null=0.01, baseline=interval(0.2, 0.1, 0.3),
                          **at_least(interval(0.9, 0.85, 0.95), 0.6)) == "reproduced"
    assert opened.verdict("C9", "within 64 | NFE", value=35, point_holds=True) == "partly"
    with pytest.raises(ValueError, match="already has a verdict"):
        opened.verdict("C1", "", value=1, point_holds=True)
    opened.verdict_table("tab:verdicts-toy", "What became of the claims.")
    bundle = shown[-1][0]
    assert bundle["text/markdown"].startswith(":::{table} What became of the claims.\n"
                                              ":name: tab:verdicts-toy\n\n| Claim |")
    row = ("| C1 | mean at least .6 | .82 | 0.90 [0.85, 0.95] | 0.01 | 0.20 [0.10, 0.30] "
           "| ● reproduced |")
    assert row in bundle["text/markdown"] and row in bundle["text/plain"]
    assert r"within 64 \| NFE" in bundle["text/plain"]
    kept = shown[-1][1]["same_noise"]["verdicts"]
    assert kept[0]["null"] == 0.01 and json.dumps(kept, allow_nan=False)
    opened.verdict_words()
    assert capsys.readouterr().out == "C1: reproduced\nC9: partly\n"


def test_provenance_counts_cells(opened, shown, tmp_path, monkeypatch):
    array = {"x": np.zeros(2, np.uint8)}
    key = "ab" * 32
    assert opened.store.once(key, lambda: ({"stage": "toy"}, array)).key == key
    opened.provenance()
    bundle = shown[-1][0]
    assert "cells: 1 computed, 0 read" in bundle["text/plain"]
    assert shown[-1][1]["same_noise"]["run"]["keys"] == [key]
    again = chapter.begin("01_toy", {"seed": 3})
    again.store.once(key, lambda: pytest.fail("computed again"))
    again.provenance()
    assert "cells: 0 computed, 1 read" in shown[-1][0]["text/plain"]
    assert "torch " in shown[-1][0]["text/plain"] and "seed: 3" in shown[-1][0]["text/plain"]
    assert str(tmp_path) not in shown[-1][0]["text/plain"]


def test_where_a_chapter_looks(tmp_path, monkeypatch):
    for name in ("STORE", "RESULTS", "PUBLISH", "PROFILE", "WORKERS"):
        monkeypatch.delenv(f"SAME_NOISE_{name}", raising=False)
    (tmp_path / "book" / "notebooks").mkdir(parents=True)
    (tmp_path / "book" / "notebooks" / "profiles.yml").write_text("")
    monkeypatch.chdir(tmp_path / "book" / "notebooks")
    opened = chapter.begin("01_toy", {})
    assert opened.store.root == tmp_path / "book" / "_store"
    assert opened.store.results == tmp_path / "book" / "results"
    assert not opened.store.publish and opened.profile == "laptop" and opened.workers is None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened = chapter.begin("01_toy", {})
    assert opened.store.root == tmp_path / "cache" / "same-noise" / "store"
    assert opened.store.results is None and opened.root is None
    monkeypatch.setenv("SAME_NOISE_DEVICE", "tpu")
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        chapter.begin("01_toy", {})


def test_parameters_from_globals(opened):
    space = {}
    exec("seed: int = 4\nrate: float = .5\nother = 3", space)
    assert chapter.begin("01_toy", space).parameters == {"seed": 4, "rate": 0.5}
    assert opened.bank().count == 8 and opened.bank(4).count == 4


def test_figures_are_saved_only_where_asked(opened, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.delenv("SAME_NOISE_FIGURES", raising=False)
    assert opened.save_figure(Figure(), "plate") is None
    monkeypatch.setenv("SAME_NOISE_FIGURES", str(tmp_path / "figures"))
    path = opened.save_figure(Figure(), "plate")
    first = path.read_bytes()
    assert path.name == "01_toy_plate.png"
    assert opened.save_figure(Figure(), "plate").read_bytes() == first


SCRIPT = '''# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# (chap:real)=
# # Does a real kernel show it?
#
# It says {glue:text}`score` and {numref}`tab:real`.

# %% tags=["parameters"]
seed: int = 5  # seed

# %% tags=["remove-cell", "nbval-ignore-output"]
from helpers import chapter
from helpers.intervals import Interval
from helpers.verdicts import at_least

c = chapter.begin("01_real", globals())
score = c.record("score", Interval(.8, .7, .9))

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"markdown_format": "myst"}
c.verdict("C1", "at least .6", paper=".82", value=score, null=.01, **at_least(score, .6))
c.verdict_table("tab:real", "Verdicts of the toy.")

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"markdown_format": "myst"}
c.provenance()

# %%
c.verdict_words()
'''

CLAIMS = """
parts:
  - name: same-noise
    title: Claims of the first paper
    claims:
      - {id: C1, chapter: 01_real, text: Models agree., paper: ".82"}
      - {id: C2, chapter: 02_next, text: There are two regimes.}
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A chapter run through a kernel and published in a book of its own."""
    root = tmp_path_factory.mktemp("real")
    (root / "notebooks").mkdir()
    (root / "book").mkdir()
    (root / "notebooks" / "profiles.yml").write_text("quick: {all: {seed: 0}}")
    (root / "notebooks" / "01_real.py").write_text(SCRIPT)
    (root / "book" / "claims.yml").write_text(CLAIMS)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("STORE", "RESULTS", "PUBLISH", "DEVICE"):
            patch.delenv(f"SAME_NOISE_{name}", raising=False)
        patch.chdir(root)
        assert run.main(["run"]) == 0
    return root


def test_the_scoreboard_is_gathered(real):
    found = json.loads((real / "results" / "claims.json").read_text())["chapters"]["01_real"]
    assert found["parameters"] == {"seed": 5} and found["profile"] == "laptop"
    assert found["records"][0]["value"] == 0.8 and found["verdicts"][0]["verdict"] == "reproduced"
    text = (real / "book" / "_generated" / "claims_table.md").read_text()
    assert ("| C1 | Models agree. | {doc}`01 </notebooks/01_real>` | .82 | 0.80 [0.70, 0.90] "
            "| 0.01 | {bdg-success}`● reproduced` |") in text
    assert "| C2 | There are two regimes. | 02 | – | – | – | {bdg-light}`… not yet` |" in text
    assert claims.stale(real, [real / "notebooks" / "01_real.ipynb"]) == []
    (real / "book" / "claims.yml").write_text(CLAIMS.replace("Models agree.", "Models differ."))
    assert len(claims.stale(real, [real / "notebooks" / "01_real.ipynb"])) == 1
    (real / "book" / "claims.yml").write_text(CLAIMS)


def test_measurements_are_one_table(real):
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(real / "results" / "measurements.parquet").to_pylist()
    assert [(row["kind"], row["name"]) for row in rows] == [("record", "score"), ("verdict", "C1")]
    assert rows[0]["value"] == 0.8 and rows[1]["verdict"] == "reproduced"
    assert set(rows[0]) == set(claims.COLUMNS) and rows[1]["null"] == "0.01"


def test_parameters_reach_the_provenance_box(real):
    book = notebooks.read(real / "notebooks" / "01_real.ipynb")
    text = json.dumps(book)
    assert "seed: 5" in text and str(real) not in text
    assert book.metadata.run.source_hash[:16] in text


def test_the_page_builds_with_numbered_table_and_number(real, capsys, monkeypatch):
    pytest.importorskip("jupyter_book")
    (real / "_config.yml").write_text(
        'title: Toy\nonly_build_toc_files: true\nexecute: {execute_notebooks: "off"}\n'
        "parse: {myst_enable_extensions: [colon_fence, dollarmath]}\n"
        "sphinx: {recursive_update: true, config: {numfig: true, suppress_warnings: []}}\n")
    (real / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n"
                                   "  - file: notebooks/01_real\n  - file: book/claims\n")
    (real / "book" / "index.md").write_text("# Toy\n")
    (real / "book" / "claims.md").write_text("# Claims\n\n```{include} _generated/claims_table.md"
                                             "\n```\n")
    monkeypatch.chdir(real)
    assert run.main(["build"]) == 0
    index = capsys.readouterr().out.strip().splitlines()[-1]
    assert index.endswith("_build/html/index.html")
    page = (real / "_build" / "html" / "notebooks" / "01_real.html").read_text()
    assert "0.80 [0.70, 0.90]" in page and "Table 1" in page and "● reproduced" in page
    assert "Provenance" in page
    scores = (real / "_build" / "html" / "book" / "claims.html").read_text()
    assert "● reproduced" in scores and "… not yet" in scores and "sd-badge" in scores


def test_a_readers_book_shows_their_numbers(real, monkeypatch, capsys):
    pytest.importorskip("jupyter_book")
    monkeypatch.chdir(real)
    for name in ("STORE", "RESULTS", "DEVICE"):
        monkeypatch.delenv(f"SAME_NOISE_{name}", raising=False)
    published = (real / "results" / "claims.json").read_bytes()
    assert run.main(["run", "--profile", "quick", "--out", "mine", "--fresh", "--build"]) == 0
    index = capsys.readouterr().out.strip().splitlines()[-1]
    assert index.endswith("mine/book/_build/html/index.html")
    page = real / "mine" / "book" / "_build" / "html"
    assert "quick" in (page / "book" / "claims.html").read_text()
    assert "seed = 0" in (page / "notebooks" / "01_real.html").read_text()
    assert (real / "results" / "claims.json").read_bytes() == published


def test_verdicts_need_no_numerical_package():
    import subprocess

    code = ("import sys; from helpers import verdicts, project, claims; "
            "assert not {'numpy', 'torch'} & set(sys.modules)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
