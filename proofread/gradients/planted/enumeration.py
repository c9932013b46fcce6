"""Every mistake of a program: those at one step, and the same at all alike steps."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from proofread.gradients import counterfactual  # noqa: F401 - it registers
from proofread.gradients.graph.program import Ref, Step
from proofread.gradients.planted import repeated
from proofread.gradients.planted.candidates import (
    FORWARDS,
    LOCAL,
    PLANTERS,
    TEXTBOOK,
    UNREAD,
    Candidate,
    Enumeration,
)
from proofread.gradients.planted.exchanged import exchanged
from proofread.gradients.planted.paths import CARRIED, carried_by, detached_too
from proofread.gradients.planted.reads import chained_reads, read_mistakes, saved_everywhere
from proofread.gradients.planted.transposes import untransposed
from proofread.gradients.planted.upstream import identity, stopped, upstream_mistakes

READS = ("saved", "gradient")


def every_mistake(e: Enumeration) -> Iterator[Candidate]:
    """Yield every mistake at one step, then every mistake at all steps alike."""
    alike: dict[tuple, list[Candidate]] = {}
    in_loop: dict[tuple, list[Candidate]] = {}
    for candidate in _single(e):
        line = _line(e, candidate)
        if line:
            in_loop.setdefault(line, []).append(candidate)
        if line and e.loop.recurs and candidate.in_loop and candidate.in_loop[0] in READS:
            continue  # who reads the wrong value in a loop does so in each run
        yield candidate
        if candidate.sort and len(candidate.changes) == 1:
            (i,) = candidate.changes
            step = e.p.steps[i]
            # Where states and weights both fork, a lost state is no lost weight.
            forks = step.role == "fork"
            of = e.p.steps[step.details["forked"]].kind if forks else None
            kind = (step.phase, step.kind, step.role, step.details.get("called"), of)
            alike.setdefault((candidate.sort, kind), []).append(candidate)
    held = (c for (c, *more) in in_loop.values() if not more and e.loop.recurs)
    yield from (c for c in held if c.in_loop and c.in_loop[0] in READS)
    said = set()
    for candidates in [*alike.values(), *in_loop.values()]:
        places = frozenset(c.key for c in candidates)
        if len({c.key[1] for c in candidates}) == len(candidates) > 1 and places not in said:
            said.add(places)
            yield _at_all(e, candidates)
    yield from _but_the_last(e, in_loop)
    yield from repeated.shifted(e)


def _but_the_last(e: Enumeration, in_loop: dict[tuple, list[Candidate]]) -> Iterator[Candidate]:
    """Who begins with the last step of time by hand may forget in the loop what is there."""
    for candidates in in_loop.values():
        if candidates[0].label == "missing_local_derivative" and len(candidates) > 2:
            # Going back, the last run of the loop comes first.
            earlier = sorted(candidates, key=lambda c: c.key[1])[1:]
            if len({c.key[1] for c in earlier}) == len(earlier):
                candidate = _at_all(e, earlier)
                candidate.what = candidate.what.replace("all other such steps", "those before it")
                yield candidate


def _line(e: Enumeration, candidate: Candidate) -> tuple | None:
    """Say in which line of a loop a mistake is planted, and which one; None outside of a loop."""
    which = candidate.in_loop or candidate.sort
    if e.loop is None or which is None:
        return None
    step = e.p.steps[candidate.key[1]]
    about = candidate.key[1] if step.phase == "forward" else step.about
    line = e.loop.line(step.details["forked"] if step.role == "fork" else about)
    if line is None:
        return None
    # Of a product, the gradients of both factors are of one line: they read each other's factor.
    reads = [
        e.seen_from(candidate.key[1], r.i) for r in step.operands() if not e.carries >> r.i & 1
    ]
    return which, line, (step.phase, step.kind, step.role, step.details.get("called")), *reads


def _at_all(e: Enumeration, candidates: list[Candidate]) -> Candidate:
    """Plant the same mistake at each of several steps, such as those of a recurrence.

    How many they are is not said: a long recurrence is searched in a few of its steps.
    """
    first = min(candidates, key=lambda c: c.key[1])
    others = "the other such step" if len(candidates) == 2 else "all other such steps"
    what, hint = f"{first.what}, at this and {others}", first.hint
    if first.label == "missing_path" and (carrier := carried_by(e, candidates)):
        what = (
            "the gradient is not carried from one time step to the one before: the term through "
            f"the product with {carrier} is left out at every step"
        )
        hint = CARRIED
    elif len(forked := {_forked(e, c) for c in candidates}) == 1 and (value := forked.pop()) >= 0:
        what = f"only one of the uses of {e.p.describe(Ref(value))} has a term"
    return Candidate(
        first.label,
        what,
        first.rank + 2,
        (e.tag, first.key[1], next(e.counter)),
        e.p,
        {i: change for c in candidates for i, change in c.changes.items()},
        first.also,
        hint,
    )


def _forked(e: Enumeration, candidate: Candidate) -> int:
    """Return the value whose paths meet where a candidate changes the backward; -1 for none."""
    return e.p.steps[candidate.key[1]].details.get("forked", -1)


def _single(e: Enumeration) -> Iterator[Candidate]:
    yield from upstream_mistakes(e)
    yield from identity(e)
    yield from stopped(e)
    for i in range(e.p.result.i + 1):
        step = e.p.steps[i]
        if i not in e.used:
            if step.kind in UNREAD and step.phase == "forward":
                yield from UNREAD[step.kind](e, i, step)
        elif step.phase == "backward" and step.kind != "upstream":
            yield from _alternatives(e, i, step)
            planter = PLANTERS.get(step.kind)
            if planter:
                yield from planter(e, i, step)
            yield from read_mistakes(e, i, step)
            yield from _detached(e, i, step)
        elif step.phase == "forward":
            yield from _counterfactual(e, i, step)
    yield from saved_everywhere(e)
    yield from chained_reads(e)
    yield from untransposed(e)
    yield from exchanged(e)


def _alternatives(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    for alternative in step.alternatives:
        yield e.instead(
            i,
            alternative.label,
            _placed(e, i, alternative.what),
            TEXTBOOK,
            alternative.function,
            hint=alternative.hint,
        )


def _placed(e: Enumeration, i: int, what: str) -> str:
    """Say where, in a sentence that has a place for it."""
    return what.replace("{site}", e.site(i))


def _detached(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """No gradient at all goes through this step."""
    if not e.carries >> i & 1 or i == e.p.result.i:
        return
    label, what, also = _detached_label(e, i)
    yield e.plant(
        i,
        label,
        what,
        LOCAL + 3,
        lambda values: torch.zeros_like(e.p.values[i]),
        also,
    )


def _counterfactual(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """The right gradient of another forward, one step of which differs."""
    planter = FORWARDS.get(step.kind)
    if planter:
        yield from planter(e, i, step)


def _detached_label(e: Enumeration, i: int) -> tuple[str, str, tuple]:
    """Name a gradient that is cut at a backward step, by the forward value it belongs to."""
    p = e.p
    about = p.steps[i].about
    what = f"no gradient reaches {p.describe(Ref(p.gradient_of.get(i, about)))}"
    if p.steps[about].kind == "var":
        return "norm_var_term_missing", what, ("missing_path", *detached_too(p))
    return "missing_path", what, ()
