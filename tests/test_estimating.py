"""Surveys of ratios: from a table to estimates with intervals, through the store."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers import audit, estimating, groups
from helpers.estimating import Data, Group, Survey, Surveyed
from helpers.images import DataError
from helpers.shadow import Recipe
from helpers.store import Store

RECIPE = Recipe(arch="mlp-6", epochs=5, batch=50, rate=1e-2, chunk=16)
GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
EVERY = tuple(estimating.METHODS)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table whose label follows its features in opposite ways for the two groups."""
    stream, count = np.random.default_rng(0), 6000
    group = stream.random(count) < 0.5
    x = stream.normal(size=(count, 3))
    score = np.where(group, 3 * x[:, 0] + x[:, 1], x[:, 1] - 3 * x[:, 0])
    frame = pd.DataFrame(x, columns=list("abc"))
    frame["sex"] = np.where(group, "Female", "Male")
    frame["paid"] = (score + stream.logistic(size=count) > 0).astype(int)
    path = tmp_path_factory.mktemp("table") / "people.csv"
    frame.to_csv(path, index=False)
    return Data(str(path), "sex=Female", "paid", drop=("sex",))


def survey(data, **more) -> Survey:
    return Survey(Group(data, 0, 0.5, 400, 10, RECIPE), Group(data, 1, 0.5, 400, 16, RECIPE),
                  **({"asked": GRID, "grid": GRID, "held": 6, "probes": 200, "level": 0.9} | more))


@pytest.fixture(scope="module")
def played(people, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    return store, estimating.play([survey(people, methods=EVERY)], store, workers=1)[0]


def test_a_strong_signal_is_read(played):
    _, found = played
    for method in ("calibrated", "regression"):
        assert found.error(method).high < 0.5 * found.error("always .5").low
        assert np.all(np.diff([part.value for part in found.spread(method)]) > 0)
    assert found.error("pin").value < found.error("always .5").value
    assert found.error("permuted").low > found.error("always .5").value  # the spread is kept
    assert found.records("regression").low > 4 * found.records("always .5").value


def test_the_released_weights_point_the_wrong_way_and_a_line_puts_them_right(played):
    _, found = played
    slope = {method: np.polyfit(GRID, [part.value for part in found.spread(method)], 1)[0]
             for method in ("as_released", "weighted", "calibrated released")}
    assert slope["as_released"] < 0 < slope["weighted"]
    assert found.gain("weighted", "as_released").high < 0
    assert found.gain("calibrated released", "as_released").high < 0
    assert slope["calibrated released"] > 0.7


def test_shapes_and_intervals(played):
    _, found = played
    parts = found.common("regression").value ** 2 + found.scatter("regression") ** 2
    assert parts == pytest.approx(found.error("regression").value ** 2)
    assert set(found.arrays) == {f"{side}/{name}" for side in ("victims", "peers")
                                 for name in EVERY}
    for name, array in found.arrays.items():
        ends = 1 if name.split("/")[1] in estimating.POINTS else 3
        assert array.shape == (ends, 5, 10 if name.startswith("victims") else 6)
        assert array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
    low, high = found.found("regression")[1:]
    assert (low <= high).all() and 0 < found.width("regression") < 1


def test_intervals_hold_models_of_the_same_pool(played):
    _, found = played
    for method in ("calibrated", "regression", "pin"):  # 30 models: 3.5 standard errors
        assert found.coverage(method, "peers").value > 0.9 - 3.5 * np.sqrt(0.9 * 0.1 / 30)
    assert found.coverage("permuted").value < found.coverage("regression").value
    assert found.coverage("regression", row=[0, 4]).value == found.hits("regression")[[0, 4]].mean()


def test_a_second_time_nothing_is_trained_and_probes_share_classifiers(people, played, monkeypatch):
    store, first = played
    monkeypatch.setattr(groups.shadow, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = estimating.play([survey(people, methods=EVERY)], store, workers=1)[0]
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])
    fewer, coarse = estimating.play([
        survey(people, probes=50, use=8), survey(people, grid=(0.0, 0.5, 1.0), held=0)], store,
        workers=1)
    assert not np.array_equal(fewer.values("regression"), first.values("regression"))
    assert "peers/regression" not in coarse.arrays and coarse.values("weighted").shape == (5, 10)
    assert fewer.record["trained"] == first.record["trained"]


def test_the_record_recomputes_to_the_same_bits(people, played):
    small = survey(people, asked=(0.2, 0.6), grid=(0.0, 1.0), methods=("weighted", "regression"))
    found = estimating.play([small], played[0], workers=1)[0]
    arrays = audit.recompute(found.record)
    assert audit.compare(found.arrays, arrays, found.record["tolerance"])[0] == "same bits"


def test_peers_are_no_shadows_and_probes_are_nobodys_training_records(people, played):
    plain = survey(people)
    source = groups.table(people)
    rows = estimating.probe_rows(plain)
    assert [source.attribute[part].mean() for part in rows] == [0.0, 1.0]
    assert (source.party[np.concatenate(rows)] == 1).all()
    trained = np.concatenate([groups.draws(group).ravel() for group in plain.groups])
    assert not set(np.concatenate(rows)) & set(trained)
    fewer, full = (estimating.play([survey(people, use=use)], played[0], workers=1)[0]
                   for use in (10, 0))  # of 16, 6 are held: both use the first 10
    np.testing.assert_array_equal(fewer.values("regression"), full.values("regression"))


def test_the_ratio_of_the_templates_does_not_count(people):
    plain = survey(people)
    assert plain == replace(plain, victims=replace(plain.victims, ratio=0.1))
    assert [group.ratio for group in plain.groups] == [*GRID, *GRID]
    assert [group.party for group in plain.groups] == [0] * 5 + [1] * 5


def test_statistics_by_hand():
    truth = survey(Data())
    arrays = {"victims/regression": np.full((3, 5, 10), 0.5, np.float32)}
    arrays["victims/regression"][1:] = np.array([0.2, 0.6], np.float32)[:, None, None]
    found = Surveyed(truth, {}, arrays)
    assert found.error("regression").value == pytest.approx(np.sqrt((2 / 4 + 2 / 16) / 5))
    assert found.coverage("regression").value == 0.4  # ratios .25 and .5
    assert found.width("regression") == pytest.approx(0.4)
    assert found.scatter("regression") == 0
    assert found.common("regression").value == found.error("regression").value
    worth = (2 * 3 / 16 + 1 / 4) / (2 / 4 + 2 / 16)
    assert found.records("regression").value == pytest.approx(worth)
    assert found.leak("regression")[1].value == pytest.approx(3)  # .25 * .75 / .0625
    with pytest.raises(ValueError, match="no victims/pin"):
        found.found("pin")
    with pytest.raises(ValueError, match="no interval"):
        found.hits("always .5")


@pytest.mark.parametrize("change, said", [
    (lambda s: replace(s, methods=("weightd",)), "unknown method 'weightd'"),
    (lambda s: replace(s, asked=(0.5, 0.2)), "asked=.*increasing"),
    (lambda s: replace(s, grid=(0.5, 1.2)), "grid=.*0, 1"),
    (lambda s: replace(s, grid=(0.5,), held=0), "two ratios"),
    (lambda s: replace(s, held=12), "at least 5 must be left"),
    (lambda s: replace(s, use=11), "no more can be used"),
    (lambda s: replace(s, level=0.99), "level=0.99 with 10 shadows"),
    (lambda s: replace(s, victims=replace(s.victims, party=1)), "need 0 and 1"),
    (lambda s: replace(s, victims=replace(s.victims, data=replace(s.victims.data, split=1))),
     "label and split"),
    (lambda s: replace(s, victims=replace(s.victims, recipe=Recipe(arch="lr")), methods=("pin",)),
     "one architecture, not of lr and mlp-6")])
def test_bad_surveys(people, change, said):
    with pytest.raises(ValueError, match=said):
        change(survey(people))


def test_a_short_pool_stops_before_any_training(people, tmp_path, monkeypatch):
    monkeypatch.setattr(groups.shadow, "fit", lambda *_, **__: pytest.fail("trained"))
    for greedy in (survey(people, probes=5000), replace(
            survey(people), victims=Group(people, 0, 0.5, 50_000, 2, RECIPE))):
        with pytest.raises(DataError, match="fit"):
            estimating.play([greedy], Store(tmp_path), workers=1)
