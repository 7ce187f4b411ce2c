"""Benchmark of many small classifiers against three plain loops over the same models.

The plain ways are written as their libraries' examples do it, one model after another: a
`DataLoader` over a `TensorDataset`, the same loop over slices of a shuffled tensor, and
scikit-learn's `MLPClassifier`.  All use the same network, records, batch size, epochs and Adam, and
include their set-up.  The four are called in turn in one process; a plain way trains a few of the
models, and all times are for one model.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import nn

from helpers import bench_measure
from helpers.bench_measure import BUSY, _median, timed
from helpers.noise import generator
from helpers.shadow import Recipe, fit, logits

CASE = {"pool": 32_768, "features": 42, "n": 2048, "models": 128, "plain": 4, "chunk": 64,
        "widths": (32, 16, 8), "epochs": 20, "batch": 256}
TOY = CASE | {"pool": 512, "n": 64, "models": 4, "plain": 2, "chunk": 4, "epochs": 2, "batch": 16}
GOALS = {"DataLoader": 20.0, "tensors": 5.0, "scikit-learn": 3.0}
NAMES = {"DataLoader": "torch loop with a DataLoader", "tensors": "torch loop over tensors",
         "scikit-learn": "scikit-learn's MLPClassifier"}
MANY = 8  # times as many models, for memory
RATE, DECAY = 1e-3, 1e-4


def records(case: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a made-up pool, its labels, the models' records and seeds (see `shadow.fit`)."""
    source = generator("bench-shadow", case["pool"])
    features = source.standard_normal((case["pool"], case["features"])).astype(np.float32)
    slope = source.standard_normal(case["features"])
    noise = source.standard_normal(case["pool"]) * np.sqrt(case["features"]) / 2
    labels = (features @ slope + noise > 0).astype(np.uint8)
    index = source.integers(case["pool"], size=(case["models"], case["n"]), dtype=np.int32)
    return features, labels, index, np.arange(case["models"])


def recipe(case: dict) -> Recipe:
    """The recipe of the book's side."""
    return Recipe("-".join(["mlp", *map(str, case["widths"])]), epochs=case["epochs"],
                  batch=case["batch"], rate=RATE, weight_decay=DECAY, chunk=case["chunk"])


def _network(case: dict, device: str) -> nn.Sequential:
    sizes, layers = (case["features"], *case["widths"], 1), []
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(device)


def plain_loader(x, y, case: dict, device: str) -> nn.Module:
    """Train one model by a `DataLoader` over a `TensorDataset`."""
    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y).float())
    loader = torch.utils.data.DataLoader(data, batch_size=case["batch"], shuffle=True)
    network, criterion = _network(case, device), nn.BCEWithLogitsLoss()
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(case["epochs"]):
        for inputs, targets in loader:
            optimiser.zero_grad()
            loss = criterion(network(inputs.to(device)).squeeze(1), targets.to(device))
            loss.backward()
            optimiser.step()
    return network


def plain_tensors(x, y, case: dict, device: str) -> nn.Module:
    """Train one model on slices of shuffled tensors, which lie on the device."""
    inputs, targets = torch.from_numpy(x).to(device), torch.from_numpy(y).float().to(device)
    network, criterion = _network(case, device), nn.BCEWithLogitsLoss()
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(case["epochs"]):
        order = torch.randperm(len(inputs), device=device)
        for first in range(0, len(inputs), case["batch"]):
            rows = order[first : first + case["batch"]]
            optimiser.zero_grad()
            criterion(network(inputs[rows]).squeeze(1), targets[rows]).backward()
            optimiser.step()
    return network


def plain_sklearn(x, y, case: dict):
    """Train one `MLPClassifier`, all epochs, without early stopping."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # scikit-learn divides alpha by the size of the batch; its tolerance is out of reach here.
        return MLPClassifier(case["widths"], learning_rate_init=RATE, alpha=DECAY * case["batch"],
                             batch_size=case["batch"], max_iter=case["epochs"],
                             n_iter_no_change=case["epochs"] + 1).fit(x, y)


def sides(case: dict, device: str) -> dict:
    """The book's way and the plain ones (see `helpers.bench_measure`)."""
    features, labels, index, seeds = records(case)
    drawn = [(features[rows], labels[rows]) for rows in index[: case["plain"]]]

    def book():
        return lambda: fit(recipe(case), features, labels, index, seeds, device, progress=False)

    def plain(train, *more):
        def all_models():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return [train(x, y, case, *more) for x, y in drawn]

        return lambda: all_models

    return {"book": book, "DataLoader": plain(plain_loader, device),
            "tensors": plain(plain_tensors, device), "scikit-learn": plain(plain_sklearn)}


def agreement(case: dict, device: str) -> float:
    """Largest difference of the logits of the engines ``bmm`` and ``loop``, on a few models."""
    from dataclasses import replace

    features, labels, index, seeds = records(case)
    few = slice(0, case["plain"])
    found = [logits(fit(replace(recipe(case), engine=engine, chunk=case["plain"]), features, labels,
                        index[few], seeds[few], device, progress=False), features[:1024])
             for engine in ("bmm", "loop")]
    return float(np.abs(found[0] - found[1]).max())


def measure(device: str, rounds: int, store: str, quick: bool = False) -> dict:
    """Time the four ways in turn, one row a plain way; peak memory at two numbers of models."""
    case = TOY if quick else CASE
    calls = {name: prepare() for name, prepare in sides(case, device).items()}
    models = {name: case["models" if name == "book" else "plain"] for name in calls}
    found: dict[str, list] = {name: [] for name in calls}
    for call in calls.values():
        timed(call, device)
    for k in range(rounds):
        for name in list(calls)[:: 1 if k % 2 == 0 else -1]:
            found[name].append(np.array(timed(calls[name], device)) / models[name])
    times = {name: np.array(values) for name, values in found.items()}
    busy = max(np.median(t[:, 0] / np.maximum(t[:, 1], 1e-9)) for t in times.values())
    error = agreement(case, device)
    shape = "-".join(map(str, (case["features"], *case["widths"], 1)))
    rows = [{
        "case": f"a model of {case['models']} ({shape}, {case['n']:,} records, {case['epochs']} "
                f"epochs of batches of {case['batch']}): {NAMES[name]}",
        "seconds": {side: _median(times[key][:, 0]) for side, key in
                    (("book", "book"), ("plain", name))},
        "processor": {side: _median(times[key][:, 1]) for side, key in
                      (("book", "book"), ("plain", name))},
        "ratio": _median(times[name][:, 0] / times["book"][:, 0]), "rounds": rounds,
        "busy": bool(device == "cpu" and busy > BUSY), "memory": None,
        "goal": None if quick or device != "cpu" else goal,
        "error": error, "error_goal": 1e-4,
    } for name, goal in GOALS.items()]
    memories = []
    for count in (case["chunk"], MANY * case["chunk"]):
        large = case | {"models": count, "plain": 0, "epochs": 2}
        used = bench_measure.memory(sides, large, "book", device)
        memories.append({"models": count} | used)
    return {"rows": rows, "models": memories}
