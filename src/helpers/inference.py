"""Games of distribution inference, through the store: train both sides, attack, keep the scores.

A `Group` is a number of classifiers trained at one ratio by one party; a `Game` sets victims of
two ratios against shadows of the same two ratios. Weights stay in the working store; what is
published is a few numbers a victim.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from helpers import shadow, tables, whitebox
from helpers.attacks import Views
from helpers.decisions import ATTACKS, Judged, answered, judge
from helpers.defenses import Defense, defended, noisy_features
from helpers.leakage import contrast
from helpers.noise import generator, stream_key
from helpers.outputs import Logits
from helpers.shadow import Fitted, Recipe
from helpers.store import Store, fingerprint, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["Data", "Game", "Group", "Played", "check", "fitted", "play", "recompute", "table"]

VERSION = 1
MODULES = ("helpers.inference", *shadow.MODULES, "helpers.tables", "helpers.records",
           "helpers.attacks", "helpers.whitebox", "helpers.decisions", "helpers.defenses",
           "helpers.outputs", "helpers.intervals")
UTILITY = 4000  # most records behind the victims' task accuracy
WHITE = ("pin", "aga")  # white-box attacks, on perceptrons
SEEDS = 40  # records of each probe set behind the affinity graphs


@dataclass(frozen=True)
class Data:
    """A table, its task and its property (see :func:`helpers.tables.load`).

    Attributes
    ----------
    name, property, label, drop
        As for :func:`helpers.tables.load`.
    mode : {"cells", "free", "balanced"}
        How records are drawn at a ratio, see :func:`helpers.tables.draw`.
    """

    name: str = "acs_ma"
    property: str = "sex"
    label: str | None = None
    drop: tuple[str, ...] = ()
    mode: str = "cells"


@dataclass(frozen=True)
class Group:
    """Classifiers of one party (0 victim, 1 adversary), trained at one ratio on n records each.

    They are numbers `first`, `first` + 1, ... of that party and ratio; `defense` acts on their
    records before training.
    """

    data: Data
    party: int
    ratio: float
    n: int
    count: int
    recipe: Recipe = Recipe()
    first: int = 0
    defense: Defense = Defense()

    def __post_init__(self):
        contrast(self.ratio, self.ratio)
        if self.party not in (0, 1) or min(self.n, self.count) < 1:
            raise ValueError(f"party={self.party} must be 0 (victim) or 1 (adversary), n={self.n} "
                             f"and count={self.count} at least 1")


@dataclass(frozen=True)
class Game:
    """Victims at two ratios against shadows at the same two.

    Attributes
    ----------
    victims, shadows : Group
        At the second ratio; those of the first are `Group` with `alpha0` in its place.
    alpha0 : float
        Ratio of world 0.
    probes : int
        Records of each of the two probe sets, drawn from the adversary's test pool.
    attacks : tuple of str
        Names in `helpers.decisions.ATTACKS`, or ``pin`` and ``aga``, which read the victims'
        weights (`helpers.whitebox`).
    seed : int
        Seed of the probe records, of folds and of the attacks' own randomness.
    """

    victims: Group
    shadows: Group
    alpha0: float = 0.5
    probes: int = 1000
    attacks: tuple[str, ...] = ("kl",)
    seed: int = 0

    def __post_init__(self):
        for name in self.attacks:
            if name not in (*ATTACKS, *WHITE):
                raise ValueError(f"unknown attack {name!r}; known: "
                                 f"{', '.join((*ATTACKS, *WHITE))}")
            archs = {side.recipe.arch for side in (self.victims, self.shadows)}
            if name in WHITE and not (len(archs) == 1 and min(archs).startswith("mlp-")):
                raise ValueError(f"{name} reads the weights of perceptrons of one architecture, "
                                 f"not of {' and '.join(sorted(archs))}")
        sides = [(side.data.name, side.data.property, side.data.label, side.ratio)
                 for side in (self.victims, self.shadows)]
        if sides[0] != sides[1]:  # the parties' rows are only disjoint within one split
            raise ValueError(f"victims of {sides[0]} and shadows of {sides[1]}: need one table, "
                             "property, label and one ratio")
        contrast(self.alpha0, self.victims.ratio)

    @property
    def groups(self) -> tuple[Group, Group, Group, Group]:
        """Victims of world 0 and 1, shadows of world 0 and 1; at equal ratios other models."""
        null = self.alpha0 == self.victims.ratio
        return tuple(part for side in (self.victims, self.shadows) for part in (
            replace(side, ratio=self.alpha0),
            replace(side, first=side.first + side.count) if null else side))


@dataclass(frozen=True, eq=False)
class Played:
    """A game's outcome: what every attack answered, and the record (``utility``, ``cost``...)."""

    game: Game
    found: dict[str, Judged]
    record: dict


@lru_cache(maxsize=4)
def table(data: Data) -> tables.TableSet:
    """Load the table behind `data`; the last few stay in memory."""
    return tables.load(data.name, property=data.property, label=data.label, drop=data.drop)


def draws(group: Group) -> np.ndarray:
    """Row numbers that each model trains on, int32 [count, n].

    Model i of a party and ratio draws from a stream of its own, whatever the count.
    """
    source = table(group.data)
    pool, parts = source.pool(group.party), round(group.ratio * 1e6)
    return np.stack([tables.draw(source, pool, group.ratio, group.n,
                                 generator("draw", group.party, parts, i), group.data.mode)
                     for i in range(group.first, group.first + group.count)]).astype(np.int32)


def check(games: Sequence[Game]) -> None:
    """Draw one training set and the probe sets of every game, so that a short pool stops it now.

    Raises
    ------
    helpers.images.DataError
        Before any training; names the pool, the records wanted and what would fit.
    """
    for group in {group for game in games for group in game.groups}:
        source = table(group.data)
        defended(draws(replace(group, count=1)), source.label, source.attribute, group.defense,
                 np.zeros(1, np.int64))
    for game in games:
        probe_rows(game)


def probe_rows(game: Game) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the two probe sets: the adversary's test records, drawn at each world's ratio."""
    data = game.shadows.data
    source = table(data)
    pool = source.pool(1, test=True)
    return tuple(tables.draw(source, pool, ratio, game.probes,
                             generator("probes", game.seed, round(ratio * 1e6)), data.mode)
                 for ratio in (game.alpha0, game.victims.ratio))


def fitted(group: Group, store: Store, device: str = "cpu") -> Fitted:
    """Return a group's classifiers, trained now unless the store holds them."""
    source = table(group.data)

    probes = None
    if group.recipe.way == "sklearn":  # only their outputs are kept: on all that anyone may ask for
        asked = np.concatenate([source.pool(1, test=True), utility_rows(group.data)])
        probes = source.features[asked]

    def compute():
        seeds = np.array([stream_key("classifier", group.party, round(group.ratio * 1e6), i) % 2**62
                          for i in range(group.first, group.first + group.count)])
        index, own = defended(draws(group), source.label, source.attribute, group.defense, seeds)
        features = noisy_features(source.features, group.defense, group.party)
        models = shadow.fit(group.recipe, features, own, index, seeds, device, probes=probes)
        arrays = {f"{mark}/{name}": array for mark, weights in models.weights.items()
                  for name, array in weights.items()}
        return models.record, arrays

    key = make_key("classifiers", VERSION, group, data=source.sha256, device=device,
                   dtype="float32")
    entry = store.once(key, compute)
    weights: dict[int, dict[str, np.ndarray]] = {}
    for name, array in entry.arrays.items():
        mark, part = name.split("/", 1)
        weights.setdefault(int(mark), {})[part] = array
    return Fitted(group.recipe, weights, entry.record, probes)


def utility_rows(data: Data) -> np.ndarray:
    """Rows of the victims' test pool on which task accuracy is measured."""
    pool = table(data).pool(0, test=True)
    return generator("utility", 0).permutation(pool)[:UTILITY]


def views(models: Fitted, source: tables.TableSet, rows) -> Views:
    """Return the models' probabilities on the two probe sets."""
    return Views(*(Logits(shadow.logits(models, source.features[part])).probabilities()
                   for part in rows))


def _play(game: Game, store: Store, device: str):
    began = time.process_time()
    rows = probe_rows(game)
    groups = game.groups
    models = [fitted(group, store, device) for group in groups]
    seen = [views(found, table(group.data), rows)
            for found, group in zip(models, groups, strict=True)]
    labels = tuple(table(game.shadows.data).label[part] for part in rows)
    arrays = {}
    for name in game.attacks:
        found = _white(name, game, models, rows) if name in WHITE else judge(
            name, (seen[0], seen[1]), seen[2], seen[3], labels, seed=game.seed,
            batch=name in ("kl", "kl labels"))
        arrays[f"scores/{name}"] = found.scores
        arrays |= {f"{rule}/{name}": right for rule, right in found.correct.items()}
    source, held = table(game.victims.data), utility_rows(game.victims.data)
    right = [((shadow.logits(m, source.features[held]) > 0) == source.label[held]).mean()
             for m in models[:2]]
    training = [found.record["cost"]["seconds"] for found in models]
    spent = time.process_time() - began
    record = {
        "utility": [float(part) for part in right],
        "training": {"seconds": round(sum(training), 2)},
        "cost": {"seconds": round(max(spent, sum(training)), 2), "peak_mb": peak_mb()},
        "recompute": {"function": "helpers.inference:recompute", "arguments": {
            "game": asdict(game), "model": [asdict(group) for group in groups]}},
        "tolerance": {"mean_abs": 0.1},
        "stage": "game", "version": VERSION, "modules": list(MODULES),
        "fingerprint": fingerprint(MODULES), "torch": torch.__version__, "device": device,
    }
    return record, arrays


def _white(name: str, game: Game, models: Sequence[Fitted], rows) -> Judged:
    """A white-box attack on the victims of both worlds."""
    zero, one, a, b = (whitebox.layers_of(found.weights[found.recipe.epochs]) for found in models)
    victims = [tuple(np.concatenate(parts) for parts in zip(x, y, strict=True))
               for x, y in zip(zero, one, strict=True)]
    if name == "pin":
        found = whitebox.permutation_invariant(victims, a, b, seed=game.seed)
    else:
        chosen = np.concatenate([part[:SEEDS] for part in rows])
        records = table(game.shadows.data).features[chosen]
        found = whitebox.affinity(victims, a, b, records.reshape(len(records), -1), seed=game.seed)
    return answered(found.victims.reshape(2, -1), (found.held_a, found.held_b))


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Play a published game again from nothing, in a temporary store; returns its arrays."""
    with tempfile.TemporaryDirectory() as folder:
        return _play(_game(arguments["game"]), Store(Path(folder)), device)[1]


def _group(plain: dict) -> Group:
    data, recipe = dict(plain["data"]), dict(plain["recipe"])
    data["drop"], recipe["marks"] = tuple(data["drop"]), tuple(recipe["marks"])
    return Group(**{**plain, "data": Data(**data), "recipe": Recipe(**recipe),
                    "defense": Defense(**plain["defense"])})


def _game(plain: dict) -> Game:
    return Game(**{**plain, "victims": _group(plain["victims"]), "attacks": tuple(plain["attacks"]),
                   "shadows": _group(plain["shadows"])})


def _train_job(job) -> None:
    group, root, device = job
    fitted(group, Store(root), device)


def _game_job(job) -> None:
    game, key, root, results, publish, device = job
    store = Store(root, results, publish)
    store.once(key, lambda: _play(game, store, device), measurement=True)


def play(games: Sequence[Game], store: Store, *, device: str = "cpu", workers=None) -> list[Played]:
    """Play every game that the store lacks and return all outcomes.

    Parameters
    ----------
    games : sequence of Game
    store, device, workers
        As in :func:`helpers.maps.run`.

    Returns
    -------
    list of Played, in the order of `games`

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small for a game.
    """
    games, workers = list(games), 1 if device != "cpu" else workers
    keys = [make_key("game", VERSION, game, data=table(game.shadows.data).sha256,
                     victims=table(game.victims.data).sha256, device=device, dtype="float32")
            for game in games]
    missing = {key: game for key, game in zip(keys, games, strict=True) if store.get(key) is None}
    check(list(missing.values()))
    groups = list(dict.fromkeys(group for game in missing.values() for group in game.groups))
    map_cells(_train_job, [(group, store.root, device) for group in groups], workers=workers,
              label="classifiers", costs=[g.count * g.n * g.recipe.epochs for g in groups])
    map_cells(_game_job, [(game, key, store.root, store.results, store.publish, device)
                          for key, game in missing.items()], workers=workers, label="games")
    return [_outcome(game, store.get(key)) for game, key in zip(games, keys, strict=True)]


def _outcome(game: Game, entry) -> Played:
    found = {}
    for name in game.attacks:
        correct = {rule: entry.arrays[f"{rule}/{name}"] for rule in ("zero", "calibrated", "batch")
                   if f"{rule}/{name}" in entry.arrays}
        found[name] = Judged(entry.arrays[f"scores/{name}"], correct)
    return Played(game, found, entry.record)
