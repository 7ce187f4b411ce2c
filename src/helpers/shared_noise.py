"""Attacks on diffusion models from their samples: what each sample says about the training ratio.

Every attack turns samples [models, noises, d] into an *evidence* matrix [models, noises], larger
where a sample speaks for world 1. A model's score is the mean over the noises that were asked, so
one matrix serves every number of queries. *Fresh* attacks compare laws and take samples of any
noises; *paired* ones compare, noise by noise, the victim's sample with those that shadow models
make of the same noise. The mean over shadows is taken over the evidence, as in the KL attack of
Suri et al. (2023, section 4.2), whose place in the joint argument it has.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helpers.noise import generator
from helpers.outputs import Probabilities
from helpers.readers import Reader

__all__ = ["EVIDENCE", "FRESH", "Tools", "evidence", "telling"]

FEATURES = 512  # random features of the Gaussian kernel
ROWS = 12_000  # most samples that a learnt classifier is trained on
SHRINK = 0.5  # share of the mean variance in a noise's own, see `likelihood_ratio`


@dataclass(frozen=True, eq=False)
class Tools:
    """What an attacker brings along.

    Attributes
    ----------
    reader : Reader
        Classifier of the property, for samples after ``x * scale + shift``.
    ratios : tuple of float
        Of world 0 and of world 1.
    scale, shift : float
        From released values to the reader's.
    seed : int
        Of random features and of learnt classifiers.
    """

    reader: Reader
    ratios: tuple[float, float]
    scale: float = 1.0
    shift: float = 0.0
    seed: int = 0

    @property
    def sign(self) -> float:
        """+1 where more of the property speaks for world 1."""
        return 1.0 if self.ratios[1] >= self.ratios[0] else -1.0

    def read(self, samples: np.ndarray) -> np.ndarray:
        """Released values as the reader knows them."""
        return samples * np.float32(self.scale) + np.float32(self.shift)


def _has(samples: np.ndarray, tools: Tools) -> np.ndarray:
    return tools.reader.logits(tools.read(samples)) > 0


def nominal(victims, a, b, tools: Tools) -> np.ndarray:
    """Count the property against the middle of the two ratios; no shadow is used."""
    return tools.sign * (_has(victims, tools) - np.mean(tools.ratios))


def counting(victims, a, b, tools: Tools) -> np.ndarray:
    """Count the property against the middle of what the shadows of the two worlds show."""
    middle = (_has(a, tools).mean() + _has(b, tools).mean()) / 2
    return tools.sign * (_has(victims, tools) - middle)


def mmd(victims, a, b, tools: Tools) -> np.ndarray:
    """Squared kernel two-sample distance to world 0's samples less that to world 1's.

    Only the part that depends on the victim's samples one by one is left in the difference of the
    two (Gretton et al., 2012, eq. 3), so it is a mean over samples. Gaussian kernel at the median
    distance, by random Fourier features (Rahimi and Recht, 2007).
    """
    stream = generator("mmd", tools.seed)
    pool = np.concatenate([a, b]).reshape(-1, a.shape[-1])
    some = pool[stream.permutation(len(pool))[:400]].astype(np.float64)
    gaps = np.sqrt(((some[:200] - some[200:]) ** 2).sum(1)) if len(some) == 400 else (
        np.linalg.norm(some - some.mean(0), axis=1))
    width = max(float(np.median(gaps)), 1e-12)
    turn = (stream.standard_normal((a.shape[-1], FEATURES)) / width).astype(np.float32)
    phase = (2 * np.pi * stream.random(FEATURES)).astype(np.float32)

    def lifted(samples):
        return np.cos(samples @ turn + phase)

    witness = [np.mean([lifted(one).mean(0) for one in side], axis=0) for side in (a, b)]
    weight = (2 / FEATURES) * (witness[1] - witness[0])
    middle = (2 / FEATURES) * (witness[1] @ witness[1] - witness[0] @ witness[0]) / 2
    return np.stack([lifted(one) @ weight for one in victims]) - middle


def learnt(victims, a, b, tools: Tools) -> np.ndarray:
    """Log-odds of world 1 by a network trained to tell the two worlds' samples apart.

    The classifier two-sample test (Lopez-Paz and Oquab, 2017). Given samples of the noises that
    the victim is asked, the same classifier has seen what shadows make of them.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    x = np.concatenate([a, b]).reshape(-1, a.shape[-1])
    y = np.repeat([0, 1], [a.shape[0] * a.shape[1], b.shape[0] * b.shape[1]])
    rows = generator("learnt", tools.seed).permutation(len(x))[:ROWS]
    scaler = StandardScaler().fit(x[rows])
    model = MLPClassifier((64,), alpha=1e-2, max_iter=15, early_stopping=len(rows) >= 400,
                          random_state=tools.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaler.transform(x[rows]), y[rows])
    said = model.predict_proba(scaler.transform(victims.reshape(-1, x.shape[-1])))[:, 1]
    said = np.clip(said, 1e-6, 1 - 1e-6)
    return (np.log(said) - np.log1p(-said)).reshape(victims.shape[:2])


def _nearer(victims, a, b, distance: Callable) -> np.ndarray:
    """Mean distance to world 0's shadows less that to world 1's, noise by noise."""
    return (np.mean([distance(victims, one) for one in a], axis=0)
            - np.mean([distance(victims, one) for one in b], axis=0))


def pixels(victims, a, b, tools: Tools) -> np.ndarray:
    """Paired mean absolute difference of the released values (grey levels of pictures)."""
    return _nearer(victims, a, b, lambda v, s: np.abs(v - s).mean(-1))


def descriptor(victims, a, b, tools: Tools) -> np.ndarray:
    """Paired Euclidean distance of the reader's hidden units."""
    seen = [tools.reader.hidden(tools.read(part)) for part in (victims, a, b)]
    return _nearer(*seen, lambda v, s: np.sqrt(((v - s) ** 2).sum(-1)))


def flips(victims, a, b, tools: Tools) -> np.ndarray:
    """Paired disagreement on the property."""
    seen = [_has(part, tools) for part in (victims, a, b)]
    return _nearer(*seen, lambda v, s: (v != s).astype(np.float32))


def divergence(victims, a, b, tools: Tools) -> np.ndarray:
    """The KL attack on the reader's probabilities: KL(shadow || victim), noise by noise."""
    v, p, q = (tools.reader.probability(tools.read(part)) for part in (victims, a, b))
    v = Probabilities(v).clipped()
    log_v, log_not = np.log(v), np.log1p(-v)

    def far(side):
        side = Probabilities(side).clipped()
        own = (side * np.log(side) + (1 - side) * np.log1p(-side)).mean(0)
        return own - side.mean(0) * log_v - (1 - side.mean(0)) * log_not

    return far(p) - far(q)


def likelihood_ratio(victims, a, b, tools: Tools) -> np.ndarray:
    """Log-likelihood ratio of Gaussians fitted to the shadows' samples of each noise.

    Two means for every noise and value; one variance within the worlds, shrunk half way to its
    mean over the noises, so that values that shadows of one world do not agree on count less.
    """
    parts = [_spread(part, tools) for part in (victims, a, b)]
    means, scale = _fitted(*parts[1:])
    gap, middle = means[1] - means[0], (means[0] + means[1]) / 2
    return ((parts[0] - middle) * (gap / scale)).mean(-1)


def _spread(samples: np.ndarray, tools: Tools) -> np.ndarray:
    """Released values and hidden units side by side, float32 [M, m, d + units]."""
    return np.concatenate([samples, tools.reader.hidden(tools.read(samples))], axis=-1)


def _fitted(a, b):
    means = [side.mean(0) for side in (a, b)]
    within = np.mean([((side - mean) ** 2).sum(0) / max(1, len(side) - 1)
                      for side, mean in zip((a, b), means, strict=True)], axis=0)
    whole = within.mean(0, keepdims=True)
    return means, SHRINK * within + (1 - SHRINK) * whole + 1e-6 * (1 + whole.mean())


def telling(a: np.ndarray, b: np.ndarray, tools: Tools) -> np.ndarray:
    """How far apart the shadows of the two worlds are at each noise, in units of their spread.

    The analogue, for noises, of the second paper's choice of probe records: from the attacker's
    models alone. Float [noises].
    """
    a, b = _spread(a, tools), _spread(b, tools)
    means, scale = _fitted(a, b)
    return ((means[1] - means[0]) ** 2 / scale).mean(-1)


EVIDENCE: dict[str, Callable] = {
    "fresh nominal": nominal, "fresh counting": counting, "fresh MMD": mmd,
    "fresh classifier": learnt, "shared counting": counting, "shared classifier": learnt,
    "paired pixels": pixels, "paired descriptor": descriptor, "paired flips": flips,
    "paired KL": divergence, "likelihood ratio": likelihood_ratio, "chosen pixels": pixels,
    "chosen ratio": likelihood_ratio, "permuted pixels": pixels,
    "permuted ratio": likelihood_ratio,
}
FRESH = tuple(name for name in EVIDENCE if name.startswith("fresh"))


def evidence(name: str, victims: np.ndarray, a: np.ndarray, b: np.ndarray, tools: Tools
             ) -> np.ndarray:
    """Evidence for world 1 in every sample.

    Parameters
    ----------
    name : str
        An attack in `EVIDENCE`.
    victims, a, b : ndarray, float32, shape [models, noises, d]
        Samples of victims, of world 0's and of world 1's shadows; for paired attacks of the same
        noises in the same order. Under ``permuted`` a victim's noises are in another order.
    tools : Tools

    Returns
    -------
    ndarray, float, shape [victims, noises]

    Raises
    ------
    ValueError
        For an unknown attack or samples that do not fit together.
    """
    if name not in EVIDENCE:
        raise ValueError(f"unknown attack {name!r}; known: {', '.join(EVIDENCE)}")
    for part in (victims, a, b):
        if part.ndim != 3 or part.shape[2] != victims.shape[2] or not part.size:
            raise ValueError(f"samples of shape {part.shape}: need [models, noises, "
                             f"{victims.shape[-1]}]")
    paired = name not in FRESH and not name.startswith("shared")
    if paired and not victims.shape[1] == a.shape[1] == b.shape[1]:
        raise ValueError(f"{name}: {victims.shape[1]} noises of the victims, {a.shape[1]} and "
                         f"{b.shape[1]} of the shadows; it pairs them, so they must be the same")
    if name.startswith("permuted"):
        orders = [generator("permuted", tools.seed, i).permutation(victims.shape[1])
                  for i in range(len(victims))]
        victims = np.stack([one[order] for one, order in zip(victims, orders, strict=True)])
    return np.asarray(EVIDENCE[name](victims, a, b, tools))
