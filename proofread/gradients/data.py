"""Other data of the same kind: fresh values, and sizes that can't hide a mistake."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import torch
from torch import Tensor

SMALL = 4  # up to here a size stays where smaller data are drawn
LARGEST = 100  # a larger size is drawn smaller: a mistake shows in a few rows


class Constants(Enum):
    """What becomes of a tensor that is 1 everywhere, as the weight of a new LayerNorm is, or 0."""

    KEPT = "kept"
    DRAWN = "drawn"
    MASKS = "masks"  # of 0 and 1


def is_constant(value: Tensor) -> bool:
    """Tell a tensor that hides what it does: 0 or 1 everywhere, or an identity matrix."""
    if not value.is_floating_point() or not value.numel():
        return False
    if (value == 0).all() or (value == 1).all():
        return True
    square = value.dim() == 2 and value.shape[0] == value.shape[1]
    return square and torch.equal(value, torch.eye(len(value)).to(value))


def is_large(inputs: Mapping[str, Any]) -> bool:
    """Tell data of training size from a textbook's."""
    return entries(inputs) > 200_000


def entries(inputs: Mapping[str, Any]) -> int:
    return sum(v.numel() for v in inputs.values() if isinstance(v, Tensor))


def redraw(
    inputs: Mapping[str, Any],
    seed: int,
    sizes: Mapping[int, int] | None = None,
    dtype: torch.dtype | None = None,
    constants: Constants = Constants.KEPT,
) -> dict[str, Any]:
    """Draw inputs like the given ones; `sizes` maps an axis size to its new size.

    What looks special about a tensor is kept: whole numbers, a mask of two values, positive
    values, probabilities whose rows sum to 1, unit vectors, a symmetric matrix, values in order.
    Floating tensors come in `dtype`, or their own.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = sizes or {}

    def drawn(value: Tensor) -> Tensor:
        if constants is not Constants.KEPT and is_constant(value):
            return _no_constant(value, generator, constants)
        return _like(value, generator, sizes)

    return {
        name: _cast(drawn(value), dtype) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
    }


def _no_constant(value: Tensor, generator: torch.Generator, constants: Constants) -> Tensor:
    if constants is Constants.MASKS:
        return (torch.arange(value.numel()) % 2 == 1).reshape(value.shape).to(value)
    if value.min() >= 0 and value.any():
        drawn = torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5
    else:
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return drawn.to(value.dtype)


def _cast(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value.to(dtype) if dtype and value.is_floating_point() else value


def _like(value: Tensor, generator: torch.Generator, sizes: Mapping[int, int]) -> Tensor:
    shape = tuple(sizes.get(s, s) for s in value.shape)
    if not value.numel():
        return value
    if not value.is_floating_point():
        return _tiled(value, shape)
    if value.unique().numel() <= 3 and (value.numel() > 3 or _whole(value)):
        return _tiled(value, shape)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    low, high = float(value.min()), float(value.max())
    if low >= 0:
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64) * 0.9 + 0.05
        sums = value.sum(-1)
        if value.dim() and value.shape[-1] > 1 and bool(((sums - 1).abs() < 1e-4).all()):
            drawn = drawn / drawn.sum(-1, keepdim=True)
        elif high > 1:
            drawn = low + drawn * (high - low)
    elif _whole(value):
        return _tiled(value, shape)
    return _kept(value, drawn).to(value.dtype)


def _kept(value: Tensor, drawn: Tensor) -> Tensor:
    """Give numbers that are drawn what a formula may rely on in those that are given."""
    if value.dim() and value.shape[-1] > 1:
        lengths = value.to(torch.float64).norm(dim=-1)
        if bool(((lengths - 1).abs() < 1e-4).all()):
            return drawn / drawn.norm(dim=-1, keepdim=True)
    if value.dim() >= 2 and value.shape[-1] == value.shape[-2] > 1 and _same(value, value.mT):
        return (drawn + drawn.mT) / 2 if drawn.shape[-1] == drawn.shape[-2] else drawn
    if value.dim() == 1 and len(value) > 3 and bool((value.diff() > 0).all()):
        return drawn.sort().values
    return drawn


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def _whole(value: Tensor) -> bool:
    return bool((value == value.round()).all())


def _tiled(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat the entries of a mask or of indices until the shape is filled."""
    for axis, size in enumerate(shape):
        index = torch.arange(size) % value.shape[axis]
        value = value.index_select(axis, index)
    return value.clone()


def smaller_sizes(inputs: Mapping[str, Any]) -> dict[int, int]:
    """Return sizes in which the same mistakes show: small ones stay, the others become distinct."""
    sizes = {s for v in inputs.values() if isinstance(v, Tensor) for s in v.shape}
    free = (k for k in itertools.count(SMALL) if k not in sizes)
    return {size: next(free) for size in sorted(sizes) if size > SMALL}


def other_sizes(inputs: Mapping[str, Any]) -> Iterator[dict[int, int]]:
    """Yield ways to change the sizes: all, the large ones, the 1 of a single row, then each alone.

    Equal sizes stay equal; a size 1 may be an axis to broadcast, so it is also left as it is.
    """
    sizes = sorted({s for v in inputs.values() if isinstance(v, Tensor) for s in v.shape})
    new, taken = {}, 2
    for size in sizes:
        taken = max(taken + 1, size + 1 if size <= LARGEST else 0)
        new[size] = taken
    yield new
    large = {size: other for size, other in new.items() if size > LARGEST}
    if large:
        yield large
    if 1 in new:
        yield {1: taken + 1}
        yield {size: other for size, other in new.items() if size != 1}
    for size in sizes:
        if 1 < size <= LARGEST:
            yield {size: size + len(sizes) + 1}
