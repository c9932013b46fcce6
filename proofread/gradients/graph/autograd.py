"""Differentiate a recorded forward by autograd: quicker than by rules where only values count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from proofread.gradients.graph.program import Program, Ref


def by_autograd_of(
    p: Program,
    leaves: Sequence[Ref],
    upstream: Tensor,
    changes: Mapping[int, Callable[[list], Tensor]] | None = None,
) -> list[Tensor | None] | None:
    """Return the gradients with respect to leaves, with some steps changed; None where it fails.

    A leaf that the output does not depend on has None for its gradient.
    """
    changes = changes or {}
    values = list(p.values)
    dirty = sum(1 << leaf.i for leaf in leaves)
    try:
        with torch.enable_grad():
            for leaf in leaves:
                values[leaf.i] = p[leaf].detach().requires_grad_()
            for i, step in enumerate(p.steps[: p.output.i + 1]):
                if i in changes or step.needs & dirty:
                    values[i] = changes[i](values) if i in changes else step.run(values)
                    dirty |= 1 << i
            given = [values[leaf.i] for leaf in leaves]
            return list(torch.autograd.grad(values[p.output.i], given, upstream, allow_unused=True))
    except (RuntimeError, IndexError, ValueError, TypeError):
        return None


def size_of_terms(p: Program, upstream: Tensor) -> float:
    """Return how large the terms are that add up to the gradient, also where they cancel.

    The gradient of each step of the forward is passed on without its signs, and with other ones,
    so that nothing cancels in what comes after.
    """
    dirty, steps, values = 1 << p.wrt.i, [], list(p.values)
    signs = torch.Generator().manual_seed(0)
    largest = 0.0
    try:
        with torch.enable_grad():
            leaf = values[p.wrt.i] = p[p.wrt].detach().requires_grad_()
            for i, step in enumerate(p.steps[: p.output.i + 1]):
                if step.needs & dirty:
                    values[i] = step.run(values)
                    dirty |= 1 << i
                    if p.is_float(Ref(i)) and values[i].requires_grad:
                        steps.append(values[i])
            found = torch.autograd.grad(
                values[p.output.i], steps, upstream, retain_graph=True, allow_unused=True
            )
            for value, gradient in zip(steps, found, strict=True):
                if gradient is None:
                    continue
                other = torch.randn(gradient.shape, generator=signs, dtype=gradient.dtype).sign()
                for sign in (1, other):
                    (passed,) = torch.autograd.grad(
                        value, leaf, sign * gradient.abs(), retain_graph=True, allow_unused=True
                    )
                    largest = max(largest, float(passed.abs().max()))
    except (RuntimeError, IndexError, ValueError, TypeError):
        return 0.0
    return largest
