"""Two sides of a relation, compared in one world at every combination of their indices."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from . import meaning as m
from .drawing import World
from .outcome import Equality
from .patterns import EQUAL, ORDER
from .problem import Undefined, Unreadable
from .tree import Node
from .value import Value, check_same, spread, union

TOLERANCE = 1e-9


@dataclass
class Link:
    """A relation between two sides that were read."""

    result: Equality
    left: m.Meaning | None = None
    right: m.Meaning | None = None
    conditions: list[m.Meaning] = field(default_factory=list)
    space: Node | None = None


# Told apart by identity: tensors have no single truth to compare by.
@dataclass(eq=False)
class Comparison:
    """Two sides in one world."""

    combinations: int
    error: float
    indices: dict[str, int]
    left: float
    right: float
    one: torch.Tensor
    two: torch.Tensor
    holds: bool
    zero: bool
    world: World
    varied: bool


def compare(left: Value, right: Value, where, op, machine, result, world) -> Comparison:
    """Compare both sides at every index combination that the conditions allow.

    Raises:
        Undefined: if the shapes differ, or a value is not a number.
    """
    left, right = check_same(left, right)
    idx = union(left, right, *where)
    sizes = [machine.length(dim) for dim in idx]
    one, two = (spread(side, idx, sizes).detach() for side in (left, right))
    count = math.prod(sizes)
    one, two = one.reshape(count, -1), two.reshape(count, -1)
    keep = torch.ones(count, dtype=torch.bool)
    for condition in where:
        keep &= (spread(condition, idx, sizes).reshape(count, -1) > 0.5).all(1)
    bad = torch.isnan(one).any(1) | torch.isnan(two).any(1)
    if bool((bad & keep).any()):
        if not machine.out_of_range:
            raise Undefined(
                "a value is not a number (0/0, a logarithm of a negative number, or "
                "no case that applies)"
            )
        keep &= ~bad
    if not bool(keep.any()):
        raise Unreadable("no combination of the indices is left to compare")
    one, two = one[keep], two[keep]
    scale = float(torch.maximum(one.abs(), two.abs()).max()) if one.numel() else 0.0
    gap = (one - two).abs()
    if not torch.isfinite(one).all() or not torch.isfinite(two).all():
        raise Undefined("a value is infinite")
    # What should be zero is zero only up to rounding, and at a stationary point up to Newton.
    floor = 1.0 if world.declared.stationary else 1e-4
    error = float(gap.max()) / max(scale, floor) if gap.numel() else 0.0
    place = int(gap.max(1).values.argmax())
    column = int(gap[place].argmax())
    flat = int(torch.nonzero(keep).reshape(-1)[place])
    indices = {}
    for dim, size in zip(reversed(idx), reversed(sizes), strict=True):
        indices[dim.partition("#")[0]] = flat % size + machine.base
        flat //= size
    holds = _relation_holds(op, one, two, error, scale)
    if op not in EQUAL:
        error = 0.0 if holds else error
    tiny = bool(scale < 1e-12)
    return Comparison(
        int(keep.sum()),
        error,
        dict(reversed(indices.items())),
        float(one[place, column]),
        float(two[place, column]),
        one,
        two,
        holds,
        tiny,
        world,
        not idx or max(sizes) > 1,
    )


def _relation_holds(op, one, two, error, scale) -> bool:
    if op in EQUAL:
        return error <= TOLERANCE
    if op in ORDER:
        slack = 1e-12 * max(scale, 1.0)
        test = {
            "<": lambda: one < two, ">": lambda: one > two, "!=": lambda: (one - two).abs() > slack,
            "<=": lambda: one <= two + slack, ">=": lambda: one >= two - slack,
        }[ORDER[op]]  # fmt: skip
        return bool(test().all())
    if op == "\\propto":
        return constant_ratio(one, two) is not None
    return error <= 0.05


def constant_ratio(one: torch.Tensor, two: torch.Tensor) -> float | None:
    """c with one = c * two at every entry, where there is one."""
    one, two = one.detach(), two.detach()
    top = two.abs().max()
    if float(top) < 1e-13 or float(one.abs().max()) < 1e-13:
        return None
    at = int(two.abs().argmax())
    ratio = float(one.reshape(-1)[at] / two.reshape(-1)[at])
    gap = (one - ratio * two).abs().max()
    return ratio if float(gap) <= 1e-9 * float(one.abs().max()) else None
