"""Terms that keep latents from collapsing to a constant, which would be the easiest to predict."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

KNOTS = 17  # of the trapezoid from 0 to
LAST_KNOT = 3.0  # the largest frequency


def sigreg(latent: Tensor, directions: Tensor, mask: Tensor) -> Tensor:
    """Return the distance of samples to an isotropic Gaussian (SIGReg, LeJEPA, arXiv 2511.08544).

    n times the Epps-Pulley statistic of the samples' projections, averaged over unit directions: the weighted
    squared difference of the empirical characteristic function and that of N(0, 1). Gaussian samples have an
    expectation of about 1.05 whatever n; the statistic of others grows with n.

    Args:
        latent: [..., N, E], N samples.
        directions: [E, M], of length 1.
        mask: [..., N] bool, the samples that count.

    Returns:
        The statistic [...]; 0 without a sample.
    """
    knots = torch.linspace(0, LAST_KNOT, KNOTS, device=latent.device)
    normal = torch.exp(-knots.square() / 2)
    steps = torch.full_like(knots, LAST_KNOT / (KNOTS - 1))
    steps[[0, -1]] /= 2
    counts = mask.sum(-1)
    part = (mask / counts.clamp(min=1).unsqueeze(-1)).to(latent.dtype).unsqueeze(-2)  # [..., 1, N]
    angles = ((latent @ directions).unsqueeze(-1) * knots).flatten(-2)  # [..., N, M * knots]
    shape = (*angles.shape[:-2], -1, KNOTS)
    real, imaginary = ((part @ wave).reshape(shape) for wave in (angles.cos(), angles.sin()))
    error = (real - normal).square() + imaginary.square()  # [..., M, knots]
    distance: Tensor = 2 * counts * (error @ (steps * normal)).mean(-1)
    return distance * (counts > 0)


def unit_directions(size: int, number: int, device: torch.device) -> Tensor:
    """Draw random directions [size, number] of length 1 from torch's global generator."""
    return F.normalize(torch.randn(size, number, device=device), dim=0)


def variance_hinge(latent: Tensor, mask: Tensor) -> Tensor:
    """Return max(0, 1 - standard deviation) of samples [..., N, E], averaged over entries (VICReg, Bardes et
    al. 2022, arXiv 2105.04906).

    Sets of fewer than two samples, which mask [..., N] keeps, do not count.
    """
    centred, count = _centred(latent, mask)
    variance = centred.square().sum(-2) / (count - 1).clamp(min=1).unsqueeze(-1)
    hinge = F.relu(1 - (variance + 1e-4).sqrt()).mean(-1)
    return (hinge * (count > 1)).sum() / (count > 1).sum().clamp(min=1)


def covariance(latent: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of squared covariances of different entries of samples [..., N, E], divided by E
    (VICReg)."""
    centred, count = _centred(latent, mask)
    matrix = centred.transpose(-1, -2) @ centred / (count - 1).clamp(min=1)[..., None, None]
    off = matrix.square().sum((-1, -2)) - matrix.diagonal(dim1=-2, dim2=-1).square().sum(-1)
    return (off / latent.shape[-1] * (count > 1)).sum() / (count > 1).sum().clamp(min=1)


def _centred(latent: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the samples [..., N, E] around their mean, 0 where the mask leaves them out, and their count."""
    part, count = mask.unsqueeze(-1).to(latent.dtype), mask.sum(-1)
    mean = (latent * part).sum(-2, keepdim=True) / count.clamp(min=1)[..., None, None]
    return (latent - mean) * part, count
