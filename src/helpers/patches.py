"""Local-patch posterior: each pixel is denoised from the patch around it alone.

For the pixel at l, the posterior is a softmax over the training images of the squared distance
between the noisy patch and the training patch at the same place (Niedoba et al. 2411.19339; Kamb
and Ganguli 2412.20292):

    D_l(x) = sum_i w_il y_il,   w_.l = softmax_i(-|x - y_i|^2_patch(l) / (2 sigma^2)).

At the border the patch is cropped: only pixels inside the image are compared. Products of a query
with all images over a patch come from column strips: when the patch moves one pixel to the right, a
strip enters and a strip leaves, each one matrix product with C * side terms.
"""

import math
from dataclasses import dataclass

import torch

from .gaussians import flat_images, noise_level

__all__ = ["Patches", "Schedule"]

_DIRECT = 32  # up to so many terms, a patch is one product instead of a moving window
_FLOOR = -80.0  # least logit below the largest; keeps the slow subnormal numbers away
_TILE = 2**17  # query-image pairs in flight at one pixel (0.5 MiB of float32)


@dataclass(frozen=True)
class Schedule:
    """Patch side by noise level, as :meth:`Patches.calibrate` finds it.

    Attributes
    ----------
    sigmas : tuple of float
        Noise levels, each above 0.
    sides : tuple
        Chosen side at each level: an odd int, or "whole" for the whole image.
    tried : tuple
        Sides that were compared.
    errors : tuple of tuple of float
        Mean squared denoising error on held-out images, ``[level][tried side]``.
    """

    sigmas: tuple
    sides: tuple
    tried: tuple = ()
    errors: tuple = ()

    def side(self, sigma):
        """Side at the tabulated level nearest to ``sigma`` in logarithm."""
        gaps = [abs(math.log(s / noise_level(sigma))) for s in self.sigmas]
        return self.sides[gaps.index(min(gaps))]


def _check_side(side, size: int):
    if side == "whole":
        return side
    if isinstance(side, bool) or not isinstance(side, int) or side < 1 or side % 2 == 0:
        raise ValueError(f'side = {side!r}; give an odd int from 1 to {2 * size - 1}, or "whole".')
    return "whole" if side >= 2 * size - 1 else side


class Patches:
    """Local-patch posterior denoiser.

    Parameters
    ----------
    data : torch.Tensor
        Float32 ``[N, C, H, W]``, usually in [-1, 1].
    sizes : int, str or Schedule
        Patch side: an odd int, "whole" (the empirical denoiser), or a schedule over sigma.
    dtype : torch.dtype
        Precision of the products. Float32 serves: its error in a logit, about
        1e-7 |x| |y| / sigma^2 over a patch, matters between patches a few sigma apart only, so the
        error of a pixel stays near 1e-7 |x| |y| / sigma. Float64 takes two to three times as long.

    Raises
    ------
    ValueError
        If the data are not float32 images, or a side is not odd and positive.
    """

    def __init__(self, data: torch.Tensor, sizes, dtype: torch.dtype = torch.float32):
        from .oracles import Empirical

        self._whole = Empirical(data)
        self.shape, self.dtype = tuple(data.shape[1:]), dtype
        size = max(self.shape[1:])
        if not isinstance(sizes, Schedule):
            sizes = Schedule((1.0,), (sizes,))
        self.schedule = Schedule(
            sizes.sigmas,
            tuple(_check_side(s, size) for s in sizes.sides),
            sizes.tried,
            sizes.errors,
        )
        wide = data.detach().double()
        self._mean = wide.mean(dim=0)
        wide = (wide - self._mean).permute(3, 2, 1, 0).contiguous()  # [W, H, C, N]
        self._half = (wide.square().sum(dim=2) / 2).to(dtype)  # [W, H, N]
        self._images = wide.to(dtype)

    @classmethod
    def calibrate(cls, train, held_out, sigmas, sides, seed: int) -> Schedule:
        """Side of least held-out denoising error at each noise level; nothing is trained.

        Parameters
        ----------
        train, held_out : torch.Tensor
            Float32 ``[N, C, H, W]`` and ``[M, C, H, W]``, disjoint.
        sigmas : sequence of float
            Noise levels.
        sides : sequence
            Odd ints or "whole". The first of equally good sides is chosen.
        seed : int
            Seed of the noise, which is the same unit noise at every level and side.

        Returns
        -------
        Schedule
        """
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(held_out.shape, generator=generator).to(held_out.device)
        oracle, sides = cls(train, "whole"), tuple(sides)
        sides = tuple(_check_side(s, max(oracle.shape[1:])) for s in sides)
        if not sides or not len(sigmas) or not len(held_out):
            raise ValueError("calibrate needs a side, a noise level and a held-out image.")
        errors, best = [], []
        for sigma in sigmas:
            noisy = held_out + float(sigma) * noise
            results = [oracle.denoise(noisy, sigma, side) for side in sides]
            row = [float((result - held_out).double().square().mean()) for result in results]
            errors.append(tuple(row))
            best.append(sides[row.index(min(row))])
        return Schedule(tuple(float(s) for s in sigmas), tuple(best), sides, tuple(errors))

    def __call__(self, x: torch.Tensor, sigma) -> torch.Tensor:
        """Posterior mean; ``x`` ``[n, C, H, W]``, ``sigma`` one positive level; dtype of ``x``."""
        return self.denoise(x, sigma, self.schedule.side(sigma))

    def denoise(self, x: torch.Tensor, sigma, side) -> torch.Tensor:
        """As a call, with the patch side given."""
        side = _check_side(side, max(self.shape[1:]))
        if side == "whole":
            return self._whole(x, sigma)
        flat, level = flat_images(x, self.shape), noise_level(sigma)
        wide = flat.reshape(x.shape) - self._mean
        queries = (wide.permute(3, 2, 1, 0) / level**2).to(self.dtype).contiguous()
        out = torch.empty_like(queries)
        tile = max(8, _TILE // self._images.shape[-1])
        step = min(tile, max(1, len(flat)))
        product = torch.empty(step, self._images.shape[-1], dtype=self.dtype, device=flat.device)
        weights = torch.empty_like(product)
        moves = self._moves(side)
        for row in range(self.shape[1]):
            span = slice(max(0, row - side // 2), row + side // 2 + 1)
            strips = self._images[:, span].flatten(1, 2)  # [W, K, N]
            norms = self._window(self._half[:, span].sum(dim=1, dtype=torch.float64), side)
            norms = (norms / -(level**2)).to(self.dtype)
            right = [self._step(strips, strips, norms, w, *move) for w, move in enumerate(moves)]
            for a in range(0, len(flat), step):
                part = queries[:, span, :, a : a + step].flatten(1, 2)  # [W, K, q]
                ones = torch.ones_like(part[:, 0])
                count = part.shape[-1]
                for w, move in enumerate(moves):
                    left = self._step(part, -part, ones, w, True, *move[1:])
                    logits, shares = product[:count], weights[:count]
                    logits.addmm_(left.T, right[w], beta=0 if move[0] else 1)
                    torch.sub(logits, logits.amax(dim=1, keepdim=True), out=shares)
                    total = shares.clamp_min_(_FLOOR).exp_().sum(dim=1)
                    for c in range(self.shape[0]):
                        value = shares @ self._images[w, row, c]
                        out[w, row, c, a : a + step] = value / total
        return (out.permute(3, 2, 1, 0).double() + self._mean).to(x.dtype)

    def _moves(self, side: int):
        """For each column: start afresh?, columns that enter the window, columns that leave it."""
        width, reach = self.shape[2], side // 2
        empty = slice(0, 0)
        if self.shape[0] * side**2 <= _DIRECT:
            return [(True, slice(max(0, w - reach), w + reach + 1), empty) for w in range(width)]
        moves = [(True, slice(0, reach + 1), empty)]
        for w in range(1, width):
            gone = slice(w - reach - 1, w - reach) if w > reach else empty
            moves.append((False, slice(w + reach, w + reach + 1), gone))
        return moves

    @staticmethod
    def _step(entering, leaving, norms, w: int, fresh: bool, add: slice, drop: slice):
        """Factor of the product that moves the window to column ``w``: strips, then the norm."""
        last = norms[w] if fresh else norms[w] - norms[w - 1]
        return torch.cat([entering[add].flatten(0, 1), leaving[drop].flatten(0, 1), last[None]])

    @staticmethod
    def _window(columns: torch.Tensor, side: int) -> torch.Tensor:
        """Sums over the cropped window of columns, ``[W, N]`` to ``[W, N]``."""
        total = torch.cat([torch.zeros_like(columns[:1]), columns.cumsum(dim=0)])
        at = torch.arange(len(columns), device=columns.device)
        end = (at + side // 2 + 1).clamp_max(len(columns))
        return total[end] - total[(at - side // 2).clamp_min(0)]
