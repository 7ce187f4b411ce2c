"""The ``loop`` engine (one model after another, the reference) and the ``vmap`` engine.

Both take the gradient from autograd.  On a CPU the loop is also the fast way for convolutions,
which gain nothing from being stacked there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.func import functional_call, grad, vmap

from helpers.shadow_parts import Draws, build, initial, loss

ROWS = 1024  # records predicted together


def _adam(recipe, parameters) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=recipe.rate, weight_decay=recipe.weight_decay,
                            fused=True)


def adversarial(network, x, labels, start, epsilon: float, steps: int) -> torch.Tensor:
    """Return points of higher loss within ``epsilon`` of the records ``x`` (PGD, L-infinity).

    ``start`` [b, ...] in [-1, 1) places the first point in the ball.
    """
    moved = x + epsilon * start
    for _ in range(steps):
        moved.requires_grad_(True)
        slope, = torch.autograd.grad(loss(network(moved)[:, 0], labels).sum(), moved)
        moved = moved.detach() + 2.5 * epsilon / steps * slope.sign()
        moved = torch.minimum(torch.maximum(moved, x - epsilon), x + epsilon)
    return moved


def private(network, x, labels, noise, clip: float, spread: float) -> list[torch.Tensor]:
    """Sum of the records' gradients, each clipped to ``clip``, plus ``spread`` times ``noise``.

    ``noise`` [parameters] is in the order of the network's parameters.
    """
    state = {name: value.detach() for name, value in network.named_parameters()}

    def one(state, record, label):
        return loss(functional_call(network, state, (record[None],))[0, 0], label)

    each = vmap(grad(one), (None, 0, 0))(state, x, labels)
    norms = sum(g.flatten(1).square().sum(1) for g in each.values()).sqrt()
    factor = (clip / (norms + 1e-6)).clamp(max=1.0)
    parts = noise.split([value.numel() for value in state.values()])
    return [torch.tensordot(factor, g, 1) + spread * part.view_as(g[0])
            for g, part in zip(each.values(), parts, strict=True)]


def train_loop(recipe, draws: Draws, tick):
    """Train one model; returns as `helpers.shadow_stack.train`."""
    device = draws.pool.device
    network = build(recipe.arch, tuple(draws.pool.shape[1:])).to_empty(device=device)
    network.load_state_dict({name: value[0] for name, value in
                             initial(network, draws.seeds).items()})
    parameters = list(network.parameters())
    count = sum(p.numel() for p in parameters)
    adam, weights, losses = _adam(recipe, parameters), {}, []
    for epoch in range(1, recipe.epochs + 1):
        for rows, labels in draws.epoch():
            x, y = draws.pool.index_select(0, rows[0]), labels[0]
            if recipe.pgd_epsilon:
                start = draws.starts(len(x))[0].to(device)
                x = adversarial(network, x, y, start, recipe.pgd_epsilon, recipe.pgd_steps)
            adam.zero_grad(set_to_none=True)
            value = loss(network(x)[:, 0], y).mean()
            if recipe.dp_noise:
                noise = draws.normals(count)[0].to(device)
                spread = recipe.dp_noise * recipe.dp_clip
                sums = private(network, x, y, noise, recipe.dp_clip, spread)
                for parameter, total in zip(parameters, sums, strict=True):
                    parameter.grad = total / min(recipe.batch, draws.n)
            else:
                value.backward()
            adam.step()
        losses.append(draws.finite(value[None], epoch, recipe).numpy())
        if epoch in recipe.kept:
            weights[epoch] = _kept(draws, recipe, epoch, {
                name: value[None] for name, value in network.state_dict().items()})
    tick()
    return weights, np.stack(losses)


def train_vmap(recipe, draws: Draws, tick):
    """Train the models of ``draws`` together; returns as `helpers.shadow_stack.train`."""
    network = build(recipe.arch, tuple(draws.pool.shape[1:]))
    stacked = {name: value.to(draws.pool.device).requires_grad_(True)
               for name, value in initial(network, draws.seeds).items()}

    def one(state, x, labels):
        value = loss(functional_call(network, state, (x,))[:, 0], labels).mean()
        return value, value

    slopes = vmap(grad(one, has_aux=True))
    adam, weights, losses = _adam(recipe, list(stacked.values())), {}, []
    for epoch in range(1, recipe.epochs + 1):
        for rows, labels in draws.epoch():
            x = draws.pool.index_select(0, rows.view(-1)).view(*rows.shape, *draws.pool.shape[1:])
            found, values = slopes({name: w.detach() for name, w in stacked.items()}, x, labels)
            for name, value in stacked.items():
                value.grad = found[name]
            adam.step()
        losses.append(draws.finite(values, epoch, recipe).numpy())
        if epoch in recipe.kept:
            weights[epoch] = _kept(draws, recipe, epoch, stacked)
        tick()
    return weights, np.stack(losses)


def _kept(draws: Draws, recipe, epoch: int, state) -> dict[str, np.ndarray]:
    draws.finite(sum(v.detach().flatten(1).sum(1) for v in state.values()), epoch, recipe)
    return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}


@torch.no_grad()
def predict(arch: str, weights: dict[str, np.ndarray], x: np.ndarray, device: str) -> np.ndarray:
    """Return logits, float32 [M, len(x)], of one network after another."""
    network = build(arch, x.shape[1:])
    records, count = torch.from_numpy(x).to(device), len(next(iter(weights.values())))
    found = np.empty((count, len(x)), np.float32)
    for member in range(count):
        state = {name: torch.from_numpy(a[member].copy()).to(device)
                 for name, a in weights.items()}
        for start in range(0, len(x), ROWS):
            z = functional_call(network, state, (records[start : start + ROWS],))
            found[member, start : start + ROWS] = z[:, 0].cpu().numpy()
    return found
