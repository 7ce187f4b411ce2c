"""The ratio itself, from one victim: estimates with intervals that hold on victims not seen.

Most start from a victim's *profile*: its mean divergence from the shadows of each of several
ratios. Intervals come from shadows that an estimate was not made from (Barber et al., 2021: CV+;
one held-out set for networks), so their coverage needs no model of the errors, only victims drawn
like shadows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers.attacks import Views, divergence
from helpers.noise import generator

__all__ = ["Crossed", "Estimate", "calibrated", "crossed", "profile", "regression",
           "split_conformal", "weighted"]

FOLDS = 5
PENALTIES = np.logspace(-4, 3, 15)


class Estimate(NamedTuple):
    """Ratios in [0, 1], one a victim, and the ends of their intervals; float64 [victims]."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Crossed(NamedTuple):
    """Shadows judged like victims, each by the shadows of the other folds.

    Their profiles float64 [shadows, ratios], their ratios float64 [shadows] and folds [shadows].
    """

    profiles: np.ndarray
    ratios: np.ndarray
    folds: np.ndarray


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


def crossed(shadows: Mapping[float, Views], seed: int = 0, fold=None) -> Crossed:
    """Profiles of the shadows themselves, each to the shadows of other folds only.

    Parameters
    ----------
    shadows : mapping of float to Views
    seed : int
        Of the folds.
    fold : ndarray of int, optional
        Fold of each shadow, the same at every ratio; by default `FOLDS` random ones. Folds of
        shadows that share no record with those of another (`helpers.groups.Group`) carry the
        shift between two pools of records into the errors, and so into the intervals.

    Raises
    ------
    ValueError
        With fewer than two ratios, or fewer than `FOLDS` shadows of one.
    """
    ratios = sorted(shadows)
    fewest = min(len(views) for views in shadows.values()) if shadows else 0
    if len(ratios) < 2 or fewest < FOLDS:
        raise ValueError(f"{len(ratios)} ratios with at least {fewest} shadows each: this needs at "
                         f"least two ratios and {FOLDS} shadows of each")
    if fold is None:
        fold = {r: generator("ratio folds", seed, round(r * 1e6)).permutation(len(shadows[r]))
                % FOLDS for r in ratios}
    else:
        fold = dict.fromkeys(ratios, np.asarray(fold))
    found, wanted, place = [], [], []
    for k in np.unique(fold[ratios[0]]):
        rest = {r: shadows[r].take(fold[r] != k) for r in ratios}
        for r in ratios:
            found.append(profile(shadows[r].take(fold[r] == k), rest))
            wanted += [r] * len(found[-1])
            place += [k] * len(found[-1])
    return Crossed(np.concatenate(found), np.array(wanted), np.array(place))


def _rank(level: float, total: int) -> int:
    """Which of `total` sorted errors bounds the next one with probability `level`."""
    rank = int(np.ceil(level * (total + 1))) if 0 < level < 1 else total + 1
    if rank > total:
        raise ValueError(f"level {level} with {total} shadows: need a level in (0, 1) and at least "
                         f"level / (1 - level) shadows")
    return rank


def _cv_plus(model, x, y, at, mine, level: float) -> Estimate:
    """Fit on each set of folds, read the errors off the fold left out (CV+), cut to [0, 1]."""
    total = len(y)
    rank = _rank(level, total)
    low, high = np.empty((2, total, len(mine)))
    for k in np.unique(at):
        part = model().fit(x[at != k], y[at != k])
        errors = np.abs(y[at == k] - part.predict(x[at == k]))[:, None]
        said = part.predict(mine)[None]
        low[at == k], high[at == k] = said - errors, said + errors
    value = model().fit(x, y).predict(mine)
    ends = np.sort(low, axis=0)[total - rank], np.sort(high, axis=0)[rank - 1]
    return Estimate(*(np.clip(part, 0.0, 1.0) for part in (value, *ends)))


def _ridge():
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES))


def regression(victims: Views, shadows: Mapping[float, Views], *, level: float = 0.95,
               seed: int = 0, own: Crossed | None = None) -> Estimate:
    """Ridge regression of the ratio on log-profiles, fitted on shadows at several ratios.

    A shadow's own profile is taken to shadows of other folds only.

    Parameters
    ----------
    victims : Views
    shadows : mapping of float to Views
        At least two ratios, at least `FOLDS` shadows each.
    level : float
        Share of victims whose ratio the interval should hold.
    own : Crossed, optional
        ``crossed(shadows, seed)``, where it is at hand or its folds are others.

    Returns
    -------
    Estimate
        Cut to [0, 1].

    Raises
    ------
    ValueError
        With too few ratios or shadows, or so few that no interval of this level exists.
    """
    own = own or crossed(shadows, seed)
    logs = [np.log(np.maximum(part, 1e-12)) for part in (own.profiles, profile(victims, shadows))]
    return _cv_plus(_ridge, logs[0], own.ratios, own.folds, logs[1], level)


def calibrated(victims: Views, shadows: Mapping[float, Views], *, as_released: bool = False,
               level: float = 0.95, seed: int = 0, own: Crossed | None = None) -> Estimate:
    """The weighted mean of `weighted`, put right by a line that is fitted on shadows.

    A weighted mean is drawn towards the middle of the grid; the line undoes that, also where the
    slope is negative (`as_released`). Parameters, result and errors as for `regression`.
    """
    own = own or crossed(shadows, seed)
    means = [weighted(part, list(shadows), as_released=as_released)[:, None]
             for part in (own.profiles, profile(victims, shadows))]
    return _cv_plus(LinearRegression, means[0], own.ratios, own.folds, means[1], level)


def split_conformal(said, held, wanted, level: float = 0.95) -> Estimate:
    """Intervals of one half-width, a quantile of the errors on held-out shadows; cut to [0, 1].

    Parameters
    ----------
    said : ndarray, shape [victims]
        Estimates of the victims' ratios.
    held, wanted : ndarray, shape [shadows]
        Estimates and true ratios of shadows that the estimator was not made from.
    level : float

    Raises
    ------
    ValueError
        With so few held-out shadows that no interval of this level exists.
    """
    errors = np.sort(np.abs(np.asarray(held, np.float64) - np.asarray(wanted, np.float64)))
    said, half = np.asarray(said, np.float64), errors[_rank(level, len(errors)) - 1]
    return Estimate(*(np.clip(part, 0.0, 1.0) for part in (said, said - half, said + half)))
