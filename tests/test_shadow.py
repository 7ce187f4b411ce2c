"""Shadow models: the engines agree, members are independent, defences match their oracles."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits

from helpers import (
    bench,
    bench_measure,
    bench_shadow,
    shadow_dp,
    shadow_loop,
    shadow_parts,
    shadow_stack,
)
from helpers.noise import generator
from helpers.shadow import Recipe, fit, logits

torch.set_num_threads(1)
SMALL = Recipe("mlp-9-5", epochs=3, batch=32, weight_decay=1e-2, rate=5e-3, chunk=4)


def pool(records=300, shape=(7,)):
    source = generator("test-shadow", records)
    features = source.standard_normal((records, *shape)).astype(np.float32)
    noisy = features.reshape(records, -1)[:, :3].sum(1) + source.standard_normal(records)
    return features, (noisy > 0).astype(np.uint8)


def drawn(models, n=100, records=300):
    source = generator("test-shadow-index", n)
    index = np.stack([source.choice(records, n, replace=False) for _ in range(models)])
    return index.astype(np.int32), 100 + np.arange(models)


X, Y = pool()
INDEX, SEEDS = drawn(6)


def run(recipe=SMALL, x=X, y=Y, index=INDEX, seeds=SEEDS, **more):
    return fit(recipe, x, y, index, seeds, **more)


def same(a, b):
    return all(np.array_equal(a.weights[mark][name], b.weights[mark][name])
               for mark in a.weights for name in a.weights[mark])


# --- engines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["lr", "mlp-6", "mlp-9-5"])
@pytest.mark.parametrize("batch", [32, 100, 500])
def test_engines_agree(arch, batch):
    recipe = replace(SMALL, arch=arch, batch=batch, marks=(1,))
    found = {e: run(replace(recipe, engine=e)) for e in ("bmm", "vmap", "loop")}
    for mark in (1, None):
        z = {engine: logits(one, X, mark) for engine, one in found.items()}
        assert z["bmm"].shape == (6, 300) and z["bmm"].dtype == np.float32
        assert np.abs(z["bmm"] - z["loop"]).max() < 1e-5
        assert np.abs(z["vmap"] - z["loop"]).max() < 1e-5
    assert found["bmm"].record["losses"] == pytest.approx(found["loop"].record["losses"], abs=1e-5)
    assert {k: v.shape for k, v in found["bmm"].weights[3].items()} == {
        k: v.shape for k, v in found["loop"].weights[3].items()}


def test_the_loop_is_the_plain_training_loop():
    network = shadow_parts.build("mlp-9-5", (7,)).to_empty(device="cpu")
    start = shadow_parts.initial(network, [SEEDS[0]])
    network.load_state_dict({name: value[0] for name, value in start.items()})
    adam = torch.optim.Adam(network.parameters(), lr=5e-3, weight_decay=1e-2)
    order = shadow_parts.torch_generator("shadow-batches", SEEDS[0])
    rows = torch.from_numpy(INDEX[0]).long()
    for _ in range(3):
        for part in rows[torch.randperm(100, generator=order)].split(32):
            adam.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(
                network(torch.from_numpy(X)[part])[:, 0], torch.from_numpy(Y)[part].float()
            ).backward()
            adam.step()
    expected = network(torch.from_numpy(X))[:, 0].detach().numpy()
    for engine in ("loop", "bmm"):
        assert np.abs(logits(run(replace(SMALL, engine=engine)), X)[0] - expected).max() < 1e-5


def test_weight_decay_and_the_rate_matter():
    z = logits(run(), X)
    assert np.abs(z - logits(run(replace(SMALL, weight_decay=0.0)), X)).max() > 1e-3
    assert np.abs(z - logits(run(replace(SMALL, rate=1e-3)), X)).max() > 1e-3


def test_initial_weights_are_distributed_as_torch_s():
    network = shadow_parts.build("mlp-64", (25,))
    found = shadow_parts.initial(network, range(40))
    plain = torch.nn.Linear(25, 64)
    for name, bound in (("0.weight", 0.2), ("0.bias", 0.2), ("2.weight", 1 / 8), ("2.bias", 1 / 8)):
        values = found[name]
        assert values.abs().max() <= bound and values.abs().max() > 0.9 * bound
        assert abs(float(values.std()) - bound / 3**0.5) < 0.2 * bound
    assert abs(float(found["0.weight"].std() - plain.weight.detach().std())) < 0.01
    assert len({float(v) for v in found["0.weight"][:, 0, 0]}) == 40


def test_cnn_engines_agree():
    x, y = pool(80, (1, 16, 16))
    index, seeds = drawn(2, 60, 80)
    recipe = Recipe("cnn", epochs=2, batch=25, chunk=2)
    assert recipe.way == "loop"
    found = [run(replace(recipe, engine=e), x, y, index, seeds) for e in ("auto", "vmap")]
    z = [logits(one, x) for one in found]
    assert np.abs(z[0] - z[1]).max() < 1e-5 and z[0].shape == (2, 80)
    assert found[0].weights[2]["0.weight"].shape == (2, 8, 1, 3, 3)


def test_images_are_flattened_for_perceptrons():
    x, y = pool(80, (1, 4, 4))
    index, seeds = drawn(2, 60, 80)
    one = run(SMALL, x, y, index, seeds)
    assert np.array_equal(logits(one, x), logits(one, x.reshape(80, 16)))


# --- members ---------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"dp_noise": 0.5}, {"pgd_epsilon": 0.1}])
def test_a_member_does_not_depend_on_its_neighbours(more):
    recipe = replace(SMALL, **more)
    z = logits(run(recipe), X)
    turned = logits(run(recipe, index=INDEX[::-1], seeds=SEEDS[::-1]), X)[::-1]
    assert np.abs(z - turned).max() < 1e-4
    alone = logits(run(replace(recipe, chunk=1)), X)
    assert np.abs(z - alone).max() < 1e-4
    assert np.abs(z[0] - z[1]).max() > 1e-2


def test_chunks_are_filled_up():
    """Bits do not depend on how many models are asked for, nor on a second run."""
    whole = run()
    for count in (1, 3, 5):
        part = run(index=INDEX[:count], seeds=SEEDS[:count])
        assert part.record["models"] == count
        for name, values in part.weights[3].items():
            assert np.array_equal(values, whole.weights[3][name][:count])
    assert same(whole, run())


def test_global_randomness_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run(replace(SMALL, engine="loop"))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(first, run(replace(SMALL, engine="loop")))


def test_labels_may_be_each_models_own():
    assert same(run(), run(y=Y[INDEX]))
    flipped = Y[INDEX].copy()
    flipped[0] ^= 1
    a, b = run(replace(SMALL, epochs=30)), run(replace(SMALL, epochs=30), y=flipped)
    z, w = logits(a, X), logits(b, X)
    assert np.corrcoef(z[0], w[0])[0, 1] < -0.5 and np.abs(z[1:] - w[1:]).max() < 1e-4


def test_marks_keep_earlier_weights():
    long = run(replace(SMALL, epochs=4, marks=(2, 3)))
    assert list(long.weights) == [2, 3, 4] == list(long.recipe.kept)
    short = run(replace(SMALL, epochs=3))
    assert np.array_equal(logits(long, X, 3), logits(short, X))
    with pytest.raises(ValueError, match="no weights of epoch 1; kept: 2, 3, 4"):
        logits(long, X, 1)


def test_record():
    record = run().record
    assert record["models"] == 6 and record["records"] == 100 and record["shape"] == [7]
    assert record["parameters"] == 7 * 9 + 9 + 9 * 5 + 5 + 5 + 1
    assert len(record["losses"]) == 3 and record["cost"].keys() == {"seconds", "peak_mb"}


@pytest.mark.parametrize("arch", ["lr", "mlp-16", "cnn", "rf-10", "sk-lr", "svm"])
def test_real_data_are_learned(arch):
    if arch == "cnn":
        digits = load_digits()
        x = np.kron(digits.images, np.ones((2, 2))).astype(np.float32)[:, None] / 16
        y = (digits.target > 4).astype(np.uint8)
    else:
        x, y = load_breast_cancer(return_X_y=True)
        x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    order = generator("test-split").permutation(len(x))
    train, test = order[:400], order[400:]
    index = np.stack([train, train[::-1]])
    recipe = Recipe(arch, epochs=25, batch=32, rate=1e-2, chunk=2)
    sklearn = recipe.way == "sklearn"
    found = run(recipe, x, y, index, [0, 1], probes=x[test] if sklearn else None)
    z = logits(found, x[test])
    assert ((z > 0) == y[test]).mean(1).min() > (0.85 if arch == "cnn" else 0.92)
    if sklearn:
        assert np.abs(z).max() < 9.22 and found.record["parameters"] is None
        assert np.array_equal(logits(found, x[test][5:9]), z[:, 5:9])
        with pytest.raises(ValueError, match="record 0 of x is none of the"):
            logits(found, x[train])
        again = run(recipe, x, y, index, [0, 1], probes=x[test])
        assert np.array_equal(logits(again, x[test]), z)
        if arch == "rf-10":
            assert not np.array_equal(z[0], z[1])


def test_predictions_do_not_depend_on_blocks(monkeypatch):
    one = run()
    z = logits(one, X)
    monkeypatch.setattr(shadow_stack, "ROWS", 64)
    assert np.abs(logits(one, X) - z).max() < 1e-5
    x, y = pool(50, (1, 8, 8))
    found = run(Recipe("cnn", epochs=1), x, y, *drawn(2, 40, 50))
    z = logits(found, x)
    monkeypatch.setattr(shadow_loop, "ROWS", 16)
    assert np.abs(logits(found, x) - z).max() < 1e-5


# --- defences --------------------------------------------------------------------------------


def one_batch(recipe, size):
    """A stack of the first two models after a batch's forward and backward pass."""
    draws = shadow_parts.Draws(recipe, torch.from_numpy(X), INDEX[:2], Y[INDEX[:2]], SEEDS[:2],
                               np.arange(2))
    stack = shadow_stack.Stack(recipe, draws)
    batch = shadow_stack.Batch(stack, size)
    batch.rows, batch.labels = (a[:, :size] for a in next(draws.epoch()))
    batch.x.copy_(torch.from_numpy(X)[batch.rows.long()])
    return stack, batch


def network_of(stack, member):
    network = shadow_parts.build(stack.recipe.arch, (7,)).to_empty(device="cpu")
    network.load_state_dict({k: torch.from_numpy(v[member]) for k, v in stack.state().items()})
    return network


def gradient_of(stack, member):
    return torch.cat([part for w, b in zip(stack.weight_grads, stack.bias_grads, strict=True)
                      for part in (w[member].T.flatten(), b[member])])


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("clip", [0.05, 0.5, 1e3])
def test_clipped_gradients_match_opacus(clip):
    import opacus

    stack, batch = one_batch(replace(SMALL, dp_noise=1.0, dp_clip=clip), 32)
    with torch.no_grad():
        stack.forward(batch)
        stack.backward(batch)
        stack.clipped(batch)
    for member in range(2):
        network = opacus.GradSampleModule(network_of(stack, member), loss_reduction="sum")
        z = network(batch.x[member])[:, 0]
        shadow_parts.loss(z, batch.labels[member]).sum().backward()
        each = torch.cat([p.grad_sample.flatten(1) for p in network.parameters()], 1)
        factor = (clip / (each.norm(dim=1) + 1e-6)).clamp(max=1.0)
        assert (factor < 1).any() or clip == 1e3
        assert torch.allclose(gradient_of(stack, member), factor @ each, atol=1e-6)


@pytest.mark.parametrize("arch", ["lr", "mlp-9-5"])
def test_private_training_matches_gradients_of_single_records(arch):
    """The loop forms every record's gradient; ``bmm`` only its norm."""
    recipe = replace(SMALL, arch=arch, dp_noise=0.7, dp_clip=0.3)
    found = [run(replace(recipe, engine=engine)) for engine in ("bmm", "loop")]
    assert np.abs(logits(found[0], X) - logits(found[1], X)).max() < 1e-4
    assert np.abs(logits(found[0], X) - logits(run(), X)).max() > 1e-2


def test_private_training_of_a_cnn_runs():
    x, y = pool(60, (1, 8, 8))
    one = run(Recipe("cnn", epochs=1, batch=20, dp_noise=1.0), x, y, *drawn(1, 50, 60))
    assert np.isfinite(logits(one, x)).all()


def test_noise_has_the_stated_spread():
    recipe = replace(SMALL, arch="mlp-200", dp_noise=3.0, dp_clip=0.01, batch=50)
    stack, _ = one_batch(recipe, 50)
    noise = stack.draws.normals(stack.parameters)
    stack._blur(noise)
    for member in range(2):
        assert torch.allclose(gradient_of(stack, member), 0.03 * noise[member], atol=1e-7)
    assert abs(float(noise.std()) - 1) < 0.05 and not torch.equal(noise[0], noise[1])


@pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha")
def test_epsilon():
    recipe = Recipe(epochs=5, batch=100, dp_noise=1.0)
    some = shadow_dp.epsilon(recipe, 2000, 1e-5)
    assert 0.5 < some < 10 and shadow_dp.epsilon(replace(recipe, dp_noise=2.0), 2000, 1e-5) < some
    assert shadow_dp.epsilon(replace(recipe, dp_noise=0.0), 2000, 1e-5) == float("inf")
    noise = shadow_dp.noise_for(some, recipe, 2000, 1e-5)
    assert noise == pytest.approx(1.0, abs=0.05)
    with pytest.raises(ValueError, match="0 < delta < 1, got 2000 and 0"):
        shadow_dp.epsilon(recipe, 2000, 0)


def test_attacks_match_a_plain_one():
    epsilon, steps = 0.2, 5
    stack, batch = one_batch(replace(SMALL, pgd_epsilon=epsilon, pgd_steps=steps), 32)
    clean = batch.x.clone()
    batch.clean.copy_(clean)
    start = torch.rand(clean.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch.x.copy_(start)
    with torch.no_grad():
        stack.attack(batch)
    assert (batch.x - clean).abs().max() <= epsilon + 1e-6
    for member in range(2):
        network, x = network_of(stack, member).double(), clean[member].double()
        labels, delta = batch.labels[member].double(), epsilon * start[member].double()
        for _ in range(steps):
            delta = delta.detach().requires_grad_()
            shadow_parts.loss(network(x + delta)[:, 0], labels).sum().backward()
            delta = (delta + 2.5 * epsilon / steps * delta.grad.sign()).clamp(-epsilon, epsilon)
        assert torch.allclose(batch.x[member].double(), x + delta.detach(), atol=1e-5)
        before, after = (shadow_parts.loss(network(p.double())[:, 0], labels).mean()
                         for p in (clean[member], batch.x[member]))
        assert after > before


@pytest.mark.parametrize("arch", ["lr", "mlp-9-5"])
def test_adversarial_training_agrees_and_helps(arch):
    recipe = replace(SMALL, arch=arch, epochs=10, pgd_epsilon=0.3, pgd_steps=4)
    found = [run(replace(recipe, engine=engine)) for engine in ("bmm", "loop")]
    assert np.abs(logits(found[0], X) - logits(found[1], X)).max() < 1e-3
    assert np.abs(logits(found[0], X)).mean() < np.abs(
        logits(run(replace(recipe, pgd_epsilon=0.0)), X)).mean()


def test_no_progress_bar_without_a_terminal(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    run(replace(SMALL, epochs=1))
    assert shown.getvalue() == ""
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    run(replace(SMALL, epochs=1), progress=True)
    assert "shadow models" in shown.getvalue() and "2/2" in shown.getvalue()


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "message"), [
    ({"arch": "resnet"}, "unknown arch 'resnet'; known: lr, mlp"),
    ({"arch": "mlp-0"}, "unknown arch 'mlp-0'"),
    ({"engine": "jax"}, "unknown engine 'jax'; known: auto, bmm, vmap, loop, sklearn"),
    ({"arch": "cnn", "engine": "bmm"}, "'bmm' trains lr, mlp-..., not 'cnn'; use loop or vmap"),
    ({"arch": "rf-10", "engine": "loop"}, "not 'rf-10'; use sklearn"),
    ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ({"rate": 0.0}, "rate must be positive and finite, got 0.0"),
    ({"dp_noise": -1.0}, "dp_noise must be finite and at least 0, got -1.0"),
    ({"marks": (4,)}, r"marks must lie in 1..3 \(epochs\), got \(4,\)"),
    ({"arch": "svm", "marks": (1,)}, "svm has no epochs to keep"),
    ({"arch": "rf-10", "dp_noise": 1.0}, "engine 'sklearn' trains without dp_noise"),
    ({"engine": "vmap", "pgd_epsilon": 1.0}, "engine 'vmap' trains without"),
    ({"dp_noise": 1.0, "pgd_epsilon": 1.0}, "use one of the two"),
])
def test_recipes_that_cannot_be(more, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **more)


def broken(array, value, *place):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(("more", "message"), [
    ({"x": broken(X, np.nan, 17, 2)}, "features: record 17 holds NaN or infinity .1 of 300"),
    ({"x": X.astype(float)}, "features of float64: need float32"),
    ({"x": X[:, 0]}, r"features of shape \(300,\): mlp-9-5 needs"),
    ({"index": broken(INDEX, 300, 0, 0)}, "to 300, the pool has records 0..299"),
    ({"index": broken(INDEX, -1, 0, 0)}, "index runs from -1"),
    ({"index": INDEX[0]}, r"index int32 \(100,\): need integers"),
    ({"seeds": SEEDS[:4]}, "need one integer for each of 6 models"),
    ({"y": Y[:50]}, r"labels of shape \(50,\): need \(300,\), of the pool, or \(6, 100\)"),
    ({"y": broken(Y, 2, 0)}, "from 0 to 2: need integers 0 and 1"),
    ({"y": broken(Y[INDEX], 1, 4)}, "model 4: all 100 of its records are of class 1"),
    ({"probes": X}, "probes go with scikit-learn's models alone"),
    ({"recipe": Recipe("rf-10")}, "probes go with scikit-learn's models alone"),
    ({"recipe": Recipe("cnn")}, r"cnn needs \[R, C, H, W\]"),
])
def test_arguments_that_do_not_fit(more, message):
    with pytest.raises(ValueError, match=message):
        run(**more)


def test_records_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"records of shape \(5,\), training had \(7,\)"):
        logits(run(replace(SMALL, epochs=1)), X[:, :5])


def test_too_few_records_for_the_svm():
    y = broken(Y[INDEX[:1]], 0, 0)
    y[0, :2] = 1
    with pytest.raises(ValueError, match="model 0: 2 records of one class"):
        run(Recipe("svm"), y=y, index=INDEX[:1], seeds=SEEDS[:1], probes=X)


@pytest.mark.parametrize("engine", ["bmm", "vmap", "loop"])
def test_diverging_models_are_named(engine):
    x = X.copy()
    x[INDEX[5, 0]] = 3e38
    index = np.where(INDEX == INDEX[5, 0], INDEX[5, 1], INDEX)
    index[5] = INDEX[5]
    with pytest.raises(FloatingPointError, match="loss of model 5 is not finite in epoch 1"):
        run(replace(SMALL, engine=engine), x, index=index, y=Y)


# --- benchmark -------------------------------------------------------------------------------


def test_the_benchmark_compares_equals(monkeypatch):
    """Its plain ways learn what the book's way learns, and its rows can be tabulated."""
    case = bench_shadow.TOY | {"n": 400, "epochs": 40, "batch": 50}
    x, y, index, seeds = bench_shadow.records(case)
    ways = bench_shadow.sides(case, "cpu")
    plain = [network(torch.from_numpy(x))[:, 0].detach().numpy() > 0
             for name in ("DataLoader", "tensors") for network in ways[name]()()]
    plain += [one.predict(x) for one in ways["scikit-learn"]()()]
    book = logits(ways["book"]()(), x) > 0
    right = [float((said == y).mean()) for said in [*plain, *book]]
    assert min(right) > 0.7 and max(right) - min(right) < 0.1
    monkeypatch.setattr(bench_measure, "memory", lambda *_: {"peak_mb": 200, "extra_mb": 3})
    found = bench_shadow.measure("cpu", 5, "", quick=True)
    assert [row["goal"] for row in found["rows"]] == [None] * 3
    assert all(row["error"] < 1e-4 for row in found["rows"])
    machine = {"environment": {"threads": 1}, "quick": True}
    shown = bench.table({"cpu": {"shadow": found | machine}})
    assert "4 models: 200 MB (+3); 32 models: 200 MB (+3)" in shown
    assert shown.count("\n| a model of 4") == 3


# --- CUDA ------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("more", [{}, {"dp_noise": 0.5}, {"pgd_epsilon": 0.1}])
def test_captured_steps_train_as_the_cpu_does(more):
    recipe = replace(SMALL, marks=(1,), **more)
    cpu, first, second = (run(recipe, device=device) for device in ("cpu", "cuda", "cuda"))
    assert np.abs(logits(cpu, X) - logits(first, X)).max() < 1e-3
    assert same(first, second)
    for engine in ("loop", "vmap")[: 1 if more else 2]:
        z = logits(run(replace(recipe, engine=engine), device="cuda"), X, device="cuda")
        assert np.abs(logits(first, X) - z).max() < 1e-3
