"""Mistakes in `gradient * factor`, by what the factor is."""

from __future__ import annotations

from collections.abc import Iterator

from proofread.gradients.graph.naming import factor_said, is_named, number, spelled
from proofread.gradients.graph.program import Program, Ref, Step
from proofread.gradients.planted.candidates import (
    LOCAL,
    Candidate,
    Enumeration,
    plants,
    shaped,
)
from proofread.gradients.planted.counts import count_mistakes, window_mistakes
from proofread.gradients.planted.masks import mask_mistakes


@plants("mul")
def _mul(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Mistakes in `gradient * factor`, by what the factor is."""
    factor = step.arguments[1]
    site = e.site(i)
    said, divides = _factor_said(e, step)
    drop = lambda g, f: shaped(g, f)
    twice = lambda g, f: g * f * f
    about = e.p.steps[step.about]
    if "full" in about.details and isinstance(factor, Ref):
        yield from window_mistakes(e, i, step, about.details["full"])
    elif step.role == "count":
        yield from count_mistakes(e, i, step)
    elif step.role in ("const", "power"):
        also = ("missing_mean",) if _may_be_count(e, factor) else ()
        hint = "(xⁿ)' = n xⁿ⁻¹." if step.role == "power" else ""
        yield e.instead(i, "missing_scale_factor", f"{said} is left out", LOCAL, drop, also, hint)
        if not isinstance(factor, Ref) and factor < 0 and factor != -1:
            yield e.instead(
                i,
                "missing_scale_factor",
                f"{said} is left out but for its sign",
                LOCAL,
                lambda g, f: -shaped(g, f),
                also,
            )
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
        yield from mask_mistakes(e, i, step)
    elif step.role in ("local", "loss"):
        own = step.details.get("called") or spelled(about.details.get("called", ""))
        called = site if is_named(site) and site.endswith(")") else own or site
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
    return factor_said(named, site, place), False


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
    if inverse and _divides_again(e, i, factor):
        also = ("wrong_power", *also)
    if isinstance(factor, Ref) and _counted(e.p, factor):
        label, also = "missing_mean", ("missing_scale_factor",)
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
        if counted := _counted(e.p, factor):
            for size in sorted(e.sizes):
                yield e.instead(
                    i,
                    "wrong_mean_count",
                    f"your gradient divides by {size} where it must divide by {e.name(counted)}",
                    LOCAL,
                    lambda g, f, size=size: shaped(g, f) / size,
                )
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


def _divides_again(e: Enumeration, i: int, factor: Ref) -> bool:
    """Tell whether the rest of the backward divides by the same: then a power of it is too low."""
    divisor = e.p.dependents(1 << e.p.steps[factor.i].operands()[0].i)
    reads = [r for j in e.used if j != i and e.carries >> j & 1 for r in e.p.steps[j].operands()]
    return any(divisor >> r.i & 1 and not e.carries >> r.i & 1 for r in reads)


def _counted(p: Program, factor: Ref) -> Ref | None:
    """Return what a factor is 1 over, where that is how many entries of each row count."""
    step = p.steps[factor.i]
    while step.kind in ("view", "expand"):
        step = p.steps[step.operands()[0].i]
    if step.kind != "reciprocal":
        return None
    (count,) = step.operands()
    value = p[count]
    whole = value.numel() > 1 and bool((value == value.round()).all() and (value >= 1).all())
    return count if whole and value.unique().numel() > 1 else None


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
