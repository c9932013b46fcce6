"""Forwards that take more than products and sums: pools, writes into a part, given statistics."""

import pytest
import torch
import torch.nn.functional as F

from proofread import diagnose
from tests.gradients import layers as L


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def spread(u, n):
    return u.repeat_interleave(n, -1).repeat_interleave(n, -2)


def scaled_column(x, w):
    y = x.clone()
    y[:, 0] = y[:, 0] * w
    return y


def shifted_sum(x):
    y = x * 2
    y[:, 1:] += x[:, :-1]
    return y


def row_by_row(X, W):
    Z = torch.empty(X.shape[0], W.shape[1], dtype=X.dtype)
    for i in range(len(X)):
        Z[i] = X[i] @ W
    return Z


def zeroed(x):
    y = x * 3
    y[x < 0] = 0
    return y


def train_norm_gradient(i, u):
    x = i["x"].detach().requires_grad_()
    with torch.enable_grad():
        y = F.batch_norm(x, None, None, i["gamma"], i["beta"], training=True)
    return torch.autograd.grad(y, x, u)[0]


def upward(x, w):
    return F.conv_transpose2d(x, w, stride=2, padding=1)


def downward(u, w):
    return F.conv2d(u, w, stride=2, padding=1)


def average_pool(x):
    return F.avg_pool2d(x, 2)


def max_pool(x):
    return F.max_pool2d(x, 2)


IMAGE = {"x": normal(2, 3, 6, 6)}
UP = {"x": normal(2, 3, 5, 5), "w": normal(3, 4, 3, 3)}
NORM = {
    "x": normal(7, 4),
    "mean": normal(4) / 2,
    "var": normal(4).abs() + 0.5,
    "gamma": normal(4) + 2,
    "beta": normal(4),
}


def kernel_gradient(i, u):
    w = i["w"].detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(upward(i["x"], w), w, u)[0]


# forward, inputs, argument, right backward, wrong ones with their labels
CASES = {
    "average pool": (
        average_pool, IMAGE, "x", lambda i, u: spread(u, 2) / 4,
        {
            "missing_mean": lambda i, u: spread(u, 2),
            "wrong_mean_count": lambda i, u: spread(u, 2) / 2,
            "extra_mean": lambda i, u: spread(u, 2) / 16,
        },
    ),
    "max pool": (
        max_pool, IMAGE, "x", lambda i, u: spread(u, 2) * (i["x"] == spread(max_pool(i["x"]), 2)),
        {"missing_mask": lambda i, u: spread(u, 2)},
    ),
    "transposed convolution, x": (
        upward, UP, "x", lambda i, u: downward(u, i["w"]),
        {"conv_flip": lambda i, u: downward(u, i["w"].flip(-1, -2))},
    ),
    "transposed convolution, w": (
        upward, UP, "w", kernel_gradient,
        {"conv_flip": lambda i, u: kernel_gradient(i, u).flip(-1, -2)},
    ),
    "given statistics": (
        L.batch_norm_eval, NORM, "x", lambda i, u: u * i["gamma"] / torch.sqrt(i["var"] + 1e-5),
        {
            "other_variant": train_norm_gradient,
            "missing_scale_factor": lambda i, u: u / torch.sqrt(i["var"] + 1e-5),
            "wrong_power": lambda i, u: u * i["gamma"] / (i["var"] + 1e-5),
        },
    ),
    "a column is scaled": (
        scaled_column, {"x": normal(5, 3), "w": normal(5)}, "x",
        lambda i, u: torch.cat([u[:, :1] * i["w"][:, None], u[:, 1:]], 1),
        {"missing_scale_factor": lambda i, u: u * 1},
    ),
    "a part is added to": (
        shifted_sum, {"x": normal(5, 3)}, "x", lambda i, u: 2 * u + F.pad(u[:, 1:], (0, 1)),
        {"missing_path": lambda i, u: 2 * u},
    ),
    "rows are written": (
        row_by_row, {"X": normal(5, 3), "W": normal(3, 4)}, "W", lambda i, u: i["X"].T @ u,
        {
            "extra_mean": lambda i, u: i["X"].T @ u / 5,
            "missing_upstream": lambda i, u: i["X"].T @ torch.ones_like(u),
        },
    ),
    "entries are zeroed": (
        zeroed, {"x": normal(5, 3)}, "x", lambda i, u: 3 * u * (i["x"] >= 0),
        {"missing_mask": lambda i, u: 3 * u, "missing_scale_factor": lambda i, u: u * (i["x"] >= 0)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_right(case):
    forward, inputs, wrt, right, _ = CASES[case]
    assert diagnose(right, forward, inputs, wrt=wrt).ok


@pytest.mark.parametrize(
    ("case", "label"), [(case, label) for case, row in CASES.items() for label in row[4]]
)
def test_wrong(case, label):
    forward, inputs, wrt, _, wrong = CASES[case]
    diagnosis = diagnose(wrong[label], forward, inputs, wrt=wrt)
    assert [m.label for m in diagnosis.mistakes][:1] == [label], diagnosis


@pytest.mark.parametrize("settings", [(2, 2, 0), (3, 2, 1), (3, 1, 0)], ids=str)
def test_the_largest_twice_in_a_window_is_a_convention(settings):
    """Every largest entry of a window gets the gradient; PyTorch gives it to the first."""
    x = normal(2, 3, 6, 6).clamp_min(0)  # many zeros, and windows of nothing else
    x[0, 0, :2, :2] = torch.tensor([[5.0, 1], [5, 2]])

    def to_all(i, u):
        rows = F.unfold(
            F.pad(i["x"], [settings[2]] * 4, value=-9.0), settings[0], stride=settings[1]
        )
        rows = rows.unflatten(1, (3, -1))
        hits = (rows == rows.amax(2, keepdim=True)).to(u)
        back = (hits * u.flatten(2)[:, :, None]).flatten(1, 2)
        size = 6 + 2 * settings[2]
        full = F.fold(back, (size, size), settings[0], stride=settings[1])
        return full[..., settings[2] : size - settings[2], settings[2] : size - settings[2]]

    diagnosis = diagnose(to_all, lambda x: F.max_pool2d(x, *settings), {"x": x}, wrt="x")
    assert diagnosis.ok
    assert [n.label for n in diagnosis.notes] == ["tie_convention"]
    assert "up to a convention" in str(diagnosis)
    untied = normal(2, 3, 6, 6)
    doubled = diagnose(
        lambda i, u: 2 * to_all(i, u), lambda x: F.max_pool2d(x, *settings), {"x": untied}, wrt="x"
    )
    assert not doubled.ok


def test_a_tie_in_one_dimension_goes_to_the_last_by_convention():
    x = torch.tensor([[1.0, 3, 3, 2, 2, 1, 5, 4, 5]], dtype=torch.float64)

    def to_the_last(i, u):
        rows = i["x"].unflatten(1, (-1, 3))
        last = 2 - rows.flip(-1).argmax(-1, keepdim=True)
        return torch.zeros_like(rows).scatter(-1, last, u[..., None]).flatten(1)

    diagnosis = diagnose(
        to_the_last, lambda x: F.max_pool1d(x[:, None], 3)[:, 0], {"x": x}, wrt="x"
    )
    assert diagnosis.ok
    assert [n.label for n in diagnosis.notes] == ["tie_convention"]
