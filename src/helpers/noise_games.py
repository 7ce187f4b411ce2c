"""Games of shared noise, through the store: train both sides, sample, attack, keep the answers.

A `NoiseGame` sets diffusion models of two ratios against shadow models of the same two. Weights and
samples stay in the working store; what is published is, for every attack and number of queries,
how often each victim was judged rightly.
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

from helpers import denoiser_groups, readers, release, utility
from helpers.decisions import FEWEST
from helpers.denoiser_groups import Family, fitted
from helpers.groups import table
from helpers.leakage import contrast
from helpers.noise import generator
from helpers.queries import answers
from helpers.release import Release, samples
from helpers.shared_noise import EVIDENCE, FRESH, Tools, evidence, telling
from helpers.store import Store, fingerprint, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["NoiseGame", "Outcome", "check", "play", "recompute"]

VERSION = 1
MODULES = ("helpers.noise_games", "helpers.queries", "helpers.shared_noise", "helpers.readers",
           "helpers.release", "helpers.utility", *denoiser_groups.MODULES, "helpers.decisions",
           "helpers.intervals", "helpers.sampling")
DENOISING = "fresh denoising"
COUNTS = (1, 3, 10, 30, 100, 300, 1000)


@dataclass(frozen=True)
class NoiseGame:
    """Victims at two ratios against shadows at the same two.

    Attributes
    ----------
    victims, shadows : Family
        At the second ratio; those of the first are the same with `alpha0` in its place. At equal
        ratios the second world's are other models of the first.
    alpha0 : float
        Ratio of world 0.
    release, believed : Release, Release or None
        What victims release, and what the attacker's shadows release; None: the same.
    attacks : tuple of str
        Names in `helpers.shared_noise.EVIDENCE`, or ``fresh denoising``.
    counts : tuple of int
        Numbers of queries.
    noises, draws : int, int
        Noises of the bank; draws of noises for each count.
    again : int
        Times that the game is judged again with shadows drawn with replacement, for intervals that
        hold their chance too.
    plate : int
        Pictures kept of the most telling noises.
    utility : bool
        Measure what the release costs (`helpers.utility`).
    seed : int
    """

    victims: Family
    shadows: Family
    alpha0: float = 0.5
    release: Release = Release()
    believed: Release | None = None
    attacks: tuple[str, ...] = ("fresh counting", "paired pixels")
    counts: tuple[int, ...] = COUNTS
    noises: int = 1000
    draws: int = 20
    again: int = 0
    plate: int = 0
    utility: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in self.attacks:
            if name not in EVIDENCE and name != DENOISING:
                raise ValueError(f"unknown attack {name!r}; known: "
                                 f"{', '.join((*EVIDENCE, DENOISING))}")
        told = [(side.data, side.ratio, side.side) for side in (self.victims, self.shadows)]
        if told[0] != told[1]:
            raise ValueError(f"victims of {told[0]} and shadows of {told[1]}: need one data set, "
                             "ratio and side")
        if (self.victims.party, self.shadows.party) != (0, 1):
            raise ValueError("victims are party 0 and shadows party 1, so that they share no "
                             f"record; got {self.victims.party} and {self.shadows.party}")
        most = 1 if self.release.noise == "zero" else self.noises
        if not self.counts or min(self.counts) < 1 or max(self.counts) > most:
            raise ValueError(f"counts={self.counts} must lie in 1..{most}, the noises there are")
        if self.draws < 1 or min(self.again, self.plate) < 0:
            raise ValueError(f"draws={self.draws} must be at least 1, again={self.again} and "
                             f"plate={self.plate} at least 0")
        theirs = self.believed or self.release
        if (theirs.noise == "zero") != (self.release.noise == "zero"):
            raise ValueError(f"release noise {self.release.noise!r} and believed {theirs.noise!r}: "
                             "'zero' is one start and needs the same on the other side")
        if self.alpha0 == self.victims.ratio and self.shadows.count % 2:
            raise ValueError(f"equal worlds need an even number of shadows, got "
                             f"{self.shadows.count}: the halves of the second world's would turn")
        contrast(self.alpha0, self.victims.ratio)

    @property
    def families(self) -> tuple[Family, Family, Family, Family]:
        """Victims of world 0 and 1, shadows of world 0 and 1; at equal ratios other models."""
        null = self.alpha0 == self.victims.ratio
        return tuple(part for side in (self.victims, self.shadows) for part in (
            replace(side, ratio=self.alpha0),
            replace(side, first=side.first + side.count) if null else side))

    @property
    def fold(self) -> np.ndarray | None:
        """Half of the pool behind each shadow; None where a half has fewer than two."""
        fold = self.shadows.fold
        return None if min(np.bincount(fold, minlength=2)) < 2 else fold

    def wanted(self) -> list[tuple[Family, Release, int]]:
        """Samples that the game needs."""
        found = []
        for at, family in enumerate(self.families):
            shown = self.release if at < 2 or self.believed is None else self.believed
            kinds = {shown} | ({replace(shown, noise="own")} if any(
                name.startswith("fresh") for name in self.attacks) else set())
            if at < 2 and self.utility:
                kinds.add(Release())
            found += [(family, kind, self.noises) for kind in sorted(kinds, key=repr)]
        return found


@dataclass(frozen=True, eq=False)
class Outcome:
    """A game's outcome.

    Attributes
    ----------
    game : NoiseGame
    record : dict
    arrays : dict of str to ndarray
        ``right/ATTACK`` float16 [counts, 2, victims], ``area/ATTACK`` float32 [counts]
        (`helpers.queries.Answers`); ``again/ATTACK`` float16 [again, counts, 2, victims];
        ``distance`` and ``flips`` float32 [2]: paired mean absolute difference and share of
        unequal property, victims to shadows of their own world and of the other;
        ``agree`` float32 [2]: share of such pairs that differ by less than 15 grey levels;
        ``share`` float32 [4, models]: share of samples with the property, victims and shadows of
        either world (fewer models: NaN); ``plate`` uint8, ``plate/noises``;
        ``utility/NAME`` float32 [2, victims].
    """

    game: NoiseGame
    record: dict
    arrays: dict[str, np.ndarray]

    def right(self, attack: str, count: int) -> np.ndarray:
        """Share of draws in which each victim was judged rightly, float [2, victims]."""
        if count not in self.game.counts:
            raise ValueError(f"count={count} was not played; counts are {self.game.counts}")
        return self.arrays[f"right/{attack}"][self.game.counts.index(count)].astype(np.float64)


def check(games: Sequence[NoiseGame]) -> None:
    """Draw training sets of every game, so that a short pool stops it before any training."""
    for family in dict.fromkeys(family for game in games for family in game.families):
        denoiser_groups.check(family)


def _grey(family: Family) -> bool:
    return len(denoiser_groups.shape(family)) == 3


def tools(game: NoiseGame) -> Tools:
    """The attacker's tools: a classifier of the property from its own records."""
    family = game.shadows
    read = readers.reader(family.data, family.side, family.shift)
    scale, shift = (1 / 127.5, -1.0) if _grey(family) else (1.0, 0.0)
    return Tools(read, (game.alpha0, family.ratio), scale, shift, game.seed)


def _denoising(game: NoiseGame, store: Store, device: str):
    """Return evidence by denoising loss, as a function like those of `shared_noise`."""
    models = [fitted(family, store, device)[0] for family in game.families[2:]]
    own = tools(game)

    def found(victims, a_at, b_at):
        shown = own.read(victims)
        far = [utility.losses(part.take(at), shown, game.seed, device)
               for part, at in zip(models, (a_at, b_at), strict=True)]
        return far[0] - far[1]

    return found


def _judged(name: str, game: NoiseGame, seen, picks, helper: Tools, denoising=None):
    """Evidence and answers of one attack with shadows `picks` (numbers, of both worlds)."""
    fold = game.fold
    victims = np.concatenate(seen[:2])
    a, b = (part[at] for part, at in zip(seen[2:], picks, strict=True))
    where = np.arange(len(picks[0])) if fold is None else fold

    def of(shown, keep):
        if denoising is not None:
            found = denoising(shown, picks[0][keep], picks[1][keep])
        else:
            found = evidence(name, shown, a[keep], b[keep], helper)
        if name.startswith("chosen"):
            found = found[:, np.argsort(-telling(a[keep], b[keep], helper), kind="stable")]
        return found

    everyone = np.ones(len(where), bool)
    mine = of(victims, everyone).reshape(2, -1, victims.shape[1])
    held = None
    if name != "fresh nominal" and fold is not None and len(where) >= FEWEST:
        held = tuple(np.empty((len(where), mine.shape[2])) for _ in (0, 1))
        for k in np.unique(fold):
            both = of(np.concatenate([a[fold == k], b[fold == k]]), fold != k)
            for side, part in zip(held, np.split(both, 2), strict=True):
                side[fold == k] = part
    return answers(mine, held, fold, game.counts, game.draws, game.seed,
                   first=name.startswith("chosen"))


def _play(game: NoiseGame, store: Store, device: str):
    spent, shown = {}, {}
    for family in game.families:
        spent |= fitted(family, store, device)[1]
    began = time.process_time()
    for family, kind, count in game.wanted():
        shown[family, kind] = samples(family, kind, count, store, device).astype(np.float32)
    helper, arrays = tools(game), {}
    theirs = game.believed or game.release
    kinds = (game.release, game.release, theirs, theirs)
    paired = [shown[at] for at in zip(game.families, kinds, strict=True)]
    everyone = [np.arange(game.shadows.count)] * 2
    for name in game.attacks:
        fresh = name in FRESH or name == DENOISING
        seen = [shown[family, replace(kind, noise="own")] for family, kind in
                zip(game.families, kinds, strict=True)] if fresh else paired
        denoising = _denoising(game, store, device) if name == DENOISING else None
        found = _judged(name, game, seen, everyone, helper, denoising)
        arrays |= {f"right/{name}": found.right, f"area/{name}": found.area}
        if game.again and name in ("fresh counting", "paired pixels", "likelihood ratio"):
            arrays[f"again/{name}"] = np.stack([
                _judged(name, game, seen, _resampled(game, k), helper).right
                for k in range(game.again)])
    arrays |= _stats(game, paired, helper)
    if game.utility:
        for world, family in enumerate(game.families[:2]):
            part = utility.measure(family, game.release, paired[world], shown[family, Release()],
                                   store, device)
            for name, values in part.items():
                arrays.setdefault(f"utility/{name}", np.empty((2, family.count), np.float32))
                arrays[f"utility/{name}"][world] = values
    own = time.process_time() - began
    record = {
        "trained": spent,
        "cost": {"seconds": round(own + sum(spent.values()), 2), "peak_mb": peak_mb()},
        "reader": round(readers.accuracy(helper.reader, game.victims.data, game.victims.side), 4),
        "recompute": {"function": "helpers.noise_games:recompute", "arguments": {
            "game": asdict(game)}},
        "tolerance": {"mean_abs": 0.1},
        "stage": "noise game", "version": VERSION, "modules": list(MODULES),
        "fingerprint": _code(), "torch": torch.__version__, "device": device,
    }
    return record, arrays


@cache
def _code() -> str:
    return fingerprint(MODULES)


def _resampled(game: NoiseGame, draw: int) -> list[np.ndarray]:
    """Numbers of shadows drawn with replacement within world and half."""
    fold = game.fold if game.fold is not None else np.zeros(game.shadows.count, int)
    picks = []
    for world in (0, 1):
        stream, pick = generator("shadow draws", game.seed, draw, world), np.empty(len(fold), int)
        for k in np.unique(fold):
            place = np.flatnonzero(fold == k)
            pick[place] = place[stream.integers(len(place), size=len(place))]
        picks.append(pick)
    return picks


def _stats(game: NoiseGame, paired, helper: Tools) -> dict[str, np.ndarray]:
    has = [helper.reader.logits(helper.read(part)) > 0 for part in paired]
    far, flip, near = np.zeros((3, 2, 2))
    for v in (0, 1):
        for s in (0, 1):
            gaps = np.stack([np.abs(paired[v] - one).mean(2) for one in paired[2 + s]])
            far[v, s], near[v, s] = gaps.mean(), (gaps < 15).mean()
            flip[v, s] = np.mean([(has[v] != one).mean() for one in has[2 + s]])
    share = np.full((4, max(map(len, has))), np.nan, np.float32)
    for row, part in zip(share, has, strict=True):
        row[: len(part)] = part.mean(1)
    found = {"distance": far, "flips": flip, "agree": near}
    found = {name: np.array([np.trace(m) / 2, (m.sum() - np.trace(m)) / 2], np.float32)
             for name, m in found.items()} | {"share": share}
    if game.plate:
        order = np.argsort(-telling(*paired[2:], helper), kind="stable")[: game.plate]
        found["plate/noises"] = order.astype(np.int32)
        found["plate"] = np.stack([part[:3, order] for part in paired[:2]]).astype(np.uint8)
    return found


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Play a published game again from nothing, in a temporary store; returns its arrays."""
    with tempfile.TemporaryDirectory() as folder:
        return _play(_game(arguments["game"]), Store(Path(folder)), device)[1]


def _game(told: dict) -> NoiseGame:
    believed = told["believed"]
    return NoiseGame(**{
        **told, "attacks": tuple(told["attacks"]), "counts": tuple(told["counts"]),
        "victims": denoiser_groups.rebuilt(told["victims"]),
        "shadows": denoiser_groups.rebuilt(told["shadows"]), "release": Release(**told["release"]),
        "believed": None if believed is None else Release(**believed)})


def _game_job(job) -> None:
    game, key, root, results, publish, device = job
    store = Store(root, results, publish)
    store.once(key, lambda: _play(game, store, device), measurement=True)


def play(games: Sequence[NoiseGame], store: Store, *, device: str = "cpu", workers=None
         ) -> list[Outcome]:
    """Play every game that the store lacks and return all outcomes, in the order of `games`.

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small for a game.
    """
    games, workers = list(games), 1 if device != "cpu" else workers
    keys = [make_key("noise game", VERSION, game, data=table(game.victims.data).sha256,
                     device=device, dtype="float32") for game in games]
    missing = {key: game for key, game in zip(keys, games, strict=True) if store.get(key) is None}
    check(list(missing.values()))
    denoiser_groups.train((family for game in missing.values() for family in game.families),
                          store, device=device, workers=workers)
    release.train((one for game in missing.values() for one in game.wanted()), store,
                  device=device, workers=workers)
    map_cells(_game_job, [(game, key, store.root, store.results, store.publish, device)
                          for key, game in missing.items()], workers=workers, label="games")
    return [Outcome(game, entry.record, entry.arrays)
            for game, entry in ((game, store.get(key)) for game, key in
                                zip(games, keys, strict=True))]
