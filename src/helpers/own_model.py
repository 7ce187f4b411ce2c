"""A reader's own classifier under the KL divergence attack: what does it tell about its records?

The reader's outputs on the published probe records meet published shadows (`shadow_outputs`) of
two ratios. Every shadow is scored like a victim, by the shadows of the other half of the records
(`shadow_tests`). Those held-out scores set the threshold, turn a score into a probability and say
how often the rule is right. A model that is farther from the shadows than any of them is from the
others is not judged.
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

from helpers import groups, ratios, shadow_outputs
from helpers.attacks import Views, divergence
from helpers.images import DataError
from helpers.intervals import Interval
from helpers.outputs import Logits, Probabilities
from helpers.project import UsageError, default_store, replacing
from helpers.shadow_outputs import Shadows
from helpers.shadow_tests import LEVEL, judged
from helpers.store import Store
from helpers.verdicts import aligned

__all__ = ["Found", "chosen", "judge", "main", "read_outputs", "report"]

MOST_MODELS = 1000


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

    A model that is not judged has None for its answers, probability and estimate.

    Attributes
    ----------
    table, property, n, shadows
        Whose shadows, their training records, and how many there are of each ratio.
    ratios : tuple of float
        Of world 0 and of world 1.
    scores : list of float
        Mean KL to the shadows of world 0 less that to world 1's; larger speaks for world 1.
    judged : list of bool
        False for a model that is farther from the shadows than any of them is from the others.
    answer, zero : list of float or None
        The ratio by the calibrated rule (the headline) and by the zero rule.
    probability : list of Interval or None
        Of world 1.
    accuracy : Interval
        Share of held-out shadows that the calibrated rule gets right.
    estimate : list of Interval or None
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
    judged: list[bool]
    answer: list[float | None]
    zero: list[float | None]
    probability: list[Interval | None]
    accuracy: Interval
    estimate: list[Interval | None]
    right: list[float]
    usual: tuple[float, float]
    distance: list[float]
    farthest: float
    labels_only: bool


def judge(victims: Probabilities, seen: dict[float, Probabilities], shadows: Shadows,
          worlds: tuple[float, float], labels: np.ndarray) -> Found:
    """Attack a reader's models, each by itself; see :func:`helpers.shadow_tests.judged`.

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
    found = judged(far, worlds)
    distance = found.near[2 * shadows.count:]
    farthest = float(found.near[:2 * shadows.count].max())
    fits = (distance <= farthest).tolist()

    def told(part):
        return [one if fit else None for one, fit in zip(part, fits, strict=True)]

    return Found(
        shadows.table, shadows.property, shadows.n, shadows.count, worlds, found.scores.tolist(),
        fits, *(told(worlds[int(one)] for one in part) for part in (found.above, found.scores > 0)),
        told(found.probability), found.accuracy, told(_estimates(victims, seen, shadows)),
        right.tolist(), (float(theirs.min()), float(theirs.max())), distance.tolist(), farthest,
        labels_only)


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
    rows = []
    for i, fits in enumerate(found.judged):
        says = [f"{found.answer[i]:g}", f"{found.zero[i]:g}", f"{found.probability[i]:.2f}",
                f"{found.estimate[i]:.2f}"] if fits else ["cannot judge", "–", "–", "–"]
        rows.append([str(i), *says, f"{found.right[i]:.3f}", f"{found.distance[i]:.4f}"])
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
    odd = [str(i) for i, fits in enumerate(found.judged) if not fits]
    if odd:
        lines.append(f"Model {', '.join(odd)}: cannot judge: farther from the shadows than any of "
                     "them is from the others. Are the outputs those of label 1, in the order of "
                     "the records? If so, the model is of another kind than they, and no answer "
                     "would hold.")
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
