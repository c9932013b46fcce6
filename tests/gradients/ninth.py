"""A ninth table: matrices and powers, weights of a loss, counts, targets and gates."""

import math

import torch
import torch.nn.functional as F

from tests.gradients import layers as L

normal, positive = L.draws(99)
sigmoid = torch.sigmoid


def inverse(A):
    return torch.linalg.inv(A)


def solution(A, b):
    return torch.linalg.solve(A, b)


def log_volume(A):
    return torch.linalg.slogdet(A)[1]


def volume(A):
    return torch.linalg.det(A)


def quadratic(A, x):
    return x @ torch.linalg.inv(A) @ x


def exponential(x):
    return 2.5**x


def power_of(a, x):
    return a**x


def itself(x):
    return x**x


def weighted_bce(z, y, w):
    return F.binary_cross_entropy_with_logits(z, y, pos_weight=w)


def rows_weighted(z, y, w):
    return F.binary_cross_entropy_with_logits(z, y, weight=w)


def bce_of_weighted(p, y, w):
    return F.binary_cross_entropy(p, y, weight=w)


def logsigmoid(z):
    return F.logsigmoid(z)


def softplus(z):
    return F.softplus(z)


def square_rms(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w


def decayed(X, W):
    return (X @ W).sum() + 0.15 * (W * W).sum()


def poisson(X, w, n):
    z = X @ w
    return (torch.exp(z) - n * z).sum()


def segments(x, ids):
    return torch.zeros(3, 3, dtype=x.dtype).index_add(0, ids, x * x)


def masked_sum(x, m):
    return (torch.sin(x) * m[..., None]).sum(1)


def gauss(mu, sd, y):
    return (torch.log(sd) + 0.5 * ((y - mu) / sd) ** 2).sum()


def hard_gate(x, W, V):
    return (x @ W) * F.hardsigmoid(x @ V)


def clamped(x, W):
    return torch.clamp(x @ W, -0.5, 1.5)


def leaky(x, W, b):
    return F.leaky_relu(x @ W + b, 0.2)


def focal(z, y):
    log_p = F.logsigmoid(z) * y + F.logsigmoid(-z) * (1 - y)
    return (-((1 - log_p.exp()) ** 2) * log_p).mean()


def causal(q, k, v):
    ones = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool)
    scores = (q @ k.mT / 2).masked_fill(~ones.tril(), -math.inf)
    return scores.softmax(-1) @ v


def dense_block(x, W):
    return torch.cat([x, F.silu(x @ W)], 1)


ONES = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]], dtype=L.DTYPE)
IDS = torch.tensor([0, 2, 0, 1, 2, 0, 2])
MASK = torch.tensor([[1.0, 1, 0, 1, 0], [1, 0, 0, 0, 1], [1, 1, 1, 1, 0]], dtype=L.DTYPE)
L.DATA |= {
    inverse: {"A": normal(4, 4) + 3 * torch.eye(4)},
    solution: {"A": normal(4, 4) + 3 * torch.eye(4), "b": normal(4, 2)},
    log_volume: {"A": normal(4, 4)},
    volume: {"A": normal(3, 3)},
    quadratic: {"A": normal(4, 4) + 3 * torch.eye(4), "x": normal(4)},
    exponential: {"x": positive(4, 3)},
    power_of: {"a": positive(4, 3), "x": normal(4, 3)},
    itself: {"x": positive(4, 3)},
    weighted_bce: {"z": normal(4, 3), "y": ONES, "w": positive(3) + 1},
    rows_weighted: {"z": normal(4, 3), "y": ONES, "w": positive(4, 1)},
    bce_of_weighted: {"p": sigmoid(normal(4, 3)), "y": ONES, "w": positive(4, 1)},
    logsigmoid: {"z": normal(5, 4)},
    softplus: {"z": normal(5, 4)},
    square_rms: {"x": normal(5, 5), "w": normal(5)},
    decayed: {"X": normal(6, 4), "W": normal(4, 3)},
    poisson: {"X": normal(7, 3), "w": normal(3) / 2, "n": torch.tensor([0.0, 2, 1, 5, 0, 3, 1], dtype=L.DTYPE)},
    segments: {"x": normal(7, 3), "ids": IDS},
    masked_sum: {"x": normal(3, 5, 2), "m": MASK},
    gauss: {"mu": normal(6, 2), "sd": positive(6, 2), "y": normal(6, 2)},
    hard_gate: {"x": normal(6, 4), "W": normal(4, 3), "V": normal(4, 3)},
    clamped: {"x": normal(6, 4), "W": normal(4, 3)},
    leaky: {"x": normal(9, 4), "W": normal(4, 3), "b": 1.5 * normal(3)},
    focal: {"z": normal(4, 3), "y": ONES},
    causal: {"q": normal(2, 5, 4), "k": normal(2, 5, 4), "v": normal(2, 5, 4)},
    dense_block: {"x": normal(5, 3), "W": normal(3, 2)},
}  # fmt: skip


def of_inverse(left, right):
    def backward(i, g):
        Y = torch.linalg.inv(i["A"])
        return -left(Y) @ g @ right(Y)

    return backward


def same(Y):
    return Y


def turned(Y):
    return Y.mT


def of_loss(i):
    return (sigmoid(i["z"]) - i["y"]) / i["z"].numel()


def without_keepdim(i, g):
    x, gw = i["x"], g * i["w"]
    r = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
    return r * gw - r**3 * x * (gw * x).sum(-1) / 5


def weight_as_constant(i, g):
    p = sigmoid(i["z"])
    p_true = torch.where(i["y"] > 0, p, 1 - p)
    return g * (1 - p_true) ** 2 * (p - i["y"]) / p.numel()


def a_diagonal_too_few(i, g):
    """The first row sees nothing then, and is left as it was."""
    seen = torch.ones(5, 5).tril(-1)
    seen[0, 0] = 1
    P = (i["q"] @ i["k"].mT / 2).masked_fill(seen == 0, -math.inf).softmax(-1)
    dP = g @ i["v"].mT
    return P * (dP - (dP * P).sum(-1, keepdim=True)) @ i["k"] / 2


def without_the_direct_path(i, g):
    z = i["x"] @ i["W"]
    s = sigmoid(z)
    return (g[:, 3:] * (s + z * s * (1 - s))) @ i["W"].T


# Label, forward, argument, the wrong backward, and labels that are as good.
WRONG = [
    ("transposed_operand", inverse, "A", of_inverse(same, same)),
    ("transposed_operand", inverse, "A", of_inverse(same, turned)),
    ("sign_error", inverse, "A", lambda i, g: -of_inverse(turned, turned)(i, g)),
    ("transposed_operand", solution, "b", lambda i, g: torch.linalg.solve(i["A"], g)),
    ("transposed_operand", log_volume, "A", lambda i, g: g * torch.linalg.inv(i["A"])),
    ("missing_local_derivative", volume, "A", lambda i, g: g * torch.linalg.inv(i["A"]).T,
     "missing_scale_factor"),
    ("transposed_operand", quadratic, "A", lambda i, g: -g * torch.outer(
        y := torch.linalg.inv(i["A"]) @ i["x"], y)),
    ("other_variant", exponential, "x", lambda i, g: g * i["x"] * 2.5 ** (i["x"] - 1)),
    ("other_variant", exponential, "x", lambda i, g: g * 2.5 * i["x"] ** 1.5),
    ("missing_scale_factor", exponential, "x", lambda i, g: g * 2.5 ** i["x"]),
    ("wrong_power", power_of, "a", lambda i, g: g * i["x"] * i["a"] ** i["x"]),
    ("missing_product_term", itself, "x", lambda i, g: g * i["x"] * i["x"] ** (i["x"] - 1)),
    ("missing_scale_factor", weighted_bce, "z", lambda i, g: g * of_loss(i)),
    ("missing_scale_factor", rows_weighted, "z", lambda i, g: g * of_loss(i)),
    ("missing_scale_factor", bce_of_weighted, "p", lambda i, g: g * (i["p"] - i["y"]) / (
        i["p"] * (1 - i["p"])) / 12),
    ("sign_error", logsigmoid, "z", lambda i, g: g * sigmoid(i["z"]), "other_variant"),
    ("sign_error", softplus, "z", lambda i, g: g * sigmoid(-i["z"]), "other_variant"),
    ("missing_local_derivative", logsigmoid, "z", lambda i, g: g / sigmoid(i["z"])),
    ("wrong_axis", square_rms, "x", without_keepdim),
    ("wrong_scale_factor", decayed, "W", lambda i, g: g * (
        i["X"].T @ torch.ones(6, 3, dtype=L.DTYPE) + 0.6 * i["W"])),
    ("missing_target", poisson, "w", lambda i, g: g * i["X"].T @ (i["X"] @ i["w"]).exp()),
    ("extra_mean", segments, "x", lambda i, g: 2 * i["x"] * (
        g / torch.bincount(IDS)[:, None])[i["ids"]]),
    ("extra_mean", masked_sum, "x", lambda i, g: torch.cos(i["x"]) * i["m"][..., None] * (
        g / i["m"].sum(1, keepdim=True))[:, None]),
    ("missing_scale_factor", gauss, "mu", lambda i, g: g * (i["mu"] - i["y"]) / i["sd"],
     "wrong_power"),
    ("other_variant", hard_gate, "V", lambda i, g: i["x"].T @ (
        g * (i["x"] @ i["W"]) * (s := sigmoid(i["x"] @ i["V"])) * (1 - s))),
    ("wrong_mask", clamped, "x", lambda i, g: g * ((g > -0.5) & (g < 1.5)) @ i["W"].T),
    ("wrong_mask", clamped, "x", lambda i, g: g * (i["x"] @ i["W"] < 1.5) @ i["W"].T),
    ("wrong_mask", leaky, "b", lambda i, g: torch.where(i["x"] @ i["W"] > 0, g, 0.2 * g).sum(0)),
    ("missing_product_term", focal, "z", weight_as_constant),
    ("wrong_mask", causal, "q", a_diagonal_too_few),
    ("missing_path", dense_block, "x", without_the_direct_path),
]  # fmt: skip
