"""What releases are worth: distances of laws, denoising losses, and a family's measures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.stats import ortho_group

from helpers import readers, utility
from helpers.denoiser_groups import Family, Net, draws, features, fitted
from helpers.denoiser_stack import Denoisers, Small
from helpers.groups import Data, table
from helpers.release import Release, samples
from helpers.store import Store
from helpers.utility import LEVELS, frechet, losses, measure

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("quick_readers")
RECIPE = Small(hidden=(16,), steps=60, batch=8, rate=1e-2, warmup=5, chunk=2)
FAMILY = Family(ratio=0.7, n=64, count=3, recipe=RECIPE, side=4)
PLAIN = Release()
NAMES = {"frechet", "moved", "surely", "share", "loss"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def shown(store, release=PLAIN, family=FAMILY, count=30):
    return samples(family, release, count, store).astype(np.float32)


def exactly(mean, cov, count, seed):
    """Records whose own mean and covariance (divided by count - 1) are the given ones."""
    x = np.random.default_rng(seed).standard_normal((count, len(mean)))
    x -= x.mean(0)
    root = np.linalg.cholesky(np.cov(x, rowvar=False))
    return mean + x @ np.linalg.inv(root).T @ np.linalg.cholesky(cov).T


# --- distance of Gaussians -------------------------------------------------------------------


def test_distance_of_diagonal_gaussians_is_the_closed_form():
    """|m - m'|^2 + sum (s - s')^2, for standard deviations s."""
    means, sds = np.array([[0.0, 1, -2], [0.5, 1, 1]]), np.array([[1.0, 2, 0.3], [1.5, 0.5, 0.3]])
    wanted = ((means[0] - means[1]) ** 2).sum() + ((sds[0] - sds[1]) ** 2).sum()
    sets = [exactly(mean, np.diag(sd**2), 50, k) for k, (mean, sd) in enumerate(
        zip(means, sds, strict=True))]
    assert frechet(*sets) == pytest.approx(wanted, rel=1e-9) == pytest.approx(frechet(*sets[::-1]))
    drawn = [mean + sd * np.random.default_rng(k).standard_normal((40_000, 3))
             for k, (mean, sd) in enumerate(zip(means, sds, strict=True))]
    # The largest part, (1 + 2)^2 of the third mean, errs by 6 sd (s^2 + s'^2)^.5 / n^.5.
    assert frechet(*drawn) == pytest.approx(wanted, abs=0.1)


def test_distance_of_gaussians_that_do_not_commute():
    """From eigenvalues: the trace of the root of A B is the sum of roots of those of A B."""
    covs = []
    for k, values in enumerate(([3.0, 1, 0.2, 0.05], [0.5, 2, 2, 1])):
        turn = ortho_group.rvs(4, random_state=k)
        covs.append(turn @ np.diag(values) @ turn.T)
    sets = [exactly(np.full(4, k), cov, 60, k) for k, cov in enumerate(covs)]
    root = np.sqrt(eigh(covs[0], np.linalg.inv(covs[1]), eigvals_only=True)).sum()
    wanted = 4 + np.trace(covs[0]) + np.trace(covs[1]) - 2 * root
    assert frechet(*sets) == pytest.approx(wanted, rel=1e-8)
    turn = ortho_group.rvs(4, random_state=9)
    assert frechet(*(part @ turn + 3 for part in sets)) == pytest.approx(wanted, rel=1e-8)


def test_equal_sets_have_no_distance():
    stream = np.random.default_rng(0)
    part = stream.standard_normal((300, 6))
    assert frechet(part, part) == pytest.approx(0, abs=1e-9)
    assert frechet(part, part[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet(part, part + 2) == pytest.approx(6 * 4)
    other = stream.standard_normal((300, 6))
    assert 0 < frechet(part, other) < 0.3 < frechet(part[:20], other)


def test_a_few_samples_or_dead_pixels_have_a_distance_too():
    """Covariances of less than full rank, as of 20 pictures or of pixels that never change."""
    stream = np.random.default_rng(1)
    few, many = stream.standard_normal((20, 40)), stream.standard_normal((500, 40))
    few[:, :5] = many[:, :3] = -1
    means, covs = zip(*((p.mean(0), np.cov(p, rowvar=False)) for p in (few, many)), strict=True)
    root = np.sqrt(np.linalg.eigvals(covs[0] @ covs[1]).real.clip(0)).sum()
    wanted = ((means[0] - means[1]) ** 2).sum() + np.trace(covs[0] + covs[1]) - 2 * root
    assert frechet(few, many) == pytest.approx(wanted, rel=1e-5)
    assert frechet(few, few) == pytest.approx(0, abs=1e-5)


# --- denoising losses ------------------------------------------------------------------------


def silent(size, models=1, bias=0.0) -> Denoisers:
    """Denoisers whose network answers `bias` to everything: D = c_skip x + c_out bias."""
    layers = tuple((np.zeros((models, a, b), np.float32), np.zeros((models, 1, b), np.float32))
                   for a, b in ((size + 16, 3), (3, size)))
    layers[1][1][:] = np.reshape(bias, (-1, 1, 1))
    return Denoisers(Small(hidden=(3,)), layers, {})


def known(value, bias=0.0):
    """Expected loss of a silent denoiser on records of one value, by hand (sigma_data = .5).

    c_skip = .25 / t and c_out^2 = .25 sigma^2 / t, for t = sigma^2 + .25.
    """
    total = 0.0
    for sigma in LEVELS:
        t = sigma**2 + 0.25
        skip, out = 0.25 / t, np.sqrt(0.25 * sigma**2 / t)
        total += (((skip - 1) * value + out * bias) ** 2 + (skip * sigma) ** 2) / out**2
    return total / len(LEVELS)


def test_losses_of_a_silent_network_by_hand():
    size = 30_000  # the mean over so many values has a relative error below (2 / size)^.5
    values, bias = np.array([0.0, 0.5, -1.0]), 0.3
    records = np.repeat(values, size).reshape(1, 3, size).astype(np.float32)
    for of in (0.0, bias):
        found = losses(silent(size, bias=of), records)
        assert found.shape == (1, 3) and found.dtype == np.float32
        assert found[0] == pytest.approx([known(value, of) for value in values], rel=0.03)
    assert known(0.0) < known(0.5) < known(-1.0)


def test_losses_are_means_over_models_and_noises_go_by_place():
    records = np.random.default_rng(0).uniform(-1, 1, (2, 5, 40)).astype(np.float32)
    records[1, :4] = records[0, :4]
    models = silent(40, 2, (0.0, 0.8))
    found = losses(models, records)
    np.testing.assert_array_equal(found[0, :4], found[1, :4])
    assert found[0, 4] != found[1, 4]
    parts = [losses(models.take([k]), records) for k in (0, 1)]
    assert found == pytest.approx(np.mean(parts, axis=0), rel=1e-5)
    assert (np.abs(parts[0] - parts[1]) > 1e-3).all()
    assert found == pytest.approx(losses(models, records, seed=0), rel=0)
    assert not np.allclose(found, losses(models, records, seed=1))
    alone = losses(models, records[:, :3])
    assert alone.shape == (2, 3) and np.isfinite(alone).all()
    same = np.repeat(records[:1, :1], 5, axis=1)
    assert len(set(losses(models, same)[0].tolist())) == 5  # a noise for each place


@pytest.mark.parametrize("kind", ["small", "net"])
def test_losses_agree_with_the_denoisers_own_error(kind, store):
    """Over many records, with noises of another stream."""
    family = FAMILY if kind == "small" else replace(
        FAMILY, side=8, n=32, count=2, recipe=Net("unet-20k", steps=6, batch=8, warmup=1, chunk=2))
    models, _ = fitted(family, store)
    side = family.side
    clean = features(family.data, side)[:300]
    found = losses(models, clean[None]).ravel()
    source, each = torch.Generator().manual_seed(5), np.zeros(300)
    for sigma in LEVELS:
        x = torch.from_numpy(clean)
        noisy = x + sigma * torch.randn(x.shape, generator=source)
        if kind == "small":
            said = models.denoiser()(noisy[None].expand(3, -1, -1), sigma)
        else:
            said = torch.stack([model.denoiser()(noisy.view(-1, 1, side, side), torch.tensor(sigma))
                                .flatten(1) for model in models.members])
        error = (said.detach() - x).double().square().mean((0, 2)).numpy()
        each += error * (sigma**2 + 0.25) / (0.25 * sigma**2) / len(LEVELS)
    gap = found - each
    assert abs(gap.mean()) < 4 * gap.std() / 300**0.5 < 0.05 * each.mean()
    assert np.corrcoef(found, each)[0, 1] > 0.5


# --- measures of a release -------------------------------------------------------------------


def test_measures_by_hand(store):
    release = Release(levels=4, blur=20.0)
    part, plain = shown(store, release), shown(store)
    found = measure(FAMILY, release, part, plain, store)
    assert set(found) == NAMES
    assert all(value.shape == (3,) and np.isfinite(value).all() for value in found.values())
    read = readers.reader(FAMILY.data, 4, party=0)
    for model in range(3):
        gap = [float(a) - float(b) for a, b in zip(part[model].ravel(), plain[model].ravel(),
                                                   strict=True)]
        assert found["moved"][model] == pytest.approx(np.mean(np.square(gap)) ** 0.5, rel=1e-5)
        said = np.array([float(read.probability(one / np.float32(127.5) - 1))
                         for one in part[model]])
        assert found["share"][model] == pytest.approx((said > 0.5).mean())
        assert found["surely"][model] == pytest.approx(((said >= 0.95) | (said <= 0.05)).mean())
    assert found["moved"].min() > 10
    assert (found["frechet"] > measure(FAMILY, PLAIN, plain, plain, store)["frechet"]).all()


def test_an_undefended_release_is_not_moved(store):
    part = shown(store)
    found = measure(FAMILY, PLAIN, part, part, store)
    assert not found["moved"].any()
    longer = measure(FAMILY, PLAIN, part[:, :10], part, store)  # the first ones are compared
    assert not longer["moved"].any() and longer["frechet"].shape == (3,)
    np.testing.assert_array_equal(longer["loss"], found["loss"])  # of the models, not the samples


def test_quality_is_held_against_as_many_test_records_of_either_group(store, monkeypatch):
    seen, plain = [], utility.losses
    monkeypatch.setattr(utility, "losses", lambda models, records, *more: seen.append(
        records) or plain(models, records, *more))
    monkeypatch.setattr(utility, "HELD", 60)
    part = shown(store)
    found = measure(FAMILY, PLAIN, part, part, store)
    source, values = table(FAMILY.data), features(FAMILY.data, 4)
    assert len(seen) == 3 and all(np.array_equal(real, seen[0]) for real in seen)
    place = {row.tobytes(): k for k, row in reversed(list(enumerate(values)))}
    rows = np.array([place[row.tobytes()] for row in seen[0][0]])
    assert len(set(rows)) == 60 and source.attribute[rows].mean() == 0.5
    assert (source.party[rows] == 0).all() and source.held_out[rows].all()
    assert not np.intersect1d(rows, draws(FAMILY)).size
    for model in range(3):
        assert found["frechet"][model] == pytest.approx(
            frechet(part[model] / np.float32(127.5) - 1, values[rows]), rel=1e-4)
        assert found["loss"][model] == pytest.approx(
            plain(fitted(FAMILY, store)[0].take([model]), seen[0], 1).mean())


def test_better_models_have_less_loss(store):
    part = shown(store)
    long = replace(FAMILY, recipe=replace(RECIPE, steps=600))
    found, other = (measure(family, PLAIN, part, part, store)["loss"]
                    for family in (FAMILY, long))
    assert (other < found).all()


def test_one_sample_has_no_law(store):
    part = shown(store, Release(noise="zero"), count=1)
    found = measure(FAMILY, Release(noise="zero"), part, shown(store), store)
    assert part.shape == (3, 1, 16) and np.isnan(found["frechet"]).all()
    assert all(np.isfinite(found[name]).all() for name in NAMES - {"frechet"})


def test_tables_are_measured_in_their_units(store):
    people = replace(FAMILY, data=Data("acs_ma", "sex", mode="free"), side=0, count=2)
    part = shown(store, family=people)
    found = measure(people, PLAIN, part, part, store)
    said = readers.reader(people.data, 0, party=0).probability(part)
    assert found["share"] == pytest.approx((said > 0.5).mean(1)) and not found["moved"].any()
    assert np.isfinite(found["frechet"]).all()
