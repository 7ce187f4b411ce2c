"""Black-box attacks: which of two laws was a victim trained on?

Every attack returns one score a victim; larger speaks for world 1. `Views` are the outputs of a
group of models on the two probe sets, one drawn at each world's ratio. Sections are those of the
second paper (Suri et al., 2023) unless another source is named; `helpers.decisions` turns scores
into answers.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from helpers.noise import generator
from helpers.outputs import Probabilities

__all__ = ["Views", "divergence", "kl", "kl_pairs", "loss_test", "pick_records", "pointwise_test",
           "threshold_test", "zhang"]


@dataclass(frozen=True, eq=False)
class Views:
    """Outputs of models on the probe sets of world 0 and of world 1 (the same models on both).

    Raises
    ------
    TypeError
        For anything but `Probabilities`; logits have to be converted first.
    """

    zero: Probabilities
    one: Probabilities

    def __post_init__(self):
        for part in (self.zero, self.one):
            if not isinstance(part, Probabilities):
                raise TypeError(f"an attack takes Probabilities, got {type(part).__name__}; "
                                "use Logits(...).probabilities()")
        if len(self.zero) != len(self.one):
            raise ValueError(f"{len(self.zero)} models on the first probe set and {len(self.one)} "
                             "on the second: need the same models on both")

    def __len__(self) -> int:
        return len(self.zero)

    def __iter__(self):
        return iter((self.zero, self.one))

    def take(self, models) -> Views:
        """Return the views of some of the models."""
        return Views(self.zero.take(models), self.one.take(models))

    def records(self, chosen) -> Views:
        """Return the views on some records of each probe set; `chosen` holds one index a set."""
        return Views(*(part.take(records=index) for part, index in zip(self, chosen, strict=True)))

    def hardened(self) -> Views:
        """Return what label-only victims show (section 6.3)."""
        return Views(*(part.hardened() for part in self))


def divergence(shadows: Probabilities, victims: Probabilities) -> np.ndarray:
    """Mean Bernoulli KL(shadow || victim) over the records, float64 [shadows, victims].

    The shadow comes first (section 4.2). Two matrix products, no array of models x models x
    records.
    """
    if shadows.values.shape[1] != victims.values.shape[1]:
        raise ValueError(f"shadows saw {shadows.values.shape[1]} records, victims "
                         f"{victims.values.shape[1]}: both need the same probe records")
    p, q = shadows.clipped(), victims.clipped()
    entropy = (p * np.log(p) + (1 - p) * np.log1p(-p)).sum(1, keepdims=True)
    return (entropy - p @ np.log(q).T - (1 - p) @ np.log1p(-q).T) / p.shape[1]


def kl_pairs(victims: Views, a: Views, b: Views, *, every_pair: bool = True, share: float = 1.0,
             seed: int = 0) -> np.ndarray:
    """Differences KL(A_i || v) - KL(B_j || v) over pairs of shadows, both probe sets.

    Parameters
    ----------
    victims, a, b : Views
        Victims; shadows of world 0; shadows of world 1.
    every_pair : bool
        All pairs; False keeps those with i < j, as the released code does.
    share : float
        Share of the pairs kept, drawn at random for each probe set (released code: 0.8).

    Returns
    -------
    ndarray, float64, shape [pairs, victims]
    """
    rows = []
    for number, (seen, of_a, of_b) in enumerate(zip(victims, a, b, strict=True)):
        far_a, far_b = divergence(of_a, seen), divergence(of_b, seen)
        i, j = np.indices((len(far_a), len(far_b))).reshape(2, -1)
        kept = np.flatnonzero((i < j) | every_pair)
        if not len(kept):
            raise ValueError(f"{len(far_a)} and {len(far_b)} shadows leave no pair with i < j; "
                             "give at least two a side")
        if share < 1:
            count = max(1, int(share * len(kept)))
            kept = generator("pairs", seed, number).permutation(kept)[:count]
        rows.append(far_a[i[kept]] - far_b[j[kept]])
    return np.concatenate(rows)


def kl(victims: Views, a: Views, b: Views, *, voting: bool = False) -> np.ndarray:
    """KL divergence attack (section 4.2), one score a victim; 0 is the natural threshold.

    The mean of ``KL(A || v) - KL(B || v)`` over shadows and both probe sets, or, with `voting`,
    the share of pairs in which B is nearer, minus one half.
    """
    if voting:
        return (kl_pairs(victims, a, b) > 0).mean(0) - 0.5
    parts = [divergence(of_a, seen).mean(0) - divergence(of_b, seen).mean(0)
             for seen, of_a, of_b in zip(victims, a, b, strict=True)]
    return np.mean(parts, axis=0)


def pick_records(a: Views, b: Views, share: float = 0.5, *,
                 ranked: bool = False) -> list[np.ndarray]:
    """Records of each probe set on which the shadows' mean log-odds differ most (an option of 4.2).

    Chosen by the adversary's models alone; in the order of the records, or, `ranked`, the most
    telling first. The released code takes the mean gap of paired shadows instead, which depends on
    their order and counts their noise in.
    """
    chosen = []
    for of_a, of_b in zip(a, b, strict=True):
        gap = np.abs(of_a.log_odds().mean(0) - of_b.log_odds().mean(0))
        count = max(1, round(share * len(gap)))
        first = np.argsort(-gap, kind="stable")[:count]
        chosen.append(first if ranked else np.sort(first))
    return chosen


def _accuracy(part: Probabilities, labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels).astype(bool)
    if labels.shape != part.values.shape[1:]:
        raise ValueError(f"{labels.shape} labels for {part.values.shape[1]} probe records")
    return (part.labels() == labels).mean(1)


def loss_test(victims: Views, labels: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Accuracy on the probe set of world 1 minus that on world 0's; needs no shadows."""
    return _accuracy(victims.one, labels[1]) - _accuracy(victims.zero, labels[0])


def threshold_test(victims: Views, a: Views, b: Views, labels: tuple[np.ndarray, np.ndarray],
                   shares: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)) -> np.ndarray:
    """Accuracy of a victim on telling records, against the threshold that splits the shadows.

    Records are ranked by the gap between the shadows' mean outputs; probe set and share of records
    are those that split the shadows best. The score is signed so that 0 is that threshold.
    """
    from helpers.intervals import calibrate_threshold

    best = None
    for seen, of_a, of_b, truth in zip(victims, a, b, labels, strict=True):
        order = np.argsort(-np.abs(of_a.values.mean(0) - of_b.values.mean(0)), kind="stable")
        for share in shares:
            kept = order[: max(1, round(share * len(order)))]
            near, far, own = (_accuracy(part.take(records=kept), np.asarray(truth)[kept])
                              for part in (of_a, of_b, seen))
            rule = calibrate_threshold(near, far)
            if best is None or rule.accuracy > best[0]:
                best = rule.accuracy, rule.sign * (own - rule.threshold)
    return best[1]


def pointwise_test(victims: Views, a: Views, b: Views) -> np.ndarray:
    """Vote of the records: each has the log-odds threshold that splits the shadows best.

    Returns the share of records, over both probe sets, that vote for world 1, minus one half.
    """
    votes = []
    for seen, of_a, of_b in zip(victims, a, b, strict=True):
        cut, sign = _cuts(of_a.log_odds(), of_b.log_odds())
        votes.append(sign * (seen.log_odds() - cut) > 0)
    return np.concatenate(votes, axis=1).mean(1) - 0.5


def _cuts(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best threshold and side of every column at once (`calibrate_threshold`, without its ties)."""
    pooled = np.concatenate([a, b])
    order = np.argsort(pooled, axis=0, kind="stable")
    ranked = np.take_along_axis(pooled, order, 0)
    above_b = np.cumsum(order >= len(a), axis=0) / len(b)
    above_a = np.cumsum(order < len(a), axis=0) / len(a)
    gain = (above_a - above_b)[:-1]  # of cutting after each rank, b on the high side
    gain = np.where(ranked[1:] > ranked[:-1], gain, 0.0)
    place = np.abs(gain).argmax(0)[None]
    cut = (np.take_along_axis(ranked, place, 0) + np.take_along_axis(ranked, place + 1, 0)) / 2
    sign = np.sign(np.take_along_axis(gain, place, 0))
    return cut[0], np.where(sign[0] < 0, -1.0, 1.0)


def zhang(victims: Views, a: Views, b: Views, *, records: int = 500, seed: int = 0) -> np.ndarray:
    """Black-box meta-classifier of Zhang et al. (2021): a small network on the output vectors.

    One scikit-learn network (20 and 8 units, early stopping) a probe set, trained on the shadows'
    probabilities on its first `records` records; the better one on a held-out fifth answers. The
    score is its probability of world 1, minus one half.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    worlds = np.repeat([0, 1], [len(a), len(b)])
    draw = int(generator("zhang", seed).integers(2**31))
    best = None
    for seen, of_a, of_b in zip(victims, a, b, strict=True):
        inputs = np.concatenate([of_a.values, of_b.values])[:, :records]
        fit, held, fit_y, held_y = train_test_split(inputs, worlds, test_size=0.2, stratify=worlds,
                                                    random_state=draw)
        model = MLPClassifier((20, 8), early_stopping=len(fit) >= 40, random_state=draw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after 200 passes
            model.fit(fit, fit_y)
        quality = model.score(held, held_y)
        if best is None or quality > best[0]:
            best = quality, model.predict_proba(seen.values[:, :records])[:, 1] - 0.5
    return best[1]
