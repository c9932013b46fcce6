"""Where a forward has two slopes, it is a convention which of them is taken, and no mistake."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proofread.gradients.compare import same
from proofread.gradients.graph.autograd import by_autograd_of
from proofread.gradients.graph.program import Program, Ref, Step, resolve

if TYPE_CHECKING:
    from proofread.gradients.experiments import Trial

BESIDE = 1e-7  # of a value: so far from a kink its two slopes are looked up
ORDERED = ("gt", "ge", "lt", "le")
MOST = 64  # ways to choose a slope at each kink that are tried
NAMED = 2  # kinks that are named

Change = Callable[[list], Tensor]


@dataclass(frozen=True)
class Kink:
    """A step of the forward with entries of its operand that have two slopes.

    `slopes` computes the step anew, each with another choice of the slope, the same at all of them.
    """

    i: int
    source: Ref
    places: Tensor
    what: str
    slopes: tuple[Change, ...]
    other: Ref | None = None

    def said(self, traced: Program, count: int) -> str:
        what = self.what + (traced.describe(self.other) if self.other else "")
        entries = "1 entry" if count == 1 else f"{count} entries"
        return f"{traced.describe(self.source)} {what} ({entries})"


def tie(trial: Trial) -> str:
    """Say where the forward has a kink, if the gradients differ by the slope taken there; else ''."""
    u, r, traced = trial.yours, trial.right, trial.problem.traced
    if u.shape != r.shape or traced is None:
        return ""
    scale = torch.maximum(u.abs().max(), r.abs().max())
    differ = (u - r).abs() > trial.tolerance * scale
    kinks = [kink for kink in kinks_of(traced) if kink.places.any()]
    for kink in kinks:
        given = _seen_through_views(traced, kink.source)
        if differ.shape != given or not (~differ | kink.places.reshape(given)).all():
            continue
        # Of the argument itself any slope goes; of x * mask, none where the mask is 0.
        if _root(traced, kink.source) == traced.wrt or _between(trial, kink, differ):
            return _said(trial, [kink], int(differ.sum()))
    gradients = _gradients(trial, kinks)
    return _said(trial, kinks) if any(same(u, g, trial.tolerance) for g in gradients) else ""


def _said(trial: Trial, kinks: list[Kink], count: int | None = None) -> str:
    _ = trial.problem.programs  # by now it is known what has a textbook name
    traced = trial.problem.traced
    said = [k.said(traced, int(k.places.sum()) if count is None else count) for k in kinks[:NAMED]]
    return " or ".join(said) + " or at other kinks" * (len(kinks) > NAMED)


def _gradients(trial: Trial, kinks: list[Kink]) -> Iterator[Tensor]:
    """Yield the right gradients with other slopes: each choice, and half of two of them."""
    traced = trial.problem.traced

    def gradient(slopes: tuple[Change, ...]) -> Tensor | None:
        changes = {kink.i: slope for kink, slope in zip(kinks, slopes, strict=True)}
        found = by_autograd_of(traced, [traced.wrt], trial.problem.upstream, changes)
        return found and found[0]

    sides = [gradient(tuple(kink.slopes[k] for kink in kinks)) for k in (0, 1)] if kinks else []
    sides = [side for side in sides if side is not None]
    yield from sides
    if len(sides) == 2:
        yield sum(sides) / 2
    choices = itertools.product(*(kink.slopes for kink in kinks))
    for slopes in itertools.islice(choices, MOST if kinks else 0):
        found = gradient(slopes)
        if found is not None:
            yield found


def kinks_of(traced: Program) -> Iterator[Kink]:
    """Yield the steps of a forward where the slope may jump, each with the entries where it does."""
    active = traced.dependents(1 << traced.wrt.i)
    for i, step in enumerate(traced.steps[: traced.output.i + 1]):
        # A mask that is given is no value with a kink, however often it is 0.
        source = next((o for o in step.operands() if active >> o.i & 1), None)
        if source is not None and traced.is_float(source):
            yield from _kinks_of_step(traced, i, step, source)


def _kinks_of_step(traced: Program, i: int, step: Step, source: Ref) -> Iterator[Kink]:
    x, value = traced[source], traced.values[i]
    if step.kind == "condition" and step.details.get("called", "gt") in ORDERED:
        sides = [resolve(a, traced.values) for a in step.arguments]
        one, bound = sides if len(sides) == 2 else (*sides, 0)
        if value.shape == x.shape:
            places = (one == bound).expand(x.shape)
            number = isinstance(bound, int | float)
            what = f"is exactly {bound:g}" if number else "equals "
            # Either side of a comparison may be the one that depends on the argument.
            other = None if number else next(a for a in step.arguments if a != source)
            other = other if isinstance(other, Ref) else None
            what = what if number or other else "is exactly at its bound"
            yield Kink(i, source, places, what, _either_side(step, source, places, x), other)
    elif step.details.get("ties") is not None:
        what, ties = "has the largest value of a window twice", step.details["ties"]
        yield Kink(i, source, ties, what, (step.run, step.run))
    elif step.kind == "extreme":
        axes, largest = step.details["axes"], value
        if not step.details["keep"]:
            for axis in sorted(axis % x.dim() for axis in axes):
                largest = largest.unsqueeze(axis)
        hits = x == largest
        twice = hits & (hits.sum(axes, keepdim=True) > 1)
        order = torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape) / x.numel() * twice
        one = _either_side(step, source, order, x)
        extreme = torch.amin if bool((largest <= x).all()) else torch.amax
        keep = step.details["keep"]
        yield Kink(
            i, source, twice, "has its extreme value more than once",
            (*one, lambda values: extreme(values[source.i], axes, keep)),
        )  # fmt: skip
    elif step.kind in ("unary", "opaque") and len(step.operands()) == 1:
        places = _bends(step, x, value)
        zero = not x[places].any()
        what = "is exactly 0" if zero else f"is where the slope of {step.details['called']} jumps"
        yield Kink(i, source, places, what, _either_side(step, source, places, x))


def _either_side(step: Step, source: Ref, shift: Tensor, x: Tensor) -> tuple[Change, Change]:
    """Return the step with the slope of the right and of the left side, and the value it has."""
    size = BESIDE * float(x.abs().max().clamp_min(1))

    def side(sign: int) -> Change:
        def run(values: list) -> Tensor:
            beside = list(values)
            beside[source.i] = values[source.i] + sign * size * shift
            there = step.run(beside)
            if not there.is_floating_point():
                return there
            return there + (step.run(values) - there).detach()

        return run

    return side(1), side(-1)


def _bends(step: Step, x: Tensor, value: Tensor) -> Tensor:
    """Tell at which entries the slope of an entrywise function jumps.

    A jump stays where the two points come nearer to each other, and what is smooth goes away.
    """
    nowhere = torch.zeros_like(x, dtype=torch.bool)
    if value.shape != x.shape:
        return nowhere

    def slope(distance: float) -> Tensor:
        at = (x + distance * torch.where(x == 0, 1, x.abs())).requires_grad_()
        there = step.function(*[at if type(a) is Ref else a for a in step.arguments])
        return torch.autograd.grad(there.sum(), at)[0]

    try:
        with torch.enable_grad():
            near, far = (slope(d) - slope(-d) for d in (BESIDE, 100 * BESIDE))
            size = slope(BESIDE).abs() + slope(-BESIDE).abs()
    except (RuntimeError, TypeError):
        return nowhere
    return (near.abs() > 1e-6 * size) & (near.abs() > 0.5 * far.abs())


def _between(trial: Trial, kink: Kink, differ: Tensor) -> bool:
    """Tell whether a slope between those on either side of a kink gives the user's gradient."""
    traced, u = trial.problem.traced, trial.yours
    sides = []
    for slope in kink.slopes:
        found = by_autograd_of(traced, [traced.wrt], trial.problem.upstream, {kink.i: slope})
        if found and found[0] is not None:
            sides.append(found[0].to(u.dtype))
    if not sides:
        return False
    margin = trial.tolerance * max(u.abs().max(), trial.right.abs().max())
    low, high = torch.stack(sides).amin(0) - margin, torch.stack(sides).amax(0) + margin
    return bool((~differ | ((u >= low) & (u <= high))).all())


def _root(traced: Program, source: Ref) -> Ref:
    """Return the value of which this one is a view."""
    while traced.steps[source.i].kind == "view":
        source = traced.steps[source.i].operands()[0]
    return source


def _seen_through_views(traced: Program, source: Ref) -> tuple[int, ...]:
    """Return the shape of the value of which this one is a view: its entries are the same."""
    return traced.shape(_root(traced, source))
