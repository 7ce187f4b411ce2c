"""What the answers of noise games add up to: accuracies, queries needed, leaks, predictions.

Intervals come from a bootstrap over victims. Victims of world 0 are the same in many games, so the
unit is a victim's number and both worlds' victims of that number are drawn together. Where a game
was judged again with resampled shadows, their chance is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm

from helpers.intervals import Interval, wilson
from helpers.leakage import Leak, n_leaked
from helpers.noise import generator
from helpers.noise_games import Outcome

__all__ = ["accuracy", "area", "ceiling", "curve", "gap", "kept", "leak", "needed", "predicted",
           "ratio_of_queries"]

DRAWS = 2000


def _units(outcome: Outcome, attack: str) -> np.ndarray:
    """Right answers by victim number, float [victims, counts]."""
    return outcome.arrays[f"right/{attack}"].astype(np.float64).mean(1).T


def _sure(found: Interval, victims: int) -> Interval:
    """Where not even one victim was misjudged, the bootstrap is blind; Wilson's ends widen it."""
    trials = 2 * victims
    ends = wilson(round(found.value * trials), trials)
    if min(found.value, 1 - found.value) * trials < 1:
        return Interval(found.value, min(ends.low, found.low), max(ends.high, found.high))
    return found


def accuracy(outcome: Outcome, attack: str, count: int, seed: int = 0) -> Interval:
    """Accuracy at one count of queries, with a 95 % interval over victims (and shadows)."""
    units = outcome.right(attack, count).mean(0)
    part = _resampled(units, _moved(outcome, attack, count), seed)
    if len(units) < 2:
        return part
    return _sure(Interval(part.value, max(part.low, 0.0), min(part.high, 1.0)), len(units))


def area(outcome: Outcome, attack: str, count: int) -> Interval:
    """Area under the ROC curve at one count of queries, with a 95 % interval over victims.

    What an attack could do whose threshold fits: no calibration enters. The interval holds every
    area whose standard error, by Hanley and McNeil (1982, Radiology 143, equation 1) for a single
    draw of noises, reaches the one found. The found one is a mean over draws, so it is rather wide.
    """
    victims = outcome.arrays[f"right/{attack}"].shape[-1]
    part = float(outcome.arrays[f"area/{attack}"][outcome.game.counts.index(count)])
    if victims < 2:
        return Interval(part, np.nan, np.nan)

    def beyond(other, side):
        win, tie = other / (2 - other), 2 * other**2 / (1 + other)
        spread = other * (1 - other) + (victims - 1) * (win + tie - 2 * other**2)
        return side * (part - other) - norm.ppf(0.975) * np.sqrt(max(spread, 0.0)) / victims

    tiny = 1e-9
    low = 0.0 if part <= tiny else brentq(beyond, 0.0, part - tiny, args=(1,))
    high = 1.0 if part >= 1 - tiny else brentq(beyond, part + tiny, 1.0, args=(-1,))
    return Interval(part, low, high)


def curve(outcome: Outcome, attack: str, seed: int = 0) -> list[Interval]:
    """Accuracy at every count of queries; see `accuracy`."""
    return [accuracy(outcome, attack, count, seed) for count in outcome.game.counts]


def _resampled(units: np.ndarray, again: np.ndarray | None, seed: int) -> Interval:
    """Percentile bootstrap of a mean over victims [victims], all draws at once.

    With `again` [resamples], the means under resampled shadows, their scatter around their own
    mean is added. One victim has no interval: its ends are NaN.
    """
    if len(units) < 2:
        return Interval(float(units.mean()), np.nan, np.nan)
    stream, value = generator("victims and shadows", seed), float(units.mean())
    drawn = units[stream.integers(len(units), size=(DRAWS, len(units)))].mean(1)
    if again is not None:
        drawn = drawn + (again - again.mean())[stream.integers(len(again), size=DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, min(float(low), value), max(float(high), value))


def gap(outcome: Outcome, attack: str, other: str, count: int, seed: int = 0, *,
        against: Outcome | None = None) -> Interval:
    """Accuracy of one attack less that of another, paired over the victims' numbers.

    With `against` the other attack is read from that game, which has the same victims. The chance
    of the shadows is added where both were judged again; resamples draw the same shadows in every
    game that has as many of them, so their scatter is paired too.
    """
    rest = against or outcome
    mine, theirs = outcome.right(attack, count).mean(0), rest.right(other, count).mean(0)
    fewest = min(len(mine), len(theirs))
    moved = [_moved(part, name, count) for part, name in ((outcome, attack), (rest, other))]
    if any(part is None for part in moved) or len(moved[0]) != len(moved[1]):
        return _resampled(mine[:fewest] - theirs[:fewest], None, seed)
    if outcome.game.shadows.count != rest.game.shadows.count:  # drawn independently
        moved = [np.repeat(moved[0], len(moved[1])), np.tile(moved[1], len(moved[0]))]
    return _resampled(mine[:fewest] - theirs[:fewest], moved[0] - moved[1], seed)


def kept(outcome: Outcome, base: Outcome, attack: str, count: int, seed: int = 0) -> Interval:
    """Share of (accuracy - 1/2) in `base` that an attack keeps in another game of the same victims.

    NaN where `base` is not above one half. The interval is over victims and, where both games were
    judged again, shadows.
    """
    pair = (outcome, base)
    units = np.stack([one.right(attack, count).mean(0) for one in pair], axis=1)[..., None]
    again = [_moved(one, attack, count) for one in pair]

    def statistic(means):
        over = means[..., 0] - 0.5
        return np.divide(over[:, 0], over[:, 1], out=np.full(len(over), np.nan),
                         where=over[:, 1] > 0)

    return _bootstrapped(units, [None if part is None else part[:, None] for part in again],
                         statistic, seed)


def _moved(outcome: Outcome, attack: str, count: int | None = None) -> np.ndarray | None:
    """Mean accuracy under each resample of the shadows at one count, [again].

    Of all counts, [again, counts], without one; None where the game was not judged again.
    """
    again = outcome.arrays.get(f"again/{attack}")
    if again is None:
        return None
    means = again.astype(np.float64).mean((2, 3))
    return means if count is None else means[:, outcome.game.counts.index(count)]


def _crossings(counts: Sequence[int], means: np.ndarray, level: float) -> np.ndarray:
    """Queries at which mean curves [..., counts] first reach a level, interpolated on a log scale.

    At a level reached with the first count that count; infinite where it is not reached.
    """
    x = np.log(np.asarray(counts, dtype=np.float64))
    reached = means >= level
    after = reached.argmax(-1)
    before = np.maximum(after - 1, 0)
    low, high = (np.take_along_axis(means, k[..., None], -1)[..., 0] for k in (before, after))
    share = np.divide(level - low, high - low, out=np.zeros_like(low), where=after > before)
    found = np.exp(x[before] + share * (x[after] - x[before]))
    return np.where(reached.any(-1), found, inf)


def _bootstrapped(units: np.ndarray, again: Sequence[np.ndarray | None], statistic, seed: int
                  ) -> Interval:
    """Percentile bootstrap over victims [victims, series, counts] of a statistic of mean curves.

    `statistic` takes [draws, series, counts]. Where every series was judged again, `again`
    [resamples, counts], the curve of a draw is moved by that of a resample less their mean: the
    chance of the shadows.
    """
    value = float(statistic(units.mean(0)[None])[0])
    if len(units) < 2:
        return Interval(value, np.nan, np.nan)
    stream = generator("bootstrap", seed)
    means = units[stream.integers(len(units), size=(DRAWS, len(units)))].mean(1)
    if all(part is not None for part in again):
        moved = np.stack(again, 1)
        moved = (moved - moved.mean(0))[stream.integers(len(moved), size=DRAWS)]
        means = np.clip(means + moved, 0, 1)
    drawn = statistic(means)
    method = "linear" if np.isfinite(drawn).all() else "nearest"
    low, high = np.quantile(drawn, [0.025, 0.975], method=method)
    return Interval(value, float(low), float(high))


def needed(outcome: Outcome, attack: str, level: float = 0.95, seed: int = 0) -> Interval:
    """Queries that an attack needs for a mean accuracy of `level`; infinite if never reached.

    The interval is over victims and, where the game was judged again, shadows.
    """
    return _bootstrapped(_units(outcome, attack)[:, None], [_moved(outcome, attack)],
                         lambda means: _crossings(outcome.game.counts, means[:, 0], level), seed)


def ratio_of_queries(outcome: Outcome, attack: str, other: str, level: float = 0.95,
                     seed: int = 0) -> Interval:
    """Queries that `attack` needs over those that `other` needs, paired over victims (and shadows).

    Where `other` does not reach the level it counts as reaching it at the largest count, which
    favours `other`.
    """
    counts, names = outcome.game.counts, (attack, other)

    def statistic(means):
        mine, theirs = (_crossings(counts, means[:, k], level) for k in (0, 1))
        return mine / np.minimum(theirs, max(counts))

    return _bootstrapped(np.stack([_units(outcome, name) for name in names], axis=1),
                         [_moved(outcome, name) for name in names], statistic, seed)


def leak(found: Interval, victims: int, alpha0: float, alpha1: float) -> Leak:
    """``n_leaked`` of an accuracy over `victims` of each world and its ends.

    At accuracy 1 one error among all victims is assumed, as in :func:`helpers.leakage.leak`.
    """
    capped = found.value == 1.0
    value = 1 - 1 / (2 * victims) if capped else found.value
    low, high = (n_leaked(end, alpha0, alpha1) for end in (found.low, found.high))
    return Leak(n_leaked(value, alpha0, alpha1), min(low, n_leaked(value, alpha0, alpha1)),
                inf if capped else high, capped)


def ceiling(n: int, alpha0: float, alpha1: float) -> float:
    """Best accuracy against victims whose n records are drawn iid: the counts' own overlap.

    ``1/2 + TV / 2`` of the two binomial laws of the number of records with the property: not even
    the training set itself tells more about the ratio it was drawn at.
    """
    k = np.arange(n + 1)
    return 0.5 + 0.25 * float(np.abs(binom.pmf(k, n, alpha0) - binom.pmf(k, n, alpha1)).sum())


def predicted(alpha0: float, alpha1: float, queries: int, agreement: float) -> float:
    """Accuracy of paired flips by the argument of mass: no constant is fitted.

    Two worlds that are ``delta`` apart differ on ``delta`` of the noises, and models of one world
    on ``1 - agreement``: ``z = delta sqrt(m) / sqrt(delta + 1 - agreement)``, accuracy
    ``Phi(z / 2)``.

    Parameters
    ----------
    agreement : float
        Share of the noises on which two models of one world agree (RP of chapter 2).
    """
    delta = abs(alpha1 - alpha0)
    spread = delta + 1 - agreement
    return float(norm.cdf(delta * np.sqrt(queries / spread) / 2)) if spread > 0 else 0.5
