"""Differentiate a recorded forward by autograd: quicker than by rules where only values count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from proofread.gradients.program import Program, Ref


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
