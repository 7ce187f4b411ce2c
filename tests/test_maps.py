"""Maps through the store: computed once, the same again, and no training on a bad request."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import same
from small import tiny as unet

from helpers import diffusion, maps, scores
from helpers.datasets import to_model, to_uint8
from helpers.images import DataError
from helpers.maps import Closed, Plan, Trial
from helpers.noise import Bank
from helpers.oracles import Empirical
from helpers.sampling import sample
from helpers.store import Store, fingerprint

torch.set_num_threads(1)
BANK, PLAN = Bank(6), Plan(steps=4, batch=4)
CLOSED = Closed("empirical", "digits8", 8, 64)


def tiny(**changes):
    """The perceptron trains fastest."""
    return unet(**{"network": "mlp-900k"} | changes)


def trial(model=None, bank=BANK, **plan):
    return Trial(model or tiny(), bank, replace(PLAN, **plan))


def run(trials, root, **options):
    return maps.run(trials, Store(root), workers=1, **options)


def no_training(monkeypatch):
    monkeypatch.setattr(diffusion, "train", lambda *a, **k: pytest.fail("trained"))
    monkeypatch.setattr(maps, "_compute", lambda *a, **k: pytest.fail("computed"))


def test_a_second_call_computes_nothing(tmp_path, monkeypatch):
    trials = [trial(tiny(snapshots=(3,)), raw=True), trial(CLOSED)]
    first = run(trials, tmp_path)
    assert [m.computed for m in first] == [True, True]
    no_training(monkeypatch)
    second = run(trials, tmp_path)
    assert [m.computed for m in second] == [False, False]
    for a, b in zip(first, second, strict=True):
        assert a.images.tobytes() == b.images.tobytes() and a.record == b.record
        assert a.trial == b.trial and a.images.dtype == np.uint8
    network, closed = second
    assert network.images.shape == (2, 6, 8, 8, 1) and closed.images.shape == (1, 6, 8, 8, 1)
    assert network.raw.shape == (6, 1, 8, 8) and network.raw.dtype == np.float16
    assert closed.raw is None and network.record["marks"] == [3, 6]
    assert np.array_equal(network.last, network.images[-1])
    assert np.array_equal(to_uint8(network.raw.astype(np.float32)), network.last) or \
        scores.mae(to_uint8(network.raw.astype(np.float32)), network.last).max() < 1


def test_recompute_gives_the_stored_arrays_bit_for_bit(tmp_path):
    trials = [trial(unet(steps=3, snapshots=(1,)), raw=True), trial(CLOSED, raw=True),
              trial(tiny(), solver="ancestral", injected=3)]
    run(trials, tmp_path)
    store = Store(tmp_path)
    kept = [e for e in store.entries() if e.record.get("stage") == "map"]
    assert len(kept) == 3
    for entry in kept:
        assert entry.record["recompute"]["function"] == "helpers.maps:recompute"
        arguments = json.loads(json.dumps(entry.record["recompute"]["arguments"]))
        assert same(maps.recompute(arguments), entry.arrays)


def test_the_map_is_the_models_own_samples(tmp_path):
    """Weights, bank and solver put together by hand give the same pictures."""
    found = run([trial(), trial(CLOSED)], tmp_path)
    clean, _, sha256 = maps.training_images(tiny())
    model = diffusion.fitted(tiny(), clean, sha256, Store(tmp_path))
    epsilon = torch.from_numpy(BANK.noise((1, 8, 8)))
    denoisers = model.denoiser(), Empirical(torch.from_numpy(clean))
    for one, denoiser in zip(found, denoisers, strict=True):
        drawn = sample(denoiser, epsilon, "heun", 4)
        assert scores.mae(to_uint8(drawn.numpy()), one.last).max() <= 0.1
    outside = (drawn.abs() > 1 + 15 / 127.5).double().mean().item()
    assert found[1].record["off_range"] == pytest.approx(outside)


def test_an_image_depends_on_its_noise_alone(tmp_path):
    """Not on how many noises there are; a bank may start anywhere."""
    cell = tiny()
    whole, part, later = run(
        [trial(cell), trial(cell, Bank(3)), trial(cell, Bank(2, first=4))], tmp_path)
    assert np.array_equal(part.last, whole.last[:3])
    assert np.array_equal(later.last, whole.last[4:])
    other = run([trial(cell, Bank(6, seed=1))], tmp_path)[0]
    assert scores.mae(other.last, whole.last).min() > 0


def test_one_cell_is_trained_once_for_all_plans(tmp_path, monkeypatch):
    run([trial()], tmp_path)
    monkeypatch.setattr(diffusion, "train", lambda *a, **k: pytest.fail("trained again"))
    a, b = run([trial(solver="euler"), trial(steps=5)], tmp_path)
    assert a.computed and b.computed and not np.array_equal(a.last, b.last)


def test_injected_noise_is_shared_between_models_of_one_seed():
    drawn = [maps._injected(s, BANK, (1, 8, 8)) for s in (0, 0, 1)]
    steps = [torch.stack([d(0), d(1)]) for d in drawn]
    assert torch.equal(steps[0], steps[1]) and steps[0].shape == (2, 6, 1, 8, 8)
    for a, b in ((steps[0][0], steps[0][1]), (steps[0], steps[2])):
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 0.2
    assert torch.equal(maps._injected(0, Bank(2, first=4), (1, 8, 8))(1), steps[0][1][4:])


def test_stochastic_maps(tmp_path):
    cell = tiny()
    a, b, other = run([trial(cell, solver="ancestral", injected=0),
                       trial(CLOSED, solver="ancestral", injected=0),
                       trial(CLOSED, solver="ancestral", injected=1)], tmp_path)
    assert not np.array_equal(b.last, other.last) and a.last.shape == b.last.shape
    with pytest.raises(ValueError, match="'ancestral' needs injected="):
        run([trial(CLOSED, solver="ancestral")], tmp_path)


def test_too_few_images_stop_everything_before_training(tmp_path, monkeypatch):
    no_training(monkeypatch)
    for bad in (tiny(n=100_000), Closed("gaussian", "digits8", 8, 900)):
        with pytest.raises(DataError, match="choose n between 1 and"):
            run([trial(), trial(bad)], tmp_path)
    with pytest.raises(DataError):
        run([trial(), trial(tiny(dataset="missing.npz"))], tmp_path)
    assert Store(tmp_path).keys() == []


def test_until_copies_stops_at_the_first_mark_with_enough_of_them(tmp_path, monkeypatch):
    shares = iter([0.1, 0.4, 0.6, 0.9])

    def copies(images, train):
        assert train.shape == (64, 8, 8, 1) and len(images) == 6
        return np.array([next(shares)])

    monkeypatch.setattr(scores, "copies", copies)
    cell = tiny(snapshots=(1, 2, 3, 4), until_copies=0.5)
    found = run([trial(cell)], tmp_path)[0]
    assert found.record["marks"] == [1, 2, 3] and len(found.images) == 3
    assert found.record["stopped"] and found.record["steps_made"] == 3


def test_a_run_that_never_copies_goes_to_its_end(tmp_path):
    found = run([trial(tiny(snapshots=(3,), until_copies=1.1))], tmp_path)[0]
    assert found.record["marks"] == [3, 6] and not found.record["stopped"]


def test_the_copy_rule_sees_real_copies(tmp_path):
    """The empirical map copies, so `copied` would stop for it: the rule and its data agree."""
    found = run([trial(CLOSED, Bank(20), steps=12)], tmp_path)[0]
    train = to_uint8(maps.training_images(CLOSED)[0])
    assert scores.copies(found.last, train).mean() > 0.9


@pytest.mark.parametrize("kind", ["gaussian", "patches", "mixture"])
def test_closed_forms(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(maps, "PATCH_SIDES", (3, "whole"))
    name = "mixture:digits8" if kind == "mixture" else "digits8"
    found = run([trial(Closed(kind, name, 8, 200), Bank(3), steps=12)], tmp_path)[0]
    assert found.images.shape == (1, 3, 8, 8, 1) and found.images.std() > 10
    assert found.record["marks"] == [0] and found.record["off_range"] < 0.2


def test_record(tmp_path):
    network, closed = run([trial(), trial(CLOSED)], tmp_path)
    for one in (network, closed):
        assert one.record["fingerprint"] == fingerprint(maps.modules_of(one.trial))
        assert one.record["stage"] == "map" and one.record["device"] == "cpu"
        assert one.record["cost"]["seconds"] >= 0 and one.record["cost"]["peak_mb"] > 50
        assert str(tmp_path) not in json.dumps(one.record)
    assert "helpers.diffusion" in maps.modules_of(network.trial)
    assert "helpers.diffusion" not in maps.modules_of(closed.trial)
    assert network.record["held_out"]["loss"] > 0 and len(network.record["losses"]) == 6
    assert network.record["parameters"] == 865_344


def test_a_published_map_is_read_without_a_store(tmp_path, monkeypatch):
    """Measurements go to the results, weights do not; a reader needs the former alone."""
    work, results = tmp_path / "work", tmp_path / "results"
    maps.run([trial(), trial(CLOSED)], Store(work, results, publish=True), workers=1)
    published = list(Store(results).entries())
    assert [e.record["stage"] for e in published] == ["map", "map"]
    no_training(monkeypatch)
    found = maps.run([trial(), trial(CLOSED)], Store(tmp_path / "new", results), workers=1)
    assert not any(m.computed for m in found)


def test_longest_first():
    costs = [maps._expected(trial(m)) for m in (
        unet(steps=2000, network="unet-320k"), unet(steps=2000), CLOSED)]
    assert costs == sorted(costs, reverse=True)


def test_images_come_back_as_models_see_them():
    assert np.array_equal(to_uint8(to_model(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1))),
                          np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1))


def test_bad_closed_form():
    with pytest.raises(ValueError, match="unknown closed form 'kernel'"):
        Closed("kernel")
