"""What a trainer can do to its records before training, so that the model leaks less about them.

DP-SGD and adversarial training belong to training itself (`helpers.shadow.Recipe`). Everything here
acts on which records a model sees, their labels or their features; an adversary who knows the
defence does the same to its shadows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.images import DataError
from helpers.noise import generator, noise

__all__ = ["KINDS", "Defense", "altered", "defended", "noisy_features"]

KINDS = {
    "none": "records as they were drawn",
    "label noise": "this share of the labels is flipped",
    "feature noise": "normal noise of this standard deviation on every feature",
    "under": "records of the larger group are dropped until both groups are as large",
    "over": "records of the smaller group are repeated until both groups are as large",
    "over augmented": "as `over`, but every further copy of a record is changed",
    "fixed": "as `under`, then cut to this share of the records, whatever the ratio was",
}


@dataclass(frozen=True)
class Defense:
    """A defence and its strength.

    Attributes
    ----------
    kind : str
        A name in `KINDS`.
    strength : float
        Share of labels for ``label noise`` (0 to 1/2), standard deviation for ``feature noise``,
        share of the records kept for ``fixed`` (0 to 1); for ``over augmented`` the probability
        with which each column of a copy comes from another record, or a picture is mirrored (0 to
        1); unused otherwise.
    """

    kind: str = "none"
    strength: float = 0.0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown defence {self.kind!r}; known: {', '.join(KINDS)}")
        top = {"label noise": 0.5, "fixed": 1.0, "over augmented": 1.0}.get(self.kind, np.inf)
        needed = self.kind in ("fixed", "over augmented")
        if not 0 <= self.strength <= top or (needed and not self.strength):
            raise ValueError(f"{self.kind}: strength {self.strength} must lie in [0, {top:g}]"
                             f"{' and above 0' if needed else ''}")


def defended(index: np.ndarray, labels: np.ndarray, attribute: np.ndarray, defense: Defense,
             seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply a defence to the records of many models.

    Parameters
    ----------
    index : ndarray of int, shape [M, n]
        Rows that each model would train on; each model with the same number of either group.
    labels, attribute : ndarray of uint8, shape [R]
        Of the whole table.
    defense : Defense
    seeds : ndarray of int, shape [M]
        Each model resamples, or flips labels, with a stream of its own.

    Returns
    -------
    index, own : ndarray, shape [M, m]
        Rows (repeated by ``over`` and ``over augmented``, see `altered`) and their labels, for
        `helpers.shadow.fit`. Except under ``fixed``, re-sampling changes m with the ratio, which
        itself gives the ratio away.

    Raises
    ------
    helpers.images.DataError
        When a group is empty, or too small for ``fixed``; before any training.
    """
    index = np.asarray(index)
    if defense.kind in ("under", "over", "over augmented", "fixed"):
        index = np.stack([_balanced(rows, attribute, defense, generator("resample", int(seed)))
                          for rows, seed in zip(index, seeds, strict=True)])
    own = labels[index]
    if defense.kind == "label noise":
        count = round(defense.strength * index.shape[1])
        for row, seed in zip(own, seeds, strict=True):
            flipped = generator("label noise", int(seed)).permutation(len(row))[:count]
            row[flipped] = 1 - row[flipped]
    return index, own


def _balanced(rows: np.ndarray, attribute: np.ndarray, defense: Defense,
              stream: np.random.Generator) -> np.ndarray:
    """One model's rows with as many of either group."""
    groups = [rows[attribute[rows] == value] for value in (0, 1)]
    small, large = sorted(len(group) for group in groups)
    if not small:
        raise DataError(f"{defense.kind}: none of {len(rows)} records is of the smaller group, so "
                        "no re-sampling can balance them; use a ratio strictly between 0 and 1")
    if defense.kind in ("over", "over augmented"):
        extra = [group[stream.integers(len(group), size=large - len(group))] for group in groups]
        return stream.permutation(np.concatenate([*groups, *extra]))
    size = small if defense.kind == "under" else round(defense.strength * len(rows) / 2)
    if size > small or not size:
        raise DataError(f"fixed: {size} records of each group are wanted (share "
                        f"{defense.strength:g} of {len(rows)}), the smaller one has {small}; use a "
                        f"strength of at most {2 * small / len(rows):.3g}")
    return stream.permutation(np.concatenate([stream.permutation(g)[:size] for g in groups]))


def noisy_features(features: np.ndarray, defense: Defense, party: int) -> np.ndarray:
    """Return features float32 [R, ...] with the defence's noise, drawn once for each record.

    Each party (0 victim, 1 adversary) has noise of its own; other defences leave features alone.
    """
    if defense.kind != "feature noise" or not defense.strength:
        return features
    flat = features.reshape(len(features), -1)
    drawn = noise(range(len(flat)), (flat.shape[1],), party, "feature noise")
    return (flat + np.float32(defense.strength) * drawn).reshape(features.shape)


def altered(features: np.ndarray, index: np.ndarray, labels: np.ndarray, attribute: np.ndarray,
            defense: Defense, seeds: np.ndarray, party: int, columns: tuple[str, ...] = ()
            ) -> tuple[np.ndarray, np.ndarray]:
    """Apply the part of a defence that changes features, after `defended`.

    Parameters
    ----------
    features : ndarray of float32, shape [R, d] or [R, C, H, W]
    index : ndarray of int, shape [M, m]
        From `defended`.
    labels, attribute : ndarray of uint8, shape [R]
    defense : Defense
    seeds : ndarray of int, shape [M]
    party : int
        0 victim, 1 adversary; for `noisy_features`.
    columns : tuple of str, shape [d]
        Source column of each feature, so that a category stays a category; unused for images.

    Returns
    -------
    features, index : ndarray
        The pool and the rows of each model in it. For ``over augmented`` the pool has grown by a
        record for every repetition: in a table each column comes, with probability
        ``defense.strength``, from another of the model's own records of the same group and label; a
        picture is shifted by one pixel, its edge repeated, and mirrored with that probability.
    """
    if defense.kind != "over augmented":
        return noisy_features(features, defense, party), index
    index, added, here = np.array(index), [features], len(features)
    change = _shifted if features.ndim == 4 else _mixed
    for rows, seed in zip(index, seeds, strict=True):
        again = np.ones(len(rows), bool)
        again[np.unique(rows, return_index=True)[1]] = False
        if not again.any():
            continue
        added.append(change(features, rows, rows[again], 2 * attribute + labels, defense.strength,
                            generator("augment", int(seed)), columns))
        rows[again] = here + np.arange(again.sum())
        here += int(again.sum())
    return np.concatenate(added), index


def _mixed(features, rows, chosen, cell, strength, stream, columns) -> np.ndarray:
    """Copies of chosen records of a table, some columns taken from records of the same cell."""
    found, own = features[chosen], np.unique(rows)
    members = {value: own[cell[own] == value] for value in np.unique(cell[own])}
    for name in dict.fromkeys(columns):
        at = np.flatnonzero(np.array(columns) == name)
        donors = np.empty_like(chosen)
        for value, group in members.items():
            mine = cell[chosen] == value
            donors[mine] = group[stream.integers(len(group), size=mine.sum())]
        swapped = np.flatnonzero(stream.random(len(chosen)) < strength)
        found[np.ix_(swapped, at)] = features[np.ix_(donors[swapped], at)]
    return found


def _shifted(features, rows, chosen, cell, strength, stream, columns) -> np.ndarray:
    """Copies of chosen pictures, shifted by a pixel to a side or a corner and perhaps mirrored."""
    found = features[chosen]
    mirrored = stream.random(len(found)) < strength
    found[mirrored] = found[mirrored][..., ::-1]
    steps = np.array([(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)])
    starts = steps[stream.integers(len(steps), size=len(found))]
    wide = np.pad(found, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = found.shape[2:]
    for picture, source, (i, j) in zip(found, wide, starts, strict=True):
        picture[:] = source[:, i : i + height, j : j + width]
    return found
