"""The forward done to the gradient again, where its transpose is needed.

A rotation must be turned back, a permutation undone. Between a value and what is put together
from its parts, as in rotary embeddings, the steps in between are taken as one map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.program import Program, Ref, Step, resolve
from proofread.gradients.planted.candidates import LOCAL, Candidate, Enumeration

NEAR = 1e-6
HINT = (
    "The gradient of A @ x holds A.T: what the forward turns, shifts or sorts, the backward "
    "turns, shifts or sorts back."
)


def untransposed(e: Enumeration) -> Iterator[Candidate]:
    """Take each value that is cut up and joined again, and apply that map to its gradient."""
    p = e.p
    gradients = {value: i for i, value in p.gradient_of.items()}
    for end in range(p.wrt.i + 1, p.output.i + 1):
        if not e.active >> end & 1 or not _is_joined(p, p.steps[end]):
            continue
        for start in _starts(e, end):
            # The value may be used once more, as in x * cos + turned(x) * sin.
            for whole in _wholes(e, start, end):
                if start in gradients and whole in gradients:
                    candidate = _again(e, start, whole, gradients)
                    if candidate:
                        yield candidate
            break


def _is_joined(p: Program, step: Step) -> bool:
    return step.kind == "cat" or (
        step.kind == "view" and p.steps[step.operands()[0].i].kind == "cat"
    )


def _starts(e: Enumeration, end: int) -> Iterator[int]:
    """Yield the values of the same shape that all that depends on `wrt` comes through."""
    p, front = e.p, {end}
    while front:
        i = max(front)
        front.remove(i)
        front |= {r.i for r in p.steps[i].operands() if e.active >> r.i & 1}
        if len(front) == 1 and p.shape(Ref(*front)) == p.shape(Ref(end)):
            yield from front


def _wholes(e: Enumeration, start: int, end: int) -> Iterator[int]:
    """Yield the joined value, and a sum of that shape in which it meets the value itself."""
    p = e.p
    yield end
    after = p.dependents(1 << end)
    for i in range(end + 1, p.output.i + 1):
        if after >> i & 1 and p.steps[i].kind in ("add", "sub"):
            if p.shape(Ref(i)) == p.shape(Ref(start)):
                yield i
            return


def _again(e: Enumeration, start: int, end: int, gradients: dict[int, int]) -> Candidate | None:
    p, place, source = e.p, gradients[start], Ref(gradients[end])
    between = p.dependents(1 << start)
    steps = [i for i in range(start + 1, end + 1) if between >> i & 1]

    def forward(values: list, x: Tensor) -> Tensor:
        values = list(values)
        values[start] = x
        for i in steps:
            step = p.steps[i]
            values[i] = step.function(*[resolve(a, values) for a in step.arguments])
        return values[end]

    def change(values):
        return _along(lambda x: forward(values, x), values[start], values[source.i])

    if not _is_all_of_it(p, lambda x: forward(p.values, x), start, place, source):
        return None
    what = f"the steps from {p.describe(Ref(start))} to {p.describe(Ref(end))} are applied to the "
    return e.plant(
        place,
        "transposed_operand",
        f"{what}gradient as they are, and must be transposed",
        LOCAL + 2,
        change,
        ("sign_error",),
        HINT,
    )


def _is_all_of_it(p: Program, forward, start: int, place: int, source: Ref) -> bool:
    """Tell whether the value reaches the output through these steps only."""
    x = p.values[start].detach().requires_grad_()
    with torch.enable_grad():
        y = forward(x)
    if not y.requires_grad:  # such as the order of the entries, as numbers
        return False
    (back,) = torch.autograd.grad(y, x, p[source])
    return torch.allclose(back, p.values[place], rtol=NEAR, atol=NEAR)


def _along(forward: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> Tensor:
    """Return the Jacobian times a direction, as the slope of its transpose: twice backwards.

    Forward mode would load compilers first, which takes longer than a diagnosis.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = forward(x)
        weights = torch.zeros_like(y, requires_grad=True)
        (back,) = torch.autograd.grad(y, x, weights, create_graph=True)
        return torch.autograd.grad(back, weights, direction)[0]
