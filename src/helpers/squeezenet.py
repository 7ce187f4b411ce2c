"""Networks that describe images: SqueezeNet v1.1's seven taps, and a TorchScript file.

Both run in batches of one fixed size, padded with zeros, so that a result does not depend on
how many images are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from helpers.images import DataError

BATCH, SIDE, SCRIPTED_BATCH = 64, 48, 8
CAFFE_MEAN_BGR = (104.00699, 116.66877, 122.67892)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _batches(images: np.ndarray, size: int, batch: int, run: Callable) -> np.ndarray:
    """Resize to ``[batch, 3, size, size]`` in [0, 1], run, keep the rows that are real."""
    rows = []
    for first in range(0, len(images), batch):
        part = images[first:first + batch]
        padded = np.zeros((batch, *images.shape[1:]), np.float32)
        padded[:len(part)] = part
        x = torch.from_numpy(padded).permute(0, 3, 1, 2).expand(-1, 3, -1, -1) / 255.0
        x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False,
                          antialias=images.shape[1] > size)
        with torch.inference_mode():
            rows.append(run(x)[:len(part)].float().numpy())
    return np.concatenate(rows) if rows else run(torch.zeros(1, 3, size, size))[:0].numpy()


class Taps:
    """SqueezeNet v1.1 (Iandola et al. 2016, arXiv:1602.07360), read at seven depths.

    The taps are LPIPS's (Zhang et al. 2018): the first convolution, then after fire modules 3,
    5, 6, 7, 8 and 9. Each map is scaled to length 1 over its channels at every place, averaged
    over places and scaled to length 1 again; the seven are concatenated to 2,240 numbers.

    Parameters
    ----------
    weights : mapping of str to ndarray of float32
        ``layer.weight`` [out, in, h, w] and ``layer.bias`` [out]; inputs in BGR, 0 to 255.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._weights = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
        self._mean = torch.tensor(CAFFE_MEAN_BGR).view(1, 3, 1, 1)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 ``[n, H, W, C]`` (C = 1 is repeated to 3) to float32 ``[n, 2240]``."""
        return _batches(images, SIDE, BATCH, self._describe)

    def _describe(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.maps(x)
        pooled = (F.normalize(F.normalize(m, dim=1).mean((2, 3)), dim=1) for m in maps)
        return torch.cat(list(pooled), dim=1)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Seven maps of RGB images ``[n, 3, H, W]`` in [0, 1]."""
        x = self._layer(x.flip(1) * 255.0 - self._mean, "conv1", stride=2)
        found = [x]
        for first, second in ((2, 3), (4, 5)):
            x = self._fire(self._fire(self._pool(x), first), second)
            found.append(x)
        x = self._pool(x)
        for number in (6, 7, 8, 9):
            x = self._fire(x, number)
            found.append(x)
        return found

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The 1,000 ImageNet scores, to check the weights: ``[n, 1000]``."""
        return self._layer(self.maps(x)[-1], "conv10").mean((2, 3))

    def _layer(self, x: torch.Tensor, name: str, **options) -> torch.Tensor:
        weights = self._weights
        return F.relu(F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options))

    def _fire(self, x: torch.Tensor, number: int) -> torch.Tensor:
        squeezed = self._layer(x, f"fire{number}.squeeze1x1")
        return torch.cat([self._layer(squeezed, f"fire{number}.expand1x1"),
                          self._layer(squeezed, f"fire{number}.expand3x3", padding=1)], dim=1)

    @staticmethod
    def _pool(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)


def scripted(file: Path, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Open a TorchScript descriptor: images ``[n, H, W, C]`` to float32 ``[n, d]``.

    Images are resized to `size` (bilinear) and normalised with ImageNet's mean and deviation.
    """
    try:
        model = torch.jit.load(str(file), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file}: not a TorchScript file ({reason})") from error
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    deviation = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return lambda images: _batches(images, size, SCRIPTED_BATCH,
                                   lambda x: model((x - mean) / deviation))
