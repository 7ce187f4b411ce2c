"""Uncertainty: Wilson and bootstrap intervals, crossings, troughs, slopes and calibrated rules.

One convention runs through the module: **axis 0 is the sampling unit**. Put models there when
several models stand behind a number, and noises when a single pair of models does. Every bootstrap
resamples whole rows with replacement and reads percentiles; nothing is assumed about other axes.
A draw in which a quantity is undefined widens the interval (it counts as minus infinity for the
lower end and as plus infinity for the upper one). With fewer than two units both ends are NaN, so
no rule that needs an interval can be met by accident.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helpers.noise import generator

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A point estimate and the two ends of its interval, in the units of the quantity."""

    value: float
    low: float
    high: float

    def above(self, limit: float) -> bool:
        """Whether the whole interval lies above `limit` (False when an end is NaN)."""
        return bool(self.low > limit)

    def below(self, limit: float) -> bool:
        """Whether the whole interval lies below `limit` (False when an end is NaN)."""
        return bool(self.high < limit)

    def __format__(self, spec: str) -> str:
        """Write ``value [low, high]``, each number with `spec` (``.2f`` when empty)."""
        spec = spec or ".2f"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, "")


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval (Wilson 1927) of `successes` in `n` >= 1 trials, by `statsmodels`."""
    from statsmodels.stats.proportion import proportion_confint  # seconds: not in every worker

    _check_level(level)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: need 0 <= successes <= n and n >= 1")
    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    share = successes / n
    # At 0 and n the ends are exact in theory but not in floating point.
    return Interval(share, min(float(low), share), max(float(high), share))


def bootstrap(values: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean, *,
              seed: int = 0, level: float = 0.95, draws: int = DRAWS) -> Interval:
    """Percentile bootstrap of ``statistic(values)`` over axis 0.

    Parameters
    ----------
    values : array [units, ...]
        One row per sampling unit (a model, or a noise when there is one pair of models).
    statistic : callable
        Takes an array like `values`, returns a number. The scaling exponent of the transition:
        ``lambda v: fit_slope(log2_params, [first_crossing(x, c, .5) for c in v.mean(axis=0)])``
        for `values` [units, widths, len(x)].
    seed, level, draws
        Seed of the stream "bootstrap", confidence level, number of resamples.
    """
    values = np.asarray(values)
    if values.ndim == 0 or len(values) == 0:
        raise ValueError(f"values of shape {values.shape}: need one row per unit, at least one row")
    return _resampled(len(values), lambda index: statistic(values[index]), seed, level, draws)


def difference(a: np.ndarray, b: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean, *,
               seed: int = 0, level: float = 0.95, draws: int = DRAWS) -> Interval:
    """Paired bootstrap of ``statistic(a) - statistic(b)``: row i of both is the same unit.

    With two arrays of agreement indicators [noises] and the mean this is the difference of two
    proportions measured on the same noises; the pairing keeps their correlation.
    """
    a, b = np.asarray(a), np.asarray(b)
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"{len(a)} rows against {len(b)}: need the same units, at least one")
    return _resampled(len(a), lambda index: float(statistic(a[index])) - float(statistic(b[index])),
                      seed, level, draws)


def bootstrap_pairs(matrix: np.ndarray, *, seed: int = 0, level: float = 0.95,
                    draws: int = DRAWS) -> Interval:
    """Mean of the off-diagonal entries of a model-by-model matrix, resampling models.

    `matrix` [m, m] holds the scores of model i against model j; its diagonal is ignored and NaN
    entries (pairs that do not count, say those of two families) are left out. A model drawn twice
    would meet itself: such self-pairs are dropped, and so are draws of one model only. The ends are
    NaN below three models: a single pair says nothing about the spread over models.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(f"matrix of shape {matrix.shape}: need [m, m] with m >= 2")
    counted = np.isfinite(matrix) & ~np.eye(len(matrix), dtype=bool)
    if not counted.any():
        raise ValueError("no finite off-diagonal entry: need at least one pair of models")
    scores = np.where(counted, matrix, 0.0)

    def mean(index: np.ndarray) -> float:
        times = np.bincount(index, minlength=len(matrix)).astype(np.float64)
        pairs = times @ counted @ times
        return times @ scores @ times / pairs if pairs else np.nan

    if len(matrix) < 3:
        return Interval(float(mean(np.arange(2))), np.nan, np.nan)
    return _resampled(len(matrix), mean, seed, level, draws, drop_undefined=True)


def first_crossing(x: np.ndarray, curve: np.ndarray, level: float, direction: str = "up") -> float:
    """Where a piecewise linear curve first crosses `level` upwards ("up") or downwards ("down").

    A curve that still lies on the starting side at its last point crosses beyond the grid: plus
    infinity. One that never lies on the starting side has crossed before it: minus infinity.
    """
    if direction not in ("up", "down"):
        raise ValueError(f"direction {direction!r}: use 'up' or 'down'")
    x, curve = np.asarray(x, dtype=np.float64), np.asarray(curve, dtype=np.float64)
    _check_grid(x, curve)
    if not np.isfinite(curve).all():
        return float("nan")
    height = (curve - level) * (1 if direction == "up" else -1)
    at = np.flatnonzero((height[:-1] < 0) & (height[1:] >= 0))
    if len(at):
        k = at[0]
        return float(x[k] + (x[k + 1] - x[k]) * height[k] / (height[k] - height[k + 1]))
    return float("inf") if height[-1] < 0 else float("-inf")


def crossing(x: np.ndarray, values: np.ndarray, level: float, *, direction: str = "up",
             seed: int = 0, confidence: float = 0.95, draws: int = DRAWS) -> Interval:
    """Where the mean curve first crosses `level`, with a bootstrap interval over axis 0.

    `x` [k] increases (log2 of the number of training images for a transition); `values` [units, k]
    holds one curve per model, or every noise's 0/1 indicators for one pair of models. The result is
    in units of `x`; an infinite value or end means "not within the grid" (censored).
    """
    values = _curves(x, values)
    return bootstrap(values, lambda v: first_crossing(x, v.mean(axis=0), level, direction),
                     seed=seed, level=confidence, draws=draws)


@dataclass(frozen=True)
class Trough:
    """Where a mean curve is lowest and how far it falls from either end of the grid."""

    location: Interval
    lowest: Interval
    left: Interval
    right: Interval
    depth: Interval


def trough_depth(values: np.ndarray) -> float:
    """Lesser of the falls of the mean curve from its first and its last point to its lowest."""
    curve = np.asarray(values, dtype=np.float64).mean(axis=0)
    return float(min(curve[0], curve[-1]) - curve.min())


def trough(x: np.ndarray, values: np.ndarray, *, seed: int = 0, level: float = 0.95,
           draws: int = DRAWS) -> Trough:
    """Location and depth of the minimum of the mean curve, with bootstrap intervals.

    The unit is axis 0: models when several pairs were trained at every x (the interval then covers
    new models), noises when there is one pair (it then covers new noises for these two models only;
    say so beside the number). A minimum is chosen among grid points, so it is biased downwards by
    the noise of the curve: compare two troughs by ``difference(a, b, trough_depth)``.

    With `x` [k] and `values` [units, k], `location` is one of `x`; `left` and `right` are the falls
    from the two ends (never negative), `depth` the lesser of them; a monotone curve has depth 0.
    """
    values = _curves(x, values)
    x = np.asarray(x, dtype=np.float64)
    _check_level(level)
    stream = generator("bootstrap", seed)
    n = len(values)
    drawn = [values[stream.integers(n, size=n)].mean(axis=0) for _ in range(draws if n > 1 else 0)]
    whole, tail = values.mean(axis=0), (1 - level) / 2

    def of(statistic: Callable[[np.ndarray], float]) -> Interval:
        ends = [statistic(curve) for curve in drawn] or [np.nan]
        return Interval(float(statistic(whole)), _quantile(ends, tail), _quantile(ends, 1 - tail))

    return Trough(
        location=of(lambda curve: x[curve.argmin()]),
        lowest=of(lambda curve: curve.min()),
        left=of(lambda curve: curve[0] - curve.min()),
        right=of(lambda curve: curve[-1] - curve.min()),
        depth=of(lambda curve: min(curve[0], curve[-1]) - curve.min()),
    )


def fit_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope of `y` on `x`; NaN where a `y` is not finite or all `x` are equal."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not np.isfinite(y).all() or np.ptp(x) == 0:
        return float("nan")
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))


def slope(x: np.ndarray, y: np.ndarray, *, seed: int = 0, level: float = 0.95,
          draws: int = DRAWS) -> Interval:
    """Least-squares slope with a bootstrap interval.

    `y` of shape [units, k] is averaged over its rows, which are resampled (models or noises). `y`
    of shape [k] has no replicates: the points themselves are resampled, and draws with a single
    abscissa are dropped; the ends are NaN below three points.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or y.shape[-1:] != x.shape or y.ndim > 2:
        raise ValueError(f"x {x.shape}, y {y.shape}: need [k] with k >= 2 and [k] or [units, k]")
    if y.ndim == 2:
        return bootstrap(y, lambda v: fit_slope(x, v.mean(axis=0)), seed=seed, level=level,
                         draws=draws)
    if len(x) < 3:
        return Interval(fit_slope(x, y), np.nan, np.nan)
    return _resampled(len(x), lambda i: fit_slope(x[i], y[i]), seed, level, draws,
                      drop_undefined=bool(np.isfinite(y).all()))


@dataclass(frozen=True)
class Rule:
    """Decide for world b when ``sign * score > sign * threshold``."""

    threshold: float
    sign: int
    accuracy: float

    def says_b(self, scores: np.ndarray) -> np.ndarray:
        """Decisions (bool, True for world b), one for each victim's score."""
        return self.sign * np.asarray(scores) > self.sign * self.threshold


def calibrate_threshold(scores_a: np.ndarray, scores_b: np.ndarray) -> Rule:
    """Threshold and side with the best balanced accuracy on the scores of held-out shadows.

    The rule then applies to each victim by itself. Among equally good thresholds (halfway between
    neighbouring scores) the middle one is taken. `accuracy` is the shadows' own, so optimistic.
    """
    a, b = (np.sort(np.asarray(s, dtype=np.float64).ravel()) for s in (scores_a, scores_b))
    if not len(a) or not len(b) or not np.isfinite(np.concatenate([a, b])).all():
        raise ValueError(f"{len(a)} and {len(b)} scores: need finite scores of both worlds")
    points = np.unique(np.concatenate([a, b]))
    cuts = np.concatenate([points[:1] - 1, (points[:-1] + points[1:]) / 2])
    # Share of a at or below a cut plus share of b above it: b on the high side.
    high = (np.searchsorted(a, cuts, "right") / len(a)
            + 1 - np.searchsorted(b, cuts, "right") / len(b)) / 2
    sign = 1 if high.max() >= 1 - high.min() else -1
    accuracy = high if sign == 1 else 1 - high
    best = np.flatnonzero(np.isclose(accuracy, accuracy.max(), rtol=0, atol=1e-12))
    middle = best[len(best) // 2]
    return Rule(float(cuts[middle]), sign, float(accuracy[middle]))


def _resampled(n: int, statistic: Callable[[np.ndarray], float], seed: int, level: float,
               draws: int, drop_undefined: bool = False) -> Interval:
    """Percentile interval of a statistic of row numbers (Efron and Tibshirani 1993, chapter 13)."""
    _check_level(level)
    value = float(statistic(np.arange(n)))
    if n < 2:
        return Interval(value, np.nan, np.nan)
    stream = generator("bootstrap", seed)
    drawn = np.array([float(statistic(stream.integers(n, size=n))) for _ in range(draws)])
    if drop_undefined:
        drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(value, np.nan, np.nan)
    tail = (1 - level) / 2
    low = _quantile(np.where(np.isnan(drawn), -np.inf, drawn), tail)
    high = _quantile(np.where(np.isnan(drawn), np.inf, drawn), 1 - tail)
    return Interval(value, low, high)


def _quantile(drawn: np.ndarray, share: float) -> float:
    """A quantile; between an infinite and a finite draw there is nothing to interpolate."""
    method = "linear" if np.isfinite(drawn).all() else "nearest"
    return float(np.quantile(drawn, share, method=method))


def _curves(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"values of shape {values.shape}: need [units, len(x)]")
    _check_grid(np.asarray(x), values[0])
    return values


def _check_grid(x: np.ndarray, curve: np.ndarray) -> None:
    if x.ndim != 1 or x.shape != curve.shape or len(x) < 2 or not (np.diff(x) > 0).all():
        raise ValueError(f"x {x.shape}, curve {curve.shape}: need equal lengths, x increasing")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level}: need 0 < level < 1, for example 0.95")
