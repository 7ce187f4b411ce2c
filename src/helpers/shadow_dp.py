"""Privacy of the recipes with ``dp_noise``, by Opacus's accountant (an optional package).

The accountant assumes that every step draws each record by itself with probability ``batch / n``
(Poisson sampling). Training here shuffles and takes fixed batches at the same rate, as most code
does, so an epsilon from here is that of the Poisson form, not a guarantee for these models.
"""

from __future__ import annotations

import math

__all__ = ["epsilon", "noise_for"]


def _opacus():
    try:
        import opacus.accountants.utils
    except ImportError as error:
        raise ImportError("privacy accounting needs Opacus: pip install --no-deps opacus "
                          "opt_einsum") from error
    return opacus.accountants


def _plan(recipe, n: int, delta: float) -> tuple[float, int]:
    """Sampling rate and number of steps."""
    if n < 1 or not 0 < delta < 1:
        raise ValueError(f"need n >= 1 records and 0 < delta < 1, got {n} and {delta}")
    return min(1.0, recipe.batch / n), recipe.epochs * math.ceil(n / recipe.batch)


def epsilon(recipe, n: int, delta: float) -> float:
    """Epsilon of a model trained on ``n`` records, for a given delta (Renyi accountant).

    Infinite when the recipe has no noise. Raises ImportError, saying what to install, where Opacus
    is absent.
    """
    rate, steps = _plan(recipe, n, delta)
    if not recipe.dp_noise:
        return math.inf
    accountant = _opacus().RDPAccountant()
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
    rate, steps = _plan(recipe, n, delta)
    return float(_opacus().utils.get_noise_multiplier(
        target_epsilon=target, target_delta=delta, sample_rate=rate, steps=steps,
        accountant="rdp"))
