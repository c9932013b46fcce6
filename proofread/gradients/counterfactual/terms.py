"""Another sum or difference in the forward."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from proofread.gradients.graph.program import Ref, Step, resolve
from proofread.gradients.planted.candidates import (
    COUNTERFACTUAL,
    FORWARDS,
    UNREAD,
    Candidate,
    Enumeration,
    plants,
    shaped,
)


@plants("add", "sub", into=FORWARDS)
def _forward_add(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    for position, left_out in enumerate(step.arguments):
        kept = step.arguments[1 - position]
        if not isinstance(left_out, Ref) or not isinstance(kept, Ref):
            continue
        said = f"the term {e.name(left_out)} of {e.p.describe(Ref(i))} is left out"
        if step.kind == "sub" and position == 1:
            said = f"in {e.p.describe(Ref(i))}, {e.name(left_out)} is not subtracted"
        if e.active >> left_out.i & 1:
            continue
        target = step.kind == "sub" and e.p.shape(left_out) == e.p.shape(kept)
        yield e.instead(
            i,
            _label_of_summand(e, i, left_out, target),
            said,
            COUNTERFACTUAL,
            lambda a, b, k=1 - position, s=step.kind: _kept(a, b, k, s),
        )
        yield e.instead(
            i,
            "sign_error",
            f"the term {e.name(left_out)} of {e.p.describe(Ref(i))} has the wrong sign",
            COUNTERFACTUAL,
            lambda a, b, s=step.kind: a - b if s == "add" else a + b,
        )


def _label_of_summand(e: Enumeration, i: int, left_out: Ref, target: bool) -> str:
    if e.p[left_out].abs().max() > 1e4:  # -1e9, or -inf, where attention must not look
        return "missing_mask"
    if target:
        return "missing_target"
    return "wrong_mask" if _before_mask(e, i) else "wrong_operand"


def _before_mask(e: Enumeration, i: int) -> bool:
    return any(Ref(i) in s.operands() and s.details.get("called") == "relu" for s in e.p.steps)


def _kept(a, b, k: int, kind: str) -> Tensor:
    kept = (a, b)[k]
    return shaped(-kept if kind == "sub" and k == 1 else kept, (a, b)[1 - k])


@plants("add", into=UNREAD)
def _blend(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """One of two weighted losses, at full weight: so are smoothed labels taken for plain ones."""
    parts = [e.p.steps[a.i] if isinstance(a, Ref) else None for a in step.arguments]
    if not all(part and part.kind == "mul" and _is_weight(part.arguments[1]) for part in parts):
        return
    for whole, lost in (parts, parts[::-1]):
        said = e.p.describe(whole.arguments[0])
        changes = {}
        for j in e.used:
            back = e.p.steps[j]
            if back.kind == "mul" and back.phase == "backward":
                if back.about >= 0 and e.p.steps[back.about] is whole:
                    changes[j] = lambda values, b=back: resolve(b.arguments[0], values) * 1.0
                elif back.about >= 0 and e.p.steps[back.about] is lost:
                    changes[j] = lambda values, b=back: resolve(b.arguments[0], values) * 0.0
        if len(changes) == 2:
            what = f"this is the gradient of {said} alone, at full weight"
            yield e.changed("other_variant", what, COUNTERFACTUAL - 12, changes)


def _is_weight(number) -> bool:
    return isinstance(number, float) and 0 < number < 1
