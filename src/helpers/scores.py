"""How alike two noise-to-image maps are, and how near their pictures come to the training images.

Images are uint8 [n, H, W, C]; row i of every map was drawn from noise i. Embeddings are what a
descriptor returns: a tuple of blocks, float32 [n, d_b] with unit rows (a single array counts as one
block); the similarity of two pictures is the largest of the blocks' dot products.
Distances between uint8 images are whole numbers and are computed exactly: grey levels shifted to
-128..127 give products of at most 2^14, so a float32 matrix product over at most 1,024 of them
stays within 2^24, where float32 holds every integer; longer images are summed slice by slice.
Scores follow Zhang et al. (arXiv 2310.05264, section 2) unless stated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from helpers.intervals import Interval, bootstrap, wilson
from helpers.noise import generator

EXACT = 1024  # pixels in one exact float32 product
MAX_REFERENCES = 16_384
TILE = 2**22  # entries of one product, which bounds the memory
Embedding = np.ndarray | tuple[np.ndarray, ...]


def mae(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean absolute difference of paired images on [0, 255]; uint8 [n, H, W, C] -> float64 [n]."""
    a, b = _paired(a, b)
    gap = np.maximum(a, b) - np.minimum(a, b)
    return gap.reshape(len(a), -1).mean(axis=1, dtype=np.float64)


def agree(a: np.ndarray, b: np.ndarray, threshold: float = 15.0) -> np.ndarray:
    """Whether paired images differ by less than `threshold` in `mae`: bool [n], for a bootstrap."""
    return mae(a, b) < threshold


def mae_score(a: np.ndarray, b: np.ndarray, threshold: float = 15.0) -> Interval:
    """MAE score P(mean |a - b| < threshold) over noises, with a Wilson interval."""
    return _share(agree(a, b, threshold))


def similarity(a: Embedding, b: Embedding) -> np.ndarray:
    """Similarity of paired pictures, float64 [n]: the largest of the blocks' dot products."""
    a, b = _blocks(a), _blocks(b)
    if [x.shape for x in a] != [x.shape for x in b]:
        raise ValueError(f"blocks {[x.shape for x in a]} against {[x.shape for x in b]}: "
                         "embed both maps with one descriptor on the same noises")
    return np.max([np.einsum("nd,nd->n", x, y, dtype=np.float64)
                   for x, y in zip(a, b, strict=True)], axis=0)


def rp(emb_a: Embedding, emb_b: Embedding, threshold: float) -> Interval:
    """Reproducibility score P(similarity > threshold) over noises, with a Wilson interval."""
    return _share(similarity(emb_a, emb_b) > threshold)


def nearest_similarity(emb: Embedding, refs: Embedding, chunk: int = TILE) -> np.ndarray:
    """Similarity of each picture to the reference most similar to it, float64 [n].

    At most `MAX_REFERENCES` references are used: a larger set is replaced by a subset that depends
    on its size alone (stream "references"). `chunk` bounds the entries of one product.
    """
    emb, refs = _blocks(emb), _blocks(refs)
    total = len(refs[0])
    if total > MAX_REFERENCES:
        kept = np.sort(generator("references", total).permutation(total)[:MAX_REFERENCES])
        refs = tuple(x[kept] for x in refs)
    best = np.full(len(emb[0]), -np.inf)
    step = max(1, chunk // len(refs[0]))
    for x, y in zip(emb, refs, strict=True):
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            best[rows] = np.maximum(best[rows], (x[rows] @ y.T).max(axis=1))
    return best


def gl(emb: Embedding, refs: Embedding, threshold: float) -> Interval:
    """Generalisation score 1 - P(max over training images of similarity > threshold), Wilson.

    It measures novelty, not quality: noise scores 1. See `nearest_similarity` for the references.
    """
    return _share(nearest_similarity(emb, refs) <= threshold)


def threshold_curve(values: np.ndarray, grid: np.ndarray, *, below: bool = False,
                    ) -> tuple[Interval, ...]:
    """Share of `values` above each threshold of `grid` (`below`, for distances), Wilson bands."""
    values = np.asarray(values)
    return tuple(_share(values < t if below else values > t) for t in np.asarray(grid))


def nearest_two(images: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact squared distances to the two nearest different training images.

    Returns sums over pixels of squared differences on [0, 255], int64 [n, 2], nearest first, and
    the row of the nearest in `train`, int64 [n] (the first of equals). Exact duplicates in `train`
    count once; ValueError when fewer than two different images are left.
    """
    _images(images), _images(train)
    if images.shape[1:] != train.shape[1:]:
        raise ValueError(f"images {images.shape[1:]}, train {train.shape[1:]}: need one shape")
    kept = np.sort(np.unique(train.reshape(len(train), -1), axis=0, return_index=True)[1])
    if len(kept) < 2:
        raise ValueError(f"{len(kept)} different training images: need at least 2 for a second")
    squared = np.full((len(images), 2), np.iinfo(np.int64).max)
    index = np.zeros(len(images), dtype=np.int64)
    for rows, columns, tile in _squared_tiles(images, train[kept]):
        lines = np.arange(len(tile))
        found = np.concatenate([squared[rows], np.zeros((len(tile), 2), np.int64)], axis=1)
        at = tile.argmin(axis=1)
        found[:, 2] = tile[lines, at]
        tile[lines, at] = np.iinfo(np.int64).max
        found[:, 3] = tile.min(axis=1)
        index[rows] = np.where(found[:, 2] < found[:, 0], kept[columns][at], index[rows])
        squared[rows] = np.sort(found, axis=1)[:, :2]
    return squared, index


def copies(images: np.ndarray, train: np.ndarray, ratio: float | Fraction = Fraction(1, 3),
           ) -> np.ndarray:
    """Which pictures copy a training image: d1 / d2 < `ratio`, bool [n] (Gu et al. 2310.02664).

    d1 and d2 are the Euclidean distances to the two nearest different training images, compared
    exactly in whole numbers. A picture equal to a training image (d1 = 0) is a copy even when that
    image occurs twice. `ratio` is read as the nearest fraction with denominator at most 100.
    """
    part = Fraction(ratio).limit_denominator(100)
    if not 0 < part < 1:
        raise ValueError(f"ratio {ratio}: need 0 < ratio < 1, for example 1/3")
    squared, _ = nearest_two(images, train)
    # Two different images cannot both be at distance 0, so d1 = 0 always passes.
    return part.denominator**2 * squared[:, 0] < part.numerator**2 * squared[:, 1]


def copy_share(images: np.ndarray, train: np.ndarray) -> Interval:
    """Share of images that copy a training image (`copies`), with its Wilson interval."""
    return _share(copies(images, train))


def squared_distance(a: Embedding, b: Embedding) -> np.ndarray:
    """Squared distance of paired pictures, float64 [n].

    uint8 images: mean over pixels of squared grey-level differences (its root is on the scale of
    `mae`). Embeddings: 2 - 2 similarity, the squared Euclidean distance of the closest block.
    """
    if isinstance(a, np.ndarray) and a.dtype == np.uint8:
        a, b = _paired(a, b)
        gap = (a.astype(np.int32) - b).reshape(len(a), -1)
        return np.einsum("nd,nd->n", gap, gap, dtype=np.int64) / gap.shape[1]
    return 2 - 2 * similarity(a, b)


def flow_distance(a: Embedding, b: Embedding, *, seed: int = 0) -> Interval:
    """Probability-flow distance: root of the mean over noises of `squared_distance` (2505.20123).

    The interval is a bootstrap over noises, for these two models.
    """
    return bootstrap(squared_distance(a, b), lambda v: np.sqrt(v.mean()), seed=seed)


def null_score(a: Embedding, b: Embedding, score: Callable[..., Interval], seed: int = 0,
               rounds: int = 8) -> Interval:
    """`score` after the noises of `b` were permuted so that no picture keeps its partner.

    Value and ends are means over `rounds` derangements (cyclic shifts of one seeded order), hence
    the interval is as wide as that of a single round.
    """
    n = len(_blocks(b)[0])
    if n < 2:
        raise ValueError(f"{n} noise: need at least 2 to permute them")
    order, stream = np.empty(n, dtype=np.int64), generator("null", seed)
    shuffled = stream.permutation(n)
    found = []
    for shift in 1 + stream.permutation(n - 1)[:rounds]:
        order[shuffled] = np.roll(shuffled, shift)
        found.append(_ends(score(a, tuple(x[order] for x in b) if isinstance(b, tuple)
                                 else b[order])))
    return Interval(*np.mean(found, axis=0).tolist())


def kappa(score: Interval | float, null: Interval | float) -> Interval | float:
    """Agreement beyond chance, (score - null) / (1 - null); the null counts as known."""
    chance = null.value if isinstance(null, Interval) else float(null)
    if not chance < 1:
        raise ValueError(f"null {chance}: need a null below 1 to rescale by what is left")
    if isinstance(score, Interval):
        return Interval(*(kappa(x, chance) for x in _ends(score)))
    return (score - chance) / (1 - chance)


def nearest_to_noise(noise: np.ndarray, train: np.ndarray, sigma: float = 80.0,
                     ) -> tuple[np.ndarray, np.ndarray]:
    """Trivial baseline: the training image nearest to the start of sampling, x_T = sigma * epsilon.

    With images y on [-1, 1] that is the largest <epsilon, y> - ||y||^2 / (2 sigma). At sigma = 1
    it is nearest to epsilon itself, a weaker predictor (with 1,024 digits of 8x8 it names the image
    of the exact empirical map for .33 of noises against .42 at 80), so the samplers' start is used.
    Takes `noise` float [n, C, H, W] and `train` uint8 [N, H, W, C]; returns the images uint8
    [n, H, W, C] and their rows in `train`, int64 [n].
    """
    _images(train)
    if noise.shape[1:] != (train.shape[3], *train.shape[1:3]):
        raise ValueError(f"noise {noise.shape[1:]} is not [C, H, W] of train {train.shape[1:]}")
    flat = np.moveaxis(noise, 1, -1).reshape(len(noise), -1).astype(np.float32)
    best, index = np.full(len(flat), -np.inf), np.zeros(len(flat), dtype=np.int64)
    step = max(1, TILE // max(len(flat), flat.shape[1]))
    for start in range(0, len(train), step):
        block = train[start:start + step].reshape(-1, flat.shape[1]).astype(np.float32) / 127.5 - 1
        found = flat @ block.T - (block**2).sum(axis=1) / np.float32(2 * sigma)
        at = found.argmax(axis=1)
        top = found[np.arange(len(flat)), at]
        index = np.where(top > best, start + at, index)
        best = np.maximum(best, top)
    return train[index], index


class PairMatrix(NamedTuple):
    """Scores of every pair of maps with interval ends, float64 [m, m] each; symmetric."""
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def pair_matrix(maps: Sequence, score: Callable[..., Interval]) -> PairMatrix:
    """`score` of every pair of `maps` (whatever it takes, or `Map`s, whose images are used)."""
    maps = [getattr(m, "images", m) for m in maps]
    matrix = PairMatrix(*np.full((3, len(maps), len(maps)), np.nan))
    for i in range(len(maps)):
        for j in range(i + 1):
            for part, number in zip(matrix, _ends(score(maps[i], maps[j])), strict=True):
                part[i, j] = part[j, i] = number
    return matrix


@dataclass(frozen=True)
class Explained:
    """Share of a map that an oracle explains, and the agreement of two maps that is left over."""

    share: Interval
    residual: Interval
    null: float


def explained_share(a: np.ndarray, b: np.ndarray, oracle: np.ndarray, *,
                    seed: int = 0) -> Explained:
    """How much of map `a` the oracle (the Gaussian map) explains, and what `a`, `b` share beyond.

    `share` is 1 - sum |a - g|^2 / sum |a - mean a|^2 over noises. `residual` is the partial
    correlation of a and b given g, pooled over pixels: each pixel of a and of b is regressed on
    that pixel of g first, since plain differences a - g and b - g share -g and correlate even when
    nothing else is shared. `null` is the mean of 8 derangements of b's residuals; intervals are
    bootstraps over noises, means and regressions held fixed. Maps uint8 [n, H, W, C], n >= 3.
    """
    _paired(a, b), _paired(a, oracle)
    a, b, g = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b, oracle))
    parts = np.stack([((a - g) ** 2).sum(axis=1), ((a - a.mean(axis=0)) ** 2).sum(axis=1)], axis=1)
    g = g - g.mean(axis=0)
    power = (g**2).sum(axis=0)
    power[power == 0] = np.inf  # a pixel where the oracle never moves explains nothing
    left = [x - g * ((x * g).sum(axis=0) / power) for x in (a - a.mean(axis=0), b - b.mean(axis=0))]

    def correlation(x: np.ndarray, y: np.ndarray, draws: int = 2000) -> Interval:
        sums = np.stack([(x * y).sum(axis=1), (x**2).sum(axis=1), (y**2).sum(axis=1)], axis=1)
        return bootstrap(sums, pooled, seed=seed, draws=draws)

    def pooled(v: np.ndarray) -> float:
        both, first, second = v.sum(axis=0)
        return both / np.sqrt(first * second) if first * second > 0 else np.nan

    def explained(v: np.ndarray) -> float:
        off, around = v.sum(axis=0)
        return 1 - off / around if around > 0 else np.nan

    share = bootstrap(parts, explained, seed=seed)
    null = null_score(*left, lambda x, y: correlation(x, y, draws=1), seed)
    return Explained(share, correlation(*left), null.value)


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _share(hits: np.ndarray) -> Interval:
    return wilson(int(np.count_nonzero(hits)), hits.size)


def _blocks(embedding: Embedding) -> tuple[np.ndarray, ...]:
    return embedding if isinstance(embedding, tuple) else (embedding,)


def _images(images: np.ndarray) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images of type {getattr(images, 'dtype', type(images))} and shape "
                         f"{getattr(images, 'shape', None)}: need uint8 [n, H, W, C]")


def _paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _images(a), _images(b)
    if a.shape != b.shape:
        raise ValueError(f"{a.shape} against {b.shape}: need the same noises and image size")
    return a, b


def _squared_tiles(images: np.ndarray, train: np.ndarray, rows: int = 512, columns: int = 4096,
                   ) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Blocks of exact squared distances, int64 [rows, columns], 16 MiB and two temporaries each."""
    def shifted(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = block.reshape(len(block), -1).astype(np.float32) - 128
        return flat, np.einsum("nd,nd->n", flat, flat, dtype=np.float64).astype(np.int64)

    for start in range(0, len(train), columns):
        here = slice(start, start + columns)
        y, y_norm = shifted(train[here])
        for first in range(0, len(images), rows):
            there = slice(first, first + rows)
            x, x_norm = shifted(images[there])
            tile = x_norm[:, None] + y_norm
            for k in range(0, x.shape[1], EXACT):
                tile -= 2 * (x[:, k:k + EXACT] @ y[:, k:k + EXACT].T).astype(np.int64)
            yield there, here, tile
