"""What a run would cost, from the costs that published measurements recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from helpers import notebooks, verdicts
from helpers.planning import Job


def published(root: Path) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """Yield key, record and folder of every published measurement, in the order of the keys.

    Reads ``record.json`` files directly, so nothing but the standard library is needed.
    """
    files = (root / "results").glob("[0-9a-f][0-9a-f]/*/record.json")
    for path in sorted(files, key=lambda path: path.parent.name):
        yield path.parent.name, json.loads(path.read_text("utf-8")), path.parent


def report(root: Path, jobs: Sequence[Job]) -> str:
    """Return a table of expected time, memory and disk of the planned chapters.

    Known for an unmodified run at profile laptop once it has been published; "unknown" for
    everything else. Times are those of a cold store with two worker processes, or one on one core.
    """
    costs = {key: (record.get("cost") or {}, folder) for key, record, folder in published(root)}
    workers = min(2, os.cpu_count() or 1)
    rows, seconds_all, unknown = [], 0.0, False
    for job in jobs:
        keys = _keys(root, job)
        known = [costs[key] for key in keys if key in costs]
        seconds = sum(cost.get("seconds", 0.0) for cost, _ in known) / workers
        if not known:
            unknown = True
            rows.append([job.slug, job.state, "–", "unknown", "unknown", "unknown"])
            continue
        seconds_all += seconds
        peak = workers * max(cost.get("peak_mb", 0.0) for cost, _ in known)
        disk = sum(file.stat().st_size for _, folder in known for file in folder.iterdir())
        rows.append([job.slug, job.state, str(len(known)), _hours(seconds), f"{peak:.0f} MB",
                     f"{disk / 1e6:.1f} MB"])
    total = "unknown" if unknown else _hours(seconds_all)
    header = ("chapter", "notebook", "cells", "time, cold store", "memory at most", "disk")
    profile = jobs[0].run["profile"] if jobs else "none"
    return (f"{verdicts.aligned(header, rows)}\n\nprofile {profile}, {workers} worker processes; "
            f"expected in all: {total}. Cells already in the store or in results/ cost nothing.")


def table(root: Path) -> str:
    """Return the Markdown table of what each published chapter cost when it was computed.

    Cells that several chapters use count in each. Time is the sum over cells on one core, and what
    two worker processes need at best; memory is two workers of the largest cell.
    """
    costs = {key: (record.get("cost") or {}, folder) for key, record, folder in published(root)}
    rows = []
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        known = [costs[key] for key in _run_keys(notebooks.read(path)) if key in costs]
        seconds = sum(cost.get("seconds", 0.0) for cost, _ in known)
        peak = 2 * max((cost.get("peak_mb", 0.0) for cost, _ in known), default=0.0)
        disk = sum(file.stat().st_size for _, folder in known for file in folder.iterdir())
        rows.append([path.stem, str(len(known)), _hours(seconds), _hours(seconds / 2),
                     f"{peak:.0f} MB", f"{disk / 1e6:.1f} MB"])
    header = ("Chapter at `laptop`", "Published cells", "One core", "Two workers", "Memory", "Disk")
    return verdicts.table(header, rows) + "\n"


def write(root: Path) -> None:
    """Write the table of costs to ``book/_generated/costs_table.md``, which the book includes."""
    target = root / "book" / "_generated" / "costs_table.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(table(root), encoding="utf-8")


def _keys(root: Path, job: Job) -> list[str]:
    """Return the store's keys that the published run with the same parameters used."""
    path = root / "notebooks" / f"{job.slug}.ipynb"
    if not path.is_file():
        return []
    done = notebooks.read(path)
    if done.metadata.get("run", {}).get("parameters") != job.run["parameters"]:
        return []
    return _run_keys(done)


def _run_keys(done) -> list[str]:
    return [key for cell in done.cells for output in cell.get("outputs", ())
            for key in output.get("metadata", {}).get(verdicts.KEPT, {}).get("run", {})
            .get("keys", ())]


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
