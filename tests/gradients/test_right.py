"""No right gradient is flagged."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from proofread import diagnose
from tests.gradients import layers as L
from tests.gradients.right import RIGHT
from tests.gradients.tables import upstream_for


def identify(row):
    return f"{row[0].__name__}-{row[1]}"


@pytest.mark.parametrize("row", RIGHT, ids=identify)
def test_passes_a_function_and_its_tensor(row):
    forward, wrt, backward = row
    inputs = L.inputs_of(forward)
    upstream = upstream_for(forward, inputs)
    for given_backward, given_upstream in (
        (backward, upstream),
        (backward, None),
        (backward(inputs, upstream), upstream),
    ):
        diagnosis = diagnose(given_backward, forward, inputs, wrt=wrt, upstream=given_upstream)
        assert diagnosis.ok, str(diagnosis)
        assert not diagnosis.mistakes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("row", RIGHT, ids=identify)
def test_passes_what_rounding_does(row, dtype):
    forward, wrt, backward = row
    inputs = {
        k: v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v
        for k, v in L.inputs_of(forward).items()
    }
    try:
        upstream = upstream_for(forward, inputs)
        gradient = backward(inputs, upstream)
    except RuntimeError:
        pytest.skip("the row mixes dtypes by itself")
    assert diagnose(gradient, forward, inputs, wrt=wrt, upstream=upstream).ok


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99),
    st.sampled_from([torch.float64, torch.float32]), st.sampled_from(["X", "W", "b"]),
)  # fmt: skip
def test_linear_at_any_shape(n, d, m, seed, dtype, wrt):
    torch.manual_seed(seed)
    inputs = {
        "X": torch.randn(n, d, dtype=dtype),
        "W": torch.randn(d, m, dtype=dtype),
        "b": torch.randn(m, dtype=dtype),
    }
    rules = {
        "X": lambda i, g: g @ i["W"].T,
        "W": lambda i, g: i["X"].T @ g,
        "b": lambda i, g: g.sum(0),
    }
    diagnosis = diagnose(rules[wrt], L.linear, inputs, wrt=wrt)
    assert diagnosis.ok, str(diagnosis)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 99),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)  # fmt: skip
def test_softmax_at_any_shape(shape, seed, dtype):
    torch.manual_seed(seed)
    z = torch.randn(shape, dtype=dtype)

    def backward(i, g):
        p = torch.softmax(i["z"], -1)
        return p * (g - (g * p).sum(-1, keepdim=True))

    diagnosis = diagnose(backward, L.softmax, {"z": z}, wrt="z")
    assert diagnosis.ok, str(diagnosis)


def test_non_contiguous_and_expanded_tensors():
    X, W = torch.randn(3, 5).double().T, torch.randn(1, 4).double().expand(3, 4)
    inputs = {"X": X, "W": W, "b": torch.zeros(4).double()}
    g = torch.ones(1, 1).double().expand(5, 4)
    gradient = (g.T @ X).T
    assert not gradient.is_contiguous()
    assert diagnose(gradient, L.linear, inputs, wrt="W", upstream=g).ok
    assert diagnose(g.sum(0), L.linear, inputs, wrt="b", upstream=g).ok


def test_tie_of_relu_is_a_convention():
    Z = torch.tensor([[-1.0, 0.0, 2.0], [0.0, 3.0, -4.0]])
    diagnosis = diagnose(lambda i, g: g * (i["Z"] >= 0), L.relu, {"Z": Z}, wrt="Z")
    assert diagnosis.ok
    assert [n.label for n in diagnosis.notes] == ["tie_convention"]
    assert "convention" in str(diagnosis)


def test_tie_of_a_maximum_is_a_convention():
    x = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])

    def backward(i, g):
        where = i["x"].argmax(-1)
        return F.one_hot(where, i["x"].shape[-1]) * g[:, None]

    diagnosis = diagnose(backward, lambda x: x.amax(-1), {"x": x}, wrt="x")
    assert diagnosis.ok
    assert [n.label for n in diagnosis.notes] == ["tie_convention"]


BORDERS = torch.tensor([[-1.0, 0.5, 1.0], [2.0, -0.75, -1.0]]).double()
KINKS = {
    "clamp": (lambda x: x.clamp(-1, 1), lambda x: x.abs() < 1),
    "clamp from below": (lambda x: x.clamp_min(-1), lambda x: x > -1),
    "clamp from above": (lambda x: torch.clamp_max(x, 1.0), lambda x: x < 1),
    "hardtanh": (lambda x: F.hardtanh(x), lambda x: x.abs() <= 1),
    "relu6": (lambda x: F.relu6(x + 5), lambda x: x <= 1),
    "softshrink": (lambda x: F.softshrink(x, 0.5), lambda x: x.abs() >= 0.5),
    "where": (lambda x: torch.where(x > 1, x, 0 * x), lambda x: x >= 1),
    "maximum": (lambda x: torch.maximum(x, BORDERS.round()), lambda x: x >= BORDERS.round()),
}


@pytest.mark.parametrize("name", KINKS)
def test_the_slope_at_any_kink_is_a_convention(name):
    forward, mask = KINKS[name]
    x = BORDERS.clone().requires_grad_()
    given = torch.autograd.grad(forward(x).sum(), x)[0]
    assert not torch.equal(given, mask(BORDERS).double()), "the case shows nothing"
    diagnosis = diagnose(lambda i, g: g * mask(i["x"]), forward, {"x": BORDERS}, wrt="x")
    assert diagnosis.ok, str(diagnosis)
    assert [n.label for n in diagnosis.notes] == ["tie_convention"]
    doubled = diagnose(lambda i, g: 2 * g * mask(i["x"]), forward, {"x": BORDERS}, wrt="x")
    assert not doubled.ok


@pytest.mark.parametrize("wrt", ["X", "W", "b"])
@pytest.mark.parametrize("slope", [1, 0.5])
def test_weights_of_zeros_are_one_large_tie(wrt, slope):
    """At W = 0 and b = 0 all of Z is at the kink, and each gradient before it depends on the slope."""
    inputs = {"X": torch.randn(4, 5), "W": torch.zeros(5, 3), "b": torch.zeros(3)}
    inputs = {name: value.double() for name, value in inputs.items()}

    def backward(i, g):
        Z = i["X"] @ i["W"] + i["b"]
        dJ_dZ = g * torch.where(Z == 0, slope, (Z > 0).double())
        return {"X": dJ_dZ @ i["W"].T, "W": i["X"].T @ dJ_dZ, "b": dJ_dZ.sum(0)}[wrt]

    def forward(X, W, b):
        return torch.relu(X @ W + b)

    diagnosis = diagnose(backward, forward, inputs, wrt=wrt)
    assert diagnosis.ok, str(diagnosis)
    ties = [] if wrt == "X" else ["tie_convention"]
    assert [n.label for n in diagnosis.notes] == ties
    if wrt != "X":
        g = torch.randn(4, 3).double()
        assert diagnose(backward(inputs, g), forward, inputs, wrt=wrt, upstream=g).ok
        assert not diagnose(3 * backward(inputs, g), forward, inputs, wrt=wrt, upstream=g).ok


HALF_OPEN = {
    "clamp": lambda z: torch.clamp(z, min=0),
    "maximum": lambda z: torch.maximum(z, torch.zeros_like(z)),
    "hinge": lambda z: torch.relu(z - 1 + 1),
}


@pytest.mark.parametrize("name", HALF_OPEN)
def test_nothing_but_zeros_is_a_choice_where_all_is_a_tie(name):
    """A layer that starts at zero, and a slope of 0 at 0: that no entry is filled is right there."""
    inputs = {"x": torch.randn(4, 3), "W": torch.zeros(3, 2)}

    def forward(x, W):
        return HALF_OPEN[name](x @ W)

    def backward(i, g):
        return i["x"].T @ (g * (i["x"] @ i["W"] > 0))

    g = torch.randn(4, 2)
    for gradient in (backward, backward(inputs, g)):
        diagnosis = diagnose(gradient, forward, inputs, wrt="W", upstream=g)
        assert diagnosis.ok, str(diagnosis)
    inputs["W"] = torch.randn(3, 2)
    empty = diagnose(lambda i, g: 0 * i["W"], forward, inputs, wrt="W")
    assert [m.label for m in empty.mistakes] == ["all_zero"]


def test_terms_that_cancel_at_a_tie_are_no_lost_gradient():
    X, y = torch.tensor([[1.0, 0], [2, 0], [0, 1], [-1, 1]]), torch.tensor([1.0, 1, -1, 1])

    def backward(i, g):
        on = (1 - i["y"] * (i["X"] @ i["w"]) >= 0).float()
        return g * -(on * i["y"]) @ i["X"]

    diagnosis = diagnose(
        backward,
        lambda X, y, w: torch.relu(1 - y * (X @ w)).sum(),
        {"X": X, "y": y, "w": torch.tensor([1.0, -1])},
        wrt="w",
    )
    assert not diagnosis.yours.any() and diagnosis.gradient.any(), "the case shows nothing"
    assert diagnosis.ok, str(diagnosis)


@pytest.mark.parametrize("outer", [0, 1])
@pytest.mark.parametrize("inner", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_two_kinks_choose_their_slopes_on_their_own(outer, inner, seed):
    """A residual block that starts as the identity: W1 is 0, and so are some entries of x."""
    torch.manual_seed(seed)
    inputs = {"x": torch.randn(5, 3).relu(), "W1": torch.zeros(3, 4), "W2": torch.randn(4, 3)}
    inputs = {name: value.double() for name, value in inputs.items()}

    def forward(x, W1, W2):
        return torch.relu(x + torch.relu(x @ W1) @ W2)

    def slope(z, at_zero):
        return torch.where(z == 0, at_zero, (z > 0).double())

    def backward(i, g):
        Z1 = i["x"] @ i["W1"]
        dJ_dZ2 = g * slope(i["x"] + Z1.relu() @ i["W2"], outer)
        return i["x"].T @ (dJ_dZ2 @ i["W2"].T * slope(Z1, inner))

    diagnosis = diagnose(backward, forward, inputs, wrt="W1")
    assert diagnosis.ok, str(diagnosis)
    g = torch.randn(5, 3).double()
    assert diagnose(backward(inputs, g), forward, inputs, wrt="W1", upstream=g).ok
    if inner:  # otherwise it is all 0, and so is the double of it
        assert not diagnose(-2 * backward(inputs, g), forward, inputs, wrt="W1", upstream=g).ok


@pytest.mark.parametrize("share", ["first", "last", "evenly"])
def test_a_tie_of_the_maximum_before_the_weights(share):
    inputs = {"X": torch.randn(6, 3).double(), "W": torch.zeros(3, 4).double()}

    def backward(i, g):
        hits = torch.ones(6, 4).double() / 4
        if share != "evenly":
            hits = F.one_hot(torch.full((6,), 0 if share == "first" else 3), 4).double()
        Z = i["X"] @ i["W"]
        own = F.one_hot(Z.argmax(1), 4).double()
        return i["X"].T @ (g[:, None] * (hits if not Z.any() else own))

    for forward in (lambda X, W: (X @ W).amax(1), lambda X, W: (X @ W).max(1).values):
        diagnosis = diagnose(backward, forward, inputs, wrt="W")
        assert diagnosis.ok, str(diagnosis)


def batch_normed(X, W, b):
    return F.batch_norm(X @ W + b, None, None, training=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_gradient_of_zero_is_right_up_to_rounding(dtype):
    """A bias before batch norm has none: what autograd returns is rounding, and so is yours."""
    inputs = {"X": torch.randn(8, 5), "W": torch.randn(5, 3), "b": torch.randn(3)}
    inputs = {name: value.to(dtype) for name, value in inputs.items()}

    def by_hand(i, g):
        z = i["X"] @ i["W"] + i["b"]
        r = (z.var(0, unbiased=False) + 1e-5) ** -0.5
        h = (z - z.mean(0)) * r
        return (r * (g - g.mean(0) - h * (g * h).mean(0))).sum(0)

    for backward in (by_hand, lambda i, g: torch.zeros(3, dtype=i["b"].dtype)):
        diagnosis = diagnose(backward, batch_normed, inputs, wrt="b")
        assert diagnosis.ok, str(diagnosis)
        assert diagnosis.error < 1e-13
        assert "cancels" in [note.label for note in diagnosis.notes]
    assert not diagnose(lambda i, g: g.sum(0), batch_normed, inputs, wrt="b").ok
    assert not diagnose(lambda i, g: 1e-6 * g.sum(0), batch_normed, inputs, wrt="b").ok
    # What is small, but not 0, is no rounding.
    tiny = diagnose(lambda i, g: 2e-9 * g, lambda x: 1e-9 * x, {"x": inputs["X"]}, wrt="x")
    assert not tiny.ok


def test_a_gradient_that_nearly_cancels_is_not_0():
    """What is left is small beside its terms, and yet known to many digits."""
    inputs = {"x": torch.tensor([1.0, -1 + 2**-20]), "s": torch.tensor(1.0)}
    right, upstream = torch.tensor(2**-20), torch.ones(2)
    for gradient, ok in ((right, True), (3 * right, False), (0 * right, False)):
        found = diagnose(gradient, lambda x, s: x * s, inputs, wrt="s", upstream=upstream)
        assert found.ok == ok, str(found)


def test_large_data_leave_more_rounding():
    """The sum of the deviations is 0; of values up to 1e9, rounding leaves more of it."""
    torch.manual_seed(0)
    X, c = 1e9 * torch.rand(40, 5, dtype=torch.float64), torch.tensor(0.7).double()

    def deviations(X, c):
        return c * X - (c * X).mean()

    upstream = torch.ones(40, 5).double()
    by_hand = ((X - X.mean()) * upstream).sum()
    assert by_hand.abs() > 1e-10
    for gradient in (by_hand, 0 * by_hand):
        assert diagnose(gradient, deviations, {"X": X, "c": c}, wrt="c", upstream=upstream).ok
    assert not diagnose(by_hand + 1, deviations, {"X": X, "c": c}, wrt="c", upstream=upstream).ok


def test_softmax_with_an_equal_upstream_has_no_gradient():
    x, g = torch.randn(4, 6).double(), torch.ones(4, 6).double()
    p = x.softmax(-1)
    right = p * (g - (g * p).sum(-1, keepdim=True))
    assert diagnose(right, lambda x: x.softmax(-1), {"x": x}, wrt="x", upstream=g).ok
    assert not diagnose(p * g, lambda x: x.softmax(-1), {"x": x}, wrt="x", upstream=g).ok


def test_a_tie_does_not_hide_a_lost_mask():
    """A function is asked again a little beside the kink."""
    diagnosis = diagnose(lambda i, g: g, L.relu, {"Z": torch.zeros(3, 4)}, wrt="Z")
    assert diagnosis.mistakes[0].label == "missing_mask"
    assert [n.label for n in diagnosis.notes] == ["other_values"]


@pytest.mark.parametrize("kind", [torch.bool, torch.float64])
def test_a_given_mask_is_no_kink(kind):
    """The mask is 0 just where the gradient differs, and that is no convention."""
    inputs = {"x": torch.randn(4, 5).double(), "keep": (torch.rand(4, 5) > 0.4).to(kind)}

    def forward(x, keep):
        return torch.where(keep > 0, x, 0 * x) if kind is torch.float64 else x.masked_fill(~keep, 0)

    assert not diagnose(lambda i, g: g.clone(), forward, inputs, wrt="x").ok
    g = torch.randn(4, 5).double()
    assert not diagnose(g.clone(), forward, inputs, wrt="x", upstream=g).ok


def test_a_mean_of_one_row_as_a_tensor():
    inputs = {"X": torch.randn(1, 3), "W": torch.randn(3, 4), "b": torch.randn(4)}
    g = torch.randn(1, 4)
    assert diagnose(g.mean(0), L.linear, inputs, wrt="b", upstream=g).ok


def test_a_loss_may_leave_its_upstream_out():
    inputs = L.inputs_of(L.mse)

    def backward(i, g):
        return 2 * (i["pred"] - i["target"]) / i["pred"].numel()

    assert diagnose(backward, L.mse, inputs, wrt="pred").ok
    assert diagnose(backward(inputs, None), L.mse, inputs, wrt="pred").ok
    assert diagnose(backward, L.mse, inputs, wrt="pred", upstream=torch.tensor(1.0)).ok


def test_a_tensor_without_upstream_is_taken_for_ones():
    inputs = L.inputs_of(L.linear)
    gradient = inputs["X"].T @ torch.ones(5, 4).double()
    diagnosis = diagnose(gradient, L.linear, inputs, wrt="W")
    assert diagnosis.ok
    assert [n.label for n in diagnosis.notes] == ["upstream_ones"]


def test_values_kept_outside_of_the_function():
    inputs = L.inputs_of(L.sigmoid)
    s = torch.sigmoid(inputs["z"])
    diagnosis = diagnose(lambda i, g: g * s * (1 - s), L.sigmoid, inputs, wrt="z")
    assert diagnosis.ok
    assert [n.label for n in diagnosis.notes] == ["holds_data"]


def test_sizes_written_as_numbers():
    inputs = L.inputs_of(L.mean_rows)
    assert diagnose(lambda i, g: g.expand(5, 4) / 5, L.mean_rows, inputs, wrt="X").ok


def test_a_forward_that_draws_its_mask():
    x = torch.randn(6, 5).double()

    def forward(x):
        return F.dropout(x, 0.4)

    def backward(inputs, upstream):
        return upstream * F.dropout(torch.ones_like(upstream), 0.4)

    torch.manual_seed(4)
    for _ in range(3):
        assert diagnose(backward, forward, {"x": x}, wrt="x").ok


def test_a_tensor_cannot_be_the_gradient_of_a_random_forward():
    with pytest.raises(ValueError, match="draws random numbers"):
        diagnose(torch.ones(6), lambda x: F.dropout(x, 0.5), {"x": torch.ones(6)}, wrt="x")


def test_leaves_the_random_state_and_the_inputs_alone():
    inputs = L.inputs_of(L.linear)
    before, state = {k: v.clone() for k, v in inputs.items()}, torch.get_rng_state()
    diagnose(lambda i, g: g.mean(0), L.linear, inputs, wrt="b")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(inputs[k], before[k]) for k in inputs)
    assert not any(v.requires_grad for v in inputs.values())


def test_other_arguments_pass_through():
    def forward(x, gamma, mask, eps, mode=None):
        y = F.layer_norm(x, x.shape[-1:], gamma, None, eps)
        return y.masked_fill(~mask, 0.0) if mode is None else y

    x = torch.randn(4, 6).double()
    inputs = {
        "x": x, "gamma": torch.randn(6).double(), "mask": torch.rand(4, 6) > 0.3, "eps": 1e-3,
        "mode": None,
    }  # fmt: skip

    def backward(i, g):
        h = F.layer_norm(i["x"], (6,), None, None, i["eps"])
        return (g * i["mask"] * h).sum(0)

    assert diagnose(backward, forward, inputs, wrt="gamma").ok


def jacobian_of_softmax(i, g):
    """Row by row, with the whole Jacobian, as many a first implementation has it."""
    rows = []
    for z, upstream in zip(i["x"], g, strict=True):
        p = z.softmax(0)[:, None]
        rows.append((torch.diagflat(p) - p @ p.T) @ upstream)
    return torch.stack(rows)


def batch_norm_in_one_line(i, g):
    n, c = len(i["x"]), i["x"] - i["x"].mean(0)
    scale = (i["x"].var(0, unbiased=False) + 1e-5) ** -0.5
    xhat = c * scale
    return scale / n * (n * g - g.sum(0) - xhat * (g * xhat).sum(0))


SATURATED = {
    "sigmoid": (torch.sigmoid, torch.tensor([18.0, 20.0, 25.0, 40.0]),
                lambda i, g: g * torch.sigmoid(i["x"]) * torch.sigmoid(-i["x"])),
    "tanh": (torch.tanh, torch.tensor([-20.0, 25.0, -18.0, 30.0]),
             lambda i, g: g / torch.cosh(i["x"]) ** 2),
    "softmax": (lambda x: x.softmax(1), torch.tensor([[20.0, 0.0, 0.0]]), jacobian_of_softmax),
    "two rows": (lambda x: (x - x.mean(0)) * (x.var(0, unbiased=False) + 1e-5) ** -0.5,
                 torch.tensor([[0.3, -1.2, 0.7], [1.1, 0.4, -0.9]]).bfloat16(),
                 batch_norm_in_one_line),
}  # fmt: skip


@pytest.mark.parametrize("case", SATURATED)
def test_what_rounding_leaves_is_no_mistake(case):
    plain, x, backward = SATURATED[case]

    def forward(x):
        return plain(x)

    diagnosis = diagnose(backward, forward, {"x": x}, wrt="x")
    assert diagnosis.ok, str(diagnosis)
    twice = diagnose(lambda i, g: 2 * backward(i, g) + 1e-3 * g, forward, {"x": x}, wrt="x")
    assert not twice.ok


def test_a_small_gradient_is_judged_by_its_size():
    x = torch.tensor([18.0, 20.0, 25.0, 40.0])
    diagnosis = diagnose(
        lambda i, g: 2e-9 * g, lambda x: 1e-9 * x, {"x": x}, wrt="x", upstream=torch.ones(4)
    )
    assert not diagnosis.ok
