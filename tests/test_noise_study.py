"""Accuracies, queries needed, leaks and predictions, against other roads to the same numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

from helpers import intervals, noise_study
from helpers.leakage import n_leaked
from helpers.noise_games import Outcome

COUNTS = (1, 3, 10, 30)


def outcome(chances: dict, victims: int = 40, draws: int = 5, seed: int = 0, again: int = 0):
    """Victims of both worlds who are judged rightly with the given chance at every count."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, of in chances.items():
        chance = np.broadcast_to(np.reshape(of, (-1, 1, 1)), (len(COUNTS), 2, victims))
        arrays[f"right/{name}"] = (rng.binomial(draws, chance) / draws).astype(np.float16)
        if again:
            moved = np.clip(chance + rng.normal(0, 0.1, (again, len(COUNTS), 1, 1)), 0, 1)
            arrays[f"again/{name}"] = np.broadcast_to(
                moved, (again, *chance.shape)).astype(np.float16)
    return Outcome(SimpleNamespace(counts=COUNTS), {}, arrays)


RISING = outcome({"paired": [0.6, 0.8, 0.97, 1.0], "counting": [0.5, 0.55, 0.6, 0.9],
                  "sure": 1.0, "wrong": 0.0})


def test_accuracy_is_the_mean_over_both_worlds_and_its_interval_is_over_victims():
    found = noise_study.accuracy(RISING, "counting", 3)
    units = RISING.arrays["right/counting"][1].astype(float).mean(0)
    plain = intervals.bootstrap(units, draws=4000)
    assert found.value == pytest.approx(units.mean())
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.01)
    assert noise_study.curve(RISING, "counting")[1] == found


def test_without_a_single_error_wilson_stands_in():
    for name, end in (("sure", "low"), ("wrong", "high")):
        found, wilson = (noise_study.accuracy(RISING, name, 1),
                         intervals.wilson(80 if name == "sure" else 0, 80))
        assert found.value == wilson.value and 0 < getattr(found, end) < 1
        assert getattr(found, end) == pytest.approx(getattr(wilson, end))


def test_one_victim_has_no_interval():
    one = outcome({"paired": 0.6, "counting": 0.5}, victims=1, draws=50)
    for found in (noise_study.accuracy(one, "paired", 3), noise_study.needed(one, "paired"),
                  noise_study.gap(one, "paired", "counting", 3)):
        assert np.isnan([found.low, found.high]).all()


def test_the_chance_of_the_shadows_widens_the_interval():
    plain = outcome({"paired": 0.7}, seed=3)
    wide = outcome({"paired": 0.7}, seed=3, again=50)
    narrow, broad = (noise_study.accuracy(one, "paired", 10) for one in (plain, wide))
    assert narrow.value == broad.value
    assert broad.high - broad.low > 1.5 * (narrow.high - narrow.low)
    assert broad.high - broad.low > 2 * 1.9 * 0.1 * 0.8  # the shadows' own scatter, sd 0.1


def test_a_gap_is_paired_over_victims():
    found = noise_study.gap(RISING, "paired", "counting", 10)
    mine, theirs = (RISING.right(name, 10).mean(0) for name in ("paired", "counting"))
    plain = intervals.difference(mine, theirs, draws=4000)
    assert found.value == pytest.approx(mine.mean() - theirs.mean())
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.01)
    same = noise_study.gap(RISING, "paired", "paired", 10)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    other = outcome({"counting": 0.5}, victims=20, seed=1)
    across = noise_study.gap(RISING, "paired", "counting", 10, against=other)
    wanted = mine[:20].mean() - other.right("counting", 10).mean(0).mean()
    assert across.value == pytest.approx(wanted)


def test_what_is_kept_is_a_ratio_of_gains_over_one_half():
    found = noise_study.kept(RISING, RISING, "counting", 10)
    assert (found.value, found.low, found.high) == (1, 1, 1)
    base = outcome({"paired": 0.9}, seed=4)
    some = outcome({"paired": 0.7}, seed=6)
    found = noise_study.kept(some, base, "paired", 10)
    top, bottom = (one.right("paired", 10).mean() - 0.5 for one in (some, base))
    assert found.value == pytest.approx(top / bottom) and found.low < found.value < found.high
    wide = [Outcome(one.game, {}, one.arrays | {"again/paired": more.arrays["again/paired"]})
            for one, more in ((some, outcome({"paired": 0.7}, again=40)),
                              (base, outcome({"paired": 0.9}, again=40)))]
    broad = noise_study.kept(*wide, "paired", 10)
    assert broad.value == found.value and broad.high - broad.low > found.high - found.low
    assert np.isnan(noise_study.kept(some, outcome({"paired": 0.0}), "paired", 10).value)


def test_queries_needed_are_those_of_first_crossing():
    found = noise_study.needed(RISING, "paired")
    units = RISING.arrays["right/paired"].astype(float).mean(1).T

    def statistic(rows):
        return float(np.exp(intervals.first_crossing(np.log(COUNTS), rows.mean(0), 0.95)))

    plain = intervals.bootstrap(units, statistic)
    assert found.value == pytest.approx(plain.value) and 3 < found.value < 10
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))
    assert noise_study.needed(RISING, "sure").value == 1  # reached at once
    never = noise_study.needed(RISING, "counting")
    assert never.value == never.low == never.high == np.inf


def test_a_rival_that_never_arrives_counts_as_the_last():
    found = noise_study.ratio_of_queries(RISING, "paired", "counting")
    assert found.value == pytest.approx(noise_study.needed(RISING, "paired").value / 30)
    assert found.low <= found.value <= found.high
    even = noise_study.ratio_of_queries(RISING, "paired", "paired")
    assert (even.value, even.low, even.high) == (1, 1, 1)


@pytest.mark.parametrize("apart, victims", [(0.5, 12), (1.5, 40), (2.5, 12)])
def test_the_areas_interval_holds_the_true_area(apart, victims):
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(400, 2, victims)) + np.array([0, apart])[:, None]
    areas = (scores[:, 1, :, None] > scores[:, 0, None]).mean((1, 2))
    truth, held, one = norm.cdf(apart / np.sqrt(2)), [], outcome({"paired": 0.5}, victims=victims)
    for area in areas:
        one.arrays["area/paired"] = np.full(len(COUNTS), area)
        found = noise_study.area(one, "paired", 3)
        assert 0 <= found.low <= found.value <= found.high <= 1 and found.high > found.low
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) > 0.92


def test_the_areas_interval_is_blind_at_neither_end():
    one = outcome({"paired": 0.5}, victims=12)
    for area, mirrored in ((1.0, 0.0), (0.9, 0.1)):
        found = []
        for part in (area, mirrored):
            one.arrays["area/paired"] = np.full(len(COUNTS), part)
            found.append(noise_study.area(one, "paired", 3))
        assert found[0].low < area - 0.05 and found[1].high > mirrored + 0.05
    assert found[0].high < 1


def test_queries_needed_know_the_chance_of_the_shadows():
    chances = {"paired": [0.6, 0.8, 0.97, 1.0], "fresh": [0.5, 0.6, 0.8, 0.98]}
    plain, wide = outcome(chances, seed=5), outcome(chances, seed=5, again=40)
    wide.arrays.update(plain.arrays)  # the same answers
    for one in (noise_study.needed, lambda *a: noise_study.ratio_of_queries(*a, "fresh")):
        narrow, broad = one(plain, "paired"), one(wide, "paired")
        assert narrow.value == broad.value
        assert broad.high / broad.low > 1.3 * narrow.high / narrow.low


def test_almost_sure_is_no_surer_than_sure():
    sure, almost = outcome({"paired": 1.0}), outcome({"paired": 1.0})
    almost.arrays["right/paired"][:, 0, 0] = 0.8  # one draw of five against one victim of eighty
    found, whole = (noise_study.accuracy(one, "paired", 3) for one in (almost, sure))
    assert found.value < 1 and found.low <= whole.low


def test_a_leak_is_n_leaked_of_the_accuracy_and_capped_at_one():
    found = noise_study.leak(noise_study.accuracy(RISING, "paired", 3), 40, 0.5, 0.4)
    assert not found.capped and found.value == pytest.approx(
        n_leaked(noise_study.accuracy(RISING, "paired", 3).value, 0.5, 0.4))
    assert found.low <= found.value <= found.high
    sure = noise_study.leak(noise_study.accuracy(RISING, "sure", 3), 40, 0.5, 0.4)
    assert sure.capped and sure.high == np.inf
    assert sure.value == pytest.approx(n_leaked(79 / 80, 0.5, 0.4))


def test_the_ceiling_is_the_best_that_the_counts_themselves_allow():
    rng = np.random.default_rng(0)
    at, drawn = 0.45, 200_000
    zero, one = (rng.binomial(100, ratio, drawn) for ratio in (0.5, at))
    best = max(((zero >= cut).mean() + (one < cut).mean()) / 2 for cut in range(40, 56))
    assert noise_study.ceiling(100, 0.5, at) == pytest.approx(best, abs=0.005)
    assert noise_study.ceiling(100, 0.5, 0.5) == 0.5
    assert noise_study.ceiling(20_000, 0.5, 0.3) == pytest.approx(1)


def test_the_prediction_is_that_of_noises_which_differ_with_the_told_chances():
    rng, queries, floor, delta = np.random.default_rng(1), 60, 0.05, 0.1
    # A noise on which worlds differ votes for the victim's; one on which models of a world differ
    # votes at random.
    kind = rng.random((40_000, queries))
    votes = np.where(kind < delta, 1, np.where(kind < delta + floor, rng.choice(
        [-1, 1], kind.shape), 0)).sum(1)
    z = votes.mean() / votes.std()
    assert noise_study.predicted(0.5, 0.4, queries, 1 - floor) == pytest.approx(
        norm.cdf(z / 2), abs=0.01)
    assert noise_study.predicted(0.5, 0.5, 10, 1.0) == 0.5
    assert noise_study.predicted(0.5, 0.4, 10, 0.9) < noise_study.predicted(0.5, 0.4, 10, 0.99)
