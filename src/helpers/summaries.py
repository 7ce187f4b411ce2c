"""Several games as one number: means over ratios, with intervals over victims.

The victims of world 0 are the same in games that differ in the other world's ratio alone, so games
are not independent samples. Every bootstrap here draws victim numbers, and takes the same ones in
every game.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helpers.decisions import Judged
from helpers.intervals import Interval, bootstrap, difference
from helpers.leakage import n_leaked

__all__ = ["mean_accuracy", "mean_auc", "mean_gap", "mean_leak"]


def _answers(found: Sequence[Judged], rule: str | None) -> np.ndarray:
    """Right answers, float [victims, games, 2]; fewer victims where a game has fewer."""
    if not found:
        raise ValueError("no games: a mean needs at least one")
    parts = [judged.correct[rule or judged.rule] for judged in found]
    count = min(part.shape[1] for part in parts)
    return np.stack([part[:, :count].T for part in parts], axis=1).astype(np.float64)


def mean_accuracy(found: Sequence[Judged], rule: str | None = None, *, seed: int = 0) -> Interval:
    """Mean accuracy over games by one decision rule (default: the headline rule of each game)."""
    return bootstrap(_answers(found, rule), seed=seed)


def mean_gap(found: Sequence[Judged], other: Sequence[Judged], rule: str | None = None, *,
             seed: int = 0) -> Interval:
    """Mean accuracy of some games minus that of others with the same victims, paired."""
    mine, theirs = _answers(found, rule), _answers(other, rule)
    count = min(len(mine), len(theirs))
    return difference(mine[:count], theirs[:count], seed=seed)


def mean_auc(found: Sequence[Judged]) -> float:
    """Mean area under the ROC curve over games."""
    return float(np.mean([judged.auc_value() for judged in found]))


def mean_leak(found: Sequence[Judged], ratios: Sequence[float], alpha0: float = 0.5,
              rule: str | None = None, *, seed: int = 0) -> Interval:
    """Mean ``n_leaked`` over games at several ratios (second paper, section 3).

    A game without an error counts as one with one error among its victims: the value is then a
    lower limit (:class:`helpers.leakage.Leak`).
    """
    answers = _answers(found, rule)
    if len(ratios) != answers.shape[1]:
        raise ValueError(f"{len(ratios)} ratios for {answers.shape[1]} games: need one for each")
    most = 1 - 1 / (2 * len(answers))

    def statistic(drawn: np.ndarray) -> float:
        shares = np.minimum(drawn.mean(axis=(0, 2)), most)
        return float(np.mean([n_leaked(share, alpha0, ratio)
                              for share, ratio in zip(shares, ratios, strict=True)]))

    return bootstrap(answers, statistic, seed=seed)
