"""Surveys, through the store: victims at many ratios, each ratio estimated from one victim.

A `Survey` sets victims of one party against shadows of the other at several ratios
(`helpers.groups`) and keeps what every method of `helpers.ratios` says of each victim. Some of the
adversary's own models are set apart and judged like victims: for them alone the intervals' coverage
is guaranteed, since shadows and victims share no pool of records.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from helpers import groups, ratios, tables, whitebox
from helpers.attacks import Views
from helpers.groups import Data, Group, fitted, table
from helpers.inference import _group
from helpers.intervals import Interval, bootstrap, difference, wilson
from helpers.leakage import regression_leak
from helpers.noise import generator
from helpers.outputs import Probabilities
from helpers.store import Store, fingerprint, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["Data", "Group", "METHODS", "Survey", "Surveyed", "check", "play", "probe_rows",
           "recompute"]

VERSION = 1
MODULES = ("helpers.estimating", *groups.MODULES, "helpers.attacks", "helpers.ratios",
           "helpers.whitebox")
METHODS = {
    "as_released": "mean of the ratios, the farther the heavier (no interval)",
    "weighted": "mean of the ratios, the nearer the heavier (no interval)",
    "calibrated released": "the first, put right by a line fitted on shadows",
    "calibrated": "the second, put right by a line fitted on shadows",
    "regression": "ridge regression on the log-divergences",
    "pin": "permutation-invariant network on the victims' weights",
}
POINTS = ("as_released", "weighted")  # methods that give no interval


@dataclass(frozen=True)
class Survey:
    """Victims at several ratios and shadows at several ratios.

    Attributes
    ----------
    victims, shadows : Group
        Models of the two parties at each ratio; the groups' own ratio does not count.
    asked, grid : tuple of float
        Ratios of the victims and of the shadows, increasing.
    held : int
        The last models of the adversary at each ratio of `grid` are no shadows but *peers*, judged
        as if they were victims; 0: none.
    use : int
        Shadows of each ratio that the adversary uses; 0: all but `held`.
    probes : int
        Records of each of the two probe sets, drawn from the adversary's test pool.
    at : tuple of float
        Ratios of the two probe sets.
    methods : tuple of str
        Names in `METHODS`; ``pin`` reads the weights of perceptrons.
    level : float
        Share of victims whose ratio an interval should hold.
    seed : int
        Seed of the probe records, of folds and of the methods' own randomness.
    """

    victims: Group
    shadows: Group
    asked: tuple[float, ...]
    grid: tuple[float, ...]
    held: int = 0
    use: int = 0
    probes: int = 1000
    at: tuple[float, float] = (0.0, 1.0)
    methods: tuple[str, ...] = ("as_released", "weighted", "calibrated", "regression")
    level: float = 0.95
    seed: int = 0

    def __post_init__(self):
        for side in ("victims", "shadows"):  # one survey, one key
            object.__setattr__(self, side, replace(getattr(self, side), ratio=0.5))
        for name in ("asked", "grid"):
            told = getattr(self, name)
            if not told or list(told) != sorted(set(told)) or not 0 <= told[0] <= told[-1] <= 1:
                raise ValueError(f"{name}={told}: need increasing ratios in [0, 1]")
        for name in self.methods:
            if name not in METHODS:
                raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
        archs = {side.recipe.arch for side in (self.victims, self.shadows)}
        if "pin" in self.methods and not (len(archs) == 1 and min(archs).startswith("mlp-")):
            raise ValueError("pin reads the weights of perceptrons of one architecture, not of "
                             f"{' and '.join(sorted(archs))}")
        if (self.victims.party, self.shadows.party) != (0, 1):
            raise ValueError(f"victims of party {self.victims.party} and shadows of party "
                             f"{self.shadows.party}: need 0 and 1")
        told = [(side.data.name, side.data.property, side.data.label, side.data.split)
                for side in (self.victims, self.shadows)]
        if told[0] != told[1]:  # the parties' rows are only disjoint within one split
            raise ValueError(f"victims of {told[0]} and shadows of {told[1]}: need one table, "
                             "property, label and split")
        free = self.shadows.count - self.held
        if min(self.held, self.use) < 0 or not self.use <= free or free < ratios.FOLDS:
            raise ValueError(f"held={self.held} and use={self.use} of {self.shadows.count} models "
                             f"at a ratio: at least {ratios.FOLDS} must be left as shadows, and "
                             "no more can be used than are left")
        need = self.level / (1 - self.level) if 0 < self.level < 1 else np.inf
        if len(self.grid) < 2 or len(self.grid) * self.used < need - 1e-9:
            raise ValueError(f"level={self.level} with {self.used} shadows at each of "
                             f"{len(self.grid)} ratios: need a level in (0, 1), two ratios and at "
                             f"least level / (1 - level) shadows")

    @property
    def used(self) -> int:
        """Shadows of each ratio that the adversary uses."""
        return self.use or self.shadows.count - self.held

    @property
    def groups(self) -> tuple[Group, ...]:
        """Victims at every ratio asked, then the adversary's models at every ratio of the grid."""
        return (*(replace(self.victims, ratio=ratio) for ratio in self.asked),
                *(replace(self.shadows, ratio=ratio) for ratio in self.grid))


@dataclass(frozen=True, eq=False)
class Surveyed:
    """A survey's outcome.

    Attributes
    ----------
    survey : Survey
    record : dict
        ``cost`` and what an audit needs.
    arrays : dict of str to ndarray
        ``victims/<method>`` float32 [3, ratios asked, victims]: value, low and high; [1, ...]
        where a method gives no interval. ``peers/<method>`` [3 or 1, ratios of the grid, held].
    """

    survey: Survey
    record: dict
    arrays: dict[str, np.ndarray]

    def truth(self, side: str = "victims") -> np.ndarray:
        """True ratios, one a row, shape [ratios, 1]."""
        return np.array(self.survey.asked if side == "victims" else self.survey.grid)[:, None]

    def found(self, method: str, side: str = "victims") -> np.ndarray:
        """Values and ends of one method, float64 [3 or 1, ratios, models].

        Besides the survey's methods: ``always .5``, and ``permuted``, the regression's answers
        dealt out to victims at random.
        """
        if method == "always .5":
            count = self.survey.victims.count if side == "victims" else self.survey.held
            return np.full((1, len(self.truth(side)), count), 0.5)
        name = f"{side}/{'regression' if method == 'permuted' else method}"
        if name not in self.arrays:
            raise ValueError(f"no {name} in this survey, which has {', '.join(self.arrays)}")
        found = self.arrays[name].astype(np.float64)
        if method == "permuted":
            flat = found.reshape(3, -1)
            order = generator("permuted", self.survey.seed).permutation(flat.shape[1])
            found = flat[:, order].reshape(found.shape)
        return found

    def values(self, method: str, side: str = "victims") -> np.ndarray:
        """Estimates of one method, float64 [ratios, models]."""
        return self.found(method, side)[0]

    def squared(self, method: str, side: str = "victims") -> np.ndarray:
        """Squared errors, float64 [models, ratios]: a row for each model's number."""
        return ((self.values(method, side) - self.truth(side)) ** 2).T

    def error(self, method: str, side: str = "victims", row=slice(None)) -> Interval:
        """Root mean squared error, with a bootstrap over victims; `row` picks ratios."""
        return bootstrap(self.squared(method, side)[:, row], root_mean, seed=self.survey.seed)

    def gain(self, method: str, other: str) -> Interval:
        """Mean squared error less that of another method, on the same victims."""
        return difference(self.squared(method), self.squared(other), seed=self.survey.seed)

    def common(self, method: str, side: str = "victims") -> Interval:
        """Part of the error that the models of a ratio share: root mean square of mean errors.

        With a bootstrap over models. Of few models it is not zero even where nothing is shared.
        """
        return bootstrap((self.values(method, side) - self.truth(side)).T, lambda drawn:
                         root_mean(drawn.mean(0) ** 2), seed=self.survey.seed)

    def scatter(self, method: str, side: str = "victims") -> float:
        """The rest of it: standard deviation within a ratio, root mean square over ratios."""
        return root_mean(self.values(method, side).var(1))

    def hits(self, method: str, side: str = "victims") -> np.ndarray:
        """Whether each interval holds the true ratio, bool [ratios, models]."""
        found, truth, slack = self.found(method, side), self.truth(side), 1e-6
        if len(found) < 3:
            raise ValueError(f"{method} gives no interval")
        return (found[1] <= truth + slack) & (truth <= found[2] + slack)  # ends are float32

    def coverage(self, method: str, side: str = "victims", row=slice(None)) -> Interval:
        """Share of intervals that hold the true ratio, with Wilson's interval."""
        hits = self.hits(method, side)[row]
        return wilson(int(hits.sum()), hits.size)

    def width(self, method: str, side: str = "victims") -> float:
        """Mean width of the intervals."""
        found = self.found(method, side)
        return float((found[2] - found[1]).mean())

    def leak(self, method: str) -> list[Interval]:
        """``n_leaked`` at every ratio asked, with a bootstrap over victims."""
        return [regression_leak(row, ratio, seed=self.survey.seed) for row, ratio in
                zip(self.values(method), self.survey.asked, strict=True)]

    def records(self, method: str) -> Interval:
        """Records whose mean has the same error over all ratios asked, sum a(1 - a) / sum MSE."""
        truth = self.truth()[:, 0]
        return bootstrap(self.squared(method), lambda drawn: float(
            np.mean(truth * (1 - truth)) / max(np.mean(drawn), 1e-12)), seed=self.survey.seed)

    def spread(self, method: str) -> list[Interval]:
        """Mean estimate at every ratio asked, and the middle nine tenths of the victims."""
        return [Interval(float(row.mean()), *np.quantile(row, (0.05, 0.95)).tolist())
                for row in self.values(method)]


def root_mean(squares: np.ndarray) -> float:
    """Root of the mean."""
    return float(np.sqrt(np.mean(squares)))


def probe_rows(survey: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the two probe sets, from the adversary's test records."""
    data = survey.shadows.data
    source = table(data)
    pool = source.pool(1, test=True)
    return tuple(tables.draw(source, pool, ratio, survey.probes,
                             generator("probes", survey.seed, round(ratio * 1e6)), data.mode)
                 for ratio in survey.at)


def check(surveys: Sequence[Survey]) -> None:
    """Draw one training set of every group and all probe sets, so that a short pool stops it now.

    Raises
    ------
    helpers.images.DataError
        Before any training; names the pool, the records wanted and what would fit.
    """
    for survey in surveys:
        probe_rows(survey)
        for group in survey.groups:
            groups.check(group)


def _joined(parts: Sequence[Views]) -> Views:
    return Views(*(Probabilities(np.concatenate([part.values for part in probe_set]))
                   for probe_set in zip(*parts, strict=True)))


def _layers(parts) -> whitebox.Layers:
    """Layers of several groups as one."""
    return [tuple(np.concatenate(arrays) for arrays in zip(*layer, strict=True))
            for layer in zip(*parts, strict=True)]


def _play(survey: Survey, store: Store, device: str):
    rows, members = probe_rows(survey), survey.groups
    models = [fitted(group, store, device) for group in members]
    spent = {groups.key_of(group, device)[:16]: found.record["cost"]["seconds"]
             for group, found in zip(members, models, strict=True)}
    began = time.process_time()
    sides = {"victims": models[:len(survey.asked)]}
    own = models[len(survey.asked):]
    if survey.held:
        sides["peers"] = [groups.some(found, slice(-survey.held, None)) for found in own]
    shadows = {ratio: groups.some(found, slice(survey.used))
               for ratio, found in zip(survey.grid, own, strict=True)}
    source = table(survey.shadows.data)
    near = {ratio: groups.views(found, source, rows) for ratio, found in shadows.items()}
    seen = {side: _joined([groups.views(found, source, rows) for found in parts])
            for side, parts in sides.items()}
    answers = _answers(survey, seen, near)
    if "pin" in survey.methods:
        answers |= _read(survey, sides, shadows)
    counts = {"victims": len(survey.asked), "peers": len(survey.grid)}
    arrays = {f"{side}/{method}": np.stack(found).reshape(len(found), counts[side], -1).astype(
        np.float32) for (side, method), found in answers.items()}
    seconds = time.process_time() - began
    record = {
        "trained": spent,
        "cost": {"seconds": round(seconds + sum(spent.values()), 2), "peak_mb": peak_mb()},
        "recompute": {"function": "helpers.estimating:recompute", "arguments": {
            "survey": asdict(survey)}},
        "tolerance": {"mean_abs": 0.05},
        "stage": "survey", "version": VERSION, "modules": list(MODULES),
        "fingerprint": fingerprint(MODULES), "torch": torch.__version__, "device": device,
    }
    return record, arrays


def _answers(survey: Survey, seen, near) -> dict:
    """What the methods that ask for outputs say, by side and method."""
    fold = survey.shadows.fold
    crossed = ratios.crossed(near, survey.seed, None if fold is None else fold[: survey.used])
    answers = {}
    more = {"level": survey.level, "seed": survey.seed, "own": crossed}
    for side, views in seen.items():
        for method in survey.methods:
            released = method.endswith("released")
            if method in POINTS:
                found = ratios.weighted(ratios.profile(views, near), survey.grid,
                                        as_released=released)[None]
            elif method == "regression":
                found = ratios.regression(views, near, **more)
            elif method != "pin":
                found = ratios.calibrated(views, near, as_released=released, **more)
            else:
                continue
            answers[side, method] = found
    return answers


def _read(survey: Survey, sides, shadows) -> dict:
    """What a network reads off the weights, by side."""
    layers = {side: [whitebox.layers_of(found.weights[found.recipe.epochs]) for found in parts]
              for side, parts in sides.items()}
    near = {ratio: whitebox.layers_of(found.weights[found.recipe.epochs])
            for ratio, found in shadows.items()}
    everyone = _layers([part for parts in layers.values() for part in parts])
    read = whitebox.ratio_from_weights(everyone, near, seed=survey.seed)
    first = len(survey.asked) * survey.victims.count
    return {(side, "pin"): ratios.split_conformal(read.victims[part], read.held, read.wanted,
                                                  survey.level)
            for side, part in zip(sides, (slice(first), slice(first, None)), strict=False)}


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Make a published survey again from nothing, in a temporary store; returns its arrays."""
    plain = dict(arguments["survey"])
    plain |= {side: _group(plain[side]) for side in ("victims", "shadows")}
    plain |= {name: tuple(plain[name]) for name in ("asked", "grid", "at", "methods")}
    with tempfile.TemporaryDirectory() as folder:
        return _play(Survey(**plain), Store(Path(folder)), device)[1]


def _survey_job(job) -> None:
    survey, key, root, results, publish, device = job
    store = Store(root, results, publish)
    store.once(key, lambda: _play(survey, store, device), measurement=True)


def play(surveys: Sequence[Survey], store: Store, *, device: str = "cpu", workers=None
         ) -> list[Surveyed]:
    """Make every survey that the store lacks and return all outcomes.

    Parameters
    ----------
    surveys : sequence of Survey
        Those of one table best follow each other.
    store, device, workers
        As in :func:`helpers.maps.run`.

    Returns
    -------
    list of Surveyed, in the order of `surveys`

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small for a survey.
    """
    surveys, workers = list(surveys), 1 if device != "cpu" else workers
    keys = [make_key("survey", VERSION, survey, data=table(survey.shadows.data).sha256,
                     victims=table(survey.victims.data).sha256, device=device, dtype="float32")
            for survey in surveys]
    missing = {key: survey for key, survey in zip(keys, surveys, strict=True)
               if store.get(key) is None}
    check(list(missing.values()))
    groups.train((group for survey in missing.values() for group in survey.groups), store,
                 device=device, workers=workers)
    map_cells(_survey_job, [(survey, key, store.root, store.results, store.publish, device)
                            for key, survey in missing.items()], workers=workers, label="surveys")
    found = [store.get(key) for key in keys]
    return [Surveyed(survey, entry.record, entry.arrays)
            for survey, entry in zip(surveys, found, strict=True)]
