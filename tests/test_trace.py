"""Numbers that remember how they were made: what they say, and that it is all there is to say."""

import importlib
import math
import operator

import numpy as np
import pytest
import torch

from extensions import trace
from extensions.cells import example
from extensions.trace import Untraceable, evaluate, of_tensor, written
from proofread.signatures import draw, gradients_of

LAYERS = ["linear", "mse", "relu"]
FUNCTIONS = [
    (layer, gradient.function)
    for layer in LAYERS
    for gradient in gradients_of(importlib.import_module(f"snippets.{layer}"))
]


def a(value, name="a", place=0):
    return trace.constant(float(value), name, place)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (lambda: a(2) * a(1) + a(4) * a(0), "2·1 + 4·0"),
        (lambda: a(3) - (a(1) - a(5)), "3 − (1 − 5)"),
        (lambda: a(3) - a(1) - a(5), "3 − 1 − 5"),
        (lambda: 2 * (a(3) - a(1)) / 4, "2·(3 − 1)/4"),
        (lambda: a(1) / (a(2) * a(4)), "1/(2·4)"),
        (lambda: a(1) / (a(2) / a(4)), "1/(2/4)"),
        (lambda: a(7) * a(-1), "7·(−1)"),
        (lambda: a(5) * a(0) + a(-6) * a(1), "5·0 + (−6)·1"),
        (lambda: a(5) - (-a(3)), "5 − (−3)"),
        (lambda: -(a(1) + a(2)), "−(1 + 2)"),
        (lambda: (a(-3)) ** 2, "(−3)²"),
        (lambda: (a(1) - a(5)).square(), "(1 − 5)²"),
        (lambda: 0 + a(0) + a(3), "0 + 3"),
        (lambda: a(-6) * (a(2) > 0), "−6·(2 > 0)"),
        (lambda: (a(2) - a(3)).exp(), "exp(2 − 3)"),
        (lambda: 1 / trace.Size(3), "1/3"),
        (lambda: 2 / (trace.Size(3) * trace.Size(2)), "2/(3·2)"),
    ],
)
def test_a_number_is_written_as_it_was_computed(number, text):
    number = number()
    assert number.text == text
    assert math.isclose(evaluate(text), number.value, rel_tol=1e-12)


def test_a_reader_computes_it_as_the_code_did():
    """Brackets, for random expressions of four operations."""
    random = np.random.default_rng(0)
    signs = [operator.add, operator.sub, operator.mul, operator.truediv, lambda x, y: -x * y]
    for _ in range(500):
        numbers = [a(value) for value in random.choice([-3, -2, -1, 1, 2, 4, 5], 6)]
        while len(numbers) > 1:
            left, right = (numbers.pop(random.integers(len(numbers))) for _ in range(2))
            if right.value:
                numbers.append(signs[random.integers(len(signs))](left, right))
        if numbers:
            assert math.isclose(
                evaluate(numbers[0].text), numbers[0].value, rel_tol=1e-9, abs_tol=1e-12
            )


def test_a_zero_of_the_data_stays_and_that_of_a_sum_goes():
    zero = of_tensor(torch.zeros(2), "x")
    assert sum(zero).text == "0 + 0"


def test_rounding_is_told():
    assert written(2 / 3) == "0.6667" and not trace.exact(2 / 3)
    assert trace.exact(0.25) and written(-0.0) == "0"


@pytest.mark.parametrize(("layer", "function"), FUNCTIONS, ids=lambda x: getattr(x, "__name__", x))
def test_a_traced_function_gives_what_it_gives(layer, function):
    """Of random data, which no rule could fit by chance."""
    inputs = draw(function, {"N": 3, "D": 2, "M": 4})
    numbers, _ = trace.trace(function, inputs)
    values = np.vectorize(lambda number: number.value)(numbers)
    np.testing.assert_allclose(values, function(**inputs).numpy(), rtol=1e-12)


def changed_by(function, inputs, name, place):
    """Which entries of the output another value of one entry changes, at some of 20 draws."""
    moved = np.zeros(function(**inputs).shape, dtype=bool)
    for seed in range(20):
        before = draw(function, {"N": 3, "D": 2, "M": 4}, seed=seed)
        after = {key: value.clone() for key, value in before.items()}
        after[name].view(-1)[place] *= -1.7
        moved |= (function(**before) != function(**after)).numpy()
    return moved


@pytest.mark.parametrize(("layer", "function"), FUNCTIONS, ids=lambda x: getattr(x, "__name__", x))
def test_an_entry_is_made_of_what_changes_it(layer, function):
    inputs = draw(function, {"N": 3, "D": 2, "M": 4})
    numbers, _ = trace.trace(function, inputs)
    for name, value in inputs.items():
        for place in range(value.numel()):
            told = np.vectorize(
                lambda n, source=(name, place): source in {p.source for p in n.ancestors()}
            )(numbers)
            moved = changed_by(function, inputs, name, place)
            assert not (moved & ~told).any(), (name, place)
            # A row times a diagonal matrix says its zeros as well.
            assert (moved == told).all() or function.__name__ == "grad_Z_by_row"


def softmax(Z):
    exponentials = torch.exp(Z - Z.amax(1, keepdim=True))
    return exponentials / exponentials.sum(1, keepdim=True)


def grad_Z_of_cross_entropy(P, y):
    return (P - torch.nn.functional.one_hot(y, P.shape[1])) / P.shape[0]


def grad_Z_of_cross_entropy_by_entry(P, y):
    N, C = P.shape
    dJ_dZ = torch.empty_like(P)
    for i in range(N):
        for c in range(C):
            dJ_dZ[i, c] = P[i, c] / N
        dJ_dZ[i, y[i]] -= 1 / N
    return dJ_dZ


def grad_Z_of_cross_entropy_by_index(P, y):
    dJ_dZ = P.clone()
    dJ_dZ[torch.arange(len(y)), y] -= 1
    return dJ_dZ / len(y)


def layer_norm(X):
    centered = X - X.mean(1, keepdim=True)
    return centered * (X.var(1, unbiased=False, keepdim=True) + 1e-5) ** -0.5


def conv(X, K):
    H, W = X.shape
    h, w = K.shape
    rows = [
        torch.stack([(X[i : i + h, j : j + w] * K).sum() for j in range(W - w + 1)])
        for i in range(H - h + 1)
    ]
    return torch.stack(rows)


def leaky(Z):
    return torch.where(Z > 0, Z, 0.1 * Z) + torch.relu(Z) + torch.sigmoid(Z) ** 3


CALLS = [
    lambda x: x.sum(dim=0),
    lambda x: x.sum(),
    lambda x: torch.sum(x, dim=0, keepdim=True),
    lambda x: torch.mean(x, dim=1),
    lambda x: x.mean(dim=(0, 1)),
    lambda x: x.amax(dim=1, keepdim=True),
    lambda x: torch.amax(x, dim=0),
    lambda x: x.amax(),
    lambda x: x.unsqueeze(dim=1).squeeze(dim=1),
    lambda x: x.reshape(2, -1) @ x,
    lambda x: torch.matmul(x, x.T),
    lambda x: torch.square(x) + torch.ones_like(x) - torch.zeros_like(x),
    lambda x: x + torch.full((2, 2), 3.0),
    lambda x: x * torch.tensor([2.0, -1.0]),
    lambda x: torch.eye(2) @ x,
    lambda x: torch.ones(2) + x,
    lambda x: torch.ones(2) - x,
    lambda x: torch.ones(2) * x,
    lambda x: torch.ones(2) / x,
    lambda x: x.double().contiguous().to(x) / x.numel(),
]


@pytest.mark.parametrize("function", CALLS)
def test_a_call_is_traced_as_torch_does_it(function):
    x = torch.tensor([[1.0, 2.0], [-3.0, 5.0]])
    numbers, _ = trace.trace(function, {"x": x})
    np.testing.assert_allclose(
        np.vectorize(lambda number: number.value)(numbers), function(x).numpy(), rtol=1e-6
    )
    for number in np.atleast_1d(numbers).flat:
        assert math.isclose(evaluate(number.text), number.value, rel_tol=1e-2)
        assert {part.source[0] for part in number.ancestors() if part.source} == {"x"}


LABELS = torch.tensor([2, 0, 2])
LATER = [
    (softmax, {"Z": (3, 4)}),
    (grad_Z_of_cross_entropy, {"P": (3, 4), "y": LABELS}),
    (grad_Z_of_cross_entropy_by_entry, {"P": (3, 4), "y": LABELS}),
    (grad_Z_of_cross_entropy_by_index, {"P": (3, 4), "y": LABELS}),
    (layer_norm, {"X": (2, 3)}),
    (conv, {"X": (4, 5), "K": (2, 3)}),
    (leaky, {"Z": (3, 4)}),
]


@pytest.mark.parametrize(("function", "shapes"), LATER, ids=lambda x: getattr(x, "__name__", ""))
def test_layers_of_other_kinds_are_followed(function, shapes):
    torch.manual_seed(0)
    inputs = {
        name: shape if torch.is_tensor(shape) else torch.randn(shape, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    numbers, _ = trace.trace(function, inputs)
    values = np.vectorize(lambda number: number.value)(numbers)
    np.testing.assert_allclose(values, function(**inputs).numpy(), rtol=1e-12)
    # Written in four digits, the text gives the value nearly.
    for number in numbers.flat:
        assert math.isclose(evaluate(number.text), number.value, rel_tol=2e-2, abs_tol=2e-3)


def test_a_label_is_a_reason():
    inputs = {"P": torch.ones(3, 4, dtype=torch.float64) / 4, "y": LABELS}
    numbers, _ = trace.trace(grad_Z_of_cross_entropy_by_entry, inputs)
    assert numbers[0, 2].text == "0.25/3 − 1/3"
    assert [reason.source for reason in numbers[0, 2].given] == [("y", 0)]


def test_a_branch_remembers_what_it_asked():
    Z, upstream = torch.tensor([[-1.0, 2.0]]), torch.tensor([[5.0, 7.0]])
    function = importlib.import_module("snippets.relu").grad_Z_by_entry
    numbers, _ = trace.trace(function, {"Z": Z, "dJ_dA": upstream})
    assert [n.given[0].text for n in numbers.flat] == ["(−1 > 0)", "(2 > 0)"]
    assert ("Z", 1) in {part.source for part in numbers[0, 1].ancestors()}


def test_a_choice_remembers_what_it_asked():
    Z = torch.tensor([-1.0, 2.0])
    numbers, _ = trace.trace(lambda Z: torch.where(Z > 0, 3, 4), {"Z": Z})
    assert [[asked.text for asked in n.given] for n in numbers] == [["(−1 > 0)"], ["(2 > 0)"]]
    assert [("Z", k) in {p.source for p in n.ancestors()} for k, n in enumerate(numbers)] == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: torch.fft.fft(x), "torch.fft_fft"),
        (lambda x: x.cumsum(0), "cumsum"),
        (lambda x: (x, x), "returns tuple"),
        (lambda x: x**5, "power of 5"),
        (lambda x: x[x[0] / 2], "is no index"),
        (lambda x: abs(x), "TypeError: bad operand type for abs"),
        (lambda x: 1 / (x - x), "ZeroDivisionError"),
        (lambda x: x.sum(dim=5), "AxisError"),
        (lambda x: x.shape.missing, "AttributeError"),
    ],
)
def test_what_cannot_be_followed_is_refused(function, reason):
    with pytest.raises(Untraceable, match=reason):
        trace.trace(function, {"x": torch.ones(2)})


def test_checks_of_shapes_are_on_again():
    linear = importlib.import_module("snippets.linear")
    with pytest.raises(Untraceable):
        trace.trace(lambda x: x.cumsum(0), {"x": torch.ones(2)})
    with pytest.raises(Exception, match="Type-check"):
        linear.grad_b(torch.ones(2))


def test_the_example_is_that_of_the_doctest():
    linear = importlib.import_module("snippets.linear")
    found = example(linear.grad_X, linear)
    assert list(found) == ["dJ_dZ", "W"]
    assert found["W"].tolist() == [[1, 0], [-1, 2]]
