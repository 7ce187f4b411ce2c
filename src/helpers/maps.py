"""The noise-to-image map of a model on the noise bank, through the store.

A trained network and a closed form are the same thing here: a denoiser, a solver and the bank give
images.  Only the images and a small record are kept (and published), so that every score,
descriptor and threshold can be recomputed without weights.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from helpers import diffusion, gaussians, laws, oracles, patches, scores
from helpers.datasets import to_uint8
from helpers.diffusion import Cell
from helpers.noise import Bank, noise
from helpers.sampling import sample_in_batches
from helpers.store import Store, fingerprint, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["Closed", "Map", "Plan", "Trial", "recompute", "run", "training_images"]

VERSION = 1
MODULES = (*diffusion.MODULES, "helpers.sampling", "helpers.maps", "helpers.laws")
ORACLE_MODULES = ("helpers.oracles", "helpers.patches", "helpers.gaussians")
PROBES = 256  # noises on which a run that waits for copying looks
PATCH_SIDES = (3, 5, 7, 9, 13, "whole")
HELD_OUT = 512  # held-out images behind a held-out loss; not more than there are noises


@dataclass(frozen=True)
class Plan:
    """How the bank is turned into images.

    Attributes
    ----------
    solver, steps : str, int
    injected : int or None
        Seed of the injected noise of a stochastic solver; equal seeds share it.
    batch : int
        Fixed batch of the sampler.
    raw : bool
        Keep the unclipped samples (float16) beside the uint8 images.
    """

    solver: str = "heun"
    steps: int = 18
    injected: int | None = None
    batch: int = 128
    raw: bool = False


@dataclass(frozen=True)
class Closed:
    """A training-free denoiser: ``empirical``, ``gaussian``, ``patches`` or ``mixture``."""

    kind: str
    dataset: str = "fashion16"
    size: int = 16
    n: int = 16384
    half: int | None = 0
    subset_seed: int = 0

    def __post_init__(self):
        if self.kind not in ("empirical", "gaussian", "patches", "mixture"):
            raise ValueError(f"unknown closed form {self.kind!r}")


@dataclass(frozen=True)
class Trial:
    """One model (a trained :class:`Cell` or a :class:`Closed` form), the bank and the plan."""

    model: Cell | Closed
    bank: Bank = Bank()
    plan: Plan = Plan()


@dataclass(frozen=True)
class Map:
    """Images of the bank's noises.

    Attributes
    ----------
    trial : Trial
    images : ndarray, uint8, shape [S, n, H, W, C]
        One block a mark (for a closed form S = 1), rounded and clipped to [0, 255].
    raw : ndarray or None, float16, shape [n, C, H, W]
        Unclipped samples of the last mark in [-1, 1] units, if the plan kept them.
    record : dict
        ``marks``, ``held_out`` and ``fitted`` losses at the last mark, ``off_range`` (share of
        pixels more than 15/255 outside the range before clipping), ``sampling_seconds`` (processor
        seconds for the bank), ``stopped``, ``cost``.
    computed : bool
        Whether this call computed it (False: read from the store).
    """

    trial: Trial
    images: np.ndarray
    raw: np.ndarray | None
    record: dict
    computed: bool = False

    @property
    def last(self) -> np.ndarray:
        """Images of the last mark, uint8 [n, H, W, C]."""
        return self.images[-1]


def training_images(model: Cell | Closed, store: Store | None = None):
    """Return the model's training images, held-out images and the hash of its data.

    Returns
    -------
    clean, held_out : ndarray, float32, shapes [n, C, H, W] and [m, C, H, W], in [-1, 1]
    sha256 : str
    """
    law = laws.load(model.dataset, model.size, store)
    return law.subset(model.n, model.subset_seed, model.half), law.held_out(HELD_OUT), law.sha256


def _injected(seed: int, bank: Bank, shape):
    """Return ``step -> noise`` for a stochastic solver, the same for every model of one seed."""
    indices = range(bank.first, bank.first + bank.count)

    def draw(step: int) -> torch.Tensor:
        return torch.from_numpy(noise(indices, shape, seed, f"injected/{step}"))

    return draw


def _images(denoiser, trial: Trial, shape, device: str, count: int | None = None) -> torch.Tensor:
    bank = trial.bank if count is None else replace(trial.bank, count=min(count, trial.bank.count))
    plan = trial.plan
    drawn = None if plan.injected is None else _injected(plan.injected, bank, shape)
    if drawn is not None and device != "cpu":
        cpu_draw = drawn

        def drawn(step):
            return cpu_draw(step).to(device)

    epsilon = torch.from_numpy(bank.noise(shape)).to(device)
    return sample_in_batches(
        denoiser, epsilon, plan.batch, solver=plan.solver, steps=plan.steps, injected=drawn
    )


def _closed(model: Closed, clean: np.ndarray, held_out: np.ndarray, store: Store, device: str):
    data = torch.from_numpy(clean).to(device)
    if model.kind == "empirical":
        return oracles.Empirical(data)
    if model.kind == "gaussian":
        return gaussians.Gaussian.fit(data)
    if model.kind == "mixture":
        law = laws.load(model.dataset, model.size, store).mixture  # small: it stays on the CPU
        return lambda x, sigma: law(x.cpu(), sigma).to(x.device)
    sigmas = np.geomspace(0.01, 80.0, 14)
    schedule = patches.Patches.calibrate(
        data[:1024], torch.from_numpy(held_out[:64]).to(device), sigmas, PATCH_SIDES, seed=0
    )
    return patches.Patches(data, schedule)


def _network(trial: Trial, clean, held_out, sha256, store: Store, device: str):
    """Train (or load) a network and sample it at every mark."""
    cell, shape = trial.model, clean.shape[1:]
    train_u8 = to_uint8(clean)

    def copied(step, denoiser) -> bool:
        drawn = to_uint8(_images(denoiser, trial, shape, device, PROBES).numpy())
        return bool(scores.copies(drawn, train_u8).mean() >= cell.until_copies)

    waits = cell.until_copies is not None
    looks = {"bank": trial.bank, "plan": trial.plan, "probes": PROBES} if waits else None
    model = diffusion.fitted(cell, clean, sha256, store, device, copied if waits else None, looks)
    marks = sorted(model.weights)
    began = time.process_time()
    drawn = [_images(model.denoiser(s, device), trial, shape, device) for s in marks]
    sampling = (time.process_time() - began) / len(marks)
    losses = _losses(model, clean, held_out[: trial.bank.count], sha256, store, device)
    kept = {k: model.record[k] for k in ("steps_made", "stopped", "losses", "parameters")}
    record = {"marks": marks, "training": model.record["cost"], **losses, **kept}
    return drawn, record | {"sampling_seconds": round(sampling, 3)}


def _losses(model, clean, held_out, sha256: str, store: Store, device: str) -> dict:
    """Denoising losses of a model on held-out and on its own images, computed once a model."""

    def compute():
        last = model.denoiser(None, device)
        parts = {"held_out": held_out, "fitted": clean[: len(held_out)]}
        found = {
            name: diffusion.held_out_loss(last, torch.from_numpy(part).to(device))
            for name, part in parts.items()
        }
        return found, {}

    key = make_key("losses", VERSION, model.cell, data=sha256, count=len(held_out), device=device)
    return store.once(key, compute).record


def _compute(trial: Trial, clean, held_out, sha256, store: Store, device: str):
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    if isinstance(trial.model, Cell):
        drawn, record = _network(trial, clean, held_out, sha256, store, device)
    else:
        denoiser = _closed(trial.model, clean, held_out, store, device)
        drawn, record = [_images(denoiser, trial, clean.shape[1:], device)], {"marks": [0]}
    arrays = {"images": np.stack([to_uint8(d.numpy()) for d in drawn])}
    if trial.plan.raw:
        arrays["raw"] = drawn[-1].numpy().astype(np.float16)
    seconds = clock() - began
    record |= {
        "off_range": float(((drawn[-1].abs() - 1) > 15 / 127.5).double().mean()),
        "cost": {
            "seconds": round(max(seconds, record.get("training", {}).get("seconds", 0)), 2),
            "peak_mb": peak_mb(),
        },
        "recompute": {"function": "helpers.maps:recompute", "arguments": _plain(trial)},
        "tolerance": {"agreement": 0.9 if isinstance(trial.model, Cell) else 0.99},
        "stage": "map",
        "version": VERSION,
        "modules": list(modules_of(trial)),
        "fingerprint": fingerprint(modules_of(trial)),
        "torch": torch.__version__,
        "device": device,
    }
    return record, arrays


def modules_of(trial: Trial) -> tuple[str, ...]:
    """Names of the modules whose code decides a trial's result."""
    return MODULES if isinstance(trial.model, Cell) else (*MODULES[3:], *ORACLE_MODULES)


def _plain(trial: Trial) -> dict:
    return {"type": type(trial.model).__name__, **asdict(trial)}


def _trial(plain: dict) -> Trial:
    model = dict(plain["model"])
    if "snapshots" in model:
        model["snapshots"] = tuple(model["snapshots"])
    kind = {"Cell": Cell, "Closed": Closed}[plain["type"]]
    return Trial(kind(**model), Bank(**plain["bank"]), Plan(**plain["plan"]))


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Recompute a published map from nothing, in a temporary store.

    Parameters
    ----------
    arguments : dict
        The record's ``recompute["arguments"]``.

    Returns
    -------
    dict of str to ndarray
        The arrays that the published entry holds.
    """
    import tempfile

    trial = _trial(arguments)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        return _compute(trial, *training_images(trial.model, store), store, device)[1]


def _job(job) -> None:
    trial, key, data, root, results, publish, device = job
    store = Store(root, results, publish)
    store.once(key, lambda: _compute(trial, *data, store, device), measurement=True)


def run(trials, store: Store, *, device: str = "cpu", workers=None) -> list[Map]:
    """Return the map of every trial, computing in parallel those that the store lacks.

    Parameters
    ----------
    trials : sequence of Trial
    store : helpers.store.Store
    device : {"cpu", "cuda"}
    workers : int, optional
        Local processes, one torch thread each; one on a CUDA device.

    Returns
    -------
    list of Map, in the order of ``trials``

    Raises
    ------
    helpers.images.DataError
        Before any training, when a data set has too few images for a trial.
    """
    trials = list(trials)
    data = [training_images(t.model, store) for t in trials]
    keys = [
        make_key("map", VERSION, t, data=d[2], device=device, dtype="float32")
        for t, d in zip(trials, data, strict=True)
    ]
    missing = {k: i for i, k in enumerate(keys) if store.get(k) is None}
    jobs = [
        (trials[i], k, data[i], store.root, store.results, store.publish, device)
        for k, i in missing.items()
    ]
    costs = [_expected(trials[i]) for i in missing.values()]
    workers = 1 if device != "cpu" else workers
    map_cells(_job, jobs, workers=workers, label="models", costs=costs)
    found = []
    for trial, key in zip(trials, keys, strict=True):
        entry = store.get(key)
        arrays = entry.arrays
        found.append(
            Map(trial, arrays["images"], arrays.get("raw"), entry.record, key in missing)
        )
    return found


def _expected(trial: Trial) -> float:
    """Relative cost of a trial, to start the longest first."""
    model = trial.model
    if isinstance(model, Closed):
        return 1e-3 * model.n * model.size**2 * (20 if model.kind == "patches" else 1)
    weight = {"unet-20k": 1, "unet-80k": 1.5, "unet-320k": 3.5, "mlp-900k": 0.3}
    return model.steps * weight.get(model.network, 5) * model.size**2
