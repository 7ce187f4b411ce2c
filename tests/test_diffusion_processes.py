"""Training in other processes: workers give the same bits, and so does a rerun after a kill."""

import os
import signal

import pytest
import torch
from small import python, same, tiny

from helpers import laws
from helpers.diffusion import cell_key, fit, fitted, train
from helpers.store import Store

torch.set_num_threads(1)
DATA = "0" * 64


def clean(cell):
    return laws.load(cell.dataset, cell.size).subset(cell.n, cell.subset_seed, cell.half)


def test_two_workers_give_the_bits_of_this_process(tmp_path):
    cells = [tiny(), tiny(seed=1, objective="flow", network="mlp-900k")]
    data = [(clean(c), DATA) for c in cells]
    models = fit(cells, data, Store(tmp_path), workers=2)
    for cell, model in zip(cells, models, strict=True):
        weights, record = train(cell, torch.from_numpy(clean(cell)))
        assert same(weights, model.weights) and model.cell == cell
        assert record["losses"] == model.record["losses"]


KILLED = """
import os, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
from test_diffusion_processes import clean
from helpers.diffusion import fitted
from helpers.store import Store
from small import tiny
cell = tiny(steps=4000, snapshots=(2, 4000), network="mlp-900k")

def stop(step, denoiser):
    print(step, flush=True)
    return False

fitted(cell, clean(cell), "0" * 64, Store(Path(sys.argv[1])), stop=stop)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_kill_in_the_middle_of_a_run_then_the_same_bits(tmp_path):
    """The killed process leaves nothing that a rerun could take for a result, nor a lock."""
    process = python(KILLED, tmp_path, os.path.dirname(__file__))
    try:
        assert process.stdout.readline() == "2\n", process.stderr.read()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    store = Store(tmp_path)
    assert store.keys() == []
    long = tiny(steps=4000, snapshots=(2, 4000), network="mlp-900k")
    short = tiny(steps=2, network="mlp-900k")
    assert store.get(cell_key(long, DATA)) is None
    ended = fitted(long, clean(long), DATA, store, stop=lambda step, _: step == 2)
    assert same(ended.weights, {2: train(short, torch.from_numpy(clean(short)))[0][2]})
