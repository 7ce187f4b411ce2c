"""The ``sklearn`` engine: forests, logistic regression and support vector machines.

Of these models only the logits on given probes are kept, because a forest or a kernel machine is
larger than what it says about a few thousand records, and no safe file format holds it.
"""

from __future__ import annotations

import numpy as np

from helpers.noise import stream_key

SMALLEST = 1e-4  # probabilities are kept this far from 0 and 1
LEAF, FOLDS, ROUNDS = 5, 3, 1000


def model(arch: str, seed: int):
    """Return an untrained classifier with ``fit`` and ``predict_proba``."""
    state = stream_key("shadow-init", int(seed)) % 2**32
    if arch == "sk-lr":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=ROUNDS)
    if arch == "svm":
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.svm import SVC

        return CalibratedClassifierCV(SVC(), method="sigmoid", cv=FOLDS, ensemble=False)
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(int(arch.split("-")[1]), min_samples_leaf=LEAF,
                                  random_state=state)


def train(recipe, features, labels, index, seeds, probes, tick) -> np.ndarray:
    """Train model after model and return their logits on the probes, float32 [M, K].

    Raises
    ------
    ValueError
        When a model's draw is too small for the SVM's scaling; names the model.
    """
    found = np.empty((len(index), len(probes)), np.float32)
    for member, rows in enumerate(index):
        own = labels[rows] if labels.ndim == 1 else labels[member]
        fewest = int(np.bincount(own, minlength=2).min())
        if recipe.arch == "svm" and fewest < FOLDS:
            raise ValueError(f"model {member}: {fewest} records of one class, and the SVM's "
                             f"scaling needs {FOLDS} of each; draw more")
        classifier = model(recipe.arch, seeds[member]).fit(features[rows], own)
        share = classifier.predict_proba(probes)[:, 1].clip(SMALLEST, 1 - SMALLEST)
        found[member] = np.log(share) - np.log1p(-share)
        tick()
    return found


def rows(probes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return where among the probes each record of ``x`` stands, int [len(x)].

    Raises
    ------
    ValueError
        When a record is none of the probes.
    """
    place = {record.tobytes(): k for k, record in enumerate(probes)}
    found = [place.get(record.tobytes(), -1) for record in x]
    if -1 in found:
        raise ValueError(f"record {found.index(-1)} of x is none of the {len(probes)} probes, and "
                         "scikit-learn's models keep no more than their logits there: fit again "
                         "with it among the probes")
    return np.array(found)
