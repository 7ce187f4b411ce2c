"""The benchmarks measure what they say: right baselines, turns, memory, an honest table."""

import importlib
import json
import os
import re
import sys
import time

import numpy as np
import pytest
import torch
from small import tiny

from helpers import bench, bench_closed, bench_measure, bench_sampling, bench_training, laws, run
from helpers.diffusion import Cell, cell_key, fitted
from helpers.intervals import Interval
from helpers.store import Store

torch.set_num_threads(1)
LAW = {"law": "clusters", "shape": [1, 8, 8], "images": 96, "queries": 4}
CELL = tiny(network="mlp-900k", half=0, steps=4)
CALLS: list[str] = []


def sides(case, device):
    """Two sides that note that they were called."""
    return {name: lambda name=name: lambda: CALLS.append(name) for name in ("book", "plain")}


memory = bench_measure.memory


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Leave out the processes that measure memory, except where a test asks for them."""
    monkeypatch.setattr(bench_measure, "memory", lambda *_: {"peak_mb": 200, "extra_mb": 3})
    monkeypatch.setattr(bench_measure, "LEAST", 0.0)
    monkeypatch.setattr(bench_sampling, "TOY", CELL)


# --- measuring -------------------------------------------------------------------------------


def test_sides_are_called_in_turn_and_compared_by_round(monkeypatch):
    asked = []

    def timed(call, device="cpu", number=1):
        call()
        asked.append((CALLS[-1], number))
        slow = 1 + 0.1 * len(asked)  # a machine that slows down all the time
        return {"book": 0.002, "plain": 0.006}[CALLS[-1]] * slow, 0.001

    monkeypatch.setattr(bench_measure, "timed", timed)
    monkeypatch.setattr(bench_measure, "LEAST", 0.01)
    found = bench_measure.compare(sides, {}, "cpu", 5)
    assert found["memory"].keys() == {"book", "plain"}
    assert bench_measure.compare(sides, {}, "cpu", 5, with_memory=False)["memory"] is None
    del asked[12:]
    assert [a[0] for a in asked[:6]] == ["book", "plain", "book", "plain", "plain", "book"]
    assert asked[2:] == [("book", 5), ("plain", 2), ("plain", 2), ("book", 5)] * 2 + [
        ("book", 5), ("plain", 2)]
    value, low, high = found["ratio"]
    assert 2.7 < low <= value <= high < 3.3 and found["rounds"] == 5
    assert found["busy"]  # more wall than processor seconds
    assert found["seconds"]["book"][0] < found["seconds"]["plain"][0]


def test_timing_is_a_mean_over_calls():
    wall, processor = bench_measure.timed(lambda: time.sleep(0.004), number=3)
    assert 0.004 <= wall < 0.1 and processor < wall


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's memory figures")
def test_memory_is_of_one_call_in_its_own_process(monkeypatch, tmp_path):
    (tmp_path / "heavy.py").write_text(
        "import numpy as np\n"
        "def sides(case, device):\n"
        "    def prepare():\n"
        "        kept = np.ones(20 * 2**17)\n"
        "        return lambda: np.ones(case['mb'] * 2**17).sum() + kept[0]\n"
        "    return {'book': prepare}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    heavy = importlib.import_module("heavy")
    small, large = (memory(heavy.sides, {"mb": mb}, "book") for mb in (1, 60))
    assert 55 <= large["extra_mb"] <= 70 and small["extra_mb"] <= 5
    assert large["peak_mb"] - small["peak_mb"] == pytest.approx(59, abs=12)
    with pytest.raises(RuntimeError, match="side 'plain', failed: KeyError"):
        memory(heavy.sides, {"mb": 1}, "plain")


def test_one_thread_is_held_and_given_back():
    before = torch.get_num_threads()
    with bench_measure.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_environment_names_no_folder():
    found = bench_measure.environment()
    assert found["threads"] == 1 and found["torch"] == torch.__version__
    assert not any(text in json.dumps(found) for text in (sys.prefix, os.getcwd()))


def test_rounding_keeps_json_types():
    found = bench_measure.rounded({"a": [np.float64(1.23456789), np.int64(3)], "b": float("nan"),
                                   "c": None, "d": True})
    assert found == {"a": [1.235, 3], "b": None, "c": None, "d": True}
    json.dumps(found)


# --- baselines -------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["random", "clusters", "digits8"])
@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_the_broadcast_denoiser_is_right(law, sigma):
    case = LAW | {"law": law}
    data = bench_closed.images(case)
    assert data.shape == (96, 1, 8, 8) and data.dtype == torch.float32 and data.abs().max() <= 1
    x = bench_closed.queries(case, data, sigma)
    truth = bench_closed.direct(data, x, sigma)
    for piece in (128, 7):
        found = bench_closed.broadcast_denoiser(data, x, sigma, piece)
        assert (found - truth).abs().max() < 2e-4
    made = {name: make()() for name, make in bench_closed.sides(
        case | {"sigma": sigma, "piece": 128}, "cpu").items()}
    assert (made["book"].double() - made["plain"]).abs().max() < 2e-4
    assert max(bench_closed.errors(case, "cpu", (sigma,)).values()) < 2e-4


def test_the_broadcast_similarity_is_right():
    case = {"queries": 5, "references": 40}
    book, plain = (make()() for make in bench_closed.sides(case, "cpu").values())
    assert np.allclose(book, plain, atol=1e-6) and book.shape == (5,) and (np.abs(book) < 1).all()


def test_the_pipeline_draws_the_same_pictures():
    for solver in bench_sampling.SCHEDULERS:
        case = {"solver": solver, "steps": 6, "count": 3, "cell": CELL, "graph": False,
                "store": ""}
        book, plain = (make()() for make in bench_sampling.sides(case, "cpu").values())
        assert book.shape == plain.shape == (3, 8, 8, 1) and plain.dtype == np.float32
        assert np.abs(book - 255 * plain).max() < 0.51


def test_the_plain_loop_trains_the_same_network():
    law = laws.load("digits8", 8)
    images = ((torch.from_numpy(law.subset(64)) + 1) * 127.5).round().to(torch.uint8)
    cell = tiny(steps=3, objective="vp")
    a, b = (bench_training.plain_training(images, cell).state_dict() for _ in range(2))
    assert all(torch.equal(a[k], b[k]) for k in a)
    network, = {c.network for c in bench_training.CELLS}
    assert network == Cell().network == "unet-80k"
    assert all(torch.isfinite(v).all() for v in a.values())


def test_weights_come_from_the_store_when_it_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_sampling, "CELL", tiny(network="mlp-900k", steps=5))
    monkeypatch.setattr(bench_sampling, "SHORT", 2)
    model, text = bench_sampling.network(str(tmp_path))
    assert "no chapter's" in text and model.cell.steps == 2
    store, law = Store(tmp_path), laws.load("digits8", 8)
    for cell in (tiny(network="mlp-900k", steps=3, n=n, seed=s) for n, s in ((32, 0), (64, 1))):
        fitted(cell, law.subset(cell.n, half=0), law.sha256, store)
    model, text = bench_sampling.network(str(tmp_path))
    assert text == "a chapter's: 64 images, 3 steps" and model.cell.seed == 1
    assert store.get(cell_key(model.cell, law.sha256)) is not None
    assert bench_sampling.network(str(tmp_path), CELL)[1] == "trained here for 4 steps"


# --- the solver table ------------------------------------------------------------------------


def solvers(monkeypatch, noises, grids, reference):
    for name, value in (("NOISES", noises), ("GRIDS", grids), ("REFERENCE", reference)):
        monkeypatch.setattr(bench_sampling, f"TOY_{name}", value)
    return bench_sampling.measure_solvers("cpu", 5, "", True)


def test_solvers_reach_the_converged_picture(monkeypatch):
    grids = {"heun": (2, 3, 24), "euler": (2,)}
    found = solvers(monkeypatch, 8, grids, ("heun", 48))
    assert [r["nfe"] for r in found["rows"]] == [3, 5, 47, 2]
    assert found["rows"][2]["agreement"][0] == 1.0 and found["reached"]["heun"] is not None
    assert [bool(r["closed"]) for r in found["rows"]] == [True] * 4
    assert found["rows"][2]["closed"][0] >= found["rows"][0]["closed"][0]
    assert found["cheapest"] in grids and found["weights"] == "trained here for 4 steps"


def test_reached_means_reached_for_good(monkeypatch):
    """A grid that agrees once by luck and fails later has not reached the mark there."""
    shares = iter([.5, 1, .5, 1, 1, .5, .5])
    monkeypatch.setattr(bench_sampling, "SHARP", 0)
    monkeypatch.setattr(bench_sampling, "mae_score",
                        lambda a, b: Interval(next(shares), 0.0, 1.0))
    grids = {"heun": (1, 2, 3, 4, 5), "euler": (1, 2)}
    found = solvers(monkeypatch, 4, grids, ("heun", 2))
    assert found["reached"] == {"heun": 7, "euler": None} and found["cheapest"] == "heun"


# --- the command -----------------------------------------------------------------------------


def quick(path, *more):
    return run.main(["bench", "--quick", "--rounds", "5", "--out", str(path), *more])


def refused(said, arguments, capsys):
    assert run.main(["bench", *map(str, arguments)]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_every_benchmark_at_toy_size(tmp_path, capsys):
    out = tmp_path / "deep" / "bench.json"
    assert quick(out) == 0
    found = json.loads(out.read_text())
    assert found.keys() == {"cpu"} and found["cpu"].keys() == bench.NAMES.keys()
    for name, one in found["cpu"].items():
        assert one["quick"] and one["environment"]["threads"] == 1 and one["minutes"] >= 0
        for row in one["rows"]:
            if name != "solvers":
                assert len(row["ratio"]) == 3 and row["rounds"] == 5
                assert row["seconds"].keys() == row["processor"].keys() == {"book", "plain"}
    text = out.with_suffix(".md").read_text()
    assert text in capsys.readouterr().out and "these numbers mean nothing" in text
    for title in bench.NAMES.values():
        assert f"**{title}** (cpu) [1]" in text
    for row in (r for block in text.split("\n\n") for r in [block.splitlines()]
                if block.startswith("|")):
        assert len({line.count("|") for line in row}) == 1


def test_other_results_stay_and_the_same_one_is_replaced(tmp_path):
    out = tmp_path / "bench.json"
    kept = {"cuda": {"novelty": {"rows": [], "quick": False, "environment": {"card": "X"}}},
            "cpu": {"novelty": {"rows": [], "quick": False, "environment": {"processor": "Y"}}}}
    out.write_text(json.dumps(kept))
    assert quick(out, "--only", "novelty") == 0
    found = json.loads(out.read_text())
    assert found["cuda"] == kept["cuda"] and found["cpu"]["novelty"]["rows"]
    text = out.with_suffix(".md").read_text()
    assert "(cuda) [1]" in text and "(cpu) [2]" in text and "[1] card X." in text


def row(**changes):
    fields = {"case": "a", "ratio": [200.0, 180.0, 210.0], "goal": 150.0, "error": 2e-6,
              "error_goal": 1e-5, "busy": False, "rounds": 7, "memory": None,
              "seconds": {"book": [0.01, 0.01, 0.01], "plain": [2.0, 2.0, 2.0]}}
    return fields | changes


def test_the_table_says_what_was_missed():
    one = {"quick": False, "environment": {"processor": "Z"}, "rows": [
        row(), row(ratio=[100.0, 90.0, 120.0], error=3e-4, busy=True),
        row(memory={"book": {"peak_mb": 1234, "extra_mb": 5},
                    "plain": {"peak_mb": 99, "extra_mb": 1}})]}
    lines = bench.table({"cpu": {"closed": one}}).splitlines()
    assert lines[4] == "| a | 10 ms | 2 s | 200 (180 to 210) | 150 (met) | 2e-06 (met) |  |"
    assert "100 (90 to 120); the machine was busy | 150 (missed) | 0.0003 (missed)" in lines[5]
    assert lines[6].endswith("| 1,234 MB (+5) / 99 MB (+1) |")
    assert "[1] processor Z." in lines
    assert bench.table({}) == bench.EMPTY == bench.table({"cpu": {}})


def test_bad_requests(tmp_path, monkeypatch, capsys):
    for arguments, text in ((["--only", "speed"], "invalid choice: 'speed'"),
                            (["--device", "tpu"], "invalid choice: 'tpu'")):
        with pytest.raises(SystemExit) as caught:
            run.main(["bench", *arguments])
        assert caught.value.code == 2 and text in capsys.readouterr().err
    refused("--rounds 4: a median needs at least 5", ["--rounds", "4"], capsys)
    refused("give --out FILE", ["--quick"], capsys)
    novelty = ["--quick", "--only", "novelty", "--out"]
    (tmp_path / "bad.json").write_text("{")
    refused(r"bad.json is not JSON \(.*\); move it away first", [*novelty, tmp_path / "bad.json"],
            capsys)
    (tmp_path / "file").write_text("")
    refused("cannot write .*file/bench.json", [*novelty, tmp_path / "file" / "bench.json"], capsys)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused("torch finds no CUDA device here",
            ["--quick", "--device", "cuda", "--out", tmp_path / "x.json"], capsys)
    monkeypatch.chdir(tmp_path)
    refused("give --out FILE", [], capsys)


def test_help_reads_like_a_manual(capsys):
    with pytest.raises(SystemExit):
        run.main(["bench", "--help"])
    text = capsys.readouterr().out
    assert all(f"  {name:10}{title}" in text for name, title in bench.NAMES.items())
    assert "exit status" in text and "--quick" in text
