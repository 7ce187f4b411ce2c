"""The local-patch denoiser against its definition and the empirical denoiser."""

import numpy as np
import pytest
import torch

from helpers.oracles import Empirical, Patches, Schedule

torch.set_num_threads(1)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(count, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator) * 2 - 1


def nested_loops(data, x, sigma, side):
    """The definition, pixel by pixel."""
    data, out, reach = data.double(), torch.empty_like(x, dtype=torch.float64), side // 2
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            rows = slice(max(0, i - reach), i + reach + 1)
            columns = slice(max(0, j - reach), j + reach + 1)
            patches = data[:, :, rows, columns]
            for n in range(len(x)):
                square = (x[n, :, rows, columns].double() - patches).square().sum(dim=(1, 2, 3))
                weights = torch.softmax(-square / (2 * sigma**2), dim=0)
                out[n, :, i, j] = (weights[:, None] * data[:, :, i, j]).sum(dim=0)
    return out


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 8)])
@pytest.mark.parametrize("side", [1, 3, 5, 7, 9, 13])
def test_patches_equal_nested_loops(shape, side):
    data = uniform(60, shape)
    for sigma in (0.01, 0.1, 0.5, 3.0, 80.0):
        x = data[:4].double() + sigma * draw(4, *shape, seed=4)
        truth = nested_loops(data, x, sigma, side)
        assert (Patches(data, side)(x, sigma) - truth).abs().max() < 1e-4
        exact = Patches(data, side, dtype=torch.float64)(x, sigma)
        assert (exact - truth).abs().max() < 1e-9


def test_patches_as_wide_as_the_image_are_the_empirical_denoiser():
    data = uniform(80, (1, 8, 8))
    x = data[:5].double() + 0.8 * draw(5, 1, 8, 8)
    whole = Empirical(data)(x, 0.8)
    assert torch.equal(Patches(data, "whole")(x, 0.8), whole)
    assert torch.equal(Patches(data, 15)(x, 0.8), whole)
    assert (nested_loops(data, x, 0.8, 15) - whole).abs().max() < 1e-5


def test_patches_tiles_do_not_matter_and_runs_repeat(monkeypatch):
    data = uniform(90, (1, 8, 8))
    x = data[:30] + 0.3 * draw(30, 1, 8, 8).float()
    whole = Patches(data, 5)(x, 0.3)
    assert torch.equal(whole, Patches(data, 5)(x, 0.3))
    monkeypatch.setattr("helpers.patches._TILE", 1)
    assert (Patches(data, 5)(x, 0.3) - whole).abs().max() < 1e-5


def test_patches_calibration():
    """Independent pixels are best denoised alone; images equal but for a scale, as a whole."""
    schedule = Patches.calibrate(
        uniform(300, (1, 8, 8)), uniform(40, (1, 8, 8), 1), [0.1, 0.5], [1, 3, "whole"], 0
    )
    assert schedule.sides == (1, 1) and np.shape(schedule.errors) == (2, 3)
    again = Patches.calibrate(
        uniform(300, (1, 8, 8)), uniform(40, (1, 8, 8), 1), [0.1, 0.5], [1, 3, "whole"], 0
    )
    assert schedule == again
    scales = uniform(300, (1, 1, 1)) * torch.ones(1, 8, 8)
    rigid = Patches.calibrate(scales[:200], scales[200:240], [0.5], [1, 3, "whole"], 0)
    assert rigid.sides == ("whole",)
    table = Schedule((0.1, 1.0), (3, "whole"))
    assert table.side(0.2) == 3 and table.side(torch.tensor(50.0)) == "whole"
    x = scales[:3] + 0.1
    assert torch.equal(Patches(scales[:200], table)(x, 0.1), Patches(scales[:200], 3)(x, 0.1))
