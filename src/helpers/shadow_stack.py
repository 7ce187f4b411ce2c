"""The ``bmm`` engine: perceptrons stacked over models, a hand-written backward pass, one Adam.

Activations and their gradients are [models, units, batch]: records lie next to each other, which
suits layers of few units.  All weights are one flat vector, layer after layer and each layer's
models one after another, so that Adam is one fused kernel and no batched product copies its
operands.  The loss's gradient at a unit is called its delta.
"""

from __future__ import annotations

import numpy as np
import torch

from helpers.shadow_parts import Draws, build, initial, loss, widths

ALIGN = 16  # floats between which a layer's weights start
ROWS = 1024  # records predicted together
STABLE = 1e-6  # added to a record's gradient norm, as in Opacus


class Batch:
    """Everything that a step on one batch size works in.

    Attributes
    ----------
    rows, labels : Tensor, int32 and float32, shape [M, b]
    x : Tensor, float32, shape [M, b, d]
    outputs, deltas : list of Tensor, float32, shape [M, units, b]
        Of every layer after the input.
    """

    def __init__(self, stack: Stack, b: int):
        def empty(*shape):
            return torch.empty(stack.models, *shape, device=stack.pool.device)

        self.size = b
        self.rows, self.labels = empty(b).int(), empty(b)
        self.x = empty(b, stack.sizes[0])
        self.outputs = [empty(units, b) for units in stack.sizes[1:]]
        self.deltas = [empty(units, b) for units in stack.sizes[1:]]
        self.graph = None
        if stack.recipe.dp_noise:
            self.noise = empty(stack.parameters)
        if stack.recipe.pgd_epsilon:
            self.clean, self.slope = torch.empty_like(self.x), torch.empty_like(self.x)


class Stack:
    """Perceptrons of one shape with their gradients and optimiser.

    Attributes
    ----------
    weights, biases : list of Tensor, float32, shapes [M, in, out] and [M, out]
        Views of ``flat``; ``weight_grads`` and ``bias_grads`` are views of its gradient.
    """

    def __init__(self, recipe, draws: Draws):
        self.recipe, self.draws, self.pool = recipe, draws, draws.pool
        self.models, device = draws.models, draws.pool.device
        self.sizes = widths(recipe.arch, draws.pool.shape[1])
        self.pairs = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        self.parameters = sum(a * b + b for a, b in self.pairs)
        total = sum(_padded(self.models * count) for a, b in self.pairs for count in (a * b, b))
        self.flat = torch.nn.Parameter(torch.zeros(total, device=device))
        self.flat.grad = torch.zeros(total, device=device)
        self.weights, self.biases = self._views(self.flat.data)
        self.weight_grads, self.bias_grads = self._views(self.flat.grad)
        self.names = list((network := build(recipe.arch, (self.sizes[0],))).state_dict())
        values = initial(network, draws.seeds)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            weight.copy_(values[self.names[2 * i]].transpose(1, 2))
            bias.copy_(values[self.names[2 * i + 1]])
        self.adam = torch.optim.Adam([self.flat], lr=recipe.rate, fused=True,
                                     weight_decay=recipe.weight_decay,
                                     capturable=device.type == "cuda")
        self.batches: dict[int, Batch] = {}

    def _views(self, flat):
        weights, biases, first = [], [], 0
        for a, b in self.pairs:
            for shape, views in (((a, b), weights), ((b,), biases)):
                count = self.models * int(np.prod(shape))
                views.append(flat[first : first + count].view(self.models, *shape))
                first += _padded(count)
        return weights, biases

    def state(self) -> dict[str, np.ndarray]:
        """Copy the weights, named and shaped as those of a ``torch.nn.Sequential``."""
        arrays = [a for w, b in zip(self.weights, self.biases, strict=True)
                  for a in (w.transpose(1, 2), b)]
        return {name: a.cpu().contiguous().numpy().copy() for name, a in
                zip(self.names, arrays, strict=True)}

    def forward(self, batch: Batch) -> torch.Tensor:
        """Fill the batch's outputs and return its logits, a view [M, b]."""
        below = batch.x.transpose(1, 2)
        for i, output in enumerate(batch.outputs):
            torch.baddbmm(self.biases[i][:, :, None], self.weights[i].transpose(1, 2), below,
                          out=output)
            below = output if output is batch.outputs[-1] else output.relu_()
        return batch.outputs[-1][:, 0]

    def backward(self, batch: Batch, scale: float = 1.0) -> None:
        """Fill the deltas of ``scale`` times the summed loss, record by record."""
        last = batch.deltas[-1][:, 0]
        torch.sigmoid(batch.outputs[-1][:, 0], out=last)
        last.sub_(batch.labels)
        if scale != 1.0:  # the other deltas are linear in this one
            last.mul_(scale)
        for i in range(len(self.pairs) - 1, 0, -1):
            delta, below, output = batch.deltas[i], batch.deltas[i - 1], batch.outputs[i - 1]
            product = torch.mul if delta.shape[1] == 1 else torch.bmm
            product(self.weights[i], delta, out=below)
            torch.ops.aten.threshold_backward.grad_input(below, output, 0, grad_input=below)

    def gradients(self, batch: Batch) -> None:
        """Fill the gradient with the sum over records, from the outputs and the deltas."""
        below = batch.x.transpose(1, 2)
        for i, delta in enumerate(batch.deltas):
            torch.bmm(below, delta.transpose(1, 2), out=self.weight_grads[i])
            torch.sum(delta, 2, out=self.bias_grads[i])
            below = batch.outputs[i]

    def norms(self, batch: Batch) -> torch.Tensor:
        """Norm of every record's gradient, float32 [M, b], without the gradients themselves.

        A record's gradient in a layer is the outer product of the layer's input a and delta d, so
        its squared norm is ``|a|^2 |d|^2``, and ``|d|^2`` for the biases.
        """
        square, total = batch.x.square().sum(2), 0.0
        for delta, output in zip(batch.deltas, batch.outputs, strict=True):
            total = total + (square + 1) * delta.square().sum(1)
            square = output.square().sum(1)
        return total.sqrt()

    def clipped(self, batch: Batch) -> None:
        """Fill the gradient with the sum of the records' gradients, each clipped to ``dp_clip``."""
        factor = (self.recipe.dp_clip / (self.norms(batch) + STABLE)).clamp_(max=1.0)
        for delta in batch.deltas:
            delta.mul_(factor[:, None])
        self.gradients(batch)

    def attack(self, batch: Batch) -> None:
        """Move ``x`` to points of higher loss within the ball round the records (PGD).

        On entry ``x`` holds the uniform numbers of the start, ``clean`` the records.
        """
        epsilon, steps = self.recipe.pgd_epsilon, self.recipe.pgd_steps
        x = batch.x.mul_(epsilon).add_(batch.clean)
        for _ in range(steps):
            self.forward(batch)
            self.backward(batch)
            torch.bmm(batch.deltas[0].transpose(1, 2), self.weights[0].transpose(1, 2),
                      out=batch.slope)
            x.add_(batch.slope.sign_(), alpha=2.5 * epsilon / steps)
            x.sub_(batch.clean).clamp_(-epsilon, epsilon).add_(batch.clean)

    def _work(self, batch: Batch) -> None:
        """One step; everything in it has a fixed place and size."""
        recipe = self.recipe
        place = batch.clean if recipe.pgd_epsilon else batch.x
        torch.index_select(self.pool, 0, batch.rows.view(-1), out=place.view(-1, self.sizes[0]))
        if recipe.pgd_epsilon:
            self.attack(batch)
        self.forward(batch)
        if recipe.dp_noise:
            self.backward(batch)
            self.clipped(batch)
            self._blur(batch.noise)
            self.flat.grad.mul_(1 / min(recipe.batch, self.draws.n))
        else:
            self.backward(batch, 1 / batch.size)
            self.gradients(batch)
        self.adam.step()

    def _blur(self, noise: torch.Tensor) -> None:
        """Add noise [M, parameters], which is in torch's order, to the gradient."""
        spread, first = self.recipe.dp_noise * self.recipe.dp_clip, 0
        for (a, b), weight, bias in zip(self.pairs, self.weight_grads, self.bias_grads,
                                        strict=True):
            part = noise[:, first : first + a * b].view(-1, b, a)
            weight.add_(part.transpose(1, 2), alpha=spread)
            bias.add_(noise[:, first + a * b : first + a * b + b], alpha=spread)
            first += a * b + b

    def step(self, rows: torch.Tensor, labels: torch.Tensor) -> Batch:
        """Train on one batch (see `Draws.epoch`) and return what it was done in."""
        size = rows.shape[1]
        batch = self.batches.get(size)
        if batch is None:
            batch = self.batches[size] = Batch(self, size)
        cuda = self.pool.device.type == "cuda"
        if cuda:
            batch.rows.copy_(rows)
            batch.labels.copy_(labels)
        else:
            batch.rows, batch.labels = rows, labels
        if self.recipe.dp_noise:
            batch.noise.copy_(self.draws.normals(self.parameters))
        starts = self.draws.starts(size) if self.recipe.pgd_epsilon else None
        if cuda and batch.graph is None:
            self._capture(batch)
        if starts is not None:
            batch.x.copy_(starts)
        if cuda:
            batch.graph.replay()
        else:
            self._work(batch)
        return batch

    def _capture(self, batch: Batch) -> None:
        """Record one step as a CUDA graph; the trial steps leave no trace."""
        held = self.flat.detach().clone()
        adam = self.adam.state.get(self.flat)
        moments = {k: v.clone() for k, v in adam.items()} if adam else None
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                batch.x.zero_()
                self._work(batch)
        torch.cuda.current_stream().wait_stream(stream)
        batch.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(batch.graph):
            self._work(batch)
        self.flat.data.copy_(held)
        for name, value in self.adam.state[self.flat].items():
            value.copy_(moments[name]) if moments else value.zero_()


def _padded(count: int) -> int:
    return -(-count // ALIGN) * ALIGN


@torch.no_grad()
def train(recipe, draws: Draws, tick) -> tuple[dict[int, dict[str, np.ndarray]], np.ndarray]:
    """Train the models of ``draws`` together.

    Returns
    -------
    weights : dict of int to dict of float32 arrays
        By epoch, see `helpers.shadow.Fitted`.
    losses : ndarray, float32, shape [epochs, models]
        Training loss on each epoch's last batch.
    """
    stack, weights, losses = Stack(recipe, draws), {}, []
    for epoch in range(1, recipe.epochs + 1):
        for rows, labels in draws.epoch():
            batch = stack.step(rows, labels)
        values = loss(batch.outputs[-1][:, 0], batch.labels).mean(1)
        losses.append(draws.finite(values, epoch, recipe).numpy())
        if epoch in recipe.kept:
            total = sum(part.flatten(1).sum(1) for part in (*stack.weights, *stack.biases))
            draws.finite(total, epoch, recipe)
            weights[epoch] = stack.state()
        tick()
    return weights, np.stack(losses)


@torch.no_grad()
def predict(arch: str, weights: dict[str, np.ndarray], x: np.ndarray, device: str) -> np.ndarray:
    """Return logits, float32 [M, len(x)], of stacked perceptrons."""
    names = sorted(weights, key=lambda name: (int(name.split(".")[0]), name.endswith("bias")))
    layers = [torch.from_numpy(np.array(weights[name])) for name in names]
    records = torch.from_numpy(x).to(device)
    found = np.empty((len(layers[0]), len(x)), np.float32)
    for first in range(0, len(found), 64):
        some = slice(first, first + 64)
        parts = [layer[some].to(device) for layer in layers]
        for start in range(0, len(x), ROWS):
            h = records[start : start + ROWS].T.expand(len(parts[0]), -1, -1)
            for i in range(0, len(parts), 2):
                h = torch.baddbmm(parts[i + 1][:, :, None], parts[i], h)
                h = h.relu_() if i + 2 < len(parts) else h
            found[some, start : start + ROWS] = h[:, 0].cpu().numpy()
    return found
