"""Denoisers of a Gaussian law and of a Gaussian mixture, both in closed form.

The covariance S of each component is decomposed once, S = U diag(v) U^T, so that a call at any
noise level costs two products with U. All arithmetic is float64. ``import helpers.oracles`` offers
these classes beside the other training-free denoisers.
"""

import math

import torch

__all__ = ["Gaussian", "Mixture", "flat_images", "noise_level"]


def noise_level(sigma, zero: bool = False) -> float:
    """One noise level as a float; ``ValueError`` unless finite and above 0 (or 0, if ``zero``)."""
    value = float(sigma)
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        limit = "of 0 or more" if zero else "above 0"
        raise ValueError(f"sigma = {value}: an oracle needs one finite noise level {limit}.")
    return value


def flat_images(x: torch.Tensor, shape: tuple, what: str = "x") -> torch.Tensor:
    """Images ``[n, *shape]`` as float64 rows ``[n, d]``; ``ValueError`` for any other input."""
    if x.ndim != 4 or tuple(x.shape[1:]) != tuple(shape) or not x.is_floating_point():
        wanted = ", ".join(str(s) for s in shape)
        given = f"{x.dtype} {tuple(x.shape)}"
        raise ValueError(f"{what} is {given}; give floating images [n, {wanted}].")
    flat = x.flatten(1).double()
    if not bool(torch.isfinite(flat).all()):
        raise ValueError(f"{what} holds NaN or infinite values; remove their images.")
    return flat


class Gaussian:
    """Posterior mean under one Gaussian law of images.

    Parameters
    ----------
    mean : torch.Tensor
        ``[C, H, W]``.
    cov : torch.Tensor
        ``[d, d]`` with d = C H W, symmetric and positive semi-definite.

    Raises
    ------
    ValueError
        If shapes disagree, or ``cov`` is not symmetric or has an eigenvalue clearly below 0.

    Notes
    -----
    D(x) = mu + S (S + sigma^2 I)^-1 (x - mu), the Wiener filter; :meth:`map` is the flow of its
    probability-flow equation (Wang et al. 2602.02908).
    """

    def __init__(self, mean: torch.Tensor, cov: torch.Tensor):
        size = mean.numel()
        if mean.ndim != 3 or tuple(cov.shape) != (size, size):
            raise ValueError(
                f"mean {tuple(mean.shape)} and cov {tuple(cov.shape)} disagree; "
                "give [C, H, W] and [d, d]."
            )
        cov = cov.double()
        scale = float(cov.abs().max())
        if not float((cov - cov.T).abs().max()) <= 1e-6 * scale:
            raise ValueError("cov is not symmetric (or not finite); pass (cov + cov.T) / 2.")
        self.shape, self.mean = tuple(mean.shape), mean.double().reshape(-1)
        self.values, self.vectors = torch.linalg.eigh((cov + cov.T) / 2)
        least = float(self.values[0])
        if least < -1e-6 * max(scale, 1e-300):
            raise ValueError(f"cov has the eigenvalue {least:.3g}; it has to be 0 or more.")
        self.values = self.values.clamp_min(0)

    @classmethod
    def fit(cls, data: torch.Tensor, shrinkage: float = 0.0) -> "Gaussian":
        """Mean and covariance (divided by N) of ``data`` ``[N, C, H, W]``.

        ``shrinkage`` in [0, 1] moves the covariance towards the multiple of the identity of the
        same trace.
        """
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage = {shrinkage}; it lies between 0 and 1.")
        if data.ndim != 4 or not len(data):
            raise ValueError(f"data are {tuple(data.shape)}; give images [N, C, H, W].")
        flat = flat_images(data, tuple(data.shape[1:]), "data")
        mean = flat.mean(dim=0)
        flat = flat - mean
        cov = flat.T @ flat / len(flat)
        level = cov.diagonal().mean()
        cov *= 1 - shrinkage
        cov.diagonal().add_(shrinkage * level)
        return cls(mean.reshape(data.shape[1:]), cov)

    def __call__(self, x: torch.Tensor, sigma) -> torch.Tensor:
        """Posterior mean; ``x`` ``[n, C, H, W]``, ``sigma`` one positive level; dtype of ``x``."""
        flat, level = flat_images(x, self.shape), noise_level(sigma)
        return self.posterior(flat, level).to(x.dtype).reshape(x.shape)

    def map(self, x: torch.Tensor, sigma_from, sigma=0.0) -> torch.Tensor:
        """Flow of dx/dsigma = (x - D(x, sigma)) / sigma from ``sigma_from`` to ``sigma``.

        x(s) = mu + (S + s^2 I)^(1/2) (S + s_T^2 I)^(-1/2) (x_T - mu), Wang et al. 2602.02908.
        ``x`` is ``[n, C, H, W]``; the result has its dtype.
        """
        flat, start = flat_images(x, self.shape), noise_level(sigma_from)
        end = noise_level(sigma, zero=True)
        gain = ((self.values + end**2) / (self.values + start**2)).sqrt()
        return self._scale(flat, gain).to(x.dtype).reshape(x.shape)

    def posterior(self, flat: torch.Tensor, sigma: float) -> torch.Tensor:
        """Posterior mean of float64 rows ``[n, d]``."""
        return self._scale(flat, self.values / (self.values + sigma**2))

    def log_density(self, flat: torch.Tensor, sigma: float) -> torch.Tensor:
        """Log density ``[n]`` of N(mu, S + sigma^2 I) at float64 rows ``[n, d]``."""
        total = self.values + sigma**2
        square = (((flat - self.mean) @ self.vectors).square() / total).sum(dim=1)
        return -(square + total.log().sum() + len(total) * math.log(2 * math.pi)) / 2

    def draw(self, unit: torch.Tensor) -> torch.Tensor:
        """Turn standard normal rows ``[n, d]`` into draws of the law."""
        return self.mean + (unit * self.values.sqrt()) @ self.vectors.T

    def _scale(self, flat: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return self.mean + (((flat - self.mean) @ self.vectors) * gain) @ self.vectors.T


class Mixture:
    """Posterior mean under a Gaussian mixture, exact.

    Parameters
    ----------
    weights : torch.Tensor
        ``[K]``, 0 or more, summing to 1.
    means : torch.Tensor
        ``[K, C, H, W]``.
    covariances : torch.Tensor
        ``[K, d, d]``, as in :class:`Gaussian`.

    Raises
    ------
    ValueError
        If shapes disagree, the weights are no distribution, or a covariance is refused.

    Notes
    -----
    D(x) = sum_k r_k(x) D_k(x), where r is the softmax over components of
    log w_k + log N(x; mu_k, S_k + sigma^2 I). Equally D = x + sigma^2 grad log p_sigma (Tweedie).
    """

    def __init__(self, weights: torch.Tensor, means: torch.Tensor, covariances: torch.Tensor):
        if means.ndim != 4 or weights.shape != means.shape[:1] or len(covariances) != len(means):
            raise ValueError(
                f"weights {tuple(weights.shape)}, means {tuple(means.shape)} and covariances "
                f"{tuple(covariances.shape)} disagree; give [K], [K, C, H, W] and [K, d, d]."
            )
        self.weights = weights.double()
        if not (bool((self.weights >= 0).all()) and abs(float(self.weights.sum()) - 1) < 1e-6):
            raise ValueError(f"weights {weights.tolist()}: each 0 or more, and their sum 1.")
        self.shape = tuple(means.shape[1:])
        self.parts = tuple(Gaussian(m, c) for m, c in zip(means, covariances, strict=True))

    @classmethod
    def fit(
        cls, images: torch.Tensor, components: int, seed: int, reg_covar: float = 1e-3
    ) -> "Mixture":
        """Maximum-likelihood fit (scikit-learn, full covariances) to ``images`` ``[N, C, H, W]``.

        ``reg_covar`` is added to each covariance's diagonal, in the squared units of the images.
        """
        from sklearn.mixture import GaussianMixture

        flat = flat_images(images, tuple(images.shape[1:]), "images")
        if not 1 <= components <= len(flat):
            raise ValueError(f"components = {components}; it is 1 to {len(flat)} here.")
        model = GaussianMixture(components, reg_covar=reg_covar, random_state=seed, max_iter=200)
        model.fit(flat.cpu().numpy())
        weights, means, covs = (
            torch.as_tensor(a).to(flat) for a in (model.weights_, model.means_, model.covariances_)
        )
        return cls(weights / weights.sum(), means.reshape(-1, *images.shape[1:]), covs)

    def __call__(self, x: torch.Tensor, sigma) -> torch.Tensor:
        """Posterior mean; ``x`` ``[n, C, H, W]``, ``sigma`` one positive level; dtype of ``x``."""
        flat, level = flat_images(x, self.shape), noise_level(sigma)
        shares = torch.softmax(self._joint(flat, level), dim=1)
        mean = torch.zeros_like(flat)
        for k, part in enumerate(self.parts):
            mean += shares[:, k, None] * part.posterior(flat, level)
        return mean.to(x.dtype).reshape(x.shape)

    def log_density(self, x: torch.Tensor, sigma) -> torch.Tensor:
        """Log density of x0 + sigma * noise at ``x``, float64 ``[n]``; differentiable in ``x``."""
        flat = flat_images(x, self.shape)
        return torch.logsumexp(self._joint(flat, noise_level(sigma, zero=True)), dim=1)

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Draw ``n`` images, float32 ``[n, C, H, W]``, from a generator on any device."""
        device, home = generator.device, self.weights.device
        which = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator)
        size = math.prod(self.shape)
        unit = torch.randn(n, size, dtype=torch.float64, device=device, generator=generator)
        which, unit = which.to(home), unit.to(home)
        out = torch.empty_like(unit)
        for k, part in enumerate(self.parts):
            out[which == k] = part.draw(unit[which == k])
        return out.float().reshape(n, *self.shape)

    def _joint(self, flat: torch.Tensor, sigma: float) -> torch.Tensor:
        logs = torch.stack([part.log_density(flat, sigma) for part in self.parts], dim=1)
        return logs + self.weights.log()
