"""What the tests of the numerical modules share: another Python, a lively network, tiny cells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

import helpers
from helpers import networks
from helpers.diffusion import Cell
from helpers.noise import torch_generator

SRC = str(Path(helpers.__file__).parents[1])


def python(code: str, *arguments, hash_seed: str = "0") -> subprocess.Popen:
    """Start another Python on ``code``, with one thread."""
    environment = {**os.environ, "PYTHONPATH": SRC, "PYTHONHASHSEED": hash_seed,
                   "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def output(code: str, *arguments, **options) -> str:
    """Return what another Python prints."""
    process = python(code, *arguments, **options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip()


def lively(name: str = "unet-20k", channels: int = 1, size: int = 8, scale: float = 0.1):
    """Build a network whose output is not zero: every parameter is moved a little, by name."""
    network = networks.build(name, channels, size, 0)
    source = torch_generator("test/lively", channels, size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=source)
    return network.requires_grad_(False)


def tiny(**changes) -> Cell:
    """Return a cell that trains in a fraction of a second."""
    fields = {"dataset": "digits8", "size": 8, "n": 64, "half": 0, "network": "unet-20k",
              "steps": 6, "batch": 8, "warmup": 2}
    return Cell(**(fields | changes))


def same(a: dict, b: dict) -> bool:
    """Whether two dictionaries of (dictionaries of) arrays hold the same bits."""
    if a.keys() != b.keys():
        return False
    return all(same(a[k], b[k]) if isinstance(a[k], dict) else
               a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)
