"""What held-out shadows say about a victim: threshold, probability, and how often they are right.

Shadows of even and of odd number are trained on disjoint halves of the records, and every shadow
is scored like a victim, by those of the other half: like a victim, it shares no record with them.
`helpers.own_model` tests classifiers this way, `helpers.noise_audit` diffusion models; all that
enters is a matrix of distances between models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from helpers.decisions import best_cut
from helpers.intervals import Interval, wilson
from helpers.noise import generator

__all__ = ["LEVEL", "Judged", "aligned", "drawn", "far_from", "judged", "probability", "right"]

FOLDS, DRAWS, LEVEL = 5, 1000, 0.95


@dataclass(frozen=True, eq=False)
class Judged:
    """What the shadows of two worlds say about victims.

    Attributes
    ----------
    scores : ndarray, float64, shape [victims]
        Mean distance to the shadows of world 0 less that to world 1's.
    above : ndarray, bool, shape [victims]
        Whether the score lies above the calibrated threshold, which speaks for world 1.
    probability : list of Interval
        Of world 1, one a victim.
    accuracy : Interval
        Share of held-out shadows that the calibrated rule gets right.
    near : ndarray, float64, shape [shadows + victims]
        Mean distance from the nearer world's shadows.
    """

    scores: np.ndarray
    above: np.ndarray
    probability: list[Interval]
    accuracy: Interval
    near: np.ndarray


def judged(far: np.ndarray, worlds: tuple[float, float]) -> Judged:
    """Judge victims by their distances from the shadows of two worlds, each by itself.

    The probability of world 1 (prior 1/2) is a logistic regression of the world on the held-out
    scores, with a ridge penalty on the score in units of its standard deviation. It
    is monotone in the score, which two fitted normal laws are only if their variances agree, and
    the penalty keeps it from a certainty that some tens of shadows cannot vouch for: with 50 of
    each ratio, all told apart, it stays near .97. Its interval is a bootstrap over the shadows of
    each world and half: scores, scale and regression are made anew from those drawn. The accuracy
    of the rule comes from thresholds that were calibrated without the fifth of the shadows that
    they judge.

    Parameters
    ----------
    far : ndarray, float64, shape [shadows, shadows + victims]
        Distances; world 0's shadows come first, then as many of world 1, even numbers of either
        from one half of the records and odd ones from the other.
    worlds : tuple of float
        The two ratios, which name the streams of the bootstrap.
    """
    count = len(far) // 2
    world = np.repeat([False, True], count)
    once, again = np.ones((1, 2 * count)), drawn(count, worlds)
    means = far_from(far, world, once)[:, 0]
    scores, near = aligned((means[0] - means[1])[None], world, once)[0], means.min(0)
    held, mine = scores[:2 * count], scores[2 * count:]
    said = probability(scores[None], world, once)[0]
    moved = aligned(np.subtract(*far_from(far, world, again)), world, again)
    low, high = np.quantile(probability(moved, world, again), [(1 - LEVEL) / 2, (1 + LEVEL) / 2],
                            axis=0)
    return Judged(
        mine, mine > best_cut(held[:count], held[count:]),
        [Interval(*map(float, ends)) for ends in zip(said, low, high, strict=True)],
        wilson(int(right(held, world).sum()), 2 * count, LEVEL), near)


def far_from(far: np.ndarray, world: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean distance from the shadows of either world, each counted `weights` times.

    A shadow is compared with those of the other half of the records only (`Group.halves`): they
    share no record with it, as with a victim. `far` [shadows, shadows + victims], `world`
    [shadows], `weights` [draws, shadows]; returns [2, draws, shadows + victims].
    """
    half = np.arange(len(world)) % (len(world) // 2) % 2
    counts = np.ones(far.shape)
    counts[:, : len(world)] = half[:, None] != half
    return np.stack([(weights * (world == side)) @ (far * counts)
                     / ((weights * (world == side)) @ counts) for side in (False, True)])


def aligned(scores: np.ndarray, world: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Move the shadows' scores so that either half has the same middle between the worlds.

    Each half is scored by the other, which shifts all its scores by an amount of their own;
    victims, scored by all, stay (`helpers.decisions.answered`). Shapes as in `probability`.
    """
    half = np.arange(len(world)) % (len(world) // 2) % 2
    middle = []
    for k in (0, 1):
        parts = [weights * ((half == k) & (world == side)) for side in (False, True)]
        middle.append(np.mean([(part * scores[:, : len(world)]).sum(1) / part.sum(1)
                               for part in parts], axis=0))
    middle, moved = np.stack(middle, 1), scores.copy()
    moved[:, : len(world)] += middle.mean(1, keepdims=True) - middle[:, half]
    return moved


def probability(scores: np.ndarray, world: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ridge logistic regression of the world on the shadows' scores, read at the victims'.

    `scores` [draws, shadows + victims], `world` [shadows], `weights` [draws, shadows]; returns
    [draws, victims]. Newton's method, all draws at once; the slope belongs to scores in units of
    their standard deviation and has the penalty slope^2 / 2, the intercept has none.
    """
    size, total = len(world), weights.sum(1, keepdims=True)
    middle = (weights * scores[:, :size]).sum(1, keepdims=True) / total
    x = scores - middle
    scale = np.sqrt((weights * x[:, :size] ** 2).sum(1, keepdims=True) / total)
    x = x / np.where(scale > 0, scale, 1.0)
    held = x[:, :size]
    slope, shift = np.zeros((2, len(scores), 1))
    for _ in range(50):
        said = expit(slope * held + shift)
        off, bend = weights * (said - world), weights * said * (1 - said)
        down = np.stack([(off * held).sum(1) + slope[:, 0], off.sum(1)], 1)
        mixed = (bend * held).sum(1)
        curve = np.stack([np.stack([(bend * held**2).sum(1) + 1, mixed], 1),
                          np.stack([mixed, bend.sum(1)], 1)], 1)
        step = np.linalg.solve(curve, down[..., None])
        slope, shift = slope - step[:, 0], shift - step[:, 1]
        if np.abs(step).max() < 1e-10:
            break
    return expit(slope * x[:, size:] + shift)


def drawn(count: int, worlds: tuple[float, float]) -> np.ndarray:
    """Times that a shadow is drawn, with replacement within world and half, [draws, 2 count]."""
    times = np.empty((DRAWS, 2 * count), np.int64)
    for world, ratio in enumerate(worlds):
        for half in (0, 1):
            place = world * count + np.arange(half, count, 2)
            stream = generator("attack shadows", round(ratio * 1e6), half)
            at = stream.integers(len(place), size=(DRAWS, len(place)))
            times[:, place] = np.stack([np.bincount(one, minlength=len(place)) for one in at])
    return times


def right(held: np.ndarray, world: np.ndarray) -> np.ndarray:
    """Whether each shadow is judged rightly by a threshold from shadows of the other folds."""
    fold, found = np.arange(len(held)) % (len(held) // 2) % FOLDS, np.zeros(len(held), bool)
    for k in range(FOLDS):
        rest, asked = fold != k, fold == k
        cut = best_cut(held[rest & ~world], held[rest & world])
        found[asked] = (held[asked] > cut) == world[asked]
    return found
