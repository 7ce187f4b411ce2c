"""Privacy of the recipes with ``dp_noise``, by Opacus's accountant.

The accountant assumes that every step draws each record by itself with probability ``batch / n``
(Poisson sampling). Training here shuffles and takes fixed batches at the same rate, as most code
does, so an epsilon from here is that of the Poisson form, not a guarantee for these models.
"""

from __future__ import annotations

import math

__all__ = ["epsilon", "noise_for"]


def _plan(recipe, n: int, delta: float) -> tuple[float, int]:
    """Sampling rate and number of steps."""
    if n < 1 or not 0 < delta < 1:
        raise ValueError(f"need n >= 1 records and 0 < delta < 1, got {n} and {delta}")
    return min(1.0, recipe.batch / n), recipe.epochs * math.ceil(n / recipe.batch)


def epsilon(recipe, n: int, delta: float) -> float:
    """Epsilon of a model trained on ``n`` records, for a given delta (Renyi accountant).

    Infinite when the recipe has no noise.
    """
    rate, steps = _plan(recipe, n, delta)
    if not recipe.dp_noise:
        return math.inf
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(recipe.dp_noise, rate, steps)]
    return float(accountant.get_epsilon(delta))


def noise_for(target: float, recipe, n: int, delta: float) -> float:
    """Noise multiplier with which the recipe has epsilon of at most ``target``.

    Parameters
    ----------
    target : float
    recipe : helpers.shadow.Recipe
        Its epochs and batch count, not its ``dp_noise``.
    n : int
    delta : float
    """
    if not 0 < target < math.inf:
        raise ValueError(f"epsilon must be positive and finite, got {target}")
    from opacus.accountants.utils import get_noise_multiplier

    rate, steps = _plan(recipe, n, delta)
    return float(get_noise_multiplier(
        target_epsilon=target, target_delta=delta, sample_rate=rate, steps=steps,
        accountant="rdp"))
