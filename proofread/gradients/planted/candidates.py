"""Plant one mistake at a time in the right backward.

Every candidate is a change of one or a few steps of a program, with the label of the mistake
that it is. None is run here; `Candidate.gradient` runs it. The enumeration depends on the
steps alone, so the same key means the same mistake on other data.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from proofread.gradients.graph.loops import loop_of
from proofread.gradients.graph.program import Program, Ref, Step, resolve

# A lower rank is said first where several labels fit.
TEXTBOOK, LOCAL, COUNTERFACTUAL, SWAP, REMOTE = 10, 20, 30, 40, 60
Change = Callable[[list], Tensor]
# A number is written in many ways: * 0.2, / 3, sqrt(3), 1e-05.
_NUMBERS = re.compile(r"sqrt\(\d+\)|\b\d[\d.]*(e[-+]?\d+)?|[*/.,()\s-]")


@dataclass(slots=True)
class Candidate:
    """One planted mistake: which steps change, its label, and a short account of it."""

    label: str
    what: str
    rank: int
    key: tuple
    program: Program
    changes: dict[int, Change] = field(repr=False)
    also: tuple[str, ...] = ()
    hint: str = ""
    sort: tuple | None = None  # alike in two candidates that plant the same at two steps
    in_loop: tuple | None = None  # alike in two that plant the same in two runs of a loop

    @property
    def source(self) -> tuple:
        """Name the planted mistake in a way that is the same on data of other sizes."""
        tag, i = self.key[:2]
        return tag, i, self.label, _NUMBERS.sub("", self.what)

    def gradient(self) -> Tensor | None:
        """Run the program with the mistake; None where the shapes do not fit."""
        return self.program.attempt(self.changes)


class Enumeration:
    """All single mistakes of one program."""

    def __init__(self, program: Program, tag: str, sizes: set[int]) -> None:
        self.p, self.tag, self.sizes = program, tag, sizes
        self.start = program.upstream.i
        self.carries = program.dependents(1 << program.upstream.i)
        self.active = program.dependents(1 << program.wrt.i)
        self.used = self._used()
        self.loop = loop_of(program)
        self.counter = itertools.count()

    def _used(self) -> set[int]:
        """Steps that the result needs."""
        needed, stack = set(), [self.p.result.i]
        while stack:
            i = stack.pop()
            if i not in needed:
                needed.add(i)
                stack.extend(r.i for r in self.p.steps[i].operands())
        return needed

    def plant(
        self,
        i: int,
        label: str,
        what: str,
        rank: int,
        change: Change,
        also: tuple[str, ...] = (),
        hint: str = "",
        sort: tuple | None = None,
    ) -> Candidate:
        key = (self.tag, i, next(self.counter))
        return Candidate(label, what, rank, key, self.p, {i: change}, also, hint=hint, sort=sort)

    def changed(self, label: str, what: str, rank: int, changes: dict[int, Change]) -> Candidate:
        """Plant a mistake in several steps."""
        key = (self.tag, min(changes), next(self.counter))
        return Candidate(label, what, rank, key, self.p, changes)

    def instead(self, i: int, label, what, rank, function, also=(), hint="") -> Candidate:
        """Plant another function of the same arguments."""
        arguments = self.p.steps[i].arguments

        def change(values):
            return function(*[resolve(a, values) for a in arguments])

        sort = _sort(label, function)
        return self.plant(i, label, what, rank, change, also, hint=hint, sort=sort)

    def rescaled(self, i, label, what, rank, function, factor, scale) -> Candidate:
        """Plant another factor in a forward step, and the same in the steps of its backward."""
        candidate = self.instead(i, label, what, rank, function)
        candidate.sort = None
        for j in sorted(self.used):
            step = self.p.steps[j]
            if step.about == i and step.kind == "mul" and step.arguments[1] == factor:

                def change(values, step=step):
                    g, f = (resolve(a, values) for a in step.arguments)
                    return shaped(g, f) * scale(f)

                candidate.changes[j] = change
        return candidate

    def reading(
        self, i: int, position: int, label, what, rank, other, also=(), hint=""
    ) -> Candidate:
        """Plant another value in the place of one argument; `other` maps values to it."""
        step = self.p.steps[i]

        def change(values):
            arguments = [resolve(a, values) for a in step.arguments]
            arguments[position] = other(values)
            return step.function(*arguments)

        own = step.arguments[position]
        sort = _sort(label, other, position, self.carries >> own.i & 1, own=own)
        return self.plant(i, label, what, rank, change, also, hint=hint, sort=sort)

    def seen_from(self, i: int, j: int) -> tuple:
        """Say where in the loop a value stands, as seen from a backward step: the line, and how many runs on."""
        step, further = self.p.steps[j], self.runs_on(i, j)
        if further is None:
            return ("itself", j)
        if step.phase == "forward":
            return self.loop.line(j), further
        part = None if j in self.p.gradient_of else (step.kind, step.role)
        return self.loop.line(self._value_of(j)), further, part

    def runs_on(self, i: int, j: int) -> int | None:
        """Return how many runs of the loop after a backward step's value j stands; None outside of a loop."""
        here = self.p.steps[i].about
        if self.loop is None or self.loop.line(here) is None:
            return None
        run = self.loop.run(self._value_of(j))
        return None if run is None else run - self.loop.run(here)

    def is_far(self, i: int, j: int, right: int) -> bool:
        """Tell a value that nobody takes for the right one: of another run of a loop, and another line."""
        further = self.runs_on(i, j)
        if not further or not self.loop.recurs:
            return False
        lines = {self.loop.line(self._value_of(k)) for k in (j, right)}
        return abs(further) > 1 or len(lines) > 1

    def _value_of(self, j: int) -> int:
        """Return the forward value that a step computes, or the gradient of which it is."""
        step = self.p.steps[j]
        return j if step.phase == "forward" else self.p.gradient_of.get(j, step.about)

    def name(self, ref: Ref) -> str:
        if ref.i == self.p.upstream.i:
            return "the upstream gradient"
        if self.p.steps[ref.i].phase == "backward" and self.carries >> ref.i & 1:
            value = self.p.gradient_of.get(ref.i)
            if value is not None:
                return f"the gradient with respect to {self.p.describe(Ref(value))}"
            step = self.p.steps[ref.i]
            if step.kind in ("sum", "mean") and step.role != "broadcast":
                return f"the {step.kind} of {self.name(step.operands()[0])}"
            return f"the gradient at {self.site(ref.i)}"
        return self.p.describe(ref)

    def site(self, i: int) -> str:
        """Name the forward value whose rule the step belongs to."""
        return self.p.describe(Ref(self.p.steps[i].about))


def _sort(label: str, function: Callable, *more, own: Ref | None = None) -> tuple | None:
    """Tell by its code whether a function plants the same as another; None where it can't."""
    code = getattr(function, "__code__", None)
    settings = []
    for value in getattr(function, "__defaults__", None) or ():
        value = "own" if value == own is not None else getattr(value, "__code__", value)
        if isinstance(value, Tensor | Ref | Step) or not isinstance(value, Hashable):
            return None
        settings.append(value)
    return label, code or function, tuple(settings), *more


Planter = Callable[[Enumeration, int, Step], Iterator[Candidate]]
PLANTERS: dict[str, Planter] = {}
FORWARDS: dict[str, Planter] = {}
UNREAD: dict[str, Planter] = {}  # of forward steps whose value the backward does not read


def plants(*kinds: str, into: dict[str, Planter] = PLANTERS) -> Callable[[Planter], Planter]:
    def register(planter: Planter) -> Planter:
        for kind in kinds:
            if kind in into and into[kind].__qualname__ != planter.__qualname__:
                raise ValueError(f"{kind!r} has a planter already: {into[kind].__qualname__}")
            into[kind] = planter
        return planter

    return register


def shaped(g: Tensor, f) -> Tensor:
    return g.expand(torch.broadcast_shapes(g.shape, f.shape)) if isinstance(f, Tensor) else g


def reduced(x: Tensor, step: Step, axes, keep: bool) -> Tensor:
    return x.mean(axes, keepdim=keep) if step.kind == "mean" else x.sum(axes, keepdim=keep)
