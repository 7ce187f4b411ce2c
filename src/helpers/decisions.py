"""From scores to answers: three decision rules, accuracy and AUC with intervals.

- *batch*: the second paper's rule (section 4.2): every pair's difference is scaled to [0, 1] over
  all victims of both worlds together, averaged, and cut at 1/2. It needs a balanced batch of
  victims, so it cannot judge a single model.
- *zero*: world 1 where the score is positive.
- *calibrated*: the threshold that best splits held-out shadows, scored by others as if they were
  victims. It judges every victim by itself and is the headline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from helpers import attacks
from helpers.attacks import Views
from helpers.intervals import Interval, bootstrap, wilson
from helpers.noise import generator

__all__ = ["ATTACKS", "FEWEST", "Judged", "answered", "auc", "batch_scores", "best_cut", "combined",
           "held_out", "judge"]

TRUTH = np.array([[False], [True]])  # worlds of the rows of scores
FEWEST = 4  # shadows a side below which no threshold is calibrated; the zero rule stands in

ATTACKS: dict[str, Callable] = {
    "loss": lambda v, a, b, y, s: attacks.loss_test(v, y),
    "threshold": lambda v, a, b, y, s: attacks.threshold_test(v, a, b, y),
    "pointwise": lambda v, a, b, y, s: attacks.pointwise_test(v, a, b),
    "zhang": lambda v, a, b, y, s: attacks.zhang(v, a, b, seed=s),
    "kl": lambda v, a, b, y, s: attacks.kl(v, a, b),
    "kl voting": lambda v, a, b, y, s: attacks.kl(v, a, b, voting=True),
    "kl labels": lambda v, a, b, y, s: attacks.kl(v.hardened(), a, b),
    "kl half": lambda v, a, b, y, s: _on_half(v, a, b),
}


def _on_half(victims: Views, a: Views, b: Views) -> np.ndarray:
    chosen = attacks.pick_records(a, b)
    return attacks.kl(*(views.records(chosen) for views in (victims, a, b)))


def _attack(name: str) -> Callable:
    if name not in ATTACKS:
        raise ValueError(f"unknown attack {name!r}; known: {', '.join(ATTACKS)}")
    return ATTACKS[name]


def batch_scores(pairs: np.ndarray) -> np.ndarray:
    """Scores of the paper's batch rule, minus one half, from pair differences [pairs, victims].

    A pair that tells no victims apart is counted as one half (the released code divides by zero).
    """
    pairs = np.asarray(pairs, dtype=np.float64)
    low, span = pairs.min(1, keepdims=True), np.ptp(pairs, axis=1, keepdims=True)
    scaled = np.divide(pairs - low, span, out=np.full_like(pairs, 0.5), where=span > 0)
    return scaled.mean(0) - 0.5


def held_out(name: str, a: Views, b: Views, labels, *, folds: int = 5, seed: int = 0,
             shown: tuple[Views, Views] | None = None,
             fold: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Score every shadow with an attack built from the shadows of the other folds.

    Shadows of one pool share training records, which brings them nearer to each other than to any
    victim, and more so in the world whose records are scarce: a threshold learned from them is off.
    Folds of shadows that were trained on disjoint halves of the pool have no such advantage.

    Parameters
    ----------
    name : str
        An attack in `ATTACKS`.
    a, b : Views
        Shadows of world 0 and of world 1.
    labels : pair of ndarray
        True labels of the two probe sets.
    shown : pair of Views, optional
        What `a` and `b` show when they stand in a victim's place, where that is not all they say.
    fold : ndarray of int, shape [len(a)], optional
        Fold of each shadow, the same in both worlds; by default `folds` random ones.

    Returns
    -------
    scores_a, scores_b : ndarray, float64, shape [len(a)] and [len(b)]

    Raises
    ------
    ValueError
        With fewer than `FEWEST` shadows a side, or an unknown attack.
    """
    attack = _attack(name)
    if min(len(a), len(b)) < FEWEST:
        raise ValueError(f"{len(a)} and {len(b)} shadows: a threshold needs at least {FEWEST} a "
                         "side; train more, or use the zero rule")
    folds = min(folds, len(a), len(b))
    fold_a, fold_b = ((generator("folds", seed, k).permutation(len(side)) % folds)
                      if fold is None else np.asarray(fold) for k, side in enumerate((a, b)))
    for side, of in ((a, fold_a), (b, fold_b)):
        if of.shape != (len(side),) or len(np.unique(of)) < 2:
            raise ValueError(f"fold of shape {of.shape} with {len(np.unique(of))} folds: need one "
                             f"entry for each of {len(side)} shadows, and at least two folds")
    scores_a, scores_b = np.empty(len(a)), np.empty(len(b))
    shown_a, shown_b = shown or (a, b)
    for k in np.unique(fold_a):
        rest = a.take(fold_a != k), b.take(fold_b != k)
        scores_a[fold_a == k] = attack(shown_a.take(fold_a == k), *rest, labels, seed)
        scores_b[fold_b == k] = attack(shown_b.take(fold_b == k), *rest, labels, seed)
    return scores_a, scores_b


def auc(zero: np.ndarray, one: np.ndarray) -> float:
    """Probability that a victim of world 1 scores above one of world 0 (ties count one half)."""
    ranks = rankdata(np.concatenate([zero, one]))
    return float((ranks[len(zero):].sum() - len(one) * (len(one) + 1) / 2) / len(zero) / len(one))


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores of the victims of both worlds and, for every rule, which answers were right.

    Attributes
    ----------
    scores : ndarray, float64, shape [2, victims]
    correct : dict of str to ndarray, bool, shape [2, victims]
        By rule: ``zero``, ``calibrated`` where there were shadows enough, ``batch`` where given.
    held : pair of ndarray or None
        Scores of the held-out shadows of either world, behind ``calibrated``.
    """

    scores: np.ndarray
    correct: dict[str, np.ndarray]
    held: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def rule(self) -> str:
        """The headline rule: calibrated, or zero where too few shadows were left."""
        return "calibrated" if "calibrated" in self.correct else "zero"

    def accuracy(self, rule: str | None = None) -> Interval:
        """Share of right answers over both worlds, with a Wilson interval over victims."""
        right = self.correct[rule or self.rule]
        return wilson(int(right.sum()), right.size)

    def auc_value(self) -> float:
        """Area under the ROC curve of the two worlds' victims, without an interval."""
        return auc(*self.scores)

    def auc(self, seed: int = 0) -> Interval:
        """Area under the ROC curve, bootstrapped over pairs of victims, one of each world."""
        return bootstrap(self.scores.T, lambda drawn: auc(drawn[:, 0], drawn[:, 1]), seed=seed)


def judge(name: str, victims: tuple[Views, Views], a: Views, b: Views, labels, *,
          seed: int = 0, batch: bool = False, shown: tuple[Views, Views] | None = None,
          fold: np.ndarray | None = None) -> Judged:
    """Attack the victims of both worlds and decide by every rule.

    Parameters
    ----------
    name : str
        An attack in `ATTACKS`.
    victims : pair of Views
        Victims of world 0 and of world 1, as many of each.
    a, b : Views
        Shadows of world 0 and of world 1.
    labels : pair of ndarray
        True labels of the two probe sets.
    batch : bool
        Add the paper's batch rule (for ``kl`` and its label-only form).
    shown, fold
        As in `held_out`.

    Raises
    ------
    ValueError
        For unequal numbers of victims, or an unknown attack.
    """
    attack = _attack(name)
    if len(victims[0]) != len(victims[1]):
        raise ValueError(f"{len(victims[0])} and {len(victims[1])} victims: accuracy is over a "
                         "balanced set, give as many of each world")
    scores = np.stack([attack(group, a, b, labels, seed) for group in victims])
    enough = min(len(a), len(b)) >= FEWEST
    held = held_out(name, a, b, labels, seed=seed, shown=shown,
                    fold=fold) if enough else None
    found = answered(scores, held, fold)
    if batch:
        shown = [group.hardened() if name == "kl labels" else group for group in victims]
        joint = np.concatenate([attacks.kl_pairs(group, a, b, every_pair=False, share=0.8,
                                                 seed=seed) for group in shown], axis=1)
        answers = batch_scores(joint) >= 0
        found.correct["batch"] = answers.reshape(2, -1) == TRUTH
    return found


def best_cut(a: np.ndarray, b: np.ndarray) -> float:
    """Threshold with the best balanced accuracy when scores above it are given to world 1.

    Every attack's score speaks for world 1 when it is larger, so the side is no free choice, unlike
    in :func:`helpers.intervals.calibrate_threshold`. Among equally good thresholds, halfway between
    neighbouring scores, the middle one is taken.

    Parameters
    ----------
    a, b : ndarray, shape [shadows]
        Scores of held-out shadows of world 0 and of world 1.
    """
    points = np.unique(np.concatenate([a, b]))
    cuts = np.concatenate([points[:1] - 1, (points[:-1] + points[1:]) / 2, points[-1:] + 1])
    right = (np.searchsorted(np.sort(a), cuts, "right") / len(a)
             - np.searchsorted(np.sort(b), cuts, "right") / len(b))
    best = np.flatnonzero(np.isclose(right, right.max(), rtol=0, atol=1e-12))
    return float(cuts[best[len(best) // 2]])


def answered(scores: np.ndarray, held: tuple[np.ndarray, np.ndarray] | None = None,
             fold: np.ndarray | None = None) -> Judged:
    """Decide by the zero rule and, from scores of held-out shadows, by the calibrated one.

    Every fold is scored by other shadows, which shifts all its scores by an amount of their own. So
    each fold has its own best threshold, and the victims, who are scored by all shadows, have the
    mean of them.

    Parameters
    ----------
    scores : ndarray, shape [2, victims]
        Of the victims of world 0 and of world 1.
    held : pair of ndarray, optional
        Scores of held-out shadows of either world.
    fold : ndarray of int, optional
        Fold of each of them, the same in both worlds; by default they are one.
    """
    correct = {"zero": (scores > 0) == TRUTH}
    if held is not None:
        parts = [slice(None)] if fold is None else [fold == k for k in np.unique(fold)]
        cut = np.mean([best_cut(held[0][part], held[1][part]) for part in parts])
        correct["calibrated"] = (scores > cut) == TRUTH
    return Judged(scores, correct, held)


def combined(scores: Sequence[np.ndarray], held: Sequence[tuple[np.ndarray, np.ndarray]]
             ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Join several attacks by a logistic regression fitted on held-out shadows.

    Parameters
    ----------
    scores : sequence of ndarray, shape [2, victims]
        One for each attack.
    held : sequence of pairs of ndarray
        The same shadows' scores under each attack.

    Returns
    -------
    scores, held
        Log-odds of world 1, shaped like those of one attack.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    a, b = (np.stack([pair[world] for pair in held], axis=1) for world in (0, 1))
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)]))
    return (np.stack([model.decision_function(np.stack([part[world] for part in scores], axis=1))
                      for world in (0, 1)]), (model.decision_function(a),
                                              model.decision_function(b)))
