"""Mistakes where paths meet: one is lost, counted twice or has the wrong sign."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from proofread.gradients.graph.loops import hands_on
from proofread.gradients.graph.program import Program, Ref, Step
from proofread.gradients.planted.candidates import (
    LOCAL,
    Candidate,
    Enumeration,
    plants,
)
from proofread.gradients.planted.factors import is_statistic
from proofread.gradients.uses import PASSED_ON

CARRIED = (
    "In the loop over time, add what comes back from step t + 1 to what step t has of its own."
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
        candidate = e.instead(
            i, label, what, LOCAL, lambda a, b, k=1 - position: (a, b)[k], also, hint
        )
        if candidate.sort:  # of a state with several paths, the same one each time
            way = _way(e, forked, lost)
            candidate.sort = (*candidate.sort, way)
            candidate.in_loop = ("lost", way)
        yield candidate
    yield from _local_into_both(e, i, step)
    if e.p.gradient_of.get(i) == forked:
        yield e.instead(
            i,
            "sign_error",
            f"the gradient with respect to {e.p.describe(Ref(forked))} has the opposite sign",
            LOCAL + 2,
            lambda a, b: -(a + b),
        )


def _local_into_both(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Of exp(z) - n * z: the derivative of exp is multiplied into the difference, not its term."""
    for part in step.arguments[:2]:
        back = e.p.steps[part.i]
        if e.p[e.p.output].dim() or back.kind != "mul" or back.role != "local":
            continue
        local = back.arguments[1]
        if isinstance(local, Ref):
            yield e.plant(
                i,
                "applied_twice",
                f"the derivative of {e.site(part.i)} is multiplied into all of the gradient with respect "
                f"to {e.p.describe(Ref(step.details['forked']))}, and belongs to one of its terms",
                LOCAL + 2,
                lambda values, r=local: (
                    values[step.arguments[0].i].add(values[step.arguments[1].i]) * values[r.i]
                ),
            )


def _way(e: Enumeration, forked: int, lost: Ref) -> tuple:
    """Tell paths apart by the first step that they lead into, and by the weights in it."""
    p = e.p
    if p.steps[lost.i].role == "fork" and p.steps[lost.i].details["forked"] == forked:
        return ("others",)
    states = e.loop.states if e.loop else {}
    about = p.steps[p.steps[lost.i].about]
    leaves = ["" if r.i in states else p.steps[r.i].name for r in about.operands()]
    return about.kind, about.details.get("called"), *leaves


def _uses(p: Program, forked: int, gradient: Ref) -> int:
    """Count the terms that add up to the gradient of one value."""
    step = p.steps[gradient.i]
    if step.role != "fork" or step.details["forked"] != forked:
        return 1
    return sum(_uses(p, forked, part) for part in step.arguments[:2])


def _path_label(e: Enumeration, forked: int, lost: Ref, kept: Ref) -> tuple[str, str, tuple, str]:
    """Name a path that is left out, by where it leads."""
    p = e.p
    here = p.describe(Ref(forked))
    through = through_said(p, lost)
    about_lost, about_kept = p.steps[lost.i].about, p.steps[kept.i].about
    what = f"the path from {here} through {through} is left out"
    hint = ""
    if through == here:  # an einsum moves the axes of each of its operands first
        what = f"one of the two uses of {here} in {use_said(p, lost)} has no term"
    if about_lost == about_kept:
        what = f"one of the two terms of the derivative of {through} is left out"
    if p.steps[about_lost].kind == "cat" and Ref(forked) in p.steps[about_lost].operands():
        what = f"the direct path from {here} into {through} is left out"
    if _uses(p, forked, lost) > 1 and _uses(p, forked, kept) == 1:
        labels = ["missing_path", "overwrite_not_accumulate"]
        # Going back in time, what is written over last is the first use.
        first = e.loop is not None and e.loop.run(about_kept) == 0
        if first and hands_on(e.loop) and p.steps[forked].kind == "leaf":
            labels.reverse()
        return (
            labels[0],
            f"only one of the uses of {here} has a term",
            (labels[1],),
            "Add up what comes back from each use; in a loop, look for `=` where `+=` belongs.",
        )
    if _is_carried(e, forked, lost):
        meet = _meet_in_product(e, about_lost, about_kept)
        also = "missing_product_term" if meet else "overwrite_not_accumulate"
        return "missing_path", what, (also,), CARRIED
    statistic = _statistic_on_path(p, forked, about_lost)
    if statistic == "mean":
        return "norm_mean_term_missing", what, ("missing_path",), hint
    if statistic == "var":
        return "norm_var_term_missing", what, ("missing_path", *detached_too(p)), hint
    if about_lost != about_kept:
        if is_skip(p, forked, lost):
            to = p.describe(Ref(p.gradient_of[lost.i]))
            what = f"the direct path from {here} to {to}{skip_said(p, lost)} is left out"
            hint = "Add its term: a sum passes its gradient on unchanged, to each of its terms."
            if p.steps[p.gradient_of[lost.i]].kind == "sub":
                hint = "Add its term: a - b passes its gradient on to a, and with a minus to b."
        # Paths part at the sum itself, wherever its gradient was computed last.
        about_lost, about_kept = (
            p.gradient_of[part.i] if is_skip(p, forked, part) else p.steps[part.i].about
            for part in (lost, kept)
        )
    if about_lost == about_kept and is_square(p.steps[about_lost]):
        what = f"the factor 2 of the square of {here} is left out"
        return "missing_scale_factor", what, ("missing_product_term", "missing_path"), ""
    if _meet_in_product(e, about_lost, about_kept):
        if _has_branch(e, forked, about_lost) and _has_branch(e, forked, about_kept):
            return "missing_path", what, ("missing_product_term",), hint
        if through != here and about_lost != about_kept:
            # The product that the value is itself a factor of, or the other factor.
            step = p.steps[about_lost]
            itself = step.kind in ("mul", "div") and Ref(forked) in step.operands()
            constant = f"{here} of {through}" if itself else through
            what = f"the factor {constant} is treated as a constant"
            if not itself:
                what += f": the path from {here} through it is left out"
        return "missing_product_term", what, ("missing_path",), hint
    if _is_target_path(p, lost):
        hint = "The entry that the target picks moves the loss too: it needs a gradient of its own."
        return "missing_target", what, ("missing_path",), hint
    if target := _target_of(p, forked, about_lost):
        what = f"the target {p.describe(target)} is not subtracted: {what}"
        return "missing_target", what, ("missing_path",), ""
    if about_lost == about_kept:  # a + a: the second use is written over the first
        return "overwrite_not_accumulate", what, ("missing_path",), hint
    return "missing_path", what, ("overwrite_not_accumulate",), hint


def _is_carried(e: Enumeration, forked: int, lost: Ref) -> bool:
    """Tell whether a path leads into the next run of a loop, as a state's does."""
    if e.loop is None or not e.loop.recurs:
        return False
    here, there = e.loop.run(forked), e.loop.run(e.p.steps[lost.i].about)
    return here is not None and there == here + 1


def through_said(p: Program, part: Ref) -> str:
    """Name the first value on a path that is more than a view of the one before."""
    i = p.steps[part.i].about
    for j in range(i + 1, p.output.i + 1):
        if p.steps[i].kind not in ("view", "expand", "cast"):
            break
        if Ref(i) in p.steps[j].operands():
            i = j
    return p.describe(Ref(i))


def carried_by(e: Enumeration, candidates: list[Candidate]) -> str:
    """Name the weight by which a state of a recurrence goes into the next; '' where it does not.

    `candidates` leave out the same path at several forks: of the states, and of that weight too.
    """
    p = e.p
    steps = [p.steps[i] for c in candidates for i in c.changes]
    if any(s.role != "fork" for s in steps):
        return ""
    steps = [s for s in steps if p.steps[s.details["forked"]].kind != "leaf"]
    states = sorted({s.details["forked"] for s in steps})
    follows = [p.dependents(1 << a) >> b & 1 for a, b in itertools.pairwise(states)]
    alike = {(p.steps[i].kind, p.steps[i].details.get("called")) for i in states}
    if not steps or len(states) < len(steps) or not all(follows) or len(alike) > 1:
        return ""
    lost = {1 - c.sort[2][0] for c in candidates if c.sort and c.sort[2]}
    for position in lost:
        about = [p.steps[p.steps[s.arguments[position].i].about] for s in steps]
        into = [e.loop and e.loop.run(p.steps[s.arguments[position].i].about) for s in steps]
        here = [e.loop and e.loop.run(s.details["forked"]) for s in steps]
        if e.loop and any(None in k or k[0] != k[1] + 1 for k in zip(into, here, strict=True)):
            continue
        shared = set.intersection(*({r.i for r in a.operands()} for a in about))
        if len(shared) == 1 and {a.kind for a in about} == {"mm"}:
            return p.describe(Ref(shared.pop()))
    return ""


def use_said(p: Program, part: Ref) -> str:
    """Name what a value goes into, past the steps that only move its entries about."""
    i = p.steps[part.i].about
    while p.steps[i].kind in PASSED_ON and i < p.output.i:
        i = next(
            (j for j in range(i + 1, p.output.i + 1) if Ref(i) in p.steps[j].operands()), p.output.i
        )
    return p.describe(Ref(i))


def detached_too(p: Program) -> tuple[str, ...]:
    """Name the lost path of a variance also after all statistics, where there is no mean beside it."""
    active = p.dependents(1 << p.wrt.i)
    centred = any(
        step.kind == "sub"
        and any(active >> r.i & 1 and is_statistic(p, r) for r in step.operands())
        for step in p.steps[: p.output.i + 1]
    )
    return () if centred else ("norm_stats_detached",)


def skip_said(p: Program, part: Ref) -> str:
    return ", the skip," if p.steps[p.gradient_of[part.i]].kind == "add" else ""


def is_skip(p: Program, forked: int, part: Ref) -> bool:
    """Tell whether a gradient reaches a value straight from a sum that it is a term of."""
    step = p.steps[p.gradient_of.get(part.i, forked)]
    return step.kind in ("add", "sub") and Ref(forked) in step.operands()


def is_square(step: Step) -> bool:
    if step.kind == "pow":
        return step.arguments[1] == 2
    return step.kind == "mul" and step.arguments[0] == step.arguments[1]


def _meet_in_product(e: Enumeration, first: int, second: int) -> bool:
    """Tell whether two paths meet in the two operands of a product or a quotient."""
    if first == second:
        return e.p.steps[first].kind in ("mul", "div", "exponential")
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


def _target_of(p: Program, forked: int, about: int) -> Ref | None:
    """Return the n of a loss such as exp(z) - n * z, whose gradient is exp(z) - n."""
    if p[p.output].dim() or _is_linear_after(p, forked):
        return None
    value = forked
    while p.steps[about].kind in ("mm", "view", "add"):  # up to z = X @ w, computed once more
        readers = [
            j for j in range(about + 1, p.output.i + 1) if Ref(about) in p.steps[j].operands()
        ]
        if len(readers) != 1:
            return None
        value, about = about, readers[0]
    step = p.steps[about]
    others = [r for r in step.operands() if r.i != value]
    if step.kind != "mul" or len(others) != 1 or not _is_linear_after(p, about):
        return None
    (target,) = others
    given = p.steps[target.i].kind == "leaf" and p.shape(target) == p.shape(Ref(value))
    subtracts = any(
        s.kind == "sub" and s.arguments[1] == Ref(about) for s in p.steps[: p.output.i + 1]
    )
    return target if given and subtracts else None


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
