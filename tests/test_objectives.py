"""Objectives against formulas written out independently, and against their native losses."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from small import lively
from torch import nn

from helpers.noise import torch_generator
from helpers.objectives import OBJECTIVES, denoiser, loss

torch.set_num_threads(1)
SIGMAS = np.geomspace(0.002, 150, 9)
every = pytest.mark.parametrize("name", OBJECTIVES)


def vp_sigma(t):
    """Song et al. (2021): beta(t) = 0.1 + 19.9 t, sigma^2 = exp(integral of beta) - 1."""
    return math.sqrt(math.exp(19.9 / 2 * t**2 + 0.1 * t) - 1)


def table(name, sigma):
    """c_skip, c_out, c_in, c_noise and weight: Karras et al. (2022), table 1.

    c_noise of vp and ve and of flow matching is an affine function of the published one, (M - 1) t,
    ln(sigma / 2) and t, which brings every objective to about [-2, 2].
    """
    data = 0.5
    if name == "edm":
        return (data**2 / (sigma**2 + data**2), sigma * data / math.hypot(sigma, data),
                1 / math.hypot(sigma, data), math.log(sigma) / 4,
                (sigma**2 + data**2) / (sigma * data) ** 2)
    if name == "vp":
        t = optimize.brentq(lambda t: vp_sigma(t) - sigma, 0, 1.2, xtol=1e-15)
        return 1, -sigma, 1 / math.hypot(sigma, 1), 4 * t - 2, 1 / sigma**2
    if name == "ve":
        return 1, sigma, 1, math.log(sigma / 2) / 2, 1 / sigma**2
    t = sigma / (1 + sigma)  # x / (1 + sigma) = (1 - t) x0 + t epsilon
    return 1 - t, -t, 1 / (1 + sigma), 4 * t - 2, 1 / t**2


def target(name, clean, epsilon, sigma):
    """What the network of an objective learns to predict."""
    sigma = sigma.view(-1, 1, 1, 1)
    if name == "edm":  # Karras et al. (2022), equation 8: unit variance
        skip = 0.25 / (sigma**2 + 0.25)
        return (clean - skip * (clean + sigma * epsilon)) * (sigma**2 + 0.25).sqrt() / (sigma / 2)
    return {"vp": epsilon, "ve": -epsilon, "flow": epsilon - clean}[name]


class Fixed(nn.Module):
    """A network that answers with given numbers and remembers what it was given."""

    def __init__(self, answer):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=answer.dtype))
        self.answer = answer

    def forward(self, x, c_noise):
        self.given = x.detach(), c_noise.detach()
        return self.scale * self.answer


def pair(count=5, dtype=torch.float64):
    source = torch_generator("test/pairs")
    draw = torch.randn(2, count, 2, 4, 4, generator=source, dtype=torch.float64)
    return draw[0].clamp(-2, 2).to(dtype) / 2, draw[1].to(dtype)


@every
@pytest.mark.parametrize("sigma", SIGMAS)
def test_preconditioning_equals_the_published_table(name, sigma):
    c = OBJECTIVES[name].coefficients(torch.tensor([sigma], dtype=torch.float64))
    weight = OBJECTIVES[name].weight(torch.tensor([sigma], dtype=torch.float64))
    found = [float(v) for v in (c.skip, c.out, c.scale, c.noise, weight)]
    assert np.allclose(found, table(name, sigma), rtol=1e-9, atol=1e-9)


def test_flow_matching_by_change_of_variables():
    """Its denoiser is x_t - t v(x_t, t) at x_t = x / (1 + sigma)."""
    clean, epsilon = pair()
    sigma = 1.7
    velocity = Fixed(torch.randn_like(clean))
    found = denoiser(velocity, "flow")(clean + sigma * epsilon, sigma)
    t = sigma / (1 + sigma)
    path = (1 - t) * clean + t * epsilon
    assert torch.allclose(velocity.given[0], path, atol=1e-12)
    assert torch.allclose(found, path - t * velocity.answer, atol=1e-12)


@every
def test_a_perfect_network_gives_the_clean_image(name):
    clean, epsilon = pair(len(SIGMAS))
    sigma = torch.from_numpy(SIGMAS)
    network = Fixed(target(name, clean, epsilon, sigma))
    found = denoiser(network, name)(clean + sigma.view(-1, 1, 1, 1) * epsilon, sigma)
    assert (found - clean).abs().max() < 1e-11


@every
def test_weighted_loss_is_the_native_loss(name):
    """The weight times |D - x0|^2 is |F - target|^2: noise (vp), velocity (flow), unit (edm)."""
    clean, epsilon = pair(8)
    uniform = torch.linspace(0.05, 0.95, 8, dtype=torch.float64)
    sigma = OBJECTIVES[name].draw(uniform)
    network = Fixed(torch.randn(clean.shape, generator=torch_generator("test/answer"),
                                dtype=torch.float64))
    found = loss(network, name, clean, epsilon, uniform)
    native = (network.answer - target(name, clean, epsilon, sigma)).square().mean((1, 2, 3))
    assert found.shape == (8,) and torch.allclose(found, native, rtol=1e-9, atol=1e-12)
    plain = loss(network, name, clean, epsilon, uniform, weighted=False)
    assert torch.allclose(plain * OBJECTIVES[name].weight(sigma), found, rtol=1e-12)


def test_edm_inputs_and_targets_have_unit_variance():
    source = torch_generator("test/unit")
    clean, epsilon = torch.randn(2, 4000, 1, 4, 4, generator=source, dtype=torch.float64)
    for sigma in (0.01, 0.5, 30.0):
        level = torch.full((4000,), sigma, dtype=torch.float64)
        network = Fixed(torch.zeros_like(clean))
        denoiser(network, "edm")(clean / 2 + sigma * epsilon, level)
        assert abs(network.given[0].var() - 1) < 0.02
        assert abs(target("edm", clean / 2, epsilon, level).var() - 1) < 0.02


def test_noise_levels_of_training():
    uniform = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    levels = {name: o.draw(uniform).numpy() for name, o in OBJECTIVES.items()}
    assert all((np.diff(v) > 0).all() for v in levels.values())
    u = uniform.numpy()
    assert np.allclose(levels["edm"], np.exp(stats.norm(-1.2, 1.2).ppf(u)), rtol=1e-9)
    assert np.allclose(levels["vp"], [vp_sigma(1e-5 + (1 - 1e-5) * t) for t in u], rtol=1e-9)
    assert np.allclose(levels["ve"], stats.loguniform(0.02, 100).ppf(u), rtol=1e-9)
    assert np.allclose(levels["flow"] / (1 + levels["flow"]), u, rtol=1e-9)


@every
def test_float32_is_enough_at_the_ends_of_training(name):
    """Coefficients, levels and weights stay finite and accurate for the extreme uniform draws."""
    ends = torch.tensor([1e-6, 1e-3, 0.999, 1 - 1e-6])
    sigma = OBJECTIVES[name].draw(ends)
    exact = OBJECTIVES[name].draw(ends.double())
    assert torch.isfinite(sigma).all() and (sigma > 0).all()
    assert torch.allclose(sigma[1:3].double(), exact[1:3], rtol=1e-3)
    c = OBJECTIVES[name].coefficients(sigma)
    assert all(torch.isfinite(v).all() for v in (c.skip, c.out, c.scale, c.noise))
    assert torch.isfinite(OBJECTIVES[name].weight(sigma)).all()
    assert c.noise.abs().max() < 5


@every
def test_sigma_as_float_scalar_or_vector_and_dtype(name):
    network = lively()
    x = torch.randn(3, 1, 8, 8, generator=torch_generator("test/x"), dtype=torch.float64)
    call = denoiser(network, name)
    found = [call(x, s) for s in (1.5, torch.tensor(1.5), torch.full((3,), 1.5))]
    assert all(f.dtype == torch.float64 and torch.equal(f, found[0]) for f in found)
    single = call(x.float(), 1.5)
    assert single.dtype == torch.float32 and torch.allclose(single.double(), found[0], atol=1e-5)
    mixed = call(x, torch.tensor([0.1, 1.5, 20.0]))
    assert torch.allclose(mixed[1], found[0][1], atol=1e-6)
    assert not torch.allclose(mixed[0], found[0][0], atol=1e-3)


def test_the_network_runs_in_its_own_precision():
    network = Fixed(torch.zeros(5, 2, 4, 4))
    x, _ = pair()
    assert denoiser(network, "edm")(x, 1.0).dtype == torch.float64
    assert [t.dtype for t in network.given] == [torch.float32] * 2


def test_unknown_objective():
    with pytest.raises(ValueError, match="unknown objective 'ddim'; known: edm, vp, ve, flow"):
        denoiser(Fixed(torch.zeros(1)), "ddim")
