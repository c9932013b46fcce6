"""The rules of differentiation; importing this package registers all of them."""

from proofread.gradients.graph.rules import (
    arithmetic,
    functions,
    losses,
    matrices,
    normalise,
    softmax,
)
from proofread.gradients.graph.rules.core import Underivable, differentiate

__all__ = [
    "Underivable",
    "arithmetic",
    "differentiate",
    "functions",
    "losses",
    "matrices",
    "normalise",
    "softmax",
]
