"""Published shadow samples: what many shadow diffusion models make of noises that anyone can have.

Diffusion models are trained at ratios from 0 to 1 on the adversary's part of fashion16 and their
samples of the first noises of the published bank are kept. Whoever owns a diffusion model samples
it from the same noises, and `helpers.noise_audit` compares; nothing has to be trained for that.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from helpers import denoiser_groups, release
from helpers.decisions import FEWEST
from helpers.denoiser_groups import Family, fitted
from helpers.denoiser_stack import Small
from helpers.groups import table
from helpers.project import UsageError
from helpers.release import Release, samples
from helpers.store import Entry, Store, fingerprint, make_key
from helpers.workers import peak_mb

__all__ = ["NoiseShadows", "key_of", "make", "read", "recompute"]

VERSION = 1
MODULES = ("helpers.noise_shadows", "helpers.release", "helpers.sampling",
           *denoiser_groups.MODULES)
RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.48, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
DRAWN = 1000  # noises that are sampled; other stages keep samples of as many


@dataclass(frozen=True)
class NoiseShadows:
    """Shadow diffusion models at several ratios, and the number of noises that they are asked.

    Attributes
    ----------
    family : Family
        Of the adversary, pictures; its own ratio is not used.
    ratios : tuple of float
        In increasing order.
    noises : int
        Of the bank, from number 0 on; 1 to `DRAWN`.
    """

    family: Family = Family(party=1, recipe=Small(hidden=(256, 256), batch=64, steps=2000, chunk=8),
                            n=2048, count=16)
    ratios: tuple[float, ...] = RATIOS
    noises: int = 200

    def __post_init__(self):
        if len(self.ratios) < 2 or tuple(sorted(set(self.ratios))) != self.ratios:
            raise ValueError(f"ratios={self.ratios} must be at least two different ones, in "
                             "increasing order")
        if not 1 <= self.noises <= DRAWN:
            raise ValueError(f"noises={self.noises} must be 1 to {DRAWN}")
        if self.family.party != 1 or self.family.count < FEWEST or self.family.side < 1:
            raise ValueError(f"party={self.family.party} must be 1 (adversary), count="
                             f"{self.family.count} at least {FEWEST} and side={self.family.side} "
                             "that of pictures")

    @property
    def families(self) -> list[Family]:
        """The models, one family a ratio; chapters that ask for the same share them."""
        return [replace(self.family, ratio=ratio) for ratio in self.ratios]


def key_of(shadows: NoiseShadows) -> str:
    """Return the store's key of the samples."""
    return make_key("noise shadows", VERSION, shadows, data=table(shadows.family.data).sha256,
                    drawn=DRAWN, device="cpu", dtype="uint8")


def read(shadows: NoiseShadows, store: Store) -> dict[float, np.ndarray]:
    """Return the published samples by ratio: grey levels, uint8 [count, noises, d].

    Raises
    ------
    UsageError
        When they have not been made; says how.
    """
    entry = store.get(key_of(shadows))
    if entry is None:
        raise UsageError(
            "no shadow samples are published here; `python -m helpers attack-diffusion "
            f"--make-shadows` trains them ({len(shadows.ratios) * shadows.family.count} models, "
            "some ten minutes on two cores)")
    return dict(zip(shadows.ratios, entry.arrays["samples"], strict=True))


def make(shadows: NoiseShadows, store: Store, *, workers: int | None = None) -> Entry:
    """Train the shadows that the store lacks and keep their samples, unless they are up to date.

    Samples that other code made are replaced.

    Returns
    -------
    Entry
        Array ``samples``, uint8 [ratios, count, noises, d].

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small.
    """
    key = key_of(shadows)
    entry = store.get(key)
    if entry is not None and entry.record["fingerprint"] == fingerprint(MODULES):
        return entry
    for family in shadows.families:
        denoiser_groups.check(family)
    denoiser_groups.train(shadows.families, store, workers=workers)
    release.train(((family, Release(), DRAWN) for family in shadows.families), store,
                  workers=workers)
    return store.put(key, *_samples(shadows, store, "cpu"), measurement=True)


def _samples(shadows: NoiseShadows, store: Store, device: str
             ) -> tuple[dict, dict[str, np.ndarray]]:
    spent = {}
    for family in shadows.families:
        spent |= fitted(family, store, device)[1]
    began = time.process_time()
    found = np.stack([samples(family, Release(), DRAWN, store, device)[:, : shadows.noises]
                      for family in shadows.families])
    own = time.process_time() - began
    record = {
        "trained": spent,
        "cost": {"seconds": round(own + sum(spent.values()), 2), "peak_mb": peak_mb()},
        "recompute": {"function": "helpers.noise_shadows:recompute",
                      "arguments": {"shadows": asdict(shadows)}},
        "tolerance": {"mean_abs": 3.0},
        "stage": "noise shadows", "version": VERSION, "modules": list(MODULES),
        "fingerprint": fingerprint(MODULES), "torch": torch.__version__, "device": device,
    }
    return record, {"samples": found}


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Train published shadows again from nothing, in a temporary store; returns the arrays."""
    told = dict(arguments["shadows"])
    shadows = NoiseShadows(**{**told, "family": denoiser_groups.rebuilt(told["family"]),
                              "ratios": tuple(told["ratios"])})
    with tempfile.TemporaryDirectory() as folder:
        return _samples(shadows, Store(Path(folder)), device)[1]
