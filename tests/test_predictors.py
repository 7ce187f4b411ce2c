"""Comparisons along a grid of sizes, on pictures whose distances are known by construction."""

import numpy as np
import pytest

from helpers import predictors
from helpers.intervals import Interval
from helpers.predictors import Pictures

NOISES = 40


def flat(*levels):
    """Grey pictures, uint8 [n, 8, 8, 1], one level each; the levels are repeated in turn."""
    row = np.resize(np.array(levels, dtype=np.uint8), NOISES)
    return np.ascontiguousarray(np.broadcast_to(row[:, None, None, None], (NOISES, 8, 8, 1)))


@pytest.fixture
def pictures():
    return Pictures({("a", 16): flat(100), ("b", 16): flat(110), ("a", 64): flat(100),
                     ("b", 64): flat(110, 160), ("c", 64): flat(0, 50, 100, 150, 200)}, [16, 64], 3)


def test_agreement_and_distances_follow_the_grid(pictures):
    assert [found.value for found in pictures.agree("a", "b")] == [1.0, 0.5]
    assert [found.value for found in pictures.agree("a", "b", [64])] == [0.5]
    assert pictures.hits("a", "b").sum(axis=0).tolist() == [NOISES, NOISES / 2]
    squared = pictures.squared("a", "b")
    assert squared.shape == (NOISES, 2) and set(squared[:, 1]) == {100.0, 3600.0}
    apart = predictors.distances(squared, seed=1)
    assert apart[0] == Interval(10.0, 10.0, 10.0)
    assert apart[1].value == pytest.approx(np.sqrt(1850)) == predictors.rms(squared[:, 1])
    assert 10 < apart[1].low < apart[1].value < apart[1].high < 60


def test_the_null_permutes_the_noises(pictures):
    [kept], [chance] = pictures.agree("c", "c", [64]), pictures.null("c", "c", [64])
    assert kept.value == 1.0 and chance.value < 0.5
    [found] = pictures.null("a", "b", [16], lambda x, y: Interval(*[float((x != y).mean())] * 3))
    assert found.value == 1.0


@pytest.mark.parametrize("later, found", [([-1, 1], 32.0), ([-1, -1], "more than 64"),
                                          ([1, 1], "fewer than 16")])
def test_where_one_curve_overtakes_another(later, found):
    rows = np.tile(np.array(later, dtype=float), (NOISES, 1))
    where = predictors.overtakes([16, 64], rows, np.zeros_like(rows))
    assert (where if isinstance(found, str) else where.value) == found


def test_a_missing_size_is_named(pictures):
    with pytest.raises(KeyError, match="16"):
        pictures.agree("a", "c")


def test_grids_are_sorted_and_bad_ones_named():
    assert predictors.grids(2, a=[64, 16, 64], b=(2, 4)) == [[16, 64], [2, 4]]
    assert predictors.grids(1, only=[8]) == [[8]]
    for least, grid in ((2, [16, 16]), (1, []), (1, [1, 16])):
        with pytest.raises(ValueError, match="n_grid="):
            predictors.grids(least, n_grid=grid)
