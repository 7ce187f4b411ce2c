"""The ratio by membership: exact where the test's rates are known, unbiased where measured."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from helpers import audit, membership
from helpers.defenses import Defense
from helpers.groups import Data, table
from helpers.images import DataError
from helpers.membership import Membership, corrected, plain, play, rates, thresholds
from helpers.shadow import Recipe
from helpers.store import Store

STREAM = np.random.default_rng(0)


def test_thresholds_are_quantiles_of_those_without_the_record():
    losses = STREAM.random((40, 6))
    members = STREAM.random((40, 6)) < 0.5
    members[:, 5] = True
    found = thresholds(losses, members, 0.2)
    for record in range(5):
        assert found[record] == pytest.approx(np.quantile(losses[~members[:, record], record], 0.2))
    assert found[5] == -np.inf


def test_rates_are_those_of_the_law():
    members = STREAM.random((400, 100)) < 0.5
    group = np.arange(100) % 2
    losses = STREAM.normal(size=members.shape) + np.where(members, 0.0, np.where(group, 3.0, 1.0))
    found = rates(losses, members, group, 0.05)
    wanted = [[norm.cdf(gap + norm.ppf(0.05)), 0.05] for gap in (1, 3)]
    np.testing.assert_allclose(found, wanted, atol=0.02)  # 10,000 decisions a number


@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.5, 0.8])
@pytest.mark.parametrize("kept", [0.05, None])
def test_the_correction_is_exact_for_exact_counts(ratio, kept):
    known, kept = np.array([[0.3, 0.05], [0.2, 0.04]]), kept or min(ratio, 1 - ratio)
    shares = np.array([kept / (1 - ratio), kept / ratio])
    found = known[:, 0] * shares + known[:, 1] * (1 - shares)
    assert corrected(found, known) == pytest.approx(ratio)
    if ratio == 0.1:  # uncorrected, it is drawn to one half
        assert ratio + 0.02 < plain(found) < 0.5
    assert plain(shares) == pytest.approx(ratio)


def test_a_test_that_says_nothing_gives_one_half():
    assert (corrected(np.full((3, 2), 0.05), np.full((2, 2), 0.05)) == 0.5).all()
    assert plain(np.zeros(2)) == 0.5


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Labels that only memory can explain, so that membership shows."""
    stream, count = np.random.default_rng(1), 3000
    frame = pd.DataFrame(stream.normal(size=(count, 20)), columns=[f"x{i}" for i in range(20)])
    frame["sex"] = np.where(stream.random(count) < 0.5, "Female", "Male")
    frame["paid"] = stream.integers(0, 2, count)
    path = tmp_path_factory.mktemp("table") / "noise.csv"
    frame.to_csv(path, index=False)
    recipe = Recipe(arch="mlp-64", epochs=60, batch=20, rate=5e-3, chunk=12)
    return Membership(Data(str(path), "sex=Female", "paid", drop=("sex",)), (0.2, 0.7), 200, 12, 24,
                      known=40, recipe=recipe)


def test_victims_had_all_known_records_and_shadows_half(case):
    source = table(case.data)
    candidates, before = membership._sets(case)
    assert (source.party[candidates] == 0).all() and source.attribute[candidates].sum() == 40
    for ratio, index in before.items():
        assert index.shape == (12, 200) and not source.held_out[index].any()
        np.testing.assert_allclose(source.attribute[index].mean(1), ratio)
        assert all(set(candidates) <= set(rows) and len(set(rows)) == 200 for rows in index)
    for ratio, size in ((0.2, 40), (0.7, 60)):
        for rows in membership._shadow_sets(case, ratio, [0, 1], candidates):
            inside = np.isin(rows, candidates)
            assert len(rows) == 2 * size and source.attribute[rows].sum() == size
            assert inside.sum() == 40 and (source.party[rows[~inside]] == 1).all()
    fixed = replace(case, defense=Defense("fixed", 0.3))
    assert len(membership._shadow_sets(fixed, 0.7, [0], candidates)[0]) == 60


def test_over_fitted_victims_give_their_ratio_away(case, tmp_path, monkeypatch):
    store = Store(tmp_path)
    [found] = play([case], store, workers=1)
    truth = np.array(case.ratios)[:, None]
    error = ((found.corrected - truth) ** 2).mean(1)
    assert (error < [0.02, 0.02]).all() and (error < (0.5 - truth[:, 0]) ** 2).all()
    assert error[0] < ((found.plain - truth) ** 2).mean(1)[0]
    shares = found.arrays["members"].mean(1)
    np.testing.assert_allclose(shares, [[0.25, 1.0], [1.0, 3 / 7]], atol=0.06)
    known = np.array(found.record["rates"])
    np.testing.assert_allclose(known.mean(0), found.record["seen"], atol=0.1)
    assert (known[:, 0] > 0.3).all() and (known[:, 1] < 0.15).all()
    entry, = store.entries()
    again = audit.recompute(found.record)
    assert audit.compare(entry.arrays, again, found.record["tolerance"])[0] == "same bits"
    monkeypatch.setattr(membership, "_play", lambda *_: pytest.fail("played again"))
    np.testing.assert_array_equal(play([case], store, workers=1)[0].plain, found.plain)


@pytest.mark.parametrize(("change", "match"), [
    ({"defense": Defense("over")}, "under or fixed"), ({"ratios": (0.0,)}, "strictly between"),
    ({"known": 41}, "a victim of n=200 has 40"), ({"shadows": 4}, "at least 10"),
    ({"level": 0.7}, "level=0.7"), ({"recipe": Recipe(arch="rf-10")}, "network")])
def test_bad_cases(case, change, match):
    with pytest.raises(ValueError, match=match):
        replace(case, **change)


def test_a_short_pool_stops_before_any_training(case, tmp_path, monkeypatch):
    monkeypatch.setattr(membership.shadow, "fit", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(DataError, match="largest|fit"):
        play([replace(case, n=20_000)], Store(tmp_path), workers=1)
