"""Exact and near duplicates within a training set and between training and test images."""

from __future__ import annotations

from collections import Counter

import numpy as np

COSINES = (0.99, 0.995, 0.999)


def exact(train: np.ndarray, test: np.ndarray) -> tuple[int, int]:
    """Count the images that have an equal, byte for byte.

    Parameters
    ----------
    train, test : ndarray of uint8, ``[N, H, W, C]`` and ``[M, H, W, C]``

    Returns
    -------
    int, int
        Training images equal to another training image; test images equal to a training image.
    """
    counts = Counter(image.tobytes() for image in train)
    return (sum(count for count in counts.values() if count > 1),
            sum(image.tobytes() in counts for image in test))


def twins(train: np.ndarray, test: np.ndarray, chunk: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of every image's closest training image; memory bounded by ``chunk * N`` floats.

    An image's pixels are centred on that image's own mean and scaled to length 1, so that
    brightness and contrast do not hide a twin.

    Parameters
    ----------
    train, test : ndarray of uint8, ``[N, H, W, C]`` and ``[M, H, W, C]``
    chunk : int
        Rows in one block of products.

    Returns
    -------
    train_twin : ndarray of float32, ``[N]``
        Closest other training image.
    test_twin : ndarray of float32, ``[M]``
    """
    a, b = _unit(train), _unit(test)
    closest = np.full(len(a), -1.0, np.float32)
    for first in range(0, len(a), chunk):
        block = a[first:first + chunk] @ a[first:].T
        block[np.arange(len(block)), np.arange(len(block))] = -1.0
        np.maximum(closest[first:first + chunk], block.max(1), out=closest[first:first + chunk])
        np.maximum(closest[first:], block.max(0), out=closest[first:])
    outside = [(b[first:first + chunk] @ a.T).max(1) for first in range(0, len(b), chunk)]
    return closest, np.concatenate(outside)


def _unit(images: np.ndarray) -> np.ndarray:
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def report(train: np.ndarray, test: np.ndarray) -> list[str]:
    """Lines that say how many exact and near duplicates there are."""
    same_train, same_test = exact(train, test)
    lines = [(f"exact duplicates: {same_train} of {len(train)} training images equal another, "
              f"{same_test} of {len(test)} test images equal a training image")]
    inside, outside = twins(train, test)
    lines += [(f"centred cosine above {cosine:g}: {int((inside > cosine).sum())} training images "
               f"with another, {int((outside > cosine).sum())} test images with a training image")
              for cosine in COSINES]
    return lines
