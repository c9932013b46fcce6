"""Cheap tests of what a value can't be, before it is compared with each textbook function."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.program import Program, Ref
from proofread.gradients.graph.unary import RECOGNISABLE, UNARY

SOME = 8  # entries that are looked at
NEAR = 1e-5


class Likeness:
    """What some entries tell of the values of a program; no test here ever rules out a true likeness."""

    def __init__(self, p: Program) -> None:
        self.p = p
        self.sums: dict[int, bool] = {}
        self.some: dict[int, Tensor] = {}
        self.mapped: dict[int, Tensor] = {}
        self.groups: dict[tuple, list[float]] = {}
        self.axes: dict[tuple, list[tuple[int, ...]]] = {}

    def sums_to_one(self, y: Ref) -> bool:
        """Tell whether y, or its exponential, sums to 1 along some axis, as softmax does."""
        if y.i not in self.sums:
            b = self.p[y]
            low, high = float(b.min()), float(b.max())
            found = False
            if low >= 0 and high <= 1 + NEAR:
                found = any(_ones(b.sum(axis)) for axis in range(b.dim()))
            elif high <= NEAR:
                found = any(_ones(b.exp().sum(axis)) for axis in range(b.dim()))
            self.sums[y.i] = found
        return self.sums[y.i]

    def elementwise(self, x: Ref, y: Ref) -> bool:
        """Tell whether y can be one of the known functions of x, entry by entry."""
        if x.i not in self.mapped:
            a = self._some(x)
            rows = [UNARY[name].function(a) for name in RECOGNISABLE]
            # Leaky ReLU has any slope: of the entries above 0 it must be the identity.
            rows.append(torch.where(a > 0, a, torch.nan))
            self.mapped[x.i] = torch.stack(rows)
        b = self._some(y)
        mapped = self.mapped[x.i]
        close = (mapped - b).abs() <= NEAR * b.abs() + 1e-8
        close[-1] |= mapped[-1].isnan()
        return bool(close.all(1).any())

    def _some(self, x: Ref) -> Tensor:
        if x.i not in self.some:
            flat = self.p[x].reshape(-1)
            self.some[x.i] = flat[:: max(1, flat.numel() // SOME)]
        return self.some[x.i]

    def proportional(
        self, x: Ref, y: Ref, gamma: Ref | None = None
    ) -> Iterator[tuple[tuple[int, ...], bool]]:
        """Yield axes, and whether with the mean taken off, over which y / gamma can be x rescaled."""
        shape = self.p.shape(x)
        if shape not in self.axes:
            self.axes[shape] = list(_axis_sets(shape))
        for axes in self.axes[shape]:
            a, b = self._group(x, axes), self._group(y, axes, gamma)
            (a0, a1, a2), (b0, b1, b2) = a, b
            if _equal((b1 - b0) * (a2 - a0), (b2 - b0) * (a1 - a0)):
                yield axes, True
            if _equal(b1 * a0, b0 * a1) and _equal(b2 * a0, b0 * a2):
                yield axes, False

    def _group(self, x: Ref, axes: tuple[int, ...], gamma: Ref | None = None) -> list[float]:
        """Return three of the entries that one average over the axes runs over."""
        key = (x.i, axes, gamma)
        if key not in self.groups:
            value = self.p[x] if gamma is None else self.p[x] / self.p[gamma]
            first = tuple(slice(None) if a in axes else 0 for a in range(value.dim()))
            self.groups[key] = value[first].reshape(-1)[:3].tolist()
        return self.groups[key]


def _ones(t: Tensor) -> bool:
    return bool(((t - 1).abs() < NEAR).all())


def _equal(a: float, b: float) -> bool:
    return abs(a - b) <= NEAR * (abs(a) + abs(b)) + 1e-8


def _axis_sets(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    rank = len(shape)
    for size in range(1, rank + 1):
        for axes in itertools.combinations(range(rank), size):
            if math.prod(shape[a] for a in axes) > 2:
                yield axes
