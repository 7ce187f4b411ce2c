"""What a release is worth to its users, model by model, and denoising losses on given samples."""

from __future__ import annotations

import numpy as np
import torch

from helpers import objectives, readers
from helpers.denoiser_groups import Family, Nets, features, fitted, shape
from helpers.groups import table
from helpers.noise import generator
from helpers.release import Release
from helpers.store import Store

__all__ = ["frechet", "losses", "measure"]

LEVELS = (0.2, 0.5, 1.0, 2.0)  # sigma of the denoising losses
HELD = 1000  # test records behind held-out loss and quality


def _denoisers(models, device: str = "cpu"):
    """One ``D(x [n, d], sigma)`` for each model."""
    if isinstance(models, Nets):
        for model in models.members:
            inner, of = model.denoiser(device=device), shape(models.family)
            yield lambda x, sigma, inner=inner, of=of: inner(
                x.reshape(-1, *of), torch.as_tensor(sigma)).flatten(1)
    else:
        for member in range(len(models)):
            inner = models.take([member]).denoiser(device)
            yield lambda x, sigma, inner=inner: inner(x[None], sigma)[0]


@torch.no_grad()
def losses(models, records: np.ndarray, seed: int = 0, device: str = "cpu") -> np.ndarray:
    """Mean denoising loss of each record under some models.

    The squared error of ``D(x + sigma n, sigma)`` per value over the squared scale of the
    network's answer (the training weight, Karras et al., 2022, table 1), averaged over four noise
    levels and over the models. The noise of place i is the same for all models and rows.

    Parameters
    ----------
    models : Denoisers or Nets
    records : ndarray, float32, shape [M, m, d]

    Returns
    -------
    ndarray, float32, shape [M, m]
    """
    rows, count, size = records.shape
    total = np.zeros(rows * count, np.float32)
    stream = generator("denoising", seed)
    clean = torch.from_numpy(np.ascontiguousarray(records.reshape(-1, size))).to(device)
    denoisers = list(_denoisers(models, device))
    for sigma in LEVELS:
        n = stream.standard_normal((count, size), np.float32)
        noisy = clean + sigma * torch.from_numpy(np.tile(n, (rows, 1))).to(device)
        weight = 1 / float(objectives.objective("edm").coefficients(
            torch.tensor(sigma, dtype=torch.float64)).out) ** 2
        for denoiser in denoisers:
            gap = (denoiser(noisy, sigma) - clean).square().mean(1)
            total += weight * gap.cpu().numpy()
    return (total / (len(LEVELS) * len(denoisers))).reshape(rows, count)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of Gaussians fitted to two sets of features [n, f] (Heusel et al., 2017).

    The trace of ``(A B)^(1/2)`` is that of the square root of ``A^(1/2) B A^(1/2)``, which is
    symmetric, so values that never change (the corners of pictures) do no harm.
    """
    means, covs = [part.mean(0) for part in (a, b)], [np.cov(part, rowvar=False) for part in (a, b)]
    values, vectors = np.linalg.eigh(covs[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covs[1] @ root), 0)).sum()
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(covs[0] + covs[1]) - 2 * shared)


def measure(family: Family, release: Release, shown: np.ndarray, plain: np.ndarray, store: Store,
            device: str = "cpu") -> dict[str, np.ndarray]:
    """What victims' releases are worth.

    Parameters
    ----------
    family : Family
        The victims.
    release : Release
    shown, plain : ndarray, float32, shape [M, m, d]
        What they release, and what they would without any secret, of the same noises.

    Returns
    -------
    dict of str to ndarray, float [M]
        ``frechet``: distance of the released pictures from test records, by the values
        themselves; ``moved``: probability-flow distance (root mean squared difference of values)
        from the undefended release of the same noises; ``surely``: share of samples whose property
        a classifier tells with a probability of at least .95; ``share``: share with the property;
        ``loss``: held-out denoising loss.
    """
    source = table(family.data)
    rows = generator("utility", 1).permutation(source.pool(0, test=True))
    # Half of either group: quality is not to be mixed up with the ratio of the victim's records.
    each = min(HELD // 2, *(int((source.attribute[rows] == k).sum()) for k in (0, 1)))
    held = np.concatenate([rows[source.attribute[rows] == k][:each] for k in (0, 1)])
    real = features(family.data, family.side)[held]
    grey = len(shape(family)) == 3
    scale, shift = (1 / 127.5, -1.0) if grey else (1.0, 0.0)
    reader = readers.reader(family.data, family.side, party=0)
    values = shown * np.float32(scale) + np.float32(shift)
    said = reader.probability(values)
    models, _ = fitted(family, store, device)
    loss = [losses(models.take([i]), real[None], 1, device).mean() for i in range(len(models))]
    paired = plain[:, : shown.shape[1]]
    return {
        "frechet": np.array([frechet(one, real) for one in values]) if shown.shape[1] > 1 else
        np.full(len(shown), np.nan),
        "moved": np.sqrt(((shown - paired) ** 2).mean((1, 2))),
        "surely": (np.abs(said - 0.5) >= 0.45).mean(1),
        "share": (said > 0.5).mean(1),
        "loss": np.array(loss),
    }

