"""Many small denoisers at once: ``fit(recipe, records, index, seeds) -> Denoisers``.

Every model is a perceptron ``F(x, c_noise)`` under the preconditionings of `helpers.objectives`.
Weights are stacked over models, products are batched and the backward pass is written by hand, so
that one optimiser step serves all models of a chunk.  All objectives that weigh the error of ``D``
by ``1 / c_out^2`` are plain squared errors of ``F``, which is what is minimised.

A model's initial weights, batches and noises come from named streams of its own seed, so it is the
same model whoever is trained beside it, up to rounding.  The averaged weights are those of
`helpers.diffusion`: an exponential average over a fixed share of the steps made so far.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from helpers import objectives, workers
from helpers.noise import torch_generator
from helpers.sampling import sample
from helpers.workers import peak_mb

__all__ = ["Denoisers", "Small", "draw", "fit"]

FREQUENCIES = 0.5 * 2.0 ** torch.arange(-2, 6)  # of c_noise, as in the perceptron of `networks`
EMA_POWER = 14.0
STABLE = 1e-6


@dataclass(frozen=True)
class Small:
    """How a stacked denoiser is trained.

    Attributes
    ----------
    hidden : tuple of int
        Units of the hidden layers (SiLU).
    objective : str
        A name in `helpers.objectives.OBJECTIVES`.
    steps, batch, rate, warmup : int, int, float, int
        Adam steps, records a step, learning rate after a linear warm-up; the rate falls linearly
        to a tenth over the run.
    dp_noise, dp_clip : float
        DP-SGD's noise multiplier (0: off) and the norm that each record's gradient is clipped to.
        Each record meets one noise and one level a step.
    chunk : int
        Models trained together; the last chunk is filled up, so it costs as much as a full one.
    """

    hidden: tuple[int, ...] = (256, 256)
    objective: str = "edm"
    steps: int = 2000
    batch: int = 128
    rate: float = 2e-3
    warmup: int = 100
    dp_noise: float = 0.0
    dp_clip: float = 1.0
    chunk: int = 16

    def __post_init__(self):
        objectives.objective(self.objective)
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden={self.hidden}: need at least one layer of at least one unit")
        for name in ("steps", "batch", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.warmup < 0 or not 0 < self.rate < np.inf or not 0 < self.dp_clip < np.inf:
            raise ValueError(f"need warmup >= 0 and finite, positive rate and dp_clip, got "
                             f"{self.warmup}, {self.rate} and {self.dp_clip}")
        if not 0 <= self.dp_noise < np.inf:
            raise ValueError(f"dp_noise must be finite and at least 0, got {self.dp_noise}")


@dataclass(frozen=True)
class Denoisers:
    """Trained denoisers.

    Attributes
    ----------
    recipe : Small
    layers : tuple of (ndarray [M, in, out], ndarray [M, 1, out])
        Averaged weights and biases, float32.
    record : dict
        ``models``, ``records`` (of each), ``parameters`` (of one), ``losses`` (mean over tenths of
        the run), ``cost`` (``seconds`` of one core, on CUDA of the clock; ``peak_mb``).
    """

    recipe: Small
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    record: dict

    def __len__(self) -> int:
        return len(self.layers[0][0])

    def take(self, models) -> Denoisers:
        """Return some of the models (a slice or an index array)."""
        return Denoisers(self.recipe, tuple((w[models], b[models]) for w, b in self.layers),
                         self.record)

    def denoiser(self, device: str = "cpu"):
        """Return ``D(x [M, n, d], sigma) -> [M, n, d]`` in the dtype of ``x``."""
        layers = [tuple(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in pair)
                  for pair in self.layers]
        parts = objectives.objective(self.recipe.objective).coefficients

        def call(x, sigma):
            level = torch.as_tensor(float(sigma), dtype=torch.float64)
            c = parts(level)
            angle = c.noise * FREQUENCIES.double()
            ends = torch.cat([angle.sin(), angle.cos()]).to(device, torch.float32)
            h = torch.cat([(c.scale * x).to(torch.float32),
                           ends.expand(*x.shape[:2], -1)], 2)
            for i, (weight, bias) in enumerate(layers):
                h = torch.baddbmm(bias, h, weight)
                h = torch.nn.functional.silu(h) if i + 1 < len(layers) else h
            return c.skip * x + c.out * h.to(x.dtype)

        return call


class _Stack:
    """Weights of the models of one chunk, their gradients, optimiser and average."""

    def __init__(self, recipe: Small, size: int, seeds, device: str):
        self.recipe, self.models = recipe, len(seeds)
        widths = (size + 2 * len(FREQUENCIES), *recipe.hidden, size)
        self.shapes = list(zip(widths[:-1], widths[1:], strict=True))
        total = self.models * sum(a * b + b for a, b in self.shapes)
        self.flat = torch.nn.Parameter(torch.zeros(total, device=device))
        self.flat.grad = torch.zeros(total, device=device)
        self.average = torch.zeros(total, device=device)
        self.layers, self.grads = self._views(self.flat.data), self._views(self.flat.grad)
        for member, seed in enumerate(seeds):
            source = torch_generator("denoiser-init", seed)
            for weight, bias in self.layers[:-1]:  # the last layer starts at zero
                bound = weight.shape[1] ** -0.5
                for part in (weight[member], bias[member]):
                    part.copy_((2 * torch.rand(part.shape, generator=source) - 1) * bound)
        self.average.copy_(self.flat.data)
        self.adam = torch.optim.Adam([self.flat], lr=recipe.rate, betas=(0.9, 0.99), fused=True)

    def _views(self, flat):
        views, first = [], 0
        for a, b in self.shapes:
            weight = flat[first : first + self.models * a * b].view(self.models, a, b)
            first += weight.numel()
            bias = flat[first : first + self.models * b].view(self.models, 1, b)
            first += bias.numel()
            views.append((weight, bias))
        return views

    def gradients(self, inputs, target) -> torch.Tensor:
        """Fill the gradient of the mean squared error of F; returns each model's loss [M]."""
        outputs, gates, h = [inputs], [], inputs
        for i, (weight, bias) in enumerate(self.layers):
            z = torch.baddbmm(bias, h, weight)
            if i + 1 < len(self.layers):
                gates.append(z)
                h = torch.nn.functional.silu(z)
                outputs.append(h)
        delta = z.sub_(target)
        losses = delta.square().mean((1, 2))
        delta.mul_(2 / (delta.shape[2] * (1 if self.recipe.dp_noise else delta.shape[1])))
        deltas = [delta]
        for i in range(len(self.layers) - 1, 0, -1):
            below = torch.bmm(deltas[0], self.layers[i][0].transpose(1, 2))
            deltas.insert(0, torch.ops.aten.silu_backward(below, gates[i - 1]))
        if self.recipe.dp_noise:
            self._clip(outputs, deltas)
        for (weight, bias), h, delta in zip(self.grads, outputs, deltas, strict=True):
            torch.bmm(h.transpose(1, 2), delta, out=weight)
            torch.sum(delta, 1, keepdim=True, out=bias)
        return losses

    def _clip(self, outputs, deltas) -> None:
        """Scale every record's deltas so that its gradient's norm is at most ``dp_clip``."""
        total = sum((h.square().sum(2) + 1) * d.square().sum(2)
                    for h, d in zip(outputs, deltas, strict=True))
        factor = (self.recipe.dp_clip / (total.sqrt() + STABLE)).clamp_(max=1.0)
        for delta in deltas:
            delta.mul_(factor[..., None])

    def blur(self, sources, batch: int) -> None:
        """Add DP-SGD's noise to the summed gradient and divide by the batch size."""
        spread = self.recipe.dp_noise * self.recipe.dp_clip
        for member, source in enumerate(sources):
            for pair in self.grads:
                for part in pair:
                    noise = torch.randn(part[member].shape, generator=source)
                    part[member].add_(noise.to(part.device), alpha=spread)
        self.flat.grad.div_(batch)

    def update(self, step: int) -> None:
        """One Adam step and one of the average."""
        recipe = self.recipe
        fall = 1 - 0.9 * step / recipe.steps
        for group in self.adam.param_groups:
            group["lr"] = recipe.rate * min(step / max(1, recipe.warmup), 1.0) * fall
        self.adam.step()
        self.average.lerp_(self.flat.data, 1 - (1 - 1 / step) ** EMA_POWER)

    def state(self):
        """Copy the averaged weights."""
        return [tuple(part.cpu().numpy().copy() for part in pair)
                for pair in self._views(self.average)]


def _levels(batch: int, source: torch.Generator) -> torch.Tensor:
    """Uniform numbers spread evenly over the batch, as in `helpers.diffusion`."""
    offset = torch.rand(1, generator=source, dtype=torch.float64)
    spread = (offset + torch.arange(batch, dtype=torch.float64) / batch) % 1.0
    return spread.clamp(1e-6, 1 - 1e-6).to(torch.float32)


class _Draws:
    """Batches, noises and noise levels of the models of one chunk, each from its own streams."""

    def __init__(self, recipe: Small, pool: torch.Tensor, index: np.ndarray, seeds):
        self.recipe, self.pool = recipe, pool
        self.index = torch.from_numpy(index.astype(np.int64))
        self.objective = objectives.objective(recipe.objective)
        names = ("denoiser-batches", "denoiser-noise", "denoiser-private")
        self.batches, self.noises, self.private = (
            [torch_generator(name, seed) for seed in seeds] for name in names)
        models, size = len(seeds), pool.shape[1]
        self.rows = torch.empty(models, recipe.batch, dtype=torch.int64)
        self.epsilon = torch.empty(models, recipe.batch, size)
        self.level = torch.empty(models, recipe.batch)

    def batch(self):
        """Return the network's inputs [M, b, d + 16] and targets [M, b, d] of the next step."""
        for member, (batches, noises) in enumerate(zip(self.batches, self.noises, strict=True)):
            places = torch.randint(self.index.shape[1], (self.recipe.batch,), generator=batches)
            self.rows[member] = self.index[member][places]
            torch.randn(self.epsilon.shape[1:], generator=noises, out=self.epsilon[member])
            self.level[member] = _levels(self.recipe.batch, noises)
        device = self.pool.device
        clean = self.pool[self.rows.to(device)]
        sigma = self.objective.draw(self.level.to(device))
        c = self.objective.coefficients(sigma)
        noisy = torch.addcmul(clean, sigma[..., None], self.epsilon.to(device))
        angle = c.noise[..., None] * FREQUENCIES.to(device)
        target = (clean - c.skip[..., None] * noisy).div_(c.out[..., None])
        return torch.cat([c.scale[..., None] * noisy, angle.sin(), angle.cos()], 2), target


def fit(recipe: Small, records: np.ndarray, index: np.ndarray, seeds, device: str = "cpu",
        progress: bool | None = None) -> Denoisers:
    """Train one denoiser for each row of `index`.

    Parameters
    ----------
    recipe : Small
    records : ndarray, float32, shape [R, d]
        The pool, about [-1, 1].
    index : ndarray of int, shape [M, n]
        The records that each model trains on.
    seeds : sequence of int, length M
    device : str
    progress : bool, optional
        As in `helpers.workers.map_cells`; by default no bar in its worker processes.

    Returns
    -------
    Denoisers

    Raises
    ------
    ValueError
        When the arguments do not fit together, or a record is not finite.
    FloatingPointError
        When training diverges; names the model and the step.
    """
    records, index, seeds = _checked(records, index, seeds)
    clock = time.process_time if device == "cpu" else time.perf_counter
    began, pool = clock(), torch.tensor(records, device=device)
    chunks = [np.arange(first, min(first + recipe.chunk, len(index)))
              for first in range(0, len(index), recipe.chunk)]
    shown = False if progress is None and workers._in_worker else progress
    layers, curves, marks = [], [], max(1, recipe.steps // 10)
    with workers._Bar("denoisers", [1.0] * (10 * len(chunks)), shown) as bar, torch.no_grad(), (
            workers._one_thread() if device == "cpu" else nullcontext()):
        for members in chunks:
            padded = np.resize(members, recipe.chunk)  # equal sizes, so equal rounding
            stack = _Stack(recipe, records.shape[1], seeds[padded], device)
            draws, losses = _Draws(recipe, pool, index[padded], seeds[padded]), []
            for step in range(1, recipe.steps + 1):
                losses.append(stack.gradients(*draws.batch()))
                if recipe.dp_noise:
                    stack.blur(draws.private, recipe.batch)
                stack.update(step)
                if step % marks == 0 or step == recipe.steps:
                    _finite(losses[-1], members, step, recipe)
                    bar.tick(min(bar.done, 10 * len(chunks) - 1))
            layers.append([tuple(part[: len(members)] for part in pair) for pair in stack.state()])
            curves.append(torch.stack(losses).cpu().numpy()[:, : len(members)])
    joined = tuple(tuple(np.concatenate([chunk[i][k] for chunk in layers]) for k in (0, 1))
                   for i in range(len(layers[0])))
    curve = np.concatenate(curves, 1).mean(1)
    return Denoisers(recipe, joined, {
        "models": len(index), "records": index.shape[1],
        "parameters": sum(part[0].size for pair in joined for part in pair),
        "losses": [float(part.mean()) for part in np.array_split(curve, min(10, len(curve)))],
        "cost": {"seconds": round(clock() - began, 2), "peak_mb": peak_mb()},
    })


def _finite(losses: torch.Tensor, members, step: int, recipe: Small) -> None:
    bad = ~torch.isfinite(losses).cpu().numpy()[: len(members)]
    if bad.any():
        raise FloatingPointError(
            f"training of model {int(members[bad.argmax()])} diverged before step {step} of "
            f"{recipe.steps}; lower rate={recipe.rate}")


def _checked(records, index, seeds):
    records, index, seeds = np.asarray(records), np.asarray(index), np.asarray(seeds)
    if records.ndim != 2 or records.dtype != np.float32 or not records.size:
        raise ValueError(f"records {records.dtype} {records.shape}: need float32 [R, d]")
    if index.ndim != 2 or not index.size or index.dtype.kind not in "iu":
        raise ValueError(f"index {index.dtype} {index.shape}: need integers [models, records]")
    if index.min() < 0 or index.max() >= len(records):
        raise ValueError(f"index runs from {index.min()} to {index.max()}, the pool has records "
                         f"0..{len(records) - 1}")
    if seeds.shape != index.shape[:1] or seeds.dtype.kind not in "iu":
        raise ValueError(f"seeds {seeds.dtype} {seeds.shape}: need one integer for each of "
                         f"{len(index)} models")
    if not np.isfinite(records[np.unique(index)]).all():
        raise ValueError("records hold NaN or infinity; fill or drop them first")
    return records, index, seeds


@torch.no_grad()
def draw(models: Denoisers, epsilon: np.ndarray, device: str = "cpu", **options) -> np.ndarray:
    """Return the records that every model makes of its noises.

    Parameters
    ----------
    models : Denoisers
    epsilon : ndarray, float32, shape [n, d] or [M, n, d]
        Standard normal noises, the same for all models or each model's own.
    device : str
    **options
        ``solver``, ``steps``, ``injected`` (step -> [n, d] or [M, n, d]) of
        :func:`helpers.sampling.sample`.

    Returns
    -------
    ndarray, float32, shape [M, n, d]
    """
    start = torch.from_numpy(epsilon).to(device)
    start = start.expand(len(models), *start.shape[-2:])
    with workers._one_thread() if device == "cpu" else nullcontext():
        return sample(models.denoiser(device), start, **options).to(torch.float32).cpu().numpy()
