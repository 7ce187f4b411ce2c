"""What an adversary knows: its share of records, correlations, and how leakage moves with them.

The sampling unit is the victim throughout, as in `helpers.summaries`; `Judged` holds a game's
answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from helpers import groups, tables
from helpers.decisions import Judged
from helpers.groups import Data, Group
from helpers.intervals import DRAWS, Interval, bootstrap, difference
from helpers.leakage import n_leaked
from helpers.noise import generator

__all__ = ["fall_after_peak", "first", "largest", "leak_gap", "phi", "property_column",
           "rank_correlation", "right"]


def property_column(data: Data) -> str:
    """Return the source column in which a table keeps the property."""
    known = tables.BUILT_IN.get(data.name, (None, {}, ()))[1]
    return known[data.property][0] if data.property in known else data.property.split("=")[0]


def phi(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two columns of 0 and 1 (phi coefficient, in [-1, 1]).

    Raises
    ------
    ValueError
        For unequal lengths, or a column that is constant.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"columns of shape {a.shape} and {b.shape}: need two of one length")
    if not np.ptp(a) or not np.ptp(b):
        raise ValueError("a constant column has no correlation; choose another label or property")
    return float(np.corrcoef(a, b)[0, 1])


def largest(data: Data, ratios: Sequence[float], party: int, share: float = 1.0) -> int:
    """The largest training set that every model of a party can draw at all of these ratios.

    An adversary's models draw from halves of its pool, so this is about half of what
    `helpers.tables.largest` finds there.
    """
    source = groups.table(data)
    pools = groups.pools_of(Group(data, party, 0.5, 1, 2, share=share))
    return min(tables.largest(source, rows, ratio, data.mode) for rows in pools for ratio in ratios)


def first(found: Judged, count: int) -> Judged:
    """Return a game's answers on the first victims of each world alone.

    `n_leaked` has a ceiling set by the number of victims, so games that are compared by it need
    equally many.
    """
    return Judged(found.scores[:, :count], {r: a[:, :count] for r, a in found.correct.items()})


def right(found: Sequence[Judged], rule: str | None = None) -> np.ndarray:
    """Share of right answers about each victim number, over games and worlds: float [victims]."""
    return np.mean([judged.correct[rule or judged.rule].mean(0) for judged in found], axis=0)


def leak_gap(found: Sequence[Judged], other: Sequence[Judged], ratios: Sequence[float],
             alpha0: float = 0.5, *, seed: int = 0) -> Interval:
    """Mean ``n_leaked`` of some games minus that of others, paired by victim number.

    Victims of one number were trained on the same records, whatever their architecture. A game
    without an error counts as one with one error (see `helpers.summaries.mean_leak`).

    Raises
    ------
    ValueError
        If the games differ in number or in victims.
    """
    sides = []
    for part in (found, other):
        answers = [judged.correct[judged.rule].T for judged in part]
        if len(answers) != len(ratios) or len({len(answer) for answer in answers}) != 1:
            raise ValueError(f"{len(ratios)} ratios for games with {[len(a) for a in answers]} "
                             "victims: need one game a ratio and equally many victims")
        sides.append(np.stack(answers, axis=1).astype(np.float64))
    if len(sides[0]) != len(sides[1]):
        raise ValueError(f"{len(sides[0])} against {len(sides[1])} victims: use `first`")
    most = 1 - 1 / (2 * len(sides[0]))

    def mean(drawn: np.ndarray) -> float:
        shares = np.minimum(drawn.mean(axis=(0, 2)), most)
        return float(np.mean([n_leaked(share, alpha0, ratio)
                              for share, ratio in zip(shares, ratios, strict=True)]))

    return difference(*sides, mean, seed=seed)


def fall_after_peak(values: np.ndarray, *, seed: int = 0, draws: int = DRAWS) -> Interval:
    """How far a mean curve falls from its highest point to its last, without a winner's bonus.

    The highest point of a noisy curve is too high. So it is looked for with one half of the
    victims and measured with the other, both ways round; the two results are averaged.

    Parameters
    ----------
    values : ndarray, shape [victims, points]
        One curve a victim; victims of even and of odd number form the halves.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) < 4 or values.shape[1] < 2:
        raise ValueError(f"values of shape {values.shape}: need [victims, points], at least four "
                         "victims and two points")
    pairs = np.stack([values[0::2][: len(values) // 2], values[1::2]], axis=1)

    def fall(drawn: np.ndarray) -> float:
        halves = drawn.mean(0)
        peaks = halves.argmax(1)[::-1]  # each half's by the other half
        return float(np.mean(halves[[0, 1], peaks] - halves[:, -1]))

    return bootstrap(pairs, fall, seed=seed, draws=draws)


def rank_correlation(x: Sequence[float], values: np.ndarray, *, seed: int = 0,
                     draws: int = DRAWS, level: float = 0.95) -> Interval:
    """Spearman's correlation of `x` with the row means of `values`.

    Bootstrapped over rows and, within each row drawn, over its columns.

    Parameters
    ----------
    x : sequence of float, length [pairs]
    values : ndarray, shape [pairs, victims]

    Raises
    ------
    ValueError
        For fewer than three pairs, or lengths that do not fit.
    """
    x, values = np.asarray(x, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or x.shape != values.shape[:1] or len(x) < 3:
        raise ValueError(f"{x.shape} abscissae for values of shape {values.shape}: need at least "
                         "three rows and one abscissa for each")
    stream, (rows, columns) = generator("bootstrap", seed), values.shape

    def spearman(a: np.ndarray, b: np.ndarray) -> float:
        a, b = rankdata(a), rankdata(b)
        return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else np.nan

    drawn = []
    for _ in range(draws):
        chosen = stream.integers(rows, size=rows)
        means = values[chosen[:, None], stream.integers(columns, size=(rows, columns))].mean(1)
        drawn.append(spearman(x[chosen], means))
    tail, known = (1 - level) / 2, [value for value in drawn if np.isfinite(value)]
    low, high = np.quantile(known, [tail, 1 - tail]) if known else (np.nan, np.nan)
    return Interval(spearman(x, values.mean(1)), float(low), float(high))
