"""What a run would cost, from the costs that published measurements recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from helpers import notebooks, verdicts
from helpers.planning import Job
from helpers.project import UsageError, chapters


def published(root: Path) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """Yield key, record and folder of every published measurement, in the order of the keys.

    Reads ``record.json`` files directly, so nothing but the standard library is needed.
    """
    files = (root / "results").glob("[0-9a-f][0-9a-f]/*/record.json")
    for path in sorted(files, key=lambda path: path.parent.name):
        try:
            record = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise UsageError(f"{path} is damaged ({error}): restore it, for instance with `git "
                             "checkout results`") from error
        yield path.parent.name, record, path.parent


def seconds(records: Iterable[dict[str, Any]]) -> float:
    """Seconds of one core behind records; a network that several of them share counts once."""
    own, trained = 0.0, {}
    for record in records:
        spent = (record.get("cost") or {}).get("seconds", 0.0)
        if groups := record.get("trained"):  # a game: key of every group of classifiers, seconds
            trained |= groups
            own += spent - sum(groups.values())
            continue
        training = (record.get("training") or {}).get("seconds", 0.0)
        own += max(spent - training, record.get("sampling_seconds", 0.0)) if training else spent
        model = json.dumps((record.get("recompute") or {}).get("arguments", {}).get("model"))
        trained[model] = max(training, trained.get(model, 0.0))
    return own + sum(trained.values())


def _spent(root: Path, path: Path, parameters: dict[str, Any] | None = None) -> tuple | None:
    """Records, MB of the largest cell and disk behind an executed notebook.

    None where nothing is known, or where it was run with other than the given parameters.
    """
    done = notebooks.read(path) if path.is_file() else None
    if not done or (parameters and parameters != done.metadata.get("run", {}).get("parameters")):
        return None
    keys = {key for kept in notebooks.kept(done) for key in kept.get("run", {}).get("keys", ())}
    known = {key: (record, folder) for key, record, folder in published(root) if key in keys}
    disk = sum(file.stat().st_size for _, folder in known.values() for file in folder.iterdir())
    return known and ({key: record for key, (record, _) in known.items()},
                      max((record.get("cost") or {}).get("peak_mb", 0.0)
                          for record, _ in known.values()), f"{disk / 1e6:.1f} MB")


def report(root: Path, jobs: Sequence[Job]) -> str:
    """Return a table of expected time, memory and disk of the planned chapters.

    Known for an unmodified run at profile laptop once it has been published; "unknown" for
    everything else. Times are those of a cold store with two worker processes, or one on one core;
    in the sum, what several chapters share counts once.
    """
    workers = min(2, os.cpu_count() or 1)
    rows, union = [], {}
    for job in jobs:
        spent = _spent(root, root / "notebooks" / job.target.name, job.run["parameters"])
        if not spent:
            union = None
            rows.append([job.slug, job.state, "–", "unknown", "unknown", "unknown"])
            continue
        records, peak, disk = spent
        union = None if union is None else union | records
        rows.append([job.slug, job.state, str(len(records)),
                     _hours(seconds(records.values()) / workers), f"{workers * peak:.0f} MB", disk])
    total = None if union is None else seconds(union.values()) / workers
    header = ("chapter", "notebook", "cells", "time, cold store", "memory at most", "disk")
    return (f"{verdicts.aligned(header, rows)}\n\nprofile {jobs[0].run['profile']}, {workers} "
            f"worker processes; expected in all: {_hours(total)}. Cells already in the store or in "
            "results/ cost nothing.")


def write(root: Path) -> None:
    """Write ``book/_generated/costs_table.md``: what each published chapter cost when computed.

    Cells that several chapters use count in each. Time is the sum over cells on one core, and what
    two worker processes need at best; memory is two workers of the largest cell.
    """
    rows = []
    for script in chapters(root):
        path = script.with_suffix(".ipynb")
        records, peak, disk = _spent(root, path) or ({}, 0.0, "0.0 MB")
        if path.is_file():
            spent = seconds(records.values())
            rows.append([path.stem, str(len(records)), _hours(spent), _hours(spent / 2),
                         f"{2 * peak:.0f} MB", disk])
    header = ("Chapter at `laptop`", "Published cells", "One core", "Two workers", "Memory", "Disk")
    target = root / "book" / "_generated" / "costs_table.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(verdicts.table(header, rows) + "\n", encoding="utf-8")


def _hours(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
