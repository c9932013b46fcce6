"""Two gradients that take each other's place: of the factors of a product, of the parts of a tensor."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from proofread.gradients.graph.program import Ref, Step, resolve
from proofread.gradients.planted.candidates import LOCAL, Candidate, Enumeration

MOST_PARTS = 8  # of a tensor; the gates of an LSTM are four


def exchanged(e: Enumeration) -> Iterator[Candidate]:
    yield from _factors(e)
    yield from _parts(e)


def _factors(e: Enumeration) -> Iterator[Candidate]:
    """From c = i * g: the gradient of i is put where that of g belongs."""
    for i, step in enumerate(e.p.steps[: e.start]):
        if step.kind != "mul" or len({*step.operands()}) != 2:
            continue
        backs = [j for j in sorted(e.used) if _goes_back(e, j, i) and e.p.steps[j].kind == "mul"]
        if len(backs) != 2 or len({e.p.shape(Ref(j)) for j in backs}) != 1:
            continue
        first, second = (e.p.steps[j] for j in backs)
        a, b = (e.name(r) for r in step.operands())
        candidate = e.changed(
            "wrong_operand",
            f"the gradients of {a} and {b}, the factors of {e.p.describe(Ref(i))}, are exchanged",
            LOCAL + 1,
            {backs[0]: second.run, backs[1]: first.run},
        )
        candidate.in_loop = ("factors",)
        yield candidate


def _parts(e: Enumeration) -> Iterator[Candidate]:
    """Of the gates that are cut out of one tensor: they come back in another order."""
    backs: dict[tuple, list[int]] = {}
    for j in sorted(e.used):
        step = e.p.steps[j]
        if step.kind == "scatter" and e.carries >> j & 1:
            source = e.p.steps[step.about].operands()[0]
            backs.setdefault((source, e.p.shape(step.operands()[0])), []).append(j)
    for places in backs.values():
        if len(places) > MOST_PARTS:
            continue
        for one, other in itertools.combinations(places, 2):
            a, b = (e.p.describe(Ref(e.p.steps[j].about)) for j in (one, other))
            candidate = e.changed(
                "wrong_operand",
                f"the gradients of {a} and {b} are exchanged",
                LOCAL + 1,
                {one: _with_gradient_of(e, one, other), other: _with_gradient_of(e, other, one)},
            )
            candidate.in_loop = ("parts", e.seen_from(one, other), e.seen_from(other, one))
            yield candidate


def _goes_back(e: Enumeration, j: int, i: int) -> bool:
    step = e.p.steps[j]
    return step.phase == "backward" and step.about == i and bool(e.carries >> j & 1)


def _with_gradient_of(e: Enumeration, j: int, other: int):
    step: Step = e.p.steps[j]
    gradient = e.p.steps[other].operands()[0]
    return lambda values: step.function(
        values[gradient.i], *[resolve(a, values) for a in step.arguments[1:]]
    )
