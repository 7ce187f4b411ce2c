"""Shadow diffusion models on a reader's own records: trained, sampled and kept in a folder.

Each ratio has a folder of its own, ``ratio-0.5/``: ``samples.safetensors`` and ``about.json``,
which says how they were made and is written last, so that a folder with it is complete. Blocks of
eight shadows are kept beside them until then, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from helpers import denoiser_stack, own_records
from helpers.decisions import FEWEST
from helpers.denoiser_stack import Small
from helpers.images import DataError
from helpers.noise import noise, stream_key
from helpers.noise_samples import FEWEST as FEWEST_NOISES
from helpers.noise_samples import Reference, grey_levels
from helpers.own_records import Records
from helpers.project import UsageError, replacing
from helpers.workers import map_cells

__all__ = ["Plan", "main", "plan", "read", "train"]

SAMPLES, ABOUT = "samples.safetensors", "about.json"
FORMAT = 1
BLOCK = 8
HIDDEN, BATCH = (256, 256), 64


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be trained: records, ratios and everything else that decides the samples.

    Attributes
    ----------
    records : Records
    ratios : tuple of float
    n, count, noises, seed : int
        Training records of a shadow, shadows of a ratio, noises of the bank, seed of all draws.
    recipe : Small
    """

    records: Records
    ratios: tuple[float, ...]
    n: int
    count: int
    noises: int
    seed: int
    recipe: Small

    def about(self, ratio: float) -> dict[str, Any]:
        """What decides the samples of a ratio, as JSON types."""
        kind = "pictures" if len(self.records.shape) == 3 else "table"
        told = {
            "format": FORMAT, "kind": kind, "ratio": ratio, "n": self.n, "count": self.count,
            "noises": self.noises, "shape": self.records.shape, "seed": self.seed,
            "data": {"name": self.records.name, "property": self.records.property,
                     "records": len(self.records.values), "sha256": self.records.sha256,
                     "features": self.records.names},
            "recipe": asdict(self.recipe), "sampler": {"solver": "heun", "steps": 18}}
        return json.loads(json.dumps(told))


@dataclass(frozen=True, eq=False)
class _Block:
    """Some shadows of one ratio: the file of all records, their rows, and where samples go."""

    path: Path
    records: Path
    rows: np.ndarray
    seeds: np.ndarray
    shape: tuple[int, ...]
    noises: int
    recipe: Small


def plan(records: Records, ratios: Sequence[float], seed: int = 0, *, n: int | None = None,
         count: int = 16, noises: int = 200, steps: int = 2000,
         hidden: tuple[int, ...] = HIDDEN) -> Plan:
    """Check what is asked for and say what will be trained.

    Raises
    ------
    UsageError
        For ratios, counts or noises that cannot be.
    helpers.images.DataError
        When the records are too few (:func:`helpers.own_records.fitting`).
    """
    for ratio in ratios:
        if not 0 <= ratio <= 1:
            raise UsageError(f"--ratios: {ratio:g} is outside [0, 1]; a ratio is the share of "
                             "training records with the property")
    if len({f"{ratio:g}" for ratio in ratios}) < len(ratios):
        raise UsageError(f"--ratios: {' '.join(f'{ratio:g}' for ratio in ratios)} has one twice; "
                         "give different ratios")
    if count < FEWEST:
        raise UsageError(f"--count {count}: a threshold needs at least {FEWEST} shadows of a "
                         "ratio; 16 or more are better")
    if noises < FEWEST_NOISES:
        raise UsageError(f"--noises {noises}: at least {FEWEST_NOISES} are needed; 10 or more are "
                         "better")
    fits = own_records.fitting(records, ratios, seed, n)
    return Plan(records, tuple(ratios), fits, count, noises, seed,
                Small(hidden=hidden, batch=BATCH, steps=steps, chunk=BLOCK))


def train(wanted: Plan, out: Path, *, workers: int | None = None, progress: bool | None = None
          ) -> list[Path]:
    """Train and sample the shadows that `out` lacks; returns the folders, one a ratio.

    Raises
    ------
    UsageError
        When a folder of a ratio holds something else; before any training.
    FloatingPointError
        When training diverges.
    """
    folders = {ratio: out / f"ratio-{ratio:g}" for ratio in wanted.ratios}
    missing = [ratio for ratio, folder in folders.items()
               if not _complete(folder, wanted.about(ratio))]
    for ratio in missing:
        folders[ratio].mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "records.npy"
        if missing:
            np.save(file, wanted.records.values)
        jobs = {ratio: _blocks(wanted, ratio, folders[ratio], file) for ratio in missing}
        map_cells(_train_block, [block for ratio in missing for block in jobs[ratio]
                                 if not block.path.is_file()],
                  workers=workers, label="shadows", progress=progress)
    for ratio in missing:
        _join(folders[ratio], wanted.about(ratio), [block.path for block in jobs[ratio]])
    return list(folders.values())


def _complete(folder: Path, about: dict[str, Any]) -> bool:
    """Whether a folder holds these samples; UsageError if it holds others."""
    if not (folder / ABOUT).exists():
        return False
    there = _about(folder)
    other = [name for name in about if there.get(name) != about[name]]
    if other:
        had, asked = (part.get(other[0]) for part in (there, about))
        parts = [part for part in asked if had.get(part) != asked[part]] if isinstance(
            asked, dict) else []
        if parts:
            other[0], had, asked = parts[0], had.get(parts[0]), asked[parts[0]]
        raise UsageError(f"{folder} was made with {other[0]} {_brief(had)}, asked for is "
                         f"{_brief(asked)}: give another --out, or the arguments that it was made "
                         "with")
    _samples(folder, there)
    return True


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _blocks(wanted: Plan, ratio: float, folder: Path, file: Path) -> list[_Block]:
    mark = hashlib.sha256(json.dumps(wanted.about(ratio), sort_keys=True).encode()).hexdigest()
    blocks = []
    for first in range(0, wanted.count, BLOCK):
        numbers = range(first, min(first + BLOCK, wanted.count))
        rows = own_records.draws(wanted.records, ratio, wanted.n, numbers, wanted.seed)
        seeds = np.array([stream_key("own shadow", wanted.seed, round(ratio * 1e6), i) % 2**62
                          for i in numbers])
        blocks.append(_Block(folder / f".block-{first // BLOCK:03d}-{mark[:16]}.safetensors",
                             file, rows, seeds, wanted.records.shape, wanted.noises,
                             wanted.recipe))
    return blocks


def _train_block(block: _Block) -> None:
    used, index = np.unique(block.rows, return_inverse=True)
    values = np.load(block.records, mmap_mode="r", allow_pickle=False)[used]
    models = denoiser_stack.fit(block.recipe, values, index.reshape(block.rows.shape), block.seeds)
    starts = noise(range(block.noises), block.shape).reshape(block.noises, -1)
    found = denoiser_stack.draw(models, starts)
    if not np.isfinite(found).all():
        raise FloatingPointError("samples are not finite; the models diverged")
    found = grey_levels(found) if len(block.shape) == 3 else found.astype(np.float16)
    with replacing(block.path) as part:
        safetensors.numpy.save_file(
            {"samples": found.reshape(*found.shape[:2], *block.shape)}, part)


def _join(folder: Path, about: dict[str, Any], blocks: list[Path]) -> None:
    samples = np.concatenate([safetensors.numpy.load_file(path)["samples"] for path in blocks])
    content = safetensors.numpy.save({"samples": samples})
    with replacing(folder / SAMPLES) as part:
        part.write_bytes(content)
    about = about | {"samples": {"sha256": hashlib.sha256(content).hexdigest(),
                                 "dtype": str(samples.dtype), "shape": list(samples.shape)}}
    with replacing(folder / ABOUT) as part:
        part.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    for path in folder.glob(".*block-*"):  # those of runs that were killed, too
        path.unlink(missing_ok=True)


def _about(folder: Path) -> dict[str, Any]:
    """Read a folder's about.json and check that every part has its type."""
    path = folder / ABOUT
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    if not path.is_file():
        raise UsageError(f"{folder} holds no {ABOUT}: give a folder that `python -m helpers "
                         "train-shadows` has finished, one a ratio (ratio-0.5)")
    try:
        told = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}): remove {folder} and train its shadows "
                         "again") from error
    kinds = {"format": int, "kind": str, "ratio": (int, float), "n": int, "count": int,
             "noises": int, "shape": list, "seed": int, "data": dict, "recipe": dict,
             "sampler": dict, "samples": dict}
    bad = [name for name, kind in kinds.items()
           if not isinstance(told, dict) or not isinstance(told.get(name), kind)]
    if not bad:
        inner = {"data": {"name", "property", "sha256"}, "recipe": {"hidden", "steps"},
                 "samples": {"sha256"}}
        bad = [name for name, needed in inner.items() if not needed <= set(told[name])]
        if len(told["shape"]) not in (1, 3) or {type(side) for side in told["shape"]} != {int}:
            bad.append("shape")
    if bad:
        raise UsageError(f"{path} is damaged ({', '.join(bad)}: missing or of another kind): "
                         f"remove {folder} and train its shadows again")
    if told["format"] != FORMAT:
        raise UsageError(f"{path} has format {told['format']}, known is {FORMAT}: train the "
                         "shadows again with this version")
    return told


def _samples(folder: Path, about: dict[str, Any]) -> np.ndarray:
    """Samples of a complete folder, checked against its about.json: [count, noises, d]."""
    path = folder / SAMPLES
    again = f"remove {folder} and train its shadows again"
    if not path.is_file():
        raise UsageError(f"{folder} holds no {SAMPLES}: {again}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != about["samples"]["sha256"]:
        raise UsageError(f"{path} is damaged (its SHA-256 is not the one in {ABOUT}): {again}")
    found = safetensors.numpy.load(content)["samples"]
    wanted = (about["count"], about["noises"], *about["shape"])
    if found.shape != wanted:
        raise UsageError(f"{path} has shape {list(found.shape)}, {ABOUT} says {list(wanted)}: "
                         f"{again}")
    return found.reshape(*found.shape[:2], prod(about["shape"]))


def read(folders: Sequence[Path]) -> Reference:
    """Read the shadows of several ratios that belong together, in the order given.

    Raises
    ------
    UsageError
        For fewer than two folders, a damaged one, or folders of other data, halves or noises.
    """
    if len(folders) < 2:
        raise UsageError("--shadows takes at least two folders, one a ratio, as train-shadows "
                         "writes them: --shadows mine/ratio-0.5 mine/ratio-0.3")
    told = [_about(folder) for folder in folders]
    for folder, other in zip(folders[1:], told[1:], strict=True):
        for name in ("data", "kind", "shape", "noises", "n", "count", "seed", "recipe", "sampler"):
            if other[name] != told[0][name]:
                raise UsageError(f"{folders[0]} and {folder} differ in {name} "
                                 f"({_brief(told[0][name])} and {_brief(other[name])}): train "
                                 "both with one call of train-shadows")
    samples = {float(part["ratio"]): _samples(folder, part)
               for folder, part in zip(folders, told, strict=True)}
    if len(samples) < len(folders):
        listed = ", ".join(f"{part['ratio']:g}" for part in told)
        raise UsageError(f"--shadows: two folders have the same ratio ({listed}); equal worlds "
                         "leave nothing to tell: give different ratios")
    about = told[0]
    data, recipe = about["data"], about["recipe"]
    units = " and ".join(map(str, recipe["hidden"]))
    return Reference(samples, tuple(about["shape"]), about["n"],
                     f"{data['name']}, {data['property']}",
                     f"perceptrons of {units} units, {recipe['steps']} steps")


def main(args: argparse.Namespace) -> None:
    """Do what ``python -m helpers train-shadows`` was asked for."""
    try:
        records = own_records.load(args.data, args.property, args.side, args.label)
        wanted = plan(records, args.ratios, args.seed, n=args.n, count=args.count,
                      noises=args.noises, steps=args.steps, hidden=HIDDEN)
        print(f"{len(wanted.ratios)} x {wanted.count} shadows on {wanted.n} records each of "
              f"{records.name} ({' x '.join(map(str, records.shape))}), property "
              f"{records.property}", flush=True)
        folders = train(wanted, args.out, workers=args.workers)
    except (DataError, FloatingPointError) as error:
        raise UsageError(str(error)) from error
    for folder in folders:
        print(f"shadows: {folder}")
    if len(folders) > 1:
        print("test a model against them: python -m helpers attack-diffusion --shadows "
              f"{' '.join(map(str, folders))} --write-noise noise.npz, then the same with "
              "--samples FILE in place of --write-noise")
