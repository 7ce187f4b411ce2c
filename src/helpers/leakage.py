"""``n_leaked``: how many records of the training set would give away as much as the model does.

An adversary who holds n records of one of two laws, whose shares of records with the property are
alpha0 and alpha1, is right with probability at most 1/2 + 1/2 sqrt(1 - rho^n). Solved for n, an
attack's accuracy becomes a number of records (Suri et al., 2023, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log

import numpy as np

from helpers.intervals import Interval, bootstrap, wilson

__all__ = ["Leak", "leak", "n_leaked", "n_leaked_regression", "regression_leak"]


@dataclass(frozen=True)
class Leak:
    """``n_leaked`` with its interval; `capped` says that no victim was misjudged.

    At a perfect score the formula is infinite. One error among all victims is assumed then, so the
    value is a lower limit set by the number of victims and `high` is infinite.
    """

    value: float
    low: float
    high: float
    capped: bool

    def __str__(self) -> str:
        mark = "at least " if self.capped else ""
        return f"{mark}{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def contrast(alpha0: float, alpha1: float) -> float:
    """Return rho, the factor by which one record of evidence shrinks the adversary's doubt.

    Raises
    ------
    ValueError
        For a ratio outside [0, 1].
    """
    for ratio in (alpha0, alpha1):
        if not 0 <= ratio <= 1:
            raise ValueError(f"ratio {ratio}: the share of records with a property lies in [0, 1]")
    low, high = sorted((alpha0, alpha1))
    return 1.0 if low == high else max(low / high, (1 - high) / (1 - low))


def n_leaked(accuracy: float, alpha0: float, alpha1: float) -> float:
    """Return ``ln(4 w (1 - w)) / ln rho`` for an accuracy ``w``.

    Parameters
    ----------
    accuracy : float
        A fraction in [0, 1]; below 1/2 it counts as 1/2.
    alpha0, alpha1 : float
        The two ratios. Equal ratios leak nothing: 0.

    Returns
    -------
    float
        Infinite at accuracy 1, and for ratios 0 and 1, where one record decides.

    Raises
    ------
    ValueError
        For an accuracy (percentages!) or a ratio outside [0, 1].
    """
    if not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy {accuracy}: give a fraction in [0, 1], not a percentage")
    rho, accuracy = contrast(alpha0, alpha1), max(accuracy, 0.5)
    if rho == 1.0 or accuracy == 0.5:
        return 0.0
    if rho == 0.0 or accuracy == 1.0:
        return inf
    return log(4 * accuracy * (1 - accuracy)) / log(rho)


def leak(correct: Sequence[bool], alpha0: float, alpha1: float, level: float = 0.95) -> Leak:
    """Return ``n_leaked`` of decisions on victims, its ends from the accuracy's Wilson interval.

    Parameters
    ----------
    correct : sequence of bool, shape [victims]
        Whether each victim of a balanced set was judged rightly.
    """
    correct = np.asarray(correct, dtype=bool).ravel()
    if not len(correct):
        raise ValueError("no victims: n_leaked needs at least one decision")
    right, total = int(correct.sum()), len(correct)
    span = wilson(right, total, level)
    capped = right == total
    assumed = 1 - 1 / total if capped else right / total
    top = inf if capped and alpha0 != alpha1 else n_leaked(span.high, alpha0, alpha1)
    return Leak(n_leaked(assumed, alpha0, alpha1), n_leaked(span.low, alpha0, alpha1), top, capped)


def n_leaked_regression(alpha: float, mse: float) -> float:
    """Return ``alpha (1 - alpha) / MSE``: records whose mean estimates the ratio as well.

    Infinite for a perfect estimate; 0 for a ratio of 0 or 1 only if the error is not zero.
    """
    contrast(alpha, alpha)
    if not mse >= 0:
        raise ValueError(f"mean squared error {mse} must be a number of at least 0")
    return inf if mse == 0 else alpha * (1 - alpha) / mse


def regression_leak(estimates: Sequence[float], alpha: float, *, seed: int = 0,
                    level: float = 0.95) -> Interval:
    """Return ``n_leaked`` of ratio estimates, shape [victims], with a bootstrap over victims."""
    errors = (np.asarray(estimates, dtype=np.float64).ravel() - alpha) ** 2
    return bootstrap(errors, lambda drawn: n_leaked_regression(alpha, float(np.mean(drawn))),
                     seed=seed, level=level)
