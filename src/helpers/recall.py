"""How well the descriptors find altered copies, on images that chose and fitted nothing.

Whitening and thresholds come from a set's test images, references and queries from its
training images, and the alterations from a seed of their own. The whitening's ridge was chosen
among four values on test images (fashion16, cifar10) and alterations that are not used here.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, rotate
from sklearn.metrics import pairwise_distances_argmin

from helpers import descriptors, verdicts
from helpers.datasets import ImageSet, data_folder, load
from helpers.images import DataError
from helpers.intervals import wilson
from helpers.noise import generator
from helpers.project import replacing

ALTERATIONS = ("jpeg 30", "noise 0.1", "blur 1", "flip", "crop 0.8", "brightness", "rotate 10")
SETS = ("fashion16", "mnist", "cifar10")
REFERENCES, QUERIES, SEED = 2000, 200, 20261
RIDGES_TRIED = (0.01, 0.03, 0.1, 0.3)
ROWS = ("squeezenet", "taps only", "pixels", "raw pixels")


def alter(images: np.ndarray, name: str, seed: int) -> np.ndarray:
    """Alter every image once.

    Parameters
    ----------
    images : ndarray of uint8, ``[n, H, W, C]``
    name : str
        One of `ALTERATIONS`: JPEG of quality 30; Gaussian noise of deviation .1 (of 1); Gaussian
        blur of 1 pixel; left-right flip; a square of .8 of the side at a random place, resized
        back; brightness shifted within .15 and contrast scaled within 30 %; turned by 10 degrees
        either way.
    seed : int
        Of the stream that draws places, strengths and signs.

    Returns
    -------
    ndarray of uint8, ``[n, H, W, C]``
    """
    random = generator(f"alteration {name}", seed)
    if name not in ALTERATIONS:
        raise ValueError(f"alteration {name!r} is none of {', '.join(ALTERATIONS)}")
    if name == "flip":
        return np.ascontiguousarray(images[:, :, ::-1])
    if name == "noise 0.1":
        return _bytes(images + 25.5 * random.standard_normal(images.shape))
    if name == "blur 1":
        return _bytes(gaussian_filter(images.astype(float), (0, 1, 1, 0), mode="nearest"))
    if name == "brightness":
        shape = (len(images), 1, 1, 1)
        contrast, shift = random.uniform(0.7, 1.3, shape), random.uniform(-0.15, 0.15, shape)
        mean = images.mean((1, 2, 3), keepdims=True)
        return _bytes((images - mean) * contrast + mean + 255 * shift)
    each = {"jpeg 30": _jpeg, "crop 0.8": _crop, "rotate 10": _rotate}[name]
    return np.stack([each(image, random) for image in images])


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)


def _jpeg(image: np.ndarray, _random) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "JPEG", quality=30)
    return np.asarray(Image.open(buffer)).reshape(image.shape)


def _crop(image: np.ndarray, random) -> np.ndarray:
    side = len(image)
    kept = round(0.8 * side)
    top, left = random.integers(0, side - kept + 1, 2)
    part = Image.fromarray(image[top:top + kept, left:left + kept].squeeze())
    return np.asarray(part.resize((side, side), Image.Resampling.BILINEAR)).reshape(image.shape)


def _rotate(image: np.ndarray, random) -> np.ndarray:
    angle = 10.0 * random.choice((-1, 1))
    return _bytes(rotate(image.astype(float), angle, reshape=False, order=1, mode="nearest"))


def _share(hits: np.ndarray) -> dict[str, float]:
    found = wilson(int(hits.sum()), len(hits))
    return {name: round(getattr(found, name), 4) for name in ("value", "low", "high")}


def measure_set(images: ImageSet, references: int = REFERENCES, queries: int = QUERIES) -> dict:
    """Recall@1 and detections of every descriptor and alteration on one image set.

    Parameters
    ----------
    images : ImageSet
        Test images fit the descriptors; training images are references and queries.
    references, queries : int
        Queries are altered versions of the first `queries` references.

    Returns
    -------
    dict
        ``thresholds``, ``false_alarms`` (share of unaltered queries whose nearest *other*
        reference is above the threshold), ``recall`` (the nearest reference is the
        source) and ``detected`` (similarity to the source above the threshold), each
        share with a 95 % Wilson interval; ``mean_absolute_change`` of the pixels, of 255.
    """
    refs = images.subset(references, SEED)
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
        changed = alter(refs[:queries], name, SEED)
        change[name] = round(float(np.abs(changed.astype(int) - refs[:queries]).mean()), 2)
        asked = both.embed(changed)
        asks = {"squeezenet": asked, "taps only": asked[:1], "pixels": low.embed(changed)}
        for row, blocks in asks.items():
            recall[row][name] = _share(both.nearest(blocks, kept[row])[1] == own)
            if row in thresholds:
                source = tuple(block[:queries] for block in kept[row])
                detected[row][name] = _share(both.paired(blocks, source) > thresholds[row])
        raw = pairwise_distances_argmin(changed.reshape(queries, -1), refs.reshape(references, -1))
        recall["raw pixels"][name] = _share(raw == own)
    return {"images_sha256": images.sha256, "side": images.size, "thresholds": thresholds,
            "mean_absolute_change": change,
            "false_alarms": {row: _false_alarms(kept[row], queries, thresholds[row])
                             for row in thresholds},
            "recall": recall, "detected": detected}


def _false_alarms(known, queries: int, threshold: float) -> dict[str, float]:
    similar = np.max([block[:queries] @ block.T for block in known], axis=0)
    similar[np.arange(queries), np.arange(queries)] = -1.0
    return _share(similar.max(1) > threshold)


def _file() -> Path:
    return data_folder() / "descriptor_recall.json"


def read() -> dict:
    """Read the committed measurement; `DataError` when it is missing."""
    if not _file().is_file():
        raise DataError(f"{_file()} is missing; make it with: python -m helpers data recall")
    return json.loads(_file().read_text())


def measure() -> dict:
    """Measure the `SETS` that are there, write ``descriptor_recall.json``, return its content.

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
    measured = {}
    for name in SETS:
        try:
            measured[name] = measure_set(load(name))
        except DataError as error:
            print(f"skipped {error}", file=sys.stderr)
    if not measured:
        raise DataError(f"none of {', '.join(SETS)} could be loaded; nothing was measured")
    found["sets"] |= measured
    with replacing(_file()) as part:
        part.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    return found


def table(found: dict) -> str:
    """Recall@1 as a Markdown table, with the share above the threshold in brackets."""
    rows = []
    for name, one in sorted(found["sets"].items()):
        for row in ROWS:
            cells = []
            for alteration in ALTERATIONS:
                text = f"{one['recall'][row][alteration]['value']:.2f}"
                if row in one["detected"]:
                    text += f" ({one['detected'][row][alteration]['value']:.2f})"
                cells.append(text)
            alarms = one["false_alarms"].get(row)
            rows.append([name, row, *cells, f"{alarms['value']:.3f}" if alarms else ""])
    return verdicts.table(("set", "descriptor", *ALTERATIONS, "false alarms"), rows)
