"""Answers of amuletml 0.6.0 and propinfer 1.3.0 on toy models, for tests/test_oracle_libraries.py.

Run by hand, in an environment of its own, since amuletml pins old numpy, pandas and scipy; the two
files written beside this script are committed. On Python 3.11, with a CPU build of torch::

    python3.11 -m venv DIR
    DIR/bin/pip install torch==2.13.0
    DIR/bin/pip install --no-deps amuletml==0.6.0 propinfer==1.3.0
    DIR/bin/pip install numpy==1.26.4 pandas==2.2.1 scipy==1.12.0 scikit-learn==1.8.0 \
        tqdm==4.67.3 hydra-core==1.3.8
    DIR/bin/python tests/oracles/make.py

``--no-deps`` leaves out what the attacks never call (opacus, captum, cleverhans, images). amuletml
still imports torchvision, pillow and gdown when it loads; empty stand-ins take their places below.

Licences: amuletml is under Apache-2.0, propinfer under MIT. The files hold numbers only: toy inputs
that are drawn here and what the libraries answer.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

HERE = Path(__file__).resolve().parent
SEED = 2022
RECORDS = (40, 44)  # of the probe set of either world
VICTIMS, SHADOWS = 8, 6  # a world
STAND_INS = ("PIL", "gdown", "torchvision", "torchvision.datasets", "torchvision.io",
             "torchvision.models", "torchvision.models._api", "torchvision.transforms")


def versions(*names: str) -> np.ndarray:
    """Names and versions of the packages that computed a file."""
    return np.array([f"{name} {metadata.version(name)}" for name in names])


# --- amuletml: KL attack ---------------------------------------------------------------------

class Recited(nn.Module):
    """A network that returns given logits; its input is the number of the record."""

    def __init__(self, logits: np.ndarray):
        super().__init__()
        self.register_buffer("logits", torch.from_numpy(logits))

    def forward(self, number):
        return self.logits[number[:, 0]]


def two_logits(case: str) -> dict[tuple[str, int], np.ndarray]:
    """Logits of both classes, float64 [models, records, 2], by role and probe set.

    ``free``: the two logits have nothing to do with each other, and some lie beyond the clip.
    ``tied``: the logit of class 1 is 0, so a sigmoid of the other one is a probability.
    """
    stream = np.random.default_rng([SEED, case == "tied"])
    counts = {"victims_0": VICTIMS, "victims_1": VICTIMS, "a": SHADOWS, "b": SHADOWS}
    shown = {}
    for place, records in enumerate(RECORDS):
        base = stream.normal(size=(records, 2)) * (4 if case == "free" else 1)
        telling = stream.normal(size=(records, 2))
        for role, count in counts.items():
            side = 1 if role in ("victims_1", "b") else -1
            drawn = stream.normal(size=(count, 1, 2)) * 0.4 * telling  # a model's own leaning
            noise = stream.normal(size=(count, records, 2))
            shown[role, place] = base + 0.4 * side * telling + drawn + noise
            if case == "tied":
                shown[role, place][..., 1] = 0
    return shown


def listening(owner, name: str, heard: list):
    """Patch that keeps every answer of a function: amulet does not return what it chose."""
    real = getattr(owner, name)

    def spoken(*args, **named):
        heard.append(np.array(real(*args, **named)))
        return heard[-1].copy()

    return mock.patch.object(owner, name, spoken)


def kl_attack(case: str) -> dict[str, np.ndarray]:
    """Inputs and answers of amulet's KL attack, through its public method."""
    from amulet.distribution_inference.attacks import SuriEvans2022
    from amulet.distribution_inference.metrics import evaluate_distinguishing_accuracy

    nothing = np.zeros((1, 1))
    attack = SuriEvans2022(*[nothing] * 6, ["z"], "z", 0.5, 0.5, "none", "none", 1, 2, 1, 1, 16,
                           "cpu", HERE, "none")
    shown = two_logits(case)
    loaders = [DataLoader(TensorDataset(numbers[:, None], numbers), batch_size=16)
               for numbers in torch.arange(sum(RECORDS)).split(RECORDS)]
    whole, answers, orders, picks = _both_sets(shown), [], [], []
    np.random.seed(SEED)
    with listening(np, "argsort", orders), listening(np.random, "permutation", picks), \
            listening(attack, "_kl_predictions", answers):
        found = attack.attack(models_adv_1=whole["a"], models_adv_2=whole["b"],
                              models_target_1=whole["victims_0"],
                              models_target_2=whole["victims_1"],
                              test_loader_1=loaders[0], test_loader_2=loaders[1])
    rated = evaluate_distinguishing_accuracy(found["predictions"], found["ground_truth"])
    out = {f"{case}_{role}_{place}": logits for (role, place), logits in shown.items()}
    for place, (order, pick, pairs) in enumerate(zip(orders, picks, answers, strict=True)):
        out[f"{case}_records_{place}"] = order[::-1][: len(order) // 2]
        out[f"{case}_pick_{place}"] = pick
        out[f"{case}_pairs_{place}"] = np.concatenate(pairs).T  # [pairs, victims]
    lone = []
    for place in range(2):  # one shadow a side: no pair is left, but the records are chosen
        with listening(np, "argsort", lone):
            attack._kl_predictions(*(shown[role, place][:1, :, 0]
                                     for role in ("a", "b", "victims_0", "victims_1")))
        out[f"{case}_lone_records_{place}"] = lone[-1][::-1][: RECORDS[place] // 2]
    return out | {f"{case}_scores": found["predictions"],
                  f"{case}_accuracy": np.array(rated["distinguishing_accuracy"]),
                  f"{case}_auc": np.array(rated["auc_score"])}


def _both_sets(shown) -> dict[str, list[Recited]]:
    """Models that know both probe sets: records of the second are numbered after the first's."""
    roles = {role for role, _ in shown}
    return {role: [Recited(logits) for logits in
                   np.concatenate([shown[role, 0], shown[role, 1]], axis=1)] for role in roles}


# --- toy networks for both white-box attacks -------------------------------------------------

def networks(widths: tuple[int, ...], count: int, seed: int) -> list[nn.Sequential]:
    """Return `count` perceptrons with ReLU between the layers."""
    torch.manual_seed(seed)
    made = []
    for _ in range(count):
        parts = [part for inner, outer in zip(widths[:-1], widths[1:], strict=True)
                 for part in (nn.Linear(inner, outer), nn.ReLU())]
        made.append(nn.Sequential(*parts[:-1]))
    return made


def flat(models: list[nn.Sequential], prefix: str) -> dict[str, np.ndarray]:
    """Stacked weights by layer, float32 [models, out, in] and [models, out]."""
    return {f"{prefix}_{name}": np.stack([model.state_dict()[name].numpy() for model in models])
            for name in models[0].state_dict()}


def reordered(model: nn.Sequential, order: list[int], *, follow: bool) -> nn.Sequential:
    """Hidden neurons of the first layer in another order; the next layer follows or does not."""
    state = {name: part.clone() for name, part in model.state_dict().items()}
    state["0.weight"], state["0.bias"] = state["0.weight"][order], state["0.bias"][order]
    if follow:
        state["2.weight"] = state["2.weight"][:, order]
    widths = [part.shape[1] for name, part in state.items() if name.endswith("weight")] + [1]
    other = networks(tuple(widths), 1, 0)[0]
    other.load_state_dict(state)
    return other


def variants() -> list[nn.Sequential]:
    """A network; the same function with neurons reordered; another function with the same rows."""
    (plain,) = networks((4, 6, 1), 1, SEED)
    order = [3, 0, 5, 1, 4, 2]
    same, other = (reordered(plain, order, follow=follow) for follow in (True, False))
    asked = torch.linspace(-1, 1, 20).reshape(5, 4)
    assert torch.allclose(plain(asked), same(asked), atol=1e-6)
    assert not torch.allclose(plain(asked), other(asked), atol=1e-2)
    return [plain, same, other]


def perm_inv() -> dict[str, np.ndarray]:
    """amulet's layout of a network's weights, and its untrained meta-network on toy networks."""
    from amulet.distribution_inference.attacks.white_box_pim import _get_layer_parameters
    from amulet.utils.__meta_classifiers import PermInvModel, meta_collate_fn

    def answer(models):
        rows = meta_collate_fn([(_get_layer_parameters(model), 0) for model in models])[0]
        torch.manual_seed(SEED)
        net = PermInvModel([tuple(part.shape[1:]) for part in rows]).eval()
        with torch.no_grad():
            return rows, net, net(rows)[:, 0].numpy()

    single, deep = networks((4, 6), 5, SEED), variants()
    rows, net, said = answer(single)
    out = {**flat(single, "single"), "single_rows": rows[0].numpy(), "single_said": said}
    out |= {f"meta_{name}": part.numpy() for name, part in net.state_dict().items()}
    rows, _, said = answer(deep)
    return out | flat(deep, "deep") | {"deep_said": said} | {
        f"deep_rows_{layer}": part.numpy() for layer, part in enumerate(rows)}


# --- propinfer -------------------------------------------------------------------------------

def right_and_wrong(stream, chances, labels) -> list[np.ndarray]:
    """Probabilities [models, records] on both sets that are right with the given chances."""
    shown = []
    for place, truth in enumerate(labels):
        chance = np.asarray(chances)[:, place, None]
        right = stream.random((len(chance), len(truth))) < chance
        shown.append(np.where(right == truth, 1, -1) * stream.uniform(0.05, 0.5, right.shape) + 0.5)
    return shown


def game(turned: bool) -> dict[str, np.ndarray]:
    """Shadows of either world, victims, and a ladder of victims of every possible accuracy.

    Models are right more often on the probe set of their own world, or, `turned`, of the other.
    The first victim is right on three quarters of either set: a tie of the loss test.
    """
    stream = np.random.default_rng([SEED, 2, turned])
    labels = [stream.random(count) < 0.5 for count in RECORDS]
    tilt = np.array([[0.02, -0.08], [-0.02, 0.08]]) * (-1 if turned else 1)  # [world, set]
    groups = {"a": [0.7 + tilt[0]] * SHADOWS, "b": [0.7 + tilt[1]] * SHADOWS,
              "victims": [0.7 + tilt[k // VICTIMS] for k in range(2 * VICTIMS)]}
    shown = {role: right_and_wrong(stream, chances, labels) for role, chances in groups.items()}
    rungs = np.arange(max(RECORDS) + 1)[:, None]  # rung k: right on the first k records
    shown["ladder"] = [np.where((np.arange(len(truth)) < rungs) == truth, 0.8, 0.2)
                       for truth in labels]
    for place, truth in enumerate(labels):
        shown["victims"][place][0] = np.where(
            (np.arange(len(truth)) < 0.75 * len(truth)) == truth, 0.8, 0.2)
    return {f"{role}_{place}": parts[place] for role, parts in shown.items() for place in (0, 1)} \
        | {f"labels_{place}": labels[place] for place in (0, 1)}


def threshold_and_loss(name: str, turned: bool) -> dict[str, np.ndarray]:
    """Answers (True: world 1) of both tests for each victim by itself.

    propinfer returns the accuracy over its targets, so each victim is the only target of a run, and
    the accuracy is 1 where it is said to be of world 1. Shadows and probe sets stay the same.
    """
    import pandas as pd
    from propinfer import Experiment, Generator, Model

    toy = game(turned)

    class Probes(Generator):
        def sample(self, label, adv=False):
            place = int(label)
            truth = toy[f"labels_{place}"].astype(int)
            return pd.DataFrame({"label": truth, "place": place, "record": np.arange(len(truth))})

    class Reciting(Model):
        outputs = [np.full(count, 0.5) for count in RECORDS]

        def __init__(self, label_col, hyperparams=None):
            super().__init__(label_col, False)

        def fit(self, data):
            return self

        def predict_proba(self, data):
            chance = self.outputs[data["place"].iloc[0]][data["record"].to_numpy()]
            return np.stack([1 - chance, chance], axis=1)

    def models(role):
        made = [Reciting("label") for _ in toy[f"{role}_0"]]
        for model, *outputs in zip(made, toy[f"{role}_0"], toy[f"{role}_1"], strict=True):
            model.outputs = outputs
        return made

    trial = Experiment(Probes(), "label", Reciting, 1, 2 * SHADOWS, None)
    trial.shadow_models = models("a") + models("b")
    trial.shadow_labels = [0] * SHADOWS + [1] * SHADOWS
    out = {f"{name}_{key}": part for key, part in toy.items()}
    for role in ("victims", "ladder"):
        said = {"loss": [], "threshold": []}
        for victim in models(role):
            trial.targets, trial.labels = [victim], [1]
            said["loss"].append(trial.run_loss_test() == 1)
            said["threshold"].append(trial.run_threshold_test() == 1)
        out |= {f"{name}_{role}_{test}": np.array(part) for test, part in said.items()}
    return out


def deep_sets() -> dict[str, np.ndarray]:
    """propinfer's untrained meta-network on the toy networks."""
    from propinfer.deepsets import DeepSets

    def answer(models):
        shown = [[[part.weight.detach().numpy(), part.bias.detach().numpy()[:, None]]
                  for part in model if isinstance(part, nn.Linear)] for model in models]
        torch.manual_seed(SEED)
        net = DeepSets(shown[0], latent_dim=8, epochs=0, lr=1e-3, wd=0, n_classes=1)
        return net, net.predict(shown)

    single, deep = networks((4, 6), 5, SEED + 1), variants()
    net, said = answer(single)
    parts = {"describe_0": net.reducer[0][0], "describe_1": net.reducer[0][2]}
    parts["head"] = net.classifier[0]
    out = {f"meta_{name}.{kind}": getattr(part, kind).detach().numpy()
           for name, part in parts.items() for kind in ("weight", "bias")}
    return out | flat(single, "single") | {"single_said": said} | flat(deep, "deep") | {
        "deep_said": answer(deep)[1]}


def main() -> None:
    """Write both files."""
    torch.set_num_threads(1)
    sys.modules.update({name: mock.MagicMock() for name in STAND_INS})
    amulet = {**kl_attack("free"), **kl_attack("tied"), **perm_inv()}
    propinfer = {**threshold_and_loss("up", False), **threshold_and_loss("turned", True),
                 **deep_sets()}
    for name, arrays, packages in (
            ("amulet", amulet, ("amuletml", "torch", "numpy", "scikit-learn")),
            ("propinfer", propinfer, ("propinfer", "torch", "numpy", "scikit-learn", "pandas"))):
        path = HERE / f"{name}.npz"
        np.savez_compressed(path, versions=versions(*packages), **arrays)
        print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
