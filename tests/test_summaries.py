"""Means over games: the sampling unit is the victim, shared between games."""

import numpy as np
import pytest

from helpers.decisions import Judged
from helpers.intervals import wilson
from helpers.leakage import n_leaked
from helpers.summaries import mean_accuracy, mean_auc, mean_gap, mean_leak


def judged(correct, scores=None):
    correct = np.asarray(correct, bool)
    return Judged(np.zeros(correct.shape) if scores is None else scores, {"zero": correct})


def test_one_game_agrees_with_wilson():
    right = np.random.default_rng(0).random((2, 200)) < 0.8
    mine, theirs = mean_accuracy([judged(right)]), wilson(int(right.sum()), right.size)
    assert mine.value == pytest.approx(theirs.value)
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_games_that_share_their_victims_are_no_new_sample():
    right = np.random.default_rng(1).random((2, 100)) < 0.7
    one, same = mean_accuracy([judged(right)]), mean_accuracy([judged(right)] * 10)
    other = mean_accuracy([judged(np.random.default_rng(k).random((2, 100)) < 0.7)
                           for k in range(2, 12)])
    assert (same.low, same.high) == pytest.approx((one.low, one.high))
    assert other.high - other.low < 0.5 * (one.high - one.low)


def test_a_gap_is_paired_by_victim():
    right = np.random.default_rng(3).random((2, 100)) < 0.6
    worse = right & (np.arange(100) % 10 > 0)
    gap = mean_gap([judged(right)], [judged(worse)])
    assert gap.low > 0 and gap.value == pytest.approx(right.mean() - worse.mean())
    flipped = mean_gap([judged(worse)], [judged(right)])
    assert (flipped.value, flipped.low) == pytest.approx((-gap.value, -gap.high))
    none = mean_gap([judged(right)], [judged(right)])
    assert (none.value, none.low, none.high) == (0, 0, 0)


def test_the_mean_leak_is_the_mean_of_the_leaks_and_capped():
    right = np.ones((2, 50), bool)
    right[:, :5] = False
    perfect = np.ones((2, 50), bool)
    found = mean_leak([judged(right), judged(perfect)], [0.3, 0.1])
    assert found.value == pytest.approx((n_leaked(0.9, 0.5, 0.3) + n_leaked(0.99, 0.5, 0.1)) / 2)
    assert found.low < found.value <= found.high
    with pytest.raises(ValueError, match="2 ratios for 1 games"):
        mean_leak([judged(right)], [0.1, 0.3])
    with pytest.raises(ValueError, match="no games"):
        mean_accuracy([])


def test_the_mean_auc():
    apart = np.array([[0.0, 1.0], [2.0, 3.0]])
    assert mean_auc([judged([[1, 1], [1, 1]], apart)]) == 1.0
    assert mean_auc([judged([[1, 1], [1, 1]], apart), judged([[1, 1], [1, 1]], apart[::-1])]) == 0.5
