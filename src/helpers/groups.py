"""Classifiers by the group: one party, one ratio, one recipe; trained once, kept in the store.

`Data` names a table, `Group` a number of classifiers trained on draws from it. Everything that
says what a group is enters the key under which the store keeps its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from helpers import shadow, tables
from helpers.attacks import Views
from helpers.defenses import Defense, altered, defended
from helpers.leakage import contrast
from helpers.noise import generator, stream_key
from helpers.outputs import Logits
from helpers.shadow import Fitted, Recipe
from helpers.store import Store, make_key
from helpers.workers import map_cells

__all__ = ["Data", "Group", "check", "draws", "fitted", "outputs", "some", "table", "train",
           "utility_rows", "views"]

VERSION = 1
MODULES = ("helpers.groups", *shadow.MODULES, "helpers.tables", "helpers.records",
           "helpers.defenses", "helpers.outputs")
UTILITY = 4000  # most records behind the victims' task accuracy


@dataclass(frozen=True)
class Data:
    """A table, its task and its property (see :func:`helpers.tables.load`).

    Attributes
    ----------
    name, property, label, drop
        As for :func:`helpers.tables.load`.
    mode : {"cells", "free", "balanced"}
        How records are drawn at a ratio, see :func:`helpers.tables.draw`.
    split : int
        Which split between the parties.
    """

    name: str = "acs_ma"
    property: str = "sex"
    label: str | None = None
    drop: tuple[str, ...] = ()
    mode: str = "cells"
    split: int = 0


@dataclass(frozen=True)
class Group:
    """Classifiers of one party (0 victim, 1 adversary), trained at one ratio on n records each.

    They are numbers `first`, `first` + 1, ... of that party and ratio; `defense` acts on their
    records before training. `share` is the part of the party's training pool that the records come
    from (always the same part). With `halves`, an adversary's models of even and of odd number draw
    from two disjoint halves of that pool: a model of one half is to those of the other what a
    victim is, one without a common record, so that a threshold can be learned from them
    (`helpers.decisions.held_out`). Victims always draw from their whole pool.
    """

    data: Data
    party: int
    ratio: float
    n: int
    count: int
    recipe: Recipe = Recipe()
    first: int = 0
    defense: Defense = Defense()
    share: float = 1.0
    halves: bool = True

    def __post_init__(self):
        contrast(self.ratio, self.ratio)
        if self.party not in (0, 1) or min(self.n, self.count) < 1:
            raise ValueError(f"party={self.party} must be 0 (victim) or 1 (adversary), n={self.n} "
                             f"and count={self.count} at least 1")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} of a pool must lie in (0, 1]")

    @property
    def fold(self) -> np.ndarray | None:
        """Half that each model draws from, int [count] of 0 and 1; None without halves."""
        return (np.arange(self.first, self.first + self.count) % 2 if self.party and self.halves
                else None)


@lru_cache(maxsize=4)
def table(data: Data) -> tables.TableSet:
    """Load the table behind `data`; the last few stay in memory."""
    return tables.load(data.name, property=data.property, label=data.label, drop=data.drop,
                       split_seed=data.split)


def draws(group: Group) -> np.ndarray:
    """Row numbers that each model trains on, int32 [count, n].

    Model i of a party and ratio draws from a stream of its own, whatever the count.
    """
    source, parts = table(group.data), round(group.ratio * 1e6)
    pools = pools_of(group)
    return np.stack([tables.draw(source, pools[i % len(pools)], group.ratio, group.n,
                                 generator("draw", group.party, parts, i), group.data.mode)
                     for i in range(group.first, group.first + group.count)]).astype(np.int32)


def pools_of(group: Group) -> list[np.ndarray]:
    """Row numbers that a group draws from: one pool, or two disjoint halves of it."""
    source = table(group.data)
    pool = source.pool(group.party)
    halved = group.party == 1 and group.halves
    if group.share == 1 and not halved:
        return [pool]
    order = generator("share", group.party).permutation(len(pool))
    pool = pool[order[: round(group.share * len(pool))]]
    return [np.sort(part) for part in (np.array_split(pool, 2) if halved else [pool])]


def check(group: Group) -> None:
    """Draw one training set of a group, so that a short pool stops the run now.

    Raises
    ------
    helpers.images.DataError
        Before any training; names the pool, the records wanted and what would fit.
    """
    source = table(group.data)
    drawn = draws(replace(group, count=min(2, group.count)))
    defended(drawn, source.label, source.attribute, group.defense, np.zeros(len(drawn), np.int64))


def key_of(group: Group, device: str = "cpu") -> str:
    """Return the store's key of a group's weights."""
    return make_key("classifiers", VERSION, group, data=table(group.data).sha256, device=device,
                    dtype="float32")


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
        features, index = altered(source.features, index, source.label, source.attribute,
                                  group.defense, seeds, group.party, source.groups)
        models = shadow.fit(group.recipe, features, own, index, seeds, device, probes=probes)
        arrays = {f"{mark}/{name}": array for mark, weights in models.weights.items()
                  for name, array in weights.items()}
        return models.record, arrays

    entry = store.once(key_of(group, device), compute)
    weights: dict[int, dict[str, np.ndarray]] = {}
    for name, array in entry.arrays.items():
        mark, part = name.split("/", 1)
        weights.setdefault(int(mark), {})[part] = array
    return Fitted(group.recipe, weights, entry.record, probes)


def some(models: Fitted, chosen: slice) -> Fitted:
    """Return some of a group's models."""
    weights = {mark: {name: array[chosen] for name, array in arrays.items()}
               for mark, arrays in models.weights.items()}
    return Fitted(models.recipe, weights, models.record, models.probes)


def utility_rows(data: Data) -> np.ndarray:
    """Rows of the victims' test pool on which task accuracy is measured."""
    pool = table(data).pool(0, test=True)
    return generator("utility", 0).permutation(pool)[:UTILITY]


def outputs(models: Fitted, source: tables.TableSet, rows, mark: int | None = None
            ) -> tuple[Logits, ...]:
    """Return the models' logits on several sets of rows, after epoch `mark` (default: the last)."""
    return tuple(Logits(shadow.logits(models, source.features[part], mark)) for part in rows)


def views(models: Fitted, source: tables.TableSet, rows, mark: int | None = None) -> Views:
    """Return the models' probabilities on the two probe sets."""
    return Views(*(part.probabilities() for part in outputs(models, source, rows, mark)))


def _train_job(job) -> None:
    group, root, device = job
    fitted(group, Store(root), device)


def train(groups, store: Store, *, device: str = "cpu", workers=None) -> None:
    """Train, in worker processes, every group that the store lacks."""
    groups = list(dict.fromkeys(groups))
    map_cells(_train_job, [(group, store.root, device) for group in groups], workers=workers,
              label="classifiers", costs=[g.count * g.n * g.recipe.epochs for g in groups])
