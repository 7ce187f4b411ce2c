"""Training-free denoisers against direct formulas, other libraries and each other."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from helpers.oracles import Empirical, Gaussian, Mixture, Patches

torch.set_num_threads(1)
SIGMAS = [0.002, 0.01, 0.05, 0.2, 1, 3, 10, 80]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clusters(count, shape, seed=0, size=16, spread=0.02):
    """Near-duplicates: groups of images that differ by little, as float32 in [-1, 1]."""
    groups = draw(-(-count // size), *shape, seed=seed).repeat_interleave(size, dim=0)[:count]
    return (0.5 * groups + spread * draw(count, *shape, seed=seed + 1)).clamp(-1, 1).float()


def uniform(count, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator) * 2 - 1


def direct(data, x, sigma):
    """Posterior weights and mean from float64 distances, one query at a time."""
    wide = data.double().flatten(1)
    out, weights = [], []
    for query in x.double().flatten(1):
        square = (query - wide).square().sum(1)
        weights.append(torch.softmax(-square / (2 * float(sigma) ** 2), dim=0))
        out.append(weights[-1] @ wide)
    return torch.stack(out).reshape(x.shape), torch.stack(weights)


KINDS = {
    "random": lambda n, shape: uniform(n, shape),
    "clusters": clusters,
    "tight": lambda n, shape: clusters(n, shape, spread=0.002),
    "offset": lambda n, shape: (0.9 + 0.1 * clusters(n, shape)).clamp(-1, 1),
}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 16), (3, 32, 32)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_empirical_equals_direct_distances(kind, shape, sigma):
    data = KINDS[kind](400, shape)
    x = data[::50].double() + sigma * draw(8, *shape, seed=5)
    midpoint = (data[:1] + data[1:2]).double() / 2  # two equal weights: the hardest case
    x = torch.cat([x, midpoint, 80 * draw(1, *shape, seed=6)])
    oracle = Empirical(data)
    truth, weights = direct(data, x, sigma)
    assert (oracle(x, sigma) - truth).abs().max() <= 1e-5
    entropy = torch.special.entr(weights).sum(dim=1)
    assert torch.allclose(oracle.entropy(x, torch.tensor(sigma)), entropy, atol=2e-4, rtol=0)
    nearest = oracle.nearest(x, sigma)
    distance = (x[:, None] - data.double()[None]).flatten(2).square().sum(2)
    chosen = distance.gather(1, nearest[:, None])[:, 0]
    assert torch.allclose(chosen, distance.amin(dim=1), rtol=1e-13, atol=0)


@pytest.mark.parametrize("kind", ["random", "clusters", "offset"])
@pytest.mark.parametrize("path", ["few", "double", "plain"])
def test_each_way_is_exact_where_it_is_taken(kind, path, monkeypatch):
    """Force one of the three ways at noise levels where the rule allows it."""
    data = KINDS[kind](2048, (1, 16, 16))
    taken = []
    for name in ("_few", "_double", "_all"):
        whole = getattr(Empirical, name)
        monkeypatch.setattr(
            Empirical, name, lambda self, *a, _n=name, _w=whole: (taken.append(_n), _w(self, *a))[1]
        )
    sigma = {"few": 0.01, "double": 0.7, "plain": 80.0}[path]
    x = data[:16].double() + sigma * draw(16, 1, 16, 16, seed=2)
    options = {"few": {}, "double": {"shortlist": 1, "tolerance": 1e-9}, "plain": {}}[path]
    if path == "double":
        x = x.mean(dim=0, keepdim=True) + 0 * x  # in the middle of the data: many candidates
        sigma = 3.0
    error = (Empirical(data, **options)(x, sigma) - direct(data, x, sigma)[0]).abs().max()
    wanted = {"few": {"_few"}, "double": {"_double", "_all"}, "plain": {"_all"}}[path]
    assert set(taken) == wanted and error <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 32)])
def test_measured_error_covers_the_float32_products(kind, shape):
    """No logit is off by more than the slack; where products serve, the rms by four measured."""
    data = KINDS[kind](1024, shape)
    oracle = Empirical(data)
    for sigma in SIGMAS:
        x = (data[:16].double() + sigma * draw(16, *shape, seed=3)).flatten(1)
        logits, error = oracle._products(x, sigma)
        wrong = logits - oracle._double(x, sigma)
        assert (wrong.abs().amax(dim=1) <= oracle._worst(x, error, sigma)).all()
        error = torch.maximum(error, oracle._near(x, logits, sigma))
        weights = torch.softmax(logits, dim=1)
        averaged = (weights * wrong.square()).sum(dim=1).sqrt()
        plain = 4 * error * oracle._spread / 2 <= 0.8 * oracle.tolerance
        assert (averaged <= 4 * error)[plain].all() and (sigma < 80 or plain.all())


def test_empirical_notices_coarse_products(monkeypatch):
    """With products as coarse as bfloat16 the answer is still right: another way is taken."""
    data = uniform(512, (1, 16, 16))
    oracle = Empirical(data)
    oracle._centred = oracle._centred.bfloat16().float()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    for sigma in SIGMAS:
        x = data[:8].double() + sigma * draw(8, 1, 16, 16)
        assert (oracle(x, sigma) - direct(data, x, sigma)[0]).abs().max() <= 1e-5


@pytest.mark.parametrize("sigma", [0.5, 3.0, 80.0])
def test_empirical_equals_attention(sigma):
    data = clusters(300, (1, 16, 16)).double()
    x = data[:20] + sigma * draw(20, 1, 16, 16)
    query, key = x.flatten(1), data.flatten(1)
    bias = -key.square().sum(1) / (2 * sigma**2)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        attention = torch.nn.functional.scaled_dot_product_attention(
            query[None], key[None], key[None], attn_mask=bias.expand(1, 20, 300), scale=1 / sigma**2
        )
    error = (Empirical(data.float())(x, sigma).flatten(1) - attention[0]).abs().max()
    assert error <= 1e-5


def test_empirical_small_noise_returns_the_training_image():
    data = uniform(200, (3, 8, 8))
    oracle = Empirical(data)
    order = torch.tensor([7, 3, 199])
    x = data[order] + 0.002 * draw(3, 3, 8, 8).float()
    assert torch.equal(oracle(x, 0.002), data[order])
    assert torch.equal(oracle.nearest(x), order)
    assert oracle.entropy(x, 0.002).abs().max() < 1e-12
    assert oracle.nearest(data[:1].repeat(2, 1, 1, 1)).tolist() == [0, 0]


@pytest.mark.parametrize("sigma", [0.05, 1.0, 3.0, 20.0])
def test_empirical_chunks_and_batches_do_not_matter(sigma, monkeypatch):
    data = clusters(500, (1, 8, 8))
    x = data[:40].double() + sigma * draw(40, 1, 8, 8)
    whole = Empirical(data)(x, sigma)
    assert torch.equal(whole, Empirical(data)(x, sigma))
    assert (Empirical(data, chunk=77)(x, sigma) - whole).abs().max() <= 1e-5
    assert (Empirical(data)(x[3:4], sigma) - whole[3:4]).abs().max() <= 1e-5
    monkeypatch.setattr("helpers.oracles._LOGITS", 4096)
    monkeypatch.setattr("helpers.oracles._SCRATCH", 1024)
    assert (Empirical(data)(x, sigma) - whole).abs().max() <= 1e-5
    assert Empirical(data)(x[:0], sigma).shape == (0, 1, 8, 8)


def test_dtypes_and_errors():
    data = uniform(20, (1, 8, 8))
    oracles = [Empirical(data), Gaussian.fit(data, 0.1), Patches(data, 3)]
    for oracle in oracles:
        for dtype in (torch.float16, torch.float32, torch.float64):
            assert oracle(data.to(dtype), torch.tensor(0.5)).dtype == dtype
        for sigma in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="noise level"):
                oracle(data, sigma)
        with pytest.raises(ValueError, match="give floating images"):
            oracle(data[:, :, :4], 1)
        with pytest.raises(ValueError, match="NaN"):
            oracle(data * float("nan"), 1)
    with pytest.raises(ValueError, match="float32"):
        Empirical(data.double())
    with pytest.raises(ValueError, match="finite"):
        Empirical(data / 0)
    with pytest.raises(ValueError, match="odd"):
        Patches(data, 4)
    with pytest.raises(ValueError, match="sum 1"):
        Mixture(torch.ones(2), torch.zeros(2, 1, 2, 2), torch.eye(4).repeat(2, 1, 1))
    with pytest.raises(ValueError, match="symmetric"):
        Gaussian(torch.zeros(1, 2, 2), torch.arange(16.0).reshape(4, 4))
    with pytest.raises(ValueError, match="eigenvalue"):
        Gaussian(torch.zeros(1, 2, 2), -torch.eye(4))


MEMORY = """
import resource, torch
torch.set_num_threads(1)
from helpers.oracles import Empirical
data = torch.rand(50_000, 3, 32, 32).mul_(2).sub_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
oracle = Empirical(data)
for sigma in (0.01, 4.0, 80.0):
    oracle(data[:2] + sigma * torch.randn(2, 3, 32, 32), sigma)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) // 1024, peak // 1024)
"""


def test_empirical_memory():
    """50,000 images of 3 x 32 x 32: one centred copy (586 MiB) and little else; below 3 GB."""
    command = [sys.executable, "-c", MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    extra, peak = map(int, done.stdout.split())
    assert extra < 586 + 250 and peak < 2800


def covariances(components, size):
    root = draw(components, size, size, seed=8) / size**0.5
    return 0.3 * root @ root.mT + 0.01 * torch.eye(size, dtype=torch.float64)


def mixture(components=3):
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)[:components]
    means = 0.5 * draw(components, 1, 4, 4, seed=7)
    return Mixture(weights / weights.sum(), means, covariances(components, 16))


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0, 80.0])
def test_mixture_is_the_score_of_its_density(sigma):
    law = mixture()
    x = law.sample(20, torch.Generator().manual_seed(1)) + sigma * draw(20, 1, 4, 4)
    x.requires_grad_()
    (score,) = torch.autograd.grad(law.log_density(x, sigma).sum(), x)
    assert torch.allclose(law(x, sigma), x + sigma**2 * score, atol=1e-9, rtol=1e-9)


def test_mixture_density_and_samples():
    law = mixture()
    x = draw(5, 1, 4, 4)
    total = torch.zeros(5, dtype=torch.float64)
    for weight, part in zip(law.weights, law.parts, strict=True):
        cov = part.vectors @ torch.diag(part.values + 0.25) @ part.vectors.T
        normal = torch.distributions.MultivariateNormal(part.mean, cov)
        total += weight * normal.log_prob(x.flatten(1)).exp()
    assert torch.allclose(law.log_density(x, 0.5), total.log())
    images = law.sample(40_000, torch.Generator().manual_seed(3)).double()
    again = law.sample(40_000, torch.Generator().manual_seed(3)).double()
    assert torch.equal(images, again)
    expected = sum(w * p.mean for w, p in zip(law.weights, law.parts, strict=True))
    assert (images.flatten(1).mean(0) - expected).abs().max() < 0.03


def test_mixture_fit_recovers_separated_components():
    means = torch.tensor([[[[0.5, -0.5]]], [[[-0.5, 0.5]]]])
    law = Mixture(torch.tensor([0.7, 0.3]), means, 0.01 * torch.eye(2).repeat(2, 1, 1))
    images = law.sample(4000, torch.Generator().manual_seed(0))
    fit = Mixture.fit(images, 2, seed=0, reg_covar=1e-6)
    assert torch.allclose(fit.weights.sort().values, torch.tensor([0.3, 0.7]).double(), atol=0.03)
    assert (fit(images, 0.2) - law(images, 0.2)).abs().max() < 0.05
    same = Mixture.fit(images, 2, seed=0, reg_covar=1e-6)
    assert torch.equal(fit.weights, same.weights)


def test_gaussian_equals_mixture_of_one():
    cov = covariances(1, 16)
    mean = draw(1, 1, 4, 4)
    single, one = Gaussian(mean[0], cov[0]), Mixture(torch.ones(1), mean, cov)
    for sigma in SIGMAS:
        x = sigma * draw(6, 1, 4, 4)
        assert torch.allclose(single(x, sigma), one(x, sigma), atol=1e-12)
        solved = torch.linalg.solve(cov[0] + sigma**2 * torch.eye(16), (x - mean).flatten(1).T)
        expected = mean.flatten(1) + (cov[0] @ solved).T
        assert torch.allclose(single(x, sigma).flatten(1), expected, atol=1e-9)


def test_gaussian_fit():
    data = uniform(50, (1, 4, 4)).double()
    law = Gaussian.fit(data, shrinkage=0.25)
    sample = np.cov(data.flatten(1).numpy().T, bias=True)
    expected = 0.75 * sample + 0.25 * np.trace(sample) / 16 * np.eye(16)
    cov = law.vectors @ torch.diag(law.values) @ law.vectors.T
    assert np.allclose(cov, expected) and np.allclose(law.mean, data.mean(0).flatten())


def test_gaussian_map_solves_the_probability_flow():
    law = Gaussian(draw(1, 2, 2, seed=1), covariances(1, 4)[0])
    start = 80 * draw(2, 1, 2, 2)

    def slope(sigma, flat):
        x = torch.from_numpy(flat).reshape(2, 1, 2, 2)
        return ((x - law(x, sigma)) / sigma).flatten().numpy()

    flat = start.flatten().numpy()
    solved = solve_ivp(slope, (80, 0.002), flat, "DOP853", rtol=1e-10, atol=1e-12)
    assert np.allclose(law.map(start, 80, 0.002).flatten(), solved.y[:, -1], atol=1e-6)
    halfway = law.map(law.map(start, 80, 3.0), 3.0)
    assert torch.allclose(halfway, law.map(start, 80), atol=1e-10)
    assert (law.map(start, 80) - law.map(start, 80, 0.002)).abs().max() < 1e-3


def test_empirical_is_much_faster_than_broadcasting():
    """A loose guard; the benchmark measures the ratio."""
    data = uniform(1024, (3, 32, 32))
    oracle, x = Empirical(data), data[:8] + 1.0
    oracle(x, 1.0)
    times = []
    one_pass = lambda: (x[:, None] - data[None]).square().sum((2, 3, 4))  # noqa: E731
    for function in (lambda: oracle(x, 1.0), one_pass):
        runs = []
        for _ in range(3):
            start = time.process_time()
            function()
            runs.append(time.process_time() - start)
        times.append(min(runs))
    assert times[0] < times[1]
