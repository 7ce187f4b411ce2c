"""Property unlearning (Stock et al., 2023): trained weights are moved until one network is at loss.

The defender trains a permutation-invariant network (`helpers.whitebox`) on shadows of its own and
changes each victim's weights until that network gives both worlds the same probability. The
question is what *other* attacks still read: the same kind of network trained by somebody else on
other shadows, and the KL attack, which never sees weights. An adversary who knows the defence
unlearns its own shadows in the same way and builds its attack on those.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from helpers import groups, inference, shadow, whitebox
from helpers.decisions import Judged, answered, judge
from helpers.groups import Group, fitted, table
from helpers.inference import Game, probe_rows
from helpers.noise import generator
from helpers.shadow import Fitted
from helpers.store import Store, fingerprint, make_key
from helpers.whitebox import Layers, Reader
from helpers.workers import map_cells, peak_mb

__all__ = ["ATTACKS", "Outcome", "Unlearning", "play", "recompute", "unlearn"]

VERSION = 1
MODULES = ("helpers.unlearning", *inference.MODULES)
LONGEST = 0.2  # of a model's norm: the farthest that one step may move its weights
NEAR = 0.4  # of the margin: log-odds this close to the goal have reached it
ATTACKS = {
    "pin own": "the defender's network, against which the victims were unlearned",
    "pin other": "a network of another seed, trained on the adversary's shadows",
    "kl": "the KL attack, on outputs alone",
}


@dataclass(frozen=True)
class Unlearning:
    """A game whose victims unlearn their property.

    Attributes
    ----------
    game : Game
        Victims (perceptrons) and the adversary's shadows, at different ratios; its own attacks are
        not played.
    defender : Group
        The defender's shadows, at the second ratio: of the victims' party, beyond their numbers.
    steps : int
        Most gradient steps for a model.
    margin : float
        Models end with probabilities spread evenly within this of 1/2. (All would stop on the
        side that they came from if each were done as soon as it is near enough.)
    epochs : int
        Passes of the permutation-invariant networks over their shadows.
    """

    game: Game
    defender: Group
    steps: int = 100
    margin: float = 0.02
    epochs: int = 200

    def __post_init__(self):
        victims, theirs = self.game.victims, self.game.shadows
        for side, group in (("the adversary", theirs), ("the defender", self.defender)):
            if group.count < whitebox.FEWEST:
                raise ValueError(f"{side} has {group.count} shadows of each world; its network "
                                 f"needs at least {whitebox.FEWEST}")
        if len({(g.recipe.arch, g.ratio, g.data) for g in (victims, theirs, self.defender)}) > 1:
            raise ValueError("victims, adversary and defender need one table, ratio and "
                             f"architecture, got {victims}, {theirs} and {self.defender}")
        if not victims.recipe.arch.startswith("mlp-"):
            raise ValueError("unlearning moves weights of perceptrons, not of "
                             f"{victims.recipe.arch}")
        if self.defender.party != victims.party or self.defender.first < victims.first + (
                victims.count) or self.game.alpha0 == victims.ratio:
            raise ValueError(f"defender of party {self.defender.party} from number "
                             f"{self.defender.first} on: need the victims' party "
                             f"{victims.party}, numbers from {victims.first + victims.count} on, "
                             f"and ratios that differ (alpha0={self.game.alpha0})")
        if self.steps < 1 or self.epochs < 1 or not 0 < self.margin < 0.5:
            raise ValueError(f"steps={self.steps} and epochs={self.epochs} must be at least 1, "
                             f"margin={self.margin} in (0, 0.5)")

    @property
    def groups(self) -> tuple[Group, ...]:
        """Victims, adversary's shadows and defender's shadows, each of world 0 and 1."""
        return (*self.game.groups, replace(self.defender, ratio=self.game.alpha0), self.defender)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What every attack answered; see `ATTACKS`.

    Attributes
    ----------
    case : Unlearning
    found : dict of (str, str) to Judged
        By phase and attack: ``before`` and ``after`` unlearning, and ``both`` for the adversary
        whose shadows were unlearned as well (not for ``pin own``).
    record : dict
    arrays : dict of str to ndarray
        ``accuracy/before``, ``accuracy/after`` [2, victims] on the task; ``steps`` [2, victims]
        used; ``probability`` [2, victims] of world 1 by the defender's network at the end;
        ``moved`` [2, victims], the change of the weights relative to their norm.
    """

    case: Unlearning
    found: dict[tuple[str, str], Judged]
    record: dict
    arrays: dict[str, np.ndarray] = field(repr=False)


def unlearn(layers: Layers, reader: Reader, *, steps: int = 100, margin: float = 0.02,
            seed: int = 0) -> tuple[Layers, np.ndarray, np.ndarray]:
    """Move each model's weights along the network's gradient until it answers about 1/2.

    Every model has a goal drawn at random within `margin` of 1/2. A step goes half of the way that
    would bring the log-odds to the goal if they were linear in the weights: the shortest change to
    first order, and at most a fifth of the model's norm.

    Parameters
    ----------
    layers : list of (ndarray [M, out, in], ndarray [M, out])
    reader : Reader
    steps, margin
        As in `Unlearning`.
    seed : int
        Of the goals.

    Returns
    -------
    layers : list of (ndarray, ndarray)
    used : ndarray of int, shape [M]
        Steps taken; `steps` where the budget ended first.
    probability : ndarray of float, shape [M]
        Of world 1, at the end.
    """
    flat = [torch.tensor(part, requires_grad=True) for layer in layers for part in layer]
    lengths = torch.stack([part.detach().flatten(1).square().sum(1) for part in flat]).sum(0).sqrt()
    used = torch.zeros(len(flat[0]), dtype=torch.int64)
    drawn = generator("unlearning goals", seed).random(len(used))
    goal = torch.logit(torch.from_numpy(0.5 + margin * (2 * drawn - 1)).float())
    for step in range(steps + 1):
        z = reader.log_odds(flat)
        rest = z - goal
        far = rest.abs() > NEAR * margin
        if step == steps or not far.any():
            break
        slopes = torch.autograd.grad(z.sum(), flat)
        with torch.no_grad():
            steep = torch.stack([part.flatten(1).square().sum(1) for part in slopes]).sum(0).sqrt()
            steep.clamp_min_(1e-12)
            length = torch.minimum(rest.abs() / (2 * steep), LONGEST * lengths)
            scale = torch.where(far, length * rest.sign() / steep, 0.0)
            for part, slope in zip(flat, slopes, strict=True):
                part -= scale.view(-1, *[1] * (part.ndim - 1)) * slope
            used += far
    arrays = [part.detach().numpy() for part in flat]
    return (list(zip(arrays[::2], arrays[1::2], strict=True)), used.numpy(),
            torch.sigmoid(z).detach().double().numpy())


def _replaced(models: Fitted, layers: Layers) -> Fitted:
    """The same models with other weights."""
    last = models.recipe.epochs
    names = sorted(models.weights[last], key=lambda n: (int(n.split(".")[0]), n.endswith("bias")))
    flat = [part for layer in layers for part in layer]
    return replace(models, weights={last: dict(zip(names, flat, strict=True))})


def _joined(a: Layers, b: Layers) -> Layers:
    return [tuple(np.concatenate(parts) for parts in zip(x, y, strict=True))
            for x, y in zip(a, b, strict=True)]


def _halves(layers: Layers) -> list[Layers]:
    return [[tuple(part[rows] for part in layer) for layer in layers]
            for count in [len(layers[0][0]) // 2]
            for rows in (slice(count), slice(count, None))]


def _asked(reader: Reader, victims: Layers, sides: Sequence[Layers]) -> Judged:
    """A network's answers on the victims of both worlds, cut where held-out shadows say."""
    def say(layers, rows=slice(None)):
        with torch.no_grad():
            return reader.log_odds([torch.from_numpy(np.array(part[rows])) for layer in layers
                                    for part in layer]).double().numpy()

    held = tuple(say(side, rows) for side, rows in zip(sides, reader.places, strict=True))
    return answered(say(victims).reshape(2, -1), held)


def _play(case: Unlearning, store: Store, device: str):
    game, members, rows = case.game, case.groups, probe_rows(case.game)
    models = [fitted(group, store, device) for group in members]
    spent = {groups.key_of(group, device)[:16]: found.record["cost"]["seconds"]
             for group, found in zip(members, models, strict=True)}
    began = time.process_time()
    source, last = table(game.shadows.data), game.victims.recipe.epochs
    layers = [whitebox.layers_of(found.weights[found.recipe.epochs]) for found in models]
    before, theirs, own = _joined(*layers[:2]), layers[2:4], layers[4:]
    how = {"steps": case.steps, "margin": case.margin}
    mine = whitebox.reader(*own, epochs=case.epochs, seed=game.seed)
    other = whitebox.reader(*theirs, epochs=case.epochs, seed=game.seed + 1)
    after, used, probability = unlearn(before, mine, seed=game.seed, **how)
    known = _halves(unlearn(_joined(*theirs), other, seed=game.seed + 1, **how)[0])
    adapted = whitebox.reader(*known, epochs=case.epochs, seed=game.seed + 2)
    labels = tuple(source.label[part] for part in rows)

    def kl(victims, shadows) -> Judged:
        seen = [groups.views(found, source, rows) for found in (*victims, *shadows)]
        return judge("kl", tuple(seen[:2]), *seen[2:], labels, seed=game.seed, batch=True,
                     fold=game.fold)

    changed = [_replaced(m, part) for m, part in zip(models[:2], _halves(after), strict=True)]
    aware = [_replaced(m, part) for m, part in zip(models[2:4], known, strict=True)]
    found = {("before", "pin own"): _asked(mine, before, own),
             ("after", "pin own"): _asked(mine, after, own),
             ("before", "pin other"): _asked(other, before, theirs),
             ("after", "pin other"): _asked(other, after, theirs),
             ("both", "pin other"): _asked(adapted, after, known),
             ("before", "kl"): kl(models[:2], models[2:4]),
             ("after", "kl"): kl(changed, models[2:4]),
             ("both", "kl"): kl(changed, aware)}
    arrays = {}
    for (phase, name), judged in found.items():
        arrays[f"scores/{phase}/{name}"] = judged.scores
        arrays |= {f"{rule}/{phase}/{name}": right for rule, right in judged.correct.items()}
    held = groups.utility_rows(game.victims.data)
    for phase, both in (("before", models[:2]), ("after", changed)):
        said = np.stack([shadow.logits(m, source.features[held]) > 0 for m in both])
        arrays[f"accuracy/{phase}"] = (said == source.label[held]).mean(2)
    square = [sum(((x - y) ** 2 if y is not None else x**2).reshape(len(x), -1).sum(1)
                  for x, y in pairs) for pairs in (
        [(a, b) for p, q in zip(after, before, strict=True) for a, b in zip(p, q, strict=True)],
        [(b, None) for q in before for b in q])]
    arrays |= {"steps": used.reshape(2, -1), "probability": probability.reshape(2, -1),
               "moved": np.sqrt(square[0] / square[1]).reshape(2, -1)}
    seconds = round(time.process_time() - began + sum(spent.values()), 2)
    record = {
        "trained": spent, "cost": {"seconds": seconds, "peak_mb": peak_mb()},
        "utility": [arrays[f"accuracy/{phase}"].mean(1).tolist() for phase in ("before", "after")],
        "recompute": {"function": "helpers.unlearning:recompute", "arguments": {
            "case": asdict(case)}},
        "tolerance": {"mean_abs": 0.1},
        "stage": "unlearning", "version": VERSION, "modules": list(MODULES), "epoch": last,
        "fingerprint": fingerprint(MODULES), "torch": torch.__version__, "device": device,
    }
    return record, arrays


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Unlearn and attack again from nothing, in a temporary store; returns the arrays."""
    plain = arguments["case"]
    case = Unlearning(**{**plain, "game": inference._game(plain["game"]),
                         "defender": inference._group(plain["defender"])})
    with tempfile.TemporaryDirectory() as folder:
        return _play(case, Store(Path(folder)), device)[1]


def _job(job) -> None:
    case, key, root, results, publish, device = job
    store = Store(root, results, publish)
    store.once(key, lambda: _play(case, store, device), measurement=True)


def play(cases: Sequence[Unlearning], store: Store, *, device: str = "cpu", workers=None
         ) -> list[Outcome]:
    """Train, unlearn and attack what the store lacks; return all outcomes in order.

    Parameters
    ----------
    cases : sequence of Unlearning
    store, device, workers
        As in :func:`helpers.maps.run`.

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small.
    """
    cases, workers = list(cases), 1 if device != "cpu" else workers
    keys = [make_key("unlearning", VERSION, case, data=table(case.game.victims.data).sha256,
                     device=device, dtype="float32") for case in cases]
    missing = {key: case for key, case in zip(keys, cases, strict=True) if store.get(key) is None}
    for case in missing.values():
        inference.check([case.game])
        groups.check(case.defender)
    groups.train((group for case in missing.values() for group in case.groups), store,
                 device=device, workers=workers)
    map_cells(_job, [(case, key, store.root, store.results, store.publish, device)
                     for key, case in missing.items()], workers=workers, label="unlearning")
    return [_outcome(case, store.get(key)) for case, key in zip(cases, keys, strict=True)]


def _outcome(case: Unlearning, entry) -> Outcome:
    found = {}
    for name, scores in entry.arrays.items():
        kind, _, rest = name.partition("/")
        if kind == "scores":
            phase, attack = rest.split("/")
            found[phase, attack] = Judged(scores, {
                rule: entry.arrays[f"{rule}/{rest}"] for rule in ("zero", "calibrated", "batch")
                if f"{rule}/{rest}" in entry.arrays})
    return Outcome(case, found, entry.record, {
        name: array for name, array in entry.arrays.items()
        if name.split("/")[0] in ("accuracy", "steps", "probability", "moved")})
