"""Run the rows of the tables."""

import inspect

import torch

from proofread import diagnose
from tests.gradients.layers import inputs_of


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
    """Diagnose a row, its backward given as a function or as the tensor that it returns."""
    _, forward, wrt = row[:3]
    backward, inputs = backward_of(row), inputs_of(forward)
    upstream = upstream_for(forward, inputs)
    if as_tensor:
        backward(inputs, upstream)  # a stale buffer shows from the second call on
        backward = backward(inputs, upstream)
    return diagnose(backward, forward, inputs, wrt=wrt, upstream=upstream)


def labels(diagnosis):
    return [mistake.label for mistake in diagnosis.mistakes]


def identify(row):
    return f"{row[1].__name__}-{row[2]}-{row[0]}"


def scores(table):
    """Return the shares of the rows whose label comes first, and among the first two."""
    found = [(row[0], labels(diagnosed(row))) for row in table]
    first = sum(names[:1] == [label] for label, names in found)
    two = sum(label in names[:2] for label, names in found)
    return first / len(table), two / len(table)
