"""The ratio itself from a diffusion model's samples of the noise bank, with an interval.

The counterpart of `helpers.estimating` for generators: a victim's profile is its mean paired
distance to the shadows of each ratio; fresh counting, calibrated on the same shadows, stands
beside it. Estimates are published, samples are not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LinearRegression

from helpers import denoiser_groups, ratios, readers, release
from helpers.denoiser_groups import Family, fitted, shape
from helpers.groups import table
from helpers.release import Release, samples
from helpers.store import Store, fingerprint, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["METHODS", "NoiseSurvey", "Surveyed", "check", "play", "profiles", "recompute"]

VERSION = 1
MODULES = ("helpers.noise_estimates", "helpers.readers", "helpers.release",
           *denoiser_groups.MODULES, "helpers.ratios", "helpers.sampling")
METHODS = ("paired", "counting")


@dataclass(frozen=True)
class NoiseSurvey:
    """Victims at several ratios, judged by shadows at several ratios.

    Attributes
    ----------
    victims, shadows : Family
        Their own ratio is not used.
    asked, grid : tuple of float
        Ratios of the victims and of the shadows.
    counts : tuple of int
        Numbers of queries: the first ones of the bank.
    noises : int
        Noises sampled, at least the largest count.
    level : float
        Of the intervals.
    """

    victims: Family
    shadows: Family
    asked: tuple[float, ...]
    grid: tuple[float, ...]
    counts: tuple[int, ...] = (10, 30, 100, 300, 1000)
    noises: int = 1000
    level: float = 0.95

    def __post_init__(self):
        if len(self.grid) < 2 or not self.asked or tuple(sorted(set(self.grid))) != self.grid:
            raise ValueError(f"grid={self.grid} needs at least two ratios in increasing order, "
                             f"asked={self.asked} at least one")
        if not self.counts or not 1 <= min(self.counts) <= max(self.counts) <= self.noises:
            raise ValueError(f"counts={self.counts} must lie in 1..{self.noises}")
        if self.victims.party or not self.shadows.party or self.shadows.count < 4:
            raise ValueError("victims are party 0, shadows party 1 with at least 4 models a ratio; "
                             f"got {self.victims.party}, {self.shadows.party} and "
                             f"{self.shadows.count}")

    @property
    def families(self) -> list[Family]:
        """Victims of every ratio asked, then shadows of every ratio of the grid."""
        return ([replace(self.victims, ratio=ratio) for ratio in self.asked]
                + [replace(self.shadows, ratio=ratio) for ratio in self.grid])


@dataclass(frozen=True, eq=False)
class Surveyed:
    """Estimates: ``array(method)`` is float [counts, ratios asked, victims, (value, low, high)]."""

    survey: NoiseSurvey
    record: dict
    arrays: dict[str, np.ndarray]

    def array(self, method: str) -> np.ndarray:
        """Estimates of one of `METHODS`."""
        return self.arrays[f"estimate/{method}"].astype(np.float64)


def check(surveys: Sequence[NoiseSurvey]) -> None:
    """Draw training sets of every survey, so that a short pool stops it before any training."""
    for family in dict.fromkeys(family for survey in surveys for family in survey.families):
        denoiser_groups.check(family)


def profiles(shown: np.ndarray, shadows: Sequence[np.ndarray]) -> np.ndarray:
    """Mean paired distance of each model to the shadows of each ratio, noise by noise.

    Parameters
    ----------
    shown : ndarray, float32, shape [M, m, d]
    shadows : sequence of ndarray, float32, shape [S, m, d]

    Returns
    -------
    ndarray, float32, shape [M, ratios, m]
    """
    return np.stack([np.mean([np.abs(shown - one).mean(2) for one in side], axis=0)
                     for side in shadows], axis=1)


def _estimates(survey: NoiseSurvey, victims, shadows, fresh, helper) -> dict[str, np.ndarray]:
    fold = np.arange(survey.shadows.count) % 2
    # A shadow's profile is taken to the shadows of the other half, which share no record with it.
    own = np.concatenate([_crossed(part, shadows, fold) for part in shadows])
    mine = profiles(victims, shadows)
    wanted = np.repeat(survey.grid, survey.shadows.count)
    at = np.tile(fold, len(survey.grid))
    counts = [(helper(part) > 0.5).astype(np.float64) for part in fresh]
    found = {name: [] for name in METHODS}
    for m in survey.counts:
        logs = [np.log(np.maximum(part[:, :, :m].mean(2), 1e-9)) for part in (own, mine)]
        found["paired"].append(ratios._cv_plus(ratios._ridge, logs[0], wanted, at, logs[1],
                                               survey.level))
        seen = [part[:, :m].mean(1, keepdims=True) for part in counts]
        found["counting"].append(ratios._cv_plus(LinearRegression, seen[1], wanted, at, seen[0],
                                                 survey.level))
    many = len(survey.asked)
    return {f"estimate/{name}": np.array(part, np.float32).transpose(0, 2, 1).reshape(
        len(survey.counts), many, -1, 3) for name, part in found.items()}


def _crossed(part: np.ndarray, shadows, fold: np.ndarray) -> np.ndarray:
    found = np.empty((len(part), len(shadows), part.shape[1]), np.float32)
    for k in (0, 1):
        found[fold == k] = profiles(part[fold == k], [side[fold != k] for side in shadows])
    return found


def _play(survey: NoiseSurvey, store: Store, device: str):
    spent, families = {}, survey.families
    for family in families:
        spent |= fitted(family, store, device)[1]
    began = time.process_time()
    split = len(survey.asked)
    bank = [samples(family, Release(), survey.noises, store, device).astype(np.float32)
            for family in families]
    own = [samples(family, Release("own"), survey.noises, store, device).astype(np.float32)
           for family in families]
    side = survey.shadows
    reader = readers.reader(side.data, side.side, side.shift)
    scale, shift = (1 / 127.5, -1.0) if len(shape(side)) == 3 else (1.0, 0.0)
    arrays = _estimates(
        survey, np.concatenate(bank[:split]), bank[split:],
        (np.concatenate(own[:split]), np.concatenate(own[split:])),
        lambda part: reader.probability(part * np.float32(scale) + np.float32(shift)))
    mine = time.process_time() - began
    record = {
        "trained": spent,
        "cost": {"seconds": round(mine + sum(spent.values()), 2), "peak_mb": peak_mb()},
        "recompute": {"function": "helpers.noise_estimates:recompute",
                      "arguments": {"survey": asdict(survey)}},
        "tolerance": {"mean_abs": 0.05},
        "stage": "noise survey", "version": VERSION, "modules": list(MODULES),
        "fingerprint": _code(), "torch": torch.__version__, "device": device,
    }
    return record, arrays


@cache
def _code() -> str:
    return fingerprint(MODULES)


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Make a published survey again from nothing, in a temporary store; returns its arrays."""
    told = dict(arguments["survey"])
    for name in ("asked", "grid", "counts"):
        told[name] = tuple(told[name])
    for name in ("victims", "shadows"):
        told[name] = denoiser_groups.rebuilt(told[name])
    with tempfile.TemporaryDirectory() as folder:
        return _play(NoiseSurvey(**told), Store(Path(folder)), device)[1]


def _job(job) -> None:
    survey, key, root, results, publish, device = job
    store = Store(root, results, publish)
    store.once(key, lambda: _play(survey, store, device), measurement=True)


def play(surveys: Sequence[NoiseSurvey], store: Store, *, device: str = "cpu", workers=None
         ) -> list[Surveyed]:
    """Make every survey that the store lacks and return all, in the order of `surveys`.

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small.
    """
    surveys, workers = list(surveys), 1 if device != "cpu" else workers
    keys = [make_key("noise survey", VERSION, survey, data=table(survey.victims.data).sha256,
                     device=device, dtype="float32") for survey in surveys]
    missing = {key: one for key, one in zip(keys, surveys, strict=True) if store.get(key) is None}
    check(list(missing.values()))
    denoiser_groups.train((family for one in missing.values() for family in one.families), store,
                          device=device, workers=workers)
    release.train(((family, kind, one.noises) for one in missing.values()
                   for family in one.families for kind in (Release(), Release("own"))), store,
                  device=device, workers=workers)
    map_cells(_job, [(one, key, store.root, store.results, store.publish, device)
                     for key, one in missing.items()], workers=workers, label="surveys")
    return [Surveyed(one, entry.record, entry.arrays)
            for one, entry in ((one, store.get(key)) for one, key in
                               zip(surveys, keys, strict=True))]
