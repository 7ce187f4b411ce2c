"""Sample a reader's own diffusers pipeline from the noise bank, without ever running its code.

Only two parts of the folder are read: ``unet/`` (a UNet2DModel in safetensors) and
``scheduler/scheduler_config.json``. Classes come from a short list, nothing is downloaded, and no
file is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.images import DataError
from helpers.noise import noise

DDIM_LIKE = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler",
             "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler",
             "EulerDiscreteScheduler", "HeunDiscreteScheduler")
BATCH = 64
OWN = ("EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path.parent}: no {path.name}; expected a folder written by diffusers' "
                        "save_pretrained, with unet/ and scheduler/")
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def _unet(folder: Path):
    from diffusers import UNet2DModel

    part = folder / "unet"
    config = _json(part / "config.json")
    name = config.get("_class_name")
    if name != "UNet2DModel":
        raise DataError(f"{part}: the network is a {name}; only unconditional UNet2DModel "
                        "pipelines can be sampled here: give samples with --a and --b instead")
    if not list(part.glob("*.safetensors")):
        raise DataError(f"{part}: no .safetensors weights; save the pipeline again with "
                        "safe_serialization=True (other formats are not opened)")
    if config.get("num_class_embeds") or config.get("class_embed_type"):
        raise DataError(f"{part}: the network is class-conditional; give samples instead")
    try:
        return UNet2DModel.from_pretrained(part, local_files_only=True, use_safetensors=True,
                                           low_cpu_mem_usage=False).eval()
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{part}: the network cannot be loaded: {error}") from error


def _scheduler(folder: Path, steps: int):
    """Return a deterministic scheduler set to `steps` steps and the factor of the first noise."""
    import diffusers

    config = _json(folder / "scheduler" / "scheduler_config.json")
    name = config.get("_class_name")
    if name not in (*DDIM_LIKE, *OWN):
        raise DataError(f"{folder}/scheduler: {name} is not supported; known are "
                        f"{', '.join((*DDIM_LIKE, *OWN))}; give samples with --a and --b instead")
    own = name in OWN
    scheduler = getattr(diffusers, name if own else "DDIMScheduler").from_config(config)
    try:
        scheduler.set_timesteps(steps)
    except ValueError as error:
        raise DataError(f"{folder}/scheduler: --steps {steps} does not fit: {error}") from error
    return scheduler, float(scheduler.sigmas[0]) if own else 1.0


@torch.no_grad()
def sample(folder: Path, count: int, steps: int) -> np.ndarray:
    """Draw the pictures of noises 0 to `count` - 1.

    Parameters
    ----------
    folder : Path
        Pipeline folder.
    count, steps : int
        Noises and solver steps.

    Returns
    -------
    ndarray, uint8 [count, H, W, C]

    Raises
    ------
    helpers.images.DataError
        If the folder is not such a pipeline.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    model = _unet(folder)
    size = model.config.sample_size
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    if not height:
        raise DataError(f"{folder}/unet: its config states no sample_size")
    shape, drawn = (model.config.in_channels, height, width), []
    for first in range(0, count, BATCH):
        scheduler, factor = _scheduler(folder, steps)
        start = noise(range(first, min(first + BATCH, count)), shape)
        x = torch.from_numpy(start) * factor
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t) if hasattr(
                scheduler, "scale_model_input") else x
            out = model(scaled, t.expand(len(x)) if t.ndim == 0 else t).sample
            x = scheduler.step(out, t, x).prev_sample
        drawn.append(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    return torch.cat(drawn).permute(0, 2, 3, 1).contiguous().numpy()
