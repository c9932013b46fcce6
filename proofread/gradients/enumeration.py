"""Every mistake of a program: those at one step, and the same at all alike steps."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from proofread.gradients import counterfactual, planted, repeated  # noqa: F401 - they register
from proofread.gradients.candidates import (
    FORWARDS,
    LOCAL,
    PLANTERS,
    TEXTBOOK,
    UNREAD,
    Candidate,
    Enumeration,
)
from proofread.gradients.planted.reads import chained_reads, read_mistakes, saved_everywhere
from proofread.gradients.planted.transposes import untransposed
from proofread.gradients.planted.upstream import identity, stopped, upstream_mistakes
from proofread.gradients.program import Ref, Step


def every_mistake(e: Enumeration) -> Iterator[Candidate]:
    """Yield every mistake at one step, then every mistake at all steps alike."""
    alike: dict[tuple, list[Candidate]] = {}
    for candidate in _single(e):
        yield candidate
        if candidate.sort and len(candidate.changes) == 1:
            (i,) = candidate.changes
            step = e.p.steps[i]
            # Where states and weights both fork, a lost state is no lost weight.
            shape = e.p.shape(Ref(i)) if step.role == "fork" else None
            kind = (step.phase, step.kind, step.role, step.details.get("called"), shape)
            alike.setdefault((candidate.sort, kind), []).append(candidate)
    for candidates in alike.values():
        if len({c.key[1] for c in candidates}) == len(candidates) > 1:
            yield _at_all(e, candidates)
    yield from repeated.shifted(e)


def _at_all(e: Enumeration, candidates: list[Candidate]) -> Candidate:
    """Plant the same mistake at each of several steps, such as those of a recurrence."""
    first = min(candidates, key=lambda c: c.key[1])
    return Candidate(
        first.label,
        f"{first.what}, at this and the {_others(len(candidates) - 1)}",
        first.rank + 2,
        (e.tag, first.key[1], next(e.counter)),
        e.p,
        {i: change for c in candidates for i, change in c.changes.items()},
        first.also,
        first.hint,
    )


def _others(count: int) -> str:
    return "other such step" if count == 1 else f"{count} other such steps"


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
        return "norm_var_term_missing", what, ("missing_path", "norm_stats_detached")
    return "missing_path", what, ()
