"""Networks by name: size, seeds, a start at zero, and no trace in the global generator."""

import numpy as np
import pytest
import torch
from small import lively, output

from helpers import networks
from helpers.noise import torch_generator
from helpers.objectives import denoiser

torch.set_num_threads(1)
TRAINED = ["unet-20k", "unet-80k", "unet-320k", "dit-400k", "mlp-900k"]
COUNTS = {"unet-20k": 21_931, "unet-80k": 85_957, "unet-320k": 340_297, "dit-400k": 390_596,
          "mlp-900k": 1_062_144}  # counted once, at 1 x 16 x 16


def images(count=3, channels=1, size=8):
    source = torch_generator("test/images", count, channels, size)
    return torch.randn(count, channels, size, size, generator=source)


@pytest.mark.parametrize("name", TRAINED)
def test_parameter_counts_are_near_their_names(name):
    with torch.device("meta"):
        network = networks.build(name, 1, 16)
    count = networks.parameter_count(network)
    nominal = 1000 * int(name.split("-")[1].removesuffix("k"))
    assert count == COUNTS[name]
    assert 0.97 * nominal <= count <= 1.2 * nominal


def test_every_configuration_builds():
    with torch.device("meta"):
        counts = [networks.parameter_count(networks.build(n, 3, 32)) for n in networks.CONFIGS]
    assert min(counts) > 20_000 and counts == sorted(counts[:6]) + counts[6:]


@pytest.mark.parametrize("name", TRAINED)
def test_seeds(name):
    a, b, c = (networks.build(name, 1, 8, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a)
    changed = [k for k in a if not torch.equal(a[k], c[k])]
    assert len(changed) > len(a) / 4  # norms and zeros do not depend on the seed


def test_different_networks_of_one_seed_start_apart():
    a, b = (networks.build(n, 1, 8).body.conv_in.weight.flatten()[:72]
            for n in ("unet-20k", "unet-80k"))
    assert not torch.allclose(a[:40] / a[:40].norm(), b[:40] / b[:40].norm(), atol=0.01)


@pytest.mark.parametrize("name", TRAINED)
def test_the_global_generators_are_left_alone(name):
    torch.manual_seed(5)
    before, other = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first = networks.build(name, 1, 8).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(other, np.random.get_state()[1])
    torch.manual_seed(6)
    second = networks.build(name, 1, 8).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_same_weights_in_another_process():
    code = ("import sys; from helpers import networks\n"
            "w = networks.build('unet-20k', 1, 8, 3).state_dict()\n"
            "print(sum(v.double().abs().sum() for v in w.values()).item())")
    here = networks.build("unet-20k", 1, 8, 3).state_dict()
    assert float(output(code, hash_seed="7")) == sum(
        v.double().abs().sum() for v in here.values()).item()


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("channels, size", [(1, 8), (3, 12)])
def test_starts_at_zero_with_the_shape_of_the_input(name, channels, size):
    network = networks.build(name, channels, size)
    x = images(3, channels, size)
    assert not network.training
    with torch.no_grad():
        assert torch.equal(network(x, torch.tensor([-2.0, 0.0, 2.0])), torch.zeros_like(x))
        assert torch.equal(denoiser(network, "vp")(x, 3.0), x)  # c_skip x


@pytest.mark.parametrize("name", TRAINED)
def test_uses_image_and_noise_level_and_mixes_no_images(name):
    network, x = lively(name), images()
    level = torch.tensor([-1.0, 0.0, 1.5])
    whole = network(x, level)
    assert torch.isfinite(whole).all() and whole.abs().max() > 1e-3
    assert (network(x, level + 0.5) - whole).abs().amax((1, 2, 3)).min() > 1e-6
    assert (network(x + 0.1, level) - whole).abs().amax((1, 2, 3)).min() > 1e-6
    alone = torch.cat([network(x[i : i + 1], level[i : i + 1]) for i in range(3)])
    assert torch.allclose(alone, whole, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_is_used(name):
    network = lively(name).requires_grad_(True)
    network(images(), torch.tensor([-1.0, 0.0, 1.5])).square().sum().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_bad_requests():
    with pytest.raises(ValueError, match=r"unknown network 'unet-9k'; known: unet-20k, .*mlp-900k"):
        networks.build("unet-9k", 1, 8)
    with pytest.raises(ValueError, match="'unet-64' needs a side divisible by 4: 18"):
        networks.build("unet-64", 1, 18)
    with pytest.raises(ValueError, match="'dit-400k' needs a side divisible by 2: 9"):
        networks.build("dit-400k", 1, 9)
    assert networks.build("mlp-900k", 1, 9)(images(1, 1, 9), torch.zeros(1)).shape == (1, 1, 9, 9)
