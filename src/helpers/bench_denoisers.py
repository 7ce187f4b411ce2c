"""Benchmark of small denoisers trained together against a plain loop over the same models.

The plain way is PyTorch's own, one model after another: `torch.nn` layers, automatic
differentiation, Adam, and an average of the weights by `torch.optim.swa_utils`. Both draw the noise
of every batch anew and include their set-up; a plain call trains a few of the models, and all times
are for one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from helpers import bench_measure
from helpers.bench_measure import BUSY, _median, timed
from helpers.denoiser_stack import FREQUENCIES, Small, fit
from helpers.noise import generator
from helpers.objectives import objective

CASE = {"pool": 8192, "size": 64, "n": 2048, "models": 8, "plain": 2, "hidden": (256, 256),
        "batch": 64, "steps": 300}
TOY = CASE | {"pool": 64, "n": 32, "models": 3, "hidden": (8,), "batch": 8, "steps": 5}
MANY = 8  # times as many models, for memory
GOAL = 1.0  # no slower than the plain loop, per model


def recipe(case: dict, chunk: int | None = None) -> Small:
    """The recipe of the book's side; all models in one chunk unless told."""
    return Small(hidden=case["hidden"], batch=case["batch"], steps=case["steps"],
                 chunk=chunk or min(case["models"], CASE["models"]))


def records(case: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a made-up pool, the models' records and seeds (see `denoiser_stack.fit`)."""
    source = generator("bench-denoisers", case["pool"])
    few = max(1, case["size"] // 8)
    hidden, mix = (source.standard_normal(shape) for shape in ((case["pool"], few),
                                                                (few, case["size"])))
    pool = np.tanh(hidden @ mix).astype(np.float32)
    index = source.integers(case["pool"], size=(case["models"], case["n"]))
    return pool, index, np.arange(case["models"])


class _Network(nn.Module):
    """Perceptron on a noisy record and its noise level."""

    def __init__(self, case: dict):
        super().__init__()
        widths = (case["size"] + 2 * len(FREQUENCIES), *case["hidden"], case["size"])
        layers: list[nn.Module] = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(a, b), nn.SiLU()]
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, x, level):
        angle = level[:, None] * FREQUENCIES.to(x.device)
        return self.body(torch.cat([x, angle.sin(), angle.cos()], 1))


def plain_loop(clean: torch.Tensor, case: dict, device: str) -> nn.Module:
    """Train one denoiser; returns its average."""
    network, parts = _Network(case).to(device), objective("edm")
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.9, 0.99))
    for _ in range(case["steps"]):
        x = clean[torch.randint(len(clean), (case["batch"],), device=device)]
        sigma = parts.draw(torch.rand(len(x), device=device).clamp(1e-6, 1 - 1e-6))
        c = parts.coefficients(sigma)
        noisy = x + sigma[:, None] * torch.randn_like(x)
        target = (x - c.skip[:, None] * noisy) / c.out[:, None]
        optimiser.zero_grad()
        nn.functional.mse_loss(network(c.scale[:, None] * noisy, c.noise), target).backward()
        optimiser.step()
        average.update_parameters(network)
    return average


def sides(case: dict, device: str) -> dict:
    """The book's way and the plain one (see `helpers.bench_measure`)."""
    pool, index, seeds = records(case)
    parts = [torch.from_numpy(pool[rows]).to(device) for rows in index[: case["plain"]]]

    def book():
        return lambda: fit(recipe(case), pool, index, seeds, device, progress=False)

    def plain():
        def all_models():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return [plain_loop(part, case, device) for part in parts]

        return all_models

    return {"book": book, "plain": plain}


def agreement(case: dict, device: str) -> float:
    """Largest difference of denoised values between models trained together and one by one."""
    pool, index, seeds = records(case)
    few, x = slice(0, case["plain"]), torch.from_numpy(pool[None, :256])
    brief = case | {"steps": min(20, case["steps"])}
    found = [fit(recipe(brief, chunk), pool, index[few], seeds[few], device, progress=False)
             .denoiser()(x.expand(case["plain"], -1, -1), 1.0) for chunk in (case["plain"], 1)]
    return float((found[0] - found[1]).abs().max())


def measure(device: str, rounds: int, store: str, quick: bool = False) -> dict:
    """Time both ways in turn; peak memory of the book's at two numbers of models."""
    case = TOY if quick else CASE
    calls = {name: prepare() for name, prepare in sides(case, device).items()}
    many = {"book": case["models"], "plain": case["plain"]}
    times: dict[str, list] = {name: [] for name in calls}
    for call in calls.values():
        timed(call, device)
    for k in range(rounds):
        for name in list(calls)[:: 1 if k % 2 == 0 else -1]:
            times[name].append(np.array(timed(calls[name], device)) / many[name])
    book, plain = (np.array(times[name]) for name in ("book", "plain"))
    busy = max(np.median(t[:, 0] / np.maximum(t[:, 1], 1e-9)) for t in (book, plain))
    rows = [{
        "case": f"a model of {case['models']} ({case['size']} values, hidden "
                f"{'-'.join(map(str, case['hidden']))}, {case['steps']} steps of {case['batch']})",
        "seconds": {"book": _median(book[:, 0]), "plain": _median(plain[:, 0])},
        "processor": {"book": _median(book[:, 1]), "plain": _median(plain[:, 1])},
        "ratio": _median(plain[:, 0] / book[:, 0]), "rounds": rounds,
        "busy": bool(device == "cpu" and busy > BUSY), "memory": None,
        "goal": None if quick or device != "cpu" else GOAL,
        "error": agreement(case, device), "error_goal": 1e-4,
    }]
    memories = []
    for count in (case["models"], MANY * case["models"]):
        large = case | {"models": count, "plain": 0, "steps": 5}
        memories.append({"models": count} | bench_measure.memory(sides, large, "book", device))
    return {"rows": rows, "models": memories}
