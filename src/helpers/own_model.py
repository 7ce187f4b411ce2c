"""A reader's own classifier under the KL divergence attack: what does it tell about its records?

The reader's outputs on the published probe records meet published shadows (`shadow_outputs`) of
two ratios. Every shadow is scored like a victim, by the shadows of the other half of the records:
like a victim, it shares no record with them. Those held-out scores set the threshold, turn a score
into a probability and say how often the rule is right.
"""

from __future__ import annotations

import argparse
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit

from helpers import groups, ratios, shadow_outputs
from helpers.attacks import Views, divergence
from helpers.decisions import best_cut
from helpers.images import DataError
from helpers.intervals import Interval, wilson
from helpers.noise import generator
from helpers.outputs import Logits, Probabilities
from helpers.project import UsageError, default_store, replacing
from helpers.shadow_outputs import Shadows
from helpers.store import Store
from helpers.verdicts import aligned

__all__ = ["Found", "chosen", "judge", "main", "read_outputs", "report"]

MOST_MODELS = 1000
FOLDS, DRAWS, LEVEL = 5, 1000, 0.95


def read_outputs(path: Path, shadows: Shadows) -> Probabilities:
    """Read a reader's outputs on the published probe records.

    Parameters
    ----------
    path : Path
        A ``.npz`` with exactly one of ``probabilities`` and ``logits`` (of label 1), shape
        [records] or [models, records].
    shadows : Shadows
        Says how many records there are.

    Returns
    -------
    Probabilities, [models, records]

    Raises
    ------
    UsageError
        Naming the file, what it holds and what is needed.
    """
    name, values = _array(path, shadows)
    wanted = 2 * shadows.each
    need = (f"needed are [{wanted}] or [models, {wanted}] with at most {MOST_MODELS} models, one "
            f"value for each published probe record in their order (`python -m helpers attack "
            f"--probes probes.csv --table {shadows.table} --property {shadows.property}` writes "
            "them)")
    if values.dtype.kind not in "fiub":
        raise UsageError(f"{path}: {name} are of type {values.dtype}; needed are numbers")
    if values.shape == (wanted, 2):
        need = "take column 1, the outputs for label 1, and save that; " + need
    if values.ndim not in (1, 2) or values.shape[-1] != wanted or not (
            1 <= values.size // wanted <= MOST_MODELS):
        raise UsageError(f"{path}: {name} have shape {list(values.shape)}; {need}")
    values = np.atleast_2d(values).astype(np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise UsageError(f"{path}: {name} of model {bad[0][0]} on record {bad[0][1]} are "
                         f"{values[tuple(bad[0])]} ({len(bad)} values are not finite); every "
                         "record needs a finite number")
    if name == "logits":
        return Logits(values).probabilities()
    low, high = values.min(), values.max()
    if low < 0 or high > 1:
        raise UsageError(f"{path}: probabilities run from {low:g} to {high:g}, outside [0, 1]; "
                         "if these are logits, save them under the name 'logits'")
    return Probabilities(values)


def _array(path: Path, shadows: Shadows) -> tuple[str, np.ndarray]:
    names = ("probabilities", "logits")
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise UsageError(f"{path} is no .npz archive (numpy.savez writes one), or is damaged")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size
                     for info in archive.infolist()}
        found = [name for name in names if name in sizes]
        if len(found) != 1:
            told = "both 'probabilities' and 'logits'" if found else "neither"
            raise UsageError(f"{path} holds {told} (arrays: {', '.join(sizes) or 'none'}); needed "
                             "is exactly one of 'probabilities' and 'logits'")
        most = 16 * MOST_MODELS * 2 * shadows.each + 4096
        if sizes[found[0]] > most:
            raise UsageError(f"{path}: {found[0]} take {sizes[found[0]] / 1e6:.0f} MB; at most "
                             f"{most / 1e6:.0f} MB are read ({MOST_MODELS} models, "
                             f"{2 * shadows.each} records)")
        with np.load(path, allow_pickle=False) as arrays:
            return found[0], arrays[found[0]]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        told = ("an object array, which needs pickle; save plain numbers" if
                "Object arrays" in str(error) else f"damaged ({error})")
        raise UsageError(f"{path} cannot be read: {told}") from error


def chosen(shadows: Shadows, wanted: Sequence[float]) -> tuple[float, float]:
    """Return two published ratios as they are spelt here.

    Raises
    ------
    UsageError
        For anything but two different published ratios in [0, 1].
    """
    if len(wanted) != 2:
        raise UsageError(f"--ratios takes two values, the ratios of the two worlds, got "
                         f"{len(wanted)}: {' '.join(f'{ratio:g}' for ratio in wanted)}")
    found = []
    for ratio in wanted:
        if not 0 <= ratio <= 1:
            raise UsageError(f"--ratios: {ratio:g} is outside [0, 1]; a ratio is the share of "
                             "training records with the property")
        same = [each for each in shadows.ratios if abs(each - ratio) < 1e-6]
        if not same:
            raise UsageError(f"--ratios: {ratio:g} is not published; published are "
                             f"{', '.join(f'{each:g}' for each in shadows.ratios)}")
        found += same
    if found[0] == found[1]:
        raise UsageError(f"--ratios: both are {found[0]:g}; equal worlds leave nothing to tell "
                         "(n_leaked = 0): give two different ratios")
    return found[0], found[1]


@dataclass(frozen=True)
class Found:
    """What the attack says about the models of a file; lists have one item a model.

    Attributes
    ----------
    table, property, n, shadows
        Whose shadows, their training records, and how many there are of each ratio.
    ratios : tuple of float
        Of world 0 and of world 1.
    scores : list of float
        Mean KL to the shadows of world 0 less that to world 1's; larger speaks for world 1.
    answer, zero : list of float
        The ratio by the calibrated rule (the headline) and by the zero rule.
    probability : list of Interval
        Of world 1.
    accuracy : Interval
        Share of held-out shadows that the calibrated rule gets right.
    estimate : list of Interval
        The ratio itself, from shadows of all published ratios.
    right : list of float
        Share of the probe records whose label the model gets right.
    usual : tuple of float
        Lowest and highest such share of the shadows of the two ratios.
    distance, farthest : list of float, float
        Mean KL from the nearer world's shadows; the most that a shadow is from the others.
    labels_only : bool
        All outputs are 0 or 1; the shadows then show labels, too.
    """

    table: str
    property: str
    n: int
    shadows: int
    ratios: tuple[float, float]
    scores: list[float]
    answer: list[float]
    zero: list[float]
    probability: list[Interval]
    accuracy: Interval
    estimate: list[Interval]
    right: list[float]
    usual: tuple[float, float]
    distance: list[float]
    farthest: float
    labels_only: bool


def judge(victims: Probabilities, seen: dict[float, Probabilities], shadows: Shadows,
          worlds: tuple[float, float], labels: np.ndarray) -> Found:
    """Attack a reader's models, each by itself.

    The probability of world 1 (prior 1/2) is a logistic regression of the world on the held-out
    scores, with a ridge penalty on the score in units of its standard deviation. It
    is monotone in the score, which two fitted normal laws are only if their variances agree, and
    the penalty keeps it from a certainty that some tens of shadows cannot vouch for: with 50 of
    each ratio, all told apart, it stays near .97. Its interval is a bootstrap over the shadows of
    each world and half: scores, scale and regression are made anew from those drawn. The accuracy
    of the rule comes from thresholds that were calibrated without the fifth of the shadows that
    they judge.

    Parameters
    ----------
    victims : Probabilities, [models, records]
    seen : dict of float to Probabilities
        The shadows' outputs (`shadow_outputs.read`).
    shadows : Shadows
    worlds : tuple of float
        The two ratios.
    labels : ndarray of 0 and 1, [records]

    Returns
    -------
    Found
    """
    labels_only = bool(np.isin(victims.values, (0.0, 1.0)).all())
    right = (victims.labels() == labels.astype(bool)).mean(1)
    theirs = np.concatenate([(seen[ratio].labels() == labels.astype(bool)).mean(1)
                             for ratio in worlds])
    if labels_only:
        victims = victims.hardened()
        seen = {ratio: part.hardened() for ratio, part in seen.items()}
    sets = [shadows.probes(ratio) for ratio in worlds]
    both = Probabilities(np.concatenate([seen[ratio].values for ratio in worlds]))
    everyone = Probabilities(np.concatenate([both.values, victims.values]))
    far = np.mean([divergence(both.take(records=part), everyone.take(records=part))
                   for part in sets], axis=0)
    count, world = shadows.count, np.repeat([False, True], shadows.count)
    once, drawn = np.ones((1, 2 * count)), _drawn(count, worlds)
    means = _far_from(far, world, once)[:, 0]
    scores, near = _aligned((means[0] - means[1])[None], world, once)[0], means.min(0)
    held, mine = scores[:2 * count], scores[2 * count:]
    says = mine > best_cut(held[:count], held[count:])
    probability = _probability(scores[None], world, once)[0]
    again = _aligned(np.subtract(*_far_from(far, world, drawn)), world, drawn)
    low, high = np.quantile(_probability(again, world, drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2],
                            axis=0)
    return Found(
        shadows.table, shadows.property, shadows.n, count, worlds, mine.tolist(),
        *([worlds[int(one)] for one in part] for part in (says, mine > 0)),
        [Interval(*map(float, ends)) for ends in zip(probability, low, high, strict=True)],
        wilson(int(_right(held, world).sum()), 2 * count, LEVEL),
        _estimates(victims, seen, shadows), right.tolist(),
        (float(theirs.min()), float(theirs.max())), near[2 * count:].tolist(),
        float(near[:2 * count].max()), labels_only)


def _far_from(far: np.ndarray, world: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean KL from the shadows of either world, each counted `weights` times.

    A shadow is compared with those of the other half of the records only (`Group.halves`): they
    share no record with it, as with a victim. `far` [shadows, shadows + victims], `world`
    [shadows], `weights` [draws, shadows]; returns [2, draws, shadows + victims].
    """
    half = np.arange(len(world)) % (len(world) // 2) % 2
    counts = np.ones(far.shape)
    counts[:, : len(world)] = half[:, None] != half
    return np.stack([(weights * (world == side)) @ (far * counts)
                     / ((weights * (world == side)) @ counts) for side in (False, True)])


def _aligned(scores: np.ndarray, world: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Move the shadows' scores so that either half has the same middle between the worlds.

    Each half is scored by the other, which shifts all its scores by an amount of their own;
    victims, scored by all, stay (`helpers.decisions.answered`). Shapes as in `_probability`.
    """
    half = np.arange(len(world)) % (len(world) // 2) % 2
    middle = []
    for k in (0, 1):
        parts = [weights * ((half == k) & (world == side)) for side in (False, True)]
        middle.append(np.mean([(part * scores[:, : len(world)]).sum(1) / part.sum(1)
                               for part in parts], axis=0))
    middle, moved = np.stack(middle, 1), scores.copy()
    moved[:, : len(world)] += middle.mean(1, keepdims=True) - middle[:, half]
    return moved


def _probability(scores: np.ndarray, world: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ridge logistic regression of the world on the shadows' scores, read at the victims'.

    `scores` [draws, shadows + victims], `world` [shadows], `weights` [draws, shadows]; returns
    [draws, victims]. Newton's method, all draws at once; the slope belongs to scores in units of
    their standard deviation and has the penalty slope^2 / 2, the intercept has none.
    """
    size, total = len(world), weights.sum(1, keepdims=True)
    middle = (weights * scores[:, :size]).sum(1, keepdims=True) / total
    x = scores - middle
    scale = np.sqrt((weights * x[:, :size] ** 2).sum(1, keepdims=True) / total)
    x = x / np.where(scale > 0, scale, 1.0)
    held = x[:, :size]
    slope, shift = np.zeros((2, len(scores), 1))
    for _ in range(50):
        said = expit(slope * held + shift)
        off, bend = weights * (said - world), weights * said * (1 - said)
        down = np.stack([(off * held).sum(1) + slope[:, 0], off.sum(1)], 1)
        mixed = (bend * held).sum(1)
        curve = np.stack([np.stack([(bend * held**2).sum(1) + 1, mixed], 1),
                          np.stack([mixed, bend.sum(1)], 1)], 1)
        step = np.linalg.solve(curve, down[..., None])
        slope, shift = slope - step[:, 0], shift - step[:, 1]
        if np.abs(step).max() < 1e-10:
            break
    return expit(slope * x[:, size:] + shift)


def _drawn(count: int, worlds: tuple[float, float]) -> np.ndarray:
    """Times that a shadow is drawn, with replacement within world and half, [draws, 2 count]."""
    drawn = np.empty((DRAWS, 2 * count), np.int64)
    for world, ratio in enumerate(worlds):
        for half in (0, 1):
            place = world * count + np.arange(half, count, 2)
            stream = generator("attack shadows", round(ratio * 1e6), half)
            at = stream.integers(len(place), size=(DRAWS, len(place)))
            drawn[:, place] = np.stack([np.bincount(one, minlength=len(place)) for one in at])
    return drawn


def _right(held: np.ndarray, world: np.ndarray) -> np.ndarray:
    """Whether each shadow is judged rightly by a threshold from shadows of the other folds."""
    fold, right = np.arange(len(held)) % (len(held) // 2) % FOLDS, np.zeros(len(held), bool)
    for k in range(FOLDS):
        rest, judged = fold != k, fold == k
        cut = best_cut(held[rest & ~world], held[rest & world])
        right[judged] = (held[judged] > cut) == world[judged]
    return right


def _estimates(victims, seen, shadows: Shadows) -> list[Interval]:
    ones, others = np.arange(shadows.each), shadows.each + np.arange(shadows.each)

    def split(part: Probabilities) -> Views:
        return Views(part.take(records=others), part.take(records=ones))

    theirs = {ratio: split(part) for ratio, part in seen.items()}
    own = ratios.crossed(theirs, fold=np.arange(shadows.count) % 2)
    found = ratios.regression(split(victims), theirs, level=LEVEL, own=own)
    return [Interval(*map(float, ends)) for ends in zip(*found, strict=True)]


def report(found: Found) -> str:
    """Lay the answers out for a terminal, with what they rest on."""
    zero, one = found.ratios
    rows = [[str(i), f"{found.answer[i]:g}", f"{found.zero[i]:g}", f"{found.probability[i]:.2f}",
             f"{found.estimate[i]:.2f}", f"{found.right[i]:.3f}", f"{found.distance[i]:.4f}"]
            for i in range(len(found.answer))]
    header = ("model", "ratio", "zero rule", f"P(ratio {one:g})", "ratio estimate",
              "labels right", "distance")
    lines = [
        f"{found.table}, {found.property}: which ratio, {zero:g} or {one:g}? Intervals are 95 %.",
        "", aligned(header, rows), "",
        f"The rule behind `ratio` is right for {found.accuracy:.2f} of held-out shadows.",
        f"P(ratio {one:g}) starts from 1/2. The ratio estimate uses shadows of all published "
        "ratios.",
        f"The shadows get {found.usual[0]:.3f} to {found.usual[1]:.3f} of the labels right; the "
        f"one farthest from the others has distance {found.farthest:.4f}."]
    if found.labels_only:
        lines.append("All outputs are 0 or 1: compared with the shadows' labels, not their "
                     "probabilities.")
    odd = [str(i) for i, far in enumerate(found.distance) if far > found.farthest]
    if odd:
        lines.append(f"Model {', '.join(odd)}: farther from the shadows than any of them is from "
                     "the others. Are the outputs those of label 1, in the order of the records? "
                     "If so, the model may be of another kind than they, and the answer may not "
                     "hold.")
    lines.append(
        f"Caveat: the {found.shadows} shadows of each ratio are perceptrons of 32 and 16 units, "
        f"each trained on {found.n} records of the adversary's part of the table. A model trained "
        "otherwise (another architecture, more or fewer records, another source) may be shifted "
        "by more than the intervals say.")
    return "\n".join(lines)


def main(root: Path, args: argparse.Namespace) -> None:
    """Do what ``python -m helpers attack`` was asked for."""
    if args.json and not args.outputs:
        raise UsageError("--json goes with --outputs")
    if not (args.probes or args.encoded or args.outputs or args.make_shadows):
        raise UsageError("nothing to do: give --probes FILE.csv or --encoded FILE.npz to get the "
                         "records, --outputs FILE.npz to test a model, or --make-shadows")
    shadows = shadow_outputs.find(args.table, args.property)
    worlds = victims = None
    if args.outputs:
        worlds = chosen(shadows, args.ratios)
        victims = read_outputs(args.outputs, shadows)
    store = Store(Path(os.environ.get("SAME_NOISE_STORE") or default_store(root)),
                  root / "results", publish=args.make_shadows)
    try:
        if args.probes:
            print(shadow_outputs.write_probes(shadows, args.probes))
        if args.encoded:
            print(shadow_outputs.write_encoded(shadows, args.encoded))
        if args.make_shadows:
            key = shadow_outputs.make(shadows, store, workers=args.workers).key
            print(f"shadow outputs of {args.table}, {args.property}: results/{key[:2]}/{key}")
        if victims is None:
            return
        seen = shadow_outputs.read(shadows, store)
        labels = groups.table(shadows.data).label[shadow_outputs.probe_rows(shadows)]
    except DataError as error:
        raise UsageError(str(error)) from error
    found = judge(victims, seen, shadows, worlds, labels)
    print(report(found))
    if args.json:
        try:
            with replacing(args.json) as part:
                part.write_text(json.dumps(asdict(found), indent=1) + "\n", "utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {args.json}: {error.strerror or error}") from error
        print(f"written: {args.json}")
