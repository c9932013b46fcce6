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

from proofread.gradients import repeated
from proofread.gradients.naming import spelled
from proofread.gradients.program import Program, Ref, Step, resolve

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

    def all(self) -> Iterator[Candidate]:
        """Yield every mistake at one step, then every mistake at all steps alike."""
        alike: dict[tuple, list[Candidate]] = {}
        for candidate in self._single():
            yield candidate
            if candidate.sort and len(candidate.changes) == 1:
                (i,) = candidate.changes
                step = self.p.steps[i]
                kind = (step.phase, step.kind, step.role, step.details.get("called"))
                alike.setdefault((candidate.sort, kind), []).append(candidate)
        for candidates in alike.values():
            if len({c.key[1] for c in candidates}) == len(candidates) > 1:
                yield self._at_all(candidates)
        yield from repeated.shifted(self)

    def _at_all(self, candidates: list[Candidate]) -> Candidate:
        """Plant the same mistake at each of several steps, such as those of a recurrence."""
        first = min(candidates, key=lambda c: c.key[1])
        return Candidate(
            first.label,
            f"{first.what}, and so at {len(candidates)} steps",
            first.rank + 2,
            (self.tag, first.key[1], next(self.counter)),
            self.p,
            {i: change for c in candidates for i, change in c.changes.items()},
            first.also,
            first.hint,
        )

    def _single(self) -> Iterator[Candidate]:
        yield from self._upstream()
        yield from self._identity()
        yield from self._stopped()
        for i in range(self.p.result.i + 1):
            step = self.p.steps[i]
            if i not in self.used:
                if step.kind in UNREAD and step.phase == "forward":
                    yield from UNREAD[step.kind](self, i, step)
            elif step.phase == "backward" and step.kind != "upstream":
                yield from self._alternatives(i, step)
                planter = PLANTERS.get(step.kind)
                if planter:
                    yield from planter(self, i, step)
                yield from self._reads(i, step)
                yield from self._detached(i, step)
            elif step.phase == "forward":
                yield from self._counterfactual(i, step)
        yield from self._saved_everywhere()

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

        sort = _sort(label, other, position, own=step.arguments[position])
        return self.plant(i, label, what, rank, change, also, hint=hint, sort=sort)

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

    def _upstream(self) -> Iterator[Candidate]:
        i = self.p.upstream.i
        upstream = self.p.values[i]
        yield self.plant(
            i,
            "missing_upstream",
            "the upstream gradient is not multiplied in at all",
            LOCAL - 1,
            lambda values: torch.ones_like(values[i]),
        )
        yield self.plant(
            i,
            "applied_twice",
            "the upstream gradient is multiplied in twice",
            LOCAL,
            lambda values: values[i] ** 2,
        )
        if self.p.shape(self.p.result) == tuple(upstream.shape):
            yield self.plant(
                self.p.result.i,
                "applied_twice",
                "the upstream gradient is multiplied in once more at the end",
                LOCAL + 4,
                lambda values, step=self.p.steps[self.p.result.i]: step.run(values) * values[i],
            )
        if upstream.dim():
            for what, collapse in COLLAPSES:
                yield self.plant(
                    i,
                    "upstream_collapsed",
                    f"{what} of the upstream gradient stands in for all of it",
                    LOCAL + (8 if " over " in what else 0),
                    lambda values, f=collapse: f(values[i]).expand_as(values[i]),
                )

    def _stopped(self) -> Iterator[Candidate]:
        """The gradient of a later value, handed back as it is."""
        p = self.p
        for i in sorted(self.used):
            step = p.steps[i]
            if not self.start < i < p.result.i or not self.carries >> i & 1:
                continue
            if p.shape(Ref(i)) == p.shape(p.result) and step.kind != "view":
                yield self.plant(
                    p.result.i,
                    "missing_local_derivative",
                    f"the gradient is followed back to {self.site(i)} only",
                    SWAP + 4,
                    lambda values, i=i: values[i] * 1.0,
                )

    def _identity(self) -> Iterator[Candidate]:
        """The upstream itself, where the whole forward works entry by entry."""
        p = self.p
        if p.shape(p.output) != p.shape(p.wrt) or not p[p.output].dim():
            return
        path = [p.steps[i] for i in range(p.wrt.i + 1, p.output.i + 1) if self.active >> i & 1]
        if not path or any(step.kind not in ENTRYWISE for step in path):
            return
        branches = any(step.kind == "where" for step in path)
        if not branches and any(step.role == "fork" for step in p.steps):
            return  # a value used twice: the other use is what is missing
        roles = {p.steps[i].role for i in self.used if p.steps[i].kind == "mul"}
        if branches:
            labels = ["missing_local_derivative", "missing_mask"]
        elif roles & {"mask", "activation_mask"}:
            labels = ["missing_mask", "missing_local_derivative"]
        elif roles & {"local", "loss", "operand"}:
            labels = ["missing_local_derivative"]
        else:
            labels = ["missing_scale_factor", "missing_local_derivative"]
        lost = {"missing_mask": "mask", "missing_scale_factor": "factor"}.get(
            labels[0], "derivative"
        )
        what = f"your gradient is upstream itself: the {lost} of {p.describe(p.output)} is left out"
        yield self.plant(
            p.result.i,
            labels[0],
            what,
            LOCAL - 2,
            lambda values: values[p.upstream.i] * 1.0,
            tuple(labels[1:]),
        )

    def _alternatives(self, i: int, step: Step) -> Iterator[Candidate]:
        for alternative in step.alternatives:
            yield self.instead(
                i,
                alternative.label,
                self._placed(i, alternative.what),
                TEXTBOOK,
                alternative.function,
                hint=alternative.hint,
            )

    def _placed(self, i: int, what: str) -> str:
        """Say where, in a sentence that has a place for it."""
        return what.replace("{site}", self.site(i))

    def _detached(self, i: int, step: Step) -> Iterator[Candidate]:
        """No gradient at all goes through this step."""
        if not self.carries >> i & 1 or i == self.p.result.i:
            return
        label, what, also = _detached_label(self, i)
        yield self.plant(
            i,
            label,
            what,
            LOCAL + 3,
            lambda values: torch.zeros_like(self.p.values[i]),
            also,
        )

    def _reads(self, i: int, step: Step) -> Iterator[Candidate]:
        """Each argument of a backward step, replaced by something of the same shape."""
        for position, argument in enumerate(step.arguments):
            if not isinstance(argument, Ref) or step.kind in ("places", "condition"):
                continue
            if self.carries >> argument.i & 1:
                yield from self._gradient_read(i, step, position, argument)
            else:
                yield from self._saved_read(i, step, position, argument)

    def _gradient_read(self, i, step, position, argument) -> Iterator[Candidate]:
        if step.kind in ("view", "permute", "spread", "fork_copy"):
            return
        here = self.site(i)
        yield self.reading(
            i,
            position,
            "missing_upstream",
            f"the term of {here} is not multiplied by {self.name(argument)}",
            LOCAL + 1,
            lambda values: torch.ones_like(values[argument.i]),
        )
        value = self.p.values[argument.i]
        level = bool((value == value.reshape(-1)[0]).all())  # such as 1/N for each entry
        if step.kind in COLLAPSIBLE and not level:
            for what, collapse in COLLAPSES:
                yield self.reading(
                    i,
                    position,
                    "upstream_collapsed",
                    f"{what} of {self.name(argument)} stands in for all of it",
                    LOCAL + 9,
                    lambda values, f=collapse: f(values[argument.i]).expand_as(values[argument.i]),
                )
        shape = self.p.shape(argument)
        for j in range(self.start, i):
            if j == argument.i or not self.carries >> j & 1 or j not in self.used:
                continue
            if isinstance(self.p.values[j], Tensor) and self.p.shape(Ref(j)) == shape:
                yield self.reading(
                    i,
                    position,
                    "missing_local_derivative",
                    f"the derivative of {self.site(argument.i)} is left out",
                    SWAP + 2,
                    lambda values, j=j: values[j],
                )

    def _saved_read(self, i, step, position, argument) -> Iterator[Candidate]:
        if self.p.values[argument.i].dim() == 0:
            return
        from_output = step.details.get("from_output") if position == 1 else None
        shape = self.p.shape(argument)
        named = self.name(argument)
        for j, value in enumerate(self.p.values[: self.start + 1]):
            if j == argument.i or not isinstance(value, Tensor) or tuple(value.shape) != shape:
                continue
            if not self.p.is_float(Ref(j)) or self._is_derived_view(j, argument.i):
                continue
            label, rank = self._swap_label(step, argument.i, j)
            said = f"your gradient uses {self.name(Ref(j))} where {named} belongs"
            hint = self.swap_hint(step, argument.i, j)
            if from_output:  # the step itself is written for the input
                change = lambda values, j=j: from_output(values[j])
                yield self.plant(i, label, said, rank, change, hint=hint)
                continue
            yield self.reading(
                i,
                position,
                label,
                said,
                rank,
                lambda values, j=j, like=argument.i: values[j].to(values[like].dtype),
                hint=hint,
            )
        if len(shape) >= 2 and shape[-1] == shape[-2] and step.kind in ("mul", "mul3"):
            yield self.reading(
                i,
                position,
                "transposed_operand",
                f"the factor {named} is transposed, and must not be",
                LOCAL,
                lambda values: values[argument.i].mT,
            )

    def _is_derived_view(self, j: int, i: int) -> bool:
        step = self.p.steps[j]
        return step.kind in ("view", "expand") and Ref(i) in step.operands()

    def _swap_label(self, step: Step, right: int, wrong: int) -> tuple[str, int]:
        about = self.p.steps[step.about]
        pair = {step.about, *(r.i for r in about.operands())}
        if step.kind in ("local",) and {right, wrong} <= pair:
            return "derivative_at_wrong_point", LOCAL
        if step.kind == "local" and self._is_read_alike(about, wrong):
            return "wrong_operand", SWAP + 1  # of another layer
        if step.kind == "local" or (step.kind == "mul" and step.role in ("inner",)):
            return "derivative_at_wrong_point", SWAP + 1
        if about.kind in ("softmax", "log_softmax", "pow", "unary") and {right, wrong} <= pair:
            return "derivative_at_wrong_point", LOCAL
        made_of = self.p.steps[right]
        squashed = step.role == "target" and made_of.kind in ("softmax", "unary")
        if squashed and Ref(wrong) in made_of.operands():
            return "derivative_at_wrong_point", LOCAL
        return "wrong_operand", SWAP

    def swap_hint(self, step: Step, right: int, wrong: int) -> str:
        """Say where the right one of two tensors comes from."""
        made_of = self.p.steps[right]
        if made_of.kind == "unary" and Ref(wrong) in made_of.operands():
            called = spelled(made_of.details["called"])
            return f"The forward uses the output of {called} there, and not its input."
        if self.p.steps[wrong].kind == "unary" and Ref(right) in self.p.steps[wrong].operands():
            called = spelled(self.p.steps[wrong].details["called"])
            return f"The forward uses the input of {called} there, and not its output."
        kind = self.p.steps[step.about].kind
        return {
            "div": "For a / b, the gradient of a holds 1 / b, and the gradient of b holds -a / b².",
            "mm": "For A @ B, the gradient of A holds B, and the gradient of B holds A.",
            "mul": "For a * b, the gradient of a holds b, and the gradient of b holds a.",
        }.get(kind, "")

    def _is_read_alike(self, about: Step, wrong: int) -> bool:
        """Tell whether a value goes into, or comes out of, another step of the same function."""
        called = about.details.get("called")
        return any(
            step is not about
            and step.details.get("called") == called
            and (i == wrong or Ref(wrong) in step.operands())
            for i, step in enumerate(self.p.steps[: self.start])
        )

    def _saved_everywhere(self) -> Iterator[Candidate]:
        """One saved tensor, replaced by another in every step of one rule or of the backward."""
        reads: dict[int, list[tuple[int, int]]] = {}
        for i in sorted(self.used):
            step = self.p.steps[i]
            if step.phase != "backward" or step.kind in ("upstream",):
                continue
            for position, argument in enumerate(step.arguments):
                if isinstance(argument, Ref) and argument.i < self.start:
                    reads.setdefault(argument.i, []).append((i, position))
        for right, places in reads.items():
            if len({i for i, _ in places}) < 2 or not self.p.is_float(Ref(right)):
                continue
            shape = self.p.shape(Ref(right))
            for j in range(self.start):
                value = self.p.values[j]
                if j == right or not isinstance(value, Tensor) or tuple(value.shape) != shape:
                    continue
                if self.p.is_float(Ref(j)) and value.dim():
                    yield self._replaced_everywhere(right, j, places)

    def _replaced_everywhere(self, right: int, wrong: int, places) -> Candidate:
        steps = sorted({i for i, _ in places})
        changes = {}
        for i in steps:
            step = self.p.steps[i]

            def change(values, step=step):
                kept = values[right]
                values[right] = values[wrong]
                try:
                    return step.run(values)
                finally:
                    values[right] = kept

            changes[i] = change
        abouts = {self.p.steps[i].about for i in steps}
        about = self.p.steps[min(abouts)]
        pair = {min(abouts), *(r.i for r in about.operands())}
        label = (
            "derivative_at_wrong_point"
            if len(abouts) == 1 and {right, wrong} <= pair and about.kind != "mm"
            else "wrong_operand"
        )
        return Candidate(
            label,
            f"your gradient uses {self.name(Ref(wrong))} where {self.name(Ref(right))} belongs",
            SWAP + 1,
            (self.tag, "everywhere", right, wrong),
            self.p,
            changes,
            hint=self.swap_hint(self.p.steps[min(steps)], right, wrong),
        )

    def _counterfactual(self, i: int, step: Step) -> Iterator[Candidate]:
        """The right gradient of another forward, one step of which differs."""
        planter = FORWARDS.get(step.kind)
        if planter:
            yield from planter(self, i, step)


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


def _first(t: Tensor) -> Tensor:
    return t.reshape(-1)[0]


ENTRYWISE = ("add", "sub", "mul", "div", "pow", "unary", "where", "condition", "cast")
COLLAPSIBLE = ("mul", "mul3", "mm", "stat_mul", "conv_backward", "scatter", "vjp")
COLLAPSES: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("the mean", lambda t: t.mean()),
    ("the first element", _first),
    ("the sum", lambda t: t.sum()),
    ("the last element", lambda t: t.reshape(-1)[-1]),
    ("the largest element", lambda t: t.max()),
    ("the first row", lambda t: t[:1]),
    ("the mean over the rows", lambda t: t.mean(0, keepdim=True)),
    ("the mean over the last axis", lambda t: t.mean(-1, keepdim=True)),
    ("the first column", lambda t: t[..., :1]),
    ("the sum over the last axis", lambda t: t.sum(-1, keepdim=True)),
    ("the norm", lambda t: t.norm()),
)

Planter = Callable[[Enumeration, int, Step], Iterator[Candidate]]
PLANTERS: dict[str, Planter] = {}
FORWARDS: dict[str, Planter] = {}
UNREAD: dict[str, Planter] = {}  # of forward steps whose value the backward does not read


def plants(*kinds: str, into: dict[str, Planter] = PLANTERS) -> Callable[[Planter], Planter]:
    def register(planter: Planter) -> Planter:
        into.update(dict.fromkeys(kinds, planter))
        return planter

    return register


def shaped(g: Tensor, f) -> Tensor:
    return g.expand(torch.broadcast_shapes(g.shape, f.shape)) if isinstance(f, Tensor) else g


def reduced(x: Tensor, step: Step, axes, keep: bool) -> Tensor:
    return x.mean(axes, keepdim=keep) if step.kind == "mean" else x.sum(axes, keepdim=keep)


def _detached_label(e: Enumeration, i: int) -> tuple[str, str, tuple]:
    """Name a gradient that is cut at a backward step, by the forward value it belongs to."""
    p = e.p
    about = p.steps[i].about
    what = f"no gradient reaches {p.describe(Ref(p.gradient_of.get(i, about)))}"
    if p.steps[about].kind == "var":
        return "norm_var_term_missing", what, ("missing_path", "norm_stats_detached")
    return "missing_path", what, ()
