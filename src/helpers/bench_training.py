"""Benchmark of a training step against the loop of the plain `diffusers` training example.

The plain side follows that example's outline, written anew: a `DataLoader` over single images, a
scheduler that adds noise, noise prediction with a mean squared error, clipped gradients, AdamW, a
learning-rate schedule, `EMAModel`, and the loss read at every step. Both sides train the same
network from noise prediction at the same batch size, and both include their set-up.
"""

from __future__ import annotations

import torch
from torch import nn

from helpers import laws, networks
from helpers.bench_measure import compare
from helpers.diffusion import Cell, train
from helpers.noise import torch_generator

CELLS = tuple(Cell(size=size, network="unet-80k", objective="vp", n=16_384, batch=64, steps=steps)
              for size, steps in ((8, 40), (16, 25)))
TOY = (Cell(dataset="digits8", size=8, network="unet-20k", objective="vp", n=64, batch=8, steps=2),)


class _Images(torch.utils.data.Dataset):
    """Single images, scaled as they are asked for."""

    def __init__(self, images: torch.Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {"input": self.images[index].float() / 127.5 - 1}


def plain_training(images: torch.Tensor, cell: Cell, device: str = "cpu") -> nn.Module:
    """Train for ``cell.steps`` steps by the example's outline.

    Parameters
    ----------
    images : Tensor, uint8, shape [n, C, H, W]
    cell : Cell
        Network, batch, steps and rate.

    Returns
    -------
    torch.nn.Module
        The network with its averaged weights.
    """
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    source = torch_generator("bench-training", cell.seed)
    network = networks.build(cell.network, images.shape[1], cell.size, cell.seed).body.to(device)
    network.train()
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0,
                       power=0.75)
    average.to(device)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimiser = torch.optim.AdamW(network.parameters(), lr=cell.rate, betas=(0.95, 0.999),
                                  weight_decay=1e-6, eps=1e-8)
    rates = get_scheduler("cosine", optimizer=optimiser, num_warmup_steps=cell.warmup,
                          num_training_steps=cell.steps)
    loader = torch.utils.data.DataLoader(_Images(images), batch_size=cell.batch, shuffle=True,
                                         generator=source, num_workers=0)
    step, losses = 0, []
    while step < cell.steps:
        for batch in loader:
            clean = batch["input"].to(device)
            noise = torch.randn(clean.shape, generator=source).to(device)
            times = torch.randint(1000, (len(clean),), generator=source).to(device)
            noisy = scheduler.add_noise(clean, noise, times)
            loss = nn.functional.mse_loss(network(noisy, times).sample, noise)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            rates.step()
            optimiser.zero_grad()
            average.step(network.parameters())
            losses.append(loss.detach().item())
            step += 1
            if step == cell.steps:
                break
    average.copy_to(network.parameters())
    return network


def sides(case: dict, device: str) -> dict:
    """The book's and the plain way of a case (see `helpers.bench_measure`)."""
    cell = case["cell"]
    law = laws.load(cell.dataset, cell.size)

    def book():
        clean = torch.from_numpy(law.subset(cell.n, half=cell.half))
        return lambda: train(cell, clean, device)

    def plain():
        clean = torch.from_numpy(law.subset(cell.n, half=cell.half))
        images = ((clean + 1) * 127.5).round().to(torch.uint8)
        return lambda: plain_training(images, cell, device)

    return {"book": book, "plain": plain}


def measure(device: str, rounds: int, store: str, quick: bool = False) -> dict:
    """Time a step and the peak memory of the whole process; one row a case."""
    rows = []
    for cell in TOY if quick else CELLS:
        found = compare(sides, {"cell": cell}, device, rounds)
        for kind in ("seconds", "processor"):
            found[kind] = {side: [v / cell.steps for v in values]
                           for side, values in found[kind].items()}
        rows.append({
            "case": f"{cell.network}, {cell.size}x{cell.size}, batch {cell.batch}, a step of "
                    f"{cell.steps}",
            **found, "goal": 1.0, "error": None, "error_goal": None,
        })
    return {"rows": rows}
