"""From evidence to answers: draws of noises, held-out shadows' thresholds, right answers."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from helpers import decisions
from helpers.queries import answers, subsets

NOISES, VICTIMS, SHADOWS = 40, 12, 8
FOLD = np.arange(SHADOWS) % 2


@pytest.fixture
def game():
    """Evidence of victims [2, models, noises] and of held-out shadows; one half reads higher."""
    stream = np.random.default_rng(0)
    victims = np.stack([stream.normal(shift, 1, (VICTIMS, NOISES)) for shift in (-0.1, 0.3)])
    held = tuple(stream.normal(shift, 1, (SHADOWS, NOISES)) + 0.5 * FOLD[:, None]
                 for shift in (-0.1, 0.3))
    return victims, held


def slowly(victims, held, fold, chosen):
    """Right answers [draws, 2, models] and areas [draws] of some sets of noises, one by one."""
    right, area = [], []
    for some in chosen:
        scores = np.array([[np.mean([one[i] for i in some]) for one in side] for side in victims])
        theirs = None if held is None else tuple(
            np.array([np.mean([one[i] for i in some]) for one in side]) for side in held)
        found = decisions.answered(scores, theirs, fold)
        right.append(found.correct["zero" if held is None else "calibrated"])
        area.append(roc_auc_score(np.repeat([0, 1], scores.shape[1]), scores.ravel()))
    return np.array(right), np.array(area)


# --- sets of noises --------------------------------------------------------------------------


def test_sets_are_drawn_without_replacement_and_alike_for_all():
    found = subsets(7, NOISES, 5)
    assert found.shape == (5, 7) and found.dtype.kind == "i"
    assert all(len(set(row)) == 7 for row in found.tolist())
    assert found.min() >= 0 and found.max() < NOISES
    np.testing.assert_array_equal(found, subsets(7, NOISES, 5))
    np.testing.assert_array_equal(found[:3], subsets(7, NOISES, 3))  # whatever the draws
    assert len({tuple(row) for row in found.tolist()}) == 5
    for other in (subsets(7, NOISES, 5, seed=1), subsets(8, NOISES, 5)[:, :7]):
        assert not np.array_equal(other, found)


def test_every_noise_is_as_likely():
    drawn = np.bincount(subsets(10, NOISES, 2000).ravel(), minlength=NOISES)
    assert np.abs(drawn - 500).max() < 4.5 * np.sqrt(2000 * 0.25 * 0.75)


def test_all_noises_are_one_set():
    assert subsets(NOISES, NOISES, 20).tolist() == [list(range(NOISES))]
    assert subsets(1, 1, 3).tolist() == [[0]]


@pytest.mark.parametrize(("count", "draws"), [(0, 3), (-2, 3), (NOISES + 1, 3), (5, 0)])
def test_sets_that_cannot_be(count, draws):
    with pytest.raises(ValueError, match=rf"count={count} must be 1 to {NOISES} \(noises\) and "
                       f"draws={draws} at least 1"):
        subsets(count, NOISES, draws)
    with pytest.raises(ValueError, match=rf"({count},.* must lie in 1..{NOISES}|draws={draws} at)"):
        answers(np.zeros((2, 3, NOISES)), None, None, (count,), draws)


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [FOLD, None])
@pytest.mark.parametrize("zero", [False, True])
def test_answers_are_those_of_every_set(game, fold, zero):
    victims, held = game
    held, counts = None if zero else held, (1, 6, NOISES)
    found = answers(victims, held, fold, counts, 9, seed=3)
    assert found.right.shape == (3, 2, VICTIMS) and found.right.dtype == np.float16
    assert found.area.shape == (3,) and found.area.dtype == np.float32
    for i, count in enumerate(counts):
        right, area = slowly(victims, held, fold, subsets(count, NOISES, 9, 3))
        assert len(right) == (1 if count == NOISES else 9)
        np.testing.assert_allclose(found.right[i], right.mean(0), atol=5e-4)  # float16
        assert found.area[i] == pytest.approx(area.mean(), rel=1e-6)
    assert set(np.unique(found.right[-1])) <= {0, 1}


def test_a_threshold_is_learnt_for_each_half(game):
    """With halves that read differently a common threshold answers otherwise."""
    victims, held = game
    apart, together, none = (answers(victims, *known, (6,), 9) for known in (
        (held, FOLD), (held, None), (None, None)))
    assert not np.array_equal(apart.right, together.right)
    assert not np.array_equal(apart.right, none.right)
    assert apart.area == together.area == none.area


def test_the_zero_rule_needs_no_shadows():
    victims = np.array([[[-1.0, 3.0], [-2.0, -1.0]], [[2.0, -1.0], [0.0, 0.0]]])
    found = answers(victims, None, None, (2,), 4)
    assert found.right[0].tolist() == [[0, 1], [1, 0]]  # zero speaks for world 0
    one = answers(victims, None, None, (1,), 200)
    assert one.right[0, 0].tolist() == pytest.approx([0.5, 1.0], abs=0.12)
    assert one.right[0, 1].tolist() == pytest.approx([0.5, 0.0], abs=0.12)


def test_chosen_noises_are_the_first(game):
    victims, held = game
    victims[:, :, :4] += np.array([-3.0, 3.0])[:, None, None]
    counts = (1, 4, 20, NOISES)
    found = answers(victims, held, FOLD, counts, 9, first=True)
    for i, count in enumerate(counts):
        right, area = slowly(victims, held, FOLD, [np.arange(count)])
        np.testing.assert_array_equal(found.right[i], right[0])
        assert found.area[i] == pytest.approx(area[0])
    assert found.area[1] == 1.0 > answers(victims, held, FOLD, (4,), 50).area[0]
    whole = answers(victims, held, FOLD, (NOISES,), 9)
    np.testing.assert_array_equal(found.right[-1], whole.right[0])
    with pytest.raises(ValueError, match=rf"must lie in 1\.\.{NOISES}"):
        answers(victims, held, FOLD, (NOISES + 1,), 9, first=True)


@pytest.mark.parametrize("count", [1, 10, 100])
def test_more_queries_answer_as_theory_says(count):
    """Unit evidence around -.1 and .1: the mean of m of them is right with Phi(.1 m^.5)."""
    stream = np.random.default_rng(1)
    victims = np.stack([stream.normal(side, 1, (300, 1000)) for side in (-0.1, 0.1)])
    found = answers(victims, None, None, (count,), 8)
    wanted = norm.cdf(0.1 * count**0.5)
    error = np.sqrt(wanted * (1 - wanted) / 600 / 8)  # sets of noises hardly overlap
    assert found.right.mean(dtype=np.float64) == pytest.approx(wanted, abs=4 * error + 5e-4)
    assert found.area[0] == pytest.approx(norm.cdf(0.2 * (count / 2) ** 0.5), abs=0.03)


@pytest.mark.parametrize("counts", [(), (0,), (9,)])
def test_counts_that_cannot_be_asked(counts):
    with pytest.raises(ValueError, match=r"must lie in 1\.\.8"):
        answers(np.zeros((2, 3, 8)), None, None, counts, 2, first=True)
