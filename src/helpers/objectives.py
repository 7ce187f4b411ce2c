"""Training objectives as preconditionings of one denoiser ``D(x, sigma)``.

Every objective is written in the variance-exploding frame of Karras et al. (2022, section 5):
``x = x0 + sigma * epsilon``.  A network ``F`` becomes a denoiser through

    D(x, sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma)),

so models trained with different objectives start from the same ``epsilon`` and run through the same
solver.  Only how ``F`` is scaled, which noise levels are drawn and how they are weighted differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch

__all__ = ["OBJECTIVES", "Coefficients", "Objective", "denoiser", "loss", "objective"]

SIGMA_DATA = 0.5
BETA_MIN, BETA_RANGE = 0.1, 19.9  # Song et al. (2021), linear schedule
VE_RANGE = (0.02, 100.0)  # Song et al. (2021), variance exploding


@dataclass(frozen=True)
class Coefficients:
    """``c_skip``, ``c_out``, ``c_in`` and ``c_noise`` at the given noise levels."""

    skip: torch.Tensor
    out: torch.Tensor
    scale: torch.Tensor
    noise: torch.Tensor


@dataclass(frozen=True)
class Objective:
    """A training objective.

    Attributes
    ----------
    name : str
    coefficients : callable
        ``sigma [n] -> Coefficients``.
    draw : callable
        ``uniform [n] in (0, 1) -> sigma [n]``: the noise levels of training, by inverse transform.
    weight : callable
        ``sigma [n] -> lambda(sigma) [n]``, the weight of ``|D - x0|^2``.
    """

    name: str
    coefficients: Callable[[torch.Tensor], Coefficients]
    draw: Callable[[torch.Tensor], torch.Tensor]
    weight: Callable[[torch.Tensor], torch.Tensor]


def _edm(sigma):
    total = (sigma**2 + SIGMA_DATA**2).sqrt()
    return Coefficients(
        SIGMA_DATA**2 / total**2, sigma * SIGMA_DATA / total, 1 / total, sigma.log() / 4
    )


def _edm_draw(uniform):
    return (1.2 * torch.special.ndtri(uniform) - 1.2).exp()


def _edm_weight(sigma):
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2


def _vp_sigma(t):
    return (0.5 * BETA_RANGE * t**2 + BETA_MIN * t).expm1().sqrt()


def _vp_time(sigma):
    return ((BETA_MIN**2 + 2 * BETA_RANGE * (1 + sigma**2).log()).sqrt() - BETA_MIN) / BETA_RANGE


def _vp(sigma):
    return Coefficients(
        torch.ones_like(sigma), -sigma, 1 / (1 + sigma**2).sqrt(), 4 * _vp_time(sigma) - 2
    )


def _ve(sigma):
    return Coefficients(
        torch.ones_like(sigma), sigma, torch.ones_like(sigma), (sigma / 2).log() / 2
    )


def _ve_draw(uniform):
    low, high = VE_RANGE
    return (log(low) + uniform * (log(high) - log(low))).exp()


def _flow(sigma):
    # x_t = (1 - t) x0 + t epsilon with t = sigma / (1 + sigma); F predicts epsilon - x0.
    t = sigma / (1 + sigma)
    return Coefficients(1 - t, -t, 1 - t, 4 * t - 2)


def _flow_draw(uniform):
    return uniform / (1 - uniform)


OBJECTIVES = {
    "edm": Objective("edm", _edm, _edm_draw, _edm_weight),
    "vp": Objective(
        "vp", _vp, lambda u: _vp_sigma(1e-5 + (1 - 1e-5) * u), lambda s: 1 / s**2
    ),
    "ve": Objective("ve", _ve, _ve_draw, lambda s: 1 / s**2),
    "flow": Objective("flow", _flow, _flow_draw, lambda s: ((1 + s) / s) ** 2),
}


def objective(name: str) -> Objective:
    """Look an objective up by name: ``edm``, ``vp``, ``ve`` or ``flow``.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def denoiser(network, name: str):
    """Wrap a network as ``D(x, sigma) -> x0``.

    Parameters
    ----------
    network : callable
        ``F(x [n, C, H, W], c_noise [n]) -> [n, C, H, W]`` in the network's own precision.
    name : str
        The objective it was trained with.

    Returns
    -------
    callable
        ``D(x, sigma)``: ``x`` float tensor [n, C, H, W]; ``sigma`` a float, a 0-d or an [n] tensor.
        The result has the dtype of ``x``; only the network runs in its own precision.
    """
    parts = objective(name).coefficients
    dtype = next(network.parameters()).dtype

    def call(x, sigma):
        if torch.is_tensor(sigma) and sigma.device == x.device:
            level = sigma.to(x.dtype).expand(len(x))
        else:  # filled on the device: a copy from the host cannot be captured in a CUDA graph
            level = torch.full((len(x),), float(sigma), dtype=x.dtype, device=x.device)
        c = parts(level)
        skip, out, scale = (v.view(-1, 1, 1, 1) for v in (c.skip, c.out, c.scale))
        return skip * x + out * network((scale * x).to(dtype), c.noise.to(dtype)).to(x.dtype)

    return call


def loss(network, name: str, clean, epsilon, uniform, *, weighted: bool = True):
    """Weighted denoising loss of each image, averaged over pixels.

    Parameters
    ----------
    network : callable
        See :func:`denoiser`.
    name : str
        Objective.
    clean, epsilon : Tensor [n, C, H, W]
        Images in [-1, 1] and standard normal noise.
    uniform : Tensor [n]
        Uniform draws that choose the noise level.
    weighted : bool
        Apply the objective's weight; without it the plain ``|D - x0|^2``.

    Returns
    -------
    Tensor [n]

    Notes
    -----
    With ``lambda = 1 / c_out^2`` this is exactly noise prediction for ``vp`` (Ho et al., 2020,
    eq. 14), velocity prediction for ``flow`` (Lipman et al., 2023) and the unit-variance target of
    EDM (Karras et al., 2022, table 1).
    """
    chosen = objective(name)
    sigma = chosen.draw(uniform)
    error = denoiser(network, name)(clean + sigma.view(-1, 1, 1, 1) * epsilon, sigma) - clean
    value = error.square().mean((1, 2, 3))
    return chosen.weight(sigma) * value if weighted else value
