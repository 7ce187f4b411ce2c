"""Solvers against `diffusers`, against an ODE library, and against a law whose flow is known."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from small import lively

from helpers.gaussians import Gaussian
from helpers.noise import torch_generator
from helpers.objectives import denoiser
from helpers.sampling import SOLVERS, nfe, sample, sample_in_batches, sigma_grid

torch.set_num_threads(1)
STEPS = 12
DETERMINISTIC = ("euler", "heun", "dpmpp2m")
schedulers = pytest.importorskip("diffusers.schedulers")


def epsilon(count=4, channels=1, size=8, seed=0):
    source = torch_generator("test/epsilon", seed)
    return torch.randn(count, channels, size, size, generator=source)


@pytest.fixture(scope="module")
def model():
    """A network with weights that make its denoiser curved, behind EDM's preconditioning."""
    return denoiser(lively(scale=0.2), "edm")


def betas(sigmas):
    """Betas of a discrete chain whose noise levels, smallest first, are the given ones."""
    kept = 1 / (1 + torch.as_tensor(sigmas, dtype=torch.float64) ** 2)
    return (1 - kept / torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])).tolist()


def noise_prediction(model, x, sigma):
    return (x - model(x, sigma)) / sigma


def close(found, wanted):
    assert found.dtype == torch.float64
    assert (found - wanted.double()).abs().max() < 1e-4


# --- against diffusers -----------------------------------------------------------------------
# Its schedulers keep state and noise levels in float32; at 80 that is an error of about 5e-6.
# Where a scheduler cannot be told the levels, the betas of its training chain are chosen so that
# its own public settings give them, and the ends that it really uses are read back from it.


def test_euler_is_euler_discrete(model):
    """`set_timesteps(sigmas=...)` takes our grid as it is."""
    scheduler = schedulers.EulerDiscreteScheduler(prediction_type="epsilon")
    scheduler.set_timesteps(sigmas=sigma_grid(STEPS).tolist())
    scheduler.set_begin_index(0)
    x = 80 * epsilon()
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        scheduler.scale_model_input(x, t)
        x = scheduler.step(noise_prediction(model, x, sigma), t, x).prev_sample
    close(sample(model, epsilon(), "euler", STEPS), x)


def test_euler_is_ddim(model):
    """DDIM lives in the variance-preserving frame, x / sqrt(1 + sigma^2), on its whole chain."""
    grid = sigma_grid(STEPS)
    scheduler = schedulers.DDIMScheduler(
        num_train_timesteps=STEPS, trained_betas=betas(grid[:-1].flip(0)), clip_sample=False,
        set_alpha_to_one=True)
    scheduler.set_timesteps(STEPS)
    x = 80 * epsilon() / math.sqrt(1 + 80**2)
    for t in scheduler.timesteps:
        kept = scheduler.alphas_cumprod[t]
        sigma = ((1 - kept) / kept).sqrt()
        x = scheduler.step(noise_prediction(model, x / kept.sqrt(), sigma), t, x).prev_sample
    close(sample(model, epsilon(), "euler", STEPS), x)


def test_euler_is_edm_euler_with_the_raw_network():
    """Here `diffusers` does the preconditioning as well."""
    network = lively(scale=0.2)
    scheduler = schedulers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7)
    scheduler.set_timesteps(STEPS)
    x = 80 * epsilon()
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(scaled, t.expand(len(x))), t, x).prev_sample
    close(sample(denoiser(network, "edm"), epsilon(), "euler", STEPS), x)


def test_heun_is_heun_discrete(model):
    """It has no argument for the levels: two betas give the ends, Karras spacing the rest."""
    scheduler = schedulers.HeunDiscreteScheduler(
        num_train_timesteps=2, trained_betas=betas([0.02, 80.0]), use_karras_sigmas=True)
    scheduler.set_timesteps(STEPS)
    scheduler.set_begin_index(0)
    ends = {"sigma_min": float(scheduler.sigmas[-2]), "sigma_max": float(scheduler.sigmas[0])}
    x = ends["sigma_max"] * epsilon()
    levels = scheduler.sigmas[:-1]
    for t, sigma in zip(scheduler.timesteps, levels, strict=True):
        scheduler.scale_model_input(x, t)
        x = scheduler.step(noise_prediction(model, x, sigma), t, x).prev_sample
    assert len(levels) == nfe("heun", STEPS)
    close(sample(model, epsilon(), "heun", STEPS, **ends), x)


def test_dpmpp2m_is_dpmsolver_multistep(model):
    """As for Heun; the state is in the variance-preserving frame, predictions are clean images."""
    scheduler = schedulers.DPMSolverMultistepScheduler(
        num_train_timesteps=2, trained_betas=betas([0.02, 80.0]), use_karras_sigmas=True,
        prediction_type="sample", solver_order=2, final_sigmas_type="zero")
    scheduler.set_timesteps(STEPS)
    scheduler.set_begin_index(0)
    ends = {"sigma_min": float(scheduler.sigmas[-2]), "sigma_max": float(scheduler.sigmas[0])}
    x = ends["sigma_max"] * epsilon() / math.sqrt(1 + ends["sigma_max"] ** 2)
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        clean = model(x * (1 + sigma**2).sqrt(), sigma)
        x = scheduler.step(clean, t, x).prev_sample
    close(sample(model, epsilon(), "dpmpp2m", STEPS, **ends), x)


def test_dpmpp2m_is_edm_dpmsolver_with_the_raw_network():
    network = lively(scale=0.2)
    scheduler = schedulers.EDMDPMSolverMultistepScheduler(
        sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0)
    scheduler.set_timesteps(STEPS)
    x = 80 * epsilon()
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(scaled, t.expand(len(x))), t, x).prev_sample
    close(sample(denoiser(network, "edm"), epsilon(), "dpmpp2m", STEPS), x)


def test_ancestral_is_euler_ancestral_with_the_same_noise(model):
    """Its levels are those of its training chain, which is made of our grid."""
    grid = sigma_grid(STEPS, 0.02)
    scheduler = schedulers.EulerAncestralDiscreteScheduler(
        num_train_timesteps=STEPS, trained_betas=betas(grid[:-1].flip(0)))
    scheduler.set_timesteps(STEPS)
    assert torch.allclose(scheduler.sigmas.double(), grid, rtol=1e-3)
    x, source = 80 * epsilon(), torch_generator("test/ancestral")
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        scheduler.scale_model_input(x, t)
        predicted = noise_prediction(model, x, sigma)
        x = scheduler.step(predicted, t, x, generator=source).prev_sample
    source = torch_generator("test/ancestral")
    drawn = [torch.randn(x.shape, generator=source) for _ in range(STEPS)]
    found = sample(model, epsilon(), "ancestral", STEPS, sigma_min=0.02, injected=drawn.__getitem__)
    close(found, x)


# --- against a known flow --------------------------------------------------------------------


@pytest.fixture(scope="module")
def law():
    source = torch_generator("test/law")
    mean, root = torch.randn(4, generator=source), torch.randn(4, 4, generator=source)
    cov = 0.2 * root @ root.T + 0.05 * torch.eye(4)
    return Gaussian(0.3 * mean.view(1, 2, 2), cov)


def test_agrees_with_an_ode_library(law):
    start = 80 * epsilon(1, 1, 2).double()

    def slope(sigma, flat):
        x = torch.from_numpy(flat).view(1, 1, 2, 2)
        return ((x - law(x, float(sigma))) / sigma).view(-1).numpy()

    found = solve_ivp(slope, (80, 0.002), start.view(-1).numpy(), rtol=1e-9, atol=1e-10)
    x = torch.from_numpy(found.y[:, -1]).view(1, 1, 2, 2)
    wanted = law(x, 0.002)  # every solver here ends with an Euler step, which gives D
    assert (law.map(start, 80, 0.002) - x).abs().max() < 1e-6
    limits = {"euler": (1000, 3e-2), "heun": (600, 1e-4), "dpmpp2m": (600, 2e-4)}
    for solver, (steps, limit) in limits.items():
        error = (sample(law, epsilon(1, 1, 2), solver, steps) - wanted).abs().max()
        assert error < limit, (solver, error)


@pytest.mark.parametrize("solver, order", [("euler", 1), ("heun", 2), ("dpmpp2m", 2)])
def test_order_of_convergence(law, solver, order):
    noises = epsilon(16, 1, 2)
    wanted = law(law.map(80 * noises.double(), 80, 0.002), 0.002)
    errors = [(sample(law, noises, solver, s) - wanted).square().mean().sqrt().item()
              for s in (64, 128, 256)]
    for coarse, fine in zip(errors[:-1], errors[1:], strict=True):
        assert abs(math.log2(coarse / fine) - order) < 0.15


def test_ancestral_marginals(law):
    """The law of the samples is Gaussian: its moments follow a recursion, and tend to the truth."""
    noises, source = epsilon(6000, 1, 2), torch_generator("test/marginals")

    def injected(step):
        return torch.randn(noises.shape, generator=source)

    def moments(steps):
        """Mean and variances along the eigenvectors, without sampling."""
        grid = sigma_grid(steps).numpy()
        values, mean = law.values.numpy(), np.zeros(4)
        centre = (law.mean @ law.vectors).numpy()
        variance = np.full(4, 80.0**2)
        for now, then in zip(grid[:-1], grid[1:], strict=True):
            gain, shrink = values / (values + now**2), then**2 / now**2
            step = gain + shrink * (1 - gain)
            mean = step * mean + (1 - shrink) * (1 - gain) * centre
            variance = step**2 * variance + then**2 * (1 - shrink)
        return mean, variance

    found = sample(law, noises, "ancestral", 40, injected=injected).flatten(1) @ law.vectors
    mean, variance = moments(40)
    spread = np.sqrt(variance / len(found))
    assert (np.abs(found.mean(0).numpy() - mean) < 4.5 * spread).all()
    assert np.allclose(found.var(0).numpy(), variance, rtol=4.5 * math.sqrt(2 / len(found)))
    errors = [np.abs(moments(s)[1] / law.values.numpy() - 1).max() for s in (100, 1000, 10000)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2] and errors[2] < 0.01


# --- noise, state, batches -------------------------------------------------------------------


def injection(seed, shape=(4, 1, 8, 8)):
    return lambda step: torch.randn(shape, generator=torch_generator("test/injected", seed, step))


def test_injected_noise_shared_or_independent(model):
    asked = []

    def shared(step):
        asked.append(step)
        return injection(0)(step)

    a, b, c = (sample(model, epsilon(), "ancestral", 6, injected=i)
               for i in (shared, injection(0), injection(1)))
    assert torch.equal(a, b) and asked == list(range(5))
    assert (a - c).abs().mean() > 10 * (a - b).abs().max()


def test_state_is_float64_and_the_denoiser_counts_as_stated():
    for solver in SOLVERS:
        seen = []

        def watched(x, sigma):
            seen.append((x.dtype, float(sigma), torch.is_grad_enabled()))  # noqa: B023
            return x / (1 + float(sigma) ** 2)

        x = sample(watched, epsilon(), solver, 7, injected=injection(0))
        assert x.dtype == torch.float64 and len(seen) == nfe(solver, 7)
        assert {s[0] for s in seen} == {torch.float64} and not any(s[2] for s in seen)
        assert seen[0][1] == 80.0 and seen[-1][1] == pytest.approx(0.002)
    assert [nfe(s, 18) for s in SOLVERS] == [18, 35, 18, 18]


def test_one_step_is_the_denoiser(model):
    wanted = model(80 * epsilon().double(), 80.0)
    for solver in SOLVERS:
        found = sample(model, epsilon(), solver, 1, injected=injection(0))
        assert torch.allclose(found, wanted, atol=1e-12)


def test_sigma_grid():
    grid = sigma_grid(18)
    assert grid.shape == (19,) and grid.dtype == torch.float64 and grid[-1] == 0
    i = np.arange(18)
    wanted = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert np.allclose(grid[:-1], wanted, rtol=1e-13)
    assert (grid[1:] < grid[:-1]).all()
    assert sigma_grid(1).tolist() == pytest.approx([80, 0])
    assert sigma_grid(3, 1, 4, 1).tolist() == pytest.approx([4, 2.5, 1, 0])
    for bad in ((0,), (5, 0.0), (5, -1.0), (5, 2.0, 1.0), (5, 1.0, 1.0)):
        with pytest.raises(ValueError, match="need steps >= 1 and 0 < sigma_min < sigma_max, got"):
            sigma_grid(*bad)


@pytest.mark.parametrize("solver", SOLVERS)
def test_each_image_is_independent_of_how_many_are_asked_for(model, solver):
    noises = epsilon(11)
    options = {"batch": 4, "solver": solver, "steps": 4}

    def run(part):
        own = (lambda step: injection(0, (11, 1, 8, 8))(step)[part]) if solver == "ancestral" \
            else None
        return sample_in_batches(model, noises[part], injected=own, **options)

    whole = run(slice(None))
    assert whole.shape == noises.shape and whole.dtype == torch.float64
    for part in (slice(0, 1), slice(0, 6), slice(4, 9), slice(10, 11)):
        assert torch.equal(run(part), whole[part])
    rest = {"injected": injection(0, (11, 1, 8, 8))} if solver == "ancestral" else {}
    assert torch.allclose(sample(model, noises, solver, 4, **rest), whole, atol=1e-4)


def test_graph_is_ignored_on_the_cpu(model):
    a, b = (sample(model, epsilon(), "heun", 3, graph=g) for g in (False, True))
    assert torch.equal(a, b)


def test_bad_requests(model):
    with pytest.raises(ValueError, match="unknown solver 'rk4'; known: euler, heun, dpmpp2m, anc"):
        sample(model, epsilon(), "rk4")
    with pytest.raises(ValueError, match="unknown solver"):
        nfe("rk4", 3)
    with pytest.raises(ValueError, match="'ancestral' needs injected=: a callable step -> noise"):
        sample(model, epsilon(), "ancestral")
