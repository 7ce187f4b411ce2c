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


def test_transition_finds_half_points_and_their_exponent():
    hits = {"a": curve(5), "b": curve(6, seed=1), "c": curve(7, seed=2)}
    found = sweeps.transition(SIZES, {"a": 2**10, "b": 2**12, "c": 2**14}, hits)
    assert [round(found.half[w].value) for w in "abc"] == [5, 6, 7]
    assert found.exponent.low < 0.5 < found.exponent.high
    assert abs(found.exponent.value - 0.5) < 0.05


def test_transition_without_a_crossing_is_censored():
    hits = {"a": curve(5), "b": np.ones((400, len(SIZES)), bool)}
    found = sweeps.transition(SIZES, {"a": 2**10, "b": 2**12}, hits)
    assert found.half["b"].value == -np.inf and np.isnan(found.exponent.value)
    assert sweeps.unlog(found.half["b"], SIZES) == "fewer than 16"
    assert np.isnan(found.at_least)  # the wide one crosses before the grid: no bound


def test_transition_bounds_the_exponent_when_the_narrow_width_is_censored():
    hits = {"a": np.ones((400, len(SIZES)), bool), "b": curve(6)}
    found = sweeps.transition(SIZES, {"a": 2**10, "b": 2**12}, hits)
    assert np.isnan(found.exponent.value) and found.at_least == pytest.approx(1, abs=0.1)


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


@pytest.mark.parametrize(("held_out", "own", "word"), [
    (1.05, 1.0, "counts"), (2.0, 0.5, "memorising"), (1.3, 1.25, "undertrained")])
def test_reading(held_out, own, word):
    assert sweeps.reading(held_out, own, 1.0) == word
