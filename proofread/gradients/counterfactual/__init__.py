"""The right gradients of wrong forwards.

Who differentiates another forward than the one given makes one of these mistakes.
"""

from proofread.gradients.counterfactual import factors, functions, masks, operands, terms  # noqa: F401
