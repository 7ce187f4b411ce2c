"""Hiding the noise: a secret rotation learnt back from what is released, and what a defence costs.

A model that turns its noise by a secret orthogonal matrix Q draws the pictures of the turned
noises. Its map from noise to picture has a linear part, which is J in shadow models and J Q in the
victim; least squares on pairs of noise and picture finds the latter, and the orthogonal matrix that
brings the two together is an orthogonal Procrustes problem (Schonemann, 1966). The attacker then
has the shadows draw the turned noises, and pairs as if there were no rotation.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes

from helpers import denoiser_groups, noise_games, release
from helpers.decisions import FEWEST
from helpers.denoiser_groups import fitted, shape
from helpers.denoiser_stack import Small
from helpers.groups import table
from helpers.intervals import Interval, bootstrap
from helpers.noise import noise
from helpers.noise_games import NoiseGame, Outcome
from helpers.queries import answers
from helpers.release import samples
from helpers.shared_noise import evidence
from helpers.store import Store, fingerprint, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["ATTACKS", "Unrotating", "best", "epsilon", "learnt_rotation", "linear_part", "play",
           "recompute", "relative"]

VERSION = 1
MODULES = ("helpers.hiding", *noise_games.MODULES)
ATTACKS = ("paired pixels", "likelihood ratio")
RIDGE = 1.0  # added to the noises' second moments, of about one for each pair


def linear_part(noises: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Linear part of a map from noises [m, d] to pictures [m, e], float [d, e]; ridge regression.

    ``pictures`` are about ``mean + noises @ linear_part``.
    """
    inner = noises - noises.mean(0)
    moments = inner.T @ inner + RIDGE * np.eye(noises.shape[1])
    return np.linalg.solve(moments, inner.T @ (pictures - pictures.mean(0)))


def learnt_rotation(noises: np.ndarray, pictures: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Orthogonal matrix Q [d, d] such that ``noises @ Q`` are about what the victim started from.

    Parameters
    ----------
    noises, pictures : ndarray, shape [m, d] and [m, e]
        What the victim was asked and what it released.
    linear : ndarray, shape [d, e]
        `linear_part` of models that do not turn their noise.
    """
    if len(noises) != len(pictures) or len(noises) < 2:
        raise ValueError(f"{len(noises)} noises and {len(pictures)} pictures: need pairs, at least "
                         "two")
    return orthogonal_procrustes(linear.T, linear_part(noises, pictures).T)[0].T


@dataclass(frozen=True)
class Unrotating:
    """A game against rotated noise whose attacker learns each model's rotation first.

    Attributes
    ----------
    game : NoiseGame
        Its release has rotated noise; solver and steps are known to the attacker.
    pairs : tuple of int
        Numbers of pairs of noise and picture. The same pairs, the first of the bank, teach the
        rotation and are judged.
    """

    game: NoiseGame
    pairs: tuple[int, ...] = (100, 300)

    def __post_init__(self):
        told = self.game.release
        if told.noise != "rotated" or self.game.believed is not None:
            raise ValueError(f"release={told} and believed={self.game.believed}: there is a "
                             "rotation to learn under noise='rotated' and believed=None")
        if not self.pairs or min(self.pairs) < 2 or max(self.pairs) > self.game.noises:
            raise ValueError(f"pairs={self.pairs} must lie in 2..{self.game.noises}, the noises "
                             "there are")


def _play(case: Unrotating, store: Store, device: str):
    game, spent, models = case.game, {}, []
    for family in game.families:
        found, seconds = fitted(family, store, device)
        models, spent = [*models, found], spent | seconds
    began, helper = time.process_time(), noise_games.tools(game)
    theirs, options = game.families[2:], {"solver": game.release.solver,
                                          "steps": game.release.steps}
    bank = noise(range(game.noises), shape(theirs[0])).reshape(game.noises, -1)
    turned = [samples(family, game.release, game.noises, store, device).astype(np.float32)
              for family in game.families]
    straight = [samples(family, replace(game.release, noise="bank"), game.noises, store,
                        device).astype(np.float32) for family in theirs]
    fold, count = game.fold, game.shadows.count

    def of(shown, keep):
        """Evidence by attack and number of pairs, and distances, of one model's pictures."""
        linear = linear_part(bank, np.mean([part[keep].mean(0) for part in straight], axis=0))
        starts = [(bank[:m] @ learnt_rotation(bank[:m], shown[:m], linear)).astype(np.float32)
                  for m in case.pairs]
        drawn = [_released(release.draw(part.take(np.flatnonzero(keep)), family,
                                        np.concatenate(starts), device, **options), family)
                 for part, family in zip(models[2:], theirs, strict=True)]
        found, first = {}, 0
        for m in case.pairs:
            a, b = (part[:, first : first + m] for part in drawn)
            for name in ATTACKS:
                found[name, m] = evidence(name, shown[None, :m], a, b, helper)[0]
            found["distance", m] = [np.abs(shown[:m] - part).mean() for part in (a, b)]
            first += m
        return found

    everyone, held = np.ones(count, bool), None
    mine = [[of(one, everyone) for one in part] for part in turned[:2]]
    if fold is not None and count >= FEWEST:
        held = [[of(one, fold != fold[i]) for i, one in enumerate(part)] for part in turned[2:]]
    arrays = {f"right/{name}": np.concatenate([answers(
        _stacked(mine, name, m), None if held is None else tuple(_stacked(held, name, m)), fold,
        (m,), 1, game.seed).right for m in case.pairs]) for name in ATTACKS}
    far = np.array([_stacked(mine, "distance", m) for m in case.pairs], np.float32)
    arrays["distance"] = np.stack([far[:, world, :, world] for world in (0, 1)], axis=1)
    own = time.process_time() - began
    record = {
        "trained": spent,
        "cost": {"seconds": round(own + sum(spent.values()), 2), "peak_mb": peak_mb()},
        "recompute": {"function": "helpers.hiding:recompute", "arguments": {"case": asdict(case)}},
        "tolerance": {"mean_abs": 0.1},
        "stage": "rotation learnt", "version": VERSION, "modules": list(MODULES),
        "fingerprint": fingerprint(MODULES), "torch": torch.__version__, "device": device,
    }
    return record, arrays


def _stacked(found, name: str, m: int) -> np.ndarray:
    """One entry of both worlds' models, [2, models, ...]."""
    return np.array([[one[name, m] for one in part] for part in found])


def _released(drawn: np.ndarray, family) -> np.ndarray:
    """Drawn records as `helpers.release` shows them, float32."""
    if len(shape(family)) == 1:
        return drawn
    return np.rint((np.clip(drawn, -1, 1) + 1) * np.float32(127.5))


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Play a published case again from nothing, in a temporary store; returns its arrays."""
    told = arguments["case"]
    case = Unrotating(noise_games._game(told["game"]), tuple(told["pairs"]))
    with tempfile.TemporaryDirectory() as folder:
        return _play(case, Store(Path(folder)), device)[1]


def _job(job) -> None:
    case, key, root, results, publish, device = job
    store = Store(root, results, publish)
    store.once(key, lambda: _play(case, store, device), measurement=True)


def play(cases: Sequence[Unrotating], store: Store, *, device: str = "cpu", workers=None
         ) -> list[Outcome]:
    """Play what the store lacks; return all outcomes in order, `counts` being the pairs.

    Besides ``right/ATTACK`` of `ATTACKS` an outcome's arrays hold ``distance`` float32 [pairs, 2,
    victims]: mean absolute difference from what shadows of the same world make of the noises as
    learnt.

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small.
    """
    cases, workers = list(cases), 1 if device != "cpu" else workers
    keys = [make_key("rotation learnt", VERSION, case, data=table(case.game.victims.data).sha256,
                     device=device, dtype="float32") for case in cases]
    missing = {key: case for key, case in zip(keys, cases, strict=True) if store.get(key) is None}
    noise_games.check([case.game for case in missing.values()])
    denoiser_groups.train((family for case in missing.values() for family in case.game.families),
                          store, device=device, workers=workers)
    map_cells(_job, [(case, key, store.root, store.results, store.publish, device)
                     for key, case in missing.items()], workers=workers, label="rotations")
    return [Outcome(replace(case.game, attacks=ATTACKS, counts=case.pairs), entry.record,
                    entry.arrays) for case, entry in
            ((case, store.get(key)) for key, case in zip(keys, cases, strict=True))]


def best(outcome: Outcome, attacks: Sequence[str], count: int) -> str:
    """Name of the attack that is right most often on the victims, which favours the attacker."""
    return max(attacks, key=lambda name: outcome.right(name, count).mean())


def relative(mine: np.ndarray, base: np.ndarray, seed: int = 0) -> Interval:
    """Mean of `mine` over that of `base`, both [2, victims], paired over the victims' numbers.

    Where there are fewer of one, the first ones of the other are taken.
    """
    fewest = min(mine.shape[1], base.shape[1])
    both = np.stack([part[:, :fewest].T for part in (mine, base)], axis=1).astype(np.float64)
    return bootstrap(both, lambda v: float(v[:, 0].mean() / v[:, 1].mean()), seed=seed)


def epsilon(recipe: Small, n: int, delta: float) -> float:
    """Epsilon of a denoiser trained on `n` records with DP-SGD's noise, by Opacus's accountant.

    As in `helpers.shadow_dp` that of Poisson sampling. Batches here are drawn with replacement, so
    a record may come twice in one step and move it by more than ``dp_clip``: no guarantee.
    """
    if n < 1 or not 0 < delta < 1:
        raise ValueError(f"need n >= 1 records and 0 < delta < 1, got {n} and {delta}")
    if not recipe.dp_noise:
        return float("inf")
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(recipe.dp_noise, min(1.0, recipe.batch / n), recipe.steps)]
    return float(accountant.get_epsilon(delta))
