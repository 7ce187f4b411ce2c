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
from helpers.defenses import Defense, defended, noisy_features
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
    from (always the same part).
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

    def __post_init__(self):
        contrast(self.ratio, self.ratio)
        if self.party not in (0, 1) or min(self.n, self.count) < 1:
            raise ValueError(f"party={self.party} must be 0 (victim) or 1 (adversary), n={self.n} "
                             f"and count={self.count} at least 1")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} of a pool must lie in (0, 1]")


@lru_cache(maxsize=4)
def table(data: Data) -> tables.TableSet:
    """Load the table behind `data`; the last few stay in memory."""
    return tables.load(data.name, property=data.property, label=data.label, drop=data.drop,
                       split_seed=data.split)


def draws(group: Group) -> np.ndarray:
    """Row numbers that each model trains on, int32 [count, n].

    Model i of a party and ratio draws from a stream of its own, whatever the count.
    """
    source = table(group.data)
    pool, parts = source.pool(group.party), round(group.ratio * 1e6)
    if group.share < 1:
        order = generator("share", group.party).permutation(len(pool))
        pool = np.sort(pool[order[: round(group.share * len(pool))]])
    return np.stack([tables.draw(source, pool, group.ratio, group.n,
                                 generator("draw", group.party, parts, i), group.data.mode)
                     for i in range(group.first, group.first + group.count)]).astype(np.int32)


def check(group: Group) -> None:
    """Draw one training set of a group, so that a short pool stops the run now.

    Raises
    ------
    helpers.images.DataError
        Before any training; names the pool, the records wanted and what would fit.
    """
    source = table(group.data)
    defended(draws(replace(group, count=1)), source.label, source.attribute, group.defense,
             np.zeros(1, np.int64))


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
        features = noisy_features(source.features, group.defense, group.party)
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
