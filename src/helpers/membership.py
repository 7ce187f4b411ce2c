"""The ratio of re-sampled records, by asking which known records the victim was trained on.

Re-sampling to one half hides a ratio from attacks on outputs, but it keeps all (or more) of the
smaller group and fewer of the larger one: whoever knows some records of either group that the
trainer *had* can ask how many were *used*. With group sizes n_0 and n_1, as many records k of
either group are kept, so the shares kept are k / n_0 and k / n_1, and

    share of group 0 / (share of group 0 + share of group 1) = n_1 / (n_0 + n_1) = ratio.

Shares are read off a membership test on losses, which finds members at a rate TPR and takes others
for members at a rate FPR; both are measured on shadows, and (found - FPR) / (TPR - FPR) estimates a
share. Without that correction the estimate is drawn to 1/2. (Suri et al., 2023, describe the idea;
their released script has no correction, and prints a sum of squares as a mean.)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from helpers import groups, shadow, tables
from helpers.defenses import Defense, defended
from helpers.groups import Data, table
from helpers.images import DataError
from helpers.noise import generator, stream_key
from helpers.shadow import Recipe
from helpers.store import Store, fingerprint, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["Found", "Membership", "check", "corrected", "plain", "play", "rates", "recompute",
           "thresholds"]

VERSION = 1
MODULES = ("helpers.membership", *groups.MODULES)
KINDS = ("under", "fixed")
FEWEST = 10  # shadows
FOLDS = 5


@dataclass(frozen=True)
class Membership:
    """Victims of several ratios that were re-sampled, and an adversary who knows some records.

    Attributes
    ----------
    data : Data
    ratios : tuple of float
        Of the victims' records before re-sampling, strictly between 0 and 1. The adversary knows
        this list: each shadow is as large as a victim of one of them.
    n, victims : int
        Records of a victim before re-sampling; victims of each ratio.
    shadows : int
        In all.
    known : int
        Records of each group that the adversary knows every victim to have had.
    defense : Defense
        ``under`` or ``fixed``.
    recipe : Recipe
        A network.
    level : float
        False positive rate of the membership test on shadows.
    seed : int
    """

    data: Data
    ratios: tuple[float, ...]
    n: int
    victims: int
    shadows: int
    known: int = 500
    defense: Defense = Defense("under")
    recipe: Recipe = Recipe()
    level: float = 0.05
    seed: int = 0

    def __post_init__(self):
        if self.defense.kind not in KINDS:
            raise ValueError(f"{self.defense.kind}: membership tells a ratio from records that "
                             f"were left out, so after {' or '.join(KINDS)}")
        if not self.ratios or not all(0 < ratio < 1 for ratio in self.ratios):
            raise ValueError(f"ratios={self.ratios} must lie strictly between 0 and 1, or nothing "
                             "can be re-sampled")
        if self.victims < 1 or self.known < 1 or self.shadows < FEWEST:
            raise ValueError(f"victims={self.victims} and known={self.known} must be at least 1, "
                             f"shadows={self.shadows} at least {FEWEST}")
        if not 0 < self.level < 0.5:
            raise ValueError(f"level={self.level} must lie in (0, 0.5)")
        if self.recipe.way == "sklearn":
            raise ValueError(f"{self.recipe.arch}: this attack needs losses of a network on any "
                             "record, such as mlp-32-16")
        for ratio in self.ratios:
            small = min(round(ratio * self.n), self.n - round(ratio * self.n))
            if self.known > small:
                raise ValueError(f"known={self.known} records of each group: at ratio {ratio:g} a "
                                 f"victim of n={self.n} has {small} of the smaller one; know fewer")


@dataclass(frozen=True, eq=False)
class Found:
    """Estimates of the ratio of every victim, float64 [ratios, victims].

    Attributes
    ----------
    case : Membership
    plain, corrected : ndarray
        From the counts as they are, and with TPR and FPR taken out.
    record : dict
        ``rates``: for either group [TPR, FPR] on shadows that the thresholds were not made from;
        ``seen``: TPR and FPR on the victims, both groups together (None: no such record).
    arrays : dict of str to ndarray
        ``found`` and ``members`` [ratios, victims, 2]: share of the known records of either group
        that the test takes for members, and that are members.
    """

    case: Membership
    plain: np.ndarray
    corrected: np.ndarray
    record: dict
    arrays: dict[str, np.ndarray] = field(repr=False)


def thresholds(losses: np.ndarray, members: np.ndarray, level: float) -> np.ndarray:
    """Loss below which each record counts as a member.

    Parameters
    ----------
    losses : ndarray of float, shape [shadows, records]
    members : ndarray of bool, shape [shadows, records]
        Whether the shadow was trained on the record.
    level : float
        Share of the shadows without a record that fall below its threshold.

    Returns
    -------
    ndarray of float, shape [records]
        Minus infinity where every shadow had the record.
    """
    masked = np.where(members, np.nan, losses)
    empty = members.all(0)
    masked[:, empty] = -np.inf
    with np.errstate(invalid="ignore"):
        return np.where(empty, -np.inf, np.nanquantile(np.where(empty, 0.0, masked), level, axis=0))


def rates(losses: np.ndarray, members: np.ndarray, group: np.ndarray, level: float, seed: int = 0
          ) -> np.ndarray:
    """TPR and FPR of the test on shadows that its thresholds were not made from.

    Parameters
    ----------
    losses, members : ndarray, shape [shadows, records]
    group : ndarray of 0 and 1, shape [records]
    level, seed : float, int
        As in `thresholds`; seed of the folds.

    Returns
    -------
    ndarray of float, shape [2 groups, 2]
    """
    fold = generator("membership folds", seed).permutation(len(losses)) % FOLDS
    said = np.empty(losses.shape, bool)
    for k in range(FOLDS):
        rest = fold != k
        said[~rest] = losses[~rest] < thresholds(losses[rest], members[rest], level)
    return np.array([[said[kind & (group == value)].mean() for kind in (members, ~members)]
                     for value in (0, 1)])


def plain(found: np.ndarray) -> np.ndarray:
    """Ratio from the shares found [..., 2 groups], as they are; 1/2 where nothing was found."""
    total = found.sum(-1)
    return np.divide(found[..., 0], total, out=np.full(total.shape, 0.5), where=total > 0)


def corrected(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Ratio from the shares found [..., 2 groups], less what the test gets wrong.

    Parameters
    ----------
    found : ndarray
    known : ndarray, shape [2 groups, 2]
        TPR and FPR. A test no better than chance says nothing: 1/2.

    Returns
    -------
    ndarray, shape [...]
        In [0, 1].
    """
    power = known[:, 0] - known[:, 1]
    if not (power > 0).all():
        return np.full(found.shape[:-1], 0.5)
    return plain(np.clip((found - known[:, 1]) / power, 0.0, 1.0))


def _sets(case: Membership):
    """Known records [2 known]; victims' records [V, n] by ratio; a maker of shadows' records."""
    source, mode = table(case.data), case.data.mode
    pool = source.pool(0)
    candidates = np.sort(tables.draw(source, pool, 0.5, 2 * case.known,
                                     generator("known records", case.seed), mode))
    rest, size = np.setdiff1d(pool, candidates), case.n - 2 * case.known
    before = {}
    for ratio in case.ratios:
        share = (round(ratio * case.n) - case.known) / size if size else 0.0
        drawn = [tables.draw(source, rest, share, size, generator(
            "membership victims", case.seed, round(ratio * 1e6), i), mode)
            for i in range(case.victims)] if size else [np.empty(0, np.int64)] * case.victims
        before[ratio] = np.stack([np.concatenate([candidates, rows]) for rows in drawn])
    return candidates, before


def _after(case: Membership, ratio: float) -> int:
    """Records of each group left after re-sampling."""
    ones = round(ratio * case.n)
    return (round(case.defense.strength * case.n / 2) if case.defense.kind == "fixed"
            else min(ones, case.n - ones))


def _shadow_sets(case: Membership, ratio: float, numbers, candidates: np.ndarray) -> np.ndarray:
    """Balanced records of shadows: half of the known ones (or fewer), the rest the adversary's."""
    source, size, found = table(case.data), _after(case, ratio), []
    pool, group = source.pool(1), source.attribute[candidates]
    own = min(case.known // 2, size)
    for number in numbers:
        stream = generator("membership shadows", case.seed, number)
        picked = [stream.permutation(candidates[group == value])[:own] for value in (0, 1)]
        others = tables.draw(source, pool, 0.5, 2 * (size - own), stream, case.data.mode) if (
            size > own) else np.empty(0, np.int64)
        found.append(stream.permutation(np.concatenate([*picked, others])))
    return np.stack(found)


def check(case: Membership) -> None:
    """Draw every training set, so that a short pool stops the run now.

    Raises
    ------
    helpers.images.DataError
        Names the pool, the records wanted and what would fit.
    """
    source = table(case.data)
    candidates, before = _sets(case)
    for ratio, index in before.items():
        defended(index[:1], source.label, source.attribute, case.defense, np.zeros(1, np.int64))
        if not _after(case, ratio):
            raise DataError(f"{case.defense.kind}: nothing is left of n={case.n} at ratio {ratio}")
        _shadow_sets(case, ratio, [0], candidates)


def _play(case: Membership, device: str):
    began, source = time.process_time(), table(case.data)
    candidates, before = _sets(case)
    group, label = source.attribute[candidates], source.label[candidates]

    def losses(index, seeds):
        models = shadow.fit(case.recipe, source.features, source.label, index, seeds, device)
        signed = (1 - 2 * label.astype(np.float64)) * shadow.logits(models,
                                                                    source.features[candidates])
        return np.logaddexp(0, signed), np.stack([np.isin(candidates, rows) for rows in index])

    def seeds(name, *numbers):
        return np.array([stream_key(name, case.seed, *more) % 2**62 for more in numbers])

    parts = []
    for k, ratio in enumerate(case.ratios):
        mine = list(range(k, case.shadows, len(case.ratios)))
        if mine:
            parts.append(losses(_shadow_sets(case, ratio, mine, candidates),
                                seeds("membership shadow", *((i,) for i in mine))))
    seen, inside = (np.concatenate(part) for part in zip(*parts, strict=True))
    known = rates(seen, inside, group, case.level, case.seed)
    cut = thresholds(seen, inside, case.level)
    found, members = [], []
    for ratio, index in before.items():
        own = seeds("membership victim", *((round(ratio * 1e6), i) for i in range(case.victims)))
        kept, _ = defended(index, source.label, source.attribute, case.defense, own)
        values, true = losses(kept, own)
        found.append(values < cut)
        members.append(true)
    found, members = np.stack(found), np.stack(members)
    by_group = [np.stack([part[..., group == value].mean(-1) for value in (0, 1)], -1)
                for part in (found, members)]
    arrays = {"plain": plain(by_group[0]), "corrected": corrected(by_group[0], known),
              "found": by_group[0], "members": by_group[1]}
    record = {
        "rates": known.tolist(), "seen": [
            float(found[kind].mean()) if kind.any() else None for kind in (members, ~members)],
        "cost": {"seconds": round(time.process_time() - began, 2), "peak_mb": peak_mb()},
        "recompute": {"function": "helpers.membership:recompute", "arguments": {
            "case": asdict(case)}},
        "tolerance": {"mean_abs": 0.1},
        "stage": "membership", "version": VERSION, "modules": list(MODULES),
        "fingerprint": fingerprint(MODULES), "torch": torch.__version__, "device": device,
    }
    return record, arrays


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Train and estimate again from nothing; returns the arrays."""
    told = arguments["case"]
    data, recipe = dict(told["data"]), dict(told["recipe"])
    data["drop"], recipe["marks"] = tuple(data["drop"]), tuple(recipe["marks"])
    return _play(Membership(**{**told, "ratios": tuple(told["ratios"]), "data": Data(**data),
                               "recipe": Recipe(**recipe), "defense": Defense(**told["defense"])}),
                 device)[1]


def _job(job) -> None:
    case, key, root, results, publish, device = job
    Store(root, results, publish).once(key, lambda: _play(case, device), measurement=True)


def play(cases: Sequence[Membership], store: Store, *, device: str = "cpu", workers=None
         ) -> list[Found]:
    """Estimate what the store lacks and return all outcomes, in order; see `helpers.maps.run`.

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small.
    """
    cases, workers = list(cases), 1 if device != "cpu" else workers
    keys = [make_key("membership", VERSION, case, data=table(case.data).sha256, device=device,
                     dtype="float32") for case in cases]
    missing = {key: case for key, case in zip(keys, cases, strict=True) if store.get(key) is None}
    for case in missing.values():
        check(case)
    map_cells(_job, [(case, key, store.root, store.results, store.publish, device)
                     for key, case in missing.items()], workers=workers, label="membership")
    outcomes = []
    for case, key in zip(cases, keys, strict=True):
        entry = store.get(key)
        outcomes.append(Found(case, entry.arrays["plain"], entry.arrays["corrected"], entry.record,
                              {name: entry.arrays[name] for name in ("found", "members")}))
    return outcomes
