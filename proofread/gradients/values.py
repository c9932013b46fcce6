"""What the two gradients alone tell: shapes, ratios, transposes and patterns of zeros."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from proofread.gradients.compare import ratio, same
from proofread.gradients.graph.naming import axes_said
from proofread.gradients.sentences import NOT_FILLED, SQUARE
from proofread.gradients.uses import Uses

LARGEST_PART = 50  # of a fraction that is said as one


@dataclass(frozen=True, slots=True)
class Finding:
    """One explanation that fits: a label, an account of it, and how early it is to be said."""

    label: str
    what: str
    rank: float
    hint: str = ""
    constant: float | None = None  # a number that was fitted to the data
    source: tuple = ()  # the planted mistake that it is


def shape_findings(u: Tensor, r: Tensor, tolerance: float) -> list[Finding]:
    """Explain a gradient whose shape is not the argument's."""
    found = []
    have, want = tuple(u.shape), tuple(r.shape)
    for size in range(1, u.dim() + 1):
        for axes in itertools.combinations(range(u.dim()), size):
            for keep in (False, True):
                summed = u.sum(axes, keepdim=keep)
                if not same(summed, r, tolerance) or math.prod(have[a] for a in axes) == 1:
                    continue
                what = (
                    f"your gradient of shape {have} must still be summed over its {axes_said(axes)}"
                )
                found.append(Finding("missing_broadcast_sum", what, 10))
    if u.dim() == r.dim() and u.dim() >= 2 and sorted(have) == sorted(want):
        for order in itertools.permutations(range(u.dim())):
            turned = u.permute(order)
            if order != tuple(range(u.dim())) and same(turned, r, tolerance):
                what = f"your gradient has its axes exchanged: {have} for {want}"
                found.append(Finding("transposed_operand", what, 11))
                break
    if u.dim() == 2 and have == (r.numel(), r.numel()) and r.numel() > 1:
        what = f"shapes such as {(have[0], 1)} and {(have[0],)} broadcast to {have}"
        found.append(Finding("wrong_shape", what, 13))
    if u.numel() == r.numel() and same(u.reshape(want), r, tolerance):
        what = f"the values are right, but the shape is {have}, not {want}"
        hint = shape_hint(have, want) if 1 in (*have, *want) else "Look for a view or a reshape."
        found.append(Finding("wrong_shape", what, 12, hint))
    return found


def shape_hint(have: tuple[int, ...], want: tuple[int, ...]) -> str:
    """Say what makes a shape the right one, where one change does; else ''.

    >>> shape_hint((5, 3, 4), (3, 4))
    'Its axis 0, of size 5, is one too many: sum over it.'
    >>> shape_hint((4, 3), (3, 4))
    'Its transpose has the right shape: exchange the factors, and transpose each.'
    """
    if want and math.prod(have) == 1 < math.prod(want):
        return "It is one number: look for a sum() or a mean() without an axis."
    more = [k for k in range(len(have)) if (*have[:k], *have[k + 1 :]) == want]
    less = [k for k in range(len(want)) if (*want[:k], *want[k + 1 :]) == have]
    if more and have[more[0]] == 1:
        return f"Its axis {more[0]}, of size 1, is one too many: look for keepdim, or unsqueeze."
    if len(more) == 1:
        return f"Its axis {more[0]}, of size {have[more[0]]}, is one too many: sum over it."
    if less and want[less[0]] == 1:
        return f"Axis {less[0]}, of size 1, is gone: look for squeeze, or a sum without keepdim."
    if len(less) == 1:
        axis = f"Axis {less[0]}, of size {want[less[0]]}, is gone"
        return f"{axis}: look for a sum, a mean or an index over it."
    if len(have) != len(want):
        return ""
    if have == want[::-1]:
        return "Its transpose has the right shape: exchange the factors, and transpose each."
    other = [k for k in range(len(have)) if have[k] != want[k]]
    if len(other) != 1:
        return ""
    (k,) = other
    if have[k] == 1:
        return f"Axis {k} has 1 entry for {want[k]}: look for keepdim, or a return inside a loop."
    return f"Axis {k} has size {have[k]}, and must have {want[k]}: which product changes that axis?"


def value_findings(
    u: Tensor, r: Tensor, tolerance: float, uses: Uses, inputs: Mapping[str, Any]
) -> list[Finding]:
    """Explain a gradient of the right shape from its values."""
    found = []
    given = {k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.is_floating_point()}
    c = ratio(u, r, tolerance)
    if c is not None:
        found += ratio_findings(c, tolerance, uses)
        found += number_findings(c, tolerance, inputs, uses)
    if u.dim() >= 2 and u.shape[-1] == u.shape[-2] and same(u.mT, r, tolerance):
        found.append(
            Finding(
                "transposed_operand", "your gradient is the transpose of the right one", 12, SQUARE
            )
        )
    if u.dim() > 2:
        for a, b in itertools.combinations(range(u.dim()), 2):
            if u.shape[a] == u.shape[b] and same(u.transpose(a, b), r, tolerance):
                found.append(
                    Finding(
                        "transposed_operand",
                        f"the axes {a} and {b} of your gradient are exchanged",
                        13,
                    )
                )
    if u.dim() > 2:
        for axes in ([-1], [-2], [-1, -2]):
            if same(u.flip(axes), r, tolerance):
                found.append(Finding("conv_flip", "your gradient is the right one, flipped", 21))
    found += mask_findings(u, r, tolerance, uses)
    found += leftover_findings(u, r, tolerance, given)
    found += counted_findings(u, r, tolerance, inputs)
    found += sign_findings(u, r, tolerance)
    return found


def ratio_findings(c: float, tolerance: float, uses: Uses) -> list[Finding]:
    """Name a constant ratio of the user's gradient to the right one."""
    near = max(tolerance, 1e-9) * 3

    def equals(value: float) -> bool:
        return abs(c - value) <= near * abs(value)

    if equals(-1):
        return [Finding("sign_error", "every entry has the opposite sign", 1)]
    if c < 0:
        return _negative_ratio(c, tolerance, uses)
    digits = 4 if abs(c - 1) > 0.01 else 7  # or it would read "1 times"
    times = fraction_said(c) or f"{c:.{digits}g}"
    what = f"your gradient is {times} times the right one"
    found = [Finding("wrong_scale_factor", what, 45, constant=c)]
    if equals(2) and uses.halves:
        found.append(Finding("missing_scale_factor", "the 1/2 of the forward is left out", 29))
    if equals(2):
        twice = "every entry is twice the right one"
        found += [
            Finding("double_counted", twice, 31 if uses.once else 28),
            Finding("wrong_scale_factor", twice, 30),
        ]
    if equals(3):
        found.append(Finding("double_counted", "every entry is three times the right one", 33))
    for count in sorted(uses.sizes - {1}):
        if equals(1 / count):
            found.append(
                Finding("extra_mean", f"your gradient is the right one divided by {count}", 31)
            )
        if not equals(count) or count == 2:
            continue
        if uses.averages(count):
            found.append(Finding("missing_mean", what, 36))
        else:
            also = f"{what}; {count} is also the size of an axis"
            found.append(Finding("wrong_scale_factor", also, 36, constant=c))
    return found


def fraction_said(c: float) -> str:
    """Write a number as a fraction of small whole numbers too, where it is one; else ''.

    >>> fraction_said(5 / 6), fraction_said(0.7 / 0.3), fraction_said(3.0), fraction_said(0.71)
    ('5/6 (0.8333)', '7/3 (2.333)', '', '')
    """
    fraction = Fraction(c).limit_denominator(LARGEST_PART)
    near = abs(c - fraction) <= 1e-6 * abs(c)
    # A decimal of two digits says as much by itself.
    if (
        not near
        or fraction.denominator == 1
        or max(fraction.numerator, fraction.denominator) > LARGEST_PART
        or c == round(c, 2)
    ):
        return ""
    return f"{fraction.numerator}/{fraction.denominator} ({c:.4g})"


def _negative_ratio(c: float, tolerance: float, uses: Uses) -> list[Finding]:
    """Two mistakes at once: the sign, and a factor."""
    what = f"every entry has the opposite sign, and besides is {-c:.4g} times as large"
    named = ratio_findings(-c, tolerance, uses)
    return [
        Finding("sign_error", what, 32, constant=c),
        *[replace(f, what=f"besides the opposite sign, {f.what}", rank=f.rank + 2) for f in named],
    ]


def number_findings(
    c: float, tolerance: float, inputs: Mapping[str, Any], uses: Uses
) -> list[Finding]:
    """Name a ratio that is one of the plain numbers among the inputs."""
    found = []
    for name, number in inputs.items():
        if isinstance(number, Tensor) and number.numel() == 1:
            number = float(number)
        if isinstance(number, bool) or not isinstance(number, int | float) or not number:
            continue
        divides = name in uses.divisors
        once_more = ("applied_twice", f"the factor {name} is there once too often")
        if divides:
            once_more = ("missing_scale_factor", f"the division by {name} is left out")
        left_out = ("missing_scale_factor", f"the factor {name} is left out")
        if divides:
            left_out = ("applied_twice", f"your gradient divides by {name} once too often")
        for value, label, what in (
            (1 / number, *left_out),
            (number, *once_more),
            (1 - number, "missing_scale_factor", f"the factor 1/(1 - {name}) is left out"),
        ):
            if value not in (0, 1) and abs(c - value) <= 3 * tolerance * abs(value):
                found.append(Finding(label, what, 32))
    return found


def _left_out(zero: Tensor, closed: Tensor) -> str:
    """Say which rows, columns or last entries are all that is 0, as where a loop ends early, or ''.

    `zero` tells where a gradient is 0, `closed` where it must not be.
    """
    for axis, kind in enumerate(("row", "column")[: zero.dim()]):
        others = tuple(k for k in range(zero.dim()) if k != axis)
        lost = closed.any(others) if others else closed
        if not lost.all() and bool((zero.all(others) if others else zero)[lost].all()):
            places = [int(k) for k in lost.nonzero().flatten()]
            kind = "entry" if zero.dim() == 1 else kind
            return f"{_numbered(kind, places)} of your gradient {be(len(places))} left at 0"
    start = int(closed.flatten().int().argmax())
    if start and zero.flatten()[start:].all():
        return f"your gradient is left at 0 behind its first {entries(start)}"
    return ""


def _numbered(kind: str, places: list[int]) -> str:
    """Name rows or columns by their numbers.

    >>> _numbered("row", [2]), _numbered("row", [1, 2, 3, 4]), _numbered("entry", [0, 2])
    ('row 2', 'rows 1 to 4', 'entries 0 and 2')
    """
    if len(places) == 1:
        return f"{kind} {places[0]}"
    kind = "entries" if kind == "entry" else f"{kind}s"
    if len(places) > 2 and places == list(range(places[0], places[-1] + 1)):
        return f"{kind} {places[0]} to {places[-1]}"
    return f"{kind} {', '.join(map(str, places[:-1]))} and {places[-1]}"


def mask_findings(u: Tensor, r: Tensor, tolerance: float, uses: Uses) -> list[Finding]:
    """Name a pattern of zeros that differs where the other entries are equal."""
    scale = r.abs().max() * tolerance
    agree = (u - r).abs() <= scale
    zero_u, zero_r = u.abs() <= scale, r.abs() <= scale
    if not (agree | zero_u | zero_r).all() or agree.all():
        return []
    opened = int((zero_r & ~zero_u).sum())
    closed = int((zero_u & ~zero_r).sum())
    kept = int((agree & ~zero_r).sum())
    if opened and not closed and kept and not (zero_u & zero_r).any():
        return [Finding("missing_mask", f"{entries(opened)} must be 0 and {be(opened)} not", 19)]
    if opened and not closed and kept:
        return [
            Finding(
                "wrong_mask",
                f"the mask lets too much through: {entries(opened)} must be 0 and {be(opened)} not",
                44,
            ),
            Finding("missing_mask", "one of the forward's conditions has no effect", 46),
        ]
    if opened and closed:
        return [
            Finding(
                "wrong_mask",
                f"the mask is another one: {entries(opened)} must be 0 and {be(opened)} not, "
                f"and {closed} {be(closed)} 0 and must not be",
                22,
            )
        ]
    if closed and kept:
        if left := _left_out(zero_u, zero_u & ~zero_r):
            return [Finding("all_zero", left, 47, NOT_FILLED)]
        if not uses.blocks:
            what = f"{entries(closed)} of your gradient {be(closed)} left at 0"
            return [Finding("all_zero", what, 48, NOT_FILLED)]
        return [
            Finding(
                "wrong_mask",
                f"the mask blocks too much: {entries(closed)} {be(closed)} 0 and must not be",
                48,
            )
        ]
    return []


def leftover_findings(
    u: Tensor, r: Tensor, tolerance: float, given: dict[str, Tensor]
) -> list[Finding]:
    """Recognise a tensor of the inputs that is added to the right gradient."""
    rest = u - r
    return [
        Finding("stale_gradient", f"your gradient is the right one plus {name}", 35)
        for name, value in given.items()
        if value.shape == r.shape and value.abs().max() > 0 and same(rest, value, tolerance)
    ]


def counted_findings(
    u: Tensor, r: Tensor, tolerance: float, inputs: Mapping[str, Any]
) -> list[Finding]:
    """Recognise a division by counts that the data hold: the entries of a mask, or of each index."""
    scale = r.abs().max() * tolerance
    there = u.abs() > scale
    if not there.any() or (~there & (r.abs() > scale)).any():
        return []
    times = r[there] / u[there]
    whole = times.round()
    if (whole < 1).any() or (whole == whole[0]).all():
        return []
    if ((times - whole).abs() > 1e-3 * whole).any():
        return []
    return [
        Finding("extra_mean", f"your gradient divides by {what}, and the forward does not", 24)
        for what, counts in _counts_in(inputs, tuple(r.shape))
        if same(u * counts, r, tolerance)
    ]


def _counts_in(inputs: Mapping[str, Any], shape: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    """Yield what can be counted in integer and 0/1 inputs, spread over a gradient's shape."""
    for name, value in inputs.items():
        if not isinstance(value, Tensor) or not value.dim() or value.dim() > len(shape):
            continue
        if value.dtype in (torch.int32, torch.int64) and value.dim() == 1 and not (value < 0).any():
            often = torch.bincount(value)[value]
            for axis, size in enumerate(shape):
                if size == len(often):
                    spread = often.reshape([-1 if k == axis else 1 for k in range(len(shape))])
                    yield f"how often each entry of {name} occurs", spread
        elif value.dtype == torch.bool or ((value == 0) | (value == 1)).all():
            for after in range(len(shape) - value.dim() + 1):
                lifted = value.reshape(*value.shape, *[1] * after)
                for size in range(1, value.dim() + 1):
                    for axes in itertools.combinations(range(value.dim()), size):
                        sums = lifted.sum(axes, keepdim=True).clamp_min(1)
                        if _spreads(tuple(sums.shape), shape):
                            yield f"the sum of {name} over {axes_said(axes)}", sums


def _spreads(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    pairs = zip(small[::-1], large[::-1], strict=False)
    return len(small) <= len(large) and all(a in (1, b) for a, b in pairs)


def sign_findings(u: Tensor, r: Tensor, tolerance: float) -> list[Finding]:
    if same(u.abs(), r.abs(), tolerance) and not same(u, -r, tolerance):
        wrong = int((torch.sign(u) != torch.sign(r)).sum())
        if not wrong:
            return []
        return [
            Finding(
                "sign_error",
                f"{entries(wrong)} {'have' if wrong > 1 else 'has'} the opposite sign",
                47,
            )
        ]
    return []


def entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def be(count: int) -> str:
    return "is" if count == 1 else "are"
