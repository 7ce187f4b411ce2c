"""How well the descriptors find altered copies, on images that chose and fitted nothing.

Whitening and thresholds come from a set's test images, references and queries from its
training images, and the alterations from a seed of their own. The whitening's ridge was chosen
among four values on test images (fashion16, cifar10) and alterations that are not used here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helpers import descriptors
from helpers.alterations import ALTERATIONS, alter
from helpers.datasets import ImageSet, data_folder, load
from helpers.images import DataError
from helpers.intervals import wilson

__all__ = ["measure", "measure_set", "read", "table"]

SETS = ("fashion16", "mnist", "cifar10")
REFERENCES, QUERIES, SEED = 2000, 200, 20261
RIDGES_TRIED = (0.01, 0.03, 0.1, 0.3)
ROWS = ("squeezenet", "taps only", "pixels", "raw pixels")


def _share(hits: np.ndarray) -> dict[str, float]:
    found = wilson(int(hits.sum()), len(hits))
    return {"value": round(found.value, 4), "low": round(found.low, 4),
            "high": round(found.high, 4)}


def measure_set(images: ImageSet, references: int = REFERENCES, queries: int = QUERIES,
                seed: int = SEED) -> dict:
    """Recall@1 and detections of every descriptor and alteration on one image set.

    Parameters
    ----------
    images : ImageSet
        Test images fit the descriptors; training images are references and queries.
    references, queries : int
        Queries are altered versions of the first `queries` references.
    seed : int
        Of the choice of references and of the alterations.

    Returns
    -------
    dict
        ``thresholds``, ``false_alarms`` (share of unaltered queries whose nearest *other*
        reference is above the threshold), ``recall`` (the nearest reference is the
        source) and ``detected`` (similarity to the source above the threshold), each
        share with a 95 % Wilson interval; ``mean_absolute_change`` of the pixels, of 255.
    """
    refs = images.subset(references, seed)
    both = descriptors.squeezenet(images.test)
    low = descriptors.pixels(images.test)
    known = both.embed(refs)
    kept = {"squeezenet": known, "taps only": known[:1], "pixels": low.embed(refs)}
    thresholds = {"squeezenet": both.threshold, "pixels": low.threshold}
    own = np.arange(queries)
    recall: dict = {row: {} for row in ROWS}
    detected: dict = {row: {} for row in thresholds}
    change = {}
    for name in ALTERATIONS:
        changed = alter(refs[:queries], name, seed)
        change[name] = round(float(np.abs(changed.astype(int) - refs[:queries]).mean()), 2)
        asked = both.embed(changed)
        asks = {"squeezenet": asked, "taps only": asked[:1], "pixels": low.embed(changed)}
        for row, blocks in asks.items():
            recall[row][name] = _share(both.nearest(blocks, kept[row])[1] == own)
            if row in thresholds:
                source = tuple(block[:queries] for block in kept[row])
                detected[row][name] = _share(both.paired(blocks, source) > thresholds[row])
        recall["raw pixels"][name] = _share(_nearest_raw(changed, refs) == own)
    return {"images_sha256": images.sha256, "side": images.size, "thresholds": thresholds,
            "mean_absolute_change": change,
            "false_alarms": {row: _false_alarms(kept[row], queries, thresholds[row])
                             for row in thresholds},
            "recall": recall, "detected": detected}


def _false_alarms(known, queries: int, threshold: float) -> dict[str, float]:
    similar = np.max([block[:queries] @ block.T for block in known], axis=0)
    similar[np.arange(queries), np.arange(queries)] = -1.0
    return _share(similar.max(1) > threshold)


def _nearest_raw(queries: np.ndarray, refs: np.ndarray) -> np.ndarray:
    a = queries.reshape(len(queries), -1).astype(np.float64)
    b = refs.reshape(len(refs), -1).astype(np.float64)
    return ((b**2).sum(1) - 2 * a @ b.T).argmin(1)


def _file() -> Path:
    return data_folder() / "descriptor_recall.json"


def read() -> dict:
    """Read the committed measurement; `DataError` when it is missing."""
    if not _file().is_file():
        raise DataError(f"{_file()} is missing; make it with: python -m helpers data recall")
    return json.loads(_file().read_text())


def measure(sets: Sequence[str] = SETS) -> dict:
    """Measure the sets that are there, write ``descriptor_recall.json``, return its content.

    Takes about a minute a set on one thread. A set whose archive is absent is skipped with a
    line on the error stream and keeps its earlier figures.
    """
    found = read() if _file().is_file() else {"sets": {}}
    found["protocol"] = {
        "references": REFERENCES, "queries": QUERIES, "seed": SEED, "interval": "Wilson 95 %",
        "references_from": "training images", "whitening_and_threshold_from": "test images",
        "squeezenet_side": descriptors.network.SIDE, "quantile": descriptors.QUANTILE,
        "ridge": descriptors.RIDGE, "ridges_tried": list(RIDGES_TRIED),
        "ridge_chosen_on": "test images of fashion16 and cifar10, with other alterations"}
    measured = 0
    for name in sets:
        try:
            images = load(name)
        except DataError as error:
            print(f"skipped {error}", file=sys.stderr)
            continue
        found["sets"][name] = measure_set(images)
        measured += 1
    if not measured:
        raise DataError(f"none of {', '.join(sets)} could be loaded; nothing was measured")
    part = _file().with_suffix(".part")
    part.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    os.replace(part, _file())
    return found


def table(found: dict) -> str:
    """Recall@1 as a Markdown table, with the share above the threshold in brackets."""
    lines = ["| set | descriptor | " + " | ".join(ALTERATIONS) + " | false alarms |",
             "| --- " * (len(ALTERATIONS) + 3) + "|"]
    for name, one in sorted(found["sets"].items()):
        for row in ROWS:
            cells = []
            for alteration in ALTERATIONS:
                text = f"{one['recall'][row][alteration]['value']:.2f}"
                if row in one["detected"]:
                    text += f" ({one['detected'][row][alteration]['value']:.2f})"
                cells.append(text)
            alarms = one["false_alarms"].get(row)
            cells.append(f"{alarms['value']:.3f}" if alarms else "")
            lines.append(f"| {name} | {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
