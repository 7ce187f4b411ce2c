"""Deterministic and stochastic solvers of the probability-flow ODE on any ``denoiser(x, sigma)``.

In the frame of Karras et al. (2022, eq. 1 with s = 1) the ODE reads
``dx/dsigma = (x - D(x, sigma)) / sigma``.  The state is kept in float64; the denoiser casts to its
own precision.  One denoiser call on the batch counts as one function evaluation (NFE).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["SOLVERS", "nfe", "sample", "sample_in_batches", "sigma_grid"]

SOLVERS = ("euler", "heun", "dpmpp2m", "ancestral")


def sigma_grid(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0):
    """Noise levels of Karras et al. (2022, eq. 5), ending in 0.

    Returns
    -------
    Tensor, float64, shape [steps + 1]

    Raises
    ------
    ValueError
        Unless ``steps >= 1`` and ``0 < sigma_min < sigma_max``.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"need steps >= 1 and 0 < sigma_min < sigma_max, got {steps}, {sigma_min}, {sigma_max}"
        )
    ramp = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])


def nfe(solver: str, steps: int) -> int:
    """Number of denoiser calls that ``steps`` steps of a solver make."""
    _known(solver)
    return 2 * steps - 1 if solver == "heun" else steps


def _known(solver: str) -> None:
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; known: {', '.join(SOLVERS)}")


def _euler(denoiser, x, grid, _injected):
    """Euler's method; equal to DDIM without noise (Song et al., 2021a) in this frame."""
    for now, then in zip(grid[:-1], grid[1:], strict=True):
        x = x + (then - now) * (x - denoiser(x, now)) / now
    return x


def _heun(denoiser, x, grid, _injected):
    """Heun's method, Karras et al. (2022, algorithm 1); the step to 0 is Euler's."""
    for now, then in zip(grid[:-1], grid[1:], strict=True):
        slope = (x - denoiser(x, now)) / now
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + (ahead - denoiser(ahead, then)) / then) / 2
            ahead = x + (then - now) * slope
        x = ahead
    return x


def _dpmpp2m(denoiser, x, grid, _injected):
    """DPM-Solver++(2M), Lu et al. (2022, algorithm 2); first and last step are first order."""
    before = None
    for i, (now, then) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        clean = denoiser(x, now)
        if then == 0:
            return clean
        blend = clean
        if before is not None:
            step, previous = (now / then).log(), (grid[i - 1] / now).log()
            blend = clean + step / (2 * previous) * (clean - before)
        x = then / now * x + (1 - then / now) * blend
        before = clean
    return x


def _ancestral(denoiser, x, grid, injected):
    """Ancestral sampling: DDPM's posterior step (Ho et al., 2020, eq. 7) in this frame."""
    for i, (now, then) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        clean = denoiser(x, now)
        if then == 0:
            return clean
        up = then / now * (now**2 - then**2).sqrt()
        down = (then**2 - up**2).sqrt()
        x = clean + down / now * (x - clean) + up * injected(i).to(x)
    return x


_STEPPERS = {"euler": _euler, "heun": _heun, "dpmpp2m": _dpmpp2m, "ancestral": _ancestral}


def sample(
    denoiser: Callable,
    epsilon: torch.Tensor,
    solver: str = "heun",
    steps: int = 18,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    injected: Callable[[int], torch.Tensor] | None = None,
    graph: bool = False,
) -> torch.Tensor:
    """Map starting noise to images.

    Parameters
    ----------
    denoiser : callable
        ``D(x, sigma)``.
    epsilon : Tensor [n, C, H, W]
        Standard normal noise; the state starts at ``sigma_max * epsilon``.
    solver : {"euler", "heun", "dpmpp2m", "ancestral"}
    steps : int
        Intervals of the noise grid, the last of which goes to 0.
    injected : callable, optional
        ``step -> noise [n, C, H, W]`` for the stochastic solver: the same callable for two models
        is *shared* injected noise, different ones are *independent*.
    graph : bool
        On a CUDA device capture the whole loop in one CUDA graph and replay it.  Ignored on the
        CPU and with ``injected``, where the same loop runs eagerly.

    Returns
    -------
    Tensor, float64, shape [n, C, H, W]

    Raises
    ------
    ValueError
        For an unknown solver, a bad grid, or ``ancestral`` without ``injected``.
    """
    chosen = {"sigma_min": sigma_min, "sigma_max": sigma_max, "injected": injected}
    return _mapping(denoiser, solver, steps, graph=graph, **chosen)(epsilon)


def _mapping(denoiser, solver="heun", steps=18, *, sigma_min=0.002, sigma_max=80.0, injected=None,
             graph=False):
    """Return ``epsilon -> images``; on a CUDA device one captured graph serves every call."""
    _known(solver)
    if solver == "ancestral" and injected is None:
        raise ValueError("solver 'ancestral' needs injected=: a callable step -> noise")
    grid = sigma_grid(steps, sigma_min, sigma_max)  # stays on the CPU: no device sync per step
    stepper, replay = _STEPPERS[solver], []

    def loop(x):
        return stepper(denoiser, x, grid, injected)

    @torch.no_grad()
    def images(epsilon):
        start = sigma_max * epsilon.to(torch.float64)
        if not (graph and epsilon.is_cuda and injected is None):
            return loop(start)
        if not replay:
            replay.append(_captured(loop, start))
        return replay[0](start)

    return images


def _captured(loop, like: torch.Tensor):
    """Run ``loop`` once to warm up, capture it in one CUDA graph, return its replay."""
    held = like.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        loop(held)
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        result = loop(held)

    def replay(start):
        held.copy_(start)
        recorded.replay()
        return result.clone()

    return replay


def sample_in_batches(denoiser, epsilon, batch: int = 128, **options) -> torch.Tensor:
    """Sample in batches of one fixed size, the last one padded.

    A sample's rounding depends on the batch size but not on its place in a batch of fixed size, so
    padding makes each image independent of how many others are asked for.

    Parameters
    ----------
    denoiser, **options
        As in :func:`sample`; ``injected(step)`` must then cover all n noises.
    epsilon : Tensor [n, C, H, W]
    batch : int
        Fixed batch size; part of every cache key.

    Returns
    -------
    Tensor, float64, shape [n, C, H, W], on the CPU
    """
    injected, parts = options.pop("injected", None), []
    images = _mapping(denoiser, **options) if injected is None else None
    for first in range(0, len(epsilon), batch):
        part = epsilon[first : first + batch]
        short = batch - len(part)

        def pad(t, short=short):
            return torch.cat([t, t[-1:].expand(short, *t.shape[1:])]) if short else t

        if injected is not None:

            def chosen(step, first=first, pad=pad):
                return pad(injected(step)[first : first + batch])

            images = _mapping(denoiser, injected=chosen, **options)
        parts.append(images(pad(part))[: len(part)].cpu())
    return torch.cat(parts)
