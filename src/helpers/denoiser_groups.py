"""Diffusion models by the group: one party, one ratio, one recipe; and the samples they release.

A `Family` is to diffusion models what `helpers.groups.Group` is to classifiers. Its models are
trained in blocks that the store keeps, so families that share models share their training.
Pictures may be averaged down before training; tables are used as encoded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from helpers import denoiser_stack, diffusion, groups, networks, tables
from helpers.denoiser_stack import Denoisers, Small
from helpers.groups import Data, table
from helpers.images import DataError
from helpers.leakage import contrast
from helpers.noise import generator, stream_key
from helpers.store import Store, make_key
from helpers.workers import map_cells

__all__ = ["Family", "Net", "SHIFTS", "check", "draws", "features", "fitted", "key_of", "shape",
           "train"]

VERSION = 1
MODULES = ("helpers.denoiser_groups", "helpers.denoiser_stack", "helpers.objectives",
           "helpers.noise", "helpers.groups", "helpers.tables", "helpers.records",
           *diffusion.MODULES)
SHIFTS = {
    "": "the adversary's pool is a random part of the same set",
    "faded": "the adversary's pictures have four fifths of the contrast",
    "mirrored": "the adversary's pictures are mirrored left to right",
    "no boots": "the adversary's footwear has no ankle boots",
}
FADED, BOOTS = 0.8, 9


@dataclass(frozen=True)
class Net:
    """How a network of `helpers.networks` is trained, one model at a time; see `Small`."""

    network: str = "unet-80k"
    objective: str = "edm"
    steps: int = 1500
    batch: int = 64
    rate: float = 2e-3
    warmup: int = 100
    chunk: int = 2

    def __post_init__(self):
        self.cell(8, 1, 0)
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")

    def cell(self, size: int, n: int, seed: int) -> diffusion.Cell:
        """Return the training cell of one model on `n` pictures of side `size`."""
        return diffusion.Cell(size=size, n=n, network=self.network, objective=self.objective,
                              seed=seed, steps=self.steps, batch=self.batch, rate=self.rate,
                              warmup=self.warmup)


@dataclass(frozen=True)
class Family:
    """Diffusion models of one party (0 victim, 1 adversary), trained at one ratio on n records.

    Attributes
    ----------
    data : Data
        Drawn in mode "free": a diffusion model has no labels.
    party, ratio, n, count, first
        As for `helpers.groups.Group`; an adversary's models of even and of odd number draw from
        disjoint halves of that pool.
    recipe : Small or Net
    side : int
        Pictures are averaged down to this side; 0 leaves records as they are.
    iid : bool
        Each model's number of records with the property is binomial instead of ``ratio * n``.
    public : float or None
        Records are re-sampled to this ratio before training, their number kept: surplus ones are
        dropped at random, missing ones repeated at random.
    shift : str
        A name in `SHIFTS`.
    """

    data: Data = Data("fashion16", "footwear", mode="free")
    party: int = 0
    ratio: float = 0.5
    n: int = 2048
    count: int = 8
    recipe: Small | Net = Small()
    side: int = 8
    first: int = 0
    iid: bool = False
    public: float | None = None
    shift: str = ""

    def __post_init__(self):
        contrast(self.ratio, 0.5 if self.public is None else self.public)
        if self.party not in (0, 1) or min(self.n, self.count) < 1 or self.first < 0:
            raise ValueError(f"party={self.party} must be 0 (victim) or 1 (adversary), n={self.n} "
                             f"and count={self.count} at least 1, first={self.first} at least 0")
        if self.shift not in SHIFTS:
            raise ValueError(f"unknown shift {self.shift!r}; known: {', '.join(SHIFTS)}")
        if self.shift and not self.party:
            raise ValueError(f"shift={self.shift!r} is the adversary's; a victim (party 0) has "
                             "none")
        if self.side < 0:
            raise ValueError(f"side={self.side} must be at least 0 (0: as it is)")
        if self.data.mode != "free":
            raise ValueError(f"mode {self.data.mode!r}: diffusion models have no label, use 'free'")

    @property
    def fold(self) -> np.ndarray | None:
        """Half of the pool behind each model of an adversary, int [count]; None for a victim."""
        return np.arange(self.first, self.first + self.count) % 2 if self.party else None

    @property
    def numbers(self) -> range:
        """Numbers of the models."""
        return range(self.first, self.first + self.count)


@lru_cache(maxsize=4)
def features(data: Data, side: int = 0, shift: str = "") -> np.ndarray:
    """Records as the models see them, float32 [R, d]: pictures flattened, averaged to `side`."""
    found = table(data).features
    if found.ndim == 2:
        if side or shift:
            raise DataError(f"{data.name}: side={side} and shift={shift!r} are for pictures; a "
                            "table takes side=0 and no shift")
        return np.ascontiguousarray(found)
    whole = found.shape[-1]
    side = side or whole
    if whole % side:
        raise DataError(f"{data.name}: side={side} must divide the pictures' side {whole}")
    if shift == "faded":
        found = found * np.float32(FADED)
    if shift == "mirrored":
        found = found[..., ::-1]
    by = whole // side
    small = found.reshape(len(found), found.shape[1], side, by, side, by).mean((3, 5))
    return np.ascontiguousarray(small.reshape(len(found), -1), dtype=np.float32)


def shape(family: Family) -> tuple[int, ...]:
    """Shape of one record: (channels, side, side), or (features,) of a table."""
    found = table(family.data).features
    side = family.side or found.shape[-1]
    return (found.shape[1], side, side) if found.ndim == 4 else found.shape[1:]


def _pools(family: Family) -> list[np.ndarray]:
    group = groups.Group(family.data, family.party, family.ratio, family.n, family.count)
    pools = groups.pools_of(group)
    if family.shift == "no boots":
        from helpers import datasets

        boots = datasets.load(family.data.name).attribute("label") == BOOTS
        pools = [pool[~boots[pool]] for pool in pools]
    return pools


def draws(family: Family) -> np.ndarray:
    """Row numbers that each model trains on, int64 [count, n].

    Raises
    ------
    helpers.images.DataError
        When a pool is too small; names it, the records wanted and what would fit.
    """
    source, parts, pools = table(family.data), round(family.ratio * 1e6), _pools(family)
    rows = []
    for i in family.numbers:
        ratio = family.ratio
        if family.iid:
            words = generator("iid ratio", family.party, parts, i).bit_generator.random_raw(
                family.n)
            ratio = float((words < ratio * 2.0**64).sum() / family.n)
        stream = generator("draw", family.party, parts, i)
        drawn = tables.draw(source, pools[i % len(pools)], ratio, family.n, stream, "free")
        if family.public is not None:
            stream = generator("public ratio", family.party, parts, i)
            drawn = _resampled(drawn, source.attribute, family.public, stream)
        rows.append(drawn)
    return np.stack(rows)


def _resampled(rows: np.ndarray, attribute: np.ndarray, public: float, stream) -> np.ndarray:
    ones = round(public * len(rows))
    parts = []
    for value, wanted in ((0, len(rows) - ones), (1, ones)):
        have = stream.permutation(rows[attribute[rows] == value])
        if wanted and not len(have):
            raise DataError(f"public ratio {public:g}: none of {len(rows)} records could be "
                            "repeated; use a ratio strictly between 0 and 1")
        extra = stream.integers(max(1, len(have)), size=max(0, wanted - len(have)))
        parts.append(np.concatenate([have[:wanted], have[extra]]) if wanted else have[:0])
    return np.concatenate(parts)


def check(family: Family) -> None:
    """Draw training sets of a family's first models, so that a short pool stops the run now."""
    features(family.data, family.side, family.shift)
    draws(replace(family, count=min(2, family.count)))
    if isinstance(family.recipe, Net):
        networks.build(family.recipe.network, shape(family)[0], shape(family)[-1])


def blocks(family: Family) -> list[Family]:
    """Blocks of `recipe.chunk` models, numbered from 0, that hold the family's models."""
    size = family.recipe.chunk
    first, last = family.first // size, (family.first + family.count - 1) // size
    return [replace(family, first=size * k, count=size) for k in range(first, last + 1)]


def key_of(block: Family, device: str = "cpu") -> str:
    """Return the store's key of a block's weights."""
    return make_key("denoisers", VERSION, block, data=table(block.data).sha256, device=device,
                    dtype="float32")


def _seeds(family: Family) -> np.ndarray:
    parts = round(family.ratio * 1e6)
    return np.array([stream_key("denoiser", family.party, parts, i) % 2**62
                     for i in family.numbers])


def _train_block(block: Family, store: Store, device: str):
    """The store's entry of a block, trained now if it is missing."""
    def compute():
        records = features(block.data, block.side, block.shift)
        index, seeds = draws(block), _seeds(block)
        if isinstance(block.recipe, Small):
            models = denoiser_stack.fit(block.recipe, records, index, seeds, device)
            arrays = {f"{i}/{name}": part for i, pair in enumerate(models.layers)
                      for name, part in zip(("weight", "bias"), pair, strict=True)}
            return models.record, arrays
        arrays, seconds, record = {}, 0.0, {}
        for member, (rows, seed) in enumerate(zip(index, seeds, strict=True)):
            clean = torch.from_numpy(records[rows].reshape(-1, *shape(block)))
            cell = block.recipe.cell(shape(block)[-1], block.n, int(seed))
            weights, record = diffusion.train(cell, clean, device)
            arrays |= {f"{member}/{name}": part for name, part in weights[cell.steps].items()}
            seconds += record["cost"]["seconds"]
        return record | {"cost": record["cost"] | {"seconds": round(seconds, 2)}}, arrays

    return store.once(key_of(block, device), compute)


@dataclass(frozen=True)
class Nets:
    """Networks trained one at a time, used like `helpers.denoiser_stack.Denoisers`.

    `helpers.release.draw` samples from either.
    """

    family: Family
    members: tuple[diffusion.Model, ...]
    record: dict

    def __len__(self) -> int:
        return len(self.members)

    def take(self, models) -> Nets:
        """Return some of the networks (a slice or an index array)."""
        chosen = np.arange(len(self.members))[models]
        return Nets(self.family, tuple(self.members[i] for i in chosen), self.record)


def fitted(family: Family, store: Store, device: str = "cpu") -> tuple[Denoisers | Nets, dict]:
    """Return a family's models, trained now unless the store holds them, and what they cost.

    Returns
    -------
    models : Denoisers or Nets
    spent : dict of str to float
        Core-seconds of every block, by the first letters of its key.
    """
    entries = [_train_block(block, store, device) for block in blocks(family)]
    spent = {entry.key[:16]: entry.record["cost"]["seconds"] for entry in entries}
    skip = family.first % family.recipe.chunk
    chosen = slice(skip, skip + family.count)
    if isinstance(family.recipe, Small):
        depth = len(entries[0].arrays) // 2
        layers = tuple(tuple(np.concatenate([entry.arrays[f"{i}/{name}"] for entry in entries])
                             for name in ("weight", "bias")) for i in range(depth))
        return Denoisers(family.recipe, layers, entries[0].record).take(chosen), spent
    weights = []
    for entry in entries:
        each: list[dict] = [{} for _ in range(family.recipe.chunk)]
        for name, part in entry.arrays.items():
            member, parameter = name.split("/", 1)
            each[int(member)][parameter] = part
        weights += each
    channels, side = shape(family)[0], shape(family)[-1]
    members = tuple(diffusion.Model(family.recipe.cell(side, family.n, 0), channels,
                                    {family.recipe.steps: part}, entries[0].record)
                    for part in weights[chosen])
    return Nets(family, members, entries[0].record), spent


def _job(job) -> None:
    block, root, device = job
    _train_block(block, Store(root), device)


def train(families, store: Store, *, device: str = "cpu", workers=None) -> None:
    """Train, in worker processes, every block of models that the store lacks."""
    wanted = {key_of(block, device): block for family in families for block in blocks(family)}
    missing = [block for key, block in wanted.items() if store.get(key) is None]
    map_cells(_job, [(block, store.root, device) for block in missing], workers=workers,
              label="diffusion models", costs=[_cost(block) for block in missing])


def _cost(block: Family) -> float:
    recipe = block.recipe
    size = int(np.prod(shape(block)))
    each = sum(recipe.hidden) / 512 if isinstance(recipe, Small) else 1.2 * size
    return block.count * recipe.steps * recipe.batch * each


def rebuilt(told: dict) -> Family:
    """Return the family that ``dataclasses.asdict`` told."""
    data, recipe = dict(told["data"]), dict(told["recipe"])
    data["drop"] = tuple(data["drop"])
    if "hidden" in recipe:
        recipe = Small(**{**recipe, "hidden": tuple(recipe["hidden"])})
    else:
        recipe = Net(**recipe)
    return Family(**{**told, "data": Data(**data), "recipe": recipe})
