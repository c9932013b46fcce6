"""What is said beside the account: a hint that fits the forward, and no nonsense as a second."""

import pytest
import torch
import torch.nn.functional as F

from proofread import diagnose
from tests.gradients.layers import normal
from tests.gradients.tables import labels

A, B, C = normal(5, 4), normal(5, 4), normal(5, 4)
Y = torch.tensor([0, 3, 1, 1, 2])


def opposite(forward):
    """Return a backward whose every sign is wrong."""

    def backward(inputs, upstream):
        leaf = inputs["a"].detach().requires_grad_()
        with torch.enable_grad():
            output = forward(**{**inputs, "a": leaf})
        return -torch.autograd.grad(output, leaf, upstream)[0]

    return backward


HINTS = {
    "difference": (lambda a, b: (b - a) ** 2, {"a": A, "b": B}, "d(a - b)/db is -1"),
    "quotient": (lambda a, b: b / a, {"a": A, "b": B}, "d(a / b)/db is -a / b²"),
    "loss": (F.cross_entropy, {"a": A, "y": Y}, "prediction minus target"),
    "neither": (lambda a: torch.sigmoid(a), {"a": A}, "term by term"),
}


@pytest.mark.parametrize("case", HINTS)
def test_the_hint_on_a_sign_fits_the_forward(case):
    plain, inputs, hint = HINTS[case]

    def forward(**given):
        return plain(*given.values())

    diagnosis = diagnose(opposite(forward), forward, inputs, wrt="a")
    assert labels(diagnosis)[0] == "sign_error"
    assert hint in diagnosis.mistakes[0].hint


OPERANDS = {
    "quotient": (lambda a, b: a / b, lambda i, g: g / i["a"], "For a / b"),
    "product": (lambda a, b: a * b, lambda i, g: g * i["a"], "For a * b"),
    "activation": (
        lambda a, b: torch.tanh(b) * a,
        lambda i, g: g * i["b"],
        "the output of tanh there, and not its input",
    ),
}


@pytest.mark.parametrize("case", OPERANDS)
def test_the_hint_on_an_operand_fits_the_operation(case):
    forward, backward, hint = OPERANDS[case]
    diagnosis = diagnose(backward, forward, {"a": A, "b": B}, wrt="a")
    assert labels(diagnosis)[0] == "wrong_operand"
    assert hint in diagnosis.mistakes[0].hint


# A loss without its 1/N has its upstream in it; a mask left out is not another mask; …
ALONE = {
    "missing_mean": (
        lambda a, b: (a - b).abs().mean(), {"a": A, "b": B}, lambda i, g: g * (i["a"] - i["b"]).sign(),
    ),
    "extra_mean": (
        lambda a: a.sum(1), {"a": A}, lambda i, g: g[:, None].expand(5, 4) / 4,
    ),
    "missing_mask": (
        lambda a, mask: (mask * a**2).sum() / mask.sum(),
        {"a": A, "mask": (B > 0).double()},
        lambda i, g: 2 * i["a"] * g / i["mask"].sum(),
    ),
    "sign_error": (lambda a, b: b - a, {"a": A, "b": B}, lambda i, g: g),
    "missing_broadcast_sum": (
        lambda a, h: a * h, {"a": normal(2, 1, 4, 1), "h": normal(2, 1, 4, 6)}, lambda i, g: g * i["h"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("label", ALONE)
def test_symptoms_are_not_said_beside_the_mistake(label):
    forward, inputs, backward = ALONE[label]
    assert labels(diagnose(backward, forward, inputs, wrt="a")) == [label]


def lora(x, W, A, B, scale):
    return x @ W + scale * (x @ A) @ B


# a factor of 4, of forwards with an axis of size 4
FOUR_TIMES = {
    "no average": (
        lora,
        {"x": normal(7, 6), "W": normal(6, 5), "A": normal(6, 4), "B": normal(4, 5), "scale": 2.0},
        lambda i, g: 8.0 * (i["x"] @ i["A"]).T @ g,
        "B",
        "wrong_scale_factor",
        "Your gradient is 4 times the right one; 4 is also the size of an axis.",
    ),
    "an average": (
        lambda x: torch.logsumexp(x, 1) / 4, {"x": normal(4, 3)},
        lambda i, g: torch.softmax(i["x"], 1) * g[:, None],
        "x",
        "missing_mean",
        "4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUR_TIMES)
def test_a_mean_is_named_only_where_the_forward_averages(case):
    forward, inputs, backward, wrt, label, said = FOUR_TIMES[case]
    first = diagnose(backward, forward, inputs, wrt=wrt).mistakes[0]
    assert (first.label, said in first.explanation) == (label, True)


@pytest.mark.parametrize(
    ("forward", "label"),
    [(lambda a, b: a @ b.T, "wrong_scale_factor"), (lambda a, b: a * (a @ b.T @ b), "double_counted")],
    ids=["once", "twice"],
)
def test_twice_is_double_counted_where_the_forward_uses_it_twice(forward, label):
    inputs = {"a": A, "b": B}

    def backward(inputs, upstream):
        return -2 * opposite(forward)(inputs, upstream)

    assert labels(diagnose(backward, forward, inputs, wrt="a"))[0] == label
    # A tensor can't be run again, and so nothing is seen of an earlier result.
    given = torch.ones_like(forward(**inputs))
    held = diagnose(backward(inputs, given), forward, inputs, wrt="a", upstream=given)
    assert labels(held)[0] == label
    assert "stale_gradient" not in labels(held)


def test_the_same_account_is_said_once():
    diagnosis = diagnose(lambda i, g: g * 1, torch.relu, {"input": A}, wrt="input")
    first, second = diagnosis.mistakes
    assert first.explanation != second.explanation
    assert (
        second.explanation == "Another name for the same: one link of the chain rule is left out."
    )
    assert "upstream itself" in first.explanation


def test_rows_of_several_axes_are_named_by_their_index():
    x = normal(3, 4, 5)

    def backward(inputs, upstream):
        gradient = upstream * torch.cos(inputs["x"])
        gradient[1] *= 1.3
        return gradient

    diagnosis = diagnose(backward, lambda x: torch.sin(x), {"x": x}, wrt="x")
    assert "20 of 60 entries differ, all in x[1];" in " ".join(str(diagnosis).split())


def test_one_entry_is_said_in_the_singular():
    def backward(inputs, upstream):
        gradient = upstream * 1
        gradient[2, 1] = 7.0
        return gradient

    diagnosis = diagnose(backward, lambda a: a + 1, {"a": A}, wrt="a")
    assert "1 of 20 entries differs; at [2, 1]: yours 7," in " ".join(str(diagnosis).split())


def test_the_length_of_a_vector_is_called_a_norm():
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    held = diagnose(
        lambda i, g: g / i["x"].norm(dim=1, keepdim=True),
        lambda x: F.normalize(x, dim=1),
        {"x": x},
        wrt="x",
    )
    said = " ".join(str(held).split())
    assert "The path through the norm of normalize(x) is left out." in said
    assert "there is a term along the unit vector" in said
    # The clamp in F.normalize is open everywhere: to invert it is no likely mistake.
    assert not {"variance", "1/std", "clamp"} & set(said.split())
    assert "wrong_mask" not in said
