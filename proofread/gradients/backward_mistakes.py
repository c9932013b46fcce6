"""The mistakes that can be planted in each kind of step of a backward."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from proofread.gradients.candidates import (
    LOCAL,
    SWAP,
    TEXTBOOK,
    Candidate,
    Enumeration,
    plants,
    reduced,
    shaped,
)
from proofread.gradients.naming import axes_said, number
from proofread.gradients.program import Program, Ref, Step
from proofread.gradients.rules.normalise import other_axes
from proofread.gradients.sentences import SQUARE


@plants("mul")
def _mul(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Mistakes in `gradient * factor`, by what the factor is."""
    factor = step.arguments[1]
    site = e.site(i)
    said, divides = _factor_said(e, step)
    drop = lambda g, f: shaped(g, f)
    twice = lambda g, f: g * f * f
    if step.role == "count":
        yield from _count(e, i, step)
    elif step.role in ("const", "power"):
        also = ("missing_mean",) if _may_be_count(e, factor) else ()
        yield e.instead(i, "missing_scale_factor", f"{said} is left out", LOCAL, drop, also)
        # 1/d for 1/sqrt(d) is another constant rather than the same one twice.
        rooted = not isinstance(factor, Ref) and _is_root(factor)
        labels = (
            ("wrong_scale_factor", "applied_twice")
            if rooted
            else ("applied_twice", "wrong_scale_factor")
        )
        yield e.instead(i, labels[0], f"{said} is there twice", LOCAL + 3, twice, labels[1:])
        yield e.instead(
            i,
            "wrong_scale_factor",
            f"your gradient multiplies by {said}, and must divide by it"
            if divides
            else f"your gradient divides by {said}, and must multiply by it",
            LOCAL + 2,
            lambda g, f: g / f,
        )
        yield e.instead(
            i,
            "wrong_scale_factor",
            f"the root of {said} stands where it must stand itself",
            LOCAL + 4,
            lambda g, f: g * abs(f) ** 0.5,
        )
        if step.role == "power":
            yield e.instead(
                i,
                "wrong_power",
                f"the derivative of {site} has the wrong exponent",
                LOCAL + 5,
                lambda g, f: g * g,
            )
            yield e.instead(
                i,
                "wrong_scale_factor",
                f"the derivative of {site} has the factor {number(factor + 1)}, "
                f"not {number(factor)}",
                LOCAL + 5,
                lambda g, f: g * (f + 1),
            )
    elif step.role == "sign":
        yield e.instead(
            i, "sign_error", f"a minus is lost in the derivative of {site}", LOCAL, drop
        )
    elif step.role == "absent":
        pass
    elif step.role in ("mask", "activation_mask"):
        yield from _mask(e, i, step)
    elif step.role in ("local", "loss"):
        called = site if site.endswith(")") else step.details.get("called", site)
        yield e.instead(
            i, "missing_local_derivative", f"the derivative of {called} is left out", LOCAL, drop
        )
        yield e.instead(
            i, "applied_twice", f"the derivative of {called} is multiplied in twice", LOCAL, twice
        )
        yield e.instead(
            i,
            "applied_twice",
            f"{e.name(step.arguments[0])} is multiplied in twice",
            LOCAL + 1,
            lambda g, f: g * g * f,
        )
        yield e.instead(
            i,
            "wrong_power",
            f"your gradient divides by the derivative of {called}, and must multiply by it",
            LOCAL + 4,
            lambda g, f: g / f,
        )
    else:
        yield from _operand(e, i, step, said, drop, twice)


def _factor_said(e: Enumeration, step: Step) -> tuple[str, bool]:
    """Name a factor with its place, and tell whether the forward divides by it."""
    factor = step.arguments[1]
    about, site = e.p.steps[step.about], e.p.describe(Ref(step.about))
    if about.kind == "div" and not isinstance(about.arguments[1], Ref) and factor:
        return f"the divisor {e.p.number(about.arguments[1])} of {site}", True
    named = e.name(factor) if isinstance(factor, Ref) else e.p.number(factor)
    place = "of" if about.kind in ("mul", "div") else "in the derivative of"
    if not named.startswith("the "):
        named = f"the factor {named}"
    return f"{named} {place} {site}", False


def _may_be_count(e: Enumeration, factor) -> bool:
    return not isinstance(factor, Ref) and bool(factor) and round(1 / factor, 9) in e.sizes


def _is_root(factor: float) -> bool:
    square = max(factor * factor, 1 / (factor * factor)) if factor else 0.5
    return abs(square - round(square)) < 1e-9 and not float(factor).is_integer()


def _operand(e, i, step, said, drop, twice) -> Iterator[Candidate]:
    factor = step.arguments[1]
    whole = isinstance(factor, Ref) and e.p.shape(factor) == e.p.shape(step.arguments[0])
    statistic = isinstance(factor, Ref) and (is_statistic(e.p, factor) or _under_root(e.p, factor))
    own = isinstance(factor, Ref) and e.active >> factor.i & 1
    given = isinstance(factor, Ref) and _is_given_weight(e.p, factor)
    inverse = isinstance(factor, Ref) and e.p.steps[factor.i].kind == "reciprocal"
    if whole and not inverse and not given:
        label = "missing_local_derivative"
        also = ("missing_scale_factor",)
    else:
        label, also = "missing_scale_factor", ("missing_local_derivative",)
    yield e.instead(i, label, f"{said} is left out", LOCAL, drop, also)
    yield e.instead(
        i,
        "wrong_power" if statistic else "applied_twice",
        f"{said} is there twice",
        LOCAL,
        twice,
        ("applied_twice",) if statistic else (),
    )
    if isinstance(factor, Ref):
        yield e.instead(
            i,
            "wrong_power" if statistic or own else "wrong_scale_factor",
            f"your gradient divides by {said}, and must multiply by it",
            LOCAL + 2,
            lambda g, f: g / f,
        )
        if statistic:
            for k, power in ((3, "cubed"), (0.5, "under a root"), (-2, "inverted and squared")):
                yield e.instead(
                    i,
                    "wrong_power",
                    f"{said} is {power}, and must not be",
                    LOCAL + 2,
                    lambda g, f, k=k: g * f**k,
                )


def _is_given_weight(p: Program, factor: Ref) -> bool:
    """Tell whether a factor is read out of an argument of fewer axes, such as class weights."""
    step = p.steps[factor.i]
    while step.kind in ("pick", "view", "expand") and step.operands():
        factor = step.operands()[0]
        step = p.steps[factor.i]
    of_loss = p[p.output].dim() == 0 and factor != p.wrt
    return step.kind == "leaf" and (of_loss or p[factor].dim() < p[p.wrt].dim())


def _under_root(p: Program, factor: Ref) -> bool:
    step = p.steps[factor.i]
    if step.kind == "reciprocal":
        step = p.steps[step.operands()[0].i]
    return step.kind == "unary" and step.details["called"] in ("sqrt", "rsqrt")


def is_statistic(p: Program, ref: Ref, depth: int = 6) -> bool:
    """Tell whether a value is made from a reduction: a mean, a variance, a sum."""
    step = p.steps[ref.i]
    if step.kind in ("sum", "mean", "var", "rstd"):
        return True
    if depth and step.kind in ("unary", "pow", "add", "reciprocal", "expand", "view", "opaque"):
        return any(is_statistic(p, r, depth - 1) for r in step.operands())
    if depth and step.kind in ("mul", "div"):  # by a constant: a sum / N is a mean
        return len(step.operands()) == 1 and is_statistic(p, step.operands()[0], depth - 1)
    return False


def _count(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    factor = step.arguments[1]
    if isinstance(factor, Ref):
        factor = float(e.p[factor])
    count = 1 / abs(factor)  # a sum of weights need not be whole
    count = round(count) if abs(count - round(count)) < 1e-6 else count
    site = e.site(i)
    plain = e.p.steps[step.about].kind in ("mean", "sum", "div", "var", "mul")
    plain = plain and step.about not in e.p.recognised
    share = f"the 1/{number(count)} {'of' if plain else 'in one term of the gradient of'} {site}"
    yield e.instead(i, "missing_mean", f"{share} is left out", LOCAL, lambda g, f: g)
    yield e.instead(
        i,
        "extra_mean",
        f"{share} is there twice",
        LOCAL,
        lambda g, f: g * f * abs(f),
        ("applied_twice",),
    )
    sign = math.copysign(1, factor)
    for other in sorted(e.sizes | {count - 1, count + 1, _root(count)}):
        if other in (count, 1, count * count, 0):
            continue
        within = count % other == 0
        label = "wrong_mean_count"
        # 1/N twice, N a part of the count, is an average too many; N * C for N is a miscount.
        beyond = other % count == 0 and other // count in e.sizes
        repeated = beyond and count % (other // count) == 0
        rank = LOCAL + (1 if within or beyond else 3)
        also = ("missing_mean",) if within else ("extra_mean", "wrong_mean_count") if beyond else ()
        if repeated:
            label = "extra_mean"
        elif step.details.get("bessel") and abs(other - count) == 1:
            rank, also = LOCAL - 2, ("other_variant",)  # the other variance's count
        yield e.instead(
            i,
            label,
            f"your gradient divides by {other} where it must divide by {number(count)}, as "
            f"{'' if plain else 'one average of '}{site} does",
            rank,
            lambda g, f, o=other: g * sign / o,
            also,
        )


def _root(count: float) -> int:
    """Return the side of a square window, or 0."""
    side = math.isqrt(int(count))
    return side if side * side == count else 0


def _mask(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    factor = step.arguments[1]
    here = f"of {e.site(i)}"
    activation = step.role == "activation_mask"
    if activation:
        yield e.instead(
            i,
            "missing_local_derivative",
            f"the derivative {here} is left out",
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
            lambda g, f: shaped(g, f).clone(),
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
            f"the mask {here} is applied twice, and with it its scale",
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
    right = e.name(factor)
    if activation:
        right = f"{e.name(e.p.steps[step.about].operands()[0])} > 0"
    instead = "" if right.startswith("a value") else f", and must ask {right}"
    yield e.instead(
        i,
        "wrong_mask",
        f"the mask {here} looks at the sign of {e.name(step.arguments[0])}{instead}",
        LOCAL,
        lambda g, f: g * (g > 0),
    )
    yield e.instead(
        i,
        "wrong_mask",
        f"the mask {here} looks at the sign of {e.name(step.arguments[0])}{instead}",
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
                f"the mask {e.name(Ref(j))} is applied where that {here} belongs",
                SWAP,
                lambda g, f, v=value: g * v,
            )
            continue
        for said, test in (("> 0", _positive), ("< 0", _negative)):
            # A mask that is open or closed everywhere is no mask.
            if test(value).unique().numel() > 1 and (activation or condition.kind == "condition"):
                yield e.plant(
                    i,
                    "wrong_mask",
                    f"the mask {here} asks {e.name(Ref(j))} {said}{instead}",
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
    rank, here = e.p[source].dim(), f"in the gradient of {e.site(i)}"
    count = math.prod(e.p.shape(source)[a] for a in axes)
    hint = ""
    if step.role == "broadcast":
        yield from _broadcast_sum(e, i, step, axes)
        shape = e.p.shape(e.p.wrt)
        hint = f"{e.p.describe(e.p.wrt)} has shape {shape}: sum over the axes along which it is reused."
    if step.kind == "sum":
        yield e.instead(
            i,
            "extra_mean",
            f"your gradient averages over {axes_said(axes)}, and must sum"
            if step.role == "broadcast"
            else f"a mean over {axes_said(axes)} stands where a sum belongs {here}",
            LOCAL,
            lambda x: step.function(x) / count,
        )
    for other in other_axes(axes, rank):
        label = "wrong_axis"
        what = _other_axes_said(other, axes, "" if step.role == "broadcast" else here)
        yield e.instead(
            i,
            label,
            what,
            LOCAL,
            lambda x, o=other: reduced(x, step, o, True),
            hint=hint,
        )
        if not keep or step.role == "broadcast":
            yield e.instead(
                i,
                label,
                what,
                LOCAL,
                lambda x, o=other: reduced(x, step, o, False),
                hint=hint,
            )
        if step.role == "broadcast" and len(other) == rank:
            yield e.instead(
                i,
                label,
                f"your gradient sums over all axes, and must sum over {axes_said(axes)} only",
                LOCAL,
                lambda x: x.sum().expand(step.details["shape"]),
            )
        if step.role == "broadcast":
            yield e.instead(
                i,
                label,
                f"your gradient averages over {axes_said(other)}, and must sum over "
                f"{axes_said(axes)}",
                LOCAL + 2,
                lambda x, o=other: x.mean(o),
            )
    if keep and step.role != "broadcast":
        yield e.instead(
            i,
            "wrong_axis",
            f"the sum {here} loses a dimension: it needs keepdim=True",
            LOCAL + 2,
            lambda x: reduced(x, step, axes, False),
            hint="Without keepdim, the next operation broadcasts over other axes.",
        )
        yield e.instead(
            i,
            "missing_cross_terms",
            f"the sum over {axes_said(axes)} is left out {here}",
            LOCAL,
            lambda x: x,
            ("missing_broadcast_sum",),
        )


def _other_axes_said(other: tuple[int, ...], axes: tuple[int, ...], place: str) -> str:
    """Say which axes a sum runs over, and which it must run over."""
    if place:
        return f"the sum {place} runs over {axes_said(other)}, and must run over {axes_said(axes)}"
    if set(other) < set(axes):
        return f"your gradient sums over {axes_said(other)} only: sum over {_rest(axes, other)} too"
    return f"your gradient sums over {axes_said(other)}, and must sum over {axes_said(axes)}"


def _rest(axes: tuple[int, ...], some: tuple[int, ...]) -> str:
    return axes_said(tuple(a for a in axes if a not in some))


def _broadcast_sum(e, i, step, axes) -> Iterator[Candidate]:
    shape = step.details["shape"]
    operands = [r for r in e.p.steps[step.about].operands() if e.p.shape(r) == shape]
    named = e.name(operands[-1]) if operands else e.p.describe(e.p.wrt)
    mine = not operands or operands[-1] == e.p.wrt
    summed = "your gradient" if mine else f"the gradient with respect to {named}"
    left_out = f"{summed} is not summed over {axes_said(axes)}"
    yield e.instead(
        i,
        "missing_broadcast_sum",
        left_out,
        LOCAL,
        lambda x: x,
    )
    yield Candidate(
        "missing_broadcast_sum",
        left_out,
        LOCAL + 1,
        (e.tag, i, "returned"),
        e.p,
        {e.p.result.i: lambda values: values[step.arguments[0].i]},
    )
    for size in range(1, len(axes)):
        for part in itertools.combinations(axes, size):
            for keep in (True, False):
                yield e.instead(
                    i,
                    "missing_broadcast_sum",
                    f"{summed} is summed over {axes_said(part)} only: sum over "
                    f"{_rest(axes, part)} too",
                    LOCAL,
                    lambda x, a=part, k=keep: x.sum(a, keepdim=k),
                )
    for said, place in (("last", -1), ("first", 0)):
        yield e.instead(
            i,
            "overwrite_not_accumulate",
            f"only the {said} use of {named} counts",
            LOCAL,
            lambda x, k=place: _one_of(x, axes, k).reshape(shape),
        )
        if len(axes) > 1:
            yield e.instead(
                i,
                "overwrite_not_accumulate",
                f"only the {said} entry of axis {axes[0]} counts",
                LOCAL,
                lambda x, k=place: _one_of(x, axes[:1], k).sum(axes, keepdim=True).reshape(shape),
            )


def _one_of(x: Tensor, axes, place: int) -> Tensor:
    for axis in axes:
        x = x.select(axis, place).unsqueeze(axis)
    return x


@plants("mm")
def _mm(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A matrix product in the backward: transposes, one row only, the sum left out."""
    a, b = step.arguments
    site = e.site(i)
    shape_a, shape_b = e.p.shape(a), e.p.shape(b)
    turned = _turned_after(e, i)
    for position, shape in ((0, shape_a), (1, shape_b)):
        if shape[-1] == shape[-2]:
            yield e.reading(
                i,
                position,
                "transposed_operand",
                transposed_said(e, step.arguments[position], turned),
                LOCAL,
                lambda values, r=step.arguments[position]: values[r.i].mT,
                hint=SQUARE,
            )
    yield e.instead(
        i,
        "transposed_operand",
        "your product comes out transposed"
        if i == e.p.result.i
        else f"the product in the gradient of {site} comes out transposed",
        LOCAL,
        lambda x, y: (x @ y).mT,
    )
    yield e.instead(
        i,
        "transposed_operand",
        f"the two factors of the product in the gradient of {site} are exchanged",
        LOCAL,
        lambda x, y: y @ x,
    )
    inner = shape_a[-1]
    operand = step.details.get("operand", -1)
    summed = operand == e.p.steps[step.about].arguments[0].i if operand >= 0 else False
    if summed:
        yield from _summed_mm(e, i, inner, site)
    yield e.instead(
        i,
        "extra_mean",
        f"your gradient divides by {inner}, and {site} averages nothing",
        LOCAL,
        lambda x, y: (x @ y) / inner,
    )
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"the products in the gradient of {site} are not summed",
        LOCAL,
        _unsummed,
    )
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"a product entry by entry stands where the gradient of {site} has a matrix product",
        SWAP,
        lambda x, y: x * y,
    )
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"a product entry by entry stands where the gradient of {site} has a matrix product",
        SWAP,
        lambda x, y: x.mT * y,
    )


def _turned_after(e: Enumeration, i: int) -> bool:
    """Tell whether the result of a product is transposed, as in dK = (Q.T @ dS).T."""
    for j in range(i + 1, e.p.result.i + 1):
        step = e.p.steps[j]
        if Ref(i) in step.operands():
            if step.kind != "view":
                return _swaps_last(step)
            i = j
    return False


def _swaps_last(step: Step) -> bool:
    order = tuple(step.details.get("order", ()))
    return step.kind == "permute" and order[-2:] == (len(order) - 1, len(order) - 2)


def transposed_said(e: Enumeration, ref: Ref, turned: bool = False) -> str:
    """Say of an operand whose transposition is wrong what it must be; `turned` as the product."""
    source, flips = ref, turned
    while e.p.steps[source.i].kind in ("permute", "view", "expand"):
        step = e.p.steps[source.i]
        if step.kind == "permute":
            if not _swaps_last(step):
                break
            flips = not flips
        source = step.operands()[0]
    named = e.name(source) if e.carries >> source.i & 1 else f"the factor {e.name(source)}"
    return (
        f"{named} must be transposed, and is not"
        if flips
        else f"{named} is transposed, and must not be"
    )


def _unsummed(x: Tensor, y: Tensor) -> Tensor:
    """Every product of a matrix product, the summed axis first."""
    if x.numel() * y.shape[-1] > 10_000_000:
        raise ValueError("too large to hold")
    products = x.unsqueeze(-1) * y.unsqueeze(-3)
    return products.transpose(0, 1) if x.dim() == 2 else products


def _summed_mm(e: Enumeration, i: int, inner: int, site: str) -> Iterator[Candidate]:
    blocks = [1, *sorted(k for k in e.sizes if inner % k == 0 and k < inner)]
    pieces = [("last", k, slice(-k, None)) for k in blocks]
    pieces += [("first", k, slice(k)) for k in blocks]
    for said, size, rows in pieces:
        counted = f"{size} of the {inner} rows count" if size > 1 else f"of the {inner} rows counts"
        yield e.instead(
            i,
            "overwrite_not_accumulate",
            f"only the {said} {counted} in the gradient of {site}",
            LOCAL,
            lambda x, y, r=rows: x[..., r] @ y[..., r, :],
        )
    yield e.instead(
        i,
        "wrong_axis",
        f"the rows are summed before the product in the gradient of {site}: the product sums them",
        LOCAL + 2,
        lambda x, y: x.sum(-1, keepdim=True) @ y.sum(-2, keepdim=True),
        ("upstream_collapsed",),
    )
    yield e.instead(
        i,
        "wrong_axis",
        f"the rows are averaged before the product in the gradient of {site}: the product sums "
        "them",
        LOCAL + 2,
        lambda x, y: x.mean(-1, keepdim=True) @ y.mean(-2, keepdim=True),
        ("extra_mean",),
    )
    yield e.instead(
        i,
        "upstream_collapsed",
        f"the mean of the rows stands for each row in the gradient of {site}",
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
        label, what, also, hint = _path_label(e, forked, lost, kept)
        yield e.instead(i, label, what, LOCAL, lambda a, b, k=1 - position: (a, b)[k], also, hint)


def _path_label(e: Enumeration, forked: int, lost: Ref, kept: Ref) -> tuple[str, str, tuple, str]:
    """Name a path that is left out, by where it leads."""
    p = e.p
    here = p.describe(Ref(forked))
    through = through_said(p, lost)
    about_lost, about_kept = p.steps[lost.i].about, p.steps[kept.i].about
    what = f"the path from {here} through {through} is left out"
    hint = ""
    if about_lost == about_kept:
        what = f"one of the two terms of the derivative of {through} is left out"
    elif is_skip(p, forked, lost):
        to = p.describe(Ref(p.gradient_of[lost.i]))
        what = f"the direct path from {here} to {to}{skip_said(p, lost)} is left out"
        hint = "A sum passes its gradient on unchanged, to each of its terms."
    statistic = _statistic_on_path(p, forked, about_lost)
    if statistic == "mean":
        return "norm_mean_term_missing", what, ("missing_path",), hint
    if statistic == "var":
        return "norm_var_term_missing", what, ("missing_path", "norm_stats_detached"), hint
    if about_lost == about_kept and _is_square(p.steps[about_lost]):
        what = f"the factor 2 of the square of {here} is left out"
        return "missing_scale_factor", what, ("missing_product_term", "missing_path"), ""
    if _meet_in_product(e, about_lost, about_kept):
        if _has_branch(e, forked, about_lost) and _has_branch(e, forked, about_kept):
            return "missing_path", what, ("missing_product_term",), hint
        return "missing_product_term", what, ("missing_path",), hint
    if _is_target_path(p, lost):
        hint = "The entry that the target picks moves the loss too: it needs a gradient of its own."
        return "missing_target", what, ("missing_path",), hint
    if about_lost == about_kept:  # a + a: the second use is written over the first
        return "overwrite_not_accumulate", what, ("missing_path",), hint
    return "missing_path", what, ("overwrite_not_accumulate",), hint


def through_said(p: Program, part: Ref) -> str:
    """Name the first value on a path that is more than a view of the one before."""
    i = p.steps[part.i].about
    while p.steps[i].kind in ("view", "expand", "cast"):
        i = next(
            (j for j in range(i + 1, p.output.i + 1) if Ref(i) in p.steps[j].operands()), p.output.i
        )
    return p.describe(Ref(i))


def skip_said(p: Program, part: Ref) -> str:
    return ", the skip," if p.steps[p.gradient_of[part.i]].kind == "add" else ""


def is_skip(p: Program, forked: int, part: Ref) -> bool:
    """Tell whether a gradient reaches a value straight from a sum that it is a term of."""
    step = p.steps[p.gradient_of.get(part.i, forked)]
    return step.kind in ("add", "sub") and Ref(forked) in step.operands()


def _is_square(step: Step) -> bool:
    return step.kind == "mul" and step.arguments[0] == step.arguments[1]


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


def _has_branch(e: Enumeration, forked: int, about: int) -> bool:
    """Tell whether a path starts with a matrix product: then it is a branch, with its weights."""
    step = e.p.steps[about]
    return step.kind == "mm" and Ref(forked) in step.operands()


def _is_target_path(p: Program, lost: Ref) -> bool:
    value, step = p[lost], p.steps[lost.i]
    return bool(
        step.kind == "scatter"
        and (value == 0).any()
        and p[p.output].dim() == 0
        and _is_linear_after(p, step.about)
    )


def _is_linear_after(p: Program, i: int) -> bool:
    """Tell whether a value only adds to the loss: a hinge has no target to subtract."""
    reach = p.dependents(1 << i)
    return all(
        step.kind in ("add", "sub", "mul", "div", "sum", "mean", "view")
        for step in p.steps[i + 1 : p.output.i + 1]
        if step.needs & reach
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
    named, here = e.name(step.arguments[1]), f"in the gradient of {e.site(i)}"
    if step.role == "target":
        yield e.instead(
            i, "missing_target", f"the target {named} is not subtracted", TEXTBOOK, lambda a, b: a
        )
        yield e.instead(
            i, "missing_path", f"only the target {named} is left", LOCAL, lambda a, b: -b
        )
    elif step.role == "cross":
        yield e.instead(
            i,
            "missing_path",
            f"the sum is not subtracted {here}",
            LOCAL,
            lambda a, b: a,
            ("missing_cross_terms",),
        )
        yield e.instead(i, "missing_path", f"only the sum is left {here}", LOCAL, lambda a, b: -b)
        yield e.instead(
            i,
            "sign_error",
            f"the sum is added, and must be subtracted, {here}",
            TEXTBOOK,
            lambda a, b: a + b,
        )
    elif step.role == "centre":
        yield e.instead(
            i, "norm_mean_term_missing", f"the mean is not subtracted {here}", LOCAL, lambda a, b: a
        )


@plants("scatter")
def _scatter(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Gradients that go back to where they were read: they must add up."""
    shape = step.details["shape"]
    if not step.details["repeated"]:
        return
    site = e.site(i)
    what = f"an entry that {site} reads more than once keeps only its"

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
        i,
        "extra_mean",
        f"what comes back to an entry that {site} reads more than once is averaged, and must be "
        "added",
        LOCAL,
        averaged,
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
        f"the axes of {e.site(i)} are reshaped on the way back, and must be exchanged",
        LOCAL + 1,
        lambda x: x.reshape(shape),
    )


@plants("vjp")
def _vjp(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A step without a textbook rule."""
    called = e.site(i)
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
            f"only the diagonal of the Jacobian of {called} is used",
            LOCAL,
            lambda g, *rest: _diagonal(step.function, g, rest),
        )


def _diagonal(product: Callable, g: Tensor, rest) -> Tensor:
    unit = torch.eye(g.numel(), dtype=g.dtype)
    rows = [product(row.reshape(g.shape), *rest).reshape(-1)[k] for k, row in enumerate(unit)]
    return g * torch.stack(rows).reshape(g.shape)
