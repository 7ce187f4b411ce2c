"""Benchmarks of the closed-form denoiser and of the novelty score against broadcast arithmetic.

The plain sides are written here from the description of what released code computes: two passes
over the training images, each of which subtracts every image from every query; and an array of all
products of all pairs of embeddings. Reading and decoding images, which that code repeats in every
pass, is left out. How many images a step of those passes takes matters as much as the arithmetic:
differences from a loader's batch of 128 leave the processor's cache and each is paid for in page
faults, those from a few images do not. Both are measured, and the goal is set against the former.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from helpers import datasets
from helpers.bench_measure import compare
from helpers.noise import generator, noise
from helpers.oracles import Empirical
from helpers.scores import nearest_similarity

SIGMAS = (0.05, 0.5, 5.0, 80.0)  # noise levels that are timed
CHECKED = tuple(np.geomspace(0.002, 80.0, 12).tolist())  # noise levels at which errors are taken
MEMORY_AT = 5.0  # of these, the one at which memory is measured
CACHED = (0.5, 5.0)  # of these, those that are timed against the plain way in small pieces too
LAWS = (
    {"law": "random", "shape": [3, 32, 32], "images": 2048, "queries": 32, "pieces": [128, 8]},
    {"law": "clusters", "shape": [3, 32, 32], "images": 2048, "queries": 32, "pieces": [128, 8]},
    {"law": "fashion16", "shape": [1, 16, 16], "images": 60_000, "queries": 16, "pieces": [128]},
)
TOY_LAWS = ({"law": "clusters", "shape": [1, 8, 8], "images": 96, "queries": 4,
             "pieces": [128, 8]},)
PAIRS = ({"queries": 128, "references": 2048}, {"queries": 128, "references": 8192})
TOY_PAIRS = ({"queries": 8, "references": 64},)
GOAL, ERROR_GOAL, NOVELTY_GOAL = 150.0, 1e-5, 30.0
LOADER = 128  # images in a batch of a loader, as released code reads them
WIDTH = 512  # of an embedding
PIXELS = 3072  # numbers in an image at the size for which the goal is set


def broadcast_denoiser(data: torch.Tensor, x: torch.Tensor, sigma: float,
                       piece: int = LOADER) -> torch.Tensor:
    """Posterior mean by two passes over the data, differences broadcast, sums in float64.

    Parameters
    ----------
    data, x : Tensor, float32, shapes [N, C, H, W] and [n, C, H, W]
    sigma : float
    piece : int
        Images a step.

    Returns
    -------
    Tensor, float64, shape [n, C, H, W]
    """
    best = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    for part in data.split(piece):
        best = torch.maximum(best, _log_weights(part, x, sigma).amax(1))
    total = torch.zeros_like(best)
    mean = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    for part in data.split(piece):
        weight = (_log_weights(part, x, sigma) - best[:, None]).exp()
        total += weight.sum(1)
        mean += (weight.float()[:, :, None, None, None] * part).sum(1, dtype=torch.float64)
    return mean / total.view(-1, 1, 1, 1)


def _log_weights(part, x, sigma):
    square = (x[:, None] - part).square()
    return square.sum((2, 3, 4), dtype=torch.float64) / (-2 * sigma**2)


def direct(data: torch.Tensor, x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Posterior mean from float64 distances, one query at a time: the truth for the errors."""
    wide, found = data.double(), []
    for query in x.double():
        logits = (query - wide).square().sum((1, 2, 3)) / (-2 * sigma**2)
        found.append(torch.tensordot(logits.softmax(0), wide, dims=1))
    return torch.stack(found)


def broadcast_similarity(emb: np.ndarray, refs: np.ndarray) -> np.ndarray:
    """Largest inner product with any reference, from the array of all products [n, N, d]."""
    return (emb[:, None, :] * refs[None]).sum(-1).max(1)


def images(case: dict) -> torch.Tensor:
    """Training images of a case, float32 [N, C, H, W] in [-1, 1].

    ``random``: independent uniform pixels. ``clusters``: groups of 16 near-duplicates that differ
    by .02 a pixel. Otherwise the first images of a data set.
    """
    count, shape, source = case["images"], tuple(case["shape"]), generator("bench", 0)
    if case["law"] == "random":
        return torch.from_numpy(source.uniform(-1, 1, (count, *shape)).astype(np.float32))
    if case["law"] == "clusters":
        centres = source.uniform(-1, 1, (-(-count // 16), *shape)).repeat(16, 0)[:count]
        near = centres + 0.02 * source.standard_normal((count, *shape))
        return torch.from_numpy(near.clip(-1, 1).astype(np.float32))
    return torch.from_numpy(datasets.to_model(datasets.load(case["law"]).train[:count]))


def queries(case: dict, data: torch.Tensor, sigma: float) -> torch.Tensor:
    """Noisy images, float32: half of them of training images, half of midpoints of two."""
    count = case["queries"]
    rows = torch.linspace(0, len(data) - 2, count).long()
    clean = data[rows].clone()
    clean[::2] = (data[rows] + data[rows + 1])[::2] / 2
    return clean + sigma * torch.from_numpy(noise(range(count), tuple(case["shape"]), 0, "bench"))


def sides(case: dict, device: str) -> dict:
    """The book's and the plain way of a case (see `helpers.bench_measure`)."""
    if "references" in case:
        rows = generator("bench", 1).standard_normal((case["queries"] + case["references"], WIDTH))
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        emb, refs = unit[: case["queries"]], unit[case["queries"] :]
        return {"book": lambda: partial(nearest_similarity, emb, refs),
                "plain": lambda: partial(broadcast_similarity, emb, refs)}
    data = images(case)
    x = queries(case, data, case["sigma"]).to(device)
    data = data.to(device)
    return {"book": lambda: partial(Empirical(data), x, case["sigma"]),
            "plain": lambda: partial(broadcast_denoiser, data, x, case["sigma"],
                                     case["piece"])}


def errors(case: dict, device: str, sigmas=CHECKED) -> dict:
    """Largest error over pixels, queries and levels against `direct` (plain way: end levels)."""
    data = images(case)
    oracle, worst = Empirical(data.to(device)), {"book": 0.0, "plain": 0.0}
    for sigma in sigmas:
        x = queries(case, data, sigma)
        truth = direct(data, x, sigma)
        found = {"book": oracle(x.to(device).double(), sigma),
                 "plain": broadcast_denoiser(data.to(device), x.to(device), sigma)
                 if sigma in (sigmas[0], sigmas[-1]) else None}
        for name, mean in found.items():
            if mean is not None:
                worst[name] = max(worst[name], float((mean.cpu() - truth).abs().max()))
    return worst


def measure(device: str, rounds: int, store: str, quick: bool = False) -> dict:
    """Time, memory and error of the closed-form denoiser; one row a law, step and level."""
    rows = []
    for law in TOY_LAWS if quick else LAWS:
        worst = errors(law, device)
        for piece in law["pieces"]:
            levels = SIGMAS if piece == LOADER else CACHED
            for sigma in levels[1:2] if quick else levels:
                rows.append({
                    "case": f"{law['law']}, {law['queries']} queries, {law['images']:,} images of "
                            f"{'x'.join(map(str, law['shape']))}, sigma {sigma:g}, plain way in "
                            f"steps of {piece}",
                    **compare(sides, law | {"sigma": sigma, "piece": piece}, device, rounds,
                              with_memory=sigma == MEMORY_AT),
                    "goal": GOAL if piece == LOADER and math.prod(law["shape"]) == PIXELS else None,
                    "error": worst["book"], "error_plain": worst["plain"],
                    "error_goal": ERROR_GOAL,
                })
    return {"rows": rows}


def measure_novelty(device: str, rounds: int, store: str, quick: bool = False) -> dict:
    """Time, memory and error of the novelty score; NumPy on the processor whatever the device."""
    rows = []
    for case in TOY_PAIRS if quick else PAIRS:
        book, plain = (make()() for make in sides(case, "cpu").values())
        rows.append({
            "case": f"{case['queries']} pictures, {case['references']:,} references, "
                    f"{WIDTH} numbers each",
            **compare(sides, case, "cpu", rounds), "goal": NOVELTY_GOAL,
            "error": float(np.abs(book - plain).max()), "error_goal": ERROR_GOAL,
        })
    return {"rows": rows}
