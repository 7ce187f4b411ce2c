"""How well each predictor of a network's pictures does, along the number of training images.

Pictures are kept by (name, size): a network, a closed form or a trivial guess, uint8 [n, H, W, C],
row i always drawn from noise i. Squared distances come as one matrix [noises, sizes], so that a
bootstrap over noises keeps all sizes of one noise together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from helpers import scores, sweeps
from helpers.intervals import Interval, bootstrap, crossing

__all__ = ["Pictures", "distances", "grids", "overtakes", "rms"]


class Pictures(dict):
    """Pictures by (name, size), compared name against name along a grid of sizes.

    Parameters
    ----------
    pictures : mapping of (str, int) to uint8 [n, H, W, C]
    grid : sequence of int
        Sizes that a comparison runs over when it is given none.
    seed : int
        Seed of the permutations.
    """

    def __init__(self, pictures: Mapping, grid: Sequence[int], seed: int = 0):
        super().__init__(pictures)
        self.grid, self.seed = list(grid), seed

    def along(self, score: Callable, a: str, b: str, grid: Sequence[int] | None = None) -> list:
        """``score`` of the pictures of `a` and `b` at each size."""
        return [score(self[a, n], self[b, n]) for n in (self.grid if grid is None else grid)]

    def agree(self, a: str, b: str, grid: Sequence[int] | None = None) -> list[Interval]:
        """MAE score at each size, Wilson intervals over noises."""
        return self.along(scores.mae_score, a, b, grid)

    def null(self, a: str, b: str, grid: Sequence[int] | None = None,
             score: Callable = scores.mae_score) -> list[Interval]:
        """The score at each size after the noises of `b` were permuted."""
        return self.along(lambda x, y: scores.null_score(x, y, score, self.seed), a, b, grid)

    def squared(self, a: str, b: str, grid: Sequence[int] | None = None) -> np.ndarray:
        """Squared distances, float64 [noises, sizes]."""
        return np.stack(self.along(scores.squared_distance, a, b, grid), axis=1)

    def hits(self, a: str, b: str, grid: Sequence[int] | None = None) -> np.ndarray:
        """Whether the two pictures of a noise agree, float64 0/1 [noises, sizes]."""
        return np.stack(self.along(scores.agree, a, b, grid), axis=1).astype(np.float64)


def grids(least: int, **chosen: Sequence[int]) -> list[list[int]]:
    """Sort each grid; ValueError names one of fewer than `least` sizes or with one below 2."""
    for name, grid in chosen.items():
        if len(set(grid)) < least or min(grid) < 2:
            raise ValueError(f"{name}={list(grid)}: need at least {least} different "
                             f"size{'s' * (least > 1)}, each of at least 2 images")
    return [sorted(set(grid)) for grid in chosen.values()]


def rms(squared: np.ndarray) -> float:
    """Root of the mean of squared distances."""
    return float(np.sqrt(np.mean(squared)))


def distances(squared: np.ndarray, seed: int = 0) -> list[Interval]:
    """Root mean square of each column of [noises, sizes], bootstrap over noises."""
    return [bootstrap(column, rms, seed=seed) for column in squared.T]


def overtakes(grid: Sequence[int], later: np.ndarray, earlier: np.ndarray,
              seed: int = 0) -> Interval | str:
    """Size from which the mean of `later` [noises, sizes] lies above that of `earlier`.

    Interpolated on log2 of the size, bootstrap over noises; text where it is beyond the grid.
    """
    return sweeps.unlog(crossing(np.log2(grid), later - earlier, 0.0, seed=seed), grid)
