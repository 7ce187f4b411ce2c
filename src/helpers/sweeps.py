"""What turns along the number of training images, and along one training run.

Everything here works on 0/1 indicators with one row for each noise: [noises, sizes] along a sweep,
[noises, marks] along a run. With one model behind each column, a bootstrap over rows covers new
noises for these models; where several models stand behind one number (`Growth.over_models`), it
resamples the models. Sizes and steps are handled as log2, since both grids are octaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helpers import objectives, scores
from helpers.intervals import (
    Interval,
    Trough,
    bootstrap,
    crossing,
    first_crossing,
    fit_slope,
    slope,
    trough,
    wilson,
)

__all__ = ["Dip", "Growth", "Run", "Sweep", "Transition", "clear", "dip",
           "excess", "growth", "guarded", "over_sizes", "reading", "shares", "text", "transition",
           "unlog", "watch"]

UNKNOWN = Interval(np.nan, np.nan, np.nan)


def over_sizes(judge, *series: Sequence) -> np.ndarray:
    """Indicators bool [noises, sizes]: ``judge`` of the items of each size, which it takes in turn.

    Series that end early (a pair that exists for fewer sizes) end the result.
    """
    items = zip(*series, strict=False)
    return np.stack([np.asarray(judge(*item), dtype=bool) for item in items], axis=1)


def shares(hits: np.ndarray) -> list[Interval]:
    """Share of rows that hit, a Wilson interval for each column of bool [noises, columns]."""
    return [wilson(int(column.sum()), len(column)) for column in np.asarray(hits).T]


def unlog(found: Interval, grid: Sequence[float], say: bool = True) -> Interval | str:
    """Turn an interval of log2 into the unit of `grid`, its ends cut at the ends of the grid.

    A value beyond the grid is censored: with `say` it becomes "fewer than ..." or "more than ...",
    without it the end of the grid.
    """
    if say and not np.isfinite(found.value):
        if np.isnan(found.value):
            return "not measurable"
        return f"fewer than {min(grid):,}" if found.value < 0 else f"more than {max(grid):,}"
    ends = np.clip([found.value, found.low, found.high], np.log2(min(grid)), np.log2(max(grid)))
    return Interval(*(float(2**end) for end in ends))


class Sweep:
    """Pictures of several roles (a width, a second seed, ...) along a grid of sizes.

    Parameters
    ----------
    sizes : sequence of int
    pictures : mapping of str to list of uint8 [noises, H, W, C]
        One entry for each size; a list may end early. The noises are the same everywhere.
    train : list of uint8 [N, H, W, C]
        Training images of each size.
    embed : callable
        Images to embedding.
    threshold : float
        Similarity of two embeddings above which pictures count as the same.
    seed : int
        Seed of the permutations.
    """

    SCORES = ("RP score", "MAE score")  # keys of `hits`, `null` and `nearest`

    def __init__(self, sizes: Sequence[int], pictures: Mapping[str, list], train: list,
                 embed: Callable, threshold: float, seed: int = 0):
        self.sizes, self.pictures, self.train = list(sizes), dict(pictures), train
        self.embed, self.threshold, self.seed = embed, threshold, seed
        self.embedded = {role: [embed(x) for x in found] for role, found in pictures.items()}
        self.references = [embed(x) for x in train]

    def _alike(self, a, b) -> np.ndarray:
        return scores.similarity(a, b) > self.threshold

    def novel(self, items, references) -> np.ndarray:
        """Whether each embedding is no near copy of a reference, bool [n]: GL is its mean."""
        return scores.nearest_similarity(items, references) <= self.threshold

    def hits(self, a: str, b: str) -> dict[str, np.ndarray]:
        """Whether the pictures of two roles are the same, bool [noises, sizes] for each score."""
        return {"RP score": over_sizes(self._alike, self.embedded[a], self.embedded[b]),
                "MAE score": over_sizes(scores.agree, self.pictures[a], self.pictures[b])}

    def null(self, a: str, b: str) -> dict[str, list[Interval]]:
        """Both scores at each size after the noises of `b` were permuted."""
        def permuted(judge, items):
            return [scores.null_score(x, y, judge, self.seed)
                    for x, y in zip(items[a], items[b], strict=False)]

        return {"RP score": permuted(lambda x, y: scores.rp(x, y, self.threshold), self.embedded),
                "MAE score": permuted(scores.mae_score, self.pictures)}

    def nearest(self, role: str, noise: np.ndarray) -> dict[str, list[Interval]]:
        """Both scores of a role with the training image nearest to each noise [n, C, H, W]."""
        found = [scores.nearest_to_noise(noise, images)[0] for images in self.train]
        return {"RP score": shares(over_sizes(self._alike, self.embedded[role],
                                              map(self.embed, found))),
                "MAE score": shares(over_sizes(scores.agree, self.pictures[role], found))}

    def novelty(self, roles: Sequence[str], unseen: np.ndarray | None = None) -> dict[str, dict]:
        """Answers to whether pictures are new, bool [noises, sizes] by answer and role.

        Novel by the descriptor; no copy by the one-third rule; in agreement with `unseen`, where
        given, the pictures of a model that saw other images.
        """
        found = {"GL": {r: over_sizes(self.novel, self.embedded[r], self.references)
                        for r in roles},
                 "no copies": {r: ~over_sizes(scores.copies, self.pictures[r], self.train)
                               for r in roles}}
        if unseen is not None:
            found["like unseen data"] = {r: over_sizes(lambda x: scores.agree(x, unseen),
                                                       self.pictures[r]) for r in roles}
        return found


def text(found: Interval | float | str, fmt: str = ".2f") -> str:
    """Write a number or an interval with `fmt`; text passes (`unlog` of a censored value)."""
    return found if isinstance(found, str) else format(found, fmt)


@dataclass(frozen=True)
class Dip(Trough):
    """A trough along sizes: `location` in images, the shares at both ends, number of the lowest."""

    first: Interval
    last: Interval
    at: int

    def row(self) -> list[Interval | str]:
        """First, lowest, where, last and depth, for a table."""
        return [self.first, self.lowest, f"{self.location:,.0f}", self.last, self.depth]

    def kappa(self, null: Sequence[Interval]) -> list[float]:
        """First, lowest and last beyond chance, given the null at each size."""
        return [scores.kappa(share.value, null[k].value) for share, k in
                ((self.first, 0), (self.lowest, self.at), (self.last, -1))]


def dip(sizes: Sequence[int], hits: np.ndarray, seed: int = 0) -> Dip:
    """Trough (`helpers.intervals.trough`) of bool [noises, k] along the first k `sizes`.

    A single size is its own trough, of depth 0.
    """
    hits = np.asarray(hits)
    sizes, ends = list(sizes)[:hits.shape[1]], shares(hits)
    twice = 2 if len(sizes) == 1 else 1
    grid = np.log2(sizes) if twice == 1 else np.log2(sizes[0]) + np.arange(2)
    found = vars(trough(grid, np.repeat(hits, twice, axis=1), seed=seed))
    return Dip(**found | {"location": unlog(found["location"], sizes)}, first=ends[0],
               last=ends[-1], at=int(hits.mean(axis=0).argmin()))


@dataclass(frozen=True)
class Transition:
    """Where a share crosses one half for each width (log2 images), and how that grows.

    `at_least` is a lower bound on the exponent where widths are censored, NaN where there is none.
    """

    half: dict[str, Interval]
    exponent: Interval
    at_least: float

    @property
    def power(self) -> Interval | str:
        """The exponent, or in words its bound, or that it cannot be measured."""
        if np.isfinite(self.exponent.value):
            return self.exponent
        return "not measurable" if np.isnan(self.at_least) else f"at least {self.at_least:.2f}"


def transition(sizes: Sequence[int], parameters: Mapping[str, int], hits: Mapping[str, np.ndarray],
               *, seed: int = 0) -> Transition:
    """Locate the transition of each width and its scaling exponent.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of training images, increasing.
    parameters : mapping of str to int
        Parameters of each width; its order is kept.
    hits : mapping of str to bool [noises, sizes]
        One model for each width and size, the same noises for all.

    Returns
    -------
    Transition
        `half` by `helpers.intervals.crossing` at .5; `exponent` is the least-squares slope of log2
        of the crossing on log2 of the parameters, NaN when a width never crosses on the grid.
        Both bootstrap over noises. `at_least` puts a censored width at its end of the grid, which
        bounds the slope from below if narrow widths cross before the grid or wide ones beyond it.
    """
    x, names = np.log2(sizes), list(parameters)
    weights = np.log2([parameters[name] for name in names])
    half = {name: crossing(x, hits[name], 0.5, seed=seed) for name in names}
    stacked = np.stack([hits[name] for name in names], axis=1)
    exponent = bootstrap(stacked, lambda rows: fit_slope(
        weights, [first_crossing(x, curve, 0.5) for curve in rows.mean(axis=0)]), seed=seed)
    at = np.array([half[name].value for name in names])
    wide = weights > weights.mean()
    bounded = np.isfinite(at) | (wide == (at > 0))
    bound = fit_slope(weights, np.clip(at, x[0], x[-1])) if bounded.all() else np.nan
    return Transition(half, exponent, bound)


@dataclass(frozen=True)
class Run:
    """One training run, looked at on the way.

    Attributes
    ----------
    steps : ndarray of int, [k]
    copied, alike : ndarray of bool, [noises, k]
        Whether each picture copies a training image, and whether it agrees with the reference.
    onset, peak, lead : Interval
        In log2 steps: where the share of copies crosses the level (infinite when it never does,
        minus infinity when it has at the first look), where the agreement is largest (one of
        `steps`), and the first minus the second. Bootstrap over noises.
    """

    steps: np.ndarray
    copied: np.ndarray
    alike: np.ndarray
    onset: Interval
    peak: Interval
    lead: Interval

    @property
    def best(self) -> int:
        """Number of the look at which the agreement is largest."""
        return int(self.alike.mean(axis=0).argmax())


def watch(steps: Sequence[int], images: np.ndarray, train: np.ndarray, reference: np.ndarray,
          level: float = 0.1, seed: int = 0) -> Run:
    """Score the looks of a run.

    Parameters
    ----------
    steps : sequence of int, [k]
    images : ndarray of uint8, [k, n, H, W, C]
    train : ndarray of uint8, [N, H, W, C]
        Its training images, for the one-third rule.
    reference : ndarray of uint8, [n, H, W, C]
        Pictures of a model that never saw them, from the same noises.
    level : float
        Share of copies that counts as their onset.
    """
    steps = np.asarray(steps)
    x = np.log2(steps)
    copied = np.stack([scores.copies(look, train) for look in images], axis=1)
    alike = np.stack([scores.agree(look, reference) for look in images], axis=1)

    def onset(rows: np.ndarray) -> float:
        share = rows.mean(axis=0)
        if len(x) < 2:
            return -np.inf if share[0] >= level else np.inf
        return first_crossing(x, share, level)

    def peak(rows: np.ndarray) -> float:
        return x[rows.mean(axis=0).argmax()]

    both = np.stack([copied, alike], axis=1)
    return Run(steps, copied, alike, bootstrap(copied, onset, seed=seed),
               bootstrap(alike, peak, seed=seed),
               bootstrap(both, lambda rows: onset(rows[:, 0]) - peak(rows[:, 1]), seed=seed))


@dataclass(frozen=True)
class Growth:
    """Slope of log2 onset on log2 images, over the runs in which copying began.

    `over_models` resamples the runs (its ends are NaN below three), `over_noises` the noises that
    all runs share; `reached` and `censored` are the sizes that are in and out.
    """

    over_models: Interval
    over_noises: Interval
    reached: tuple[int, ...]
    censored: tuple[int, ...]


def growth(runs: Mapping[int, Run], level: float = 0.1, seed: int = 0) -> Growth:
    """How the onset of copying grows with the number of training images; `runs` by that number."""
    reached = tuple(n for n in runs if np.isfinite(runs[n].onset.value))
    censored = tuple(n for n in runs if n not in reached)
    if len(reached) < 2:
        return Growth(UNKNOWN, UNKNOWN, reached, censored)
    x = np.log2(reached)
    chosen = [runs[n] for n in reached]

    def refit(rows: np.ndarray) -> float:
        shares_of = [run.copied[rows].mean(axis=0) for run in chosen]
        return fit_slope(x, [first_crossing(np.log2(run.steps), share, level)
                             for run, share in zip(chosen, shares_of, strict=True)])

    return Growth(slope(x, np.array([run.onset.value for run in chosen]), seed=seed),
                  bootstrap(np.arange(len(chosen[0].copied)), refit, seed=seed), reached, censored)


def excess(held_out: Mapping, best: Mapping, seed: int = 0) -> Interval:
    """Held-out loss of a model relative to the best one's, from the maps' ``held_out`` records.

    The interval is a bootstrap over the noise levels at which both losses were taken (same images,
    same noises): it says how evenly the excess is spread, not how it would vary with new images.
    """
    edm = objectives.objective("edm")
    weight = np.array([float(edm.weight(sigma)) for sigma in held_out["sigmas"]])
    levels = np.stack([weight * held_out["mse"], weight * best["mse"]], axis=1)
    return bootstrap(levels, lambda rows: rows[:, 0].sum() / rows[:, 1].sum(), seed=seed)


def reading(held_out: float, own: float, best: float, guard: float = 1.1) -> str:
    """Word for a model's losses on held-out and on its own images against the best held-out loss.

    "counts" within `guard` times the best; otherwise "memorising" when it does that well on its own
    images at least, and "undertrained" when it does not.
    """
    if held_out <= guard * best:
        return "counts"
    return "memorising" if own <= guard * best else "undertrained"


def clear(held_out: Mapping[str, Mapping], guard: float, seed: int = 0):
    """Worst excess over the best loss of models by role, and which of them are within the guard."""
    ranked = sorted(held_out, key=lambda role: held_out[role]["loss"])
    best, worst = held_out[ranked[0]], held_out[ranked[-1]]
    return excess(worst, best, seed), {role: found["loss"] <= guard * best["loss"]
                                       for role, found in held_out.items()}


def guarded(record: Mapping, best: float, guard: float = 1.1) -> str:
    """A map's held-out loss relative to the best one; m or u (`reading`) where it lies above."""
    held_out, own = record["held_out"]["loss"], record["fitted"]["loss"]
    word = reading(held_out, own, best, guard)
    return f"{held_out / best:.2f}" + (f" {word[0]}" if word != "counts" else "")
