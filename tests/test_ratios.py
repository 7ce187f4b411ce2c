"""Estimates of the ratio: accuracy and coverage on victims that no estimate was made from."""

import numpy as np
import pytest

from helpers import ratios
from helpers.attacks import Views, divergence
from helpers.outputs import Logits

GRID = (0.1, 0.3, 0.5, 0.7, 0.9)


def models(ratio, count, seed, spread=0.5, records=40):
    stream = np.random.default_rng((seed, round(100 * ratio)))
    base, slope = np.sin(np.arange(2 * records)), np.linspace(-2, 2, 2 * records)
    values = base + (ratio - 0.5) * slope + spread * stream.normal(size=(count, 2 * records))
    return Views(*(Logits(part).probabilities() for part in np.split(values, 2, axis=1)))


@pytest.fixture(scope="module")
def shadows():
    return {ratio: models(ratio, 20, 1) for ratio in GRID}


def test_profile_is_the_mean_divergence(shadows):
    victims = models(0.3, 3, 7)
    found = ratios.profile(victims, shadows)
    assert found.shape == (3, 5)
    wanted = [(divergence(shadows[0.3].zero, victims.zero).mean(0)[v]
               + divergence(shadows[0.3].one, victims.one).mean(0)[v]) / 2 for v in range(3)]
    np.testing.assert_allclose(found[:, 1], wanted)


def test_weights_favour_the_nearest(shadows):
    found = np.array([[1.0, 4.0], [4.0, 1.0]])
    np.testing.assert_allclose(ratios.weighted(found, (0.2, 0.6)), [0.28, 0.52])
    np.testing.assert_allclose(ratios.weighted(found, (0.2, 0.6), as_released=True), [0.52, 0.28])
    np.testing.assert_allclose(ratios.weighted(found, (0.6, 0.2)), [0.28, 0.52])


def test_the_released_weights_point_the_wrong_way(shadows):
    low, high = (ratios.profile(models(ratio, 10, 8), shadows) for ratio in (0.1, 0.9))
    right = [ratios.weighted(part, GRID).mean() for part in (low, high)]
    wrong = [ratios.weighted(part, GRID, as_released=True).mean() for part in (low, high)]
    assert right[0] < right[1] and wrong[0] > wrong[1]


def test_regression_beats_a_constant_and_its_intervals_hold(shadows):
    hits, errors, widths = [], [], []
    for ratio in (0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9):  # some between the shadows' ratios
        found = ratios.regression(models(ratio, 40, 9), shadows, level=0.9)
        hits += list((found.low <= ratio) & (ratio <= found.high))
        errors += list(found.value - ratio)
        widths += list(found.high - found.low)
        assert ((found.low <= found.value) & (found.value <= found.high)).mean() > 0.9
    assert np.mean(np.square(errors)) < 0.2 * np.var([0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9])
    assert np.mean(hits) > 0.9 - 3 * np.sqrt(0.9 * 0.1 / len(hits))
    assert np.median(widths) < 0.6  # not by being wide


def test_outputs_that_say_nothing_give_the_whole_range():
    blind = {ratio: models(0.5, 20, 2 + round(10 * ratio)) for ratio in GRID}
    found = ratios.regression(models(0.5, 10, 99), blind, level=0.9)
    assert (found.high - found.low > 0.6).all()
    assert np.abs(found.value - 0.5).max() < 0.3


def test_lines_put_either_weighting_right(shadows):
    truth = np.repeat((0.1, 0.3, 0.5, 0.7, 0.9), 40)
    victims = [models(ratio, 40, 9) for ratio in GRID]
    for released in (False, True):
        found = [ratios.calibrated(part, shadows, as_released=released) for part in victims]
        value = np.concatenate([part.value for part in found])
        raw = np.concatenate([ratios.weighted(ratios.profile(part, shadows), GRID,
                                              as_released=released) for part in victims])
        assert np.mean((value - truth) ** 2) < 0.6 * np.mean((raw - truth) ** 2)
        assert np.corrcoef(value, truth)[0, 1] > 0.7


def test_lines_keep_their_promise_on_average_over_shadows():
    hits = []
    for k in range(4):
        drawn = {ratio: models(ratio, 20, 100 + k) for ratio in GRID}
        for ratio in GRID:
            found = ratios.calibrated(models(ratio, 40, 500 + k), drawn, level=0.9)
            hits += list((found.low <= ratio) & (ratio <= found.high))
    # of one set of 100 shadows the coverage spreads by .03, of 200 victims by .02
    assert np.mean(hits) == pytest.approx(0.9, abs=3.5 * np.hypot(0.03, 0.021) / 2)


def test_crossed_profiles_leave_out_the_shadows_own_fold(shadows):
    own = ratios.crossed(shadows, seed=2)
    assert own.profiles.shape == (100, 5) and np.bincount(own.folds).tolist() == [20] * 5
    again = ratios.regression(models(0.4, 3, 5), shadows, seed=2)
    given = ratios.regression(models(0.4, 3, 5), shadows, seed=2, own=own)
    for a, b in zip(again, given, strict=True):
        np.testing.assert_array_equal(a, b)
    # a shadow is nearer to itself than to others: with its own fold its profile would be smaller
    whole = ratios.profile(shadows[0.5], shadows)[:, 2].mean()
    assert own.profiles[own.ratios == 0.5, 2].mean() > whole


def test_split_conformal_covers_as_promised():
    stream, hits = np.random.default_rng(4), []
    for _ in range(300):
        held, said = stream.normal(0.5, 0.1, 39), stream.normal(0.5, 0.1, 20)
        found = ratios.split_conformal(said, held, np.full(39, 0.5), level=0.9)
        hits.append(np.mean((found.low <= 0.5) & (found.high >= 0.5)))
    # exactly 36 / 40 on average for exchangeable errors; the spread is that of the held-out sets
    assert np.mean(hits) == pytest.approx(0.9, abs=4 * np.std(hits) / np.sqrt(300))
    half = np.sort(np.abs(held - 0.5))[35]
    np.testing.assert_allclose(found.high - found.value, half)
    cut = ratios.split_conformal([1.2, -0.3], held, np.full(39, 0.5), level=0.9)
    assert cut.value.tolist() == [1.0, 0.0] and cut.high.max() <= 1 and cut.low.min() >= 0
    with pytest.raises(ValueError, match="level 0.95 with 10 shadows"):
        ratios.split_conformal([0.5], held[:10], np.full(10, 0.5))


def test_same_seed_same_bits(shadows):
    victims = models(0.4, 3, 5)
    first, second = (ratios.regression(victims, shadows) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change, said", [
    (lambda s: ({0.1: s[0.1]}, 0.95), "two ratios"),
    (lambda s: ({r: v.take([0, 1]) for r, v in s.items()}, 0.95), "5 shadows of each"),
    (lambda s: ({}, 0.95), "0 ratios"),
    (lambda s: ({0.1: s[0.1].take(range(5)), 0.9: s[0.9].take(range(5))}, 0.95), "at least"),
    (lambda s: (s, 1.0), "need a level")])
def test_bad_input(shadows, change, said):
    given, level = change(shadows)
    with pytest.raises(ValueError, match=said):
        ratios.regression(models(0.5, 2, 1), given, level=level)
