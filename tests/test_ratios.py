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
