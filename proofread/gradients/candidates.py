"""Plant one mistake at a time in the right backward.

Every candidate is a change of one or a few steps of a program, with the label of the mistake
that it is. None is run here; `Candidate.gradient` runs it. The enumeration depends on the
steps alone, so the same key means the same mistake on other data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from proofread.gradients.derive import other_axes
from proofread.gradients.program import Program, Ref, Step, resolve
from proofread.gradients.unary import UNARY

# A lower rank is said first where several labels fit.
TEXTBOOK, LOCAL, COUNTERFACTUAL, SWAP, REMOTE = 10, 20, 30, 40, 60
Change = Callable[[list], Tensor]


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
        yield from self._upstream()
        yield from self._identity()
        for i in sorted(self.used):
            step = self.p.steps[i]
            if step.phase == "backward" and step.kind != "upstream":
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
        self, i: int, label: str, what: str, rank: int, change: Change, also: tuple[str, ...] = ()
    ) -> Candidate:
        return Candidate(
            label, what, rank, (self.tag, i, next(self.counter)), self.p, {i: change}, also
        )

    def instead(self, i: int, label, what, rank, function, also=()) -> Candidate:
        """Plant another function of the same arguments."""
        arguments = self.p.steps[i].arguments

        def change(values):
            return function(*[resolve(a, values) for a in arguments])

        return self.plant(i, label, what, rank, change, also)

    def rescaled(self, i, label, what, rank, function, factor, scale) -> Candidate:
        """Plant another factor in a forward step, and the same in the steps of its backward."""
        candidate = self.instead(i, label, what, rank, function)
        for j in sorted(self.used):
            step = self.p.steps[j]
            if step.about == i and step.kind == "mul" and step.arguments[1] == factor:

                def change(values, step=step):
                    g, f = (resolve(a, values) for a in step.arguments)
                    return _shaped(g, f) * scale(f)

                candidate.changes[j] = change
        return candidate

    def reading(self, i: int, position: int, label, what, rank, other, also=()) -> Candidate:
        """Plant another value in the place of one argument; `other` maps values to it."""
        step = self.p.steps[i]

        def change(values):
            arguments = [resolve(a, values) for a in step.arguments]
            arguments[position] = other(values)
            return step.function(*arguments)

        return self.plant(i, label, what, rank, change, also)

    def name(self, ref: Ref) -> str:
        if ref.i == self.p.upstream.i:
            return "the upstream gradient"
        if self.p.steps[ref.i].phase == "backward" and self.carries >> ref.i & 1:
            about = self.p.steps[ref.i].about
            return f"the gradient at {self.p.describe(Ref(about))}"
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
            "the upstream gradient is not multiplied in",
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
        if upstream.dim():
            for what, collapse in COLLAPSES:
                yield self.plant(
                    i,
                    "upstream_collapsed",
                    f"{what} stands in for the whole upstream gradient",
                    LOCAL + (8 if " over " in what else 0),
                    lambda values, f=collapse: f(values[i]).expand_as(values[i]),
                )

    def _identity(self) -> Iterator[Candidate]:
        """The upstream itself, where the whole forward works entry by entry."""
        p = self.p
        if p.shape(p.output) != p.shape(p.wrt) or not p[p.output].dim():
            return
        path = [p.steps[i] for i in range(p.wrt.i + 1, p.output.i + 1) if self.active >> i & 1]
        if not path or any(step.kind not in ENTRYWISE for step in path):
            return
        labels = ["missing_local_derivative"]
        if any(s.details.get("called") == "relu" for s in path):
            labels.insert(0, "missing_mask")
        elif any(s.kind == "where" for s in path):
            labels.append("missing_mask")
        yield self.plant(
            p.result.i,
            labels[0],
            "the upstream gradient is returned as it is",
            LOCAL - 2,
            lambda values: values[p.upstream.i] * 1.0,
            tuple(labels[1:]),
        )

    def _alternatives(self, i: int, step: Step) -> Iterator[Candidate]:
        for alternative in step.alternatives:
            yield self.instead(
                i, alternative.label, alternative.what, TEXTBOOK, alternative.function
            )

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
        here = f"at {self.site(i)}"
        yield self.reading(
            i,
            position,
            "missing_upstream",
            f"the gradient is left out of one factor {here}",
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
                    f"{what} stands in for the whole gradient {here}",
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
                    f"a gradient from before {self.site(argument.i)} is used",
                    SWAP + 2,
                    lambda values, j=j: values[j],
                )

    def _saved_read(self, i, step, position, argument) -> Iterator[Candidate]:
        if self.p.values[argument.i].dim() == 0:
            return
        shape = self.p.shape(argument)
        named = self.name(argument)
        for j, value in enumerate(self.p.values[: self.start + 1]):
            if j == argument.i or not isinstance(value, Tensor) or tuple(value.shape) != shape:
                continue
            if not self.p.is_float(Ref(j)) or self._is_derived_view(j, argument.i):
                continue
            label, rank = self._swap_label(step, argument.i, j)
            yield self.reading(
                i,
                position,
                label,
                f"{self.name(Ref(j))} stands where {named} belongs",
                rank,
                lambda values, j=j, like=argument.i: values[j].to(values[like].dtype),
            )
        if len(shape) >= 2 and shape[-1] == shape[-2] and step.kind in ("mul", "mul3"):
            yield self.reading(
                i,
                position,
                "transposed_operand",
                f"{named} is transposed",
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
        if step.kind == "local" or (step.kind == "mul" and step.role in ("inner",)):
            return "derivative_at_wrong_point", SWAP + 1
        if about.kind in ("softmax", "log_softmax", "pow", "unary") and {right, wrong} <= pair:
            return "derivative_at_wrong_point", LOCAL
        made_of = self.p.steps[right]
        squashed = step.role == "target" and made_of.kind in ("softmax", "unary")
        if squashed and Ref(wrong) in made_of.operands():
            return "derivative_at_wrong_point", LOCAL
        return "wrong_operand", SWAP

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
            f"{self.name(Ref(wrong))} stands where {self.name(Ref(right))} belongs",
            SWAP + 1,
            (self.tag, "everywhere", right, wrong),
            self.p,
            changes,
        )

    def _counterfactual(self, i: int, step: Step) -> Iterator[Candidate]:
        """The right gradient of another forward, one step of which differs."""
        planter = FORWARDS.get(step.kind)
        if planter:
            yield from planter(self, i, step)


def _first(t: Tensor) -> Tensor:
    return t.reshape(-1)[0]


ENTRYWISE = ("add", "sub", "mul", "div", "pow", "unary", "where", "condition", "cast")
COLLAPSIBLE = ("mul", "mul3", "mm", "stat_mul", "conv_backward", "scatter", "vjp")
COLLAPSES: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("its mean", lambda t: t.mean()),
    ("its first element", _first),
    ("its sum", lambda t: t.sum()),
    ("its last element", lambda t: t.reshape(-1)[-1]),
    ("its largest element", lambda t: t.max()),
    ("its first row", lambda t: t[:1]),
    ("its mean over the rows", lambda t: t.mean(0, keepdim=True)),
    ("its mean over the last axis", lambda t: t.mean(-1, keepdim=True)),
    ("its first column", lambda t: t[..., :1]),
    ("its sum over the last axis", lambda t: t.sum(-1, keepdim=True)),
    ("its norm", lambda t: t.norm()),
)

Planter = Callable[[Enumeration, int, Step], Iterator[Candidate]]
PLANTERS: dict[str, Planter] = {}
FORWARDS: dict[str, Planter] = {}


def plants(*kinds: str, into: dict[str, Planter] = PLANTERS) -> Callable[[Planter], Planter]:
    def register(planter: Planter) -> Planter:
        into.update(dict.fromkeys(kinds, planter))
        return planter

    return register


@plants("mul")
def _mul(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Mistakes in `gradient * factor`, by what the factor is."""
    factor = step.arguments[1]
    named = e.name(factor) if isinstance(factor, Ref) else f"{factor:.4g}"
    here = f"at {e.site(i)}"
    drop = lambda g, f: _shaped(g, f)
    twice = lambda g, f: g * f * f
    if step.role == "count":
        yield from _count(e, i, step)
    elif step.role in ("const", "power"):
        also = ("missing_mean",) if _may_be_count(e, factor) else ()
        yield e.instead(
            i, "missing_scale_factor", f"the factor {named} {here} is left out", LOCAL, drop, also
        )
        # 1/d for 1/sqrt(d) is another constant rather than the same one twice.
        rooted = not isinstance(factor, Ref) and _is_root(factor)
        labels = (
            ("wrong_scale_factor", "applied_twice")
            if rooted
            else ("applied_twice", "wrong_scale_factor")
        )
        yield e.instead(
            i, labels[0], f"the factor {named} {here} is there twice", LOCAL + 3, twice, labels[1:]
        )
        yield e.instead(
            i,
            "wrong_scale_factor",
            f"the factor {named} {here} is inverted",
            LOCAL + 2,
            lambda g, f: g / f,
        )
        yield e.instead(
            i,
            "wrong_scale_factor",
            f"the root of the factor {named} {here} is taken",
            LOCAL + 4,
            lambda g, f: g * abs(f) ** 0.5,
        )
        if step.role == "power":
            yield e.instead(
                i, "wrong_power", f"the exponent {here} is off", LOCAL + 5, lambda g, f: g * g
            )
            yield e.instead(
                i,
                "wrong_scale_factor",
                f"the factor {named} {here} is off by one",
                LOCAL + 5,
                lambda g, f: g * (f + 1),
            )
    elif step.role == "sign":
        yield e.instead(i, "sign_error", f"a minus {here} is lost", LOCAL, drop)
    elif step.role == "absent":
        pass
    elif step.role in ("mask", "activation_mask"):
        yield from _mask(e, i, step)
    elif step.role in ("local", "loss"):
        called = step.details.get("called") or e.site(i)
        yield e.instead(
            i, "missing_local_derivative", f"the derivative of {called} is left out", LOCAL, drop
        )
        yield e.instead(
            i, "applied_twice", f"the derivative of {called} is multiplied in twice", LOCAL, twice
        )
        yield e.instead(
            i,
            "applied_twice",
            "the gradient is multiplied in twice",
            LOCAL + 1,
            lambda g, f: g * g * f,
        )
        yield e.instead(
            i,
            "wrong_power",
            f"the derivative of {called} is inverted",
            LOCAL + 4,
            lambda g, f: g / f,
        )
    else:
        yield from _operand(e, i, step, named, here, drop, twice)


def _may_be_count(e: Enumeration, factor) -> bool:
    return not isinstance(factor, Ref) and bool(factor) and round(1 / factor, 9) in e.sizes


def _is_root(factor: float) -> bool:
    square = max(factor * factor, 1 / (factor * factor)) if factor else 0.5
    return abs(square - round(square)) < 1e-9 and not float(factor).is_integer()


def _shaped(g: Tensor, f) -> Tensor:
    return g.expand(torch.broadcast_shapes(g.shape, f.shape)) if isinstance(f, Tensor) else g


def _operand(e, i, step, named, here, drop, twice) -> Iterator[Candidate]:
    factor = step.arguments[1]
    whole = isinstance(factor, Ref) and e.p.shape(factor) == e.p.shape(step.arguments[0])
    statistic = isinstance(factor, Ref) and (_is_statistic(e.p, factor) or _under_root(e.p, factor))
    own = isinstance(factor, Ref) and e.active >> factor.i & 1
    if whole and not (isinstance(factor, Ref) and e.p.steps[factor.i].kind == "reciprocal"):
        label = "missing_local_derivative"
        also = ("missing_scale_factor",)
    else:
        label, also = "missing_scale_factor", ("missing_local_derivative",)
    yield e.instead(i, label, f"the factor {named} {here} is left out", LOCAL, drop, also)
    yield e.instead(
        i,
        "wrong_power" if statistic else "applied_twice",
        f"the factor {named} {here} is there twice",
        LOCAL,
        twice,
        ("applied_twice",) if statistic else (),
    )
    if isinstance(factor, Ref):
        yield e.instead(
            i,
            "wrong_power" if statistic or own else "wrong_scale_factor",
            f"the factor {named} {here} is inverted",
            LOCAL + 2,
            lambda g, f: g / f,
        )
        if statistic:
            for k, said in ((3, "cubed"), (0.5, "under a root"), (-2, "inverted and squared")):
                yield e.instead(
                    i,
                    "wrong_power",
                    f"the statistic {named} {here} is {said}",
                    LOCAL + 2,
                    lambda g, f, k=k: g * f**k,
                )


def _under_root(p: Program, factor: Ref) -> bool:
    step = p.steps[factor.i]
    if step.kind == "reciprocal":
        step = p.steps[step.operands()[0].i]
    return step.kind == "unary" and step.details["called"] in ("sqrt", "rsqrt")


def _is_statistic(p: Program, ref: Ref, depth: int = 4) -> bool:
    """Tell whether a value is made from a reduction: a mean, a variance, a sum."""
    step = p.steps[ref.i]
    if step.kind in ("sum", "mean", "var", "rstd"):
        return True
    if depth and step.kind in ("unary", "pow", "add", "reciprocal", "expand", "view", "opaque"):
        return any(_is_statistic(p, r, depth - 1) for r in step.operands())
    return False


def _count(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    factor = step.arguments[1]
    if isinstance(factor, Ref):
        factor = float(e.p[factor])
    count = round(1 / abs(factor))
    here = f"at {e.site(i)}"
    yield e.instead(
        i, "missing_mean", f"the average over {count} {here} is left out", LOCAL, lambda g, f: g
    )
    yield e.instead(
        i,
        "extra_mean",
        f"the average over {count} {here} is taken twice",
        LOCAL,
        lambda g, f: g * f * abs(f),
        ("applied_twice",),
    )
    sign = math.copysign(1, factor)
    for other in sorted(e.sizes | {count - 1, count + 1}):
        if other in (count, 1, count * count, 0):
            continue
        within = count % other == 0
        label = "wrong_mean_count"
        # 1/N twice, N a part of the count, is an average too many; N * C for N is a miscount.
        beyond = other % count == 0 and other // count in e.sizes
        repeated = beyond and count % (other // count) == 0
        if repeated:
            label = "extra_mean"
        yield e.instead(
            i,
            label,
            f"divides by {other} where the forward averages over {count} {here}",
            LOCAL + (1 if within or beyond else 3),
            lambda g, f, o=other: g * sign / o,
            ("missing_mean",) if within else ("extra_mean", "wrong_mean_count") if beyond else (),
        )


def _mask(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    factor = step.arguments[1]
    here = f"at {e.site(i)}"
    activation = step.role == "activation_mask"
    called = step.details.get("called", "the mask")
    if activation:
        yield e.instead(
            i,
            "missing_local_derivative",
            f"the derivative of {called} is left out",
            LOCAL,
            lambda g, f: g,
            ("missing_mask",),
        )
    else:
        also = ("missing_local_derivative",) if e.p.steps[step.about].kind == "where" else ()
        yield e.instead(
            i,
            "missing_mask",
            f"the mask {here} is left out",
            LOCAL,
            lambda g, f: _shaped(g, f).clone(),
            also,
        )
    largest = lambda f: f.max() if f.dtype != torch.bool else 1
    if not activation and e.p.values[factor.i].dtype != torch.bool:
        yield e.instead(
            i,
            "missing_scale_factor",
            f"the scale of the mask {here} is left out",
            LOCAL,
            lambda g, f: g * (f != 0),
        )
        yield e.instead(
            i,
            "applied_twice",
            f"the mask {here} is applied twice, with its scale",
            LOCAL,
            lambda g, f: g * f * f,
        )
        yield e.instead(
            i, "missing_mask", f"the mask {here} is left out", LOCAL, lambda g, f: g * largest(f)
        )
    yield e.instead(
        i,
        "wrong_mask",
        f"the mask {here} is inverted",
        LOCAL,
        lambda g, f: g * (f == 0) * largest(f),
    )
    yield e.instead(
        i,
        "wrong_mask",
        f"the mask {here} looks at the sign of the gradient",
        LOCAL,
        lambda g, f: g * (g > 0),
    )
    yield e.instead(
        i,
        "wrong_mask",
        f"the mask {here} looks at the sign of the gradient",
        LOCAL + 1,
        lambda g, f: g * (g < 0),
    )
    shape = e.p.shape(factor)
    if len(shape) == 2 and shape[0] == shape[1]:
        yield e.instead(
            i, "wrong_mask", f"the mask {here} is transposed", LOCAL, lambda g, f: g * f.mT
        )
    for j, value in enumerate(e.p.values[: e.start + 1]):
        if not isinstance(value, Tensor) or tuple(value.shape) != e.p.shape(Ref(i)):
            continue
        if value.dtype == torch.int64 or j == factor.i:
            continue
        condition = e.p.steps[factor.i]
        if value.dtype == torch.bool:
            yield e.instead(
                i,
                "wrong_mask",
                f"another mask is applied {here}",
                SWAP,
                lambda g, f, v=value: g * v,
            )
            continue
        for said, test in (("> 0", _positive), ("< 0", _negative)):
            if activation or condition.kind == "condition":
                yield e.plant(
                    i,
                    "wrong_mask",
                    f"the mask asks {e.name(Ref(j))} {said} {here}",
                    LOCAL + 1,
                    lambda values, j=j, t=test: values[step.arguments[0].i] * t(values[j]),
                )


def _positive(t: Tensor) -> Tensor:
    return t > 0


def _negative(t: Tensor) -> Tensor:
    return t < 0


@plants("sum", "mean")
def _sum(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A reduction in the backward: left out, over other axes, averaged, or only one row."""
    axes, keep = step.details["axes"], step.details["keep"]
    source = step.arguments[0]
    rank, here = e.p[source].dim(), f"at {e.site(i)}"
    count = math.prod(e.p.shape(source)[a] for a in axes)
    if step.role == "broadcast":
        yield from _broadcast_sum(e, i, step, axes, rank, here)
    if step.kind == "sum":
        yield e.instead(
            i,
            "extra_mean",
            f"a mean over {count} where a sum belongs {here}",
            LOCAL,
            lambda x: step.function(x) / count,
        )
    for other in other_axes(axes, rank):
        label = "wrong_axis"
        yield e.instead(
            i,
            label,
            f"sums over {_axes(other)} and not over {_axes(axes)} {here}",
            LOCAL,
            lambda x, o=other: _reduced(x, step, o, True),
        )
        if not keep or step.role == "broadcast":
            yield e.instead(
                i,
                label,
                f"sums over {_axes(other)} and not over {_axes(axes)} {here}",
                LOCAL,
                lambda x, o=other: _reduced(x, step, o, False),
            )
        if step.role == "broadcast" and len(other) == rank:
            yield e.instead(
                i,
                label,
                f"sums over all axes, and not over {_axes(axes)} only {here}",
                LOCAL,
                lambda x: x.sum().expand(step.details["shape"]),
            )
        if step.role == "broadcast":
            yield e.instead(
                i,
                label,
                f"averages over {_axes(other)} and does not sum over {_axes(axes)}",
                LOCAL + 2,
                lambda x, o=other: x.mean(o),
            )
    if keep and step.role != "broadcast":
        yield e.instead(
            i,
            "wrong_axis",
            f"the sum {here} loses its kept dimension",
            LOCAL + 2,
            lambda x: _reduced(x, step, axes, False),
        )
        yield e.instead(
            i,
            "missing_cross_terms",
            f"the sum over {_axes(axes)} {here} is left out",
            LOCAL,
            lambda x: x,
            ("missing_broadcast_sum",),
        )


def _reduced(x: Tensor, step: Step, axes, keep: bool) -> Tensor:
    return x.mean(axes, keepdim=keep) if step.kind == "mean" else x.sum(axes, keepdim=keep)


def _axes(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {axes}"


def _broadcast_sum(e, i, step, axes, rank, here) -> Iterator[Candidate]:
    named = e.name(Ref(step.about))
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"the sum over {_axes(axes)} {here} is left out",
        LOCAL,
        lambda x: x,
    )
    for size in range(1, len(axes)):
        for part in itertools.combinations(axes, size):
            for keep in (True, False):
                yield e.instead(
                    i,
                    "missing_broadcast_sum",
                    f"sums over {_axes(part)} only, not over all of {_axes(axes)} {here}",
                    LOCAL,
                    lambda x, a=part, k=keep: x.sum(a, keepdim=k),
                )
    for said, place in (("last", -1), ("first", 0)):
        yield e.instead(
            i,
            "overwrite_not_accumulate",
            f"only the {said} of the {named} uses counts",
            LOCAL,
            lambda x, k=place: _one_of(x, axes, k).reshape(step.details["shape"]),
        )
        if len(axes) > 1:
            yield e.instead(
                i,
                "overwrite_not_accumulate",
                f"only the {said} entry of axis {axes[0]} counts",
                LOCAL,
                lambda x, k=place: (
                    _one_of(x, axes[:1], k).sum(axes, keepdim=True).reshape(step.details["shape"])
                ),
            )


def _one_of(x: Tensor, axes, place: int) -> Tensor:
    for axis in axes:
        x = x.select(axis, place).unsqueeze(axis)
    return x


@plants("mm")
def _mm(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A matrix product in the backward: transposes, one row only, the sum left out."""
    a, b = step.arguments
    here = f"at {e.site(i)}"
    shape_a, shape_b = e.p.shape(a), e.p.shape(b)
    named = [e.name(a), e.name(b)]
    for position, shape in ((0, shape_a), (1, shape_b)):
        if shape[-1] == shape[-2]:
            said = named[position]
            yield e.reading(
                i,
                position,
                "transposed_operand",
                f"{said} is transposed, or not, by mistake",
                LOCAL,
                lambda values, r=step.arguments[position]: values[r.i].mT,
            )
    yield e.instead(
        i,
        "transposed_operand",
        f"the product {here} comes out transposed",
        LOCAL,
        lambda x, y: (x @ y).mT,
    )
    yield e.instead(
        i, "transposed_operand", f"the factors {here} are exchanged", LOCAL, lambda x, y: y @ x
    )
    inner = shape_a[-1]
    operand = step.details.get("operand", -1)
    summed = operand == e.p.steps[step.about].arguments[0].i if operand >= 0 else False
    if summed:
        yield from _summed_mm(e, i, inner, here)
    yield e.instead(
        i, "extra_mean", f"divides by {inner} {here}", LOCAL, lambda x, y: (x @ y) / inner
    )
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"the sum of the product {here} is left out",
        LOCAL,
        lambda x, y: (
            (x.unsqueeze(-1) * y.unsqueeze(-3)).transpose(0, 1)
            if x.dim() == 2
            else x.unsqueeze(-1) * y.unsqueeze(-3)
        ),
    )
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"an elementwise product stands for the matrix product {here}",
        SWAP,
        lambda x, y: x * y,
    )
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"an elementwise product stands for the matrix product {here}",
        SWAP,
        lambda x, y: x.mT * y,
    )


def _summed_mm(e: Enumeration, i: int, inner: int, here: str) -> Iterator[Candidate]:
    blocks = [1, *sorted(k for k in e.sizes if inner % k == 0 and k < inner)]
    pieces = [("last", slice(-k, None)) for k in blocks] + [("first", slice(k)) for k in blocks]
    for said, rows in pieces:
        yield e.instead(
            i,
            "overwrite_not_accumulate",
            f"only the {said} of the {inner} rows count {here}",
            LOCAL,
            lambda x, y, r=rows: x[..., r] @ y[..., r, :],
        )
    yield e.instead(
        i,
        "wrong_axis",
        f"the rows are summed before the product {here}",
        LOCAL + 2,
        lambda x, y: x.sum(-1, keepdim=True) @ y.sum(-2, keepdim=True),
        ("upstream_collapsed",),
    )
    yield e.instead(
        i,
        "wrong_axis",
        f"the rows are averaged before the product {here}",
        LOCAL + 2,
        lambda x, y: x.mean(-1, keepdim=True) @ y.mean(-2, keepdim=True),
        ("extra_mean",),
    )
    yield e.instead(
        i,
        "upstream_collapsed",
        f"the mean of the input's rows {here} stands for each",
        LOCAL + 3,
        lambda x, y: x.mean(-1, keepdim=True) @ y.sum(-2, keepdim=True),
        ("extra_mean",),
    )


@plants("add")
def _fork(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Two paths that meet: one is lost, counted twice or has the wrong sign."""
    if step.role != "fork":
        return
    forked = step.details["forked"]
    for position in (0, 1):
        lost, kept = (step.arguments[position], step.arguments[1 - position])
        label, what, also = _path_label(e, forked, lost, kept)
        yield e.instead(i, label, what, LOCAL, lambda a, b, k=1 - position: (a, b)[k], also)


def _path_label(e: Enumeration, forked: int, lost: Ref, kept: Ref) -> tuple[str, str, tuple]:
    """Name a path that is left out, by where it leads."""
    p = e.p
    here = p.describe(Ref(forked))
    through = p.describe(Ref(p.steps[lost.i].about))
    about_lost, about_kept = p.steps[lost.i].about, p.steps[kept.i].about
    what = f"the path from {here} through {through} is left out"
    statistic = _statistic_on_path(p, forked, about_lost)
    if statistic == "mean":
        return "norm_mean_term_missing", what, ("missing_path",)
    if statistic == "var":
        return "norm_var_term_missing", what, ("missing_path", "norm_stats_detached")
    if _meet_in_product(e, about_lost, about_kept):
        return "missing_product_term", what, ("missing_path",)
    if _is_target_path(p, lost):
        return "missing_target", what, ("missing_path",)
    return "missing_path", what, ("overwrite_not_accumulate",)


def _detached_label(e: Enumeration, i: int) -> tuple[str, str, tuple]:
    """Name a gradient that is cut at a backward step, by the forward value it belongs to."""
    p = e.p
    about = p.steps[i].about
    through = p.describe(Ref(about))
    what = f"the path through {through} is left out"
    if p.steps[about].kind == "var":
        return "norm_var_term_missing", what, ("missing_path", "norm_stats_detached")
    return "missing_path", what, ()


def _meet_in_product(e: Enumeration, first: int, second: int) -> bool:
    """Tell whether two paths meet in the two operands of a product or a quotient."""
    if first == second:
        return e.p.steps[first].kind in ("mul", "div")
    reach = [e.p.dependents(1 << i) for i in (first, second)]
    for i in range(min(first, second), e.p.output.i + 1):
        if not (reach[0] >> i & 1 and reach[1] >> i & 1):
            continue
        return e.p.steps[i].kind in ("mul", "div")
    return False


def _is_target_path(p: Program, lost: Ref) -> bool:
    value, step = p[lost], p.steps[lost.i]
    return bool(
        step.kind == "scatter"
        and p.steps[p.output.i].kind
        and (value == 0).any()
        and p[p.output].dim() == 0
    )


def _statistic_on_path(p: Program, source: int, first: int) -> str | None:
    """Tell whether a path goes into the mean or the variance of a normalisation."""
    step = p.steps[first]
    if step.kind == "var":
        return "var"
    if step.kind == "mean":
        return "mean" if _subtracted_from(p, first, source) else None
    if step.kind == "sum" and _subtracted_from(p, first, source):
        return "mean"
    if step.kind == "pow" or (step.kind == "mul" and len(set(step.operands())) == 1):
        after = [s for s in p.steps[first + 1 : p.output.i + 1] if Ref(first) in s.operands()]
        if any(s.kind in ("mean", "sum") and s.details.get("axes") for s in after):
            return "var" if _scales_back(p, first, source) else None
    return None


def _subtracted_from(p: Program, statistic: int, source: int) -> bool:
    reach = p.dependents(1 << statistic)
    return any(
        s.kind == "sub" and Ref(source) in s.operands() and s.needs & reach
        for s in p.steps[statistic + 1 : p.output.i + 1]
    )


def _scales_back(p: Program, statistic: int, source: int) -> bool:
    reach = p.dependents(1 << statistic)
    return any(
        s.kind in ("mul", "div") and s.needs & reach and p.values[i].shape == p.values[source].shape
        for i, s in enumerate(p.steps[: p.output.i + 1])
        if i > statistic
    )


@plants("sub")
def _sub(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A difference in a textbook formula: one side left out, or added."""
    named = [e.name(a) for a in step.arguments]
    if step.role == "target":
        yield e.instead(
            i, "missing_target", f"{named[1]} is not subtracted", TEXTBOOK, lambda a, b: a
        )
        yield e.instead(i, "missing_path", f"only {named[1]} is left", LOCAL, lambda a, b: -b)
    elif step.role == "cross":
        yield e.instead(
            i,
            "missing_path",
            f"the sum {named[1]} is not subtracted",
            LOCAL,
            lambda a, b: a,
            ("missing_cross_terms",),
        )
        yield e.instead(i, "missing_path", "only the sum is left", LOCAL, lambda a, b: -b)
        yield e.instead(
            i, "sign_error", "the sum is added, not subtracted", TEXTBOOK, lambda a, b: a + b
        )
    elif step.role == "centre":
        yield e.instead(
            i, "norm_mean_term_missing", "the mean is not subtracted", LOCAL, lambda a, b: a
        )


@plants("scatter")
def _scatter(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Gradients that go back to where they were read: they must add up."""
    shape = step.details["shape"]
    if not step.details["repeated"]:
        return
    called = step.details["called"]
    what = f"a place that {called} reads more than once keeps only its"

    def written(gradient, index, order):
        flat = gradient.new_zeros(math.prod(shape))
        for place, value in order(list(zip(index.tolist(), gradient.reshape(-1), strict=True))):
            flat[place] = value
        return flat.reshape(shape)

    yield e.instead(
        i,
        "overwrite_not_accumulate",
        f"{what} last contribution",
        LOCAL,
        lambda g, k: written(g, k, lambda pairs: pairs),
    )
    yield e.instead(
        i,
        "overwrite_not_accumulate",
        f"{what} first contribution",
        LOCAL,
        lambda g, k: written(g, k, lambda pairs: pairs[::-1]),
    )

    def averaged(gradient, index):
        sums = gradient.new_zeros(math.prod(shape)).index_add(0, index, gradient.reshape(-1))
        uses = torch.bincount(index, minlength=math.prod(shape)).clamp_min(1)
        return (sums / uses).reshape(shape)

    yield e.instead(
        i, "extra_mean", "repeated contributions are averaged, not added", LOCAL, averaged
    )


@plants("permute")
def _permute(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Axes that must be exchanged on the way back, and are only reshaped."""
    if not e.carries >> i & 1:
        return
    shape = e.p.shape(Ref(i))
    yield e.instead(
        i,
        "transposed_operand",
        f"the axes {step.details['order']} are not exchanged back at {e.site(i)}",
        LOCAL + 1,
        lambda x: x.reshape(shape),
    )


@plants("vjp")
def _vjp(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A step without a textbook rule."""
    called = step.details["called"]
    if e.p.shape(Ref(i)) != e.p.shape(step.arguments[0]):
        return
    yield e.instead(
        i,
        "missing_local_derivative",
        f"the derivative of {called} is left out",
        LOCAL,
        lambda g, *rest: g,
        ("missing_cross_terms",),
    )
    yield e.instead(
        i,
        "applied_twice",
        f"the derivative of {called} is applied twice",
        LOCAL,
        lambda g, *rest: step.function(step.function(g, *rest), *rest),
    )
    if e.p[Ref(i)].numel() <= 64:
        yield e.instead(
            i,
            "missing_cross_terms",
            f"only the diagonal of {called}'s Jacobian is used",
            LOCAL,
            lambda g, *rest: _diagonal(step.function, g, rest),
        )


def _diagonal(product: Callable, g: Tensor, rest) -> Tensor:
    unit = torch.eye(g.numel(), dtype=g.dtype)
    rows = [product(row.reshape(g.shape), *rest).reshape(-1)[k] for k, row in enumerate(unit)]
    return g * torch.stack(rows).reshape(g.shape)


@plants("mul", into=FORWARDS)
def _forward_mul(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    for position, factor in enumerate(step.arguments):
        other = step.arguments[1 - position]
        if not isinstance(other, Ref) or (isinstance(factor, Ref) and e.active >> factor.i & 1):
            continue
        if not e.active >> other.i & 1 and isinstance(factor, Ref) and e.p[factor].numel() > 1:
            continue
        kept = 1 - position
        if isinstance(factor, Ref) and e.p[factor].numel() > 1:
            label = "missing_mask" if _is_mask(e.p[factor]) else "missing_scale_factor"
        else:
            label = "missing_scale_factor"
        if factor == -1:
            label = "sign_error"
        said = f"the factor of {e.p.describe(Ref(i))}"
        yield e.rescaled(
            i,
            label,
            f"differentiates a forward without {said}",
            COUNTERFACTUAL,
            lambda a, b, k=kept: _shaped((a, b)[k], (a, b)[1 - k]),
            factor,
            lambda f: 1.0,
        )
        yield e.rescaled(
            i,
            "wrong_scale_factor",
            f"{said} is inverted",
            COUNTERFACTUAL + 2,
            lambda a, b, k=kept: (a, b)[k] / (a, b)[1 - k],
            factor,
            lambda f: 1 / f,
        )
        yield e.rescaled(
            i,
            "applied_twice",
            f"{said} is there twice",
            COUNTERFACTUAL + 2,
            lambda a, b, k=kept: (a, b)[k] * (a, b)[1 - k] ** 2,
            factor,
            lambda f: f * f,
        )


@plants("div", into=FORWARDS)
def _forward_div(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    divisor = step.arguments[1]
    if isinstance(divisor, Ref) and (e.active >> divisor.i & 1 or e.p[divisor].numel() > 1):
        return
    said = f"the divisor of {e.p.describe(Ref(i))}"
    plans = (
        ("missing_scale_factor", f"differentiates a forward without {said}", lambda b: 1.0),
        ("wrong_scale_factor", f"multiplies by {said}", lambda b: b),
        ("wrong_scale_factor", f"squares {said}", lambda b: 1 / b**2),
        ("wrong_scale_factor", f"takes the root of {said}", lambda b: abs(b) ** -0.5),
    )
    for label, what, scale in plans:
        candidate = e.instead(i, label, what, COUNTERFACTUAL, lambda a, b, s=scale: a * s(b))
        for j in sorted(e.used):
            step = e.p.steps[j]
            if step.about == i and step.kind == "mul" and step.role in ("const", "count"):

                def change(values, step=step, scale=scale):
                    g, f = (resolve(a, values) for a in step.arguments)
                    return g * scale(1 / f)

                candidate.changes[j] = change
        yield candidate


def _is_mask(value: Tensor) -> bool:
    return value.dtype == torch.bool or bool((value == 0).any())


@plants("where", into=FORWARDS)
def _forward_where(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    live = [
        k
        for k in (1, 2)
        if isinstance(step.arguments[k], Ref) and e.p.shape(step.arguments[k]) == e.p.shape(Ref(i))
    ]
    said = f"the mask at {e.p.describe(Ref(i))}"
    for k in live:
        yield e.instead(
            i,
            "missing_mask",
            f"{said} is left out",
            COUNTERFACTUAL,
            lambda *a, k=k: a[k] * torch.ones_like(a[0], dtype=a[k].dtype),
        )
    yield e.instead(
        i,
        "wrong_mask",
        f"{said} is inverted",
        COUNTERFACTUAL,
        lambda c, a, b: torch.where(~c, a, b),
    )
    shape = e.p.shape(step.arguments[0])
    if len(shape) >= 2 and shape[-1] == shape[-2]:
        yield e.instead(
            i,
            "wrong_mask",
            f"{said} is transposed",
            COUNTERFACTUAL,
            lambda c, a, b: torch.where(c.mT, a, b),
        )
        eye = torch.eye(shape[-1], dtype=torch.bool)
        yield e.instead(
            i,
            "wrong_mask",
            f"{said} is off by the diagonal",
            COUNTERFACTUAL,
            lambda c, a, b: torch.where(c ^ eye, a, b),
        )


@plants("condition", into=FORWARDS)
def _forward_condition(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    said = f"the condition on {e.name(step.operands()[0])}"
    if e.p.values[i].dtype != torch.bool:
        return
    yield e.instead(
        i, "wrong_mask", f"{said} is inverted", COUNTERFACTUAL, lambda *a: ~step.function(*a)
    )
    for value in (True, False):
        yield e.instead(
            i,
            "missing_mask",
            f"{said} has no effect",
            COUNTERFACTUAL + 1,
            lambda *a, v=value: torch.full_like(step.function(*a), v),
        )


@plants("add", "sub", into=FORWARDS)
def _forward_add(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    for position, left_out in enumerate(step.arguments):
        kept = step.arguments[1 - position]
        if not isinstance(left_out, Ref) or not isinstance(kept, Ref):
            continue
        said = f"{e.name(left_out)} is left out of {e.p.describe(Ref(i))}"
        if e.active >> left_out.i & 1:
            continue
        target = step.kind == "sub" and e.p.shape(left_out) == e.p.shape(kept)
        yield e.instead(
            i,
            "missing_target" if target else "wrong_mask" if _before_mask(e, i) else "wrong_operand",
            said,
            COUNTERFACTUAL,
            lambda a, b, k=1 - position, s=step.kind: _kept(a, b, k, s),
        )
        yield e.instead(
            i,
            "sign_error",
            f"{e.name(left_out)} has the wrong sign in {e.p.describe(Ref(i))}",
            COUNTERFACTUAL,
            lambda a, b, s=step.kind: a - b if s == "add" else a + b,
        )


def _before_mask(e: Enumeration, i: int) -> bool:
    return any(Ref(i) in s.operands() and s.details.get("called") == "relu" for s in e.p.steps)


def _kept(a, b, k: int, kind: str) -> Tensor:
    kept = (a, b)[k]
    return _shaped(-kept if kind == "sub" and k == 1 else kept, (a, b)[1 - k])


@plants("unary", into=FORWARDS)
def _forward_unary(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    name = step.details["called"]
    if not e.active >> i & 1:
        return
    yield e.instead(
        i,
        "missing_local_derivative",
        f"differentiates a forward without {name}",
        COUNTERFACTUAL + 1,
        lambda z: z,
    )
    for relative in UNARY[name].relatives:
        yield e.instead(
            i,
            "other_variant",
            f"differentiates a forward with {relative} for {name}",
            COUNTERFACTUAL + 2,
            UNARY[relative].function,
        )


@plants("var", into=FORWARDS)
def _forward_var(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    axes, keep = step.details["axes"], step.details["keep"]
    other = 1 - step.details["correction"]
    said = "the unbiased variance" if other else "the biased variance"
    count = math.prod(e.p.shape(step.arguments[0])[a] for a in axes)
    if count > 1:
        yield e.rescaled(
            i,
            "other_variant",
            f"this is the gradient with {said}",
            COUNTERFACTUAL - 5,
            lambda x: x.var(axes, correction=other, keepdim=keep),
            1 / (count - step.details["correction"]),
            lambda f: 1 / (count - other),
        )


@plants("normalise", into=FORWARDS)
def _forward_normalise(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    axes, eps = step.details["axes"], step.details["eps"]

    def variant(v, axes=axes, correction=0, centred=True, eps=eps):
        c = v - v.mean(axes, keepdim=True) if centred else v
        count = math.prod(v.shape[a] for a in axes)
        return c * torch.rsqrt(c.square().sum(axes, keepdim=True) / (count - correction) + eps)

    yield e.instead(
        i,
        "other_variant",
        "this is the gradient with the unbiased variance",
        COUNTERFACTUAL - 5,
        lambda v: variant(v, correction=1),
    )
    yield e.instead(
        i,
        "other_variant",
        "this is the gradient of a normalisation without the mean",
        COUNTERFACTUAL,
        lambda v: variant(v, centred=False),
    )
    for other in other_axes(axes, e.p[Ref(i)].dim()):
        yield e.instead(
            i,
            "wrong_axis",
            f"normalises over {_axes(other)}, not {_axes(axes)}",
            COUNTERFACTUAL,
            lambda v, o=other: variant(v, axes=o),
        )


@plants("softmax", "log_softmax", into=FORWARDS)
def _forward_softmax(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    function = torch.softmax if step.kind == "softmax" else torch.log_softmax
    other_kind = torch.log_softmax if step.kind == "softmax" else torch.softmax
    for axis in range(e.p[Ref(i)].dim()):
        if axis != step.details["axis"]:
            yield e.instead(
                i,
                "wrong_axis",
                f"{step.kind} runs over axis {axis}, not {step.details['axis']}",
                COUNTERFACTUAL,
                lambda z, a=axis: function(z, a),
            )
    yield e.instead(
        i,
        "other_variant",
        f"this differentiates another function than {step.kind}",
        COUNTERFACTUAL,
        lambda z: other_kind(z, step.details["axis"]),
    )


@plants("sum", "mean", into=FORWARDS)
def _forward_reduce(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    axes, keep = step.details["axes"], step.details["keep"]
    source = step.arguments[0]
    if not e.active >> source.i & 1:
        return
    rank = e.p[source].dim()
    count = math.prod(e.p.shape(source)[a] for a in axes)
    said = e.p.describe(Ref(i))
    if step.kind == "mean":
        yield e.rescaled(
            i,
            "missing_mean",
            f"differentiates a sum where {said} averages",
            COUNTERFACTUAL,
            lambda x: x.sum(axes, keepdim=keep),
            1 / count,
            lambda f: 1.0,
        )
        if count > 1:
            yield e.rescaled(
                i,
                "wrong_mean_count",
                f"divides by {count - 1}, not by {count}, at {said}",
                COUNTERFACTUAL,
                lambda x: x.sum(axes, keepdim=keep) / (count - 1),
                1 / count,
                lambda f: 1 / (count - 1),
            )
    else:
        yield e.instead(
            i,
            "extra_mean",
            f"differentiates a mean where {said} sums",
            COUNTERFACTUAL,
            lambda x: x.mean(axes, keepdim=keep),
        )
    if step.kind == "mean" and count > 1 and _squares(e.p, source):
        yield e.rescaled(
            i,
            "other_variant",
            "this is the gradient with the unbiased variance",
            COUNTERFACTUAL - 5,
            lambda x: x.sum(axes, keepdim=keep) / (count - 1),
            1 / count,
            lambda f: 1 / (count - 1),
        )
    if keep:
        for other in other_axes(axes, rank):
            yield e.instead(
                i,
                "wrong_axis",
                f"reduces over {_axes(other)}, not {_axes(axes)}, at {said}",
                COUNTERFACTUAL,
                lambda x, o=other: _reduced(x, step, o, True),
            )


def _squares(p: Program, ref: Ref) -> bool:
    step = p.steps[ref.i]
    return (step.kind == "pow" and step.arguments[1] == 2) or (
        step.kind == "mul" and len(set(step.operands())) == 1
    )


@plants("pow", into=FORWARDS)
def _forward_pow(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    exponent = step.arguments[1]
    if e.active >> i & 1 and isinstance(exponent, int | float):
        for other in (exponent - 1, exponent + 1, -exponent, 2 * exponent, exponent / 2):
            yield e.instead(
                i,
                "wrong_power",
                f"the exponent {other} stands for {exponent}",
                COUNTERFACTUAL + 3,
                lambda x, n, k=other: x**k,
            )


@plants("conv", into=FORWARDS)
def _forward_conv(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    yield e.instead(
        i,
        "conv_flip",
        "this differentiates a convolution with the kernel flipped",
        COUNTERFACTUAL,
        lambda x, w: step.function(x, w.flip(list(range(2, w.dim())))),
    )


@plants("mm", into=FORWARDS)
def _forward_mm(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    for position, argument in enumerate(step.arguments):
        shape = e.p.shape(argument)
        if shape[-1] == shape[-2]:
            yield e.reading(
                i,
                position,
                "transposed_operand",
                f"{e.name(argument)} is transposed, or not, by mistake",
                COUNTERFACTUAL + 2,
                lambda values, r=argument: values[r.i].mT,
            )


@plants("leaf", "captured", into=FORWARDS)
def _forward_leaf(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    value = e.p.values[i]
    if i == e.p.wrt.i or not isinstance(value, Tensor) or not e.p.is_float(Ref(i)):
        return
    loss = e.p[e.p.output].dim() == 0
    if loss and value.dim():
        yield e.plant(
            i,
            "missing_target",
            f"{step.name} is not subtracted",
            REMOTE,
            lambda values: torch.zeros_like(values[i]),
        )
    if value.dim() >= 2 and value.shape[-1] == value.shape[-2]:
        yield e.plant(
            i,
            "transposed_operand",
            f"{step.name} is transposed",
            REMOTE,
            lambda values: values[i].mT,
        )
    for j, other in enumerate(e.p.values[: e.start]):
        alike = isinstance(other, Tensor) and other.shape == value.shape and value.dim()
        if j == i or e.p.steps[j].kind != "leaf" or not alike or not e.p.is_float(Ref(j)):
            continue
        yield e.plant(
            i,
            "wrong_operand",
            f"{e.name(Ref(j))} stands where {step.name} belongs",
            SWAP + 3,
            lambda values, j=j: values[j] * 1.0,
        )
