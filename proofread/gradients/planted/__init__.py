"""The mistakes that can be planted in each kind of step of a backward."""

from proofread.gradients.planted import factors, formulas, paths, products, sums  # noqa: F401
