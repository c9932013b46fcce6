# ruff: noqa: PLC3002 - a row of the table is one expression
"""Right gradients, in the many forms in which people write them: none may be flagged."""

import math

import torch
import torch.nn.functional as F

from tests.gradients import layers as L
from tests.gradients.wrong import attention_parts, mlp_forward, norm_parts, onehot, softmax_rule

sigmoid, softmax = torch.sigmoid, torch.softmax


def weight_by_rows(i, g):
    dW = torch.zeros_like(i["W"])
    for x, row in zip(i["X"], g, strict=True):
        dW += torch.outer(x, row)
    return dW


def softmax_by_jacobian(i, g):
    rows = []
    for z, row in zip(i["z"], g, strict=True):
        p = softmax(z, 0)
        rows.append((torch.diag(p) - torch.outer(p, p)) @ row)
    return torch.stack(rows)


def embedding_loop(i, g):
    dE = torch.zeros_like(i["E"])
    for ids, rows in zip(i["ids"], g, strict=True):
        for k, row in zip(ids, rows, strict=True):
            dE[k] += row
    return dE


def conv_loop(i, g):
    dx = torch.zeros_like(i["x"])
    for t in range(len(g)):
        dx[t : t + 3] += g[t] * i["w"]
    return dx


def norm_rule(i, g, axis):
    h, r, d = norm_parts(i, g, axis)
    return r * (d - d.mean(axis, keepdim=True) - h * (d * h).mean(axis, keepdim=True))


RIGHT = [
    (L.linear, "W", lambda i, g: i["X"].T @ g),
    (L.linear, "W", weight_by_rows),
    (L.linear, "W", lambda i, g: (i["X"].unsqueeze(-1) * g.unsqueeze(1)).sum(0)),
    (L.linear, "W", lambda i, g: torch.einsum("nd,nm->dm", i["X"], g)),
    (L.linear, "b", lambda i, g: torch.ones(len(g)).double() @ g),
    (L.linear, "X", lambda i, g: g @ i["W"].T),
    (L.linear, "X", lambda i, g: (i["W"] @ g.T).T),
    (L.nn_linear, "weight", lambda i, g: g.T @ i["x"]),
    (L.nn_linear, "x", lambda i, g: g @ i["weight"]),
    (L.mse, "pred", lambda i, g: 2 * (i["pred"] - i["target"]) / i["pred"].numel() * g),
    (L.mse, "target", lambda i, g: -2 * (i["pred"] - i["target"]) / i["pred"].numel() * g),
    (L.half_mse, "pred", lambda i, g: (i["pred"] - i["target"]) / 5 * g),
    (L.relu, "Z", lambda i, g: g * (i["Z"] > 0)),
    (L.relu, "Z", lambda i, g: torch.where(torch.relu(i["Z"]) > 0, g, 0.0)),
    (L.clamp_relu, "Z", lambda i, g: g * torch.sign(i["Z"]).clamp_min(0)),
    (L.sigmoid, "z", lambda i, g: g * torch.exp(-i["z"]) / (1 + torch.exp(-i["z"])) ** 2),
    (L.sigmoid_by_hand, "z", lambda i, g: g * sigmoid(i["z"]) * sigmoid(-i["z"])),
    (L.tanh, "z", lambda i, g: g / torch.cosh(i["z"]) ** 2),
    (L.silu, "z", lambda i, g: (lambda s: g * (s + F.silu(i["z"]) * (1 - s)))(sigmoid(i["z"]))),
    (L.softmax, "z", softmax_by_jacobian),
    (L.softmax_by_hand, "z", lambda i, g: softmax_rule(softmax(i["z"], -1), g)),
    (L.log_softmax, "z", lambda i, g: g - softmax(i["z"], -1) * g.sum(-1, keepdim=True)),
    (L.cross_entropy, "logits",
     lambda i, g: (softmax(i["logits"], 1) - onehot(i["targets"], 4)) / 5 * g),
    (L.bce_by_hand, "z", lambda i, g: (sigmoid(i["z"]) - i["y"]) / 5 * g),
    (L.bce, "p", lambda i, g: (i["p"] - i["y"]) / (i["p"] * (1 - i["p"])) / 5 * g),
    (L.layer_norm, "x", lambda i, g: norm_rule(i, g, -1)),
    (L.torch_layer_norm, "weight", lambda i, g: (g * norm_parts(i, g, -1)[0]).sum(0)),
    (L.batch_norm, "x", lambda i, g: norm_rule(i, g, 0)),
    (L.rms_norm, "gamma", lambda i, g: (g * i["x"] * torch.rsqrt(
        i["x"].pow(2).mean(-1, keepdim=True) + 1e-6)).sum(0)),
    (L.unit_norm, "x", lambda i, g: (lambda n: (g - i["x"] / n * (g * i["x"] / n).sum(
        -1, keepdim=True)) / n)(i["x"].norm(dim=-1, keepdim=True))),
    (L.embedding, "E", embedding_loop),
    (L.torch_embedding, "weight", lambda i, g: torch.zeros_like(i["weight"]).index_put(
        (i["ids"],), g, accumulate=True)),
    (L.dropout, "x", lambda i, g: g * i["mask"] / (1 - i["p"])),
    (L.conv1d_by_hand, "x", conv_loop),
    (L.conv2d, "w", lambda i, g: torch.nn.grad.conv2d_weight(
        i["x"], i["w"].shape, g, padding=1)),
    (L.conv2d, "b", lambda i, g: g.sum((0, 2, 3))),
    (L.residual, "x", lambda i, g: g + (g * (i["x"] @ i["W"] > 0)) @ i["W"].T),
    (L.attention, "Q",
     lambda i, g: (lambda Q, K, V, P, dP, dS, s: dS @ K * s)(*attention_parts(i, g))),
    (L.attention, "K",
     lambda i, g: (lambda Q, K, V, P, dP, dS, s: dS.mT @ Q * s)(*attention_parts(i, g))),
    (L.sdpa, "Q", lambda i, g: (lambda Q, K, V, P, dP, dS, s: P * (dP - (g * (P @ V)).sum(
        -1, keepdim=True)) @ K * s)(*attention_parts(i, g))),
    (L.mlp, "W1", lambda i, g: (lambda Z1, H, d: i["X"].T @ (d @ i["W2"].T * (Z1 > 0)) * g)(
        *mlp_forward(i))),
    (L.mean_rows, "X", lambda i, g: g.expand(5, 4) / 5 if len(i["X"]) == 5 else
     g.expand_as(i["X"]) / len(i["X"])),
    (L.cumulative, "x", lambda i, g: g.flip(-1).cumsum(-1).flip(-1)),
    (L.gelu, "z", lambda i, g: g * (0.5 * (1 + torch.erf(i["z"] / math.sqrt(2)))
     + i["z"] * torch.exp(-i["z"] ** 2 / 2) / math.sqrt(2 * math.pi))),
]  # fmt: skip
