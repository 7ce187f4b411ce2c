"""A secret rotation learnt back from pairs of noise and picture; relative means; epsilon."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group

from helpers import hiding, noise_games, readers
from helpers.denoiser_groups import Family
from helpers.denoiser_stack import Small
from helpers.hiding import Unrotating, best, epsilon, learnt_rotation, linear_part, play, relative
from helpers.noise import noise
from helpers.noise_games import NoiseGame, Outcome
from helpers.readers import Reader
from helpers.release import Release
from helpers.store import Store

torch.set_num_threads(1)
RECIPE = Small(hidden=(8,), steps=4, batch=8, chunk=4)
VICTIMS = Family(ratio=0.1, n=32, count=4, recipe=RECIPE, side=4)
GAME = NoiseGame(VICTIMS, replace(VICTIMS, party=1), alpha0=0.9, release=Release("rotated"),
                 counts=(5,), noises=60)
FLAT = Reader(((np.ones((16, 2), np.float32), np.zeros(2, np.float32)),
               (np.ones((2, 1), np.float32), np.zeros(1, np.float32))))


def turned(seed, reflected):
    """An orthogonal matrix, of determinant 1 or -1."""
    found = ortho_group.rvs(6, random_state=seed)
    return found * np.where(np.arange(6) == 0, -1 if (np.linalg.det(found) < 0) != reflected else 1,
                            1)


# --- learning a rotation ---------------------------------------------------------------------


@pytest.mark.parametrize("reflected", [False, True])
def test_a_linear_map_gives_its_rotation_away(reflected):
    stream = np.random.default_rng(0)
    secret, linear = turned(1, reflected), stream.normal(size=(6, 9))
    asked = stream.normal(size=(4000, 6))
    pictures = 3.0 + asked @ secret @ linear
    assert np.linalg.det(secret) == pytest.approx(-1 if reflected else 1)
    np.testing.assert_allclose(learnt_rotation(asked, pictures, linear), secret, atol=2e-3)
    grey = 127.5 * pictures + 40  # neither scale nor offset matters
    np.testing.assert_allclose(learnt_rotation(asked, grey, linear), secret, atol=2e-3)


def test_what_is_learnt_is_orthogonal_and_better_with_more_pairs():
    stream = np.random.default_rng(2)
    secret, linear = turned(3, False), stream.normal(size=(6, 6))
    asked = stream.normal(size=(1000, 6))
    pictures = np.tanh(asked @ secret @ linear) + 0.3 * stream.normal(size=(1000, 6))
    straight = linear_part(asked, np.tanh(asked @ linear))
    errors = []
    for m in (2, 30, 1000):
        found = learnt_rotation(asked[:m], pictures[:m], straight)
        np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-9)
        errors.append(np.linalg.norm(found - secret))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.3 < 2 < errors[0]


def test_the_linear_part_is_that_of_least_squares():
    stream = np.random.default_rng(4)
    asked, pictures = stream.normal(size=(5000, 5)), stream.normal(size=(5000, 3))
    wanted = np.linalg.lstsq(np.c_[asked, np.ones(5000)], pictures, rcond=None)[0][:-1]
    np.testing.assert_allclose(linear_part(asked, pictures), wanted, atol=1e-4)


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="3 noises and 4 pictures"):
        learnt_rotation(np.zeros((3, 2)), np.zeros((4, 2)), np.eye(2))
    with pytest.raises(ValueError, match=r"pairs=\(5, 61\) must lie in 2..60"):
        Unrotating(GAME, (5, 61))
    with pytest.raises(ValueError, match="there is a rotation to learn under noise='rotated'"):
        Unrotating(replace(GAME, release=Release()), (5,))
    with pytest.raises(ValueError, match="believed=None"):
        Unrotating(replace(GAME, believed=Release()), (5,))


# --- the attack ------------------------------------------------------------------------------


@pytest.fixture
def linear_models(monkeypatch):
    """Models that draw ``starts @ matrix`` plus a scatter of their own; a matrix for each world.

    Leaves the options and the model numbers of every call.
    """
    stream, told = np.random.default_rng(5), {}
    matrices = {0.9: np.diag(np.linspace(0.02, 0.3, 16)), 0.1: np.diag(np.linspace(0.3, 0.02, 16))}

    class Models:
        def __init__(self, family, numbers):
            self.family, self.numbers = family, np.asarray(numbers)

        def take(self, at):
            return Models(self.family, self.numbers[at])

    def draw(models, family, starts, device="cpu", **options):
        told.setdefault("calls", []).append((options, models.numbers.tolist()))
        starts = np.broadcast_to(starts, (len(models.numbers), *starts.shape[-2:]))
        return (starts @ matrices[family.ratio].astype(np.float32)).astype(np.float32)

    def samples(family, kind, count, store, device="cpu"):
        bank = noise(range(count), (1, 4, 4)).reshape(count, -1)
        starts = np.stack([bank @ ortho_group.rvs(16, random_state=np.random.default_rng(
            [family.party, round(family.ratio * 10), i])) if kind.noise == "rotated" else bank
            for i in family.numbers])
        found = draw(Models(family, family.numbers), family, starts)
        found = found + 0.01 * stream.normal(size=found.shape)
        return np.rint((np.clip(found, -1, 1) + 1) * 127.5).astype(np.uint8)

    monkeypatch.setattr(hiding, "fitted", lambda family, *_: (Models(family, family.numbers), {}))
    monkeypatch.setattr(hiding, "samples", samples)
    monkeypatch.setattr(hiding.release, "draw", draw)
    monkeypatch.setattr(readers, "reader", lambda *_, **__: FLAT)
    return told


def test_learnt_rotations_tell_worlds_apart(linear_models, tmp_path):
    game = replace(GAME, release=replace(GAME.release, solver="euler", steps=7))
    record, arrays = hiding._play(Unrotating(game, (20, 60)), Store(tmp_path), "cpu")
    for name in hiding.ATTACKS:
        assert arrays[f"right/{name}"].shape == (2, 2, 4)
        assert arrays[f"right/{name}"][1].all()
    few, many = arrays["distance"]
    assert few.shape == (2, 4) and (many < 0.8 * few).all()  # better learnt
    assert linear_models["calls"][-1][0] == {"solver": "euler", "steps": 7}
    assert record["stage"] == "rotation learnt" and record["cost"]["seconds"] >= 0


def test_where_the_wrong_rotation_is_learnt_nothing_is(linear_models, tmp_path, monkeypatch):
    learnt = hiding._play(Unrotating(GAME, (60,)), Store(tmp_path), "cpu")[1]
    monkeypatch.setattr(hiding, "learnt_rotation", lambda noises, *_: ortho_group.rvs(
        16, random_state=np.random.default_rng(6)))
    blind = hiding._play(Unrotating(GAME, (60,)), Store(tmp_path), "cpu")[1]
    assert blind["distance"].mean() > 1.2 * learnt["distance"].mean()


def test_shadows_that_judge_a_shadow_share_no_record_with_it(linear_models, tmp_path):
    hiding._play(Unrotating(GAME, (60,)), Store(tmp_path), "cpu")
    numbers = [found for options, found in linear_models["calls"] if options]
    assert numbers[:16] == [[0, 1, 2, 3]] * 16  # of either world, for 8 victims
    halves = [[1, 3], [0, 2]]
    assert numbers[16:] == [halves[i % 2] for i in (0, 1, 2, 3) * 2 for _ in (0, 1)]


def test_played_once_and_made_again_from_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "reader", lambda *_, **__: FLAT)
    case, store = Unrotating(GAME, (10, 30)), Store(tmp_path)
    [played] = play([case], store, workers=1)
    assert played.game.counts == (10, 30) and played.game.attacks == hiding.ATTACKS
    assert played.right("paired pixels", 30).shape == (2, 4)
    again = hiding.recompute(played.record["recompute"]["arguments"])
    assert set(again) == set(played.arrays)
    for name, part in again.items():
        np.testing.assert_array_equal(part, played.arrays[name])
    monkeypatch.setattr(hiding, "_play", lambda *_: pytest.fail("played again"))
    [kept] = play([case], store, workers=1)
    np.testing.assert_array_equal(kept.arrays["distance"], played.arrays["distance"])


# --- numbers of the chapter ------------------------------------------------------------------


def test_the_best_attack_is_right_most_often():
    right = {"paired pixels": [[0.5, 0.5], [0.6, 0.4]],
             "likelihood ratio": [[0.9, 0.5], [0.6, 0.4]],
             "shared counting": [[0.5, 0.9], [0.2, 0.4]]}
    game = replace(GAME, victims=replace(VICTIMS, count=2), counts=(5,))
    outcome = Outcome(game, {}, {f"right/{name}": np.array([part], np.float16)
                                 for name, part in right.items()})
    assert best(outcome, list(right), 5) == "likelihood ratio"
    assert best(outcome, ["shared counting", "paired pixels"], 5) in right
    with pytest.raises(ValueError, match="count=6 was not played"):
        best(outcome, list(right), 6)


def test_relative_means_are_paired_over_victims():
    base = np.random.default_rng(7).uniform(1, 9, size=(2, 40))
    found = relative(1.5 * base, base)
    assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    few = relative(base[:, :10] + 1, base)
    assert few.value == pytest.approx((base[:, :10].mean() + 1) / base[:, :10].mean())
    assert few.low < few.value < few.high
    other = relative(np.random.default_rng(8).permutation(base.T).T, base)
    assert other.value == pytest.approx(1) and other.high - other.low > 0.05


def test_epsilon_of_a_full_batch_is_that_of_gaussian_mechanisms():
    """Without sampling: Renyi divergence a T / (2 z^2), converted as Balle et al. (2020) do."""
    z, steps, delta = 5.0, 50, 1e-3
    orders = np.array([1 + x / 10 for x in range(1, 100)] + list(range(12, 64)))
    wanted = min(order * steps / (2 * z**2) - (math.log(delta) + math.log(order)) / (order - 1)
                 + math.log((order - 1) / order) for order in orders)
    recipe = Small(steps=steps, batch=64, dp_noise=z)
    assert epsilon(recipe, 64, delta) == pytest.approx(wanted, rel=1e-6)
    assert epsilon(recipe, 640, delta) < wanted
    assert epsilon(Small(), 640, delta) == math.inf
    with pytest.raises(ValueError, match="got 0 and 0.001"):
        epsilon(recipe, 0, delta)


def test_the_modules_behind_a_measurement_are_listed():
    assert set(noise_games.MODULES) < set(hiding.MODULES) and "helpers.hiding" in hiding.MODULES
