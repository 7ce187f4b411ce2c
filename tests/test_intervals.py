"""Intervals against scipy and statsmodels, their coverage by simulation, and their edge cases."""

import warnings

import numpy as np
import pytest
from scipy import stats

from helpers.intervals import (
    Interval,
    bootstrap,
    bootstrap_pairs,
    calibrate_threshold,
    crossing,
    difference,
    first_crossing,
    fit_slope,
    slope,
    trough,
    trough_depth,
    wilson,
)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (1, 3), (37, 100), (5120, 10000)])
def test_wilson_is_scipys(hits, n):
    ours = wilson(hits, n)
    theirs = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert ours.value == hits / n
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_wilson_by_hand():
    # 8 of 10 at 95 %: centre (8 + z^2/2) / (10 + z^2), z = 1.959964.
    z = 1.959963984540054
    centre = (8 + z**2 / 2) / (10 + z**2)
    half = z * np.sqrt(10 * 0.8 * 0.2 + z**2 / 4) / (10 + z**2)
    assert wilson(8, 10).low == pytest.approx(centre - half)
    assert wilson(8, 10).high == pytest.approx(centre + half)


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses(hits, n):
    with pytest.raises(ValueError, match="successes"):
        wilson(hits, n)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_level_is_a_share(level):
    with pytest.raises(ValueError, match="0.95"):
        wilson(1, 2, level)
    with pytest.raises(ValueError, match="0.95"):
        bootstrap([1.0, 2.0], level=level)


@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_wilson_covers(share, rng):
    hits = rng.binomial(60, share, size=600)
    found = [wilson(int(h), 60) for h in hits]
    covered = np.mean([i.low <= share <= i.high for i in found])
    assert 0.91 < covered < 0.99


def test_bootstrap_is_scipys_in_distribution(rng):
    values = rng.gamma(2.0, size=40)
    ours = bootstrap(values, draws=8000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=8000, method="percentile", rng=rng)
    wide = theirs.confidence_interval
    width = wide.high - wide.low
    assert ours.value == pytest.approx(values.mean())
    assert abs(ours.low - wide.low) < 0.06 * width
    assert abs(ours.high - wide.high) < 0.06 * width


def test_bootstrap_covers(rng):
    covered = 0
    for k in range(150):
        found = bootstrap(rng.normal(3, 2, size=25), draws=300, seed=k)
        covered += found.low <= 3 <= found.high
    assert 0.86 < covered / 150 < 0.985


def test_bootstrap_resamples_rows_not_entries(rng):
    # Two very different models, many noises each: the width must come from the models.
    rows = np.repeat([[0.0], [1.0]], 500, axis=1).reshape(2, 500) + rng.normal(0, 0.01, (2, 500))
    found = bootstrap(rows)
    assert found.low < 0.1 and found.high > 0.9


def test_bootstrap_is_seeded_and_leaves_global_state():
    values = np.arange(12.0) ** 1.7
    before = np.random.get_state()[1].copy()
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)
    assert (np.random.get_state()[1] == before).all()


def test_wider_level_is_wider():
    values = np.arange(30.0)
    narrow, wide = bootstrap(values, level=0.5), bootstrap(values, level=0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_one_unit_has_no_interval():
    found = bootstrap([0.7])
    assert found.value == 0.7 and np.isnan(found.low) and np.isnan(found.high)
    assert not found.above(0) and not found.below(1)


def test_undefined_draws_widen():
    values = np.array([1.0, 1.0, 1.0, np.nan])
    found = bootstrap(values, lambda v: v.mean())
    assert found.low == -np.inf and found.high == np.inf


def test_bootstrap_refuses_nothing():
    with pytest.raises(ValueError, match="at least one row"):
        bootstrap(np.empty((0, 3)))


def test_pairs_mean_and_self_pairs(rng):
    scores = rng.uniform(size=(6, 6))
    scores = (scores + scores.T) / 2
    np.fill_diagonal(scores, 99.0)  # a self-pair that slipped in would show
    found = bootstrap_pairs(scores)
    off = scores[~np.eye(6, dtype=bool)]
    assert found.value == pytest.approx(off.mean())
    assert off.min() <= found.low <= found.value <= found.high <= off.max()


def test_pairs_resample_models(rng):
    # Pair score = product of model effects: pairs of one model move together, so resampling the
    # 66 pairs as if independent gives an interval that is far too narrow.
    effect = rng.uniform(0.5, 1.0, size=12)
    scores = np.outer(effect, effect)
    models = bootstrap_pairs(scores)
    pairs = bootstrap(scores[np.triu_indices(12, 1)])
    assert models.high - models.low > 1.5 * (pairs.high - pairs.low)


def test_pairs_by_brute_force():
    scores = np.array([[9, 0.2, 0.4], [0.2, 9, 0.9], [0.4, 0.9, 9]])
    means = []
    for i in np.ndindex(3, 3, 3):
        seen = [scores[a, b] for k, a in enumerate(i) for b in i[k + 1:] if a != b]
        if seen:
            means.append(np.mean(seen))
    found = bootstrap_pairs(scores, level=0.4)
    assert found.low == pytest.approx(np.quantile(means, 0.3), abs=1e-9)
    assert found.high == pytest.approx(np.quantile(means, 0.7), abs=1e-9)


def test_pairs_skip_nan_and_need_three():
    scores = np.array([[1, 0.5, np.nan], [0.5, 1, 0.7], [np.nan, 0.7, 1]])
    assert bootstrap_pairs(scores).value == pytest.approx(0.6)
    two = bootstrap_pairs(scores[:2, :2])
    assert two.value == 0.5 and np.isnan(two.low)
    with pytest.raises(ValueError, match="at least one pair"):
        bootstrap_pairs(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="m >= 2"):
        bootstrap_pairs(np.ones((1, 1)))


def test_difference_keeps_the_pairing(rng):
    easy = rng.random(500)
    a, b = easy < 0.7, easy < 0.6  # b implies a
    paired = difference(a, b)
    unpaired = difference(a, rng.permutation(b))
    assert paired.value == pytest.approx(a.mean() - b.mean())
    assert paired.above(0)
    assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low)
    assert difference(a, a) == Interval(0, 0, 0)
    with pytest.raises(ValueError, match="same units"):
        difference(a, b[:-1])


def test_first_crossing():
    x = np.array([4.0, 5.0, 6.0, 8.0])
    assert first_crossing(x, [0, 0.2, 0.8, 1], 0.5) == pytest.approx(5.5)
    assert first_crossing(x, [1, 0.8, 0.5, 0], 0.5, "down") == 6
    assert first_crossing(x, [1, 1, 1, 0], 0.25, "down") == pytest.approx(7.5)
    assert first_crossing(x, [0.9, 0.1, 0.1, 0.9], 0.5) == pytest.approx(7)
    assert first_crossing(x, [0, 0.1, 0.2, 0.3], 0.5) == np.inf
    assert first_crossing(x, [0.6, 0.7, 0.8, 0.9], 0.5) == -np.inf
    assert np.isnan(first_crossing(x, [0, np.nan, 0.8, 1], 0.5))
    with pytest.raises(ValueError, match="direction"):
        first_crossing(x, x, 5, "sideways")
    with pytest.raises(ValueError, match="increasing"):
        first_crossing(x[::-1], x, 5)


def test_crossing_covers(rng):
    x = np.arange(4.0, 13.0)
    chance = np.interp(x, [6, 10], [0.0, 1.0])  # crosses one half at 8
    covered = 0
    for k in range(60):
        found = crossing(x, rng.random((80, len(x))) < chance, 0.5, seed=k, draws=200)
        covered += found.low <= 8 <= found.high
    assert covered >= 50


def test_crossing_is_censored(rng):
    x = np.arange(4.0, 9.0)
    low = rng.random((50, 5)) < 0.1
    assert crossing(x, low, 0.5, draws=500) == Interval(np.inf, np.inf, np.inf)
    assert crossing(x, low, 0.5, direction="down") == Interval(-np.inf, -np.inf, -np.inf)
    edge = rng.random((50, 5)) < np.array([0, 0, 0.1, 0.3, 0.55])
    assert crossing(x, edge, 0.5).high == np.inf


def test_trough_finds_the_planted_one(rng):
    x = np.arange(4.0, 15.0)
    chance = 0.1 + np.abs(x - 10) * np.where(x < 10, 0.1, 0.2)  # ends .7 and .9
    found = trough(x, rng.random((800, len(x))) < chance, draws=500)
    assert found.location.value == 10
    assert found.location.low >= 9 and found.location.high <= 11
    for part, truth in ((found.left, 0.6), (found.right, 0.8), (found.depth, 0.6)):
        assert abs(part.value - truth) < 0.06
        assert part.low <= part.value <= part.high
    assert found.depth.value == min(found.left.value, found.right.value)
    assert found.lowest.value == pytest.approx(0.1, abs=0.04)


def test_trough_of_a_monotone_curve_is_zero():
    rows = np.linspace(0, 1, 6) + np.zeros((4, 1))
    assert trough_depth(rows) == 0
    assert trough(np.arange(6), rows).depth == Interval(0, 0, 0)
    with pytest.raises(ValueError, match="units"):
        trough(np.arange(6), rows[0])


def test_trough_depths_compare(rng):
    chance = np.array([0.7, 0.1, 0.8])
    same = rng.random((600, 3)) < np.array([0.7, 0.4, 0.8])
    unequal = rng.random((600, 3)) < chance
    found = difference(unequal, same, trough_depth)
    assert found.above(0.1) and found.value == pytest.approx(0.3, abs=0.08)


def test_slope_of_rows_and_points(rng):
    x = np.arange(5.0)
    rows = 2 * x + rng.normal(0, 0.5, (30, 5))
    found = slope(x, rows)
    assert found.value == pytest.approx(np.polyfit(x, rows.mean(axis=0), 1)[0])
    assert found.low < 2 < found.high and found.high - found.low < 0.4
    points = slope(x, 2 * x + 1)
    assert (points.value, points.low, points.high) == pytest.approx((2, 2, 2))
    assert np.isnan(slope([0, 1], [1, 2]).low)
    assert np.isnan(fit_slope([1, 2], [1, np.inf])) and np.isnan(fit_slope([1, 1], [1, 2]))
    censored = slope(x, [0, 1, 2, 3, np.inf])
    assert np.isnan(censored.value) and censored.high == np.inf
    with pytest.raises(ValueError, match="k >= 2"):
        slope([1], [1])


def test_scaling_exponent_composes(rng):
    # Three widths whose curves cross one half at 6, 7 and 8 octaves, 4x parameters apart.
    x, log2_params = np.arange(4.0, 11.0), [14, 16, 18]
    chance = np.stack([np.clip((x - c) / 4 + 0.5, 0, 1) for c in (6, 7, 8)])
    hits = rng.random((400, 3, 7)) < chance
    found = bootstrap(hits, lambda v: fit_slope(
        log2_params, [first_crossing(x, c, 0.5) for c in v.mean(axis=0)]), draws=300)
    assert found.low < 0.5 < found.high and 0.4 < found.value < 0.6


def test_threshold_separates_and_orients(rng):
    a, b = rng.normal(0, 1, 200), rng.normal(3, 1, 200)
    rule = calibrate_threshold(a, b)
    assert rule.sign == 1 and 1 < rule.threshold < 2
    accuracy = (np.mean(~rule.says_b(a)) + np.mean(rule.says_b(b))) / 2
    assert rule.accuracy == pytest.approx(accuracy)
    turned = calibrate_threshold(b, a)
    assert turned.sign == -1 and turned.accuracy == pytest.approx(rule.accuracy)
    assert np.mean(turned.says_b(a)) > 0.8 > 0.2 > np.mean(turned.says_b(b))


def test_threshold_is_the_best_of_all(rng):
    a, b = rng.integers(0, 8, 15), rng.integers(2, 10, 9)
    best = max(abs(np.mean(a > t) - np.mean(b > t)) for t in np.arange(-0.5, 11))
    rule = calibrate_threshold(a, b)
    assert rule.accuracy == pytest.approx(0.5 + best / 2)
    found = (np.mean(~rule.says_b(a)) + np.mean(rule.says_b(b))) / 2
    assert found == pytest.approx(rule.accuracy)


def test_threshold_balances_unequal_sides():
    rule = calibrate_threshold([0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [1])
    assert rule.accuracy == pytest.approx(0.95) and rule.says_b([1])[0]


def test_threshold_chance_and_errors():
    assert calibrate_threshold([1, 1], [1, 1]).accuracy == 0.5
    with pytest.raises(ValueError, match="finite scores"):
        calibrate_threshold([], [1])
    with pytest.raises(ValueError, match="finite scores"):
        calibrate_threshold([np.nan], [1])


def test_interval_prints():
    assert str(Interval(0.5, 0.25, 1)) == "0.50 [0.25, 1.00]"
    assert f"{Interval(10, 9, 11):.0f}" == "10 [9, 11]"
