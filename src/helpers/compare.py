"""Compare two models of the reader's own: their pictures of the same noises, scored and shown."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from helpers import descriptors, scores
from helpers.datasets import load
from helpers.images import DataError
from helpers.intervals import Interval
from helpers.noise import noise
from helpers.project import UsageError, replacing
from helpers.verdicts import aligned

SHOWN = 12


def read_samples(path: Path) -> np.ndarray:
    """Read a model's pictures from a safetensors file.

    Parameters
    ----------
    path : Path
        Holds an array ``images``: [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3; uint8,
        or float in [0, 1] or (if any value is negative) in [-1, 1].

    Returns
    -------
    ndarray, uint8 [N, H, W, C]

    Raises
    ------
    UsageError
        Naming the file, what it holds and what is needed.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        arrays = load_file(path)
    except Exception as error:
        raise UsageError(f"{path} is not a readable safetensors file: {error}") from error
    if "images" not in arrays:
        raise UsageError(f"{path} holds no array 'images' (it holds {', '.join(arrays) or 'none'})")
    images = arrays["images"]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = np.moveaxis(images, 1, 3)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise UsageError(f"{path}: 'images' has shape {list(images.shape)}; needed are N x H x W, "
                         "N x H x W x C or N x C x H x W with 1 or 3 channels")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if not np.issubdtype(images.dtype, np.floating):
        raise UsageError(f"{path}: 'images' is {images.dtype}; needed is uint8 or float")
    images = images.astype(np.float64)
    if not np.isfinite(images).all():
        raise UsageError(f"{path}: {int((~np.isfinite(images)).sum())} values are NaN or infinite")
    low, high = float(images.min()), float(images.max())
    if low < -1.5 or high > 1.5:
        raise UsageError(f"{path}: values from {low:.3g} to {high:.3g}; float images lie in "
                         "[0, 1] or [-1, 1] (save uint8 for 0 to 255)")
    if -0.2 < low < 0:
        raise UsageError(f"{path}: the lowest value is {low:.3g}, which could be [-1, 1] or [0, 1] "
                         "with an undershoot; clip it, or save uint8")
    unit = (images + 1) / 2 if low < 0 else images
    return np.ascontiguousarray((unit.clip(0, 1) * 255).round().astype(np.uint8))


def held_out_images(name: str | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the images that set the RP threshold, or None where none fit.

    Raises
    ------
    UsageError
        If the reader named some and they have another number of channels or size.
    """
    if name is None and shape != (16, 16, 1):
        return None
    found = load(name or "fashion16").test
    if found.shape[1:] != shape:
        raise UsageError(f"--held-out {name}: images of shape {list(found.shape[1:])}, the samples "
                         f"have {list(shape)}")
    return found


def compare(a: np.ndarray, b: np.ndarray, *, descriptor: str = "pixels",
            held_out: np.ndarray | None = None, seed: int = 0) -> dict[str, Any]:
    """Score two models' pictures of the same noises.

    Parameters
    ----------
    a, b : ndarray, uint8 [N, H, W, C]
    descriptor : {"pixels", "squeezenet"}
        Behind the RP score.
    held_out : ndarray, uint8 [M, H, W, C], optional
        Sets the descriptor's threshold; without it there is no RP score.
    seed : int
        Of the permuted-noise null.

    Returns
    -------
    dict
        ``noises``, ``median_distance``, and ``mae_score``, ``rp`` (None without `held_out`), each
        with ``score``, ``null`` (value, low, high) and ``kappa`` (agreement beyond the null).
    """
    if a.shape != b.shape:
        raise UsageError(f"A has images {list(a.shape)}, B has {list(b.shape)}: both need the "
                         "same number, size and channels (image i of both from noise i)")
    if len(a) < 2:
        raise UsageError(f"{len(a)} image a model: at least 2 are needed for the null")
    def scored(x, y, score):
        found, null = score(x, y), scores.null_score(x, y, score, seed)
        beyond = asdict(scores.kappa(found, null)) if null.value < 1 else None
        return {"score": asdict(found), "null": asdict(null), "kappa": beyond}

    result: dict[str, Any] = {
        "noises": len(a), "shape": list(a.shape[1:]),
        "median_distance": float(np.median(scores.mae(a, b))),
        "mae_score": scored(a, b, scores.mae_score), "rp": None,
    }
    if held_out is not None:
        found = getattr(descriptors, descriptor)(held_out)
        result["rp"] = {
            **scored(found.embed(a), found.embed(b), partial(scores.rp, threshold=found.threshold)),
            "descriptor": found.name, "threshold": float(found.threshold)}
    return result


def _sides(args: argparse.Namespace) -> list[np.ndarray]:
    """Read or draw both models' pictures; exactly one source a side."""
    sources = [(getattr(args, side), getattr(args, f"pipeline_{side}")) for side in "ab"]
    for side, (path, folder) in zip("ab", sources, strict=True):
        if (path is None) == (folder is None):
            raise UsageError(f"model {side.upper()}: give --{side} FILE or --pipeline-{side} DIR, "
                             "one of the two")
    found = [None if path is None else read_samples(path) for path, _ in sources]
    count = next((len(images) for images in found if images is not None), args.noise_count)
    for i, (_, folder) in enumerate(sources):
        if folder is not None:
            from helpers.pipelines import sample

            found[i] = sample(folder, count, args.steps)
    return found


def report(result: dict[str, Any]) -> str:
    """Lay out the scores for a terminal."""
    rows = []
    for name, label in (("rp", "RP score"), ("mae_score", "MAE score")):
        part = result[name]
        if part is None:
            continue
        kappa = "–" if part["kappa"] is None else f"{part['kappa']['value']:.3f}"
        rows.append([label, *(f"{Interval(**part[key]):.3f}" for key in ("score", "null")), kappa])
    lines = [aligned(("score", "same noise [95 %]", "permuted noises", "beyond chance"), rows),
             f"{result['noises']} noises; median distance {result['median_distance']:.1f} of 255"]
    if result["rp"] is None:
        lines.append("No RP score: its threshold needs test images like yours; give --held-out.")
    return "\n".join(lines)


def main(args: argparse.Namespace) -> None:
    """Compare, print, and write ``comparison.json`` and ``plate.png`` into ``args.out``."""
    try:
        a, b = _sides(args)
        held_out = held_out_images(args.held_out, a.shape[1:])
        result = compare(a, b, descriptor=args.descriptor, held_out=held_out, seed=args.seed)
    except DataError as error:
        raise UsageError(str(error)) from error
    print(report(result))
    from helpers.figures import plate

    args.out.mkdir(parents=True, exist_ok=True)
    shown = min(SHOWN, len(a))
    plate([a[:shown], b[:shown]], ["model A", "model B"], [str(i) for i in range(shown)],
          title="The same noises through two models").savefig(args.out / "plate.png", dpi=150)
    (args.out / "comparison.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"written: {args.out / 'comparison.json'}, {args.out / 'plate.png'}")


def write_noise(path: Path, count: int, shape: tuple[int, int, int], seed: int = 0) -> str:
    """Write noises 0 to `count` - 1 as safetensors; returns a line that says so.

    Raises
    ------
    UsageError
        If the file cannot be written or would be larger than 4 GiB.
    """
    size = 4 * count * int(np.prod(shape))
    if size > 2**32:
        raise UsageError(f"--count {count} of shape {list(shape)} are {size / 2**30:.1f} GiB; the "
                         "limit is 4 GiB: write fewer noises")
    about = {"bank": "same-noise", "seed": str(seed), "first": "0", "count": str(count),
             "law": "standard normal"}
    try:
        with replacing(path) as part:
            save_file({"noise": noise(range(count), shape, seed)}, part, metadata=about)
    except Exception as error:
        raise UsageError(f"cannot write {path}: {error}") from error
    return f"{count} noises of shape {list(shape)}, seed {seed}: {path}"
