"""White-box attacks: a network that reads other networks' weights or inner activations.

Both are trained on many shadows of both worlds and return, for every victim, the log-odds of world
1. A tenth of the shadows is held out to calibrate a threshold, as in `helpers.decisions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from helpers.noise import generator, stream_key

__all__ = ["Answers", "affinity", "layers_of", "permutation_invariant"]

WIDTH = 8  # numbers that describe a neuron or a layer (Suri et al., 2023, appendix)
HELD = 0.1
FEWEST = 20

Layers = list[tuple[np.ndarray, np.ndarray]]


class Answers(NamedTuple):
    """Log-odds of world 1: of the victims [V], and of the held-out shadows of each world.

    `places` holds the numbers of those shadows.
    """

    victims: np.ndarray
    held_a: np.ndarray
    held_b: np.ndarray
    places: tuple[np.ndarray, np.ndarray]


def layers_of(weights: Mapping[str, np.ndarray]) -> Layers:
    """Return the layers of stacked perceptrons, in order.

    Parameters
    ----------
    weights : mapping of str to ndarray
        As in :class:`helpers.shadow.Fitted`: ``"0.weight"`` [M, out, in], ``"0.bias"`` [M, out]...

    Returns
    -------
    list of (ndarray [M, out, in], ndarray [M, out])
    """
    names = sorted({int(name.split(".")[0]) for name in weights})
    return [(weights[f"{n}.weight"], weights[f"{n}.bias"]) for n in names]


class _Invariant(nn.Module):
    """DeepSets over neurons (Ganju et al., 2018): the order of hidden neurons does not matter.

    A neuron of the first layer is described by its weights and bias, one of a later layer by its
    bias and the sum of the previous layer's descriptions, weighted by its weights.
    """

    def __init__(self, inputs: int, depth: int):
        super().__init__()
        sizes = [inputs + 1] + [WIDTH + 1] * (depth - 1)
        self.describe = nn.ModuleList(nn.Sequential(
            nn.Linear(size, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, WIDTH), nn.ReLU())
            for size in sizes)
        self.head = nn.Linear(WIDTH * depth, 1)

    def forward(self, *flat):
        sums, before = [], None
        for describe, weight, bias in zip(self.describe, flat[::2], flat[1::2], strict=True):
            own = weight if before is None else weight @ before
            before = describe(torch.cat([own, bias[..., None]], -1))
            sums.append(before.sum(1))
        return self.head(torch.cat(sums, 1))[:, 0]


def permutation_invariant(victims: Layers, a: Layers, b: Layers, *, epochs: int = 200,
                          seed: int = 0) -> Answers:
    """Permutation-invariant network on the victims' weights (section 4.3 of Suri et al., 2023).

    Parameters
    ----------
    victims, a, b : list of (ndarray [M, out, in], ndarray [M, out])
        From `layers_of`; all of one architecture.
    epochs : int
        Passes over the shadows (Adam, 1e-3, weight decay 0.01).

    Returns
    -------
    Answers

    Raises
    ------
    ValueError
        With fewer than 20 shadows a side or mixed architectures.
    """
    shapes = [[weight.shape[1:] for weight, _ in side] for side in (victims, a, b)]
    if shapes[0] != shapes[1] or shapes[0] != shapes[2]:
        raise ValueError(f"victims of layers {shapes[0]}, shadows of {shapes[1]} and {shapes[2]}: "
                         "this attack needs one architecture")
    flat = [[torch.from_numpy(np.array(part)) for layer in side for part in layer]
            for side in (victims, a, b)]
    pooled = torch.cat([flat[1][0], flat[2][0]]).flatten(0, 1)
    middle, spread = pooled.mean(0), pooled.std(0).clamp_min(1e-6)
    for side in flat:
        side[0] = (side[0] - middle) / spread
    build = lambda: _Invariant(shapes[0][0][1], len(shapes[0]))  # noqa: E731
    return _answer(build, *flat, rate=1e-3, decay=0.01, epochs=epochs, seed=seed, name="pin")


def affinities(activations: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Cosine similarity of every pair of records in every layer, float32 [M, pairs] a layer.

    Parameters
    ----------
    activations : sequence of ndarray, float, shape [M, records, units]
    """
    found = []
    for layer in activations:
        unit = layer / np.maximum(np.linalg.norm(layer, axis=-1, keepdims=True), 1e-8)
        i, j = np.triu_indices(layer.shape[1], 1)
        found.append((unit @ unit.transpose(0, 2, 1))[:, i, j].astype(np.float32))
    return found


def activations_of(layers: Layers, records: np.ndarray) -> list[np.ndarray]:
    """Outputs of every layer (after ReLU; logits of the last), float32 [M, records, units]."""
    found, here = [], np.asarray(records, dtype=np.float32)[None]
    for number, (weight, bias) in enumerate(layers):
        here = here @ weight.transpose(0, 2, 1) + bias[:, None]
        if number + 1 < len(layers):
            here = np.maximum(here, 0)
        found.append(here)
    return found


class _Affinity(nn.Module):
    """One perceptron for the pairs of each layer, one for the outputs, and a linear head."""

    def __init__(self, pairs: Sequence[int], outputs: int):
        super().__init__()

        def part(size):
            return nn.Sequential(nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
                                 nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, WIDTH), nn.ReLU())

        self.parts = nn.ModuleList(part(size) for size in (*pairs, outputs))
        self.head = nn.Linear(WIDTH * len(self.parts), 1)

    def forward(self, *flat):
        return self.head(torch.cat([p(x) for p, x in zip(self.parts, flat, strict=True)], 1))[:, 0]


def affinity(victims: Layers, a: Layers, b: Layers, records: np.ndarray, *, share: float = 0.3,
             epochs: int = 200, seed: int = 0) -> Answers:
    """Affinity graph attack: which records a network's layers take to be alike (section 4.3).

    Parameters
    ----------
    victims, a, b : list of (ndarray [M, out, in], ndarray [M, out])
    records : ndarray, float32, shape [K, d]
        Probe records (the paper: 40 of each world).
    share : float
        Pairs kept in each layer, those whose similarity varies most over the shadows.
    epochs : int
        Passes over the shadows (Adam, 5e-4, weight decay 1e-3).
    """
    acts = [activations_of(side, records) for side in (victims, a, b)]
    graphs = [affinities(side[:-1]) for side in acts]
    sides = [[] for _ in acts]
    for layer in range(len(graphs[0])):
        spread = np.concatenate([graphs[1][layer], graphs[2][layer]]).std(0)
        kept = np.sort(np.argsort(-spread, kind="stable")[: max(1, round(share * len(spread)))])
        for side, graph in zip(sides, graphs, strict=True):
            side.append(graph[layer][:, kept])
    for side, act in zip(sides, acts, strict=True):
        side.append(1 / (1 + np.exp(-np.clip(act[-1][..., 0], -30, 30))))
    scale = [(np.concatenate([x, y]).mean(0), np.concatenate([x, y]).std(0) + 1e-6)
             for x, y in zip(sides[1], sides[2], strict=True)]
    flat = [[torch.from_numpy(((x - m) / s).astype(np.float32))
             for x, (m, s) in zip(side, scale, strict=True)] for side in sides]
    sizes = [x.shape[1] for x in flat[0]]
    build = lambda: _Affinity(sizes[:-1], sizes[-1])  # noqa: E731
    return _answer(build, *flat, rate=5e-4, decay=1e-3, epochs=epochs, seed=seed, name="aga")


def _answer(build: Callable, victims, a, b, *, rate: float, decay: float, epochs: int, seed: int,
            name: str) -> Answers:
    """Train on most shadows of both worlds; answer for victims and for the shadows left out."""
    counts = [len(side[0]) for side in (a, b)]
    if min(counts) < FEWEST:
        raise ValueError(f"{counts[0]} and {counts[1]} shadows: a white-box attack needs at least "
                         f"{FEWEST} a side (the paper has 750)")
    stream, key = generator(name, seed), stream_key(name, seed) % 2**62
    held = [np.sort(stream.permutation(n)[: max(4, round(HELD * n))]) for n in counts]
    kept = [np.setdiff1d(np.arange(n), out) for n, out in zip(counts, held, strict=True)]
    inputs = [torch.cat([x[kept[0]], y[kept[1]]]) for x, y in zip(a, b, strict=True)]
    worlds = torch.cat([torch.zeros(len(kept[0])), torch.ones(len(kept[1]))])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key)  # initial weights and dropout, restored on leaving
        model = build()
        adam = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
        for _ in range(epochs):
            order = torch.from_numpy(stream.permutation(len(worlds)))
            for batch in order.split(256):
                adam.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(
                    model(*(x[batch] for x in inputs)), worlds[batch]).backward()
                adam.step()
    model.eval()
    with torch.no_grad():
        return Answers(*(model(*(x[rows] for x in side)).double().numpy() for side, rows in (
            (victims, slice(None)), (a, held[0]), (b, held[1]))), tuple(held))
