"""Stacked denoisers: gradients of autograd, a plain training loop, a law with a known answer."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import bench_denoisers, denoiser_stack, objectives
from helpers.denoiser_stack import Small, draw, fit
from helpers.gaussians import Gaussian
from helpers.noise import generator, noise, torch_generator
from helpers.sampling import sample

torch.set_num_threads(1)
SIDE, SIZE = 2, 4
SMALL = Small(hidden=(9, 7), steps=20, batch=8, rate=1e-2, warmup=5, chunk=2)
MEAN = np.array([0.5, -0.5, 0.0, 0.25])
MIX = np.array([[0.4, 0, 0, 0], [0.3, 0.2, 0, 0], [0, 0.1, 0.1, 0], [0.1, 0, 0.2, 0.3]])


def pool(records=200):
    """Draws of the Gaussian law of mean MEAN and covariance MIX MIX^T."""
    unit = generator("test-denoiser-pool", records).standard_normal((records, SIZE))
    return (MEAN + unit @ MIX.T).astype(np.float32)


X = pool()
INDEX = np.stack([generator("test-denoiser-index", i).permutation(200)[:64] for i in range(5)])
SEEDS = 100 + np.arange(5)


def run(recipe=SMALL, records=X, index=INDEX, seeds=SEEDS, **more):
    return fit(recipe, records, index, seeds, **more)


def same(a, b):
    return all(np.array_equal(one, two) for pair, other in zip(a.layers, b.layers, strict=True)
               for one, two in zip(pair, other, strict=True))


def apart(a, b):
    """Largest difference of two sets of weights."""
    return max(np.abs(one - two).max() for pair, other in zip(a.layers, b.layers, strict=True)
               for one, two in zip(pair, other, strict=True))


class Plain(torch.nn.Module):
    """One model written out: linear layers on a record and on sinusoids of the noise level."""

    def __init__(self, layers, dtype=torch.float64):
        super().__init__()
        self.linear = torch.nn.ModuleList()
        for weight, bias in layers:
            one = torch.nn.Linear(*weight.shape, dtype=dtype)
            one.weight.data = torch.as_tensor(weight).T.to(dtype).contiguous()
            one.bias.data = torch.as_tensor(bias).flatten().to(dtype)
            self.linear.append(one)

    def forward(self, x, c_noise):
        octaves = torch.tensor([0.125, 0.25, 0.5, 1, 2, 4, 8, 16], dtype=x.dtype)
        angle = c_noise[:, None] * octaves
        h = torch.cat([x.flatten(1), angle.sin(), angle.cos()], 1)
        for one in self.linear[:-1]:
            h = torch.nn.functional.silu(one(h))
        return self.linear[-1](h).view_as(x)


def one_of(layers, member, **more):
    return Plain([(w[member], b[member]) for w, b in layers], **more)


def one_batch(recipe):
    """A stack whose every weight was moved, the next batch, and what the batch was made of."""
    stack = denoiser_stack._Stack(recipe, SIZE, SEEDS[:2], "cpu")
    stack.flat.data += 0.3 * torch.randn(stack.flat.shape, generator=torch_generator("test-move"))
    draws = denoiser_stack._Draws(recipe, torch.from_numpy(X), INDEX[:2], SEEDS[:2])
    with torch.no_grad():
        losses = stack.gradients(*draws.batch())
    return stack, draws, losses


def losses_of(network, recipe, draws, member):
    """Loss of each record of a model's batch by `helpers.objectives`, float64 [b]."""
    clean = torch.from_numpy(X).double()[draws.rows[member]].view(-1, 1, SIDE, SIDE)
    epsilon = draws.epsilon[member].double().view_as(clean)
    return objectives.loss(network, recipe.objective, clean, epsilon, draws.level[member].double())


def gradient_of(stack, member):
    """A model's gradients as torch lays them out: [out, in] and [out] of each layer."""
    return [part for w, b in stack.grads for part in (w[member].T, b[member, 0])]


# --- gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
@pytest.mark.parametrize("hidden", [(9, 7), (5,), (6, 5, 8)])
def test_losses_and_gradients_are_autograd_s(objective, hidden):
    recipe = replace(SMALL, objective=objective, hidden=hidden)
    stack, draws, losses = one_batch(recipe)
    for member in range(2):
        network = one_of(stack.layers, member)
        loss = losses_of(network, recipe, draws, member).mean()
        loss.backward()
        assert float(losses[member]) == pytest.approx(loss.item(), rel=1e-4)
        wanted = [p.grad for p in network.parameters()]
        assert len(wanted) == 2 * len(hidden) + 2 and all(g.abs().max() > 1e-3 for g in wanted)
        for found, true in zip(gradient_of(stack, member), wanted, strict=True):
            assert torch.allclose(found.double(), true, rtol=1e-3, atol=2e-5)
    assert float(losses[0]) != float(losses[1])


@pytest.mark.parametrize("clip", [0.05, 0.5, 1e3])
def test_clipped_gradients_are_those_of_single_records(clip):
    recipe = replace(SMALL, dp_noise=1.0, dp_clip=clip)
    stack, draws, losses = one_batch(recipe)
    for member in range(2):
        network = one_of(stack.layers, member)
        each = losses_of(network, recipe, draws, member)
        assert float(losses[member]) == pytest.approx(each.mean().item(), rel=1e-4)
        total, clipped = [torch.zeros_like(p) for p in network.parameters()], 0
        for one in each:
            own = torch.autograd.grad(one, tuple(network.parameters()), retain_graph=True)
            norm = torch.sqrt(sum(g.square().sum() for g in own))
            clipped += bool(norm > clip)
            for part, g in zip(total, own, strict=True):
                part += g * min(1.0, clip / float(norm))
        assert clipped == (0 if clip == 1e3 else 8)
        for found, true in zip(gradient_of(stack, member), total, strict=True):
            assert torch.allclose(found.double(), true, rtol=1e-3, atol=1e-4 * min(clip, 1))


def test_blur_adds_noise_of_the_stated_spread():
    recipe = replace(SMALL, hidden=(60, 50), dp_noise=3.0, dp_clip=0.2, batch=5)
    stack = denoiser_stack._Stack(recipe, SIZE, SEEDS[:2], "cpu")
    before = torch.arange(float(stack.flat.numel())) / 1e4
    stack.flat.grad.copy_(before)
    with torch.no_grad():
        stack.blur([torch_generator("test-blur", i) for i in range(2)], 5)
    spread = 3.0 * 0.2 / 5
    noises = [torch.cat([g.flatten() for pair in views for g in (pair[0][m], pair[1][m])])
              for m in range(2) for views in [stack._views(stack.flat.grad - before / 5)]]
    count = len(noises[0])
    assert count == 20 * 60 + 60 + 60 * 50 + 50 + 50 * 4 + 4
    for one in noises:
        assert abs(float(one.mean())) < 4 * spread / count**0.5
        assert abs(float(one.std()) / spread - 1) < 4 / (2 * count) ** 0.5
    assert abs(float(torch.corrcoef(torch.stack(noises))[0, 1])) < 4 / count**0.5


def test_hardly_private_training_is_training():
    """With a clip that nothing reaches and next to no noise, private training is the usual one."""
    usual = run()
    assert apart(usual, run(replace(SMALL, dp_noise=1e-20, dp_clip=1e3))) < 1e-3
    assert apart(usual, run(replace(SMALL, dp_noise=1e-20, dp_clip=1e-3))) > 1e-2
    assert apart(usual, run(replace(SMALL, dp_noise=1.0))) > 1e-2


# --- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["edm", "flow"])
def test_training_is_the_plain_loop(objective):
    """Adam, the schedule of the rate and the weighted mean of all steps' weights, written out."""
    recipe = replace(SMALL, objective=objective)
    found = run(recipe, index=INDEX[:2], seeds=SEEDS[:2])
    stack = denoiser_stack._Stack(recipe, SIZE, SEEDS[:2], "cpu")
    for member in range(2):
        draws = denoiser_stack._Draws(recipe, torch.from_numpy(X), INDEX[:2], SEEDS[:2])
        network = one_of(stack.layers, member)
        adam, kept = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99)), []
        for step in range(1, 21):
            adam.param_groups[0]["lr"] = 1e-2 * min(1, step / 5) * (1 - 0.9 * step / 20)
            draws.batch()
            adam.zero_grad()
            losses_of(network, recipe, draws, member).mean().backward()
            adam.step()
            kept.append([p.detach().clone() for p in network.parameters()])
        s = np.arange(1, 21) / 20
        shares = s**14 - (s - 0.05) ** 14
        wanted = [sum(w * k for w, k in zip(shares, parts, strict=True))
                  for parts in zip(*kept, strict=True)]
        for i, (weight, bias) in enumerate(found.layers):
            assert np.allclose(weight[member].T, wanted[2 * i], atol=1e-4)
            assert np.allclose(bias[member, 0], wanted[2 * i + 1], atol=1e-4)


def test_initial_weights_are_distributed_as_torch_s():
    stack = denoiser_stack._Stack(replace(SMALL, hidden=(80, 60)), SIZE, range(30), "cpu")
    for (weight, bias), fan in zip(stack.layers, (20, 80), strict=False):
        for part in (weight, bias):
            assert 0.98 * fan**-0.5 < part.abs().max() <= fan**-0.5
            assert float(part.std()) == pytest.approx((3 * fan) ** -0.5, rel=0.03)
        assert len(weight[:, 0, 0].unique()) == 30
    assert not stack.layers[2][0].any() and not stack.layers[2][1].any()


def test_batches_and_levels_are_each_models_own():
    recipe = replace(SMALL, batch=16)
    draws = denoiser_stack._Draws(recipe, torch.from_numpy(X), INDEX[:2], SEEDS[:2])
    rows, levels, noises = [], [], []
    for _ in range(200):
        draws.batch()
        rows.append(draws.rows.clone())
        levels.append(draws.level.clone())
        noises.append(draws.epsilon.clone())
    rows, levels, noises = torch.cat(rows, 1), torch.stack(levels), torch.cat(noises, 1)
    for member in range(2):
        assert set(rows[member].tolist()) == set(INDEX[member])
        counts = rows[member].bincount(minlength=200)[torch.from_numpy(INDEX[member])]
        assert (counts - 50).abs().max() < 5 * 50**0.5  # 3,200 draws of 64 records
    assert torch.equal((16 * levels).floor().sort(2).values,
                       torch.arange(16.0).expand(200, 2, 16))  # one in each equal part
    assert 0 < levels.min() and levels.max() < 1 and not torch.equal(levels[:, 0], levels[:, 1])
    assert abs(float(noises.mean())) < 0.03 and abs(float(noises.std()) - 1) < 0.03
    assert abs(float(torch.corrcoef(noises.flatten(1))[0, 1])) < 0.04


@pytest.mark.parametrize("more", [{}, {"dp_noise": 0.5}])
def test_a_model_does_not_depend_on_its_neighbours(more):
    recipe = replace(SMALL, **more)
    whole = run(recipe)
    for chosen in ([3], [4, 1], [2, 0, 3, 1]):
        for chunk in (1, 2, 3):
            part = run(replace(recipe, chunk=chunk), index=INDEX[chosen], seeds=SEEDS[chosen])
            assert len(part) == len(chosen) and apart(part, whole.take(chosen)) < 1e-4
    assert apart(whole.take([0]), whole.take([1])) > 1e-2
    other = run(recipe, index=INDEX[:1], seeds=[7])
    assert apart(other, whole.take([0])) > 1e-2


def test_same_bits_again_and_no_global_randomness():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(first, run())
    few = run(index=INDEX[:3], seeds=SEEDS[:3])  # chunks are filled up
    assert same(few, first.take(slice(0, 3)))


def test_the_record():
    record = run(replace(SMALL, steps=25)).record
    assert record["models"] == 5 and record["records"] == 64 and len(record["losses"]) == 10
    assert record["parameters"] == 20 * 9 + 9 + 9 * 7 + 7 + 7 * 4 + 4
    assert record["cost"]["seconds"] > 0 and record["cost"]["peak_mb"] > 0
    assert len(run(replace(SMALL, steps=3)).record["losses"]) == 3


# --- a law with a known answer ---------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """Two models of halves of 4,000 draws of a Gaussian law, and the law's own denoiser."""
    records = pool(4000)
    recipe = Small(hidden=(48, 48), steps=800, batch=128, rate=1e-2, chunk=2)
    models = fit(recipe, records, np.arange(4000).reshape(2, 2000), [0, 1])
    law = Gaussian(torch.from_numpy(MEAN).view(1, 2, 2), torch.from_numpy(MIX @ MIX.T))
    return models, law


def test_a_gaussian_law_is_learnt(trained):
    models, law = trained
    first, *_, last = models.record["losses"]
    # the least error is the posterior's variance, of eigenvalues v sigma^2 / (v + sigma^2)
    sigma = objectives.objective("edm").draw((torch.arange(64, dtype=torch.float64) + 0.5) / 64)
    variance = (law.values * sigma[:, None] ** 2 / (law.values + sigma[:, None] ** 2)).mean(1)
    best = float((objectives.objective("edm").weight(sigma) * variance).mean())
    assert 0.97 * best < last < 1.05 * best and first > 1.2 * best
    unit = torch.from_numpy(noise(range(500), (SIZE,))).double()
    for s in (0.1, 0.5, 2.0):
        x = law.draw(torch.from_numpy(noise(range(500), (SIZE,), 1)).double()) + s * unit
        true = law(x.view(-1, 1, 2, 2), s).flatten(1)
        found = models.denoiser()(x.expand(2, 500, SIZE), s)
        assert ((found - true).square().mean((1, 2)) < 0.01 * law.values.mean()).all()


def test_samples_of_a_gaussian_law(trained):
    models, law = trained
    epsilon = noise(range(2000), (SIZE,))
    drawn = draw(models, epsilon, steps=40)
    true = sample(law, torch.from_numpy(epsilon).view(-1, 1, 2, 2), steps=40).flatten(1).numpy()
    for one in drawn:
        assert np.abs(one.mean(0) - MEAN).max() < 0.05
        assert np.abs(np.cov(one.T) - MIX @ MIX.T).max() < 0.03
        assert np.square(one - true).mean() < 0.015 * true.var(0).mean()  # noise by noise, too


# --- draws and models ------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["edm", "vp", "flow"])
@pytest.mark.parametrize("solver", ["heun", "ancestral"])
def test_draws_are_those_of_single_networks(objective, solver):
    models = run(replace(SMALL, objective=objective, rate=0.05))
    epsilon = noise(range(6), (SIZE,))
    own = np.stack([noise(range(6), (SIZE,), 10 + m) for m in range(5)])
    fresh = torch.from_numpy(np.stack([noise(range(6), (SIZE,), 90 + i) for i in range(5)]))

    def options(shape):
        injected = (lambda step: fresh[step].view(shape)) if solver == "ancestral" else None
        return {"solver": solver, "steps": 5, "injected": injected}

    for start in (epsilon, own):
        found = draw(models, start, **options((6, SIZE)))
        assert found.shape == (5, 6, SIZE) and found.dtype == np.float32
        for member in range(5):
            network = one_of(models.layers, member, dtype=torch.float32)
            mine = torch.from_numpy(start if start.ndim == 2 else start[member])
            wanted = sample(objectives.denoiser(network, objective), mine.view(-1, 1, 2, 2),
                            **options((6, 1, 2, 2)))
            assert np.abs(found[member] - wanted.flatten(1).numpy()).max() < 1e-4
        assert np.abs(found[0] - found[1]).max() > 1e-3


def test_shared_noises_are_repeated_noises():
    models, epsilon = run(), noise(range(6), (SIZE,))
    shared = draw(models, epsilon, steps=4)
    assert np.array_equal(shared, draw(models, np.stack([epsilon] * 5), steps=4))
    fresh = torch.from_numpy(np.stack([noise(range(6), (SIZE,), m) for m in range(5)]))
    own, one = (draw(models, epsilon, solver="ancestral", steps=3, injected=lambda _, f=f: f)
                for f in (fresh, fresh[0]))
    assert np.array_equal(own[0], one[0]) and np.abs(own[1:] - one[1:]).max(2).min() > 1e-3
    with pytest.raises(ValueError, match="needs injected="):
        draw(models, epsilon, solver="ancestral")
    with pytest.raises(ValueError, match="unknown solver 'magic'"):
        draw(models, epsilon, solver="magic")


@pytest.mark.parametrize("chosen", [slice(1, 4), slice(0, 5, 2), [4, 0], np.array([2])])
def test_some_of_the_models(chosen):
    models, epsilon = run(), noise(range(4), (SIZE,))
    some, numbers = models.take(chosen), np.arange(5)[chosen]
    assert len(models) == 5 and len(some) == len(numbers)
    assert some.recipe == models.recipe
    for (weight, bias), (w, b) in zip(some.layers, models.layers, strict=True):
        assert np.array_equal(weight, w[numbers]) and np.array_equal(bias, b[numbers])
    whole = draw(models, epsilon, steps=4)
    assert np.abs(draw(some, epsilon, steps=4) - whole[numbers]).max() < 1e-5


def test_no_progress_bar_without_a_terminal(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    run()
    assert shown.getvalue() == ""
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    run(progress=True)
    assert "denoisers" in shown.getvalue() and "30/30" in shown.getvalue()


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "message"), [
    ({"objective": "gan"}, "unknown objective 'gan'; known: edm, vp, ve, flow"),
    ({"hidden": ()}, r"hidden=\(\): need at least one layer of at least one unit"),
    ({"hidden": (8, 0)}, r"hidden=\(8, 0\): need at least one layer"),
    ({"steps": 0}, "steps must be at least 1, got 0"),
    ({"batch": 0}, "batch must be at least 1, got 0"),
    ({"chunk": -1}, "chunk must be at least 1, got -1"),
    ({"warmup": -1}, "got -1, 0.01 and 1.0"),
    ({"rate": 0.0}, "need warmup >= 0 and finite, positive rate and dp_clip, got 5, 0.0 and 1.0"),
    ({"rate": np.inf}, "got 5, inf and 1.0"),
    ({"rate": np.nan}, "got 5, nan and 1.0"),
    ({"dp_clip": 0.0}, "got 5, 0.01 and 0.0"),
    ({"dp_clip": np.inf}, "got 5, 0.01 and inf"),
    ({"dp_noise": -0.5}, "dp_noise must be finite and at least 0, got -0.5"),
    ({"dp_noise": np.nan}, "dp_noise must be finite and at least 0, got nan"),
])
def test_recipes_that_cannot_be(more, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **more)


def broken(array, value, *place):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(("more", "message"), [
    ({"records": X.astype(float)}, r"records float64 \(200, 4\): need float32 \[R, d\]"),
    ({"records": X.reshape(-1, 2, 2)}, r"records float32 \(200, 2, 2\): need float32"),
    ({"records": X[:0]}, r"records float32 \(0, 4\): need"),
    ({"index": INDEX[0]}, r"index int64 \(64,\): need integers \[models, records\]"),
    ({"index": INDEX.astype(float)}, r"index float64 \(5, 64\): need integers"),
    ({"index": INDEX[:, :0]}, r"index int64 \(5, 0\): need integers"),
    ({"index": broken(INDEX, 200, 1, 2)}, "to 200, the pool has records 0..199"),
    ({"index": broken(INDEX, -1, 1, 2)}, "index runs from -1"),
    ({"seeds": SEEDS[:4]}, r"seeds int64 \(4,\): need one integer for each of 5 models"),
    ({"seeds": SEEDS / 2}, r"seeds float64 \(5,\): need one integer"),
    ({"records": broken(X, np.nan, INDEX[3, 5], 1)}, "records hold NaN or infinity; fill or drop"),
    ({"records": broken(X, np.inf, INDEX[3, 5], 1)}, "records hold NaN or infinity"),
])
def test_arguments_that_do_not_fit(more, message):
    with pytest.raises(ValueError, match=message):
        run(**more)


def test_records_that_no_model_uses_may_be_missing():
    spare = np.setdiff1d(np.arange(200), INDEX[:1])[0]
    found = run(records=broken(X, np.nan, spare), index=INDEX[:1], seeds=SEEDS[:1])
    assert same(found, run(index=INDEX[:1], seeds=SEEDS[:1]))


def test_an_absurd_rate_is_told():
    with pytest.raises(FloatingPointError, match="training of model 0 diverged before step [2-9]+ "
                       r"of 20; lower rate=1e\+30"):
        run(replace(SMALL, rate=1e30, warmup=0))


@pytest.mark.parametrize("chunk", [1, 2, 4, 8])
def test_the_model_that_diverges_is_named(chunk):
    index = np.where(INDEX == INDEX[3, 0], INDEX[:, 1:2], INDEX)
    index[3] = INDEX[3, 0]
    with pytest.raises(FloatingPointError, match="training of model 3 diverged before step 2 of"):
        run(replace(SMALL, chunk=chunk), broken(X, 3e38, INDEX[3, 0]), index)


# --- CUDA ------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("more", [{}, {"dp_noise": 0.5}])
def test_a_gpu_trains_and_draws_as_the_cpu_does(more):
    cpu, first, second = (run(replace(SMALL, **more), device=d) for d in ("cpu", "cuda", "cuda"))
    assert same(first, second) and apart(cpu, first) < 1e-3
    epsilon = noise(range(6), (SIZE,))
    assert np.abs(draw(cpu, epsilon) - draw(cpu, epsilon, "cuda")).max() < 1e-3


def test_the_benchmarks_plain_loop_trains_the_same_denoiser():
    case = bench_denoisers.TOY | {"size": 4, "pool": 600, "n": 500, "steps": 800, "batch": 32,
                                  "hidden": (48,), "models": 2, "plain": 2}
    pool, index, _ = bench_denoisers.records(case)
    ways = bench_denoisers.sides(case, "cpu")
    ours, theirs = (ways[name]()() for name in ("book", "plain"))
    clean, sigma = torch.from_numpy(pool), 0.5
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    c = objectives.objective("edm").coefficients(torch.full((len(clean),), sigma))
    found = [ours.denoiser()(noisy[None].expand(2, -1, -1), sigma)]
    with torch.no_grad():
        found.append(torch.stack([c.skip[:, None] * noisy + c.out[:, None] * model(
            c.scale[:, None] * noisy, c.noise) for model in theirs]))
    book, plain = (float((one - clean).square().mean()) for one in found)
    assert book < 1.1 * plain  # it is not faster by training less
    assert max(book, plain) < 0.75 * float((c.skip[:, None] * noisy - clean).square().mean())
    assert len(index) == len(theirs) == len(ours) == 2
