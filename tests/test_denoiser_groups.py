"""Families of diffusion models: what each draws, what it sees, and blocks that are shared."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom

from helpers import datasets, denoiser_groups, denoiser_stack, release
from helpers.denoiser_groups import (
    Family,
    Net,
    blocks,
    check,
    draws,
    features,
    fitted,
    key_of,
    rebuilt,
    shape,
    train,
)
from helpers.denoiser_stack import Small
from helpers.groups import Data, table
from helpers.images import DataError, shrink
from helpers.noise import generator, noise
from helpers.sampling import sample
from helpers.store import Store

torch.set_num_threads(1)
SMALL = Small(hidden=(16,), steps=20, batch=8, chunk=2)
TOY = Family(ratio=0.3, n=64, count=4, recipe=SMALL)
NET = Net("unet-20k", steps=3, batch=8, warmup=1, chunk=2)


def footwear(rows):
    """The property of rows, read from the data set itself."""
    return np.isin(datasets.load("fashion16").attribute("label")[rows], (5, 7, 9))


def same(a, b):
    return len(a) == len(b) and all(
        np.array_equal(one, two) for pair, other in zip(a.layers, b.layers, strict=True)
        for one, two in zip(pair, other, strict=True))


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table of 400 people, 200 of whom are women."""
    stream = generator("test-denoiser-table")
    frame = pd.DataFrame(stream.standard_normal((400, 5)), columns=list("abcde"))
    frame["paid"], frame["sex"] = stream.integers(2, size=400), ["Female", "Male"] * 200
    path = tmp_path_factory.mktemp("table") / "people.csv"
    frame.to_csv(path, index=False)
    return Data(str(path), "sex=Female", "paid", ("sex",), mode="free")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def idle(monkeypatch):
    """No model may be trained."""
    for module in (denoiser_stack, denoiser_groups.diffusion):
        name = "fit" if module is denoiser_stack else "train"
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a model was trained"))


# --- training sets ---------------------------------------------------------------------------


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.55, 1.0])
def test_ratios_are_exact(party, ratio):
    family = replace(TOY, party=party, ratio=ratio)
    rows = draws(family)
    assert rows.shape == (4, 64) and rows.dtype == np.int64
    assert (footwear(rows).sum(1) == round(64 * ratio)).all()
    assert all(len(set(row)) == 64 for row in rows.tolist())
    assert len({tuple(sorted(row)) for row in rows.tolist()}) == 4
    source = table(family.data)
    assert (source.party[rows] == party).all() and not source.held_out[rows].any()


def test_binomial_numbers_of_records_with_the_property():
    family = replace(TOY, ratio=0.2, count=300, iid=True)
    for party in (0, 1):
        counts = footwear(draws(replace(family, party=party))).sum(1)
        law = binom(64, 0.2)
        assert abs(counts.mean() - law.mean()) < 4 * law.std() / 300**0.5
        assert abs(counts.var() / law.var() - 1) < 4 * (2 / 300) ** 0.5
        assert len(set(counts)) > 8
    other = footwear(draws(replace(family, ratio=0.8))).sum(1)
    assert abs(np.corrcoef(footwear(draws(family)).sum(1), other)[0, 1]) < 4 / 300**0.5
    for ratio in (0.0, 1.0):
        assert (footwear(draws(replace(family, ratio=ratio, count=2))) == ratio).all()


def test_nobody_shares_records():
    """Victims and adversaries have nothing in common, nor have an adversary's two halves."""
    families = [replace(TOY, party=p, ratio=r, n=3000, count=6) for p in (0, 1)
                for r in (0.2, 0.4)]
    victims = np.concatenate([draws(family) for family in families[:2]])
    adversaries = np.concatenate([draws(family) for family in families[2:]])
    assert not np.intersect1d(victims, adversaries).size
    even, odd = adversaries[::2], adversaries[1::2]
    assert not np.intersect1d(even, odd).size
    assert np.intersect1d(even[0], even[1]).size and np.intersect1d(victims[0], victims[1]).size
    assert families[0].fold is None and families[2].fold.tolist() == [0, 1, 0, 1, 0, 1]
    assert replace(families[2], first=3, count=2).fold.tolist() == [1, 0]
    assert list(replace(TOY, first=3).numbers) == [3, 4, 5, 6]


@pytest.mark.parametrize("more", [{}, {"iid": True}, {"public": 0.5}, {"shift": "no boots"}])
@pytest.mark.parametrize("party", [0, 1])
def test_a_model_s_draw_depends_on_its_number_alone(party, more):
    family = replace(TOY, party=1 if "shift" in more else party, **more)
    rows = draws(replace(family, count=7))
    assert np.array_equal(draws(replace(family, first=3, count=2)), rows[3:5])
    assert np.array_equal(draws(replace(family, count=1)), rows[:1])
    other = draws(replace(family, ratio=0.31, count=7))
    assert not any(np.array_equal(np.sort(a), np.sort(b)) for a, b in zip(rows, other, strict=True))


@pytest.mark.parametrize(("ratio", "public"), [(0.1, 0.5), (0.9, 0.5), (0.5, 0.05), (0.5, 1.0),
                                               (0.3, 0.3), (0.2, 0.0)])
@pytest.mark.parametrize("iid", [False, True])
def test_the_public_ratio_is_made_of_the_records_drawn(ratio, public, iid):
    family = replace(TOY, ratio=ratio, iid=iid)
    before, after = draws(family), draws(replace(family, public=public))
    assert after.shape == before.shape
    for old, new in zip(before, after, strict=True):
        assert footwear(new).sum() == round(64 * public)
        for value in (False, True):
            had, has = old[footwear(old) == value], new[footwear(new) == value]
            if len(has) <= len(had):  # surplus ones are dropped, none repeated
                assert len(set(has)) == len(has) and set(has) <= set(had)
            else:  # all are kept, and repeated at random to fill up
                assert set(has) == set(had) and len(set(had)) == len(had)
    fills = [np.unique(row, return_counts=True)[1].max() for row in after]
    assert (max(fills) > 1) == (ratio != public or iid)


def test_records_are_repeated_at_random():
    """Of 6 records 26 repeats are drawn: binomial, neither even nor all of one record."""
    family = replace(TOY, ratio=6 / 64, public=0.5, count=50)
    extra = np.concatenate([np.unique(row[footwear(row)], return_counts=True)[1] - 1
                            for row in draws(family)])
    assert len(extra) == 300 and extra.mean() == pytest.approx(26 / 6)
    assert abs(extra.var() / binom(26, 1 / 6).var() - 1) < 4 * (2 / 300) ** 0.5


def test_no_boots_in_the_adversary_s_footwear():
    label = datasets.load("fashion16").attribute("label")
    family = replace(TOY, party=1, ratio=0.5, n=1000, count=4)
    usual, other = draws(family), draws(replace(family, shift="no boots"))
    assert 0.25 < (label[usual][footwear(usual)] == 9).mean() < 0.42
    assert not (label[other] == 9).any() and set(label[other][footwear(other)]) == {5, 7}
    assert (footwear(other).sum(1) == 500).all()
    assert not np.intersect1d(other[::2], other[1::2]).size


def test_pools_that_are_too_small(idle, store):
    family = replace(TOY, ratio=1.0, n=9000)
    for wrong in (family, replace(family, party=1, n=3000),
                  replace(family, party=1, n=2500, shift="no boots")):
        for use in (draws, check, lambda family: fitted(family, store)):
            with pytest.raises(DataError, match=f"but {wrong.n} are wanted for ratio 1 at size "
                               f"{wrong.n}, mode free; the largest size at this ratio is"):
                use(wrong)
    assert store.keys() == []
    check(replace(family, party=1, n=2500))
    for ratio, public in ((0.0, 0.5), (1.0, 0.5)):
        with pytest.raises(DataError, match="public ratio 0.5: none of 64 records could be "
                           "repeated; use a ratio strictly between 0 and 1"):
            draws(replace(TOY, ratio=ratio, public=public))


# --- what a model sees -----------------------------------------------------------------------


def test_pictures_are_averaged():
    images, data = datasets.load("fashion16").train[:400], TOY.data
    exact = 2 * shrink(images, 8)[..., 0] - 1
    found = features(data, 8)
    assert found.shape == (60000, 64) and found.dtype == np.float32
    assert np.abs(found[:400].reshape(-1, 8, 8) - exact).max() < 1e-6
    rounded = datasets.to_model(datasets.area(images, 8)).reshape(-1, 64)
    assert np.abs(found[:400] - rounded).max() <= 0.5001 / 127.5
    whole = features(data)[:400].reshape(-1, 16, 16)
    assert np.abs(whole - (images[..., 0] / 127.5 - 1)).max() < 1e-6
    assert np.array_equal(features(data, 16)[:400].reshape(-1, 16, 16), whole)
    means = whole.reshape(-1, 4, 4, 4, 4).mean((2, 4), dtype=np.float64)
    assert np.abs(features(data, 4)[:400].reshape(-1, 4, 4) - means).max() < 1e-6
    assert (shape(TOY), shape(replace(TOY, side=0))) == ((1, 8, 8), (1, 16, 16))


def test_shifted_pictures():
    images, data = datasets.load("fashion16").train[:400], TOY.data
    values = 2 * shrink(images, 8)[..., 0] - 1
    shown = {name: features(data, 8, name)[:400].reshape(-1, 8, 8)
             for name in ("mirrored", "faded", "no boots")}
    assert np.abs(shown["mirrored"] - values[:, :, ::-1]).max() < 1e-6
    assert np.abs(shown["mirrored"] - values).max() > 0.5
    assert np.abs(shown["faded"] - 0.8 * values).max() < 1e-6
    assert np.abs(shown["no boots"] - values).max() < 1e-6


def test_tables_are_used_as_encoded(people):
    family = replace(TOY, data=people, side=0)
    assert np.array_equal(features(people), table(people).features)
    assert shape(family) == (5,) and features(people).shape == (400, 5)
    rows = draws(family)
    assert (rows % 2 == 0).sum(1).tolist() == [round(0.3 * 64)] * 4
    check(family)
    for side, shift in ((8, ""), (0, "faded"), (0, "mirrored")):
        message = f"people.csv: side={side} and shift='{shift}' are for pictures; a table takes"
        with pytest.raises(DataError, match=message):
            features(people, side, shift)
        with pytest.raises(DataError, match=message):
            check(replace(family, side=side, shift=shift, party=1))


@pytest.mark.parametrize("side", [5, 32])
def test_sides_that_do_not_divide(side):
    message = f"fashion16: side={side} must divide the pictures' side 16"
    with pytest.raises(DataError, match=message):
        features(TOY.data, side)
    with pytest.raises(DataError, match=message):
        check(replace(TOY, side=side))


# --- blocks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "count", "numbers"), [
    (0, 4, [(0, 3), (3, 3)]), (0, 3, [(0, 3)]), (2, 1, [(0, 3)]), (2, 2, [(0, 3), (3, 3)]),
    (3, 3, [(3, 3)]), (4, 6, [(3, 3), (6, 3), (9, 3)]),
])
def test_blocks_hold_a_family_s_models(first, count, numbers):
    family = replace(TOY, recipe=replace(SMALL, chunk=3), first=first, count=count)
    found = blocks(family)
    assert [(block.first, block.count) for block in found] == numbers
    assert all(replace(block, first=first, count=count) == family for block in found)


def test_families_share_models(store):
    recipe = replace(SMALL, chunk=3)
    large, spent = fitted(replace(TOY, recipe=recipe, count=8), store)
    assert len(large) == 8 and len(store.keys()) == len(spent) == 3
    keys = [key_of(block) for block in blocks(replace(TOY, recipe=recipe, count=8))]
    assert set(keys) == set(store.keys()) and set(spent) == {key[:16] for key in keys}
    assert all(seconds > 0 for seconds in spent.values())
    for first, count in ((0, 1), (2, 3), (4, 4), (1, 6)):
        small, paid = fitted(replace(TOY, recipe=recipe, first=first, count=count), store)
        assert same(small, large.take(slice(first, first + count)))
        assert paid.items() <= spent.items()
    assert len(store.keys()) == 3
    assert not same(large.take(slice(0, 1)), large.take(slice(1, 2)))


def test_a_family_s_models_are_those_of_its_draws(store):
    """The block trains on the rows and records of `draws` and `features`."""
    family = replace(TOY, party=1, count=2, shift="mirrored")
    found, _ = fitted(family, store)
    index, seeds = draws(family), denoiser_groups._seeds(family)
    seen, usual = features(TOY.data, 8, "mirrored"), features(TOY.data, 8)
    assert same(found, denoiser_stack.fit(SMALL, seen, index, seeds))
    assert not same(found, denoiser_stack.fit(SMALL, usual, index, seeds))


def test_a_victim_has_no_shift():
    with pytest.raises(ValueError, match="a victim .party 0. has none"):
        replace(TOY, shift="faded")


def test_seeds_are_each_models_own():
    families = [replace(TOY, party=p, ratio=r, count=50) for p in (0, 1) for r in (0.2, 0.3)]
    assert len({int(s) for family in families for s in denoiser_groups._seeds(family)}) == 200
    assert np.array_equal(denoiser_groups._seeds(replace(families[0], first=7, count=3)),
                          denoiser_groups._seeds(families[0])[7:10])


@pytest.mark.parametrize("more", [
    {"party": 1}, {"ratio": 0.31}, {"n": 65}, {"side": 4}, {"iid": True}, {"public": 0.5},
    {"party": 1, "shift": "faded"}, {"recipe": replace(SMALL, steps=21)}, {"first": 2},
    {"data": Data("fashion16", "footwear", mode="free", split=1)},
])
def test_whatever_decides_a_model_is_in_its_key(more):
    block = blocks(TOY)[0]
    assert key_of(block) == key_of(replace(block)) != key_of(replace(block, **more))
    assert key_of(block, "cuda") != key_of(block)


def test_train_trains_what_is_missing(store, monkeypatch):
    counted, fit = [], denoiser_stack.fit

    def spy(recipe, records, index, seeds, *more):
        counted.append(len(index))
        return fit(recipe, records, index, seeds, *more)

    monkeypatch.setattr(denoiser_stack, "fit", spy)
    other = replace(TOY, ratio=0.6, first=1, count=2)
    train([replace(TOY, count=3), replace(TOY, first=2, count=2), other], store, workers=1)
    assert counted == [2, 2, 2, 2] and len(store.keys()) == 4
    train([TOY, replace(TOY, count=6), other], store, workers=1)
    assert counted == [2] * 5 and len(store.keys()) == 5
    for family in (replace(TOY, count=6), other):
        fitted(family, store)
    assert len(counted) == 5


# --- families as plain values ----------------------------------------------------------------


@pytest.mark.parametrize("family", [
    TOY, replace(TOY, party=1, first=3, iid=True, public=0.4, shift="faded", side=4),
    replace(TOY, recipe=NET), replace(TOY, recipe=Net()), Family(),
    replace(TOY, recipe=Small(hidden=(3, 4), objective="flow", dp_noise=0.1, dp_clip=2.0)),
    replace(TOY, data=Data("acs_ma", "race", "employed", ("AGEP", "SEX"), "free", 3), side=0),
])
def test_plain_families_come_back(family):
    told = json.loads(json.dumps(asdict(family)))
    assert rebuilt(told) == family and hash(rebuilt(told)) == hash(family)
    assert type(rebuilt(told).recipe) is type(family.recipe)
    if not family.data.drop:
        assert key_of(rebuilt(told)) == key_of(family)


# --- networks --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """A family of three networks in two blocks, its store, its models and what they cost."""
    family = replace(TOY, n=32, first=1, count=3, recipe=NET)
    store = Store(tmp_path_factory.mktemp("nets"))
    return family, store, *fitted(family, store)


def test_networks_are_kept_in_blocks(nets, idle):
    family, store, models, spent = nets
    assert len(models) == 3 and len(store.keys()) == len(spent) == 2
    again, _ = fitted(replace(family, first=2, count=1), store)
    wanted = models.members[1].weights[3]
    assert len(again) == 1 and again.members[0].weights[3].keys() == wanted.keys()
    for name, part in again.members[0].weights[3].items():
        assert np.array_equal(part, wanted[name])
    moved = [m.weights[3]["body.conv_in.weight"] for m in models.members]
    assert np.abs(moved[0] - moved[1]).max() > 1e-2


def test_a_network_is_trained_as_alone(nets):
    family, _, models, _ = nets
    rows = draws(family)[2]
    clean = torch.from_numpy(features(family.data, 8)[rows]).view(-1, 1, 8, 8)
    seed = int(denoiser_groups._seeds(family)[2])
    weights, _ = denoiser_groups.diffusion.train(NET.cell(8, 32, seed), clean)
    assert all(np.array_equal(part, weights[3][name])
               for name, part in models.members[2].weights[3].items())


@pytest.mark.parametrize("solver", ["heun", "ancestral"])
def test_networks_draw_as_sampling_does(nets, solver):
    family, _, models, _ = nets
    bank = noise(range(5), (1, 8, 8))
    own = np.stack([noise(range(5), (1, 8, 8), 7 + m) for m in range(3)])
    for start in (bank, own):
        options, fresh = {"solver": solver, "steps": 3}, None
        if solver == "ancestral":
            fresh = torch.from_numpy(np.stack([[noise(range(5), (1, 8, 8), 50 + 10 * step + m)
                                                for m in range(3)] for step in range(3)]))
            options["injected"] = lambda step, f=fresh: f[step].flatten(2)
        found = release.draw(models, family, start.reshape(*start.shape[:-3], 64), **options)
        assert found.shape == (3, 5, 64) and found.dtype == np.float32
        for m, model in enumerate(models.members):
            if fresh is not None:
                options["injected"] = lambda step, f=fresh, m=m: f[step, m]
            mine = torch.from_numpy(start if start.ndim == 4 else start[m])
            wanted = sample(model.denoiser(), mine, **options).flatten(1).numpy()
            assert np.abs(found[m] - wanted).max() < 1e-4
        assert np.abs(found[0] - found[1]).max() > 1e-3


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "message"), [
    ({"party": 2}, r"party=2 must be 0 \(victim\) or 1 \(adversary\), n=64 and count=4"),
    ({"n": 0}, "n=0 and count=4 at least 1"),
    ({"count": 0}, "n=64 and count=0 at least 1, first=0 at least 0"),
    ({"first": -1}, "first=-1 at least 0"),
    ({"ratio": 1.2}, "ratio 1.2: the share of records with a property lies in"),
    ({"public": -0.1}, "ratio -0.1: the share of records"),
    ({"shift": "upside down"}, "unknown shift 'upside down'; known: , faded, mirrored, no boots"),
    ({"data": Data("fashion16", "footwear")}, "mode 'cells': diffusion models have no label, use "
     "'free'"),
])
def test_families_that_cannot_be(more, message):
    with pytest.raises(ValueError, match=message):
        replace(TOY, **more)


@pytest.mark.parametrize(("more", "message"), [
    ({"network": "resnet"}, "unknown network 'resnet'; known: unet-20k"),
    ({"objective": "gan"}, "unknown objective 'gan'; known: edm"),
    ({"steps": 0}, "steps must be at least 1, got 0"),
    ({"batch": 0}, "batch must be at least 1, got 0"),
    ({"rate": 0.0}, "need warmup >= 0 and rate > 0, got 1 and 0.0"),
    ({"chunk": 0}, "chunk must be at least 1, got 0"),
])
def test_networks_that_cannot_be(more, message):
    with pytest.raises(ValueError, match=message):
        replace(NET, **more)


def test_networks_that_do_not_fit_the_pictures():
    with pytest.raises(ValueError, match="'unet-20k' needs a side divisible by 2: 1"):
        check(replace(TOY, recipe=NET, side=1))
    check(replace(TOY, recipe=NET))
