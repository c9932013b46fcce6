"""Mistakes in a step that repeats, as in a recurrence: each time it reads the wrong one's value."""

from __future__ import annotations

from collections.abc import Iterator

from proofread.gradients.graph.program import Program, Ref, Step, resolve
from proofread.gradients.planted.candidates import Candidate, Enumeration

RANK = 42
MOST = 12  # reads of one kind; more are the layers of a network rather than a loop
Read = tuple[int, int, int]  # a backward step, a position, and the forward value that it reads


def shifted(e: Enumeration) -> Iterator[Candidate]:
    """Plant, in all alike reads of saved values, the last, the first, the next or the one before."""
    for reads in _alike(e).values():
        sources = [source for _, _, source in reads]
        if not 1 < len(set(sources)) <= MOST or len({i for i, _, _ in reads}) < len(reads):
            continue
        plans = {
            "the last of them everywhere": [sources[0]] * len(sources),
            "the first of them everywhere": [sources[-1]] * len(sources),
            "them in the reverse order": sources[::-1],
        }
        states = _states(e, sources)
        for step, said in ((1, "the one after it each time"), (-1, "the one before it each time")):
            places = [states.index(s) + step if s in states else -1 for s in sources]
            if all(0 <= k < len(states) for k in places):
                plans[said] = [states[k] for k in places]
        # The first state is often zeros that the forward makes, and has no name.
        said = [s for s in sources[::-1] if e.p.steps[s].operands() or e.p.steps[s].name]
        names = [e.name(Ref(s)) for s in (said if len(said) > 1 else sources[::-1])]
        named = " and ".join(names) if len(names) == 2 else f"{names[0]}, {names[1]} and so on"
        if names[0] == names[1]:
            named = f"each of the {len(names)} {names[0]} in turn"
        if any(name.startswith("a value") for name in names[:2]):
            named = f"{len(names)} values of shape {e.p.shape(Ref(sources[0]))} in turn"
        for said, others in plans.items():
            yield e.changed(
                "wrong_operand",
                f"your gradient must use {named}, and uses {said}",
                RANK,
                {
                    i: _reading(e.p, e.p.steps[i], position, other)
                    for (i, position, _), other in zip(reads, others, strict=True)
                },
            )


def _alike(e: Enumeration) -> dict[tuple, list[Read]]:
    """Gather the reads of saved values by what reads them and by the shape of what is read."""
    found: dict[tuple, list[Read]] = {}
    for i in sorted(e.used):
        step = e.p.steps[i]
        if step.phase != "backward" or step.kind not in ("mm", "mul", "local"):
            continue
        for position, argument in enumerate(step.arguments):
            if not isinstance(argument, Ref) or e.carries >> argument.i & 1:
                continue
            source = _source(e.p, argument)
            if not e.p.is_float(source) or not e.p[source].dim():
                continue
            if step.kind == "local" and position == 1 and not step.details.get("from_output"):
                continue
            called = step.details.get("called")
            key = (step.kind, step.role, called, position, e.p.shape(argument))
            found.setdefault(key, []).append((i, position, source.i))
    return found


def _source(p: Program, argument: Ref) -> Ref:
    """Return the forward value behind a transpose that the backward takes."""
    step = p.steps[argument.i]
    return step.operands()[0] if step.phase == "backward" and step.kind == "permute" else argument


def _states(e: Enumeration, sources: list[int]) -> list[int]:
    """Return the values that a recurrence hands on, in the order of time; [] where it is none."""
    p = e.p
    made = [s for s in sources if s < e.start and p.steps[s].kind != "leaf"]
    if not made:
        return []
    last = p.steps[max(made)]
    kind, shape = (last.kind, last.details.get("called")), p.shape(Ref(made[0]))
    outputs = [
        i
        for i, step in enumerate(p.steps[: e.start])
        if (step.kind, step.details.get("called")) == kind and p.shape(Ref(i)) == shape
    ]
    initial = [
        i
        for i, step in enumerate(p.steps[: outputs[0]])
        if not step.operands() and p.is_float(Ref(i)) and p.shape(Ref(i)) == shape
    ]
    if len(initial) > 1:  # a weight may have the shape of a state
        initial = [i for i in initial if i in sources] or initial
    return [*initial, *outputs] if len(initial) <= 1 else outputs


def _reading(p: Program, step: Step, position: int, other: int):
    """Run a step with another forward value in the place of the one that it reads."""
    if step.kind == "local" and position == 1:
        return lambda values: step.details["from_output"](values[other])
    argument = step.arguments[position]
    turned = p.steps[argument.i] if _source(p, argument) != argument else None

    def change(values):
        arguments = [resolve(a, values) for a in step.arguments]
        arguments[position] = turned.function(values[other]) if turned else values[other]
        return step.function(*arguments)

    return change
