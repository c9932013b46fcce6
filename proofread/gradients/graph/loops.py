"""Which steps of a forward are the same line of a loop, run again and again."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from proofread.gradients.graph.program import Program, Ref

SHORTEST = 3  # steps in the body of a loop


@dataclass(frozen=True)
class Loop:
    """A body of `length` steps from `start` on, run `times` times.

    `states` maps what the first run starts from to the line that makes it for the next. `recurs`
    tells whether the runs share a weight, as the steps of time do and layers do not.
    """

    start: int
    length: int
    times: int
    states: dict[int, int]
    recurs: bool

    def line(self, i: int) -> int | None:
        """Return the line of the body that forward step i is; None outside of the loop."""
        if i in self.states:
            return self.states[i]
        inside = 0 <= i - self.start < self.length * self.times
        return (i - self.start) % self.length if inside else None

    def run(self, i: int) -> int | None:
        """Return in which run of the body a forward step is; the states it starts from are in run -1."""
        if i in self.states:
            return -1
        return None if self.line(i) is None else (i - self.start) // self.length


def hands_on(loop: Loop | None) -> bool:
    """Tell whether each run starts from what the one before has made: what is written twice does not."""
    return loop is not None and bool(loop.states)


def loop_of(p: Program) -> Loop | None:
    """Find the loop that most of a forward is, by the repetition of its steps."""
    seen = [_kind(p, i) for i in range(p.output.i + 1)]
    best = (0, 0, 0, 0)
    for length in range(SHORTEST, len(seen) // 2 + 1):
        start = 0
        while start + 2 * length <= len(seen):
            same = start
            while same + length < len(seen) and seen[same] == seen[same + length]:
                same += 1
            times = 1 + (same - start) // length
            # The shortest body that covers the most; an input is no line of a loop.
            if times > 1 and any(kind[0] != "leaf" for kind in seen[start : start + length]):
                best = max(best, (length * times, -length, -start, times))
            start = same + 1
    _, length, start, times = best
    if times < 2:
        return None
    start, length = -start, -length
    return Loop(start, length, times, _states(p, start, length), _shares(p, start, length))


def _kind(p: Program, i: int) -> tuple:
    step, value = p.steps[i], p.values[i]
    shape = tuple(value.shape) if isinstance(value, Tensor) else None
    return step.kind, step.details.get("called"), step.details.get("part"), shape


def _shares(p: Program, start: int, length: int) -> bool:
    """Tell whether the second run reads an input where the first one does."""
    for i in range(start, start + length):
        pairs = zip(p.steps[i].arguments, p.steps[i + length].arguments, strict=False)
        if any(isinstance(a, Ref) and a == b and p.is_float(a) for a, b in pairs):
            return True
    return False


def _states(p: Program, start: int, length: int) -> dict[int, int]:
    """Return what the first run reads where the second reads what the first has made."""
    found = {}
    for i in range(start, start + length):
        pairs = zip(p.steps[i].arguments, p.steps[i + length].arguments, strict=False)
        for first, second in pairs:
            if (
                isinstance(first, Ref)
                and isinstance(second, Ref)
                and first.i < start <= second.i < start + length
                and p.shape(first) == p.shape(second)
            ):
                found[first.i] = second.i - start
    return found
