"""What each operation of PyTorch is in the few kinds of steps of a program."""

from proofread.gradients.graph.lowerings import (  # noqa: F401
    arithmetic,
    functions,
    layers,
    losses,
    matrices,
    shapes,
)
from proofread.gradients.graph.lowerings.core import LOWERINGS, opaque

__all__ = ["LOWERINGS", "opaque"]
