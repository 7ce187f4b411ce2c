"""A reader's own diffusion model: the noises that it starts from, and its samples of them.

Samples come from a file or from a diffusers pipeline with a deterministic scheduler; either way
they end in the units of the shadows that they are compared with.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from helpers.images import DataError
from helpers.noise import noise
from helpers.project import UsageError, replacing

__all__ = ["Reference", "from_pipeline", "grey_levels", "read_samples", "write_noise"]

FEWEST, MOST_MODELS = 3, 1000
DETERMINISTIC = ("DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler",
                 "DPMSolverSinglestepScheduler", "DEISMultistepScheduler",
                 "UniPCMultistepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
                 "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler")


@dataclass(frozen=True, eq=False)
class Reference:
    """Shadows that a model is compared with: their samples, and what they were trained on.

    Attributes
    ----------
    samples : dict of float to ndarray, shape [shadows, noises, d]
        By ratio: uint8 grey levels of pictures, or float16 encoded features. Even numbers were
        trained on one half of the records, odd ones on the other.
    shape : tuple of int
        Of one sample and one noise: (channels, height, width), or (features,).
    n : int
        Training records of each shadow.
    data, network : str
        What the records and the shadows are, for sentences.
    published : bool
    """

    samples: dict[float, np.ndarray]
    shape: tuple[int, ...]
    n: int
    data: str
    network: str
    published: bool = False

    @property
    def noises(self) -> int:
        """Noises of the bank that the shadows were asked."""
        return next(iter(self.samples.values())).shape[1]

    @property
    def count(self) -> int:
        """Shadows of each ratio."""
        return len(next(iter(self.samples.values())))

    @property
    def pictures(self) -> bool:
        """Whether the samples are grey levels."""
        return len(self.shape) == 3


def grey_levels(values: np.ndarray) -> np.ndarray:
    """Turn model values into the grey levels that shadows show, uint8, cut to [-1, 1]."""
    return np.rint((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8)


def write_noise(path: Path, shape: tuple[int, ...], count: int) -> str:
    """Write the noises of the bank; returns lines that say how to use them.

    Parameters
    ----------
    path : Path
        ``.npz`` or ``.safetensors``: arrays ``noise`` float32 [count, *shape], ``indices`` int64.
    shape : tuple of int
    count : int

    Raises
    ------
    UsageError
        For another ending, or if the file cannot be written.
    """
    arrays = {"noise": noise(range(count), shape), "indices": np.arange(count)}
    if path.suffix not in (".npz", ".safetensors"):
        raise UsageError(f"--write-noise {path}: its ending is {path.suffix!r}; needed is .npz or "
                         ".safetensors")
    try:
        with replacing(path) as part, open(part, "wb") as file:
            if path.suffix == ".npz":
                np.savez(file, **arrays)
            else:
                file.write(safetensors.numpy.save(arrays))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    told = " x ".join(map(str, shape))
    kind = "uint8, or floats in [-1, 1]" if len(shape) == 3 else "floats, the encoded features"
    return (f"{count} noises of shape {told} (array `noise`): {path}\n"
            "Start a deterministic sampler from sigma_max times them (EDM and other "
            "variance-exploding models) or from the noises themselves (DDPM, DDIM and other "
            "variance-preserving models, flow matching), without injecting noise on the way.\n"
            f"Save the samples as array `samples` [{count}, {', '.join(map(str, shape))}] or "
            f"[models, {count}, {', '.join(map(str, shape))}], sample i from noise i, {kind}; with "
            "fewer of them, add `indices`.")


def read_samples(path: Path, known: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Read samples that a reader's models made of noises of the bank.

    Parameters
    ----------
    path : Path
        ``.safetensors``, ``.npz`` (array ``samples`` or the only one; ``indices``, by default 0,
        1, ...) or ``.npy``. Pictures are [noises, C, H, W], [noises, H, W, C] or, of one channel,
        [noises, H, W], uint8 or floats in [-1, 1]; features are [noises, d] floats; either with
        models in front.
    known : Reference

    Returns
    -------
    samples : ndarray, shape [models, noises, d]
        In the units of `known`.
    indices : ndarray of int64, shape [noises]

    Raises
    ------
    UsageError
        Naming the file, what it holds and what is needed.
    """
    arrays = _arrays(path, known)
    asked = arrays.pop("indices", None)
    if "samples" not in arrays and len(arrays) != 1:
        raise UsageError(f"{path} holds no array 'samples' (arrays: "
                         f"{', '.join(arrays) or 'none'}); save the samples under that name")
    values = arrays.get("samples", next(iter(arrays.values())))
    values = _laid_out(path, values, known)
    indices = _indices(path, asked, values.shape[1], known)
    return _in_units(path, values, known), indices


def _arrays(path: Path, known: Reference) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    endings = (".safetensors", ".npz", ".npy")
    if path.suffix not in endings:
        raise UsageError(f"{path}: its ending is {path.suffix!r}; needed is one of "
                         f"{', '.join(endings)}")
    most = min(16 * MOST_MODELS * known.noises * prod(known.shape) + 2**16, 2**31)
    try:
        size = path.stat().st_size
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                size = sum(info.file_size for info in archive.infolist())
        if size > most:
            raise UsageError(f"{path} holds {size / 1e6:.0f} MB; at most {most / 1e6:.0f} MB are "
                             f"read ({MOST_MODELS} models, {known.noises} noises each): split the "
                             "models over several files")
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        loaded = np.load(path, allow_pickle=False)
        if path.suffix == ".npy":
            return {"samples": loaded}
        with loaded:
            return dict(loaded)
    except UsageError:
        raise
    except Exception as error:
        told = f"damaged ({error})"
        if "Object arrays" in str(error) or "pickled" in str(error):
            told = "an object array, which needs pickle; save plain numbers"
        if "bfloat16" in str(error):
            told = "bfloat16 numbers; save them as float32"
        raise UsageError(f"{path} cannot be read: {told}") from error


def _laid_out(path: Path, values: np.ndarray, known: Reference) -> np.ndarray:
    """Samples as [models, noises, d], channels first."""
    of, given, wanted = known.shape, values.shape, " x ".join(map(str, known.shape))
    need = (f"needed are [noises, {wanted}] or [models, noises, {wanted}]" + (
        ", or the same with the channels last" if known.pictures else ""))
    if known.pictures:
        channels, height, width = of
        if values.shape[-3:] != of and values.shape[-3:] == (height, width, channels):
            values = np.moveaxis(values, -1, -3)
        elif values.shape[-3:] != of and channels == 1 and values.shape[-2:] == of[1:]:
            values = np.expand_dims(values, -3)
    if values.ndim - len(of) not in (1, 2) or values.shape[-len(of):] != of or not values.size:
        raise UsageError(f"{path}: samples have shape {list(given)}; {need}"
                         + _larger(given, known))
    values = values.reshape(-1, values.shape[-len(of) - 1], prod(of))
    if len(values) > MOST_MODELS:
        raise UsageError(f"{path}: {len(values)} models; at most {MOST_MODELS} are judged at once")
    return values


def _larger(found: tuple[int, ...], known: Reference) -> str:
    """What to do about pictures of another size, which must not be averaged down."""
    if not known.pictures or len(found) < 3:
        return ""
    side = max(found[-3:], key=found[-3:].count)  # height and width, wherever the channels are
    if found[-3:].count(side) < 2 or side <= known.shape[1] or side % known.shape[1]:
        return ""
    return (f". Pictures of side {side} are not averaged down to {known.shape[1]}: they started "
            "from other noises than the shadows. Train shadows of that size (`python -m helpers "
            f"train-shadows --side {side}`) and give them by --shadows")


def _indices(path: Path, asked: np.ndarray | None, count: int, known: Reference) -> np.ndarray:
    if asked is None:
        asked = np.arange(count)
    if asked.dtype.kind not in "iu" or asked.shape != (count,):
        raise UsageError(f"{path}: indices are {asked.dtype} of shape {list(asked.shape)}; needed "
                         f"is one whole number for each of the {count} noises")
    asked = asked.astype(np.int64)
    outside = asked[(asked < 0) | (asked >= known.noises)]
    if len(outside):
        raise UsageError(f"{path}: no shadow was asked noise {_listed(outside)}; they know noises "
                         f"0 to {known.noises - 1}: leave the others out, and name those that "
                         "stay in an array `indices`")
    found, times = np.unique(asked, return_counts=True)
    if (times > 1).any():
        raise UsageError(f"{path}: indices name noise {_listed(found[times > 1])} more than once; "
                         "every noise counts once")
    if count < FEWEST:
        raise UsageError(f"{path}: samples of {count} noise{'s' * (count != 1)} "
                         f"({_listed(asked)}); at least {FEWEST} are needed, and 10 or more are "
                         "better")
    return asked


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return shown + (f", ... ({len(numbers)} in all)" if len(numbers) > 8 else "")


def _in_units(path: Path, values: np.ndarray, known: Reference) -> np.ndarray:
    if known.pictures and values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        needed = "uint8, or floats in [-1, 1]" if known.pictures else "floats"
        raise UsageError(f"{path}: samples are {values.dtype}; needed are {needed}")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise UsageError(f"{path}: the sample of model {bad[0][0]} at place {bad[0][1]} holds "
                         f"{values[tuple(bad[0])]} ({len(bad)} values are not finite); the sampler "
                         "diverged, or the file is damaged")
    if not known.pictures:
        return values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if low < -1 - 1e-4 or high > 1 + 1e-4:
        raise UsageError(f"{path}: values from {low:.3g} to {high:.3g}; floats must lie in [-1, 1] "
                         "(cut them, as the shadows' are), grey levels of 0 to 255 are uint8")
    darkest = min(int(part.min()) for part in known.samples.values()) / 127.5 - 1
    if low >= 0 > darkest:
        raise UsageError(f"{path}: values from {low:.3g} to {high:.3g}, none below 0, where the "
                         f"shadows go down to {darkest:.2g}; floats in [0, 1] have to be put in "
                         "[-1, 1] (2 x - 1) or saved as uint8 (255 x)")
    return grey_levels(values.astype(np.float64))


def from_pipeline(folder: Path, known: Reference, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample a diffusers pipeline from the noises that the shadows know.

    Parameters
    ----------
    folder : Path
        Written by diffusers' ``save_pretrained``; see :mod:`helpers.pipelines`.
    known : Reference
    steps : int
        Solver steps.

    Returns
    -------
    samples, indices
        As from :func:`read_samples`.

    Raises
    ------
    UsageError
        For a stochastic scheduler, pictures of another shape, or no such pipeline.
    """
    from helpers.pipelines import sample

    if not known.pictures:
        raise UsageError("--pipeline: the shadows' samples are features of a table, a pipeline "
                         "draws pictures; give the samples by --samples")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    _check_scheduler(folder)
    network = _config(folder / "unet" / "config.json")
    side, channels = network.get("sample_size"), network.get("in_channels")
    drawn = (channels, *(side if isinstance(side, list) else (side, side)))
    if network.get("_class_name") == "UNet2DModel" and drawn != known.shape:
        raise UsageError(f"{folder}/unet: its pictures are {' x '.join(map(str, drawn))}, the "
                         f"shadows' {' x '.join(map(str, known.shape))}, from other noises; train "
                         "shadows of that shape (`python -m helpers train-shadows`)")
    try:
        found = sample(folder, known.noises, steps)
    except DataError as error:
        raise UsageError(str(error).replace("--a and --b", "--samples")) from error
    flat = found.transpose(0, 3, 1, 2).reshape(1, known.noises, prod(known.shape))
    return flat, np.arange(known.noises)


def _check_scheduler(folder: Path) -> None:
    """Refuse a scheduler that injects noise, which `pipelines` would replace by DDIM."""
    config = _config(folder / "scheduler" / "scheduler_config.json")
    name = config.get("_class_name")
    random = str(config.get("algorithm_type", "")).startswith("sde")
    if name not in DETERMINISTIC or random or config.get("stochastic_sampling"):
        told = f"{name} ({config['algorithm_type']})" if random else name
        raise UsageError(
            f"{folder}/scheduler: {told} is not known to be deterministic. The attack needs the "
            "map from noise to picture, and a sampler that draws noise on the way has none: if "
            "the model is served like that, this attack does not apply. To test the model itself, "
            "save a DDIMScheduler (variance-preserving) or an EDMEulerScheduler (EDM) in its "
            "place, made from the same configuration")


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{path.parent}: no {path.name}; expected a folder written by diffusers' "
                         "save_pretrained, with unet/ and scheduler/")
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds {type(found).__name__}, not the settings that diffusers "
                         "writes")
    return found
