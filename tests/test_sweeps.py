"""Sweeps over training size and along training: transitions, onsets and their growth."""

import numpy as np
import pytest

from helpers import sweeps
from helpers.intervals import Interval

SIZES = [16, 32, 64, 128, 256, 512, 1024]


def curve(half, rows=400, sizes=SIZES, seed=0):
    """Indicators whose share rises from 0 to 1 around log2 size `half`."""
    share = 1 / (1 + np.exp(-3 * (np.log2(sizes) - half)))
    return np.random.default_rng(seed).random((rows, 1)) < share


def picture(level, count=6):
    return np.full((count, 8, 8, 1), level, np.uint8)


def test_over_sizes_stacks_judgements_and_ends_with_the_shortest_series():
    hits = sweeps.over_sizes(lambda a, b: a == b, [np.arange(3), np.zeros(3)], [np.arange(3)])
    assert hits.dtype == bool and hits.shape == (3, 1) and hits.all()


def test_shares_are_wilson_intervals_of_the_columns():
    none, half = sweeps.shares(np.array([[False, True], [False, False]]))
    assert (none.value, none.low, half.value) == (0, 0, 0.5)


@pytest.fixture
def sweep():
    """Role a copies its first training image; b too at the first size, then draws something new."""
    def embed(images):
        flat = images.reshape(len(images), -1).astype(np.float32) - 128
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    stream = np.random.default_rng(0)
    train = [stream.integers(0, 256, (n, 8, 8, 1), np.uint8) for n in (2, 3)]
    copied = [np.repeat(images[:1], 6, axis=0) for images in train]
    new = stream.integers(0, 256, (6, 8, 8, 1), np.uint8)
    pictures = {"a": copied, "b": [copied[0], new], "short": copied[:1]}
    return sweeps.Sweep([2, 3], pictures, train, embed, 0.9)


def test_sweep_compares_two_roles_by_both_scores(sweep):
    for score in sweep.SCORES:
        assert sweep.hits("a", "b")[score].mean(axis=0).tolist() == [1, 0]
        assert sweep.hits("a", "short")[score].shape == (6, 1)
        assert [x.value for x in sweep.null("a", "b")[score]] == [1, 0]  # equal pictures, all of a
        assert len(sweep.null("a", "short")[score]) == 1


def test_sweep_finds_copies_novelty_and_the_image_nearest_to_the_noise(sweep):
    found = sweep.novelty(["a", "b"], sweep.pictures["b"][1])
    for name in ("GL", "no copies"):
        assert found[name]["a"].mean(axis=0).tolist() == [0, 0]
        assert found[name]["b"].mean(axis=0).tolist() == [0, 1]
    assert found["like unseen data"]["b"].mean(axis=0).tolist() == [0, 1]
    noise = np.moveaxis(np.repeat(sweep.train[0][:1], 6, axis=0), -1, 1) / 127.5 - 1.0
    for score in sweep.SCORES:
        assert sweep.nearest("a", noise)[score][0].value == 1


def test_dip_gives_images_ends_and_the_lowest_size():
    shares = np.array([0.9, 0.5, 0.1, 0.6])
    hits = np.random.default_rng(0).random((500, 1)) < shares
    found = sweeps.dip(SIZES, hits)
    assert found.location == Interval(64, 64, 64) and found.at == 2
    assert (found.first.value, found.last.value) == (hits[:, 0].mean(), hits[:, 3].mean())
    assert found.depth.value == pytest.approx(found.last.value - found.lowest.value)
    assert found.row() == [found.first, found.lowest, "64 [64, 64]", found.last, found.depth]
    chance = [Interval(x, x, x) for x in (0.5, 0.5, 0.0, 0.0)]
    assert found.kappa(chance) == [2 * found.first.value - 1, found.lowest.value, found.last.value]


def test_dip_of_a_single_size_has_depth_zero():
    found = sweeps.dip(SIZES, np.array([[True], [False]]))
    assert found.location == Interval(16, 16, 16) and found.depth == Interval(0, 0, 0)
    assert found.first == found.last and found.at == 0


def test_text_formats_numbers_and_intervals_and_passes_words():
    assert sweeps.text(Interval(1500, 1000, 2000), ",.0f") == "1,500 [1,000, 2,000]"
    assert sweeps.text("fewer than 16", ",.0f") == "fewer than 16"


def test_transition_finds_half_points_and_their_exponent():
    hits = {"a": curve(5), "b": curve(6, seed=1), "c": curve(7, seed=2)}
    found = sweeps.transition(SIZES, {"a": 2**10, "b": 2**12, "c": 2**14}, hits)
    assert [round(found.half[w].value) for w in "abc"] == [5, 6, 7]
    assert found.exponent.low < 0.5 < found.exponent.high
    assert abs(found.exponent.value - 0.5) < 0.05 and found.power is found.exponent


def test_transition_without_a_crossing_is_censored():
    hits = {"a": curve(5), "b": np.ones((400, len(SIZES)), bool)}
    found = sweeps.transition(SIZES, {"a": 2**10, "b": 2**12}, hits)
    assert found.half["b"].value == -np.inf and np.isnan(found.exponent.value)
    assert sweeps.unlog(found.half["b"], SIZES) == "fewer than 16"
    assert np.isnan(found.at_least)  # the wide one crosses before the grid: no bound
    assert found.power == "not measurable"


def test_transition_bounds_the_exponent_when_the_narrow_width_is_censored():
    hits = {"a": np.ones((400, len(SIZES)), bool), "b": curve(6)}
    found = sweeps.transition(SIZES, {"a": 2**10, "b": 2**12}, hits)
    assert np.isnan(found.exponent.value) and found.at_least == pytest.approx(1, abs=0.1)
    assert found.power == f"at least {found.at_least:.2f}"


def test_unlog_cuts_ends_and_names_what_is_censored():
    assert sweeps.unlog(Interval(5, -np.inf, 6), SIZES) == Interval(32, 16, 64)
    assert sweeps.unlog(Interval(np.inf, 9, np.inf), SIZES) == "more than 1,024"
    assert sweeps.unlog(Interval(np.inf, 9, np.inf), SIZES, say=False).value == 1024
    assert sweeps.unlog(Interval(np.nan, np.nan, np.nan), SIZES) == "not measurable"


@pytest.fixture
def looks():
    """First pictures as of the reference (200), later ones copies of a training image (10)."""
    train = np.concatenate([picture(10, 1), picture(120, 1)])
    return np.stack([picture(200), picture(200), picture(10), picture(10)]), train


def test_watch_sees_agreement_peak_before_copying(looks):
    images, train = looks
    found = sweeps.watch([100, 200, 400, 800], images, train, picture(205))
    assert found.copied.mean(axis=0).tolist() == [0, 0, 1, 1]
    assert found.alike.mean(axis=0).tolist() == [1, 1, 0, 0] and found.best == 0
    assert np.log2(200) < found.onset.value < np.log2(400)
    assert found.lead.low > 0


def test_watch_without_copies_is_censored_and_copies_at_once_are_too(looks):
    images, train = looks
    assert sweeps.watch([100, 200], images[:2], train, picture(205)).onset.value == np.inf
    assert sweeps.watch([100, 200], images[2:], train, picture(205)).onset.value == -np.inf
    assert sweeps.watch([100], images[2:3], train, picture(205)).onset.value == -np.inf


def test_growth_of_the_onset_leaves_censored_runs_out():
    def run(half):
        steps = np.array([64, 128, 256, 512, 1024, 2048])
        copied = curve(half, sizes=steps)
        value = Interval(half, half, half)
        return sweeps.Run(steps, copied, ~copied, value, value, value)

    runs = {16: run(7), 32: run(8), 64: run(9), 128: run(np.inf)}
    found = sweeps.growth(runs)
    assert found.reached == (16, 32, 64) and found.censored == (128,)
    assert found.over_models.value == pytest.approx(1)
    assert found.over_noises.value == pytest.approx(1, abs=0.15)
    assert np.isnan(sweeps.growth({16: run(7)}).over_models.value)


def test_excess_is_a_ratio_of_weighted_losses():
    sigmas = np.geomspace(0.01, 10, 16).tolist()
    best = {"sigmas": sigmas, "mse": [0.1] * 16}
    found = sweeps.excess({"sigmas": sigmas, "mse": [0.12] * 16}, best)
    assert found.value == pytest.approx(1.2) and found.low == pytest.approx(1.2)


def test_clear_ranks_models_by_their_loss():
    sigmas = np.geomspace(0.01, 10, 16).tolist()
    found = {role: {"sigmas": sigmas, "mse": [x / 10] * 16, "loss": x}
             for role, x in (("a", 1.05), ("b", 1.3), ("c", 1.0))}
    worst, passes = sweeps.clear(found, 1.1)
    assert worst.value == pytest.approx(1.3) and passes == {"a": True, "b": False, "c": True}


@pytest.mark.parametrize(("held_out", "own", "word"), [
    (1.05, 1.0, "counts"), (2.0, 0.5, "memorising"), (1.3, 1.25, "undertrained")])
def test_reading(held_out, own, word):
    assert sweeps.reading(held_out, own, 1.0) == word


def test_guarded_names_only_models_above_the_guard():
    def record(held_out, own):
        return {"held_out": {"loss": held_out}, "fitted": {"loss": own}}

    assert sweeps.guarded(record(1.05, 1.0), 1.0) == "1.05"
    assert sweeps.guarded(record(2.6, 1.0), 2.0) == "1.30 m"
