"""Values are named as a user writes them."""

import pytest
import torch
import torch.nn.functional as F

from proofread.gradients.graph.trace import trace

MATRIX = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
IMAGE = MATRIX.reshape(1, 1, 4, 4)
PAIR = MATRIX.expand(2, 4, 4)
CLASSES = torch.tensor([0, 3, 1, 1])
BELOW = torch.ones(4, 4).tril().bool()


def long(x):
    for _ in range(40):
        x = x + x
    return x * 2


def deep(x, W):
    for _ in range(3):
        x = torch.tanh(x @ W + W @ x - x)
    return x * 2


# name of the output, forward, inputs; the gradient is with respect to the first
NAMES = [
    ("softmax(X @ W)", lambda X, W: torch.softmax(X @ W, -1), {"X": MATRIX, "W": MATRIX}),
    ("X @ W + b", lambda X, W, b: X @ W + b, {"X": MATRIX, "W": MATRIX, "b": MATRIX[0]}),
    ("(P - T) ** 2", lambda P, T: (P - T) ** 2, {"P": MATRIX, "T": MATRIX + 1}),
    ("mean((P - T) ** 2)", F.mse_loss, {"P": MATRIX, "T": MATRIX + 1}),
    ("a - (b - a)", lambda a, b: a - (b - a), {"a": MATRIX, "b": MATRIX}),
    ("a / (b * a)", lambda a, b: a / (b * a), {"a": MATRIX, "b": MATRIX}),
    ("1 / a", lambda a: 1 / a, {"a": MATRIX}),
    ("3 / (a + 2)", lambda a: 3 / (a + 2), {"a": MATRIX}),
    ("1 / a", torch.reciprocal, {"a": MATRIX}),
    ("(-a) ** 3", lambda a: (-a) ** 3, {"a": MATRIX}),
    ("0.25 * relu(x)", lambda x: 0.25 * torch.relu(x), {"x": MATRIX}),
    ("lam * relu(x)", lambda x, lam: lam * torch.relu(x), {"x": MATRIX, "lam": 0.3}),
    ("x / (1 - p)", lambda x, p: x / (1 - p), {"x": MATRIX, "p": 0.3}),
    ("Q @ K.T", lambda Q, K: Q @ K.T, {"Q": MATRIX, "K": MATRIX}),
    ("Q @ K.T / sqrt(3)", lambda Q, K: Q @ K.T / 3**0.5, {"Q": MATRIX, "K": MATRIX}),
    ("Q @ K.mT", lambda Q, K: Q @ K.mT, {"Q": PAIR, "K": PAIR}),
    ("x @ W.T + b", F.linear, {"x": MATRIX, "W": MATRIX, "b": MATRIX[0]}),
    ("scores[:, 1:]", lambda scores: scores[:, 1:], {"scores": MATRIX}),
    ("scores[:, :-1]", lambda scores: scores[:, :-1], {"scores": MATRIX}),
    ("x[..., ::2]", lambda x: x[..., ::2], {"x": PAIR}),
    ("x[:, 2:]", lambda x: x.chunk(2, -1)[1], {"x": MATRIX}),
    ("x[:, 1:]", lambda x: x.split([1, 3], 1)[1], {"x": MATRIX}),
    ("x[2]", lambda x: x.unbind()[2], {"x": MATRIX}),
    ("x[:, 3]", lambda x: x[:, 3], {"x": MATRIX}),
    ("E[ids]", lambda E, ids: E[ids], {"E": MATRIX, "ids": CLASSES}),
    ("max(z)", lambda z: z.max(1).values, {"z": MATRIX}),
    ("sum(z)", lambda z: z.sum(1), {"z": MATRIX}),
    ("std(z)", lambda z: z.std(1), {"z": MATRIX}),
    ("norm(z)", lambda z: z.norm(dim=1), {"z": MATRIX}),
    ("layer_norm(x)", lambda x: F.layer_norm(x, (4,)), {"x": MATRIX}),
    ("conv2d(x, w)", F.conv2d, {"x": IMAGE, "w": IMAGE}),
    ("max_pool(x)", lambda x: F.max_pool2d(x, 2), {"x": IMAGE}),
    ("avg_pool(x)", lambda x: F.avg_pool2d(x, 2), {"x": IMAGE}),
    ("cross_entropy(logits, y)", F.cross_entropy, {"logits": MATRIX, "y": CLASSES}),
    ("nll_loss(logp, y)", F.nll_loss, {"logp": MATRIX, "y": CLASSES}),
    (
        "masked_fill(scores, ~mask)",
        lambda scores, mask: scores.masked_fill(~mask, -1e9),
        {"scores": MATRIX, "mask": BELOW},
    ),
    ("where(z > 0, z, 0.1 * z)", lambda z: torch.where(z > 0, z, 0.1 * z), {"z": MATRIX}),
    ("maximum(a, b)", torch.maximum, {"a": MATRIX, "b": MATRIX}),
    ("leaky_relu(z)", F.leaky_relu, {"z": MATRIX}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "forward", "inputs"), NAMES, ids=[row[0] for row in NAMES])
def test_names_the_output(name, forward, inputs):
    # By position, for PyTorch's own functions have other names for their arguments.
    program = trace(lambda **given: forward(*given.values()), inputs, next(iter(inputs)))
    assert program.describe(program.output) == name


@pytest.mark.parametrize(
    ("forward", "inputs", "name"),
    [
        (deep, {"x": MATRIX, "W": MATRIX}, "the third tanh"),
        (long, {"x": MATRIX}, "a value of shape (4, 4)"),  # written out, 2 ** 40 times x
    ],
)
def test_says_what_has_no_short_name(forward, inputs, name):
    program = trace(forward, inputs, "x")
    assert program.describe(program.output) == "the output"
    assert program.describe(program.steps[program.output.i].operands()[0]) == name
