"""Recompute published measurements from nothing and compare.

A published record says how to make it again: ``recompute = {"function": "helpers.module:name",
"arguments": {...}}``, called as ``name(arguments, device=...)`` and returning the entry's arrays;
``cost["seconds"]``; and ``tolerance``, any of

- ``agreement``: at least this share of the paired uint8 images differ by less than 15/255 in mean
  absolute difference;
- ``mean_abs``: mean absolute difference of every array at most this.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from helpers import verdicts
from helpers.costs import published
from helpers.freshness import AUDITS, code_fingerprint, load_audits
from helpers.noise import generator
from helpers.project import UsageError
from helpers.workers import _one_thread

SAME = 15.0  # mean absolute difference on [0, 255] below which two pictures agree


class Finding(NamedTuple):
    """One audited cell: `result` is "same bits", "within tolerance" or "OFF"."""

    key: str
    record: Mapping[str, Any]
    result: str
    detail: str
    seconds: float


def draw(records: Mapping[str, Mapping[str, Any]], cells: int, seed: int,
         max_seconds: float) -> list[str]:
    """Draw up to `cells` keys at random whose recorded seconds fit into `max_seconds` together."""
    keys = sorted(records)
    chosen, left = [], max_seconds
    for index in generator("audit", seed).permutation(len(keys)):
        seconds = float(records[keys[index]].get("cost", {}).get("seconds", 0.0))
        if len(chosen) < cells and seconds <= left:
            chosen.append(keys[index])
            left -= seconds
    return chosen


def recompute(record: Mapping[str, Any], device: str = "cpu") -> dict[str, np.ndarray]:
    """Make a record's arrays again with the function that it names.

    Raises
    ------
    ValueError
        If the record names no function of this package.
    """
    recipe = record.get("recompute") or {}
    module, _, function = str(recipe.get("function", "")).partition(":")
    if not module.startswith("helpers.") or not function:
        raise ValueError(f"the record's recompute function {recipe.get('function')!r} is not of "
                         "the form 'helpers.module:name'")
    with _one_thread():  # as in the workers that made the published cells
        return getattr(importlib.import_module(module), function)(
            recipe["arguments"], device=device)


def compare(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray],
            tolerance: Mapping[str, float]) -> tuple[str, str]:
    """Compare two sets of arrays; returns the result and its detail (see `Finding`)."""
    if set(old) != set(new):
        return "OFF", f"arrays {sorted(new)} instead of {sorted(old)}"
    shapes = [name for name in old if old[name].shape != new[name].shape
              or old[name].dtype != new[name].dtype]
    if shapes:
        return "OFF", f"{shapes[0]}: another shape or dtype"
    if all(old[name].tobytes() == new[name].tobytes() for name in old):
        return "same bits", ""
    pairs = {name: (old[name].astype(np.float64), new[name].astype(np.float64)) for name in old}
    gaps = [np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b)) for a, b in pairs.values()]
    gap = max(float(part.mean()) if part.size else 0.0 for part in gaps)
    checks = [("mean_abs", gap, gap <= tolerance.get("mean_abs", np.inf))]
    images = [pairs[name] for name in old if old[name].dtype == np.uint8 and old[name].ndim >= 4]
    if "agreement" in tolerance and images:
        share = min(float((np.abs(a - b).mean(axis=(-3, -2, -1)) < SAME).mean())
                    for a, b in images)
        checks.append(("agreement", share, share >= tolerance["agreement"]))
    detail = ", ".join(f"{name} {value:.3g} (limit {tolerance[name]:g})"
                       for name, value, _ in checks if name in tolerance)
    judged = [passed for name, _, passed in checks if name in tolerance]
    if not judged:
        return "OFF", f"bits differ (mean difference {gap:.3g}) and no tolerance is stated"
    return ("within tolerance" if all(judged) else "OFF"), detail


def audit(key: str, record: Mapping[str, Any], folder: Path, device: str = "cpu") -> Finding:
    """Recompute one published measurement (see `helpers.costs.published`) and compare."""
    began = time.monotonic()
    try:
        result, detail = compare(load_file(folder / "arrays.safetensors"),
                                 recompute(record, device), record.get("tolerance") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        result, detail = "OFF", f"{type(error).__name__}: {error}"
    return Finding(key, record, result, detail, time.monotonic() - began)


def note(root: Path, findings: Sequence[Finding]) -> None:
    """Add the passed cells' stage, version and present fingerprint to ``results/audits.json``."""
    notes = load_audits(root)
    for finding in findings:
        record = finding.record
        if finding.result != "OFF" and record.get("modules"):
            entry = {"stage": record["stage"], "version": record["version"],
                     "fingerprint": code_fingerprint(record["modules"])}
            notes += [entry] if entry not in notes else []
    notes.sort(key=lambda entry: (entry["stage"], entry["version"], entry["fingerprint"]))
    (root / AUDITS).write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")


def main(root: Path, cells: int, seed: int, max_seconds: float, *, per_stage: bool = False,
         device: str = "cpu", record: bool = False) -> int:
    """Draw, recompute, compare and print; returns the exit status (1 if a cell is off)."""
    entries = {key: (entry, folder) for key, entry, folder in published(root)}
    groups: dict[str, dict] = {}
    for key, (entry, _) in entries.items():
        group = f"{entry['stage']} {entry.get('modules')}" if per_stage else ""
        groups.setdefault(group, {})[key] = entry
    keys = [key for name in sorted(groups) for key in draw(groups[name], cells, seed, max_seconds)]
    if not keys:
        raise UsageError(f"nothing published fits into {max_seconds:g} s "
                         f"({len(entries)} measurements in results/): raise --max-seconds")
    findings = []
    for key in keys:
        entry, folder = entries[key]
        print(f"recomputing {key[:12]} ({entry['stage']}, about "
              f"{entry.get('cost', {}).get('seconds', 0.0):.0f} s)", flush=True)
        findings.append(audit(key, entry, folder, device))
    rows = [[item.key[:12], item.record["stage"], f"{item.seconds:.0f} s", item.result,
             item.detail] for item in findings]
    print(verdicts.aligned(("cell", "stage", "time", "result", "detail"), rows))
    if record:
        note(root, findings)
    return int(any(item.result == "OFF" for item in findings))
