"""Training of diffusion networks: ``fit(cells) -> models``.

A :class:`Cell` says everything about one trained model; the store's key is made from it and from
the hash of the data.  Optimiser, schedule and averaging are the same for every objective: Adam with
a linear warm-up and then a constant rate, and an exponential average whose memory is a fixed share
of the steps made so far (the power-function average of Karras et al., 2024, eq. 3), so a snapshot
at step ``s`` is the model that a run of ``s`` steps would have given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from helpers import networks, objectives
from helpers.noise import torch_generator
from helpers.store import Store, make_key
from helpers.workers import map_cells, peak_mb

__all__ = ["Cell", "Model", "cell_key", "fit", "fitted", "held_out_loss", "train"]

VERSION = 1
MODULES = ("helpers.diffusion", "helpers.networks", "helpers.objectives", "helpers.noise")
EMA_POWER = 14.0  # half-life of about 5 % of the steps made so far


@dataclass(frozen=True)
class Cell:
    """One diffusion model.

    Attributes
    ----------
    dataset, size : str, int
        Training law (a name or a file, see :func:`helpers.laws.load`) and image side.
    n, half, subset_seed : int, int or None, int
        Training images: the first ``n`` of a fixed shuffle of one half of the set (0 or 1, which
        are disjoint) or of all of it (None).
    network, objective : str
        Names in :mod:`helpers.networks` and :mod:`helpers.objectives`.
    seed : int
        Seed of initial weights, batches and training noise.
    steps, batch, rate : int, int, float
        Adam steps, images a step, learning rate after ``warmup`` steps.
    snapshots : tuple of int
        Steps whose averaged weights are kept beside the last.
    until_copies : float or None
        Stop at the first snapshot at which this share of a probe set are copies.
    """

    dataset: str = "fashion16"
    size: int = 16
    n: int = 16384
    half: int | None = 0
    subset_seed: int = 0
    network: str = "unet-80k"
    objective: str = "edm"
    seed: int = 0
    steps: int = 2000
    batch: int = 64
    rate: float = 2e-3
    warmup: int = 100
    snapshots: tuple[int, ...] = ()
    until_copies: float | None = None

    def __post_init__(self):
        if self.network not in networks.CONFIGS:
            raise ValueError(
                f"unknown network {self.network!r}; known: {', '.join(networks.CONFIGS)}"
            )
        objectives.objective(self.objective)
        for name in ("n", "steps", "batch", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.warmup < 0 or not self.rate > 0:
            raise ValueError(f"need warmup >= 0 and rate > 0, got {self.warmup} and {self.rate}")
        if any(not 0 < s <= self.steps for s in self.snapshots):
            raise ValueError(f"snapshots must lie in 1..{self.steps}, got {self.snapshots}")

    @property
    def marks(self) -> tuple[int, ...]:
        """All steps at which weights are kept, in order."""
        return tuple(sorted({*self.snapshots, self.steps}))


@dataclass(frozen=True)
class Model:
    """A trained model: averaged weights at each mark and the record of its training."""

    cell: Cell
    channels: int
    weights: dict[int, dict[str, np.ndarray]]
    record: dict

    def denoiser(self, step: int | None = None, device: str = "cpu"):
        """Return ``D(x, sigma)`` of the last (or the given) snapshot."""
        network = networks.build(self.cell.network, self.channels, self.cell.size, self.cell.seed)
        chosen = self.weights[max(self.weights) if step is None else step]
        network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in chosen.items()})
        return objectives.denoiser(network.to(device), self.cell.objective)


def cell_key(cell: Cell, data_sha256: str, device: str = "cpu", looks: dict | None = None) -> str:
    """Return the store key of a cell's weights; CPU and CUDA weights are kept apart.

    ``looks`` says what decides the end of a run that waits for copying: bank, plan and probes.
    """
    context = {"data": data_sha256, "device": device, "dtype": "float32"}
    return make_key("weights", VERSION, cell, **context, **({"looks": looks} if looks else {}))


def _batches(cell: Cell, count: int):
    """Yield index batches: uniform draws with replacement from the cell's own stream."""
    source = torch_generator("batches", cell.seed)
    while True:
        yield torch.randint(count, (cell.batch,), generator=source)


def _levels(cell: Cell, source: torch.Generator) -> torch.Tensor:
    """Draw uniform numbers spread evenly over the batch (Kingma et al., 2021, appendix I.1)."""
    offset = torch.rand(1, generator=source, dtype=torch.float64)
    spread = (offset + torch.arange(cell.batch, dtype=torch.float64) / cell.batch) % 1.0
    return spread.clamp(1e-6, 1 - 1e-6).to(torch.float32)


def train(
    cell: Cell,
    clean: torch.Tensor,
    device: str = "cpu",
    stop: Callable[[int, Callable], bool] | None = None,
) -> tuple[dict[int, dict[str, np.ndarray]], dict]:
    """Train one network.

    Parameters
    ----------
    cell : Cell
    clean : Tensor, float32, shape [n, C, H, W]
        The cell's training images in [-1, 1].
    device : str
    stop : callable, optional
        ``(step, denoiser) -> bool`` at each mark; True ends the run there.

    Returns
    -------
    weights : dict of step to dict of float32 arrays
    record : dict
        ``steps_made``, ``stopped``, ``losses`` (training loss, mean over tenths of the run),
        ``parameters`` and ``cost`` (``seconds`` of one core, on CUDA of the clock; ``peak_mb``).

    Raises
    ------
    FloatingPointError
        When the loss stops being finite; names the step and the rate.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    network = networks.build(cell.network, clean.shape[1], cell.size, cell.seed).to(device)
    clean = clean.to(device)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    live = [v for k, v in network.state_dict().items()]
    parameters = list(network.parameters())
    adam = torch.optim.Adam(parameters, lr=cell.rate, betas=(0.9, 0.99), fused=True)
    source, draws = torch_generator("training", cell.seed), _batches(cell, len(clean))
    weights, losses, stopped = {}, [], False
    for step in range(1, cell.steps + 1):
        for group in adam.param_groups:
            group["lr"] = cell.rate * min(1.0, step / max(1, cell.warmup))
        picked = clean[next(draws).to(device)]
        epsilon = torch.randn(picked.shape, generator=source).to(device)
        level = _levels(cell, source).to(device)
        adam.zero_grad(set_to_none=True)
        value = objectives.loss(network, cell.objective, picked, epsilon, level).mean()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        adam.step()
        losses.append(value.detach())
        keep = (1 - 1 / step) ** EMA_POWER
        torch._foreach_lerp_(list(average.values()), live, 1 - keep)
        if step in cell.marks:
            if not torch.isfinite(torch.stack(losses[-100:])).all():
                raise FloatingPointError(
                    f"training loss is not finite at step {step} of {cell}; lower rate={cell.rate}"
                )
            weights[step] = {k: v.cpu().numpy().copy() for k, v in average.items()}
            if stop is not None:
                held = networks.build(cell.network, clean.shape[1], cell.size, cell.seed)
                held.load_state_dict(average)
                stopped = stop(step, objectives.denoiser(held.to(device), cell.objective))
                if stopped:
                    break
    curve = torch.stack(losses).cpu().numpy()
    tenths = [float(part.mean()) for part in np.array_split(curve, min(10, len(curve)))]
    record = {
        "steps_made": step,
        "stopped": bool(stopped),
        "losses": tenths,
        "parameters": networks.parameter_count(network),
        "cost": {
            "seconds": round(clock() - began, 2),
            "peak_mb": peak_mb(),
        },
    }
    return weights, record


@torch.no_grad()
def held_out_loss(denoiser, clean: torch.Tensor, levels: int = 16, batch: int = 128) -> dict:
    """Denoising loss on fixed images, noises and noise levels, comparable across objectives.

    Parameters
    ----------
    denoiser : callable
    clean : Tensor, float32, shape [n, C, H, W]
        Images that the model was not trained on, in [-1, 1].
    levels : int
        Quantiles of EDM's training distribution of sigma at which the loss is taken.

    Returns
    -------
    dict
        ``loss``: mean EDM-weighted loss; ``sigmas``; ``mse``: unweighted loss at each sigma.
    """
    edm = objectives.objective("edm")
    sigmas = edm.draw((torch.arange(levels, dtype=torch.float64) + 0.5) / levels)
    source = torch_generator("held-out", levels)
    epsilon = torch.randn(clean.shape, generator=source).to(clean.device)
    errors = torch.zeros(levels, dtype=torch.float64)
    for i, sigma in enumerate(sigmas):
        for first in range(0, len(clean), batch):
            x = clean[first : first + batch]
            noisy = x + float(sigma) * epsilon[first : first + batch]
            errors[i] += (denoiser(noisy, sigma) - x).square().mean((1, 2, 3)).double().sum().cpu()
    errors /= len(clean)
    return {
        "loss": float((edm.weight(sigmas) * errors).mean()),
        "sigmas": sigmas.tolist(),
        "mse": errors.tolist(),
    }


def fitted(cell: Cell, clean, sha256: str, store: Store, device: str = "cpu", stop=None,
           looks: dict | None = None) -> Model:
    """Return one model, trained now unless the store holds it.

    Parameters
    ----------
    cell : Cell
    clean : ndarray, float32, shape [n, C, H, W]
        Its training images in [-1, 1].
    sha256 : str
        Hash of the data set they come from.
    store : helpers.store.Store
    device : str
    stop : callable, optional
        See :func:`train`; a cell with ``until_copies`` needs it.
    looks : dict, optional
        What ``stop`` looks at; part of the key.

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        When ``until_copies`` is set and nothing looks for copies.
    """
    if cell.until_copies is not None and stop is None:
        raise ValueError(
            f"until_copies={cell.until_copies} needs pictures at every mark: use maps.run"
        )

    def compute():
        weights, record = train(cell, torch.from_numpy(clean), device, stop)
        arrays = {f"{s}/{k}": v for s, state in weights.items() for k, v in state.items()}
        return record | {"cell": asdict(cell), "channels": int(clean.shape[1])}, arrays

    return load(cell, store.once(cell_key(cell, sha256, device, looks), compute))


def _fit_one(job) -> None:
    cell, clean, sha256, root, device = job
    fitted(cell, clean, sha256, Store(root), device)


def fit(cells, data, store: Store, *, device: str = "cpu", workers=None) -> list[Model]:
    """Train the cells that the store does not hold, several at a time, and return all models.

    Parameters
    ----------
    cells : sequence of Cell
    data : sequence of (ndarray float32 [n, C, H, W], str)
        Each cell's training images in [-1, 1] and the SHA-256 of its data.
    store : helpers.store.Store
        Weights are kept under its root, never among published results.
    device, workers : str, int or None

    Returns
    -------
    list of Model
    """
    jobs = [(c, x, h, store.root, device) for c, (x, h) in zip(cells, data, strict=True)]
    map_cells(_fit_one, jobs, workers=workers, label="training")
    return [fitted(c, x, h, store, device) for c, (x, h) in zip(cells, data, strict=True)]


def load(cell: Cell, entry) -> Model:
    """Rebuild a model from its store entry."""
    weights: dict[int, dict[str, np.ndarray]] = {}
    for name, array in entry.arrays.items():
        step, parameter = name.split("/", 1)
        weights.setdefault(int(step), {})[parameter] = array
    return Model(cell, entry.record["channels"], weights, entry.record)
