"""White-box attacks: a network that reads other networks' weights or inner activations.

Both are trained on many shadows of both worlds and return, for every victim, the log-odds of world
1. A tenth of the shadows is held out to calibrate a threshold, as in `helpers.decisions`. The first
also reads a ratio itself off the weights, from shadows at several ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from helpers.noise import generator, stream_key

__all__ = ["Answers", "Read", "Reader", "affinity", "layers_of", "permutation_invariant",
           "ratio_from_weights", "reader"]

WIDTH = 8  # numbers that describe a neuron or a layer (Suri et al., 2023, appendix)
HELD = 0.1
HELD_RATIO = 0.25  # an interval's end needs more held-out shadows than a threshold
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


class Read(NamedTuple):
    """Ratios read off weights: of the victims [V] and of held-out shadows [H]; `wanted` [H]."""

    victims: np.ndarray
    held: np.ndarray
    wanted: np.ndarray


class Reader(NamedTuple):
    """A trained permutation-invariant network, to be asked and differentiated.

    Attributes
    ----------
    model : nn.Module
    middle, spread : Tensor, float32, shape [in]
        By which the weights of the first layer are scaled.
    places : pair of ndarray
        Numbers of the shadows of each world that it was not trained on.
    """

    model: nn.Module
    middle: torch.Tensor
    spread: torch.Tensor
    places: tuple[np.ndarray, np.ndarray]

    def log_odds(self, flat: Sequence[torch.Tensor]) -> torch.Tensor:
        """Log-odds of world 1, float32 [M], of weight, bias, weight, bias, ... of the layers."""
        return self.model((flat[0] - self.middle) / self.spread, *flat[1:])


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
    build, flat = _standard(victims, a, b)
    return _answer(build, *flat, rate=1e-3, decay=0.01, epochs=epochs, seed=seed, name="pin")


def _standard(victims: Layers, *shadows: Layers):
    """Return a maker of networks, and all layers, the first scaled as the shadows' neurons are."""
    shapes = [[weight.shape[1:] for weight, _ in side] for side in (victims, *shadows)]
    if any(shape != shapes[0] for shape in shapes):
        others = " and ".join(str(shape) for shape in shapes[1:])
        raise ValueError(f"victims of layers {shapes[0]}, shadows of {others}: "
                         "this attack needs one architecture")
    flat = [[torch.from_numpy(np.array(part)) for layer in side for part in layer]
            for side in (victims, *shadows)]
    pooled = torch.cat([side[0] for side in flat[1:]]).flatten(0, 1)
    middle, spread = pooled.mean(0), pooled.std(0).clamp_min(1e-6)
    for side in flat:
        side[0] = (side[0] - middle) / spread
    return lambda: _Invariant(shapes[0][0][1], len(shapes[0])), flat


def reader(a: Layers, b: Layers, *, epochs: int = 200, seed: int = 0) -> Reader:
    """Return the network behind `permutation_invariant`, which answers with the same bits."""
    build, (_, *flat) = _standard(a, a, b)
    pooled = torch.from_numpy(np.concatenate([a[0][0], b[0][0]])).flatten(0, 1)
    model, held = _fitted(build, *flat, rate=1e-3, decay=0.01, epochs=epochs, seed=seed, name="pin")
    return Reader(model, pooled.mean(0), pooled.std(0).clamp_min(1e-6), held)


def ratio_from_weights(victims: Layers, shadows: Mapping[float, Layers], *, epochs: int = 200,
                       batch: int = 16, seed: int = 0) -> Read:
    """Permutation-invariant network that is trained to give a model's ratio (least squares).

    Parameters
    ----------
    victims : list of (ndarray [M, out, in], ndarray [M, out])
        From `layers_of`.
    shadows : mapping of float to such a list
        At least two ratios, `FEWEST` shadows in all; a quarter of each ratio's is held out.
    epochs, batch : int
        Passes over the other shadows and shadows a step (Adam, 1e-3, weight decay 0.01).

    Returns
    -------
    Read
        Not cut to [0, 1]; `helpers.ratios.split_conformal` makes intervals of it.

    Raises
    ------
    ValueError
        With fewer than two ratios, too few shadows or mixed architectures.
    """
    ratios, total = sorted(shadows), sum(len(side[0][0]) for side in shadows.values())
    if len(ratios) < 2 or total < FEWEST:
        raise ValueError(f"{total} shadows at {len(ratios)} ratios: reading a ratio off weights "
                         f"needs at least {FEWEST} shadows at two ratios or more")
    build, (seen, *flat) = _standard(victims, *(shadows[ratio] for ratio in ratios))
    stream, key = generator("pin ratio", seed), stream_key("pin ratio", seed) % 2**62
    wanted = np.concatenate([[ratio] * len(side[0]) for ratio, side in
                             zip(ratios, flat, strict=True)])
    out = np.concatenate([stream.permutation(len(side[0])) < max(1, round(
        HELD_RATIO * len(side[0]))) for side in flat])
    own = [torch.cat(parts) for parts in zip(*flat, strict=True)]
    kept, held = (torch.from_numpy(np.flatnonzero(rows)) for rows in (~out, out))
    targets = torch.from_numpy(wanted[~out].astype(np.float32))
    model = _trained(build, [x[kept] for x in own], targets, nn.functional.mse_loss, rate=1e-3,
                     decay=0.01, epochs=epochs, batch=batch, stream=stream, key=key)
    with torch.no_grad():
        return Read(*(model(*side).double().numpy() for side in (seen, [x[held] for x in own])),
                    wanted[out])


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


def _answer(build: Callable, victims, a, b, **how) -> Answers:
    """Train on most shadows of both worlds; answer for victims and for the shadows left out."""
    model, held = _fitted(build, a, b, **how)
    with torch.no_grad():
        return Answers(*(model(*(x[rows] for x in side)).double().numpy() for side, rows in (
            (victims, slice(None)), (a, held[0]), (b, held[1]))), held)


def _fitted(build: Callable, a, b, *, rate: float, decay: float, epochs: int, seed: int, name: str
            ) -> tuple[nn.Module, tuple[np.ndarray, np.ndarray]]:
    """Train a network to tell two worlds apart; returns it and the shadows left out of each."""
    counts = [len(side[0]) for side in (a, b)]
    if min(counts) < FEWEST:
        raise ValueError(f"{counts[0]} and {counts[1]} shadows: a white-box attack needs at least "
                         f"{FEWEST} a side (the paper has 750)")
    stream, key = generator(name, seed), stream_key(name, seed) % 2**62
    held = [np.sort(stream.permutation(n)[: max(4, round(HELD * n))]) for n in counts]
    kept = [np.setdiff1d(np.arange(n), out) for n, out in zip(counts, held, strict=True)]
    inputs = [torch.cat([x[kept[0]], y[kept[1]]]) for x, y in zip(a, b, strict=True)]
    worlds = torch.cat([torch.zeros(len(kept[0])), torch.ones(len(kept[1]))])
    model = _trained(build, inputs, worlds, nn.functional.binary_cross_entropy_with_logits,
                     rate=rate, decay=decay, epochs=epochs, batch=256, stream=stream, key=key)
    return model, tuple(held)


def _trained(build: Callable, inputs, targets, loss: Callable, *, rate: float, decay: float,
             epochs: int, batch: int, stream: np.random.Generator, key: int) -> nn.Module:
    """Train a network by Adam, its weights and dropout from `key`, its batches from `stream`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key)  # initial weights and dropout, restored on leaving
        model = build()
        adam = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
        for _ in range(epochs):
            order = torch.from_numpy(stream.permutation(len(targets)))
            for rows in order.split(batch):
                adam.zero_grad()
                loss(model(*(x[rows] for x in inputs)), targets[rows]).backward()
                adam.step()
    return model.eval()
