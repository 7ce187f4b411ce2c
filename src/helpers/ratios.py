"""The ratio itself, from one victim: estimates with intervals that hold on victims not seen.

All start from a victim's *profile*: its mean divergence from the shadows of each of several ratios.
Intervals come from shadows that an estimate was not made from (Barber et al., 2021: CV+), so their
coverage needs no model of the errors, only victims drawn like shadows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers.attacks import Views, divergence
from helpers.noise import generator

__all__ = ["Estimate", "profile", "regression", "weighted"]

FOLDS = 5
PENALTIES = np.logspace(-4, 3, 15)


class Estimate(NamedTuple):
    """Ratios in [0, 1], one a victim, and the ends of their intervals; float64 [victims]."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def profile(victims: Views, shadows: Mapping[float, Views]) -> np.ndarray:
    """Mean KL(shadow || victim) to the shadows of each ratio, float64 [victims, ratios].

    Ratios are in increasing order; both probe sets count alike.
    """
    return np.stack([np.mean([divergence(of, seen).mean(0) for of, seen in
                              zip(shadows[ratio], victims, strict=True)], axis=0)
                     for ratio in sorted(shadows)], axis=1)


def weighted(found: np.ndarray, ratios, *, as_released: bool = False) -> np.ndarray:
    """Mean of the ratios, each weighted by how near its shadows are; float64 [victims].

    Parameters
    ----------
    found : ndarray, shape [victims, ratios]
        From `profile`.
    ratios : sequence of float
        In increasing order.
    as_released : bool
        Weigh by the divergence itself, as the released code does: the farther, the heavier. It is
        close to a constant and is here to show that.
    """
    found = np.maximum(np.asarray(found, dtype=np.float64), 1e-12)
    weights = found if as_released else 1 / found
    return weights @ np.sort(np.asarray(ratios, dtype=np.float64)) / weights.sum(1)


def _model():
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES))


def regression(victims: Views, shadows: Mapping[float, Views], *, level: float = 0.95,
               seed: int = 0) -> Estimate:
    """Ridge regression of the ratio on log-profiles, fitted on shadows at several ratios.

    A shadow's own profile is taken to shadows of other folds only.

    Parameters
    ----------
    victims : Views
    shadows : mapping of float to Views
        At least two ratios, at least `FOLDS` shadows each.
    level : float
        Share of victims whose ratio the interval should hold.

    Returns
    -------
    Estimate
        Cut to [0, 1].

    Raises
    ------
    ValueError
        With too few ratios or shadows, or so few that no interval of this level exists.
    """
    ratios = sorted(shadows)
    fewest = min(len(views) for views in shadows.values()) if shadows else 0
    if len(ratios) < 2 or fewest < FOLDS:
        raise ValueError(f"{len(ratios)} ratios with at least {fewest} shadows each: this needs at "
                         f"least two ratios and {FOLDS} shadows of each")
    fold = {r: generator("ratio folds", seed, round(r * 1e6)).permutation(len(shadows[r])) % FOLDS
            for r in ratios}
    total = sum(len(views) for views in shadows.values())
    rank = int(np.ceil(level * (total + 1)))
    if not 0 < level < 1 or rank > total:
        raise ValueError(f"level {level} with {total} shadows: need a level in (0, 1) and at least "
                         f"level / (1 - level) shadows")
    inputs, wanted, place = [], [], []
    for k in range(FOLDS):
        rest = {r: shadows[r].take(fold[r] != k) for r in ratios}
        for r in ratios:
            inputs.append(np.log(np.maximum(profile(shadows[r].take(fold[r] == k), rest), 1e-12)))
            wanted += [r] * len(inputs[-1])
            place += [k] * len(inputs[-1])
    x, y, at = np.concatenate(inputs), np.array(wanted), np.array(place)
    mine = np.log(np.maximum(profile(victims, shadows), 1e-12))
    low, high = np.empty((2, total, len(victims)))
    for k in range(FOLDS):
        model = _model().fit(x[at != k], y[at != k])
        errors = np.abs(y[at == k] - model.predict(x[at == k]))[:, None]
        said = model.predict(mine)[None]
        low[at == k], high[at == k] = said - errors, said + errors
    value = _model().fit(x, y).predict(mine)
    ends = np.sort(low, axis=0)[total - rank], np.sort(high, axis=0)[rank - 1]
    return Estimate(*(np.clip(part, 0.0, 1.0) for part in (value, *ends)))
