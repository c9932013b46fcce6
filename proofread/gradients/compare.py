"""Tell whether two gradients are the same, to within the rounding of their dtype."""

from __future__ import annotations

import torch
from torch import Tensor

# Of the largest entry. Sums of many rounded terms lose more than one unit in the last place.
TOLERANCES = {
    torch.float64: 1e-6,
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 4e-2,
}


def tolerance_for(dtype: torch.dtype, exact: Tensor, rounded: Tensor) -> float:
    """Return the relative tolerance for a gradient computed in `dtype`.

    `rounded` is autograd's gradient in that dtype, `exact` the one in float64: where autograd
    itself loses digits, so may the user.
    """
    base = TOLERANCES.get(dtype, TOLERANCES[torch.float32])
    return max(base, 4 * relative_error(rounded.to(exact.dtype), exact))


def rounding_of(dtype: torch.dtype) -> float:
    """Return what rounding in `dtype` leaves, at most, of terms that cancel, as a share of them."""
    return min(50 * torch.finfo(dtype).eps, TOLERANCES.get(dtype, TOLERANCES[torch.float32]))


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference over the largest entry of either; inf where shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    if not actual.numel():
        return 0.0
    difference = (actual - expected).abs().max()
    scale = torch.maximum(actual.abs().max(), expected.abs().max())
    return float(difference / scale) if scale > 0 else 0.0


def same(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Tell whether shapes are equal and values finite and equal, to within the tolerance."""
    if actual.shape != expected.shape:
        return False
    difference = (actual - expected).abs().max()
    scale = torch.maximum(actual.abs().max(), expected.abs().max())
    return bool(difference <= tolerance * scale) and bool(scale.isfinite())


def ratio(actual: Tensor, expected: Tensor, tolerance: float) -> float | None:
    """Return c where actual = c * expected, or None."""
    if actual.shape != expected.shape or not actual.numel():
        return None
    square = float((expected * expected).sum())
    if square == 0:
        return None
    c = float((actual * expected).sum()) / square
    return c if c and same(actual, c * expected, tolerance) else None
