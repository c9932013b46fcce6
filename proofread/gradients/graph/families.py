"""Functions of one variable with settings: ELU's alpha, softplus' beta, Huber's delta.

The slips are what people write who forget that the setting is there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from proofread.gradients.graph.unary import Slip, Unary

_UNSCALED = "the factor {0} is left out of {{site}}'s derivative"


def elu(alpha: float = 1, scale: float = 1, inner: float = 1) -> Unary:
    """scale * z where z > 0, and scale * alpha * (exp(inner * z) - 1) elsewhere; CELU and SELU too."""

    def slope(z: Tensor, alpha=alpha, scale=scale, inside=inner, outside=inner) -> Tensor:
        below = scale * alpha * outside * torch.exp(inside * z.clamp_max(0))
        return torch.where(z > 0, torch.full_like(z, scale), below)

    slips = [
        Slip("missing_scale_factor", _UNSCALED.format(f"{alpha:.4g}"), lambda z: slope(z, alpha=1)),
        Slip("missing_scale_factor", _UNSCALED.format(f"{scale:.4g}"), lambda z: slope(z, scale=1)),
        Slip(
            "missing_scale_factor",
            f"the factor {inner:.4g} is left out of the exponent",
            lambda z: slope(z, inside=1),
        ),
        Slip(
            "missing_scale_factor",
            f"the factor {inner:.4g} of the exponent is not multiplied in",
            lambda z: slope(z, outside=1),
        ),
        Slip(
            "missing_scale_factor",
            f"the factor {inner:.4g} is left out, inside the exponent and before it",
            lambda z: slope(z, inside=1, outside=1),
        ),
        Slip(
            "missing_local_derivative",
            "the value of {site} stands where its derivative belongs, where its input is negative",
            lambda z: torch.where(z > 0, scale, scale * alpha * torch.expm1(inner * z)),
        ),
        Slip(
            "wrong_mask",
            "the two sides of {site} are exchanged",
            lambda z: scale * torch.where(z > 0, alpha * inner * torch.exp(inner * z), 1),
        ),
    ]
    return Unary(
        lambda z: torch.where(
            z > 0, scale * z, scale * alpha * torch.expm1(inner * z.clamp_max(0))
        ),
        slope,
        lambda y: torch.where(y > 0, torch.full_like(y, scale), inner * (y + scale * alpha)),
        relatives=("elu", "relu", "selu", "leaky_relu"),
        slips=tuple(slips),
    )


def softplus(beta: float = 1, threshold: float = 20) -> Unary:
    """log(1 + exp(beta * z)) / beta."""

    def slope(z: Tensor) -> Tensor:
        return torch.where(beta * z > threshold, torch.ones_like(z), torch.sigmoid(beta * z))

    beta_said = f"{beta:.4g}"
    return Unary(
        lambda z: F.softplus(z, beta, threshold),
        slope,
        lambda y: 1 - torch.exp(-beta * y),
        relatives=("softplus", "relu"),
        slips=(
            Slip(
                "missing_scale_factor",
                f"the factor {beta_said} is left out inside the sigmoid",
                torch.sigmoid,
            ),
            Slip(
                "missing_scale_factor",
                f"the division by {beta_said} in {{site}} is left out",
                lambda z: beta * slope(z),
            ),
        ),
    )


def clamp(low: float, high: float) -> Unary:
    """z, but low below low, and high above high."""
    low_said, high_said = f"{low:.4g}", f"{high:.4g}"
    half = "the mask of {{site}} asks for one bound only, and must ask for {} too"
    return Unary(
        lambda z: z.clamp(low, high),
        lambda z: ((z > low) & (z < high)).to(z),
        relatives=("tanh",) if low == -high else (),
        slips=(
            Slip("wrong_mask", half.format(low_said), lambda z: (z < high).to(z)),
            Slip("wrong_mask", half.format(high_said), lambda z: (z > low).to(z)),
            Slip(
                "wrong_mask",
                "the mask of {site} is inverted",
                lambda z: ((z <= low) | (z >= high)).to(z),
            ),
        ),
    )


def smooth_l1(beta: float = 1) -> Unary:
    """z² / (2 beta) where |z| < beta, and |z| - beta / 2 elsewhere."""
    return _huber(
        lambda z: F.smooth_l1_loss(z, torch.zeros_like(z), reduction="none", beta=beta),
        beta,
        1 / beta,
        f"the division by {beta:.4g} where |z| < {beta:.4g} is left out",
    )


def huber(delta: float = 1) -> Unary:
    """z² / 2 where |z| < delta, and delta * (|z| - delta / 2) elsewhere."""
    return _huber(
        lambda z: F.huber_loss(z, torch.zeros_like(z), reduction="none", delta=delta),
        delta,
        1,
        f"the factor {delta:.4g} where |z| > {delta:.4g} is left out",
    )


def _huber(function: Callable, edge: float, steep: float, unscaled: str) -> Unary:
    def slope(z: Tensor) -> Tensor:
        return steep * z.clamp(-edge, edge)

    def piecewise(inside: Callable, ends: float = steep * edge) -> Callable:
        return lambda z: torch.where(inside(z), steep * z, ends * torch.sign(z))

    at = f"{edge:.4g}"
    slips = [
        Slip("missing_scale_factor", unscaled, lambda z: torch.where(z.abs() < edge, z, z.sign())),
        Slip(
            "wrong_mask",
            f"the mask of {{site}} asks z < {at}, and must ask |z| < {at}, of the difference z",
            piecewise(lambda z: z < edge),
        ),
        Slip(
            "wrong_mask",
            f"the mask of {{site}} asks z > {at}, and must ask |z| > {at}, of the difference z",
            piecewise(lambda z: z <= -edge),
        ),
        Slip("wrong_mask", "the mask of {site} is inverted", piecewise(lambda z: z.abs() >= edge)),
        Slip(
            "sign_error",
            "the slope of {site} is positive on both sides",
            lambda z: torch.where(z.abs() < edge, steep * z, steep * edge),
        ),
        Slip(
            "other_variant",
            "this is the derivative of half the square, and {site} has a limit to its slope",
            lambda z: steep * z,
        ),
        Slip(
            "other_variant",
            "this is the derivative of the absolute value, and {site} is round at 0",
            lambda z: steep * edge * torch.sign(z),
        ),
    ]
    if edge != 1:
        slips.append(
            Slip(
                "wrong_mask",
                f"the mask of {{site}} asks |z| < 1, and must ask |z| < {at}, of the difference z",
                piecewise(lambda z: z.abs() < 1),
            )
        )
    return Unary(function, slope, slips=tuple(slips))
