"""What models release: starting noises and secrets, what is shown of a sample, and the reader."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neural_network import MLPClassifier

from helpers import datasets, denoiser_groups, denoiser_stack, readers, release
from helpers.denoiser_groups import Family, Net, blocks, features, fitted, key_of
from helpers.denoiser_stack import Small
from helpers.groups import Data, table
from helpers.noise import generator, noise
from helpers.release import Release, samples, train
from helpers.store import Store

torch.set_num_threads(1)
SMALL = Small(hidden=(16,), steps=20, batch=8, chunk=2)
TOY = Family(ratio=0.3, n=64, count=4, recipe=SMALL)
SHAPE, SIZE = (1, 8, 8), 64
BANK = noise(range(100), SHAPE).reshape(100, SIZE)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def toy(store):
    """The toy family's models."""
    return fitted(TOY, store)[0]


def starts(family, noises, count=100, first=0):
    return release._starts(family, Release(noise=noises), first, count)


# --- starting noises -------------------------------------------------------------------------


def test_the_bank_is_shared():
    for family in (TOY, replace(TOY, party=1, ratio=0.6, first=3)):
        assert np.array_equal(starts(family, "bank"), BANK)
    assert np.array_equal(starts(TOY, "bank", 10, 20), BANK[20:30])
    assert np.array_equal(starts(TOY, "zero"), np.zeros((1, SIZE)))


def test_own_noises():
    families = [replace(TOY, party=p, ratio=r) for p in (0, 1) for r in (0.3, 0.6)]
    found = np.concatenate([starts(family, "own") for family in families])
    assert found.shape == (16, 100, SIZE) and found.dtype == np.float32
    every = np.corrcoef(np.concatenate([found, BANK[None]]).reshape(17, -1))
    assert np.abs(every - np.eye(17)).max() < 5 / 6400**0.5  # no two have anything in common
    assert abs(found.mean()) < 0.01 and abs(found.std() - 1) < 0.01
    assert np.array_equal(starts(replace(TOY, first=2, count=1), "own", 30, 10)[0],
                          found[2, 10:40])


def test_rotated_noises_keep_lengths_and_angles():
    families = [replace(TOY, party=p, ratio=r) for p in (0, 1) for r in (0.3, 0.6)]
    found = np.concatenate([starts(family, "rotated") for family in families])
    assert found.shape == (16, 100, SIZE) and found.dtype == np.float32
    for one in found:
        assert np.abs(one @ one.T - BANK @ BANK.T).max() < 1e-3
        matrix = np.linalg.lstsq(BANK.astype(float), one.astype(float), rcond=None)[0]
        assert np.abs(matrix @ matrix.T - np.eye(SIZE)).max() < 1e-5
        assert np.abs(BANK @ matrix - one).max() < 1e-5  # one matrix for all noises
    every = np.corrcoef(np.concatenate([found, BANK[None]]).reshape(17, -1))
    assert np.abs(every - np.eye(17)).max() < 0.1
    assert np.array_equal(starts(replace(TOY, first=2, count=1), "rotated", 30, 10)[0],
                          starts(TOY, "rotated", 30, 10)[2])
    assert np.abs(starts(TOY, "rotated", 30, 10) - found[:4, 10:40]).max() < 1e-5


def test_released_are_the_draws_of_these_noises(store, toy):
    for noises, shape in (("bank", (4, 6)), ("own", (4, 6)), ("rotated", (4, 6)), ("zero", (4, 1))):
        found = samples(TOY, Release(noise=noises, steps=4), 6, store)
        drawn = denoiser_stack.draw(toy, starts(TOY, noises, 6), steps=4)
        assert found.shape == (*shape, SIZE) and found.dtype == np.uint8
        wanted = datasets.to_uint8(drawn.reshape(-1, *SHAPE)).reshape(found.shape)
        assert np.abs(found.astype(int) - wanted).max() <= 1
        assert (found == wanted).mean() > 0.999  # rounding, and ties to even
        assert not (found[0] == found[1]).all()


# --- secrets of the stochastic solver --------------------------------------------------------


def test_ancestral_samplers_inject_secrets(toy):
    """Equal weights and equal starts: all that differs is what each model injects."""
    twins = toy.take([0, 0, 0, 0])
    stochastic = Release(solver="ancestral", steps=5)

    def drawn(family=TOY, how=stochastic, first=0, count=8):
        return release._drawn(twins, family, how, first, count, "cpu")

    plain, found = drawn(how=Release(steps=5)), drawn()
    assert found.shape == (4, 8, SIZE) and np.abs(plain - plain[:1]).max() < 1e-5
    others = np.concatenate([found, drawn(replace(TOY, party=1)), drawn(replace(TOY, ratio=0.6))])
    apart = np.abs(others[:, None] - others[None]).mean((2, 3))
    assert apart[~np.eye(12, dtype=bool)].min() > 0.01
    assert np.array_equal(found, drawn())
    assert np.abs(drawn(first=3, count=4) - found[:, 3:7]).max() < 1e-5
    moved = drawn(replace(TOY, first=1))
    assert np.abs(moved[:3] - found[1:]).max() < 1e-5 and np.abs(moved[3] - found[0]).max() > 0.01


def test_every_step_of_the_solver_has_noises_of_its_own(toy, monkeypatch):
    seen = {}
    monkeypatch.setattr(release, "draw", lambda *_, injected, **__: seen.update(
        {step: injected(step).numpy() for step in range(3)}))
    release._drawn(toy, TOY, Release(solver="ancestral", steps=4), 0, 100, "cpu")
    noises = np.stack(list(seen.values()))
    assert noises.shape == (3, 4, 100, SIZE)
    every = np.corrcoef(np.concatenate([noises.reshape(12, -1), BANK.reshape(1, -1)]))
    assert np.abs(every - np.eye(13)).max() < 5 / 6400**0.5
    assert abs(noises.mean()) < 0.01 and abs(noises.std() - 1) < 0.01


# --- what is shown ---------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 3, 4, 8, 16, 128, 256])
def test_grey_levels(store, levels):
    how = Release(steps=4, levels=levels)
    found, full = samples(TOY, how, 40, store), samples(TOY, Release(steps=4), 40, store)
    palette = np.linspace(0, 255, levels)
    nearest = np.abs(full[..., None] - palette).argmin(-1)
    assert np.array_equal(found, np.rint(palette[nearest]))
    assert len(np.unique(found)) == len(np.unique(nearest)) <= levels
    assert len(np.unique(found)) == levels or levels > 16
    assert np.abs(found.astype(int) - full).max() <= 255 / (levels - 1) / 2 + 0.5


def test_values_are_clipped(store, toy):
    """Weights a hundredfold too large: black is 0 and white 255, nothing wraps around."""
    family = replace(TOY, first=4, count=2)
    layers = [(w * (100 if i else 1), b) for i, (w, b) in enumerate(toy.take([0, 1]).layers)]
    store.put(key_of(family), {"cost": {"seconds": 1.0}},
              {f"{i}/{name}": part for i, pair in enumerate(layers)
               for name, part in zip(("weight", "bias"), pair, strict=True)})
    drawn = denoiser_stack.draw(denoiser_stack.Denoisers(SMALL, tuple(layers), {}), BANK, steps=4)
    found = samples(family, Release(steps=4), 100, store)
    assert (drawn > 1.5).any() and (drawn < -1.5).any()
    assert (found[drawn > 1] == 255).all() and (found[drawn < -1] == 0).all()
    assert ((found > 0) & (found < 255))[np.abs(drawn) < 0.99].all()


def test_blur_has_the_stated_spread(store):
    plain = samples(TOY, Release(steps=4), 400, store).astype(float)
    middle = (plain > 70) & (plain < 185)  # far from where values are clipped
    for blur in (3.0, 12.0):
        noises = samples(TOY, Release(steps=4, blur=blur), 400, store) - plain
        kept = noises[middle]
        assert len(kept) > 10_000 and abs(kept.mean()) < 4 * blur / len(kept) ** 0.5
        spread = (blur**2 + 2 / 12) ** 0.5  # rounded twice
        assert abs(kept.std() / spread - 1) < 4 / (2 * len(kept)) ** 0.5
        for i, j in ((0, 1), (0, 2), (1, 3)):  # each model's own
            both = noises[[i, j]][:, middle[i] & middle[j]]
            assert abs(np.corrcoef(both)[0, 1]) < 4 / both.shape[1] ** 0.5 < 0.2
    again = release._released(blocks(TOY)[1], Release(steps=4, blur=12.0), 400, store, "cpu")
    assert np.array_equal(again.arrays["samples"] - plain[2:], noises[2:])


def test_diverged_models_release_nothing(store, toy):
    family = replace(TOY, first=6, count=2)
    store.put(key_of(family), {"cost": {"seconds": 1.0}},
              {f"{i}/{name}": np.full_like(part[:2], np.nan) for i, pair in enumerate(toy.layers)
               for name, part in zip(("weight", "bias"), pair, strict=True)})
    count = len(store.keys())
    with pytest.raises(FloatingPointError, match=r"samples of Family\(.*first=6.* are not finite"):
        samples(family, Release(), 3, store)
    assert len(store.keys()) == count


def test_tables_are_released_as_they_are(store, tmp_path):
    stream = generator("test-release-table")
    frame = pd.DataFrame(stream.standard_normal((400, 5)), columns=list("abcde"))
    frame["paid"] = stream.integers(2, size=400)
    frame["sex"] = stream.choice(["Female", "Male"], 400)
    frame.to_csv(tmp_path / "people.csv", index=False)
    data = Data(str(tmp_path / "people.csv"), "sex=Female", "paid", mode="free")
    family, width = replace(TOY, data=data, side=0, count=2), 7
    found = samples(family, Release(steps=4, levels=2), 5, store)
    assert found.shape == (2, 5, width) and found.dtype == np.float16
    bank = noise(range(5), (width,))
    drawn = denoiser_stack.draw(fitted(family, store)[0], bank, steps=4)
    assert np.abs(found - drawn).max() < 2e-3 * max(1, np.abs(drawn).max())
    turned = starts(family, "rotated", 5)
    assert turned.shape == (2, 5, width) and np.abs(turned[0] @ turned[0].T - bank @ bank.T
                                                    ).max() < 1e-3


# --- families and the store ------------------------------------------------------------------


@pytest.mark.parametrize("how", [Release(steps=3), Release("own", "ancestral", 3, 8, 5.0)])
def test_samples_of_a_family_are_slices_of_a_larger_one(tmp_path, how, monkeypatch):
    store, family = Store(tmp_path), replace(TOY, recipe=replace(SMALL, chunk=3), count=6)
    large = samples(family, how, 5, store)
    assert large.shape == (6, 5, SIZE) and len(store.keys()) == 4  # weights and samples of 2 blocks
    monkeypatch.setattr(denoiser_stack, "fit", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(release, "_drawn", lambda *_, **__: pytest.fail("drawn again"))
    for first, count in ((0, 6), (2, 3), (4, 1)):
        found = samples(replace(family, first=first, count=count), how, 5, Store(tmp_path))
        assert np.array_equal(found, large[first : first + count])
    assert len(store.keys()) == 4


def test_other_releases_of_the_same_models(tmp_path, monkeypatch):
    store = Store(tmp_path)
    samples(replace(TOY, count=2), Release(steps=3), 4, store)
    monkeypatch.setattr(denoiser_stack, "fit", lambda *_, **__: pytest.fail("trained again"))
    changes = ({"noise": "own"}, {"solver": "euler"}, {"steps": 2}, {"levels": 4}, {"blur": 1.0})
    for number, more in enumerate(changes):
        samples(replace(TOY, count=2), replace(Release(steps=3), **more), 4, store)
        assert len(store.keys()) == 3 + number
    samples(replace(TOY, count=2), Release(steps=3), 5, store)
    assert len(store.keys()) == 3 + len(changes)


def test_train_makes_what_is_missing(tmp_path, monkeypatch):
    store, how = Store(tmp_path), Release(steps=3)
    wanted = [(replace(TOY, count=3), how, 4), (replace(TOY, first=1, count=2), how, 4),
              (replace(TOY, ratio=0.6, count=2), how, 4)]
    train(wanted, store, workers=1)
    assert len(store.keys()) == 6  # weights and samples of three blocks
    monkeypatch.setattr(release, "_drawn", lambda *_, **__: pytest.fail("drawn again"))
    train(wanted, store, workers=1)
    assert samples(TOY, how, 4, store).shape == (4, 4, SIZE)


def test_networks_release_samples(tmp_path):
    family = replace(TOY, recipe=Net("mlp-900k", steps=3, batch=8, warmup=1, chunk=2), n=16,
                     first=1, count=2)
    store = Store(tmp_path)
    found = samples(family, Release("rotated", "ancestral", 2), 3, store)
    assert found.shape == (2, 3, SIZE) and found.dtype == np.uint8 and len(store.keys()) == 4
    models, how = fitted(family, store)[0], Release("rotated", "ancestral", 2)
    drawn = release._drawn(models, family, how, 0, 3, "cpu")
    wanted = np.rint((drawn.clip(-1, 1) + 1) * 127.5)
    assert np.abs(found - wanted).max() <= 1 and not np.array_equal(found[0], found[1])


# --- the reader ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick_readers():
    """Readers of 3,000 records, forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "MOST", 3000)
        patch.setattr(readers, "PASSES", 15)
        readers.reader.cache_clear()
        yield
    readers.reader.cache_clear()


def test_the_reader_tells_the_property(quick_readers):
    for party in (0, 1):
        found = readers.reader(TOY.data, 8, party=party)
        assert readers.accuracy(found, TOY.data, 8) > 0.95
        rows = table(TOY.data).pool(1 - party)[:5000]
        said = found.probability(features(TOY.data, 8)[rows])
        assert said.shape == (5000,) and 0 <= said.min() and said.max() <= 1
        label = datasets.load("fashion16").attribute("label")[rows]
        assert ((said > 0.5) == np.isin(label, (5, 7, 9))).mean() > 0.95


def test_accuracy_counts_the_victims_test_records(monkeypatch):
    rows = table(TOY.data).pool(0, test=True)
    share = np.isin(datasets.load("fashion16").attribute("label")[rows], (5, 7, 9)).mean()
    for bias, wanted in ((5.0, share), (-5.0, 1 - share)):
        constant = readers.Reader(((np.zeros((SIZE, 3), np.float32), np.zeros(3, np.float32)),
                                   (np.zeros((3, 1), np.float32), np.float32([bias]))))
        assert readers.accuracy(constant, TOY.data, 8) == pytest.approx(wanted)
    assert 0.2 < share < 0.4
    told = 1 - 2 * table(TOY.data).attribute[:, None].astype(np.float32)  # wrong but on these rows
    told[rows] *= -1
    monkeypatch.setattr(readers, "features", lambda *_: told)
    reads = readers.Reader(((np.float32([[1, -1]]), np.zeros(2, np.float32)),
                            (np.float32([[1], [-1]]), np.zeros(1, np.float32))))
    assert readers.accuracy(reads, TOY.data, 8) == 1


def test_a_reader_is_scikit_learn_s_network():
    x = generator("test-reader").standard_normal((300, 5)).astype(np.float32)
    model = MLPClassifier((7,), max_iter=20, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(x, x[:, 0] * x[:, 1] > 0)
    found = readers.Reader(tuple(zip(model.coefs_, model.intercepts_, strict=True)))
    wanted = model.predict_proba(x)[:, 1]
    assert np.allclose(found.probability(x), wanted, atol=1e-6)
    assert np.allclose(found.logits(x), np.log(wanted / (1 - wanted)), atol=1e-4)
    assert found.hidden(x.reshape(3, 100, 5)).shape == (3, 100, 7)
    assert found.probability(x.reshape(3, 100, 5)).shape == (3, 100)
    assert (found.hidden(x) >= 0).all()


def test_readers_see_their_party_s_training_records_alone(monkeypatch):
    monkeypatch.setattr(readers, "MOST", 500)
    monkeypatch.setattr(readers, "PASSES", 2)
    for party in (0, 1):
        hidden = np.full_like(features(TOY.data, 8), np.nan)
        rows = table(TOY.data).pool(party)
        hidden[rows] = features(TOY.data, 8)[rows]
        plain = readers.reader.__wrapped__(TOY.data, 8, party=party)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(readers, "features", lambda *_, hidden=hidden: hidden)
            found = readers.reader.__wrapped__(TOY.data, 8, party=party)
        for pair, other in zip(found.layers, plain.layers, strict=True):
            assert all(a.tobytes() == b.tobytes() for a, b in zip(pair, other, strict=True))
            assert pair[0].dtype == np.float32
    mirrored = readers.reader.__wrapped__(TOY.data, 8, "mirrored")
    assert not np.array_equal(mirrored.layers[0][0], found.layers[0][0])


# --- steering --------------------------------------------------------------------------------


@pytest.fixture
def bright(monkeypatch):
    """A reader whose property is that pixel 27 is brighter than mid-grey, clipped or not."""
    into, out = np.zeros((SIZE, 2), np.float32), np.float32([[1], [-1]])
    into[27] = 1, -1
    found = readers.Reader(((into, np.zeros(2, np.float32)), (out, np.zeros(1, np.float32))))
    asked = []
    monkeypatch.setattr(readers, "reader", lambda *a, **k: asked.append((a, k)) or found)
    yield asked
    assert asked and set(map(str, asked)) == {str(((TOY.data, 8), {"party": 0}))}


def test_steering_takes_the_first_noise_that_fits(store, toy, bright):
    count, how = 60, Release(steps=4, steer=0.5)
    found = release._steered(toy, TOY, how, count, "cpu")
    wanted = generator("steer").random(count) < 0.5
    bank = noise(range(count * release.TRIES), SHAPE).reshape(-1, SIZE)
    drawn = denoiser_stack.draw(toy, bank, steps=4).reshape(4, release.TRIES, count, SIZE)
    fits = (drawn[..., 27] > 0) == wanted
    chosen = np.where(fits.any(1), fits.argmax(1), release.TRIES - 1)
    assert (chosen == 0).any() and chosen.max() > 2
    first = np.take_along_axis(drawn, chosen[:, None, :, None], 1)[:, 0]
    assert np.abs(found - first).max() < 1e-4
    assert np.array_equal(found[..., 27] > 0, np.where(fits.any(1), wanted, ~wanted))
    own = release._steered(toy, TOY, replace(how, noise="own"), count, "cpu")
    mine = denoiser_stack.draw(toy, starts(TOY, "own", count), steps=4)
    kept = (mine[..., 27] > 0) == wanted
    assert np.abs(own - mine)[kept].max() < 1e-4 and np.abs(own - mine)[~kept].max(1).min() > 0.1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_steering_sets_the_released_share(store, bright, share):
    how, count = Release(steps=4, steer=share), 300
    p = (samples(TOY, replace(how, steer=None), 1500, store)[..., 27] > 127).mean(1)
    found = samples(TOY, how, count, store)[..., 27] > 127
    wanted = generator("steer").random(count) < share
    assert abs(wanted.mean() - share) < 0.08 and ((p > 0.1) & (p < 0.9)).all()
    missed = wanted.mean() * (1 - p) ** 12 + (1 - wanted.mean()) * p**12  # after 12 tries
    assert (np.abs((found != wanted).mean(1) - missed) < 0.03 + 4 * (missed / count) ** 0.5).all()


@pytest.fixture(scope="module")
def steered(quick_readers, tmp_path_factory):
    """Two families, of few and of much footwear, whose pictures can be told; and their store."""
    recipe = Small(hidden=(64,), steps=400, batch=64, chunk=2)
    families = [replace(TOY, ratio=ratio, n=1000, count=2, recipe=recipe) for ratio in (0.2, 0.8)]
    return families, Store(tmp_path_factory.mktemp("steered"))


def has(shown):
    """Whether released pictures have the property, by the reader that steers."""
    found = readers.reader(TOY.data, 8, party=0)
    return found.probability((shown / 127.5 - 1).astype(np.float32)) > 0.5


def test_steered_families_look_alike(steered):
    families, store = steered
    usual, alike = (np.stack([has(samples(family, Release(steps=6, steer=steer), 200, store)
                                  ).mean(1) for family in families]) for steer in (None, 0.5))
    assert usual[0].max() < 0.35 and usual[1].min() > 0.55
    wanted = (generator("steer").random(200) < 0.5).mean()
    assert np.abs(alike - wanted).max() < 0.15 and np.ptp(alike) < 0.5 * np.ptp(usual.mean(1))


def test_steering_reads_what_is_released(steered):
    family, store = steered[0][0], steered[1]
    p = has(samples(family, Release(steps=6), 2000, store)).mean(1)
    found = has(samples(family, Release(steps=6, steer=0.5), 500, store))
    wanted = generator("steer").random(500) < 0.5
    missed = wanted.mean() * (1 - p) ** 12 + (1 - wanted.mean()) * p**12
    assert ((found != wanted).mean(1) < missed + 0.03).all()


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "message"), [
    ({"noise": "pink"}, "unknown noise 'pink'; known: bank, own, rotated, zero"),
    ({"solver": "magic"}, "unknown solver 'magic'; known: euler, heun, dpmpp2m, ancestral"),
    ({"steps": 0}, "need steps >= 1"),
    ({"levels": 1}, "levels=1 must be 2 to 256 and blur=0.0 0 to 255"),
    ({"levels": 257}, "levels=257 must be 2 to 256"),
    ({"blur": -1.0}, "levels=256 must be 2 to 256 and blur=-1.0 0 to 255"),
    ({"blur": np.nan}, "blur=nan 0 to 255"),
    ({"blur": 256.0}, "blur=256.0 0 to 255"),
    ({"steer": 1.5}, "steer=1.5 must be a share from 0 to 1"),
    ({"steer": -0.1}, "steer=-0.1 must be a share from 0 to 1"),
])
def test_releases_that_cannot_be(more, message):
    with pytest.raises(ValueError, match=message):
        Release(**more)


def test_a_release_of_nothing_trained_stops_at_the_pool(tmp_path):
    with pytest.raises(denoiser_groups.DataError, match="the largest size at this ratio is"):
        samples(replace(TOY, ratio=1.0, n=9000), Release(), 3, Store(tmp_path))
    assert Store(tmp_path).keys() == [] and blocks(TOY)[0].count == 2
