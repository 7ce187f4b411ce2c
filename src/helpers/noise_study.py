"""What the answers of noise games add up to: accuracies, queries needed, leaks, predictions.

Intervals come from a bootstrap over victims. Victims of world 0 are the same in many games, so the
unit is a victim's number and both worlds' victims of that number are drawn together. Where a game
was judged again with resampled shadows, their chance is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from scipy.stats import binom, norm

from helpers.intervals import Interval, bootstrap, first_crossing, wilson
from helpers.leakage import Leak, n_leaked
from helpers.noise import generator
from helpers.noise_games import Outcome

__all__ = ["accuracy", "ceiling", "curve", "gap", "leak", "needed", "predicted",
           "ratio_of_queries"]

DRAWS = 2000


def _units(outcome: Outcome, attack: str) -> np.ndarray:
    """Right answers by victim number, float [victims, counts]."""
    return outcome.arrays[f"right/{attack}"].astype(np.float64).mean(1).T


def _sure(found: Interval, victims: int) -> Interval:
    """Where every answer was right (or wrong), the bootstrap is blind; Wilson's ends stand in."""
    if found.value in (0.0, 1.0):
        ends = wilson(round(found.value * 2 * victims), 2 * victims)
        return Interval(found.value, ends.low, ends.high)
    return found


def accuracy(outcome: Outcome, attack: str, count: int, seed: int = 0) -> Interval:
    """Accuracy at one count of queries, with a 95 % interval over victims (and shadows)."""
    units, again = outcome.right(attack, count).mean(0), outcome.arrays.get(f"again/{attack}")
    if again is not None:
        again = again[:, outcome.game.counts.index(count)].astype(np.float64).mean((1, 2))
    part = _resampled(units, again, seed)
    return _sure(Interval(part.value, max(part.low, 0.0), min(part.high, 1.0)), len(units))


def curve(outcome: Outcome, attack: str, seed: int = 0) -> list[Interval]:
    """Accuracy at every count of queries; see `accuracy`."""
    return [accuracy(outcome, attack, count, seed) for count in outcome.game.counts]


def _resampled(units: np.ndarray, again: np.ndarray | None, seed: int) -> Interval:
    """Percentile bootstrap of a mean over victims [victims], all draws at once.

    With `again` [resamples], the means under resampled shadows, their scatter around their own
    mean is added.
    """
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
    of the shadows is added where both were judged again with the same resampled ones.
    """
    rest = against or outcome
    mine, theirs = outcome.right(attack, count).mean(0), rest.right(other, count).mean(0)
    fewest = min(len(mine), len(theirs))
    again = [part.arrays.get(f"again/{name}") for part, name in ((outcome, attack), (rest, other))]
    if against is not None or any(part is None for part in again):
        return _resampled(mine[:fewest] - theirs[:fewest], None, seed)
    k = outcome.game.counts.index(count)
    moved = [part[:, k].astype(np.float64).mean((1, 2)) for part in again]
    return _resampled(mine - theirs, moved[0] - moved[1], seed)


def _crossing(counts: Sequence[int], rows: np.ndarray, level: float) -> float:
    """Queries at which a mean curve first reaches a level, between counts on the log scale.

    At a level reached with the first count that count; infinite where it is not reached.
    """
    mean, x = rows.mean(0), np.log(np.asarray(counts, dtype=np.float64))
    if mean[0] >= level:
        return float(counts[0])
    found = first_crossing(x, mean, level)
    return float(np.exp(found)) if np.isfinite(found) else inf


def needed(outcome: Outcome, attack: str, level: float = 0.95, seed: int = 0) -> Interval:
    """Queries that an attack needs for a mean accuracy of `level`; infinite if never reached."""
    return bootstrap(_units(outcome, attack),
                     lambda rows: _crossing(outcome.game.counts, rows, level), seed=seed)


def ratio_of_queries(outcome: Outcome, attack: str, other: str, level: float = 0.95,
                     seed: int = 0) -> Interval:
    """Queries that `attack` needs over those that `other` needs, paired over victims.

    Where `other` does not reach the level it counts as reaching it at the largest count, which
    favours `other`.
    """
    both = np.stack([_units(outcome, name) for name in (attack, other)], axis=1)

    def statistic(rows):
        mine, theirs = (_crossing(outcome.game.counts, rows[:, k], level) for k in (0, 1))
        return mine / min(theirs, max(outcome.game.counts))

    return bootstrap(both, statistic, seed=seed)


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
    return float(norm.cdf(delta * np.sqrt(queries / spread) / 2)) if spread > 0 else 1.0
