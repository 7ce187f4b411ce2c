"""The noise bank and every other named source of randomness.

Noise of index ``i`` depends on the seed, the stream's name, the shape and ``i`` alone: not on how
many other noises are drawn, in which order, or on which device they end up.  Draws are made on the
CPU from a counter-based generator (Philox) through our own Box-Muller transform, because NumPy
fixes the raw words of a bit generator across versions but not its distributions, and because
seeded CUDA generators differ between cards.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod

import numpy as np

__all__ = ["Bank", "generator", "noise", "stream_key", "torch_generator"]


def stream_key(name: str, *integers: int) -> int:
    """Return the 128-bit key of a named stream.

    Parameters
    ----------
    name : str
        What the numbers are for, such as ``"bank"``, ``"init"`` or ``"batches"``.
    *integers : int
        Seeds or indices that tell streams of one name apart.

    Returns
    -------
    int
        The first 128 bits of SHA-256 over the name and the integers; equal in every process.
    """
    text = name + "".join(f"/{int(i)}" for i in integers)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def generator(name: str, *integers: int) -> np.random.Generator:
    """Return NumPy's generator for a named stream (resampling, shuffles, bootstrap)."""
    return np.random.Generator(np.random.Philox(key=stream_key(name, *integers)))


def torch_generator(name: str, *integers: int):
    """Return a CPU ``torch.Generator`` for a named stream (initial weights, batches, training)."""
    import torch

    return torch.Generator().manual_seed(stream_key(name, *integers) % 2**63)


def _normals(key: int, index: int, count: int) -> np.ndarray:
    """Draw ``count`` standard normals (float64) from counter block ``index`` of a stream."""
    pairs = (count + 1) // 2
    words = np.random.Philox(key=key, counter=[0, 0, index, 0]).random_raw(2 * pairs)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:pairs]))
    angle = 2.0 * np.pi * uniform[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def noise(indices, shape: tuple[int, ...], seed: int = 0, stream: str = "bank") -> np.ndarray:
    """Draw the standard normal noises of the given indices.

    Parameters
    ----------
    indices : iterable of int
        Which noises; index ``i`` gives the same numbers whatever else is asked for.
    shape : tuple of int
        Shape of one noise, such as ``(1, 16, 16)``.
    seed : int
        Seed of the bank.
    stream : str
        Name of the stream; ``"bank"`` is the published noise bank.

    Returns
    -------
    ndarray, float32, shape [len(indices), *shape]
    """
    indices = [int(i) for i in indices]
    if any(i < 0 for i in indices):
        raise ValueError(f"noise indices start at 0, got {min(indices)}")
    key, count = stream_key(stream, seed, *shape), prod(shape)
    drawn = [_normals(key, i, count).astype(np.float32) for i in indices]
    return np.stack(drawn).reshape(-1, *shape) if drawn else np.zeros((0, *shape), np.float32)


@dataclass(frozen=True)
class Bank:
    """A run of the noise bank: ``count`` noises from index ``first`` on."""

    count: int = 1024
    seed: int = 0
    first: int = 0

    def __post_init__(self):
        if self.count < 1:
            raise ValueError(f"a noise bank needs at least 1 noise, got count={self.count}")

    def noise(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the bank's noises, float32, shape [count, *shape]."""
        return noise(range(self.first, self.first + self.count), shape, self.seed)
