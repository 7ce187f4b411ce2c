"""Property unlearning: the network that was used is at loss, within the budget, and no other."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import audit, decisions, unlearning, whitebox
from helpers.groups import Data, Group
from helpers.inference import Game
from helpers.shadow import Recipe
from helpers.store import Store
from helpers.unlearning import Unlearning, play, unlearn

RECIPE = Recipe(arch="mlp-8", epochs=6, batch=50, rate=1e-2, chunk=20)


def networks(count, shift, seed, widths=(5, 8, 1)):
    """Stacked perceptrons whose first weights are moved by `shift`."""
    stream, layers = np.random.default_rng(seed), []
    for inner, outer in zip(widths[:-1], widths[1:], strict=True):
        weight = stream.normal(size=(count, outer, inner)).astype(np.float32)
        layers.append((weight, stream.normal(size=(count, outer)).astype(np.float32)))
    layers[0][0][:, :, 0] += shift * np.sign(layers[0][0][:, :, 1])
    return layers


@pytest.fixture(scope="module")
def reader():
    return whitebox.reader(networks(80, -0.8, 1), networks(80, 0.8, 2), epochs=60)


@pytest.fixture(scope="module")
def victims():
    return unlearning._joined(networks(40, -0.8, 3), networks(40, 0.8, 4))


def said(reader, layers):
    with torch.no_grad():
        return reader.log_odds([torch.from_numpy(p) for layer in layers for p in layer]).numpy()


def test_every_model_ends_within_the_margin_and_the_side_says_nothing(reader, victims):
    copies = [part.copy() for layer in victims for part in layer]
    after, used, probability = unlearn(victims, reader, margin=0.03)
    before, left = said(reader, victims), said(reader, after)
    np.testing.assert_allclose(1 / (1 + np.exp(-left)), probability, atol=1e-5)
    assert np.abs(probability - 0.5).max() < 0.03 * 1.11 and used.max() < 100
    assert decisions.auc(*np.split(before, 2)) > 0.85
    assert decisions.auc(*np.split(left, 2)) == pytest.approx(0.5, abs=0.2)  # 3 standard errors
    for part, copy in zip((p for layer in victims for p in layer), copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_a_step_is_half_way_along_the_gradient(reader, victims):
    flat = [torch.tensor(part, requires_grad=True) for layer in victims for part in layer]
    z = reader.log_odds(flat)
    slopes = torch.autograd.grad(z.sum(), flat)
    after, used, _ = unlearn(victims, reader, steps=1, margin=1e-6)
    moved = [torch.from_numpy(p) - q for p, q in
             zip((p for layer in after for p in layer), flat, strict=True)]
    predicted = sum((m * s).flatten(1).sum(1) for m, s in zip(moved, slopes, strict=True))
    far, norm = (np.sqrt(sum((part**2).flatten(1).sum(1).detach().numpy() for part in parts))
                 for parts in (moved, flat))
    short = far < 0.199 * norm  # the others' steps were cut
    assert short.sum() > 20 and (used == 1).all()
    np.testing.assert_allclose(predicted.detach()[short], -z.detach()[short] / 2, atol=1e-3)


def test_a_model_is_unlearned_alike_whoever_is_behind_it(reader, victims):
    alone, *_ = unlearn([tuple(part[:3] for part in layer) for layer in victims], reader)
    beside, *_ = unlearn(victims, reader)
    for one, many in zip(alone, beside, strict=True):
        np.testing.assert_allclose(one[0], many[0][:3], atol=1e-4)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    stream, count = np.random.default_rng(0), 4000
    group = stream.random(count) < 0.5
    x = stream.normal(size=(count, 3)) + 0.5 * group[:, None]
    score = np.where(group, 2 * x[:, 0] - x[:, 1], x[:, 0] + 2 * x[:, 1])
    frame = pd.DataFrame(x, columns=list("abc"))
    frame["sex"] = np.where(group, "Female", "Male")
    frame["paid"] = (score + stream.logistic(size=count) > 0).astype(int)
    path = tmp_path_factory.mktemp("table") / "people.csv"
    frame.to_csv(path, index=False)
    data = Data(str(path), "sex=Female", "paid", drop=("sex",))
    sides = [Group(data, party, 0.9, 300, k, RECIPE) for party, k in ((0, 10), (1, 20))]
    return Unlearning(Game(*sides, probes=150), replace(sides[0], first=10, count=20), epochs=20)


def test_through_the_store_and_again_from_nothing(case, tmp_path, monkeypatch):
    store = Store(tmp_path)
    [found] = play([case], store, workers=1)
    assert set(found.found) == {(phase, name) for phase in ("before", "after", "both") for name in
                                unlearning.ATTACKS} - {("both", "pin own")}
    assert all(judged.scores.shape == (2, 10) for judged in found.found.values())
    assert found.found["before", "kl"].auc().value > 0.8
    assert np.abs(found.arrays["probability"] - 0.5).max() < 0.03
    assert 0 < found.arrays["moved"].max() < 1 and found.arrays["steps"].min() >= 0
    assert not np.array_equal(found.found["before", "kl"].scores, found.found["after", "kl"].scores)
    entry, = [e for e in store.entries() if e.record.get("stage") == "unlearning"]
    again = audit.recompute(found.record)
    assert audit.compare(entry.arrays, again, found.record["tolerance"])[0] == "same bits"
    monkeypatch.setattr(unlearning, "_play", lambda *_: pytest.fail("played again"))
    [other] = play([case], store, workers=1)
    np.testing.assert_array_equal(other.arrays["moved"], found.arrays["moved"])


@pytest.mark.parametrize(("change", "match"), [
    (lambda c: replace(c, defender=replace(c.defender, count=5)), "the defender has 5 shadows"),
    (lambda c: replace(c, defender=replace(c.defender, first=9)), "numbers from 10 on"),
    (lambda c: replace(c, defender=replace(c.defender, party=1)), "the victims' party 0"),
    (lambda c: replace(c, defender=replace(c.defender, ratio=0.8)), "one table, ratio"),
    (lambda c: replace(c, game=replace(c.game, alpha0=0.9)), "ratios that differ"),
    (lambda c: replace(c, margin=0.5), "margin=0.5"), (lambda c: replace(c, steps=0), "steps=0")])
def test_bad_cases(case, change, match):
    with pytest.raises(ValueError, match=match):
        change(case)
