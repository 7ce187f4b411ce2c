"""From evidence to answers: scores of some queries, thresholds from held-out shadows, by count.

A count of queries is played with several draws of noises, the same for all models. Every draw has
thresholds of its own, calibrated on held-out shadows that were asked the same noises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from helpers.decisions import answered, auc
from helpers.noise import generator

__all__ = ["Answers", "answers", "subsets"]


class Answers(NamedTuple):
    """Outcomes by number of queries.

    Attributes
    ----------
    right : ndarray, float16, shape [counts, 2, victims]
        Share of draws of noises in which a victim was judged rightly.
    area : ndarray, float32, shape [counts]
        Area under the ROC curve, mean over draws.
    """

    right: np.ndarray
    area: np.ndarray


def subsets(count: int, noises: int, draws: int, seed: int = 0) -> np.ndarray:
    """Noises of every draw, int [draws, count]; one draw where all noises are asked.

    Raises
    ------
    ValueError
        When more noises are wanted than there are.
    """
    if not 1 <= count <= noises or draws < 1:
        raise ValueError(f"count={count} must be 1 to {noises} (noises) and draws={draws} at least "
                         "1")
    if count == noises:
        return np.arange(noises)[None]
    return np.stack([generator("queries", seed, count, k).permutation(noises)[:count]
                     for k in range(draws)])


def answers(victims: np.ndarray, held: tuple[np.ndarray, np.ndarray] | None,
            fold: np.ndarray | None, counts: Sequence[int], draws: int, seed: int = 0, *,
            first: bool = False) -> Answers:
    """Judge victims from a number of queries each.

    Parameters
    ----------
    victims : ndarray, shape [2, models, noises]
        Evidence for world 1 in the samples of the victims of both worlds.
    held : pair of ndarray, shape [shadows, noises], or None
        The same of held-out shadows; without them the answer is world 1 where the score is
        positive.
    fold : ndarray of int, optional
        Half of the pool behind each shadow (:func:`helpers.decisions.answered`).
    counts, draws, seed
        Numbers of queries; draws of noises for each; seed of the draws.
    first : bool
        Ask the first noises, which are in an order of choice, instead of random ones.
    """
    right, area, noises = [], [], victims.shape[2]
    if not counts or not 1 <= min(counts) <= max(counts) <= noises:
        raise ValueError(f"counts={counts} must lie in 1..{noises}, the noises there are")
    for count in counts:
        chosen = np.arange(count)[None] if first else subsets(count, noises, draws, seed)
        found = []
        for some in chosen:
            scores = victims[:, :, some].mean(2, dtype=np.float64)
            theirs = None if held is None else tuple(
                part[:, some].mean(1, dtype=np.float64) for part in held)
            judged = answered(scores, theirs, fold)
            found.append((judged.correct[judged.rule], auc(*scores)))
        right.append(np.mean([one for one, _ in found], axis=0))
        area.append(np.mean([one for _, one in found]))
    return Answers(np.array(right, np.float16), np.array(area, np.float32))
