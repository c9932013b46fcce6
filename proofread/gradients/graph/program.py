"""A straight-line program: the forward of the user and its backward, one step after another.

Each step computes one tensor from earlier ones. Changing one step and running what depends
on it again is how a wrong gradient is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from proofread.gradients.graph.naming import Call, Names


@dataclass(frozen=True, slots=True)
class Ref:
    """The value that step `i` computes."""

    i: int


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another function for a step, and the label of the mistake that it is.

    In `what`, {site} is the forward value whose rule the step belongs to.
    """

    label: str
    what: str
    function: Callable[..., Tensor]
    hint: str = ""


@dataclass(slots=True, eq=False)
class Step:
    """One operation: `function` of `arguments`, where a Ref stands for an earlier value.

    `kind` says what is computed, `role` what part of the chain rule it plays, `phase` is
    "forward" or "backward", `about` is the forward step whose rule made a backward one.
    """

    kind: str
    function: Callable
    arguments: tuple
    phase: str
    role: str = ""
    about: int = -1
    name: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    alternatives: tuple[Alternative, ...] = ()
    needs: int = 0

    def run(self, values: list) -> Any:
        return self.function(*[resolve(a, values) for a in self.arguments])

    def operands(self) -> list[Ref]:
        return list(refs(self.arguments))


def resolve(argument: Any, values: list) -> Any:
    """Put the values in the place of the references, also inside lists."""
    if type(argument) is Ref:
        return values[argument.i]
    if type(argument) in (list, tuple):
        return [resolve(a, values) for a in argument]
    return argument


def refs(argument: Any):
    """Yield every reference in the arguments of a step."""
    if type(argument) is Ref:
        yield argument
    elif type(argument) in (list, tuple):
        for part in argument:
            yield from refs(part)


class Program:
    """Steps with their values; the builders of forward and backward append to it.

    `calls` says how the user writes a value, `recognised` which textbook function it is, `gradient_of` of which forward value a step of the
    backward is the gradient.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.values: list[Any] = []
        self.phase = "forward"
        self.about = -1
        self.result = Ref(-1)
        self.output = Ref(-1)
        self.upstream = Ref(-1)
        self.wrt = Ref(-1)
        self.calls: dict[int, Call] = {}
        self.recognised: dict[int, Call] = {}
        self.numbers: dict[str, float] = {}
        self.gradient_of: dict[int, int] = {}
        self._names: Names | None = None

    def fork(self) -> Program:
        """Copy, so that another backward can be built on the same forward."""
        copy = Program()
        copy.steps, copy.values = list(self.steps), list(self.values)
        copy.output, copy.wrt = self.output, self.wrt
        copy.numbers = self.numbers
        copy.calls, copy.recognised = dict(self.calls), dict(self.recognised)
        return copy

    def leaf(self, value: Any, name: str, kind: str = "leaf") -> Ref:
        step = Step(kind, lambda: value, (), self.phase, about=self.about, name=name)
        return self._append(step, value)

    def emit(
        self,
        kind: str,
        function: Callable,
        *arguments: Any,
        role: str = "",
        alternatives: tuple[Alternative, ...] = (),
        **details: Any,
    ) -> Ref:
        """Append a step, compute its value, and return a reference to it."""
        step = Step(
            kind, function, arguments, self.phase, role, self.about, "", details, alternatives
        )
        for operand in refs(arguments):
            step.needs |= 1 << operand.i
        return self._append(step, step.run(self.values))

    def _append(self, step: Step, value: Any) -> Ref:
        self.steps.append(step)
        self.values.append(value)
        return Ref(len(self.steps) - 1)

    def __getitem__(self, ref: Ref) -> Any:
        return self.values[ref.i]

    def shape(self, ref: Ref) -> tuple[int, ...]:
        return tuple(self.values[ref.i].shape)

    def run(self, changes: Mapping[int, Callable[[list], Any]]) -> Tensor:
        """Return the result with some steps changed; only what depends on them runs again."""
        values = list(self.values)
        dirty = 0
        for i in range(min(changes), self.result.i + 1):
            change = changes.get(i)
            if change is not None:
                values[i] = change(values)
                dirty |= 1 << i
            elif self.steps[i].needs & dirty:
                values[i] = self.steps[i].run(values)
                dirty |= 1 << i
        return values[self.result.i]

    def attempt(self, changes: Mapping[int, Callable[[list], Any]]) -> Tensor | None:
        """Run with some steps changed; None where the changed values do not fit together."""
        try:
            return self.run(changes)
        except (RuntimeError, IndexError, ValueError, TypeError, ArithmeticError):
            return None

    def dependents(self, sources: int) -> int:
        """Return, as bits, the sources and every step that depends on one of them."""
        for i, step in enumerate(self.steps):
            if step.needs & sources:
                sources |= 1 << i
        return sources

    def is_float(self, ref: Ref) -> bool:
        value = self.values[ref.i]
        return isinstance(value, Tensor) and value.dtype in (torch.float64, torch.float32)

    def call(self, ref: Ref, called: str, *arguments: Any) -> Ref:
        """Note how the user writes a value, where its steps do not show it."""
        self.calls[ref.i] = Call(called, arguments)
        return ref

    def recognise(self, ref: Ref, called: str, *arguments: Any) -> None:
        """Note which textbook function a value is."""
        self.recognised[ref.i] = Call(called, arguments)

    @property
    def names(self) -> Names:
        if self._names is None:
            self._names = Names(self)
        return self._names

    def rename(self) -> None:
        """Forget the names: by now more is known of what the values are."""
        self._names = None

    def describe(self, ref: Ref) -> str:
        """Say what a value is in the names of the user: `W`, `softmax(X @ W)`."""
        return self.names.describe(ref)

    def number(self, value: float) -> str:
        """Say what a number of the forward is: `lam`, `sqrt(3)`, `0.1`."""
        return self.names.number(value).text
