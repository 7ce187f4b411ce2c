"""A reader's own diffusion model under the shared-noise attack: what do its samples give away?

The reader's samples of the published noises meet those of shadow models of two ratios, published
(`noise_shadows`) or the reader's own (`own_shadows`). A model's score is the paired pixel evidence
of `shared_noise`, averaged over the noises; held-out shadows set the threshold, the probability
and the accuracy (`shadow_tests`). A model that the shadows do not resemble is not judged.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.spatial.distance import cdist

from helpers import noise_samples, noise_shadows, own_shadows, ratios
from helpers.decisions import FEWEST
from helpers.denoiser_groups import shape
from helpers.images import DataError
from helpers.intervals import Interval
from helpers.noise_samples import Reference
from helpers.noise_shadows import NoiseShadows
from helpers.own_model import chosen
from helpers.project import UsageError, default_store, need_root, replacing
from helpers.shadow_tests import LEVEL, judged
from helpers.store import Store
from helpers.verdicts import aligned

__all__ = ["Found", "fit", "judge", "main", "report"]

ALARM = 0.01  # share of held-out shadows below which a model counts as unlike them
ADVISED = 10  # noises
AT_ONCE = 50  # models whose distances are computed together
BANK = "published_bank"


@dataclass(frozen=True)
class Found:
    """What the attack says about models; lists have one item a model.

    A model that is not judged has None for its answers, probability and estimate.

    Attributes
    ----------
    data, n, network, shadows
        What the shadows are, their training records, and how many there are of each ratio.
    published : bool
    ratios : tuple of float
        Of world 0 and of world 1.
    noises : int
        Noises that the models were asked.
    scores : list of float
        Mean paired distance to the shadows of world 0 less that to world 1's.
    judged : list of bool
        False where the fit test says that the shadows do not resemble the model.
    answer, zero : list of float or None
        The ratio by the calibrated rule (the headline) and by the zero rule.
    probability : list of Interval or None
        Of world 1.
    estimate : list of Interval or None
        The ratio itself, from the shadows of all ratios; None for all where they are too few.
    accuracy : Interval
        Share of held-out shadows that the calibrated rule gets right.
    distance, p : list of float
        Of the fit test, see `fit`.
    usual : tuple of float
        Median and largest distance of the held-out shadows.
    estimated_from : list of float
        Ratios of the shadows behind the fit test and the estimate.
    pictures : bool
        Distances are in grey levels of 255, else in units of the encoded features.
    """

    data: str
    n: int
    network: str
    shadows: int
    published: bool
    ratios: tuple[float, float]
    noises: int
    scores: list[float]
    judged: list[bool]
    answer: list[float | None]
    zero: list[float | None]
    probability: list[Interval | None]
    estimate: list[Interval | None]
    accuracy: Interval
    distance: list[float]
    p: list[float]
    usual: tuple[float, float]
    estimated_from: list[float]
    pictures: bool


def _distances(victims: np.ndarray, shadows: Mapping[float, np.ndarray]) -> np.ndarray:
    """Mean paired L1 distance of every shadow to every shadow and victim, float64.

    Ratios are in increasing order; shape [shadows of all ratios, as many + victims].
    """
    sides = [shadows[ratio] for ratio in sorted(shadows)]
    for part in (*sides, victims):
        if part.ndim != 3 or part.shape[1:] != sides[0].shape[1:] or not part.size:
            raise ValueError(f"samples of shape {part.shape}: need [models, "
                             f"{sides[0].shape[1]}, {sides[0].shape[2]}], as the first shadows")
    if len({len(part) for part in sides}) > 1 or len(sides[0]) < FEWEST:
        raise ValueError(f"{[len(part) for part in sides]} shadows: need as many of each ratio, at "
                         f"least {FEWEST}")

    def flat(part):
        return part.reshape(len(part), -1).astype(np.float64)

    theirs = np.concatenate([flat(part) for part in sides])
    parts = [theirs] + [flat(victims[first : first + AT_ONCE])
                        for first in range(0, len(victims), AT_ONCE)]
    return np.concatenate([cdist(theirs, part, "cityblock") for part in parts], 1) / theirs.shape[1]


def _profiles(far: np.ndarray, count: int) -> np.ndarray:
    """Mean distance to the shadows of each ratio and half, [shadows + victims, ratios, 2]."""
    split = far.reshape(-1, count, far.shape[1])
    half = np.arange(count) % 2
    return np.stack([split[:, half == k].mean(1) for k in (0, 1)], 2).transpose(1, 0, 2)


def _fit(found: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances of held-out shadows and of victims, and the victims' p, from `_profiles`."""
    total = count * found.shape[1]
    near = found.min(1)
    held = near[np.arange(total), 1 - np.arange(total) % count % 2]
    mine = near[total:].mean(1)
    p = (1 + (held >= mine[:, None]).sum(1)) / (1 + total)
    return held, mine, p


def fit(victims: np.ndarray, shadows: Mapping[float, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Test whether shadows resemble a model: is it farther from them than they are themselves?

    A held-out shadow's distance is the mean paired L1 distance to the shadows of the nearest
    ratio, among those trained on the other half of the records. A victim has such a distance from
    either half; the mean of the two is its own. It shares no record with the shadows of either.

    Parameters
    ----------
    victims : ndarray, shape [M, m, d]
        Samples of m noises, uint8 or float.
    shadows : mapping of float to ndarray, shape [S, m, d]
        By ratio, the same noises in the same order; even ones are of one half, odd ones of the
        other.

    Returns
    -------
    distance : ndarray, float64, shape [M]
    p : ndarray, float64, shape [M]
        ``(1 + held-out shadows at least as far) / (1 + held-out shadows)``. Small for a model
        unlike all shadows; uniform, or nearly, for one drawn like a held-out shadow.

    Raises
    ------
    ValueError
        For shapes that do not fit together, or fewer than four shadows of a ratio.
    """
    found = _profiles(_distances(victims, shadows), len(next(iter(shadows.values()))))
    return _fit(found, len(next(iter(shadows.values()))))[1:]


def judge(victims: np.ndarray, shadows: Mapping[float, np.ndarray], worlds: tuple[float, float],
          known: Reference) -> Found:
    """Attack models, each by itself; see :func:`helpers.shadow_tests.judged`.

    Parameters
    ----------
    victims : ndarray, shape [M, m, d]
    shadows : mapping of float to ndarray, shape [S, m, d]
        As for `fit`, of the noises that the victims were asked.
    worlds : tuple of float
        Ratios of world 0 and of world 1.
    known : Reference
        For what the shadows are.
    """
    grid, count = sorted(shadows), len(next(iter(shadows.values())))
    far = _distances(victims, shadows)
    total = len(far)
    place = np.concatenate([grid.index(ratio) * count + np.arange(count) for ratio in worlds])
    found = judged(far[place][:, np.concatenate([place, np.arange(total, far.shape[1])])], worlds)
    profiles = _profiles(far, count)
    held, distance, p = _fit(profiles, count)
    fits = ((p >= ALARM) & (p * (1 + total) > 1.5)).tolist()

    def told(part):
        return [one if fit else None for one, fit in zip(part, fits, strict=True)]

    return Found(
        known.data, known.n, known.network, count, known.published, worlds, victims.shape[1],
        found.scores.tolist(), fits,
        *(told(worlds[int(one)] for one in part) for part in (found.above, found.scores > 0)),
        told(found.probability), told(_estimates(profiles, grid, count)), found.accuracy,
        distance.tolist(), p.tolist(), (float(np.median(held)), float(held.max())), grid,
        known.pictures)


def _estimates(profiles: np.ndarray, grid: list[float], count: int) -> list[Interval | None]:
    """The ratio itself, as in `helpers.noise_estimates`: ridge regression on log-profiles, CV+."""
    total = len(grid) * count
    if not _enough(total):
        return [None] * (len(profiles) - total)
    half = np.arange(total) % count % 2
    own = profiles[np.arange(total), :, 1 - half]
    logs = [np.log(np.maximum(part, 1e-9)) for part in (own, profiles[total:].mean(2))]
    found = ratios._cv_plus(ratios._ridge, logs[0], np.repeat(grid, count), half, logs[1], LEVEL)
    return [Interval(*map(float, ends)) for ends in zip(*found, strict=True)]


def _enough(shadows: int) -> bool:
    """Whether an interval of level `LEVEL` exists (`helpers.ratios`)."""
    return ceil(LEVEL * (shadows + 1)) <= shadows


def report(found: Found) -> str:
    """Lay the answers out for a terminal, with what they rest on."""
    zero, one = found.ratios
    rows = []
    for i, fits in enumerate(found.judged):
        says = ["cannot judge", "–", "–", "–"]
        if fits:
            guess = found.estimate[i]
            says = [f"ratio {found.answer[i]:g}", f"{found.zero[i]:g}",
                    f"{found.probability[i]:.2f}", "–" if guess is None else f"{guess:.2f}"]
        rows.append([str(i), *says, f"{found.distance[i]:.2f}", f"{found.p[i]:.3f}"])
    header = ("model", "verdict", "zero rule", f"P(ratio {one:g})", "ratio estimate", "distance",
              "p of fit")
    unit = " grey levels" if found.pictures else ""
    listed = ", ".join(f"{ratio:g}" for ratio in found.estimated_from)
    guessed = (f"The ratio estimate uses shadows of the ratios {listed}." if _enough(
        len(found.estimated_from) * found.shadows) else
        f"No ratio estimate: {found.shadows} shadows of each ratio are too few for an interval.")
    lines = [
        f"{found.data}: which ratio, {zero:g} or {one:g}? {found.noises} noises; intervals are "
        "95 %.",
        "", aligned(header, rows), "",
        f"The rule behind `verdict` is right for {found.accuracy:.2f} of held-out shadows.",
        f"P(ratio {one:g}) starts from 1/2. {guessed}",
        f"`distance` is that from the shadows of the nearest ratio; held-out shadows have a median "
        f"of {found.usual[0]:.2f}{unit} and {found.usual[1]:.2f} at most. `p of fit` is the share "
        "of them that are at least as far."]
    odd = [str(i) for i, fits in enumerate(found.judged) if not fits]
    if odd:
        lines.append(
            f"Model {', '.join(odd)}: cannot judge: farther from the shadows of every ratio than "
            "held-out shadows are. Either the samples are not what a deterministic sampler makes "
            "of the published noises (in their order, from the right start, in the range of the "
            "training pictures), or the model saw other data, many more or fewer records, or is of "
            "another kind. Check the samples; then train shadows on data like your own (`python "
            "-m helpers train-shadows`).")
    if found.noises < ADVISED:
        lines.append(f"Caveat: {found.noises} noises are few; give {ADVISED} or more.")
    whose = "the adversary's part of the set" if found.published else "the data given"
    lines.append(
        f"Assumed: the model was trained on about {found.n} records from the same source as the "
        f"shadows' ({found.data}); it draws by a deterministic sampler; and its noises are the "
        f"published ones. The {found.shadows} shadows of each ratio are {found.network}, trained "
        f"on {found.n} records of {whose}. A model trained otherwise may be shifted by more than "
        "the intervals say.")
    return "\n".join(lines)


def _published(shadows: NoiseShadows, store: Store) -> Reference:
    family = shadows.family
    units = " and ".join(map(str, family.recipe.hidden))
    by = "x".join(map(str, shape(family)[1:]))
    return Reference(noise_shadows.read(shadows, store), shape(family), family.n,
                     f"{family.data.name} at {by}, {family.data.property}",
                     f"perceptrons of {units} units, {family.recipe.steps} steps", True)


def _worlds(known: Sequence[float], asked: Sequence[float] | None, published: bool
            ) -> tuple[float, float]:
    """The two ratios: those asked for, by default 0.5 and 0.3, or the first two of one's own."""
    if asked is None:
        asked = (0.5, 0.3) if published else known[:2]
    if not published:
        strange = [ratio for ratio in asked if 0 <= ratio <= 1
                   and not any(abs(each - ratio) < 1e-6 for each in known)]
        if strange:
            raise UsageError(f"--ratios: {strange[0]:g} is not a ratio of --shadows; theirs are "
                             f"{', '.join(f'{each:g}' for each in known)}")
    return chosen(SimpleNamespace(ratios=known), asked)


def _check(args: argparse.Namespace) -> None:
    asked = [name for name in ("samples", "pipeline") if getattr(args, name)]
    if not (asked or args.write_noise or args.make_shadows):
        raise UsageError("nothing to do: give --write-noise FILE.npz to get the noises, --samples "
                         "FILE or --pipeline FOLDER to test a model, or --make-shadows")
    if len(asked) == 2:
        raise UsageError("--samples and --pipeline: give one of the two")
    if args.json and not asked:
        raise UsageError("--json goes with --samples or --pipeline")
    if args.make_shadows and args.shadows:
        raise UsageError("--make-shadows trains the published shadows; `train-shadows` trains "
                         "those that --shadows names")
    if args.noise != BANK:
        raise UsageError(f"--noise {args.noise}: shadows can be compared noise by noise only on "
                         f"noises that they were asked, which is {BANK}, here and in "
                         "train-shadows")


def main(args: argparse.Namespace) -> None:
    """Do what ``python -m helpers attack-diffusion`` was asked for."""
    _check(args)
    shadows = NoiseShadows()
    known = own_shadows.read(args.shadows) if args.shadows else None
    asked = args.samples or args.pipeline
    worlds = _worlds(tuple(known.samples) if known else shadows.ratios, args.ratios,
                     known is None) if asked else None
    if args.write_noise:
        of, count = ((known.shape, known.noises) if known else
                     (shape(shadows.family), shadows.noises))
        print(noise_samples.write_noise(args.write_noise, of, count))
    if not (asked or args.make_shadows):
        return
    try:
        if known is None:
            root = need_root()
            store = Store(Path(os.environ.get("SAME_NOISE_STORE") or default_store(root)),
                          root / "results", publish=args.make_shadows)
            if args.make_shadows:
                key = noise_shadows.make(shadows, store, workers=args.workers).key
                print(f"shadow samples: results/{key[:2]}/{key}")
                if not asked:
                    return
            known = _published(shadows, store)
    except DataError as error:
        raise UsageError(str(error)) from error
    if args.samples:
        victims, indices = noise_samples.read_samples(args.samples, known)
    else:
        victims, indices = noise_samples.from_pipeline(args.pipeline, known, args.steps)
    found = judge(victims, {ratio: part[:, indices] for ratio, part in known.samples.items()},
                  worlds, known)
    print(report(found))
    if args.json:
        try:
            with replacing(args.json) as part:
                part.write_text(json.dumps(asdict(found), indent=1) + "\n", "utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {args.json}: {error.strerror or error}") from error
        print(f"written: {args.json}")
