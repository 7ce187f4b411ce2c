"""What an adversary knows: pools, correlations, and statistics on games."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import groups, knowledge, tables
from helpers.decisions import Judged
from helpers.groups import Data, Group
from helpers.leakage import n_leaked
from helpers.summaries import mean_leak


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    stream, count = np.random.default_rng(0), 4000
    frame = pd.DataFrame({"x": stream.normal(size=count),
                          "sex": np.where(stream.random(count) < 0.4, "Female", "Male")})
    frame["paid"] = (frame.x + (frame.sex == "Male") + stream.normal(size=count) > 0).astype(int)
    path = tmp_path_factory.mktemp("table") / "people.csv"
    frame.to_csv(path, index=False)
    return Data(str(path), "sex=Female", "paid")


def judged(correct) -> Judged:
    correct = np.asarray(correct, bool)
    return Judged(np.where(correct, 1.0, 0.0), {"zero": correct})


def some(share, count=60, seed=0) -> Judged:
    return judged(np.random.default_rng(seed).random((2, count)) < share)


def test_the_column_of_a_property():
    assert knowledge.property_column(Data("acs_ma", "race")) == "RAC1P"
    assert knowledge.property_column(Data("adult", "race=White")) == "race"
    assert knowledge.property_column(Data("my.csv", "member")) == "member"


def test_phi_is_the_correlation_of_two_columns():
    a, b = np.array([1, 1, 0, 0, 1, 0]), np.array([1, 0, 0, 0, 1, 1])
    both, neither, one, other = 2, 2, 1, 1
    by_hand = (both * neither - one * other) / np.sqrt(3 * 3 * 3 * 3)
    assert knowledge.phi(a, b) == pytest.approx(by_hand)
    assert knowledge.phi(a, 1 - a) == pytest.approx(-1)
    for wrong in (np.ones(6), np.ones(5)):
        with pytest.raises(ValueError, match="column"):
            knowledge.phi(a, wrong)


@pytest.mark.parametrize(("party", "share"), [(0, 1.0), (1, 1.0), (1, 0.3)])
def test_the_largest_size_can_be_drawn_and_one_more_cannot(people, party, share):
    ratios = [0.2, 0.8]
    size = knowledge.largest(people, ratios, party, share)
    of = [Group(people, party, ratio, size, 2, share=share) for ratio in ratios]
    assert [groups.draws(group).shape for group in of] == [(2, size)] * 2
    with pytest.raises(tables.DataError, match="largest size"):
        [groups.draws(replace(group, n=size + 1)) for group in of]


def test_an_adversary_has_about_half_of_its_pool(people):
    source = groups.table(people)
    whole = min(tables.largest(source, source.pool(1), r) for r in (0.3, 0.9))
    assert knowledge.largest(people, [0.3, 0.9], 1) == pytest.approx(whole / 2, rel=0.1)
    assert knowledge.largest(people, [0.3, 0.9], 1, 0.1) == pytest.approx(whole / 20, rel=0.3)


def test_the_first_victims_alone():
    game = some(0.7)
    part = knowledge.first(game, 20)
    assert part.scores.shape == part.correct["zero"].shape == (2, 20)
    np.testing.assert_array_equal(part.correct["zero"], game.correct["zero"][:, :20])


def test_right_answers_about_each_victim():
    found = knowledge.right([judged([[1, 0], [1, 0]]), judged([[1, 1], [0, 0]])])
    np.testing.assert_allclose(found, [0.75, 0.25])


def test_a_gap_of_leaks_is_the_difference_of_the_mean_leaks():
    ratios, better, worse = [0.3, 0.7], [some(0.95, seed=1), some(0.9, seed=2)], [
        some(0.7, seed=3), some(0.6, seed=4)]
    gap = knowledge.leak_gap(better, worse, ratios)
    assert gap.value == pytest.approx(
        mean_leak(better, ratios).value - mean_leak(worse, ratios).value)
    assert 0 < gap.low < gap.value < gap.high
    perfect = [judged(np.ones((2, 60)))] * 2
    capped = knowledge.leak_gap(perfect, worse, ratios).value + mean_leak(worse, ratios).value
    assert capped == pytest.approx(np.mean([n_leaked(1 - 1 / 120, 0.5, r) for r in ratios]))
    with pytest.raises(ValueError, match="first"):
        knowledge.leak_gap(better, [knowledge.first(g, 20) for g in worse], ratios)
    with pytest.raises(ValueError, match="one game a ratio"):
        knowledge.leak_gap(better, worse, [0.3])


def test_noise_alone_has_no_fall_after_its_peak():
    stream = np.random.default_rng(0)
    flat = [(stream.random((100, 12)) < 0.7).astype(float) for _ in range(20)]
    naive = np.mean([v.mean(0).max() - v.mean(0)[-1] for v in flat])
    fair = [knowledge.fall_after_peak(v, seed=k, draws=200) for k, v in enumerate(flat)]
    assert naive > 0.05  # what a look at the curve would say
    assert abs(np.mean([f.value for f in fair])) < 0.02
    assert sum(f.low > 0 for f in fair) <= 3


def test_a_true_fall_is_found_and_a_rising_curve_has_none():
    stream = np.random.default_rng(1)
    curve = np.array([0.5, 0.7, 0.9, 0.8, 0.6])
    found = knowledge.fall_after_peak((stream.random((400, 5)) < curve).astype(float))
    assert found.low < 0.3 < found.high and found.low > 0.2
    rising = knowledge.fall_after_peak((stream.random((400, 5)) < np.sort(curve)).astype(float))
    assert rising.value == pytest.approx(0, abs=0.02)
    with pytest.raises(ValueError, match="four victims"):
        knowledge.fall_after_peak(np.zeros((3, 5)))


def test_the_rank_correlation_is_scipys():
    stream = np.random.default_rng(2)
    x, values = stream.random(12), stream.random((12, 30))
    found = knowledge.rank_correlation(x, values, draws=100)
    assert found.value == pytest.approx(stats.spearmanr(x, values.mean(1)).statistic)
    assert found.low < found.value < found.high
    grows = knowledge.rank_correlation(x, x[:, None] + 0.1 * values, draws=100)
    assert grows.low > 0.5 and grows.value > 0.9
    with pytest.raises(ValueError, match="three rows"):
        knowledge.rank_correlation(x[:2], values[:2])


def test_the_rank_correlation_covers_no_correlation_mostly():
    stream, hits = np.random.default_rng(3), []
    for seed in range(20):
        x = stream.random(20)
        values = stream.random(20)[:, None] + 0.2 * stream.normal(size=(20, 10))
        found = knowledge.rank_correlation(x, values, draws=100, seed=seed)
        hits.append(found.low <= 0 <= found.high)
    assert np.mean(hits) >= 0.8
