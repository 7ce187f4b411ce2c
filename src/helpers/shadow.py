"""Many small classifiers at once: ``fit(recipe, features, labels, index, seeds) -> Fitted``.

All models share one pool of records; ``index`` says which of them each model trains on.  A model's
initial weights, batches and noises come from named streams of its own seed, so it is the same
model whoever is trained beside it, up to rounding.  Three engines do the same arithmetic: ``bmm``
(stacked weights and batched products, `helpers.shadow_stack`), ``vmap`` and ``loop`` (the
reference; both in `helpers.shadow_loop`).  What has no gradient steps is left to scikit-learn
(`helpers.shadow_sklearn`).

Everything is in logits (float32, the log-odds of class 1).
"""

from __future__ import annotations

import re
import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from helpers import workers
from helpers.workers import peak_mb

__all__ = ["Fitted", "Recipe", "fit", "logits"]

VERSION = 1
MODULES = ("helpers.shadow", "helpers.shadow_loop", "helpers.shadow_parts",
           "helpers.shadow_sklearn", "helpers.shadow_stack", "helpers.noise")
ARCHS = "lr, mlp-<width>-<width>..., cnn, rf-<trees>, sk-lr, svm"
_STACKED, _SKLEARN = re.compile(r"lr|mlp(-[1-9]\d*)+"), re.compile(r"rf-[1-9]\d*|sk-lr|svm")
_ENGINES = {"bmm": "lr, mlp-...", "vmap": "lr, mlp-..., cnn", "loop": "lr, mlp-..., cnn",
            "sklearn": "rf-..., sk-lr, svm"}


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained (binary task, one logit).

    Attributes
    ----------
    arch : str
        ``lr`` (logistic regression by gradient steps), ``mlp-<width>-<width>...`` (ReLU), ``cnn``
        (two convolutions of stride 2, one linear layer), or scikit-learn's ``rf-<trees>`` (leaves
        of at least 5 records), ``sk-lr`` and ``svm`` (RBF kernel, Platt scaling).  Scikit-learn's
        models take nothing else from the recipe.
    epochs, batch, rate, weight_decay : int, int, float, float
        Adam with ``weight_decay`` added to the gradient; the last batch of an epoch may be short.
    dp_noise, dp_clip : float
        DP-SGD's noise multiplier (0: off) and the norm to which every record's gradient is
        clipped; the sum is divided by ``min(batch, n)``.  Batches are shuffled, not drawn by
        Poisson sampling, for which accountants are valid (`helpers.shadow_dp`).
    pgd_epsilon, pgd_steps : float, int
        Adversarial training: every batch is replaced by points of the L-infinity ball of this
        radius (0: off), found by steps of ``2.5 * pgd_epsilon / pgd_steps`` from a random start.
        Features are not cut to a range.
    marks : tuple of int
        Epochs whose weights are kept besides the last.
    engine : str
        ``bmm``, ``vmap``, ``loop``, ``sklearn`` or ``auto``.
    chunk : int
        Models trained together; the last chunk is filled up, so it costs as much as a full one.
    """

    arch: str = "mlp-32-16"
    epochs: int = 20
    batch: int = 200
    rate: float = 1e-3
    weight_decay: float = 1e-4
    dp_noise: float = 0.0
    dp_clip: float = 1.0
    pgd_epsilon: float = 0.0
    pgd_steps: int = 7
    marks: tuple[int, ...] = ()
    engine: str = "auto"
    chunk: int = 64

    def __post_init__(self):
        for name in ("epochs", "batch", "pgd_steps", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("rate", "dp_clip"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("weight_decay", "dp_noise", "pgd_epsilon"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        if any(not 0 < mark <= self.epochs for mark in self.marks):
            raise ValueError(f"marks must lie in 1..{self.epochs} (epochs), got {self.marks}")
        way = self.way
        if way not in ("bmm", "loop") and (self.dp_noise or self.pgd_epsilon):
            raise ValueError(f"engine {way!r} trains without dp_noise and pgd_epsilon, got "
                             f"{self.dp_noise} and {self.pgd_epsilon}; bmm and loop know them")
        if self.dp_noise and self.pgd_epsilon:
            raise ValueError(f"dp_noise={self.dp_noise} with pgd_epsilon={self.pgd_epsilon}: "
                             "use one of the two")
        if way == "sklearn" and self.marks:
            raise ValueError(f"{self.arch} has no epochs to keep: drop marks={self.marks}")

    @property
    def way(self) -> str:
        """The engine, with ``auto`` resolved."""
        stacked, forest = _STACKED.fullmatch(self.arch), _SKLEARN.fullmatch(self.arch)
        if not (stacked or forest or self.arch == "cnn"):
            raise ValueError(f"unknown arch {self.arch!r}; known: {ARCHS}")
        fitting = ("bmm", "loop", "vmap") if stacked else ("sklearn",) if forest else (
            "loop", "vmap")
        if self.engine not in ("auto", *fitting):
            if self.engine not in _ENGINES:
                raise ValueError(f"unknown engine {self.engine!r}; known: auto, "
                                 f"{', '.join(_ENGINES)}")
            raise ValueError(f"engine {self.engine!r} trains {_ENGINES[self.engine]}, not "
                             f"{self.arch!r}; use {' or '.join(fitting)}")
        return fitting[0] if self.engine == "auto" else self.engine

    @property
    def kept(self) -> tuple[int, ...]:
        """All epochs whose weights are kept, in order."""
        return tuple(sorted({*self.marks, self.epochs}))


@dataclass(frozen=True)
class Fitted:
    """Trained models.

    Attributes
    ----------
    recipe : Recipe
    weights : dict of int to dict of ndarray
        For every epoch of `Recipe.kept` the arrays of a ``torch.nn.Sequential``'s state (names as
        there: ``"0.weight"`` [M, out, in], ``"0.bias"`` [M, out], ...), float32, stacked over
        models.  Of scikit-learn's models only ``"logits"`` [M, len(probes)] is kept.
    record : dict
        ``models``, ``records`` (of each), ``shape`` (of one record), ``parameters`` (None:
        scikit-learn), ``losses`` (of every epoch: mean over the models of the training loss on the
        last batch), ``cost`` (``seconds`` of one core, on CUDA of the clock; ``peak_mb``).
    probes : ndarray or None
        The only records whose logits a scikit-learn model can give.
    """

    recipe: Recipe
    weights: dict[int, dict[str, np.ndarray]]
    record: dict
    probes: np.ndarray | None = None


def fit(recipe: Recipe, features: np.ndarray, labels: np.ndarray, index: np.ndarray,
        seeds: np.ndarray, device: str = "cpu", progress: bool | None = None,
        probes: np.ndarray | None = None) -> Fitted:
    """Train one classifier for each row of `index`.

    Parameters
    ----------
    recipe : Recipe
    features : ndarray, float32, shape [R, d] or [R, C, H, W]
        The pool; ``cnn`` needs images, the others flatten them.
    labels : ndarray of 0 and 1, shape [R] or [M, n]
        Of the pool, or (label noise) of each model's records, in the order of `index`.
    index : ndarray of int, shape [M, n]
        The records that each model trains on; one may occur twice.
    seeds : ndarray of int, shape [M]
    device : str
        On a CUDA device the whole training step of ``bmm`` is one captured graph.
    progress : bool, optional
        As in `helpers.workers.map_cells`; by default no bar in its worker processes.
    probes : ndarray, float32, shape [K, ...]
        For scikit-learn's models, and needed there: all records that will be asked for.

    Returns
    -------
    Fitted

    Raises
    ------
    ValueError
        When the arguments do not fit together, or a model's records lack a class.
    FloatingPointError
        When training diverges; names the model and the epoch.
    """
    features, labels, index, seeds = _checked(recipe, features, labels, index, seeds)
    way = recipe.way
    if (way == "sklearn") != (probes is not None):
        raise ValueError(f"probes go with scikit-learn's models alone, and {recipe.arch} is "
                         f"{'' if way == 'sklearn' else 'not '}one of them")
    if way == "sklearn":
        probes = _records(recipe, probes, features.shape[1:], "probes")
        if device != "cpu":
            raise ValueError(f"{recipe.arch} trains on device 'cpu', got {device!r}")
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    chunks = [slice(first, first + recipe.chunk) for first in range(0, len(index), recipe.chunk)]
    together = way in ("bmm", "vmap")
    units = len(chunks) * recipe.epochs if together else len(index)
    shown = False if progress is None and workers._in_worker else progress
    # Rounding depends on the number of threads, so one it is, as in every worker process.
    with workers._Bar("shadow models", [1.0] * units, shown) as bar, (
            workers._one_thread() if device == "cpu" else nullcontext()):
        def tick():
            bar.tick(min(bar.done, units - 1))

        if way == "sklearn":
            from helpers import shadow_sklearn

            kept = shadow_sklearn.train(recipe, features, labels, index, seeds, probes, tick)
            weights, losses = {recipe.epochs: {"logits": kept}}, []
        else:
            weights, losses = _train(recipe, features, labels, index, seeds, device, tick,
                                     chunks if together else
                                     [slice(i, i + 1) for i in range(len(index))])
    last = weights[recipe.epochs]
    record = {
        "models": len(index), "records": index.shape[1], "shape": list(features.shape[1:]),
        "parameters": None if way == "sklearn" else sum(a[0].size for a in last.values()),
        "losses": losses,
        "cost": {"seconds": round(clock() - began, 2), "peak_mb": peak_mb()},
    }
    return Fitted(recipe, weights, record, probes)


def _train(recipe, features, labels, index, seeds, device, tick, groups):
    """Train group after group; returns the weights by mark and each epoch's mean loss."""
    import torch

    from helpers import shadow_loop, shadow_stack
    from helpers.shadow_parts import Draws

    engine = {"bmm": shadow_stack.train, "vmap": shadow_loop.train_vmap,
              "loop": shadow_loop.train_loop}[recipe.way]
    pool, done = torch.tensor(features, device=device), []
    for group in groups:
        members = np.arange(len(index))[group]
        if recipe.way != "loop":  # fill up, so that sizes and with them the rounding are the same
            members = np.resize(members, recipe.chunk)
        own = labels[index[members]] if labels.ndim == 1 else labels[members]
        draws = Draws(recipe, pool, index[members], own, seeds[members], members)
        weights, losses = engine(recipe, draws, tick)
        count = len(index[group])
        done.append(({mark: {name: a[:count] for name, a in arrays.items()}
                      for mark, arrays in weights.items()}, losses[:, :count]))
    weights = {mark: {name: np.concatenate([w[mark][name] for w, _ in done])
                      for name in done[0][0][mark]} for mark in recipe.kept}
    return weights, np.concatenate([loss for _, loss in done], 1).mean(1).tolist()


def logits(fitted: Fitted, x: np.ndarray, mark: int | None = None,
           device: str = "cpu") -> np.ndarray:
    """Return the log-odds of class 1 that every model gives to every record.

    Parameters
    ----------
    fitted : Fitted
    x : ndarray, float32, shape [N, ...]
        Records like those of training; for scikit-learn's models any of the probes.
    mark : int, optional
        An epoch of ``fitted.recipe.kept``, by default the last.
    device : str

    Returns
    -------
    ndarray, float32, shape [M, N]
        Of scikit-learn's models within +-9.21 (probabilities within 1e-4 of 0 and 1 are cut).
    """
    mark = fitted.recipe.epochs if mark is None else mark
    if mark not in fitted.weights:
        raise ValueError(f"no weights of epoch {mark}; kept: {', '.join(map(str, fitted.weights))}")
    x = _records(fitted.recipe, x, tuple(fitted.record["shape"]), "x")
    if fitted.recipe.way == "sklearn":
        from helpers import shadow_sklearn

        where = shadow_sklearn.rows(fitted.probes, x)
        return fitted.weights[mark]["logits"][:, where]
    from helpers import shadow_loop, shadow_stack

    engine = shadow_loop if fitted.recipe.arch == "cnn" else shadow_stack
    with workers._one_thread() if device == "cpu" else nullcontext():
        return engine.predict(fitted.recipe.arch, fitted.weights[mark], x, device)


def _records(recipe, x, shape, name: str) -> np.ndarray:
    """Check records and flatten them where the classifier has no use for images."""
    x = np.asarray(x)
    if x.dtype != np.float32:
        raise ValueError(f"{name} of {x.dtype}: need float32, for example {name}.astype('float32')")
    if recipe.arch != "cnn" and x.ndim == 4:
        x = x.reshape(len(x), -1)
    if x.ndim != (4 if recipe.arch == "cnn" else 2) or x.size == 0:
        wanted = "[R, C, H, W]" if recipe.arch == "cnn" else "[R, d] or [R, C, H, W]"
        raise ValueError(f"{name} of shape {x.shape}: {recipe.arch} needs {wanted}, not empty")
    if shape is not None and x.shape[1:] != shape:
        raise ValueError(f"{name} holds records of shape {x.shape[1:]}, training had {shape}")
    if not (finite := np.isfinite(x.reshape(len(x), -1)).all(1)).all():
        raise ValueError(f"{name}: record {int(finite.argmin())} holds NaN or infinity "
                         f"({int((~finite).sum())} of {len(x)} do); fill or drop them first")
    return np.ascontiguousarray(x)


def _checked(recipe, features, labels, index, seeds):
    """Return the arguments of `fit` as arrays that fit together."""
    features = _records(recipe, features, None, "features")
    labels, index, seeds = (np.asarray(a) for a in (labels, index, seeds))
    if index.ndim != 2 or index.size == 0 or index.dtype.kind not in "iu":
        raise ValueError(f"index {index.dtype} {index.shape}: need integers [models, records]")
    if index.min() < 0 or index.max() >= len(features):
        raise ValueError(f"index runs from {index.min()} to {index.max()}, the pool has records "
                         f"0..{len(features) - 1}")
    if seeds.shape != index.shape[:1] or seeds.dtype.kind not in "iu":
        raise ValueError(f"seeds {seeds.dtype} {seeds.shape}: need one integer for each of "
                         f"{len(index)} models")
    if labels.shape not in (features.shape[:1], index.shape):
        raise ValueError(f"labels of shape {labels.shape}: need {features.shape[:1]}, of the pool, "
                         f"or {index.shape}, of each model's records")
    if labels.dtype.kind not in "biu" or labels.min() < 0 or labels.max() > 1:
        raise ValueError(f"labels {labels.dtype} from {labels.min()} to {labels.max()}: need "
                         "integers 0 and 1")
    labels = labels.astype(np.uint8)
    for model in range(len(index)):
        own = labels[index[model]] if labels.ndim == 1 else labels[model]
        if own.min() == own.max():
            raise ValueError(f"model {model}: all {own.size} of its records are of class "
                             f"{own[0]}; draw again, or draw more")
    return features, labels, index.astype(np.int32), seeds.astype(np.int64)
