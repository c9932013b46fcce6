"""Run the rows of the tables."""

import inspect
import re

import torch

from proofread import diagnose
from tests.gradients.layers import inputs_of

# The names of steps in a recorded program, which nobody wrote in a forward.
INTERNAL = (
    "add|sub|mul|div|mm|mul3|sub3|stat_mul|bracket|extreme|pick|normalise|standardise|bce|target|"
    "bce_probability|condition|captured|opaque|view|expand|cast|permute|sum_pool|reciprocal_|rstd|"
    "vjp|scatter|places|spread|slice|onehot|log_odds|power|conv|conv_backward|index|unary|leaf|"
    "bitwise_not|logical_not|logical_and|eq|ne|gt|ge|lt|le|gelu_tanh|quick_gelu|half_square"
)
NOBODY_SAYS = re.compile(rf"(?<![\w.])({INTERNAL})\(|…|[{{}}]|\bfactor the\b|\. ?\.\s|\bNone\b")


def unfit(text):
    """Return what in a printed diagnosis is not fit to read, or None."""
    found = NOBODY_SAYS.search(" ".join(text.split()))
    wide = [line for line in text.splitlines() if len(line) > 80]
    return found.group() if found else wide[0] if wide else None


def backward_of(row):
    """Return the row's backward; a backward with a memory is made anew for each run."""
    backward = row[3]
    made = not inspect.signature(backward).parameters
    return backward() if made else backward


def upstream_for(forward, inputs, seed=7):
    output = forward(**inputs)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)


def diagnosed(row, as_tensor=False):
    """Diagnose a row, its backward given as a function or as the tensor that it returns.

    Whatever row it is, what is printed must be fit to read.
    """
    _, forward, wrt = row[:3]
    backward, inputs = backward_of(row), inputs_of(forward)
    upstream = upstream_for(forward, inputs)
    if as_tensor:
        backward(inputs, upstream)  # a stale buffer shows from the second call on
        backward = backward(inputs, upstream)
    diagnosis = diagnose(backward, forward, inputs, wrt=wrt, upstream=upstream)
    assert unfit(str(diagnosis)) is None, str(diagnosis)
    return diagnosis


def labels(diagnosis):
    return [mistake.label for mistake in diagnosis.mistakes]


def identify(row):
    return f"{row[1].__name__}-{row[2]}-{row[0]}"
