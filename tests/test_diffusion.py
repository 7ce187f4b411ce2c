"""Training: the same bits again, snapshots, averages, stopping, errors, and what is kept."""

import dataclasses

import numpy as np
import pytest
import torch
from small import same, tiny

from helpers import diffusion, laws, networks, objectives
from helpers.diffusion import Cell, cell_key, fit, fitted, held_out_loss, train
from helpers.noise import torch_generator
from helpers.oracles import Empirical
from helpers.store import Store

torch.set_num_threads(1)
DATA = "0" * 64


def clean(cell):
    return laws.load(cell.dataset, cell.size).subset(cell.n, cell.subset_seed, cell.half)


def run(cell, **options):
    return train(cell, torch.from_numpy(clean(cell)), **options)


# --- the same bits ---------------------------------------------------------------------------


def test_same_bits_again():
    for cell in (tiny(), tiny(seed=1, objective="flow", network="mlp-900k")):
        first, second = run(cell), run(cell)
        assert same(first[0], second[0]) and first[1]["losses"] == second[1]["losses"]
    assert not same(run(tiny(seed=1))[0], run(tiny())[0])


def test_does_not_depend_on_the_global_generators():
    torch.manual_seed(1)
    np.random.seed(1)
    first, _ = run(tiny())
    torch.manual_seed(2)
    np.random.seed(2)
    state = torch.random.get_rng_state()
    second, _ = run(tiny())
    assert same(first, second) and torch.equal(state, torch.random.get_rng_state())


def test_a_snapshot_is_the_model_of_a_shorter_run():
    weights, record = run(tiny(snapshots=(2, 5)))
    assert list(weights) == [2, 5, 6] and record["steps_made"] == 6 and not record["stopped"]
    for steps in (2, 5):
        assert same(weights[steps], run(tiny(steps=steps))[0][steps])


# --- what training does ----------------------------------------------------------------------


def test_the_average_has_the_stated_profile(monkeypatch):
    """After T steps the weights of step s count (s^14 - (s - 1)^14) / T^14."""
    live, spied = [], torch._foreach_lerp_

    def spy(average, now, weight):
        live.append([v.clone() for v in now])
        return spied(average, now, weight)

    monkeypatch.setattr(torch, "_foreach_lerp_", spy)
    weights, _ = run(tiny(steps=20))
    s = np.arange(1, 21) / 20
    shares = s**14 - (s - 0.05) ** 14
    assert shares.sum() == pytest.approx(1)
    for i, found in enumerate(weights[20].values()):
        wanted = sum(w * step[i].double() for w, step in zip(shares, live, strict=True))
        assert np.allclose(found, wanted, atol=1e-6)
    half = 20 * 0.5 ** (1 / 14)
    assert 1 - half / 20 == pytest.approx(0.05, abs=0.003)  # half-life, in shares of the run


@pytest.mark.parametrize("warmup, rate", [(1, 1e-3), (10, 1e-3)])
def test_first_step_is_adam_after_linear_warm_up(warmup, rate):
    cell = tiny(steps=1, warmup=warmup, rate=rate)
    weights, _ = run(cell)
    before = networks.build(cell.network, 1, 8, 0).state_dict()
    moves = np.concatenate([np.abs(weights[1][k] - v.numpy()).ravel() for k, v in before.items()])
    assert moves.max() == pytest.approx(rate / warmup, rel=1e-2)  # Adam's first step is the rate


def test_training_lowers_the_held_out_loss(tmp_path):
    cell = tiny(network="mlp-900k", n=256, steps=150, snapshots=(1, 40), batch=32, rate=1e-3)
    model = fitted(cell, clean(cell), DATA, Store(tmp_path))
    images = torch.from_numpy(laws.load("digits8", 8).held_out(64))
    losses = [held_out_loss(model.denoiser(s), images)["loss"] for s in (1, 40, 150)]
    assert losses[0] > 1.3 * losses[1] and losses[1] > 1.05 * losses[2]
    assert model.record["losses"][0] > 1.3 * model.record["losses"][-1]
    assert model.record["parameters"] == 865_344 and model.record["cost"]["seconds"] > 0


@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
def test_every_objective_trains(objective):
    weights, record = run(tiny(objective=objective, steps=30, batch=16))
    assert len(record["losses"]) == 10 and record["losses"][-1] < record["losses"][0]
    assert all(np.isfinite(v).all() for v in weights[30].values())


def test_batches_and_levels():
    """Images are drawn uniformly, and the levels of a batch lie one in each of its equal parts."""
    cell = tiny(batch=8)
    draws = diffusion._batches(cell, 10)
    drawn = torch.cat([next(draws) for _ in range(500)])
    assert (drawn.bincount(minlength=10) / 4000 - 0.1).abs().max() < 0.025
    source = torch_generator("training", 0)
    levels = torch.stack([diffusion._levels(cell, source) for _ in range(200)])
    assert levels.dtype == torch.float32 and 0 < levels.min() and levels.max() < 1
    assert torch.equal((8 * levels).floor().sort(1).values, torch.arange(8.0).expand(200, 8))


# --- stopping and errors ---------------------------------------------------------------------


def test_stop_ends_the_run_at_a_mark_and_sees_the_average():
    asked = {}

    def stop(step, denoiser):
        x = torch.ones(1, 1, 8, 8, dtype=torch.float64)
        asked[step] = denoiser(x, 2.0)
        return step == 4

    cell = tiny(snapshots=(2, 4))
    weights, record = run(cell, stop=stop)
    assert list(weights) == list(asked) == [2, 4]
    assert record["stopped"] and record["steps_made"] == 4
    model = diffusion.Model(cell, 1, weights, record)
    for step, found in asked.items():
        wanted = model.denoiser(step)(torch.ones(1, 1, 8, 8, dtype=torch.float64), 2.0)
        assert torch.equal(found, wanted)
    assert torch.equal(model.denoiser()(torch.ones(1, 1, 8, 8), 1.0),
                       model.denoiser(4)(torch.ones(1, 1, 8, 8), 1.0))
    assert same(weights, {k: v for k, v in run(cell)[0].items() if k <= 4})


def test_a_loss_that_is_not_finite_is_an_error_and_leaves_nothing(tmp_path):
    cell, store = tiny(rate=1e30, warmup=1), Store(tmp_path)
    with pytest.raises(FloatingPointError, match=r"not finite at step 6 of Cell\(.*rate=1e\+30"):
        fitted(cell, clean(cell), DATA, store)
    assert store.keys() == []


def test_bad_cells():
    with pytest.raises(ValueError, match="unknown network 'unet'; known: unet-20k"):
        tiny(network="unet")
    with pytest.raises(ValueError, match="unknown objective 'ddpm'; known: edm"):
        tiny(objective="ddpm")
    for name in ("n", "steps", "batch", "size"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            tiny(**{name: 0})
    for snapshots in ((0,), (7,), (3, 9)):
        with pytest.raises(ValueError, match=r"snapshots must lie in 1..6, got \("):
            tiny(snapshots=snapshots)
    assert tiny(snapshots=(5, 2, 5)).marks == (2, 5, 6)


# --- keys and the store ----------------------------------------------------------------------

OTHER = {"dataset": "fashion16", "size": 16, "n": 65, "half": None, "subset_seed": 1,
         "network": "unet-80k", "objective": "vp", "seed": 1, "steps": 7, "batch": 9,
         "rate": 1e-3, "warmup": 3, "snapshots": (2,), "until_copies": 0.5}


def test_keys_change_with_every_field():
    assert OTHER.keys() == {f.name for f in dataclasses.fields(Cell)}
    keys = {cell_key(tiny(), DATA), cell_key(tiny(), "1" * 64), cell_key(tiny(), DATA, "cuda")}
    keys |= {cell_key(dataclasses.replace(tiny(), **{k: v}), DATA) for k, v in OTHER.items()}
    assert len(keys) == 3 + len(OTHER)
    assert cell_key(tiny(), DATA) == cell_key(Cell(**dataclasses.asdict(tiny())), DATA)


def test_the_store_keeps_weights_and_record(tmp_path, monkeypatch):
    cell, store = tiny(snapshots=(3,)), Store(tmp_path)
    first = fitted(cell, clean(cell), DATA, store)
    monkeypatch.setattr(diffusion, "train", lambda *a, **k: pytest.fail("trained again"))
    second = fitted(cell, clean(cell), DATA, Store(tmp_path))
    assert same(first.weights, second.weights) and first.record == second.record
    assert sorted(second.weights) == [3, 6] and second.channels == 1
    kept = second.record["cell"] | {"snapshots": tuple(second.record["cell"]["snapshots"])}
    assert Cell(**kept) == cell
    assert same(fit([cell], [(clean(cell), DATA)], store)[0].weights, first.weights)


# --- the held-out loss -----------------------------------------------------------------------


def test_held_out_loss_against_its_formula():
    images = torch.from_numpy(laws.load("digits8", 8).held_out(40))
    zero = held_out_loss(lambda x, sigma: torch.zeros_like(x), images, levels=4)
    power = images.double().square().mean().item()
    assert np.allclose(zero["mse"], power, rtol=1e-6)
    u = (torch.arange(4, dtype=torch.float64) + 0.5) / 4
    sigmas = (1.2 * torch.special.ndtri(u) - 1.2).exp().numpy()
    assert np.allclose(zero["sigmas"], sigmas)
    weight = (sigmas**2 + 0.25) / (0.5 * sigmas) ** 2
    assert zero["loss"] == pytest.approx(power * weight.mean())
    noise = held_out_loss(lambda x, sigma: x, images, levels=4)  # D = x leaves sigma * epsilon
    assert np.allclose(np.sqrt(noise["mse"]), sigmas, rtol=0.05)


def test_held_out_loss_is_fixed_and_ranks_denoisers():
    law = laws.load("digits8", 8)
    images = torch.from_numpy(law.held_out(48))
    oracle = Empirical(torch.from_numpy(law.subset(256)))
    first, second = (held_out_loss(oracle, images, 6, batch=b) for b in (48, 7))
    assert np.allclose(first["mse"], second["mse"], rtol=1e-5)
    blank = held_out_loss(lambda x, sigma: torch.zeros_like(x), images, 6)
    own = held_out_loss(oracle, torch.from_numpy(law.subset(48)), 6)
    assert own["loss"] < 0.5 * first["loss"] < 0.5 * blank["loss"]
