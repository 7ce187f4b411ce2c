"""Scores against scikit-learn, scipy and plain arithmetic; nulls, bounds and symmetry."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from statsmodels.stats.proportion import proportion_confint

from helpers import scores
from helpers.intervals import Interval


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def images(rng, n, size=8, channels=1):
    return rng.integers(0, 256, (n, size, size, channels), dtype=np.uint8)


def digits():
    return (load_digits().images * 15.9375).astype(np.uint8)[..., None]


def unit(rng, n, d):
    x = rng.normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def flat(x):
    return x.reshape(len(x), -1).astype(np.float64)


@pytest.mark.parametrize("channels", [1, 3])
def test_mae_is_plain_arithmetic(rng, channels):
    a, b = images(rng, 20, channels=channels), images(rng, 20, channels=channels)
    assert scores.mae(a, b) == pytest.approx(np.abs(flat(a) - flat(b)).mean(axis=1))
    assert (scores.mae(a, b) == scores.mae(b, a)).all()
    assert (scores.mae(a, a) == 0).all()
    extreme = np.zeros_like(a)
    assert (scores.mae(extreme, extreme + 255) == 255).all()


def test_mae_score_counts_strictly(rng):
    a = np.zeros((4, 8, 8, 1), dtype=np.uint8)
    b = a + np.array([0, 14, 15, 16], dtype=np.uint8)[:, None, None, None]
    found = scores.mae_score(a, b)
    low, high = proportion_confint(2, 4, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((0.5, low, high))
    assert scores.agree(a, b).tolist() == [True, True, False, False]
    assert scores.mae_score(a, b, threshold=16).value == 0.75


@pytest.mark.parametrize("bad", [
    np.zeros((3, 8, 8, 1), np.float32), np.zeros((3, 8, 8), np.uint8),
    np.zeros((2, 8, 8, 1), np.uint8)])
def test_mae_refuses(bad):
    with pytest.raises(ValueError, match="need"):
        scores.mae(np.zeros((3, 8, 8, 1), np.uint8), bad)


def test_similarity_takes_the_best_block(rng):
    a, b = (unit(rng, 9, 5), unit(rng, 9, 3)), (unit(rng, 9, 5), unit(rng, 9, 3))
    each = np.stack([1 - np.diag(cdist(x, y, "cosine")) for x, y in zip(a, b, strict=True)])
    assert scores.similarity(a, b) == pytest.approx(each.max(axis=0), abs=1e-6)
    assert scores.similarity(a[0], b[0]) == pytest.approx(each[0], abs=1e-6)
    assert scores.rp(a, b, 0.3).value == np.mean(each.max(axis=0) > 0.3)
    with pytest.raises(ValueError, match="one descriptor"):
        scores.similarity(a, b[0])


def test_gl_is_scikit_learns(rng):
    emb, refs = unit(rng, 50, 6), unit(rng, 300, 6)
    model = NearestNeighbors(n_neighbors=1, metric="cosine").fit(refs)
    best = 1 - model.kneighbors(emb)[0][:, 0]
    for chunk in (1, 700, 2**22):
        assert scores.nearest_similarity(emb, refs, chunk) == pytest.approx(best, abs=1e-6)
    assert scores.gl(emb, refs, 0.9).value == pytest.approx(1 - np.mean(best > 0.9))
    assert scores.gl(refs[:20], refs, 0.99).value == 0


def test_gl_limits_its_references(rng, monkeypatch):
    monkeypatch.setattr(scores, "MAX_REFERENCES", 10)
    refs = unit(rng, 40, 4)
    found = scores.nearest_similarity(refs, refs)
    assert (found > 1 - 1e-6).sum() == 10
    assert (found == scores.nearest_similarity(refs, refs)).all()


def test_threshold_curve(rng):
    values = rng.random(200)
    up = scores.threshold_curve(values, [0.0, 0.5, 1.0])
    down = scores.threshold_curve(values, [0.0, 0.5, 1.0], below=True)
    assert [i.value for i in up] == [1, np.mean(values > 0.5), 0]
    assert [i.value for i in down] == [0, np.mean(values < 0.5), 1]
    low, high = proportion_confint((values > 0.5).sum(), 200, method="wilson")
    assert (up[1].low, up[1].high) == pytest.approx((low, high))


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 1), (32, 3)])
def test_nearest_two_is_exact(rng, size, channels):
    drawn, train = images(rng, 40, size, channels), images(rng, 90, size, channels)
    full = cdist(flat(drawn), flat(train), "sqeuclidean").round().astype(np.int64)
    squared, index = scores.nearest_two(drawn, train)
    assert (squared == np.sort(full, axis=1)[:, :2]).all()
    assert (index == full.argmin(axis=1)).all()
    # Alike and dark: every product is large and of one sign, where float32 sums would round.
    dark, darker = drawn // 16, train // 16
    full = cdist(flat(dark), flat(darker), "sqeuclidean").round().astype(np.int64)
    assert (scores.nearest_two(dark, darker)[0] == np.sort(full, axis=1)[:, :2]).all()
    # Black against white is the largest product; one grey level is the smallest distance.
    hard = np.zeros((2, size, size, channels), np.uint8)
    white = np.stack([hard[0] + 255, hard[0]])
    white[1, 0, 0, 0] = 1
    squared, index = scores.nearest_two(hard, white)
    assert squared.tolist() == [[1, hard[0].size * 255**2]] * 2 and index.tolist() == [1, 1]


def test_nearest_two_across_tiles(rng, monkeypatch):
    drawn, train = images(rng, 25, 4), images(rng, 60, 4)
    whole = scores.nearest_two(drawn, train)
    monkeypatch.setattr(scores._squared_tiles, "__defaults__", (7, 1))
    tiled = scores.nearest_two(drawn, train)
    assert (whole[0] == tiled[0]).all() and (whole[1] == tiled[1]).all()


def test_copies_is_scikit_learns(rng):
    every = digits()
    train = np.unique(every[:600], axis=0)
    noisy = train[:100].astype(int) + rng.integers(-1, 2, train[:100].shape) * rng.integers(
        0, 90, (100, 1, 1, 1))
    drawn = np.concatenate([noisy.clip(0, 255).astype(np.uint8), every[1000:1100]])
    distance, _ = NearestNeighbors(n_neighbors=2).fit(flat(train)).kneighbors(flat(drawn))
    found = scores.copies(drawn, train)
    assert (found == (distance[:, 0] < distance[:, 1] / 3)).all()
    assert 10 < found[:100].sum() < 100 and not found[100:].any()


def test_copy_share_counts_copies(rng):
    train, far = rng.integers(0, 256, (2, 6, 4, 4, 1), dtype=np.uint8)
    drawn = np.concatenate([train[:3], far])
    assert scores.copy_share(drawn, train).value == scores.copies(drawn, train).mean() >= 1 / 3


def test_copies_decides_exactly_at_one_third():
    train = np.zeros((2, 4, 4, 1), np.uint8)
    train[1, 0, 0, 0] = 200
    drawn = np.zeros((4, 4, 4, 1), np.uint8)
    drawn[:, 0, 0, 0] = [0, 49, 50, 51]  # d1/d2 = 0, 49/151, 50/150 exactly, 51/149
    assert scores.copies(drawn, train).tolist() == [True, True, False, False]
    assert scores.copies(drawn, train, 1 / 3).tolist() == [True, True, False, False]
    assert scores.copies(drawn, train, Fraction(1, 2)).all()
    drawn[:, 0, 0, 0] = [56, 57, 58, 80]  # 2/5 lies between 57/143 and 58/142
    assert scores.copies(drawn, train, 0.4).tolist() == [True, True, False, False]


def test_copies_of_duplicated_training_images(rng):
    train = images(rng, 5)
    train = np.concatenate([train, train])
    near = train[:5].copy()
    near[:, 0, 0, 0] ^= 1
    assert scores.copies(train, train).all()  # d1 = d2 = 0 among duplicates
    assert scores.copies(near, train).all()  # the twin is not a second image
    assert scores.nearest_two(near, train)[1].tolist() == [0, 1, 2, 3, 4]


def test_copies_refuses(rng):
    one = np.repeat(images(rng, 1), 3, axis=0)
    with pytest.raises(ValueError, match="at least 2"):
        scores.copies(one, one)
    with pytest.raises(ValueError, match="1/3"):
        scores.copies(images(rng, 3), images(rng, 3), 1.5)
    with pytest.raises(ValueError, match="one shape"):
        scores.copies(images(rng, 3, 8), images(rng, 3, 16))


def test_flow_distance(rng):
    a, b = images(rng, 60, channels=3), images(rng, 60, channels=3)
    squared = ((flat(a) - flat(b)) ** 2).mean(axis=1)
    assert scores.squared_distance(a, b) == pytest.approx(squared)
    found = scores.flow_distance(a, b)
    assert found.value == pytest.approx(np.sqrt(squared.mean()))
    assert found.low < found.value < found.high
    assert scores.flow_distance(a, a) == Interval(0, 0, 0)
    assert (scores.squared_distance(a, b) >= scores.mae(a, b) ** 2 - 1e-9).all()
    e, f = unit(rng, 30, 4), unit(rng, 30, 4)
    euclid = np.sqrt((np.diag(cdist(e, f)) ** 2).mean())
    assert scores.flow_distance(e, f).value == pytest.approx(euclid, abs=1e-6)


def test_null_never_pairs_a_noise_with_itself(rng):
    a = images(rng, 7)
    assert scores.null_score(a, a, scores.mae_score, rounds=6).value == 0
    marks = np.arange(7)
    seen = []

    def collect(x, y):
        seen.append(y)
        return Interval(np.mean(x == y), 0, 0)

    assert scores.null_score(marks, marks, collect, rounds=6).value == 0
    assert all(sorted(order) == marks.tolist() for order in seen)
    assert len({tuple(order) for order in seen}) == 6


def test_null_is_chance(rng):
    # Pictures of five kinds, the same for both models: chance is the sum of squared shares.
    kinds = images(rng, 5)
    which = rng.choice(5, size=400, p=[0.4, 0.3, 0.1, 0.1, 0.1])
    share = np.bincount(which, minlength=5) / 400
    drawn = kinds[which]
    found = scores.null_score(drawn, drawn.copy(), scores.mae_score, rounds=30)
    assert found.value == pytest.approx((share**2).sum(), abs=0.02)
    assert found.low < found.value < found.high
    assert found == scores.null_score(drawn, drawn, scores.mae_score, rounds=30)
    blocks = (unit(rng, 50, 3), unit(rng, 50, 2))
    assert scores.null_score(blocks, blocks, lambda x, y: scores.rp(x, y, 0.999)).value < 0.2
    with pytest.raises(ValueError, match="at least 2"):
        scores.null_score(drawn[:1], drawn[:1], scores.mae_score)


def test_kappa():
    assert scores.kappa(0.6, 0.2) == pytest.approx(0.5)
    found = scores.kappa(Interval(0.6, 0.2, 1.0), Interval(0.2, 0.1, 0.3))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0, 1))
    with pytest.raises(ValueError, match="below 1"):
        scores.kappa(0.5, 1.0)


@pytest.mark.parametrize(("sigma", "channels"), [(1.0, 1), (80.0, 1), (80.0, 3)])
def test_nearest_to_noise_is_scikit_learns(rng, monkeypatch, sigma, channels):
    train = images(rng, 500, 4, channels)
    noise = rng.normal(size=(80, channels, 4, 4)).astype(np.float32)
    start = sigma * np.moveaxis(noise, 1, -1).reshape(80, -1).astype(np.float64)
    model = NearestNeighbors(n_neighbors=1).fit(flat(train) / 127.5 - 1)
    expected = model.kneighbors(start)[1][:, 0]
    drawn, index = scores.nearest_to_noise(noise, train, sigma)
    assert (index == expected).all() and (drawn == train[expected]).all()
    monkeypatch.setattr(scores, "TILE", 80 * 130)
    assert (scores.nearest_to_noise(noise, train, sigma)[1] == expected).all()
    with pytest.raises(ValueError, match="C, H, W"):
        scores.nearest_to_noise(noise.reshape(80, 4, -1, 4), train)


def test_pair_matrix(rng):
    maps = [images(rng, 30) // 16 for _ in range(3)]
    found = scores.pair_matrix(maps, scores.flow_distance)
    for part in found:
        assert (part == part.T).all() and (np.diag(part) == 0).all()
    assert found.value[0, 2] == scores.flow_distance(maps[0], maps[2]).value

    class Map:
        def __init__(self, images):
            self.images = images

    same = scores.pair_matrix([Map(m) for m in maps], scores.flow_distance)
    assert (same.value == found.value).all()


def fields(rng, n, pixels=16):
    return rng.normal(0, 20, (n, pixels))


def as_images(x):
    return (128 + x).round().clip(0, 255).astype(np.uint8).reshape(len(x), 4, 4, 1)


def test_explained_share_separates_causes(rng):
    g, shared = fields(rng, 400), fields(rng, 400)
    a, b = fields(rng, 400) / 2, fields(rng, 400) / 2
    only = scores.explained_share(as_images(g + a), as_images(g + b), as_images(g))
    assert only.share.value == pytest.approx(1 - 0.25 / 1.25, abs=0.03)  # var 1 + 1/4
    assert abs(only.residual.value) < 0.05 and abs(only.null) < 0.05
    more = scores.explained_share(
        as_images(g + shared + a), as_images(g + shared + 2 * b), as_images(g))
    assert more.residual.value == pytest.approx(1 / np.sqrt(1.25 * 2), abs=0.03)
    assert more.residual.low > more.null + 0.4
    # Nothing shared with the oracle: plain differences would correlate through the oracle.
    apart = scores.explained_share(as_images(a), as_images(b), as_images(g))
    assert abs(apart.residual.value) < 0.05 and apart.share.value < 0
    # A map that shrinks the oracle's picture shares no more with another one than the oracle.
    shrunk = scores.explained_share(as_images(0.6 * g + a), as_images(0.6 * g + b), as_images(g))
    assert abs(shrunk.residual.value) < 0.05


def test_explained_share_bounds(rng):
    a, g = as_images(fields(rng, 50)), as_images(fields(rng, 50))
    assert scores.explained_share(a, a, a).share.value == 1
    assert scores.explained_share(a, a, g).residual.value == pytest.approx(1)
    still = np.full_like(a, 7)
    found = scores.explained_share(still, still, g)
    assert np.isnan(found.share.value) and np.isnan(found.residual.value)
