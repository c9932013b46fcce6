"""Bad input gets one clear sentence."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

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


class Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, X):
        return 2 * X

    @staticmethod
    def backward(ctx, upstream):
        raise KeyError("no such thing")


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
    "backward returns a list": (
        {"backward": lambda i, g: [g, g]}, TypeError, "a list of 2: return the gradient of X"),
    "backward returns numbers": (
        {"backward": lambda i, g: [1, float(g.sum()), g.sum()]}, TypeError,
        "a list of 3 numbers, not a tensor: use torch.stack or torch.tensor"),
    "backward returns NumPy": (
        {"backward": lambda i, g: np.zeros((5, 3))}, TypeError, "numpy.ndarray, not a tensor: convert"),
    "backward returns complex": (
        {"backward": lambda i, g: g + 0j}, TypeError, "complex"),
    "backward returns nothing": (
        {"backward": lambda i, g: g[:0]}, ValueError, "empty gradient, of shape (0, 3)"),
    "backward exits": (
        {"backward": lambda i, g: sys.exit(0)}, ValueError, "backward raises SystemExit: 0"),
    "forward exits": (
        {"forward": lambda X: sys.exit()}, ValueError, "forward raises SystemExit"),
    "forward returns nothing": (
        {"forward": lambda X: X[:0]}, ValueError, "an empty tensor, of shape (0, 3)"),
    "forward fails on the way back": (
        {"forward": lambda X: Failing.apply(X)}, ValueError, "differentiated: KeyError: 'no such"),
    "several arguments": ({"wrt": ["X"]}, TypeError, "the name of one argument, got list"),
}  # fmt: skip


# What holds no plain numbers, and what is said of it, wherever it is given.
KINDS = {
    "sparse": (lambda t: t.to_sparse(), TypeError, " is sparse (torch.sparse_coo)"),
    "meta": (lambda t: t.to("meta"), ValueError, " is on the device meta"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), TypeError, " has dtype torch.float8_e4m3fn"),
    "nested": (
        lambda t: torch.nested.nested_tensor([t], layout=torch.jagged), TypeError, " is nested"),
}  # fmt: skip
PLACES = {
    "X": lambda kind: {"inputs": {"X": kind(X)}},
    "Y": lambda kind: {"inputs": {"X": X, "Y": kind(X)}, "forward": lambda X, Y: 2 * X},
    "the gradient that backward gives": lambda kind: {"backward": lambda i, g: kind(2 * g)},
    "the output of forward": lambda kind: {"forward": lambda X: kind(2 * X)},
    "upstream": lambda kind: {"upstream": kind(X)},
}
CASES |= {
    f"{kind}: {place}": (given(change), error, place + said)
    for kind, (change, error, said) in KINDS.items()
    for place, given in PLACES.items()
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_sentence(case):
    arguments, kind, sentence = CASES[case]
    with pytest.raises(kind) as caught:
        judge(**arguments)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.type.__name__ in {"ValueError", "TypeError", "CannotJudge"}


def test_a_text_cannot_be_converted():
    with pytest.raises(TypeError, match=r"gives a str, not a tensor$"):
        judge(lambda i, g: "2 * g")


def test_an_exit_on_other_data_ends_nothing():
    """A forward that exits on the redrawn data is not judged there."""
    first = X.double()

    def forward(X):
        return 2 * X if torch.equal(X.detach().double(), first) else sys.exit(0)

    assert judge(forward=forward).ok


def test_a_sparse_gradient_of_autograd_is_the_right_one():
    def look_up(W, at):
        return torch.nn.functional.embedding(at, W, sparse=True)

    def add_up(inputs, upstream):
        return torch.zeros_like(inputs["W"]).index_add(0, inputs["at"], upstream)

    inputs = {"W": X, "at": torch.tensor([1, 2, 2])}
    assert judge(add_up, look_up, inputs, "W").ok
    assert not judge(lambda i, g: 2 * add_up(i, g), look_up, inputs, "W").ok


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_mode_of_the_caller_does_not_matter(mode):
    with mode():
        inputs, upstream = {"X": torch.randn(5, 3)}, torch.randn(5, 3)
        assert judge(inputs=inputs, upstream=upstream).ok
        assert not judge(lambda i, g: 3 * g, inputs=inputs, upstream=upstream).ok


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


class Opposite(torch.autograd.Function):
    """A ReLU whose backward has the mask of the other side."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp_min(0)

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return g * (z < 0)


class Relu(Opposite):
    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return g * (z > 0)


@pytest.mark.parametrize(("function", "notes"), [(Opposite, ["own_backward"]), (Relu, [])])
def test_a_backward_of_the_forwards_own_is_held_against_differences(function, notes):
    diagnosis = diagnose(
        lambda i, g: g * (i["z"] > 0),
        lambda z: 2 * function.apply(z),
        {"z": L.normal(4, 5)},
        wrt="z",
    )
    assert [n.label for n in diagnosis.notes] == notes
    assert all("(Opposite)" in n.text for n in diagnosis.notes)


def test_a_gradient_that_ones_make_0_shows_little():
    forwards = (lambda z: z.softmax(1), lambda z: F.layer_norm(z, (5,)))
    for forward in forwards:
        diagnosis = diagnose(torch.zeros(4, 5).double(), forward, {"z": L.normal(4, 5)}, wrt="z")
        assert "upstream_shows_nothing" in [n.label for n in diagnosis.notes]


def test_a_mask_drawn_anew_is_explained():
    diagnosis = diagnose(lambda i, g: g, lambda z: F.dropout(z), {"z": L.normal(4, 5)}, wrt="z")
    assert [n.label for n in diagnosis.notes] == ["random_forward"]
    same = diagnose(
        lambda i, g: g * F.dropout(torch.ones_like(g)), F.dropout, {"input": L.normal(4, 5)},
        wrt="input",
    )  # fmt: skip
    assert same.ok and not same.notes
