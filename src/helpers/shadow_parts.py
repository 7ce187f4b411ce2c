"""What the engines of `helpers.shadow` share: networks, initial weights, batches and noises.

The streams of a model with seed ``s`` are ``shadow-init/s``, ``shadow-batches/s`` (one permutation
an epoch), ``shadow-noise/s`` (DP-SGD) and ``shadow-starts/s`` (adversarial training).  Draws are
made on the CPU in torch's order of parameters and records, whatever the engine and the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from torch import nn

from helpers.noise import torch_generator

CHANNELS = (8, 16)  # of the cnn's two convolutions


def widths(arch: str, features: int) -> tuple[int, ...]:
    """Return the sizes of the layers of ``lr`` or ``mlp-...``, input and output included."""
    return (features, *(int(width) for width in arch.split("-")[1:]), 1)


def build(arch: str, shape: tuple[int, ...]) -> nn.Sequential:
    """Build a network for records of a shape, without values: its device is ``meta``."""
    with torch.device("meta"):
        if arch == "cnn":
            first, second = CHANNELS
            left = prod((side + 3) // 4 for side in shape[1:])
            return nn.Sequential(
                nn.Conv2d(shape[0], first, 3, stride=2, padding=1), nn.ReLU(),
                nn.Conv2d(first, second, 3, stride=2, padding=1), nn.ReLU(),
                nn.Flatten(), nn.Linear(second * left, 1))
        sizes = widths(arch, prod(shape))
        layers = [part for a, b in zip(sizes[:-1], sizes[1:], strict=True)
                  for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1])


def initial(network: nn.Module, seeds) -> dict[str, torch.Tensor]:
    """Draw initial weights, distributed as those of torch's layers.

    Parameters
    ----------
    network : nn.Module
        Of linear and convolutional layers; its values are not read.
    seeds : iterable of int

    Returns
    -------
    dict of str to Tensor, float32, shape [len(seeds), ...]
        Uniform within ``1 / sqrt(inputs of a unit)``, in the order of the network's state.
    """
    slots = network.state_dict()
    sizes = [value.numel() for value in slots.values()]
    drawn = torch.empty(len(seeds), sum(sizes))
    for member, seed in enumerate(seeds):
        torch.rand(sum(sizes), generator=torch_generator("shadow-init", seed), out=drawn[member])
    drawn.mul_(2).sub_(1)
    found = {}
    for (name, value), part in zip(slots.items(), drawn.split(sizes, 1), strict=True):
        inputs = prod(slots[name.rsplit(".", 1)[0] + ".weight"].shape[1:])
        found[name] = (part * inputs**-0.5).view(len(seeds), *value.shape)
    return found


class Draws:
    """The records, batches and noises of the models that are trained together.

    Attributes
    ----------
    pool : Tensor, float32, shape [R, ...]
    models : int
    n : int
        Records of each model.
    seeds, members : ndarray of int, shape [models]
        ``members`` are the models' numbers in errors.
    """

    def __init__(self, recipe, pool, index, labels, seeds, members):
        self.pool, self.seeds, self.members = pool, seeds, members
        self.models, self.n = index.shape
        self.batch = recipe.batch
        self.index = torch.from_numpy(index)
        self.labels = torch.from_numpy(labels.astype(np.float32))
        self.orders, self.noises, self.begins = (
            [torch_generator(name, seed) for seed in seeds]
            for name in ("shadow-batches", "shadow-noise", "shadow-starts"))

    def epoch(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (rows of the pool, int32; labels, float32) of each batch, both [models, b]."""
        order = torch.empty(self.models, self.n, dtype=torch.int64)
        for own, source in zip(order, self.orders, strict=True):
            torch.randperm(self.n, generator=source, out=own)
        device = self.pool.device
        rows = torch.gather(self.index, 1, order).to(device)
        labels = torch.gather(self.labels, 1, order).to(device)
        for first in range(0, self.n, self.batch):
            part = slice(first, first + self.batch)
            yield rows[:, part].contiguous(), labels[:, part].contiguous()

    def normals(self, count: int) -> torch.Tensor:
        """Draw DP-SGD's standard normals of one step, float32 [models, count], on the CPU."""
        return torch.stack([torch.randn(count, generator=g) for g in self.noises])

    def starts(self, batch: int) -> torch.Tensor:
        """Draw uniform numbers in [-1, 1) for a batch, float32 [models, batch, ...], on the CPU."""
        shape = (batch, *self.pool.shape[1:])
        return torch.stack([torch.rand(shape, generator=g) for g in self.begins]).mul_(2).sub_(1)

    def finite(self, values: torch.Tensor, epoch: int, recipe) -> torch.Tensor:
        """Return one value a model on the CPU.

        Raises
        ------
        FloatingPointError
            When one is not finite; names the model.
        """
        values = values.detach().cpu()
        if not (good := torch.isfinite(values)).all():
            member = int(self.members[int(good.int().argmin())])
            raise FloatingPointError(
                f"training loss of model {member} is not finite in epoch {epoch} of {recipe}; "
                f"lower rate={recipe.rate}, or scale the features")
        return values


def loss(z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits, float32, of the shape of both."""
    return nn.functional.binary_cross_entropy_with_logits(z, labels, reduction="none")
