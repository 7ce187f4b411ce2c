"""Games of shared noise, from pictures to answers through the store."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from helpers import audit, denoiser_groups, denoiser_stack, noise_games, readers, release, utility
from helpers.denoiser_groups import Family, Net, draws, fitted
from helpers.denoiser_stack import Small
from helpers.groups import Data
from helpers.images import DataError
from helpers.noise_games import NoiseGame, play
from helpers.queries import answers
from helpers.release import Release, samples
from helpers.shared_noise import EVIDENCE, evidence
from helpers.store import Store

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("quick_readers")
RECIPE = Small(hidden=(16,), steps=60, batch=8, rate=1e-2, warmup=5, chunk=2)
VICTIMS = Family(ratio=0.1, n=64, count=4, recipe=RECIPE, side=4)
FOLD = np.arange(4) % 2
NAMES = ("fresh nominal", "fresh counting", "fresh MMD", "shared classifier", "paired pixels",
         "paired KL", "chosen ratio", "permuted pixels", "fresh denoising")


def game(**more) -> NoiseGame:
    shadows = replace(VICTIMS, party=1, ratio=more.pop("ratio", 0.1))
    return NoiseGame(replace(VICTIMS, ratio=shadows.ratio), shadows, **({
        "alpha0": 0.9, "attacks": NAMES, "counts": (1, 5, 20), "noises": 20, "draws": 6} | more))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def played(store):
    """A game with everything in it."""
    return play([game(again=2, plate=3, utility=True, attacks=(*NAMES, "likelihood ratio"))],
                store, workers=1)[0]


@pytest.fixture
def idle(monkeypatch):
    """Nothing may be trained or drawn."""
    for module, name in ((denoiser_stack, "fit"), (denoiser_groups.diffusion, "train"),
                         (release, "_drawn")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("trained or drawn"))


def shown(game, store, release=None, believed=None):
    """What victims and shadows of both worlds release, float32."""
    release = release or game.release
    kinds = [release] * 2 + [believed or game.believed or release] * 2
    return [samples(family, kind, game.noises, store).astype(np.float32)
            for family, kind in zip(game.families, kinds, strict=True)]


# --- what a game leaves ----------------------------------------------------------------------


def test_arrays_are_those_that_are_told(played):
    arrays, wanted = dict(played.arrays), {}
    for name in played.game.attacks:
        wanted |= {f"right/{name}": (np.float16, (3, 2, 4)), f"area/{name}": (np.float32, (3,))}
    for name in ("fresh counting", "paired pixels", "likelihood ratio"):
        wanted[f"again/{name}"] = np.float16, (2, 3, 2, 4)
    for name in ("distance", "flips", "agree"):
        wanted[name] = np.float32, (2,)
    wanted |= {"share": (np.float32, (4, 4)), "plate": (np.uint8, (2, 3, 3, 16)),
               "plate/noises": (np.int32, (3,))}
    for name in ("frechet", "moved", "surely", "share", "loss"):
        wanted[f"utility/{name}"] = np.float32, (2, 4)
    assert {name: (part.dtype, part.shape) for name, part in arrays.items()} == wanted
    assert all(np.isfinite(part).all() for part in arrays.values())
    for name in played.game.attacks:
        right = arrays[f"right/{name}"].astype(float)
        assert ((right >= 0) & (right <= 1)).all() and (right[2] % 1 == 0).all()
        assert played.right(name, 5).tolist() == right[1].tolist()
    with pytest.raises(ValueError, match=r"count=3 was not played; counts are \(1, 5, 20\)"):
        played.right("paired pixels", 3)


def test_far_worlds_are_told_apart(played):
    for name in ("paired pixels", "likelihood ratio", "paired KL"):
        assert played.arrays[f"area/{name}"][-1] > 0.9
    assert played.arrays["distance"][0] < played.arrays["distance"][1]


def test_the_record_says_how_it_was_made(played, store):
    record = played.record
    assert set(record["trained"]) == {denoiser_groups.key_of(block)[:16] for family in
                                      played.game.families for block in
                                      denoiser_groups.blocks(family)}
    assert record["cost"]["seconds"] >= sum(record["trained"].values())
    assert 0.8 < record["reader"] <= 1.0 and record["stage"] == "noise game"
    assert noise_games._game(json.loads(json.dumps(record["recompute"]["arguments"]))["game"]
                             ) == played.game


def test_a_second_time_nothing_is_trained(played, store, idle, monkeypatch):
    monkeypatch.setattr(noise_games, "_play", lambda *_: pytest.fail("played again"))
    again, = play([played.game], store, workers=1)
    assert audit.compare(played.arrays, again.arrays, {})[0] == "same bits"
    assert again.record == played.record


def test_the_record_recomputes_to_the_same_bits(played):
    told = json.loads(json.dumps(played.record))
    assert audit.compare(played.arrays, audit.recompute(told), {})[0] == "same bits"


def test_another_game_of_the_same_models_trains_none(played, store, idle):
    other, = play([replace(played.game, attacks=("paired flips",), seed=1, utility=False)], store,
                  workers=1)
    assert other.record["trained"] == played.record["trained"]
    assert set(other.arrays) >= {"right/paired flips", "distance"}


# --- against other ways to compute it --------------------------------------------------------


def test_distances_flips_and_shares_by_a_loop(played, store):
    parts = shown(played.game, store)
    read = readers.reader(VICTIMS.data, 4)
    has = [[[float(read.logits(one / np.float32(127.5) - 1)) > 0 for one in model]
            for model in part] for part in parts]
    gaps, flips = np.zeros((2, 2)), np.zeros((2, 2))
    near = np.zeros((2, 2))
    for v in (0, 1):
        for s in (0, 1):
            pairs = [(i, j, k) for i in range(4) for j in range(4) for k in range(20)]
            far = [np.abs(parts[v][i, k] - parts[2 + s][j, k]).mean() for i, j, k in pairs]
            gaps[v, s], near[v, s] = np.mean(far), np.mean([gap < 15 for gap in far])
            flips[v, s] = np.mean([has[v][i][k] != has[2 + s][j][k] for i, j, k in pairs])
    for name, wanted in (("distance", gaps), ("agree", near), ("flips", flips)):
        own, other = (wanted[0, 0] + wanted[1, 1]) / 2, (wanted[0, 1] + wanted[1, 0]) / 2
        assert played.arrays[name] == pytest.approx([own, other], rel=1e-5), name
    assert played.arrays["share"] == pytest.approx(np.mean(has, axis=2), abs=1e-6)
    assert 0 < near.mean() < 1 and flips.mean() > 0


@pytest.mark.parametrize("name", ["fresh counting", "paired pixels", "chosen ratio",
                                  "fresh denoising"])
def test_answers_come_from_shadows_of_the_other_half(name, played, store, monkeypatch):
    """Evidence of all shadows for victims, and of the other half of them for a shadow."""
    game, asked = replace(played.game, attacks=(name,), again=0, utility=False), []
    monkeypatch.setattr(noise_games, "answers", lambda *a, **k: asked.append((a, k)) or answers(
        *a, **k))
    arrays = noise_games._play(game, store, "cpu")[1]
    tools = noise_games.tools(game)
    assert (tools.ratios, tools.scale, tools.shift) == ((0.9, 0.1), 1 / 127.5, -1.0)
    fresh, chosen = name.startswith("fresh"), name.startswith("chosen")
    zero, one, a, b = shown(game, store, Release(noise="own") if fresh else None)
    models = [fitted(family, store)[0] for family in game.families[2:]]

    def seen(victims, rest):
        if name == "fresh denoising":
            far = [utility.losses(part.take(rest), victims / np.float32(127.5) - 1, game.seed)
                   for part in models]
            return far[0] - far[1]
        found = evidence(name, victims, a[rest], b[rest], tools)
        if chosen:
            order = np.argsort(-noise_games.telling(a[rest], b[rest], tools), kind="stable")
        return found[:, order] if chosen else found

    victims = np.stack([seen(part, [0, 1, 2, 3]) for part in (zero, one)])
    held = tuple(np.stack([seen(side[[i]], [[1, 3], [0, 2]][i % 2])[0] for i in range(4)])
                 for side in (a, b))
    (found, theirs, fold, counts, draws_, seed), more = asked[0]
    for part, wanted in zip((found, *theirs), (victims, *held), strict=True):
        np.testing.assert_allclose(part, wanted, atol=1e-4 * np.abs(wanted).max())
    assert fold.tolist() == FOLD.tolist() and more == {"first": chosen}
    assert (counts, draws_, seed) == ((1, 5, 20), 6, 0)
    wanted = answers(victims, held, FOLD, (1, 5, 20), 6, first=chosen)
    for at in (arrays, played.arrays):
        np.testing.assert_array_equal(at[f"right/{name}"], wanted.right)
        assert at[f"area/{name}"] == pytest.approx(wanted.area)


def test_the_nominal_count_has_no_threshold_to_learn(played, store):
    parts = shown(played.game, store, Release(noise="own"))[:2]
    has = [noise_games.tools(played.game).reader.logits(part / np.float32(127.5) - 1) > 0
           for part in parts]
    wanted = answers(np.stack([0.5 - part for part in has]), None, None, (1, 5, 20), 6)
    np.testing.assert_array_equal(played.arrays["right/fresh nominal"], wanted.right)


def test_shadows_drawn_again_stay_in_their_half_and_world(played):
    picks = [noise_games._resampled(played.game, draw) for draw in range(40)]
    for world in (0, 1):
        drawn = np.stack([pick[world] for pick in picks])
        assert (drawn % 2 == FOLD).all() and set(drawn.ravel()) == {0, 1, 2, 3}
        assert any(len(set(row)) < 4 for row in drawn.tolist())
    assert any(not np.array_equal(*pick) for pick in picks)
    again = played.arrays["again/likelihood ratio"]
    assert not np.array_equal(again[0], again[1]) or not np.array_equal(
        again[0], played.arrays["right/likelihood ratio"])


def test_shadows_drawn_once_each_answer_as_before(played, store, monkeypatch):
    monkeypatch.setattr(noise_games, "_resampled", lambda *_: [np.arange(4)] * 2)
    arrays = noise_games._play(replace(played.game, attacks=("paired pixels",)), store, "cpu")[1]
    for draw in (0, 1):
        np.testing.assert_array_equal(arrays["again/paired pixels"][draw],
                                      arrays["right/paired pixels"])


def test_the_plate_shows_the_most_telling_noises(played, store):
    parts = shown(played.game, store)
    order = played.arrays["plate/noises"]
    telling = noise_games.telling(*parts[2:], noise_games.tools(played.game))
    assert order.tolist() == np.argsort(-telling, kind="stable")[:3].tolist()
    for world in (0, 1):
        np.testing.assert_array_equal(played.arrays["plate"][world], parts[world][:3, order])


def test_utility_is_that_of_the_victims(played, store):
    for world, family in enumerate(played.game.families[:2]):
        part = shown(played.game, store)[world]
        wanted = utility.measure(family, Release(), part, part, store)
        for name, values in wanted.items():
            assert played.arrays[f"utility/{name}"][world] == pytest.approx(values, rel=1e-5)
    assert not played.arrays["utility/moved"].any()


# --- worlds and releases ---------------------------------------------------------------------


@pytest.mark.parametrize("shadows", [4, 6])
def test_equal_ratios_are_played_by_other_models(shadows, store):
    null = game(ratio=0.9, attacks=("paired pixels", "fresh counting"))
    null = replace(null, shadows=replace(null.shadows, count=shadows))
    numbers = [list(family.numbers) for family in null.families]
    assert numbers == [[0, 1, 2, 3], [4, 5, 6, 7], list(range(shadows)),
                       list(range(shadows, 2 * shadows))]
    assert {family.ratio for family in null.families} == {0.9}
    assert [family.party for family in null.families] == [0, 0, 1, 1]
    assert null.fold.tolist() == null.families[3].fold.tolist()
    sets = [{tuple(row) for row in draws(family).tolist()} for family in null.families]
    assert len(set.union(*sets)) == 8 + 2 * shadows
    found, = play([null], store, workers=1)
    parts = shown(null, store)
    assert not any(np.array_equal(one, two) for one in parts[0] for two in parts[1])
    own, other = found.arrays["distance"]
    assert own == pytest.approx(other, rel=0.25)
    assert found.arrays["share"].shape == (4, max(4, shadows))
    assert np.isnan(found.arrays["share"]).sum() == 2 * (shadows - 4)


@pytest.mark.parametrize(("release_", "believed"), [
    (Release(noise="rotated"), None), (Release(noise="rotated"), Release()),
    (Release(), Release(noise="rotated")), (Release(blur=40.0), Release(levels=2)),
    (Release(noise="own"), Release(solver="euler", steps=3))])
def test_shadows_release_what_the_attacker_believes(release_, believed, store, monkeypatch):
    asked, plain = [], noise_games.samples
    monkeypatch.setattr(noise_games, "samples", lambda *a: asked.append(a[:2]) or plain(*a))
    it = game(release=release_, believed=believed, attacks=("paired pixels", "fresh counting"))
    arrays = noise_games._play(it, store, "cpu")[1]
    theirs = believed or release_
    wanted = [(family, kind) for family, kind in zip(
        it.families, (release_, release_, theirs, theirs), strict=True)]
    fresh = [(family, replace(kind, noise="own")) for family, kind in wanted]
    assert set(asked) == {*wanted, *fresh}
    assert {(family, kind) for family, kind, count in it.wanted()} == set(asked)
    zero, one, a, b = shown(it, store, release_, theirs)
    gap = np.mean([np.abs(v[None] - s[:, None]).mean() for v, s in ((zero, a), (one, b))])
    assert arrays["distance"][0] == pytest.approx(gap, rel=1e-5)
    alike = shown(it, store, release_, release_)
    if believed is not None:
        assert not np.array_equal(alike[2], a)


def test_a_start_without_noise_is_one_query(store):
    it = game(release=Release(noise="zero"), counts=(1,), attacks=("paired pixels",), noises=3)
    found, = play([it], store, workers=1)
    assert found.arrays["right/paired pixels"].shape == (1, 2, 4)
    with pytest.raises(ValueError, match=r"counts=\(1, 3\) must lie in 1..1, the noises there are"):
        replace(it, counts=(1, 3))


def test_records_of_a_table_keep_their_units(store):
    people = replace(VICTIMS, data=Data("acs_ma", "sex", mode="free"), side=0)
    it = NoiseGame(people, replace(people, party=1), 0.9, counts=(5,), noises=8, draws=2)
    tools = noise_games.tools(it)
    assert (tools.scale, tools.shift) == (1.0, 0.0)
    found, = play([it], store, workers=1)
    zero, one, a, b = shown(it, store)
    gap = np.mean([np.abs(v[None] - s[:, None]).mean() for v, s in ((zero, a), (one, b))])
    assert found.arrays["distance"][0] == pytest.approx(gap, rel=1e-5) and zero.min() < 0
    assert found.arrays["share"][0] == pytest.approx((tools.reader.logits(zero) > 0).mean(1))


def test_few_shadows_leave_the_zero_rule(store):
    few = game(attacks=("paired pixels",))
    few = replace(few, shadows=replace(few.shadows, count=2))
    assert few.fold is None and few.shadows.fold.tolist() == [0, 1]
    found, = play([few], store, workers=1)
    zero, one, a, b = shown(few, store)
    seen = np.stack([evidence("paired pixels", part, a, b, noise_games.tools(few))
                     for part in (zero, one)])
    wanted = answers(seen, None, None, few.counts, few.draws)
    np.testing.assert_array_equal(found.arrays["right/paired pixels"], wanted.right)


# --- plain values and errors -----------------------------------------------------------------


@pytest.mark.parametrize("it", [
    game(), game(ratio=0.9), game(believed=Release(noise="rotated", steer=0.5)),
    game(release=Release(solver="ancestral", steps=5, levels=4, blur=2.0), again=3, plate=2, seed=7,
         utility=True),
    NoiseGame(replace(VICTIMS, recipe=Net()), replace(VICTIMS, party=1, shift="faded", iid=True)),
    NoiseGame(Family(data=Data("acs_ma", "race", drop=("SEX",), mode="free"), side=0, first=2),
              Family(data=Data("acs_ma", "race", drop=("SEX",), mode="free"), side=0, party=1,
                     public=0.5))])
def test_games_come_back_from_plain_values(it):
    told = json.loads(json.dumps(asdict(it)))
    assert noise_games._game(told) == it
    assert type(noise_games._game(told).victims.recipe) is type(it.victims.recipe)


@pytest.mark.parametrize(("more", "message"), [
    ({"attacks": ("paired pixel",)}, "unknown attack 'paired pixel'; known: fresh nominal.*fresh "
     "denoising"),
    ({"counts": (1, 21)}, r"counts=\(1, 21\) must lie in 1..20, the noises there are"),
    ({"counts": (0, 5)}, r"counts=\(0, 5\) must lie in 1..20"), ({"counts": ()}, "counts="),
    ({"draws": 0}, "draws=0 must be at least 1, again=0 and plate=0 at least 0"),
    ({"again": -1}, "again=-1 and plate=0 at least 0"), ({"plate": -2}, "plate=-2 at least 0"),
    ({"alpha0": 1.2}, "ratio 1.2: the share of records"),
    ({"victims": replace(VICTIMS, party=1)}, "share no record; got 1 and 1"),
    ({"shadows": VICTIMS}, "victims are party 0 and shadows party 1.*got 0 and 0"),
    ({"victims": replace(VICTIMS, ratio=0.2)}, "need one data set, ratio and side"),
    ({"victims": replace(VICTIMS, side=8)}, "need one data set, ratio and side")])
def test_games_that_cannot_be(more, message):
    with pytest.raises(ValueError, match=message):
        replace(game(), **more)
    assert set(NAMES) - {"fresh denoising"} <= set(EVIDENCE)


def test_a_short_pool_stops_before_any_training(store, idle):
    greedy = replace(game(), victims=replace(VICTIMS, n=30_000))
    with pytest.raises(DataError, match="27000 are wanted for ratio 0.9 at size 30000"):
        play([game(), greedy], store, workers=1)


def test_equal_worlds_keep_the_halves_of_the_second_worlds_shadows():
    null = NoiseGame(VICTIMS, replace(VICTIMS, party=1), alpha0=VICTIMS.ratio, counts=(1,))
    assert null.fold.tolist() == null.families[3].fold.tolist()
    with pytest.raises(ValueError, match="even number of shadows, got 5"):
        NoiseGame(VICTIMS, replace(VICTIMS, party=1, count=5), alpha0=VICTIMS.ratio, counts=(1,))


def test_both_sides_are_asked_the_zero_noise_or_neither():
    with pytest.raises(ValueError, match="'zero' is one start"):
        game(believed=Release("zero"))
