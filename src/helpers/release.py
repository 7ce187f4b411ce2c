"""What a diffusion model releases: its samples of the noise bank, or of noise of its own.

A `Release` holds everything between the trained denoiser and what an adversary sees; a defence is a
Release with a secret. Samples of a block of models stay in the working store.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from helpers import denoiser_stack, readers, sampling
from helpers.denoiser_groups import Family, Nets, blocks, fitted, key_of, shape
from helpers.noise import generator, noise
from helpers.store import Store, make_key
from helpers.workers import map_cells

__all__ = ["NOISES", "Release", "draw", "samples", "train"]

VERSION = 1
NOISES = {
    "bank": "the published noise bank, the same for every model",
    "own": "noises of the model's own: fresh ones, or seeds that were hashed with a secret",
    "rotated": "the bank, turned by the model's own secret orthogonal matrix",
    "zero": "one start, all zeros, which no rotation changes",
}
BATCH = 32  # noises that a network is asked at a time
TRIES = 12  # noises that steering may go through for one sample


@dataclass(frozen=True)
class Release:
    """How a model's samples are made and what is done to them.

    Attributes
    ----------
    noise : str
        A name in `NOISES`.
    solver, steps : str, int
        As for :func:`helpers.sampling.sample`; the noises that ``ancestral`` injects are the
        model's own secret.
    levels : int
        Grey levels a channel that are shown (2 to 256).
    blur : float
        Standard deviation of secret noise added to every value, in grey levels of 0..255.
    steer : float or None
        Share of samples with the property, made up in advance noise by noise: a sample that turns
        out otherwise is drawn anew from the next noise of a public list, as a plug-in sampler does
        that sets the released share (the aim of Hu and Pang, 2023).
    """

    noise: str = "bank"
    solver: str = "heun"
    steps: int = 18
    levels: int = 256
    blur: float = 0.0
    steer: float | None = None

    def __post_init__(self):
        if self.noise not in NOISES:
            raise ValueError(f"unknown noise {self.noise!r}; known: {', '.join(NOISES)}")
        sampling.nfe(self.solver, self.steps)
        sampling.sigma_grid(self.steps)
        if not 2 <= self.levels <= 256 or not 0 <= self.blur < 256:
            raise ValueError(f"levels={self.levels} must be 2 to 256 and blur={self.blur} 0 to 255")
        if self.steer is not None and not 0 <= self.steer <= 1:
            raise ValueError(f"steer={self.steer} must be a share from 0 to 1")
        if self.noise == "zero" and (self.steer is not None or self.solver == "ancestral"):
            raise ValueError("noise='zero' is one start: it takes no steer and no solver that "
                             f"injects noise, got steer={self.steer}, solver={self.solver!r}")


def draw(models, family: Family, epsilon: np.ndarray, device: str = "cpu", **options
         ) -> np.ndarray:
    """Return the records that each model makes of its noises.

    Parameters
    ----------
    models : Denoisers or Nets
        Of :func:`helpers.denoiser_groups.fitted`.
    family : Family
    epsilon : ndarray, float32, shape [n, d] or [M, n, d]
    **options
        ``solver``, ``steps``, ``injected`` of :func:`helpers.sampling.sample`.

    Returns
    -------
    ndarray, float32, shape [M, n, d]
    """
    if not isinstance(models, Nets):
        return denoiser_stack.draw(models, epsilon, device, **options)
    injected, drawn = options.pop("injected", None), []
    for member, model in enumerate(models.members):
        start = epsilon if epsilon.ndim == 2 else epsilon[member]
        own = {} if injected is None else {"injected": lambda step, member=member: (
            injected(step) if injected(step).ndim == 2 else injected(step)[member]).reshape(
                -1, *shape(family))}
        start = torch.from_numpy(start.reshape(-1, *shape(family))).to(device)
        drawn.append(sampling.sample_in_batches(model.denoiser(device=device), start, BATCH,
                                                **options, **own).flatten(1))
    return torch.stack(drawn).to(torch.float32).numpy()


def _starts(family: Family, release: Release, first: int, count: int) -> np.ndarray:
    """Starting noises [n, d], or [M, n, d] where each model has its own."""
    of = shape(family)
    if release.noise == "zero":
        return np.zeros((1, int(np.prod(of))), np.float32)
    if release.noise == "own":
        parts = round(family.ratio * 1e6)
        return np.stack([noise(range(first, first + count), of, _secret(family, parts, i), "own")
                         .reshape(count, -1) for i in family.numbers])
    bank = noise(range(first, first + count), of).reshape(count, -1)
    if release.noise == "bank":
        return bank
    turned = []
    for i in family.numbers:
        stream = generator("rotation", family.party, round(family.ratio * 1e6), i)
        q, r = np.linalg.qr(stream.standard_normal((bank.shape[1],) * 2))
        turned.append((bank @ (q * np.sign(np.diag(r))).T).astype(np.float32))
    return np.stack(turned)


def _secret(family: Family, parts: int, number: int) -> int:
    return (parts * 10_000 + number) * 2 + family.party


def _drawn(models, family: Family, release: Release, first: int, count: int, device: str):
    options = {"solver": release.solver, "steps": release.steps}
    starts = _starts(family, release, first, count)
    if release.solver == "ancestral":
        of, parts = shape(family), round(family.ratio * 1e6)

        def injected(step):
            return torch.from_numpy(np.stack([
                noise(range(first, first + count), of, _secret(family, parts, i),
                      f"injected/{step}").reshape(count, -1) for i in family.numbers])).to(device)

        options["injected"] = injected
    return draw(models, family, starts, device, **options)


def _steered(models, family: Family, release: Release, count: int, device: str) -> np.ndarray:
    """Samples whose property follows a public list of labels; see `Release.steer`."""
    wanted = generator("steer").random(count) < release.steer
    reader = readers.reader(family.data, family.side, party=0)
    shown = None
    for attempt in range(TRIES):
        new = _drawn(models, family, release, attempt * count, count, device)
        if shown is None:
            shown, open_ = new, np.ones(new.shape[:2], bool)
        shown[open_] = new[open_]
        open_ &= (reader.probability(np.clip(shown, -1, 1)) > 0.5) != wanted  # as released
        if not open_.any():
            break
    return shown


def _released(block: Family, release: Release, count: int, store: Store, device: str):
    """The store's entry of a block's samples."""
    def compute():
        models, _ = fitted(block, store, device)
        shown = (_drawn(models, block, release, 0, count, device) if release.steer is None else
                 _steered(models, block, release, count, device))
        if not np.isfinite(shown).all():
            raise FloatingPointError(f"samples of {block} are not finite; the models diverged")
        if release.blur:
            stream = generator("blur", block.party, round(block.ratio * 1e6), block.first)
            scale = np.float32(release.blur / 127.5)
            shown = shown + scale * stream.standard_normal(shown.shape, np.float32)
        if block.side == 0 and len(shape(block)) == 1:
            return {}, {"samples": shown.astype(np.float16)}
        grey = np.rint((np.clip(shown, -1, 1) + 1) * 127.5).astype(np.uint8)
        if release.levels < 256:
            top = release.levels - 1
            grey = np.rint(np.rint(grey * (top / 255)) * (255 / top)).astype(np.uint8)
        return {}, {"samples": grey}

    key = make_key("released", VERSION, release, weights=key_of(block, device), count=count)
    return store.once(key, compute)


def samples(family: Family, release: Release, count: int, store: Store, device: str = "cpu"
            ) -> np.ndarray:
    """Return what a family's models release for noises 0 to `count` - 1.

    Returns
    -------
    ndarray, shape [models, count, d] (one noise under "zero")
        uint8 grey levels of pictures, float16 of a table.
    """
    parts = [_released(block, release, count, store, device).arrays["samples"]
             for block in blocks(family)]
    skip = family.first % family.recipe.chunk
    return np.concatenate(parts)[skip : skip + family.count]


def _job(job) -> None:
    block, release, count, root, device = job
    _released(block, release, count, Store(root), device)


def train(wanted, store: Store, *, device: str = "cpu", workers=None) -> None:
    """Make, in worker processes, samples of ``(family, release, count)`` that the store lacks."""
    jobs = list(dict.fromkeys(
        (block, release, count, store.root, device)
        for family, release, count in wanted for block in blocks(family)))
    jobs = [job for job in jobs if store.get(make_key(
        "released", VERSION, job[1], weights=key_of(job[0], device), count=job[2])) is None]
    map_cells(_job, jobs, workers=workers, label="samples")
