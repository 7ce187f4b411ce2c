"""Games of distribution inference, through the store: train both sides, attack, keep the scores.

A `Game` sets victims of two ratios against shadows of the same two ratios (`helpers.groups`).
Weights stay in the working store; what is published is a few numbers a victim.
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

from helpers import groups, shadow, tables, whitebox
from helpers.attacks import Views, kl, pick_records
from helpers.decisions import ATTACKS, Judged, answered, combined, held_out, judge
from helpers.defenses import Defense
from helpers.groups import Data, Group, fitted, table
from helpers.leakage import contrast
from helpers.noise import generator, noise
from helpers.outputs import Probabilities, as_released
from helpers.shadow import Recipe
from helpers.store import Store, fingerprint, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["Data", "Game", "Group", "Played", "check", "play", "probe_rows", "recompute"]

VERSION = 3
MODULES = ("helpers.inference", *groups.MODULES, "helpers.attacks", "helpers.whitebox",
           "helpers.decisions", "helpers.intervals")
WHITE = ("pin", "aga", "aga+kl")  # white-box attacks, on perceptrons
SPECIAL = {
    "kl defect": "the released code's mistake: networks' logits taken for probabilities",
    "kl neighbours": "victims show labels, asked again on noisy copies of every probe record",
}
SEEDS = 40  # records of each probe set behind the affinity graphs
SEEN = 20  # victims of each world whose accuracy on their own training records is kept


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
        Names in `helpers.decisions.ATTACKS`, in `SPECIAL`, or in `WHITE`, which read the victims'
        weights (`helpers.whitebox`).
    seed : int
        Seed of the probe records, of folds and of the attacks' own randomness.
    use : tuple of int
        First shadow and number of shadows that the adversary uses, of each world; (0, 0): all.
    marks : tuple of int
        Epochs at which victims and shadows are taken; 0: the last.
    copies, jitter : int, float
        For ``kl neighbours``: noisy copies of every record, standard deviation of their noise.
    ask : int
        Probe records that the adversary asks a victim about, both sets together (the first ones of
        each; one record stands for both sets); 0: all.
    choose : bool
        Ask about those on which the shadows of the two worlds differ most instead.
    """

    victims: Group
    shadows: Group
    alpha0: float = 0.5
    probes: int = 1000
    attacks: tuple[str, ...] = ("kl",)
    seed: int = 0
    use: tuple[int, int] = (0, 0)
    marks: tuple[int, int] = (0, 0)
    copies: int = 10
    jitter: float = 0.3
    ask: int = 0
    choose: bool = False

    def __post_init__(self):
        known, sides = (*ATTACKS, *SPECIAL, *WHITE), (self.victims, self.shadows)
        archs = {side.recipe.arch for side in sides}
        ways = [side.recipe.way == "sklearn" for side in sides]
        for name in self.attacks:
            if name not in known:
                raise ValueError(f"unknown attack {name!r}; known: {', '.join(known)}")
            if name in WHITE and not (len(archs) == 1 and min(archs).startswith("mlp-")):
                raise ValueError(f"{name} reads the weights of perceptrons of one architecture, "
                                 f"not of {' and '.join(sorted(archs))}")
            if name == "kl defect" and ways != [False, True]:
                raise ValueError("kl defect needs network victims and scikit-learn shadows, got "
                                 f"{self.victims.recipe.arch} and {self.shadows.recipe.arch}")
            if name == "kl neighbours" and any(ways):
                raise ValueError("kl neighbours asks on records made up for it, which "
                                 "scikit-learn's models here cannot answer; use networks")
        told = [(side.data.name, side.data.property, side.data.label, side.data.split, side.ratio)
                for side in sides]
        if told[0] != told[1]:  # the parties' rows are only disjoint within one split
            raise ValueError(f"victims of {told[0]} and shadows of {told[1]}: need one table, "
                             "property, label, split and ratio")
        first, count = self.use
        if first < 0 or count < 0 or first + count > self.shadows.count:
            raise ValueError(f"use={self.use}: the shadows are numbers 0 to "
                             f"{self.shadows.count - 1} of each world")
        for mark, side in zip(self.marks, sides, strict=True):
            if mark and mark not in side.recipe.kept:
                raise ValueError(f"marks={self.marks}: epoch {mark} is not kept; the recipe keeps "
                                 f"{side.recipe.kept}")
        if self.copies < 1 or not 0 < self.jitter < np.inf:
            raise ValueError(f"copies={self.copies} must be at least 1 and jitter={self.jitter} "
                             "positive")
        if not 0 <= self.ask <= 2 * self.probes:
            raise ValueError(f"ask={self.ask}: the two probe sets hold {2 * self.probes} records")
        contrast(self.alpha0, self.victims.ratio)

    @property
    def groups(self) -> tuple[Group, Group, Group, Group]:
        """Victims of world 0 and 1, shadows of world 0 and 1; at equal ratios other models."""
        null = self.alpha0 == self.victims.ratio
        return tuple(part for side in (self.victims, self.shadows) for part in (
            replace(side, ratio=self.alpha0),
            replace(side, first=side.first + side.count) if null else side))

    @property
    def used(self) -> slice:
        """Which shadows of each world the adversary uses."""
        first, count = self.use
        return slice(first, first + (count or self.shadows.count))

    @property
    def fold(self) -> np.ndarray | None:
        """Half of the pool behind each used shadow, where there are two or more of each half."""
        fold = self.shadows.fold
        fold = None if fold is None else fold[self.used]
        return None if fold is None or min(np.bincount(fold, minlength=2)) < 2 else fold


@dataclass(frozen=True, eq=False)
class Played:
    """A game's outcome.

    Attributes
    ----------
    game : Game
    found : dict of str to Judged
        What every attack answered.
    record : dict
        ``cost``, ``utility`` (mean task accuracy of both worlds' victims) and what an audit needs.
    arrays : dict of str to ndarray
        ``utility/accuracy`` [2, victims] on test records of the victims' party;
        ``utility/groups`` [2, victims, 2] the same within records without and with the property;
        ``utility/positive`` [2, victims, 2] share of positive answers within either;
        ``utility/train`` [2, at most 20] accuracy on the records that a victim was trained on.
    """

    game: Game
    found: dict[str, Judged]
    record: dict
    arrays: dict[str, np.ndarray]


def check(games: Sequence[Game]) -> None:
    """Draw one training set and the probe sets of every game, so that a short pool stops it now.

    Raises
    ------
    helpers.images.DataError
        Before any training; names the pool, the records wanted and what would fit.
    """
    for group in dict.fromkeys(group for game in games for group in game.groups):
        groups.check(group)
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


def _asked(game: Game, rows, a: Views, b: Views) -> list[np.ndarray]:
    """The rows of either probe set that a victim is asked about."""
    if not game.ask:
        return list(rows)
    counts = ((game.ask + 1) // 2, game.ask // 2)
    order = pick_records(a, b, 1.0, ranked=True) if game.choose else map(range, map(len, rows))
    kept = [part[np.asarray(at)[:count]] for part, at, count in zip(rows, order, counts,
                                                                    strict=True)]
    return kept if counts[1] else [kept[0], kept[0]]


def _neighbours(game: Game, models, data: Data, rows, mark) -> Views:
    """Share of positive labels over noisy copies of every probe record."""
    source, parts = table(data), []
    for world, part in enumerate(rows):
        records = source.features[part]
        positive = 0.0
        for copy in range(game.copies):
            shift = noise(range(len(records)), records.shape[1:], 10_000 * game.seed + copy,
                          f"neighbours {world}")
            asked = (records + np.float32(game.jitter) * shift).astype(np.float32)
            positive = positive + (shadow.logits(models, asked, mark) >= 0)
        parts.append(Probabilities(positive / game.copies))
    return Views(*parts)


def _play(game: Game, store: Store, device: str):
    rows, members = probe_rows(game), game.groups
    models = [fitted(group, store, device) for group in members]
    spent = {groups.key_of(group, device)[:16]: found.record["cost"]["seconds"]
             for group, found in zip(members, models, strict=True)}
    began = time.process_time()
    models[2:] = [groups.some(found, game.used) for found in models[2:]]
    marks = [mark or None for mark in np.repeat(game.marks, 2).tolist()]
    rows = _asked(game, rows, *(groups.views(models[at], table(members[at].data), rows, marks[at])
                                for at in (2, 3)))
    logits = [groups.outputs(found, table(group.data), rows, mark)
              for found, group, mark in zip(models, members, marks, strict=True)]
    seen = [Views(*(part.probabilities() for part in both)) for both in logits]
    labels = tuple(table(game.shadows.data).label[part] for part in rows)
    arrays, read = {}, {}
    for name in game.attacks:
        shown, inner = seen, name
        if name in SPECIAL:
            inner = "kl"
            shown = [Views(*map(as_released, both)) for both in logits[:2]] + seen[2:] if (
                name == "kl defect") else [
                _neighbours(game, found, group.data, rows, mark)
                for found, group, mark in zip(models, members, marks, strict=True)]
        if name in WHITE:
            found = _white(name, game, models, marks, rows, seen, labels, read)
        else:
            found = judge(inner, tuple(shown[:2]), seen[2], seen[3], labels, seed=game.seed,
                          shown=tuple(shown[2:]), fold=game.fold,
                          batch=inner in ("kl", "kl labels") and len(seen[2]) > 1)
        arrays[f"scores/{name}"] = found.scores
        if "batch" in found.correct:
            arrays[f"batch/{name}"] = found.correct["batch"]
        if found.held is not None:
            arrays[f"held/{name}"] = np.stack(found.held).astype(np.float32)
    arrays |= _utility(game, models[:2], marks[0])
    own = time.process_time() - began
    record = {
        "utility": arrays["utility/accuracy"].mean(1).tolist(),
        "trained": spent,
        "cost": {"seconds": round(own + sum(spent.values()), 2), "peak_mb": peak_mb()},
        "recompute": {"function": "helpers.inference:recompute", "arguments": {
            "game": asdict(game)}},
        "tolerance": {"mean_abs": 0.1},
        "stage": "game", "version": VERSION, "modules": list(MODULES),
        "fingerprint": _code(), "torch": torch.__version__, "device": device,
    }
    return record, arrays


@cache
def _code() -> str:
    return fingerprint(MODULES)


def _utility(game: Game, victims, mark) -> dict[str, np.ndarray]:
    """How well the victims do their task; see `Played`."""
    source, held = table(game.victims.data), groups.utility_rows(game.victims.data)
    answers = np.stack([shadow.logits(m, source.features[held], mark) > 0 for m in victims])
    right, member = answers == source.label[held], source.attribute[held] == 1
    found = {"utility/accuracy": right.mean(2)}
    for name, part in (("groups", right), ("positive", answers)):
        found[f"utility/{name}"] = np.stack([part[:, :, of].mean(2) for of in (~member, member)], 2)
    if game.victims.recipe.way != "sklearn":
        shares = []
        for group, models in zip(game.groups, victims, strict=False):
            some = groups.some(models, slice(SEEN))
            drawn = groups.draws(replace(group, count=min(group.count, SEEN)))
            rows, place = np.unique(drawn, return_inverse=True)
            said = shadow.logits(some, source.features[rows], mark) > 0
            own = np.take_along_axis(said == source.label[rows], place.reshape(drawn.shape), 1)
            shares.append(own.mean(1))
        found["utility/train"] = np.stack(shares)
    return found


def _white(name: str, game: Game, models, marks, rows, seen, labels, read: dict) -> Judged:
    """A white-box attack on the victims of both worlds; `read` keeps answers for `combined`."""
    zero, one, a, b = (whitebox.layers_of(found.weights[mark or found.recipe.epochs])
                       for found, mark in zip(models, marks, strict=True))
    victims = [tuple(np.concatenate(parts) for parts in zip(x, y, strict=True))
               for x, y in zip(zero, one, strict=True)]
    if name == "pin":
        found = whitebox.permutation_invariant(victims, a, b, seed=game.seed)
    elif "aga" in read:
        found = read["aga"]
    else:
        chosen = np.concatenate([part[:SEEDS] for part in rows])
        records = table(game.shadows.data).features[chosen]
        found = read["aga"] = whitebox.affinity(victims, a, b, records.reshape(len(records), -1),
                                                seed=game.seed)
    scores, held = found.victims.reshape(2, -1), (found.held_a, found.held_b)
    if name == "aga+kl":
        near = held_out("kl", seen[2], seen[3], labels, seed=game.seed, fold=game.fold)
        other = np.stack([kl(part, seen[2], seen[3]) for part in seen[:2]])
        scores, held = combined(
            (scores, other), (held, tuple(part[at] for part, at in zip(near, found.places,
                                                                       strict=True))))
    return answered(scores, held)


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
                   "shadows": _group(plain["shadows"]), "use": tuple(plain["use"]),
                   "marks": tuple(plain["marks"])})


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
    groups.train((group for game in missing.values() for group in game.groups), store,
                 device=device, workers=workers)
    map_cells(_game_job, [(game, key, store.root, store.results, store.publish, device)
                          for key, game in missing.items()], workers=workers, label="games")
    return [_outcome(game, store.get(key)) for game, key in zip(games, keys, strict=True)]


def _outcome(game: Game, entry) -> Played:
    found = {}
    for name in game.attacks:
        held, fold = entry.arrays.get(f"held/{name}"), None if name in WHITE else game.fold
        found[name] = answered(entry.arrays[f"scores/{name}"],
                               None if held is None else tuple(held), fold)
        if f"batch/{name}" in entry.arrays:
            found[name].correct["batch"] = entry.arrays[f"batch/{name}"]
    return Played(game, found, entry.record, {
        name: array for name, array in entry.arrays.items() if name.startswith("utility/")})
