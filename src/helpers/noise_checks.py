"""How far `attack-diffusion` can be trusted: its verdicts on models whose ratio is known.

Victims of one kind meet the published shadows as a reader's own model does (`noise_audit`). Victims
made as the shadows are show how often the fit test turns a good model away; strangers, made
otherwise, how often it lets one pass, and what a verdict on it is worth.
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

from helpers import denoiser_groups, noise_audit, noise_shadows, release
from helpers.denoiser_groups import Family, fitted, shape
from helpers.groups import table
from helpers.noise_samples import Reference
from helpers.noise_shadows import DRAWN, NoiseShadows
from helpers.project import need_root
from helpers.release import Release, samples
from helpers.store import Store, fingerprint, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["Check", "Checked", "play", "recompute"]

VERSION = 1
MODULES = ("helpers.noise_checks", "helpers.noise_audit", "helpers.shadow_tests",
           "helpers.noise_shadows", "helpers.release", "helpers.ratios", "helpers.decisions",
           *denoiser_groups.MODULES, "helpers.sampling")


@dataclass(frozen=True)
class Check:
    """Victims that are judged by published shadows.

    Attributes
    ----------
    victims : Family
        Of party 0, which shares no record with the shadows; its own ratio is not used.
    asked : tuple of float
        Ratios of the victims.
    worlds : tuple of float
        The two ratios that the verdict chooses between.
    shadows : NoiseShadows
    release : Release
        What the victims release.
    drawn : int
        Noises that the victims are sampled from, at least the shadows'.
    """

    victims: Family
    asked: tuple[float, ...]
    worlds: tuple[float, float]
    shadows: NoiseShadows
    release: Release = Release()
    drawn: int = DRAWN

    def __post_init__(self):
        side = self.shadows.family
        if self.victims.party or (self.victims.data, self.victims.side) != (side.data, side.side):
            raise ValueError(f"victims of party {self.victims.party}, {self.victims.data} and side "
                             f"{self.victims.side}: must be party 0 and have the shadows' data "
                             f"{side.data} and side {side.side}")
        if not self.asked or not {*self.worlds} <= {*self.shadows.ratios} or (
                self.worlds[0] == self.worlds[1]):
            raise ValueError(f"asked={self.asked} must not be empty and worlds={self.worlds} be "
                             f"two of the shadows' ratios {self.shadows.ratios}")
        if self.drawn < self.shadows.noises or self.release.noise == "zero":
            raise ValueError(f"drawn={self.drawn} must be at least the shadows' "
                             f"{self.shadows.noises} noises, and noise={self.release.noise!r} not "
                             "'zero', which is a single start")

    @property
    def families(self) -> list[Family]:
        """Victims of every ratio."""
        return [replace(self.victims, ratio=ratio) for ratio in self.asked]


@dataclass(frozen=True, eq=False)
class Checked:
    """What the command says about each victim.

    Attributes
    ----------
    check : Check
    record : dict
    arrays : dict of str to ndarray
        ``p`` float32 [asked, victims], of the fit test; ``judged`` uint8, 1 unless the command
        says that it cannot judge; ``answer`` float32, the ratio of the verdict, and ``estimate``
        float32 [asked, victims, (value, low, high)], NaN where it is not judged.
    """

    check: Check
    record: dict
    arrays: dict[str, np.ndarray]

    @property
    def judged(self) -> np.ndarray:
        """Whether each victim is judged, bool [asked, victims]."""
        return self.arrays["judged"].astype(bool)

    def right(self) -> np.ndarray:
        """Whether the verdict names the victim's ratio, bool, of judged victims of a world."""
        truth = np.broadcast_to(np.array(self.check.asked, np.float32)[:, None],
                                self.judged.shape)
        ours = self.judged & np.isin(truth, np.array(self.check.worlds, np.float32))
        return self.arrays["answer"][ours] == truth[ours]

    def width(self) -> float:
        """Mean width of the estimates' intervals; NaN without any."""
        _, low, high = self.arrays["estimate"].reshape(-1, 3).T
        told = ~np.isnan(low)
        return float((high - low)[told].mean()) if told.any() else float("nan")

    def inside(self) -> np.ndarray:
        """Whether the interval of the estimate holds the ratio, bool, of victims that have one."""
        told = ~np.isnan(self.arrays["estimate"][..., 0])
        low, high = self.arrays["estimate"][told][:, 1:].T
        truth = np.broadcast_to(np.array(self.check.asked, np.float32)[:, None], told.shape)[told]
        return (low <= truth + 1e-6) & (truth - 1e-6 <= high)


def _play(check: Check, store: Store, device: str):
    spent = {}
    for family in check.families:
        spent |= fitted(family, store, device)[1]
    began = time.process_time()
    side = check.shadows.family
    known = Reference(noise_shadows.read(check.shadows, store), shape(side), side.n,
                      side.data.name, "", True)
    rows = []
    for family in check.families:
        shown = samples(family, check.release, check.drawn, store, device)
        rows.append(noise_audit.judge(shown[:, : check.shadows.noises], known.samples,
                                      check.worlds, known))
    none = (np.nan,) * 3
    arrays = {
        "p": np.array([row.p for row in rows], np.float32),
        "judged": np.array([row.judged for row in rows], np.uint8),
        "answer": np.array([[np.nan if one is None else one for one in row.answer]
                            for row in rows], np.float32),
        "estimate": np.array([[none if one is None else (one.value, one.low, one.high)
                               for one in row.estimate] for row in rows], np.float32)}
    own = time.process_time() - began
    record = {
        "trained": spent,
        "cost": {"seconds": round(own + sum(spent.values()), 2), "peak_mb": peak_mb()},
        "recompute": {"function": "helpers.noise_checks:recompute",
                      "arguments": {"check": asdict(check)}},
        "tolerance": {"mean_abs": 0.05},
        "stage": "noise check", "version": VERSION, "modules": list(MODULES),
        "fingerprint": _code(), "torch": torch.__version__, "device": device,
    }
    return record, arrays


@cache
def _code() -> str:
    return fingerprint(MODULES)


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Train and judge the victims again, in a temporary store, by the shadows as published.

    The shadows' samples are measurements with an audit of their own.
    """
    told = dict(arguments["check"])
    shadows = dict(told["shadows"])
    told["shadows"] = NoiseShadows(denoiser_groups.rebuilt(shadows["family"]),
                                   tuple(shadows["ratios"]), shadows["noises"])
    told["victims"] = denoiser_groups.rebuilt(told["victims"])
    told["release"] = Release(**told["release"])
    for name in ("asked", "worlds"):
        told[name] = tuple(told[name])
    with tempfile.TemporaryDirectory() as folder:
        return _play(Check(**told), Store(Path(folder), need_root() / "results"), device)[1]


def _job(job) -> None:
    check, key, root, results, publish, device = job
    store = Store(root, results, publish)
    store.once(key, lambda: _play(check, store, device), measurement=True)


def play(checks: Sequence[Check], store: Store, *, device: str = "cpu", workers=None
         ) -> list[Checked]:
    """Make every check that the store lacks and return all, in the order of `checks`.

    Shadows that the store lacks are made first (`helpers.noise_shadows.make`).

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small.
    """
    checks, workers = list(checks), 1 if device != "cpu" else workers
    keys = [make_key("noise check", VERSION, one, data=table(one.victims.data).sha256,
                     device=device, dtype="float32") for one in checks]
    missing = {key: one for key, one in zip(keys, checks, strict=True) if store.get(key) is None}
    for family in dict.fromkeys(family for one in missing.values() for family in one.families):
        denoiser_groups.check(family)
    for shadows in dict.fromkeys(one.shadows for one in checks):
        if store.get(noise_shadows.key_of(shadows)) is None:
            noise_shadows.make(shadows, store, workers=workers)
    denoiser_groups.train((family for one in missing.values() for family in one.families), store,
                          device=device, workers=workers)
    release.train(((family, one.release, one.drawn) for one in missing.values()
                   for family in one.families), store, device=device, workers=workers)
    map_cells(_job, [(one, key, store.root, store.results, store.publish, device)
                     for key, one in missing.items()], workers=workers, label="checks")
    return [Checked(one, entry.record, entry.arrays)
            for one, entry in ((one, store.get(key)) for one, key in
                               zip(checks, keys, strict=True))]
