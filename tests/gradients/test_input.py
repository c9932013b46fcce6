"""Bad input gets one clear sentence."""

import numpy as np
import pytest
import torch

from proofread import diagnose
from tests.gradients import layers as L

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def double(X):
    return 2 * X


def right(inputs, upstream):
    return 2 * upstream


def judge(backward=right, forward=double, inputs=None, wrt="X", upstream=None):
    inputs = {"X": X} if inputs is None else inputs
    return diagnose(backward, forward, inputs, wrt=wrt, upstream=upstream)


def raising(X):
    raise RuntimeError("no such layer\nand a second line")


CASES = {
    "unknown argument": ({"wrt": "Y"}, ValueError, "no argument 'Y' in inputs, only 'X'"),
    "inputs no dict": ({"inputs": [X]}, TypeError, "inputs must be a dict"),
    "forward no function": ({"forward": X}, TypeError, "forward must be a function"),
    "argument no tensor": ({"inputs": {"X": 3.0}}, TypeError, "X must be a tensor, got float"),
    "integer argument": ({"inputs": {"X": X.long()}}, TypeError, "torch.int64"),
    "complex argument": ({"inputs": {"X": X + 0j}}, TypeError, "X is complex"),
    "empty batch": ({"inputs": {"X": X[:0]}}, ValueError, "X is empty, of shape (0, 3)"),
    "NaN": ({"inputs": {"X": X * float("nan")}}, ValueError, "X holds NaN"),
    "infinite": ({"inputs": {"X": X / 0}}, ValueError, "X holds infinite values"),
    "forward raises": ({"forward": raising}, ValueError, "RuntimeError: no such layer"),
    "forward takes other names": ({"forward": lambda Z: Z}, ValueError, "forward raises"),
    "forward detaches": (
        {"forward": lambda X: X.detach() * 2}, ValueError, "not differentiable in 'X'"),
    "forward of NumPy": (
        {"forward": lambda X: X.detach().numpy()}, TypeError, "must return a tensor"),
    "forward gives infinity": (
        {"forward": lambda X: X / 0}, ValueError, "not finite"),
    "forward rounds": ({"forward": lambda X: (X > 0).long()}, ValueError, "not differentiable"),
    "upstream of another shape": (
        {"upstream": torch.ones(5)}, ValueError, "upstream has shape (5,)"),
    "upstream NaN": (
        {"upstream": torch.full((5, 3), float("nan"))}, ValueError, "upstream holds"),
    "upstream no tensor": ({"upstream": "ones"}, TypeError, "upstream must be a tensor"),
    "backward raises": (
        {"backward": lambda i, g: g @ g}, ValueError, "backward raises RuntimeError"),
    "backward takes too little": ({"backward": lambda i: i}, ValueError, "backward raises"),
    "backward returns None": ({"backward": lambda i, g: None}, TypeError, "is a return missing?"),
    "backward None": ({"backward": None}, TypeError, "None"),
    "backward returns a tuple": (
        {"backward": lambda i, g: (g, g)}, TypeError, "a tuple of 2: return the gradient of X"),
    "backward returns NumPy": (
        {"backward": lambda i, g: np.zeros((5, 3))}, TypeError, "numpy.ndarray, not a tensor"),
    "backward returns complex": (
        {"backward": lambda i, g: g + 0j}, TypeError, "complex"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_sentence(case):
    arguments, kind, sentence = CASES[case]
    with pytest.raises(kind) as caught:
        judge(**arguments)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.type.__name__ in {"ValueError", "TypeError", "CannotJudge"}


def test_values_that_are_not_finite():
    diagnosis = judge(backward=lambda i, g: g / 0)
    assert diagnosis.mistakes[0].label == "not_finite"
    assert "15 of 15" in str(diagnosis)


def test_zeros():
    assert judge(backward=lambda i, g: torch.zeros_like(g)).mistakes[0].label == "all_zero"


def test_unexplained_says_where():
    gradient = 2 * torch.ones(5, 3)
    gradient[1] += torch.tensor([0.3, -1.7, 0.9])
    diagnosis = judge(backward=gradient, upstream=torch.ones(5, 3))
    assert diagnosis.mistakes[0].label == "unexplained"
    assert " ".join(str(diagnosis).split()).count("3 of 15 entries differ, all in row 1") == 1


def test_a_wrong_shape_with_right_values():
    diagnosis = judge(backward=lambda i, g: 2 * g[None])
    assert diagnosis.mistakes[0].label == "wrong_shape"
    assert diagnosis.error == float("inf")


def test_inputs_changed_in_place():
    def backward(inputs, upstream):
        upstream[inputs["Z"] <= 0] = 0
        return upstream

    diagnosis = diagnose(backward, L.relu, L.inputs_of(L.relu), wrt="Z")
    assert [m.label for m in diagnosis.mistakes] == ["inputs_changed"]
    assert "upstream" in diagnosis.mistakes[0].explanation


def test_a_weight_stepped_in_place_is_named_first():
    def backward(inputs, upstream):
        inputs["W"] -= 0.1 * inputs["X"].T @ upstream
        return upstream @ inputs["W"].T

    diagnosis = diagnose(backward, L.linear, L.inputs_of(L.linear), wrt="X")
    assert [m.label for m in diagnosis.mistakes] == ["used_updated_weights", "inputs_changed"]


def test_broadcast_to_a_square():
    inputs = {"pred": torch.randn(5, 1).double(), "target": torch.randn(5, 1).double()}
    diagnosis = diagnose(
        lambda i, g: 2 * (i["pred"] - i["target"][:, 0]) / 5, L.mse, inputs, wrt="pred"
    )
    assert diagnosis.mistakes[0].label == "wrong_shape"
    assert "broadcast to (5, 5)" in diagnosis.mistakes[0].explanation
