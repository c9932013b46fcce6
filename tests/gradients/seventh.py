"""A seventh table: mistakes that were missed at first, each in another layer than where it was met."""

import torch
import torch.nn.functional as F

from tests.gradients import layers as L

normal, _ = L.draws(77)


def three_uses(x, A, B, C):
    return torch.tanh(x @ A) * 0.3 + torch.sigmoid(x @ B) + x @ C


def four_steps(x, W):
    for _ in range(4):
        x = torch.tanh(x @ W)
    return x


def norm_scaled(x, w):
    h = x - x.mean(-1, keepdim=True)
    return h / torch.sqrt((h**2).mean(-1, keepdim=True) + 1e-5) * w


def unit_scaled(x, w):
    return F.normalize(x, dim=-1) * w


def group_scaled(x, w, b):
    return F.group_norm(x, 2, w, b, eps=1e-5)


def norm_columns(x, w):
    return F.batch_norm(x, None, None, w, None, training=True)


def folded(z):
    return torch.where(z > 0, z, -0.5 * z)


def steep(z):
    return F.leaky_relu(z, -3.0)


def ragged_pool(x):
    return F.avg_pool2d(x, 2, stride=2, ceil_mode=True)


def bordered_pool(x):
    return F.avg_pool1d(x, 3, stride=2, padding=1, count_include_pad=False)


L.DATA |= {
    three_uses: {"x": normal(5, 3), "A": normal(3, 4), "B": normal(3, 4), "C": normal(3, 4)},
    four_steps: {"x": normal(5, 3), "W": 0.6 * normal(3, 3)},
    norm_scaled: {"x": normal(5, 6), "w": normal(6)},
    unit_scaled: {"x": normal(5, 4), "w": normal(4)},
    group_scaled: {"x": 2 * normal(3, 4, 5), "w": normal(4), "b": normal(4)},
    norm_columns: {"x": torch.tensor([3.0, 0.5, 1.7]).to(L.DTYPE) * normal(6, 3), "w": normal(3)},
    folded: {"z": normal(5, 4)},
    steep: {"z": normal(4, 3)},
    ragged_pool: {"x": normal(2, 3, 5, 7)},
    bordered_pool: {"x": normal(2, 3, 8)},
}


def path_twice(i, g):
    t, s = torch.tanh(i["x"] @ i["A"]), torch.sigmoid(i["x"] @ i["B"])
    first = (0.3 * g * (1 - t**2)) @ i["A"].T
    return first + (g * s * (1 - s)) @ i["B"].T + g @ i["C"].T + first


def last_step_twice(i, g):
    states = [i["x"]]
    for _ in range(4):
        states.append(torch.tanh(states[-1] @ i["W"]))
    dW = states[-2].T @ (g * (1 - states[-1] ** 2))
    for before, after in zip(states[-2::-1], states[:0:-1], strict=True):
        dz = g * (1 - after**2)
        dW = dW + before.T @ dz
        g = dz @ i["W"].T
    return dW


def weight_in_both(i, g):
    x, w = i["x"], i["w"]
    h = x - x.mean(-1, keepdim=True)
    s = 1 / torch.sqrt((h**2).mean(-1, keepdim=True) + 1e-5)
    n, d = h * s, g * w
    return s * (d - d.mean(-1, keepdim=True) - w * n * (d * n).mean(-1, keepdim=True))


def weight_in_direction(i, g):
    r = i["x"].norm(dim=-1, keepdim=True)
    n, d = i["x"] / r, g * i["w"]
    return (d - i["w"] * n * (d * n).sum(-1, keepdim=True)) / r


def root_of_root(i, g):
    x = i["x"].reshape(3, 2, 10)
    h = x - x.mean(-1, keepdim=True)
    s = torch.rsqrt((h**2).mean(-1, keepdim=True) + 1e-5)
    return (g * (h * torch.rsqrt(s + 1e-5)).reshape(3, 4, 5)).sum((0, 2))


def variance_for_its_root(i, g):
    h = i["x"] - i["x"].mean(0)
    return (g * h / ((h**2).mean(0) + 1e-5)).sum(0)


def whole_windows(i, g):
    dx = torch.zeros(2, 3, 6, 8, dtype=g.dtype)
    for r in range(3):
        for c in range(4):
            dx[..., 2 * r : 2 * r + 2, 2 * c : 2 * c + 2] += g[..., r : r + 1, c : c + 1] / 4
    return dx[..., :5, :7]


def bordered_windows(i, g):
    dx = torch.zeros(2, 3, 10, dtype=g.dtype)
    for o in range(4):
        dx[..., 2 * o : 2 * o + 3] += g[..., o : o + 1] / 3
    return dx[..., 1:9]


WRONG = [
    ("double_counted", three_uses, "x", path_twice),
    ("double_counted", four_steps, "W", last_step_twice),
    ("applied_twice", norm_scaled, "x", weight_in_both),
    ("applied_twice", unit_scaled, "x", weight_in_direction),
    ("wrong_power", group_scaled, "w", root_of_root),
    ("wrong_power", norm_columns, "w", variance_for_its_root),
    ("wrong_mask", folded, "z", lambda i, g: torch.where(folded(i["z"]) > 0, g, -0.5 * g),
     "missing_mask", "missing_local_derivative"),
    ("wrong_mask", steep, "z", lambda i, g: torch.where(steep(i["z"]) > 0, g, -3 * g),
     "missing_mask", "missing_local_derivative"),
    ("wrong_mean_count", ragged_pool, "x", whole_windows),
    ("wrong_mean_count", bordered_pool, "x", bordered_windows),
]  # fmt: skip
