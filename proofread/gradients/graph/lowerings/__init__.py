"""What each operation of PyTorch is in the few kinds of steps of a program."""

from proofread.gradients.graph.lowerings import arithmetic, functions, layers, losses, shapes  # noqa: F401
from proofread.gradients.graph.lowerings.core import LOWERINGS, opaque

__all__ = ["LOWERINGS", "opaque"]
