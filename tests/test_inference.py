"""Games of distribution inference: from a table to answers, through the store."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers import audit, costs, groups, inference
from helpers.defenses import Defense
from helpers.images import DataError
from helpers.inference import Data, Game, Group
from helpers.shadow import Recipe
from helpers.store import Store

RECIPE = Recipe(arch="mlp-8", epochs=6, batch=50, rate=1e-2, chunk=8)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table whose label follows its features in another way for the two groups."""
    stream, count = np.random.default_rng(0), 6000
    group = stream.random(count) < 0.5
    x = stream.normal(size=(count, 4)) + 0.5 * group[:, None]
    score = np.where(group, 2 * x[:, 0] - x[:, 1], x[:, 0] + 2 * x[:, 1])
    frame = pd.DataFrame(x, columns=list("abcd"))
    frame["sex"] = np.where(group, "Female", "Male")
    frame["paid"] = (score + stream.logistic(size=count) > 0).astype(int)
    path = tmp_path_factory.mktemp("table") / "people.csv"
    frame.to_csv(path, index=False)
    return Data(str(path), "sex=Female", "paid", drop=("sex",))


def game(data, ratio=0.9, victims=12, shadows=10, **more) -> Game:
    return Game(Group(data, 0, ratio, 400, victims, RECIPE),
                Group(data, 1, ratio, 400, shadows, RECIPE),
                **({"probes": 200, "attacks": ("loss", "kl", "kl labels")} | more))


@pytest.fixture(scope="module")
def played(people, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    return store, inference.play([game(people)], store, workers=1)[0]


def test_far_worlds_are_told_apart(played):
    _, found = played
    assert found.found["kl"].accuracy().low > 0.6
    assert set(found.found["kl"].correct) == {"zero", "calibrated", "batch"}
    assert 0.6 < min(found.record["utility"]) < 1.0


def test_equal_worlds_are_a_coin(people, played):
    null = inference.play([game(people, ratio=0.5, victims=60)], played[0], workers=1)[0]
    found = null.found["kl"]
    assert not np.isin(found.scores[0], found.scores[1]).any()  # other models in the other world
    for rule in found.correct:
        assert found.accuracy(rule).value == pytest.approx(0.5, abs=0.16)  # 3.5 standard errors


def test_a_second_time_nothing_is_trained(people, played, monkeypatch):
    store, first = played
    monkeypatch.setattr(inference.shadow, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = inference.play([game(people)], store, workers=1)[0]
    np.testing.assert_array_equal(again.found["kl"].scores, first.found["kl"].scores)
    other = inference.play([game(people, probes=100)], store, workers=1)[0]  # same classifiers
    assert not np.array_equal(other.found["kl"].scores, first.found["kl"].scores)


def test_the_record_recomputes_to_the_same_bits(played):
    store, found = played
    record = found.record
    arrays = audit.recompute(record)
    entry, = [e for e in store.entries() if e.record.get("stage") == "game"
              and e.record["recompute"] == record["recompute"]]
    assert audit.compare(entry.arrays, arrays, record["tolerance"])[0] == "same bits"


def test_models_draw_their_own_records_whatever_the_count(people):
    few, many = (groups.draws(Group(people, 0, 0.3, 50, count, RECIPE)) for count in (2, 5))
    np.testing.assert_array_equal(few, many[:2])
    assert len({tuple(sorted(row)) for row in many}) == 5
    source = groups.table(people)
    assert (source.attribute[many].mean(1) == 0.3).all()
    other = groups.draws(Group(people, 1, 0.3, 50, 2, RECIPE))
    assert not set(other.ravel()) & set(many.ravel())


def test_probe_records_are_the_adversarys_and_nobody_trained_on_them(people):
    rows = inference.probe_rows(game(people))
    source = groups.table(people)
    assert (source.party[np.concatenate(rows)] == 1).all()
    trained = np.concatenate([groups.draws(group).ravel() for group in game(people).groups])
    assert not set(np.concatenate(rows)) & set(trained)
    assert [source.attribute[part].mean() for part in rows] == [0.5, 0.9]


def test_white_box_attacks_read_the_weights(people, played):
    more = replace(game(people, victims=8, shadows=24), attacks=("pin", "aga"))
    found = inference.play([more], played[0], workers=1)[0].found
    for name in ("pin", "aga"):
        assert found[name].scores.shape == (2, 8) and np.isfinite(found[name].scores).all()
        assert set(found[name].correct) == {"zero", "calibrated"}
    with pytest.raises(ValueError, match="one architecture, not of mlp-8 and rf-10"):
        replace(more, victims=replace(more.victims, recipe=Recipe(arch="rf-10")))


def test_scikit_learn_victims(people, played):
    forest = Recipe(arch="rf-10")
    mixed = replace(game(people), victims=Group(people, 0, 0.9, 400, 6, forest))
    found = inference.play([mixed], played[0], workers=1)[0].found["kl"]
    assert found.scores.shape == (2, 6) and np.isfinite(found.scores).all()


def test_a_defence_changes_the_records_and_an_impossible_one_stops_first(people, played):
    plain = game(people).victims
    noisy = replace(plain, defense=Defense("label noise", 0.4))
    store, _ = played
    first, second = (groups.fitted(group, store) for group in (plain, noisy))
    assert not np.array_equal(first.weights[6]["0.weight"], second.weights[6]["0.weight"])
    empty = replace(game(people, ratio=1.0), victims=replace(
        plain, ratio=1.0, n=200, defense=Defense("under")), shadows=Group(people, 1, 1.0, 200, 4))
    with pytest.raises(DataError, match="no re-sampling can balance"):
        inference.check([empty])


@pytest.mark.parametrize("change, said", [
    (lambda g: replace(g, attacks=("kll",)), "unknown attack 'kll'"),
    (lambda g: replace(g, alpha0=1.2), "lies in"),
    (lambda g: replace(g, victims=replace(g.victims, ratio=0.8)), "split and ratio"),
    (lambda g: replace(g, victims=replace(g.victims, data=replace(g.victims.data, label="b"))),
     "one table, property, label"),
    (lambda g: replace(g, victims=replace(g.victims, count=0)), "at least 1"),
    (lambda g: replace(g, victims=replace(g.victims, party=2)), "0 .victim. or 1")])
def test_bad_games(people, change, said):
    with pytest.raises(ValueError, match=said):
        change(game(people))


def test_a_short_pool_stops_before_any_training(people, tmp_path, monkeypatch):
    monkeypatch.setattr(inference.shadow, "fit", lambda *_, **__: pytest.fail("trained"))
    greedy = replace(game(people), victims=Group(people, 0, 0.9, 50_000, 2, RECIPE))
    with pytest.raises(DataError, match="50,?000|largest|fit"):
        inference.play([greedy], Store(tmp_path), workers=1)


def test_epochs_shadows_and_noisy_copies_are_the_games_own(people, played):
    early = Recipe(**(vars(RECIPE) | {"marks": (1,)}))
    base = game(people, attacks=("kl", "kl labels", "kl neighbours"), copies=25)
    kept = replace(base, victims=replace(base.victims, recipe=early))
    last, first, few = inference.play(
        [kept, replace(kept, marks=(1, 0)), replace(kept, use=(2, 5))], played[0], workers=1)
    assert np.array_equal(last.found["kl"].scores, played[1].found["kl"].scores)
    for other in (first, few):
        assert not np.array_equal(other.found["kl"].scores, last.found["kl"].scores)
    assert first.record["utility"] < last.record["utility"]
    labels, near = (last.found[name].scores for name in ("kl labels", "kl neighbours"))
    assert not np.array_equal(labels, near)
    assert last.found["kl neighbours"].auc().value > 0.8
    assert last.arrays["utility/groups"].shape == (2, 12, 2)
    assert last.arrays["utility/train"].mean() > last.arrays["utility/accuracy"].mean() - 0.02


def test_logits_for_probabilities_is_the_released_mistake(people, played):
    base = game(people)
    mixed = replace(base, shadows=replace(base.shadows, recipe=Recipe(arch="sk-lr")),
                    attacks=("kl", "kl defect"))
    found = inference.play([mixed], played[0], workers=1)[0].found
    assert not np.array_equal(found["kl"].scores, found["kl defect"].scores)
    with pytest.raises(ValueError, match="network victims and scikit-learn shadows"):
        game(people, attacks=("kl defect",))


@pytest.mark.parametrize(("wrong", "match"), [
    ({"use": (5, 9)}, "numbers 0 to 9"), ({"marks": (3, 0)}, "epoch 3 is not kept"),
    ({"jitter": 0.0}, "jitter"), ({"ask": 401}, "hold 400 records")])
def test_what_the_groups_lack_is_refused(people, wrong, match):
    with pytest.raises(ValueError, match=match):
        game(people, **wrong)


def test_a_share_of_the_pool_is_always_the_same_part(people):
    part = Group(people, 1, 0.5, 50, 40, RECIPE, share=0.2)
    seen, more = (np.unique(groups.draws(g)) for g in (part, replace(part, ratio=0.3)))
    size = round(0.2 * len(groups.table(people).pool(1)))
    assert len(np.union1d(seen, more)) <= size < len(groups.table(people).pool(1))
    with pytest.raises(ValueError, match="share"):
        replace(part, share=0.0)


def test_a_group_that_two_games_share_is_counted_once(people, played):
    records = [inference.play([game(people, probes=n)], played[0], workers=1)[0].record
               for n in (200, 100)]
    trained = sum(records[0]["trained"].values())
    assert len(records[0]["trained"]) == 4 and records[0]["trained"] == records[1]["trained"]
    assert costs.seconds(records) == pytest.approx(
        sum(r["cost"]["seconds"] for r in records) - trained)


def test_few_questions_tell_less_and_chosen_ones_more(people, played):
    base = game(people, ratio=0.7, victims=40, attacks=("kl",))
    asked = [replace(base, ask=ask, choose=choose) for ask, choose in (
        (0, False), (400, False), (400, True), (1, False), (10, False), (10, True))]
    found = [part.found["kl"] for part in inference.play(asked, played[0], workers=1)]
    for same in found[1:3]:  # all of them, in whatever order
        assert np.allclose(same.scores, found[0].scores, atol=1e-12)
    assert found[3].auc_value() < found[0].auc_value()
    assert found[4].auc_value() < found[5].auc_value()


def test_even_and_odd_shadows_share_no_record(people):
    drawn = groups.draws(Group(people, 1, 0.5, 100, 9, RECIPE, first=1))
    fold = Group(people, 1, 0.5, 100, 9, RECIPE, first=1).fold
    assert fold.tolist() == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert not np.intersect1d(drawn[fold == 0], drawn[fold == 1]).size
    assert np.intersect1d(drawn[fold == 0][0], drawn[fold == 0][1]).size
    whole = Group(people, 1, 0.5, 100, 9, RECIPE, halves=False)
    assert whole.fold is None and Group(people, 0, 0.5, 100, 9, RECIPE).fold is None
    both = groups.draws(whole)
    assert np.intersect1d(both[0], both[1]).size
    assert game(people, use=(3, 4)).fold.tolist() == [1, 0, 1, 0]
    assert game(people, use=(3, 3)).fold is None  # one of a half is no fold to learn from


def test_shadows_are_judged_by_the_other_half(people, played, monkeypatch):
    seen = []
    plain = inference.judge
    monkeypatch.setattr(inference, "judge", lambda *a, **k:
                        seen.append(k["fold"]) or plain(*a, **k))
    inference._play(game(people), played[0], "cpu")
    assert all(np.array_equal(fold, np.arange(10) % 2) for fold in seen) and seen
