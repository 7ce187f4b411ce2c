"""Networks by name: one named configuration per family and width.

Every network is called as ``F(x [n, C, H, W], c_noise [n]) -> [n, C, H, W]``.  The U-Nets and the
transformer are the models of ``diffusers``; the perceptron is ours because there is none.  Names
give the size class: the rounded number of parameters with one channel (of the perceptron at 8x8,
since its width at the ends follows the picture); every record holds the exact count.
"""

from __future__ import annotations

import torch
from torch import nn

from helpers.noise import stream_key

__all__ = ["CONFIGS", "build", "parameter_count"]

TIME_SCALE = 20.0  # c_noise spans about [-2, 2]; sinusoids of diffusers expect a wider range

CONFIGS = {
    "unet-20k": {"family": "unet", "channels": (8, 10), "layers": 1, "groups": 2},
    "unet-80k": {"family": "unet", "channels": (16, 20), "layers": 1, "groups": 4},
    "unet-320k": {"family": "unet", "channels": (32, 40), "layers": 1, "groups": 8},
    "unet-64": {"family": "unet", "channels": (64, 128, 128), "layers": 2, "groups": 16},
    "unet-128": {"family": "unet", "channels": (128, 256, 256), "layers": 4, "groups": 32},
    "unet-256": {"family": "unet", "channels": (256, 512, 512), "layers": 4, "groups": 32},
    "dit-400k": {"family": "dit", "depth": 4, "heads": 4, "head": 16, "patch": 2},
    "mlp-900k": {"family": "mlp", "hidden": 512, "depth": 3},
}


class _UNet(nn.Module):
    """``diffusers.UNet2DModel`` without attention, its last layer started at zero."""

    def __init__(self, image_channels, size, channels, layers, groups):
        super().__init__()
        from diffusers import UNet2DModel

        self.body = UNet2DModel(
            sample_size=size,
            in_channels=image_channels,
            out_channels=image_channels,
            block_out_channels=channels,
            down_block_types=("DownBlock2D",) * len(channels),
            up_block_types=("UpBlock2D",) * len(channels),
            layers_per_block=layers,
            norm_num_groups=groups,
            add_attention=False,
        )
        nn.init.zeros_(self.body.conv_out.weight)
        nn.init.zeros_(self.body.conv_out.bias)

    def forward(self, x, c_noise):
        return self.body(x, TIME_SCALE * c_noise, return_dict=False)[0]


class _DiT(nn.Module):
    """``diffusers.DiTTransformer2DModel`` with one class, which makes it unconditional."""

    def __init__(self, image_channels, size, depth, heads, head, patch):
        super().__init__()
        from diffusers import DiTTransformer2DModel

        self.body = DiTTransformer2DModel(
            num_attention_heads=heads,
            attention_head_dim=head,
            in_channels=image_channels,
            out_channels=image_channels,
            num_layers=depth,
            sample_size=size,
            patch_size=patch,
            num_embeds_ada_norm=1,
        )
        nn.init.zeros_(self.body.proj_out_2.weight)
        nn.init.zeros_(self.body.proj_out_2.bias)

    def forward(self, x, c_noise):
        label = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return self.body(x, TIME_SCALE * c_noise, label, return_dict=False)[0]


class _MLP(nn.Module):
    """Residual perceptron on the flattened image and sinusoids of the noise level."""

    def __init__(self, image_channels, size, hidden, depth):
        super().__init__()
        pixels = image_channels * size * size
        self.register_buffer("frequency", 2.0 ** torch.arange(-2, 6) * 0.5, persistent=False)
        self.enter = nn.Linear(pixels + 2 * len(self.frequency), hidden)
        self.inner = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(depth)
        )
        self.leave = nn.Linear(hidden, pixels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x, c_noise):
        angle = c_noise[:, None] * self.frequency
        h = self.enter(torch.cat([x.flatten(1), angle.sin(), angle.cos()], 1))
        for layer in self.inner:
            h = h + layer(h)
        return self.leave(nn.functional.silu(h)).view_as(x)


_FAMILIES = {"unet": _UNet, "dit": _DiT, "mlp": _MLP}


def build(name: str, channels: int, size: int, seed: int = 0) -> nn.Module:
    """Build a named network with its initial weights.

    Parameters
    ----------
    name : str
        A key of :data:`CONFIGS`.
    channels, size : int
        Image channels and side.
    seed : int
        Seed of the stream ``init/<name>``; the process-wide generator is left as it was.

    Returns
    -------
    torch.nn.Module
        In evaluation mode (no network here uses dropout), float32, on the CPU.

    Raises
    ------
    ValueError
        For an unknown name, or a side that the network cannot halve often enough.
    """
    if name not in CONFIGS:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(CONFIGS)}")
    config = dict(CONFIGS[name])
    family = config.pop("family")
    halvings = {"unet": 2 ** (len(config.get("channels", ())) - 1), "dit": config.get("patch", 1)}
    if size % halvings.get(family, 1):
        raise ValueError(f"network {name!r} needs a side divisible by {halvings[family]}: {size}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_key(f"init/{name}", seed) % 2**63)
        return _FAMILIES[family](channels, size, **config).eval()


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
