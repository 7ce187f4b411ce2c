"""Training-free denoisers; here the empirical law, with the others re-exported.

Every oracle is an object ``denoiser(x, sigma) -> x0``: the posterior mean of a clean image x0 given
x = x0 + sigma * noise, for one law of x0. ``x`` is ``[n, C, H, W]`` of any floating dtype on the
device of the oracle and the result has its dtype; ``sigma`` is one positive number.

Precision of :class:`Empirical`. Logits are -|x - y_i|^2 / (2 sigma^2). Products in float32 carry an
error e_i that grows as |x| |y| / sigma^2, so they serve large sigma only. If ``R`` is the largest
range of a pixel over the data, then to first order (Cauchy-Schwarz, Popoviciu)

    |D' - D| = |cov_w(e, y)| <= rms_w(e) R / 2.

That root mean square is measured in each call, against float64 products, on the four nearest and
some fixed training images, so reduced-precision matrix units are noticed. For any single logit,
rounding errors taken as independent and centred (Higham and Mary 2019) give, in any order of the n
terms of a block, |e_i| <= 6 sqrt(2 n) 2^-24 |x| |y| / sigma^2 but for a chance of 4e-8 (Hoeffding;
partial sums by Cauchy-Schwarz); ten times the measured value is added. A query takes one of three
ways:

* *short*: all i whose float32 logit is within T of the largest are measured again in float64. With
  |e_i| <= d, the rest weighs at most N exp(2 d - T) of the whole; T makes that the stated mass.
* *plain*: the float32 products, when the bound above is below the tolerance.
* *double*: products in float64, when there are too many candidates and the bound fails.

The same three ways serve the posterior entropy and the nearest training image.
"""

import math

import torch

from .gaussians import Gaussian, Mixture, flat_images, noise_level
from .patches import Patches, Schedule

__all__ = ["Empirical", "Gaussian", "Mixture", "Patches", "Schedule"]

_BLOCK = 1024  # terms of a product summed in float32 before the sum goes on in float64
_PROBES = 32  # training images on which the error of float32 products is measured
_TYPICAL = 4.0  # safety factor on the measured rms error
_LOGITS = 2**23  # float64 logits held at once (64 MiB)
_SCRATCH = 2**20  # float64 values of a scratch array (8 MiB)


class Empirical:
    """Posterior mean under the empirical law of the training images (softmax over images).

    Parameters
    ----------
    data : torch.Tensor
        Float32 ``[N, C, H, W]``, usually in [-1, 1]. Kept by reference; a centred copy is added.
    chunk : int
        Training images per matrix product. Memory besides the two copies of the data is bounded by
        64 MiB of logits, the chunk and a scratch array, whatever the number of queries.
    shortlist : int
        Most candidates per query that are measured again in float64.
    tolerance : float
        Bound on the error per pixel against float64 direct distances.

    Raises
    ------
    ValueError
        If the data are empty, not float32 ``[N, C, H, W]`` or not finite.

    Notes
    -----
    Theorem 1 of Zhang et al. 2310.05264: D(x) = sum_i w_i y_i with the weights
    w = softmax_i(-|x - y_i|^2 / (2 sigma^2)).
    """

    def __init__(self, data, *, chunk: int = 8192, shortlist: int = 256, tolerance: float = 1e-5):
        if data.ndim != 4 or data.dtype != torch.float32 or not data.numel():
            raise ValueError(f"data: {data.dtype} {tuple(data.shape)}; give float32 [N, C, H, W].")
        if chunk < 1 or shortlist < 1 or not tolerance > 0:
            given = f"chunk = {chunk}, shortlist = {shortlist}, tolerance = {tolerance}"
            raise ValueError(f"{given}: each has to be above 0.")
        self.shape, self.chunk, self.shortlist = tuple(data.shape[1:]), chunk, shortlist
        self.data = data.detach().reshape(len(data), -1).contiguous()
        low, high = self.data.aminmax(dim=0)
        if not bool(torch.isfinite(low + high).all()):
            raise ValueError("data hold values that are not finite; remove those images first.")
        self.tolerance = tolerance
        self._spread = max(float((high - low).max()), 1e-30)
        rows = max(1, _SCRATCH // self.data.shape[1])
        total = sum(part.double().sum(dim=0) for part in self.data.split(rows))
        self._mean = (total / len(data)).float()
        self._centred = self.data - self._mean
        self._half = torch.empty(len(data), dtype=torch.float64, device=data.device)
        for part, wide in self._wide():
            self._half[part] = wide.square().sum(dim=1) / 2
        self._reach = max(float((2 * self._half.max()).sqrt()), 1e-30)
        rows = torch.linspace(0, len(data) - 1, min(_PROBES, len(data)), device=data.device).long()
        self._probe = rows.unique()
        self._probes = self.data[self._probe].double() - self._mean

    def __call__(self, x: torch.Tensor, sigma) -> torch.Tensor:
        """Posterior mean; ``x`` ``[n, C, H, W]``, ``sigma`` one positive level; dtype of ``x``."""
        flat, level = flat_images(x, self.shape), noise_level(sigma)
        out = torch.empty_like(flat)
        for part in self._queries(len(flat)):
            out[part] = self._solve(flat[part], level)[0]
        return out.to(x.dtype).reshape(x.shape)

    def entropy(self, x: torch.Tensor, sigma) -> torch.Tensor:
        """Entropy of the posterior over training images in nats, float64 ``[n]``."""
        flat, level = flat_images(x, self.shape), noise_level(sigma)
        parts = [self._solve(flat[part], level)[1] for part in self._queries(len(flat))]
        return torch.cat(parts) if parts else flat.new_zeros(0)

    def nearest(self, x: torch.Tensor, sigma=None) -> torch.Tensor:
        """Index of the nearest training image, int64 ``[n]``; the lowest index among equals.

        It is the mode of the posterior at every ``sigma``, which is accepted and not used.
        """
        flat = flat_images(x, self.shape)
        out = torch.empty(len(flat), dtype=torch.long, device=flat.device)
        for part in self._queries(len(flat)):
            block = flat[part]
            logits, error = self._products(block, 1.0)
            slack = self._worst(block, error, 1.0)
            keep = logits >= (logits.amax(dim=1) - 2 * slack)[:, None]
            short = keep.sum(dim=1) <= self.shortlist
            index = torch.empty(len(block), dtype=torch.long, device=flat.device)
            if bool(short.any()):
                exact, columns = self._measure(block[short], keep[short], 1.0)
                best = exact.argmax(dim=1, keepdim=True)
                index[short] = columns.gather(1, best)[:, 0]
            if not bool(short.all()):
                index[~short] = self._double(block[~short], 1.0).argmax(dim=1)
            out[part] = index
        return out

    def _queries(self, count: int):
        step = max(1, min(_LOGITS // len(self.data), 4 * _SCRATCH // self.data.shape[1]))
        return [slice(a, min(a + step, count)) for a in range(0, count, step)]

    def _wide(self):
        """Float64 training images minus the mean, a few at a time, in one reused scratch array."""
        rows = max(1, min(len(self.data), _SCRATCH // self.data.shape[1]))
        scratch = self._half.new_empty(rows, self.data.shape[1])
        for a in range(0, len(self.data), rows):
            part = slice(a, min(a + rows, len(self.data)))
            wide = scratch[: part.stop - a]
            yield part, wide.copy_(self.data[part]).sub_(self._mean)

    def _products(self, flat: torch.Tensor, sigma: float):
        """Logits ``[q, N]`` (up to a constant per query) from float32 products; their rms error."""
        exact = flat - self._mean
        centred = exact.float()
        logits = torch.zeros(len(flat), len(self.data), dtype=torch.float64, device=flat.device)
        for a in range(0, len(self.data), self.chunk):
            view, rows = logits[:, a : a + self.chunk], self._centred[a : a + self.chunk]
            for k in range(0, flat.shape[1], _BLOCK):
                view += centred[:, k : k + _BLOCK] @ rows[:, k : k + _BLOCK].T
        error = logits[:, self._probe] - exact @ self._probes.T
        error = error.square_() / (2 * self._half[self._probe]).clamp_min(1e-60)
        error = error.mean(dim=1).sqrt() * self._reach
        error = torch.maximum(error, exact.norm(dim=1) * (self._reach * 2.0**-28))
        return logits.sub_(self._half).div_(sigma**2), error / sigma**2

    def _worst(self, flat: torch.Tensor, error: torch.Tensor, sigma: float) -> torch.Tensor:
        """Bound on the error of any float32 logit of a query, ``[q]`` (see the module's notes)."""
        terms = min(flat.shape[1], _BLOCK)
        size = (flat - self._mean).norm(dim=1) * self._reach
        return 10 * error + 6 * math.sqrt(2 * terms) * 2.0**-24 * size / sigma**2

    def _near(self, flat: torch.Tensor, logits: torch.Tensor, sigma: float) -> torch.Tensor:
        """Root mean square error of the float32 logits of the four nearest images, ``[q]``."""
        values, index = logits.topk(min(4, len(self.data)), dim=1)
        exact, square = flat - self._mean, torch.zeros_like(values[:, 0])
        for rank in range(index.shape[1]):
            images = self.data[index[:, rank]].double().sub_(self._mean)
            truth = (images.mul_(exact).sum(dim=1) - self._half[index[:, rank]]) / sigma**2
            square += (values[:, rank] - truth).square() / index.shape[1]
        return square.sqrt()

    def _double(self, flat: torch.Tensor, sigma: float) -> torch.Tensor:
        """Logits ``[q, N]`` from float64 products."""
        exact = flat - self._mean
        logits = torch.empty(len(flat), len(self.data), dtype=torch.float64, device=flat.device)
        for part, wide in self._wide():
            logits[:, part] = exact @ wide.T
        return logits.sub_(self._half).div_(sigma**2)

    def _solve(self, flat: torch.Tensor, sigma: float):
        """Posterior mean ``[q, d]`` and entropy ``[q]`` of one block of queries, float64."""
        logits, error = self._products(flat, sigma)
        mass = self.tolerance / (100 * self._spread)
        width = 2 * self._worst(flat, error, sigma) + math.log(len(self.data) / mass)
        keep = logits >= (logits.amax(dim=1) - width)[:, None]
        count = keep.sum(dim=1)
        many = count > 16
        if bool(many.any()):
            near = self._near(flat[many], logits[many], sigma)
            error[many] = torch.maximum(error[many], near)
        plain = _TYPICAL * error * self._spread / 2 <= 0.8 * self.tolerance
        short = ~many | (~plain & (count <= self.shortlist))
        if bool(short.all()):
            return self._few(flat, keep, sigma)
        mean, entropy = torch.empty_like(flat), torch.empty_like(error)
        if bool(short.any()):
            mean[short], entropy[short] = self._few(flat[short], keep[short], sigma)
        double = ~short & ~plain
        if bool(double.any()):
            logits[double] = self._double(flat[double], sigma)
        every = ~short
        mean[every], entropy[every] = self._all(logits if bool(every.all()) else logits[every])
        return mean, entropy

    def _all(self, logits: torch.Tensor):
        """Softmax over all images; float32 is enough after the largest logit is taken off."""
        logits -= logits.amax(dim=1, keepdim=True)
        weights = logits.float().exp_()
        total = weights.sum(dim=1, dtype=torch.float64)
        entropy = total.log() - (weights * logits).sum(dim=1) / total
        mean = logits.new_zeros(len(logits), self.data.shape[1])
        if torch.get_float32_matmul_precision() == "highest":
            for a in range(0, len(self.data), min(self.chunk, 4096)):
                part = slice(a, a + min(self.chunk, 4096))
                mean += weights[:, part] @ self._centred[part]
        else:
            for part, wide in self._wide():
                mean += weights[:, part].double() @ wide
        return mean / total[:, None] + self._mean, entropy

    def _few(self, flat: torch.Tensor, keep: torch.Tensor, sigma: float):
        """Softmax over the candidates in ``keep`` alone, all in float64."""
        exact, columns = self._measure(flat, keep, sigma)
        exact -= exact.amax(dim=1, keepdim=True)
        weights = exact.exp()
        total = weights.sum(dim=1)
        entropy = total.log() - (weights * exact.clamp_min(-1e4)).sum(dim=1) / total
        weights = weights / total[:, None]
        mean = torch.zeros_like(flat)
        for rows, ranks in self._ranks(keep):
            images = self.data[columns[rows, ranks]].double()
            mean[rows] += torch.bmm(weights[rows, ranks][:, None], images)[:, 0]
        return mean, entropy

    def _measure(self, flat: torch.Tensor, keep: torch.Tensor, sigma: float):
        """Float64 logits of the candidates ``[q, k]``, padded with -inf, and their indices."""
        row, column = keep.nonzero(as_tuple=True)
        count = keep.sum(dim=1)
        rank = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
        columns = torch.zeros(len(flat), int(count.max()), dtype=torch.long, device=flat.device)
        columns[row, rank] = column
        exact = torch.full(columns.shape, -math.inf, dtype=torch.float64, device=flat.device)
        for rows, ranks in self._ranks(keep):
            images = self.data[columns[rows, ranks]].double()
            square = (flat[rows][:, None] - images).square_().sum(dim=2)
            exact[rows, ranks] = square / (-2 * sigma**2)
        used = torch.arange(columns.shape[1], device=flat.device) < count[:, None]
        return exact.masked_fill_(~used, -math.inf), columns

    def _ranks(self, keep: torch.Tensor):
        """Blocks (queries, ranks) of the padded candidates, small enough for the scratch array."""
        count = keep.sum(dim=1)
        start, stop = 0, int(count.max())
        while start < stop:
            rows = (count > start).nonzero()[:, 0]
            step = max(1, _SCRATCH // (len(rows) * self.data.shape[1]))
            step = min(step, stop - start, max(1, start))
            yield rows, slice(start, start + step)
            start += step
