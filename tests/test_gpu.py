"""What only a CUDA device can show (`pytest -m gpu`): graphs, training, the same bits again."""

import numpy as np
import pytest
import torch
from small import lively, same, tiny

from helpers import laws, maps, objectives
from helpers.diffusion import fitted, held_out_loss, train
from helpers.maps import Closed, Plan, Trial
from helpers.noise import Bank, torch_generator
from helpers.oracles import Empirical
from helpers.sampling import SOLVERS, sample, sample_in_batches
from helpers.store import Store

pytestmark = pytest.mark.gpu
NETWORKS = ("unet-20k", "dit-400k", "mlp-900k")


@pytest.fixture(autouse=True)
def full_precision():
    """No TF32: the book's numbers are float32 on every device."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def epsilon(count=8):
    return torch.randn(count, 1, 8, 8, generator=torch_generator("test/gpu"))


def injected(device, count=8):
    drawn = [torch.randn(count, 1, 8, 8, generator=torch_generator("test/gpu", s)).to(device)
             for s in range(12)]
    return drawn.__getitem__


def denoiser(name, device, objective="edm"):
    return objectives.denoiser(lively(name, scale=0.05).to(device), objective)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_gives_what_the_eager_loop_gives(name, solver):
    model = denoiser(name, "cuda")
    options = {"solver": solver, "steps": 12, "injected": injected("cuda")}
    eager, graph, again = (sample(model, epsilon().cuda(), graph=g, **options)
                           for g in (False, True, True))
    assert graph.is_cuda and graph.dtype == torch.float64
    assert (eager - graph).abs().max() < 1e-4 and torch.equal(graph, again)


@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
def test_a_graph_serves_every_objective_and_any_start(objective):
    model = denoiser("unet-20k", "cuda", objective)
    for start in (epsilon(), -epsilon(), 0.5 * epsilon()):
        eager, graph = (sample(model, start.cuda(), steps=6, graph=g) for g in (False, True))
        assert (eager - graph).abs().max() < 1e-4


def test_batches_through_a_graph():
    model = denoiser("unet-20k", "cuda")
    whole = sample_in_batches(model, epsilon(11).cuda(), 4, steps=6, graph=True)
    part = sample_in_batches(model, epsilon(11)[:5].cuda(), 4, steps=6, graph=True)
    assert not whole.is_cuda and torch.equal(whole[:5], part)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_card_agrees_with_the_processor(name):
    found = [sample(denoiser(name, d), epsilon().to(d), steps=18).cpu() for d in ("cpu", "cuda")]
    assert (found[0] - found[1]).abs().max() < 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_training_gives_the_same_bits_run_to_run(name):
    clean = torch.from_numpy(laws.load("digits8", 8).subset(64))
    cell = tiny(network=name, steps=30, snapshots=(10,))
    first, record = train(cell, clean, "cuda")
    second, _ = train(cell, clean, "cuda")
    assert same(first, second) and list(first) == [10, 30]
    assert record["losses"][-1] < record["losses"][0]


def test_training_follows_the_processor_at_first(tmp_path):
    """Same noise, batches and start: weights differ by rounding alone after a few steps."""
    clean = laws.load("digits8", 8).subset(64)
    cell = tiny(steps=3)
    card, cpu = (fitted(cell, clean, "0" * 64, Store(tmp_path), d) for d in ("cuda", "cpu"))
    assert len(Store(tmp_path).keys()) == 2  # kept apart in the store
    for name, weights in cpu.weights[3].items():
        assert np.allclose(card.weights[3][name], weights, atol=2e-3)
    images = torch.from_numpy(laws.load("digits8", 8).held_out(64))
    losses = [held_out_loss(card.denoiser(device="cuda"), images.cuda())["loss"],
              held_out_loss(cpu.denoiser(), images)["loss"]]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_maps_on_the_card(tmp_path):
    plans = Plan(steps=6, batch=4), Plan("ancestral", 6, injected=0, batch=4)
    trials = [Trial(tiny(), Bank(6), plan) for plan in plans]
    first = maps.run(trials, Store(tmp_path / "a"), device="cuda")
    second = maps.run(trials, Store(tmp_path / "b"), device="cuda")
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.images, b.images) and a.record["device"] == "cuda"


@pytest.mark.parametrize("kind", ["empirical", "gaussian", "patches"])
def test_closed_forms_on_the_card(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "PATCH_SIDES", (3, "whole"))
    trial = Trial(Closed(kind, "digits8", 8, 128), Bank(6), Plan(steps=6, batch=6))
    a, b = (maps.run([trial], Store(tmp_path / d), device=d)[0] for d in ("cpu", "cuda"))
    assert np.abs(a.last.astype(int) - b.last).max() <= 1


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 10.0, 80.0])
def test_the_empirical_denoiser_keeps_its_precision_on_the_card(sigma):
    data = torch.from_numpy(laws.load("digits8", 8).subset(512))
    x = data[:16].double() + sigma * epsilon(16).double()
    found = Empirical(data.cuda())(x.cuda(), sigma).cpu()
    assert (found - Empirical(data)(x, sigma)).abs().max() < 2e-5
