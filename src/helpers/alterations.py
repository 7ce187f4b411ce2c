"""Seven small alterations of a picture, as a copy detector meets them."""

from __future__ import annotations

import io

import numpy as np

from helpers.noise import generator

__all__ = ["ALTERATIONS", "alter"]

ALTERATIONS = ("jpeg 30", "noise 0.1", "blur 1", "flip", "crop 0.8", "brightness", "rotate 10")


def alter(images: np.ndarray, name: str, seed: int) -> np.ndarray:
    """Alter every image once.

    Parameters
    ----------
    images : ndarray of uint8, ``[n, H, W, C]``
    name : str
        One of `ALTERATIONS`: JPEG of quality 30; Gaussian noise of deviation .1 (of 1); Gaussian
        blur of 1 pixel; left-right flip; a square of .8 of the side at a random place, resized
        back; brightness shifted within .15 and contrast scaled within 30 %; turned by 10 degrees
        either way.
    seed : int
        Of the stream that draws places, strengths and signs.

    Returns
    -------
    ndarray of uint8, ``[n, H, W, C]``
    """
    random = generator(f"alteration {name}", seed)
    if name not in ALTERATIONS:
        raise ValueError(f"alteration {name!r} is none of {', '.join(ALTERATIONS)}")
    if name == "flip":
        return np.ascontiguousarray(images[:, :, ::-1])
    if name == "noise 0.1":
        return _bytes(images + 25.5 * random.standard_normal(images.shape))
    if name == "blur 1":
        from scipy.ndimage import gaussian_filter

        return _bytes(gaussian_filter(images.astype(float), (0, 1, 1, 0), mode="nearest"))
    if name == "brightness":
        shape = (len(images), 1, 1, 1)
        contrast, shift = random.uniform(0.7, 1.3, shape), random.uniform(-0.15, 0.15, shape)
        mean = images.mean((1, 2, 3), keepdims=True)
        return _bytes((images - mean) * contrast + mean + 255 * shift)
    each = {"jpeg 30": _jpeg, "crop 0.8": _crop, "rotate 10": _rotate}[name]
    return np.stack([each(image, random) for image in images])


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)


def _picture(image: np.ndarray):
    from PIL import Image

    return Image.fromarray(image if image.shape[2] == 3 else image[..., 0])


def _jpeg(image: np.ndarray, _random) -> np.ndarray:
    from PIL import Image

    buffer = io.BytesIO()
    _picture(image).save(buffer, "JPEG", quality=30)
    with Image.open(buffer) as read:
        return np.asarray(read).reshape(image.shape)


def _crop(image: np.ndarray, random) -> np.ndarray:
    from PIL import Image

    side = len(image)
    kept = round(0.8 * side)
    top, left = random.integers(0, side - kept + 1, 2)
    part = _picture(np.ascontiguousarray(image[top:top + kept, left:left + kept]))
    return np.asarray(part.resize((side, side), Image.Resampling.BILINEAR)).reshape(image.shape)


def _rotate(image: np.ndarray, random) -> np.ndarray:
    from scipy.ndimage import rotate

    angle = 10.0 * random.choice((-1, 1))
    return _bytes(rotate(image.astype(float), angle, reshape=False, order=1, mode="nearest"))
