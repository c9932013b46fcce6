# ruff: noqa: PLC3002 - a row of the table is one expression
"""Wrong gradients as people write them, with the label that each must get.

A row is (label, forward, argument, backward) and, where another label says as much, the labels
that may come instead as the first.
"""

import math

import torch
import torch.nn.functional as F

from tests.gradients import layers as L

sigmoid, softmax = torch.sigmoid, torch.softmax


def onehot(y, n):
    return F.one_hot(y, n).double()


def softmax_rule(p, g):
    return p * (g - (g * p).sum(-1, keepdim=True))


def norm_parts(i, g, axis, eps=1e-5):
    x = i["x"]
    mu = x.mean(axis, keepdim=True)
    r = 1 / torch.sqrt(x.var(axis, unbiased=False, keepdim=True) + eps)
    gamma = i.get("gamma", i.get("weight"))
    return (x - mu) * r, r, g * gamma


def attention_parts(i, g):
    Q, K, V = i["Q"], i["K"], i["V"]
    s = 1 / math.sqrt(Q.shape[-1])
    P = softmax(Q @ K.transpose(-2, -1) * s, -1)
    dP = g @ V.transpose(-2, -1)
    dS = P * (dP - (dP * P).sum(-1, keepdim=True))
    return Q, K, V, P, dP, dS, s


def only_last_row(i, g):
    dW = torch.zeros_like(i["W"])
    for x, row in zip(i["X"], g, strict=True):
        dW = torch.outer(x, row)
    return dW


def overwritten_embedding(i, g):
    name = "E" if "E" in i else "weight"
    dE = torch.zeros_like(i[name])
    dE[i["ids"]] = g
    return dE


def lost_repeats(i, g):
    dE = torch.zeros_like(i["E"])
    dE[i["ids"]] += g
    return dE


def overwritten_windows(i, g):
    dx, w = torch.zeros_like(i["x"]), i["w"]
    for t in range(len(g)):
        dx[t : t + len(w)] = g[t] * w
    return dx


def mlp_forward(i):
    Z1 = i["X"] @ i["W1"] + i["b1"]
    H = torch.relu(Z1)
    out = H @ i["W2"] + i["b2"]
    return Z1, H, 2 * (out - i["Y"]) / out.numel()


def stepped_mlp(i, g):
    Z1, H, d = mlp_forward(i)
    W2 = i["W2"] - 0.1 * H.T @ d
    return i["X"].T @ (d @ W2.T * (Z1 > 0)) * g


def stepped_ce(i, g):
    H = torch.tanh(i["X"] @ i["W1"] + i["b1"])
    d = (softmax(H @ i["W2"] + i["b2"], 1) - onehot(i["y"], 4)) / 5 * g
    W2 = i["W2"] - 0.5 * H.T @ d
    return i["X"].T @ ((d @ W2.T) * (1 - H**2))


def stepped_linear(i, g):
    W = i["W"] - 0.01 * (i["X"].T @ g)
    return g @ W.T


class Accumulating:
    """A layer that keeps its gradient buffer from call to call."""

    def __init__(self, gradient):
        self.gradient, self.buffer = gradient, None

    def __call__(self, i, g):
        new = self.gradient(i, g)
        if self.buffer is None or self.buffer.shape != new.shape:
            self.buffer = torch.zeros_like(new)
        self.buffer += new
        return self.buffer


CONV = {
    "x_flip": lambda i, g: F.conv_transpose2d(g, i["w"].flip(2, 3)),
    "w_flip": lambda i, g: F.conv2d(i["x"].transpose(0, 1), g.transpose(0, 1)).transpose(0, 1)
    .flip(2, 3),
}  # fmt: skip

WRONG = [
    # elementwise
    ("missing_mask", L.relu, "Z", lambda i, g: g, "missing_local_derivative"),
    ("wrong_mask", L.relu, "Z", lambda i, g: g * (g > 0)),
    ("wrong_mask", L.clamp_relu, "Z", lambda i, g: g * (i["Z"] < 0)),
    ("missing_upstream", L.relu, "Z", lambda i, g: (i["Z"] > 0).double()),
    ("wrong_mask", L.leaky_relu, "z", lambda i, g: g * torch.where(i["z"] > 0, 0.1, 1.0)),
    ("missing_local_derivative", L.sigmoid, "z", lambda i, g: g),
    ("derivative_at_wrong_point", L.sigmoid, "z",
     lambda i, g: g * sigmoid(sigmoid(i["z"])) * (1 - sigmoid(sigmoid(i["z"])))),
    ("derivative_at_wrong_point", L.sigmoid, "z", lambda i, g: g * i["z"] * (1 - i["z"])),
    ("missing_upstream", L.sigmoid_by_hand, "z",
     lambda i, g: sigmoid(i["z"]) * (1 - sigmoid(i["z"]))),
    ("sign_error", L.sigmoid, "z", lambda i, g: -g * sigmoid(i["z"]) * (1 - sigmoid(i["z"]))),
    ("derivative_at_wrong_point", L.tanh, "z", lambda i, g: g * (1 - i["z"] ** 2)),
    ("applied_twice", L.tanh, "z", lambda i, g: g * (1 - torch.tanh(i["z"]) ** 2) ** 2),
    ("missing_product_term", L.silu, "z", lambda i, g: g * sigmoid(i["z"])),
    ("missing_product_term", L.silu, "z",
     lambda i, g: g * i["z"] * sigmoid(i["z"]) * (1 - sigmoid(i["z"]))),
    ("other_variant", L.gelu, "z", lambda i, g: g * _gelu_tanh_slope(i["z"])),
    ("missing_product_term", L.gelu, "z",
     lambda i, g: g * 0.5 * (1 + torch.erf(i["z"] / math.sqrt(2)))),
    ("other_variant", L.gelu_tanh, "z", lambda i, g: g * (
        0.5 * (1 + torch.erf(i["z"] / math.sqrt(2)))
        + i["z"] * torch.exp(-i["z"] ** 2 / 2) / math.sqrt(2 * math.pi))),
    ("derivative_at_wrong_point", L.softplus, "z", lambda i, g: g * sigmoid(F.softplus(i["z"]))),
    ("missing_scale_factor", L.square, "z", lambda i, g: g * i["z"]),
    ("applied_twice", L.exponential, "z", lambda i, g: g * g * torch.exp(i["z"])),
    ("missing_path", L.glu, "x", lambda i, g: torch.cat(
        [g * sigmoid(i["x"][:, 3:]), torch.zeros_like(g)], -1), "missing_product_term"),
    # linear
    ("missing_broadcast_sum", L.linear, "b", lambda i, g: g),
    ("extra_mean", L.linear, "b", lambda i, g: g.mean(0)),
    ("wrong_axis", L.linear, "b", lambda i, g: g.sum(1)),
    ("wrong_axis", L.linear, "b", lambda i, g: g.sum().expand(4)),
    ("extra_mean", L.linear, "W", lambda i, g: i["X"].T @ g / len(g)),
    ("missing_broadcast_sum", L.linear, "W", lambda i, g: i["X"][:, :, None] * g[:, None, :]),
    ("overwrite_not_accumulate", L.linear, "W", only_last_row),
    ("transposed_operand", L.linear, "W", lambda i, g: g.T @ i["X"]),
    ("upstream_collapsed", L.linear, "W", lambda i, g: i["X"].T @ g.mean().expand_as(g)),
    ("missing_upstream", L.linear, "W", lambda i, g: i["X"].T @ torch.ones_like(g)),
    ("transposed_operand", L.nn_linear, "weight", lambda i, g: i["x"].T @ g),
    ("upstream_collapsed", L.nn_linear, "x",
     lambda i, g: g.flatten()[0].expand_as(g) @ i["weight"]),
    ("used_updated_weights", L.linear, "X", stepped_linear),
    ("wrong_scale_factor", L.linear, "b", lambda i, g: g.sum(0) + g.sum(0)),
    ("stale_gradient", L.linear, "W", lambda: Accumulating(lambda i, g: i["X"].T @ g)),
    ("stale_gradient", L.nn_linear, "bias", lambda: Accumulating(lambda i, g: g.sum(0))),
    ("applied_twice", L.linear, "W", lambda i, g: i["X"].T @ (g * g)),
    # losses
    ("sign_error", L.mse, "pred", lambda i, g: 2 * (i["target"] - i["pred"]) / 15 * g),
    ("missing_scale_factor", L.mse, "pred", lambda i, g: (i["pred"] - i["target"]) / 15 * g),
    ("missing_mean", L.mse, "pred", lambda i, g: 2 * (i["pred"] - i["target"]) * g),
    ("wrong_mean_count", L.mse, "pred",
     lambda i, g: 2 * (i["pred"] - i["target"]) / len(i["pred"]) * g),
    ("missing_target", L.mse, "pred", lambda i, g: 2 * i["pred"] / 15 * g),
    ("extra_mean", L.sum_squares, "pred", lambda i, g: 2 * (i["pred"] - i["target"]) / 5 * g),
    ("wrong_scale_factor", L.half_mse, "pred",
     lambda i, g: 4 * (i["pred"] - i["target"]) / 5 * g),
    ("missing_mean", L.cross_entropy, "logits",
     lambda i, g: (softmax(i["logits"], 1) - onehot(i["targets"], 4)) * g),
    ("missing_target", L.cross_entropy, "logits", lambda i, g: softmax(i["logits"], 1) / 5 * g),
    ("sign_error", L.cross_entropy_by_hand, "logits",
     lambda i, g: (onehot(i["targets"], 4) - softmax(i["logits"], 1)) / 5 * g),
    ("wrong_mean_count", L.cross_entropy, "logits",
     lambda i, g: (softmax(i["logits"], 1) - onehot(i["targets"], 4)) / 20 * g, "extra_mean"),
    ("missing_local_derivative", L.cross_entropy, "logits",
     lambda i, g: -onehot(i["targets"], 4) / 5 * g, "missing_path"),
    ("missing_upstream", L.cross_entropy, "logits",
     lambda i, g: (softmax(i["logits"], 1) - onehot(i["targets"], 4)) / 5),
    ("derivative_at_wrong_point", L.bce_logits, "z",
     lambda i, g: (sigmoid(sigmoid(i["z"])) - i["y"]) / 5 * g),
    ("missing_target", L.bce_by_hand, "z", lambda i, g: sigmoid(i["z"]) / 5 * g),
    ("missing_mean", L.bce_by_hand, "z", lambda i, g: (sigmoid(i["z"]) - i["y"]) * g),
    ("applied_twice", L.bce_logits, "z", lambda i, g: (sigmoid(i["z"]) - i["y"]) * sigmoid(i["z"])
     * (1 - sigmoid(i["z"])) / 5 * g),
    ("missing_path", L.bce, "p", lambda i, g: -i["y"] / i["p"] / 5 * g),
    # softmax
    ("missing_cross_terms", L.softmax, "z", lambda i, g: g * (lambda p: p * (1 - p))(
        softmax(i["z"], -1))),
    ("wrong_axis", L.softmax, "z", lambda i, g: (lambda p: p * (g - (g * p).sum(0)))(
        softmax(i["z"], -1))),
    ("wrong_axis", L.softmax_by_hand, "z", lambda i, g: (lambda p: p * (g - (g * p).sum()))(
        softmax(i["z"], -1))),
    ("missing_upstream", L.softmax, "z", lambda i, g: (lambda p: p * (1 - (g * p).sum(
        -1, keepdim=True)))(softmax(i["z"], -1))),
    ("sign_error", L.softmax, "z", lambda i, g: (lambda p: p * (g + (g * p).sum(
        -1, keepdim=True)))(softmax(i["z"], -1))),
    ("missing_local_derivative", L.softmax_by_hand, "z", lambda i, g: g),
    ("other_variant", L.log_softmax, "z", lambda i, g: softmax_rule(softmax(i["z"], -1), g)),
    ("missing_upstream", L.log_softmax, "z", lambda i, g: g - softmax(i["z"], -1)),
    ("missing_cross_terms", L.log_softmax, "z", lambda i, g: g * (1 - softmax(i["z"], -1))),
    ("missing_cross_terms", L.cumulative, "x", lambda i, g: g, "missing_local_derivative"),
    # normalisations
    ("norm_stats_detached", L.layer_norm, "x", lambda i, g: (lambda h, r, d: r * d)(
        *norm_parts(i, g, -1))),
    ("norm_mean_term_missing", L.layer_norm, "x", lambda i, g: (lambda h, r, d: r * (
        d - h * (d * h).mean(-1, keepdim=True)))(*norm_parts(i, g, -1))),
    ("norm_var_term_missing", L.torch_layer_norm, "x", lambda i, g: (lambda h, r, d: r * (
        d - d.mean(-1, keepdim=True)))(*norm_parts(i, g, -1))),
    ("missing_scale_factor", L.layer_norm, "x", lambda i, g: (lambda h, r, d: r * (
        g - g.mean(-1, keepdim=True) - h * (g * h).mean(-1, keepdim=True)))(
            *norm_parts(i, g, -1))),
    ("wrong_power", L.layer_norm, "x", lambda i, g: (lambda h, r, d: r**2 * (
        d - d.mean(-1, keepdim=True) - h * (d * h).mean(-1, keepdim=True)))(
            *norm_parts(i, g, -1))),
    ("missing_mean", L.layer_norm, "x", lambda i, g: (lambda h, r, d: r * (
        d - d.sum(-1, keepdim=True) - h * (d * h).mean(-1, keepdim=True)))(
            *norm_parts(i, g, -1))),
    ("wrong_operand", L.layer_norm, "gamma", lambda i, g: (g * i["x"]).sum(0)),
    ("missing_broadcast_sum", L.torch_layer_norm, "weight", lambda i, g: (
        lambda h, r, d: g * h)(*norm_parts(i, g, -1))),
    ("wrong_axis", L.batch_norm, "x", lambda i, g: (lambda h, r, d: r * (
        d - d.mean(1, keepdim=True) - h * (d * h).mean(1, keepdim=True)))(*norm_parts(i, g, 0))),
    ("norm_stats_detached", L.torch_batch_norm, "x", lambda i, g: (lambda h, r, d: r * d)(
        *norm_parts(i, g, 0))),
    ("norm_mean_term_missing", L.batch_norm, "x", lambda i, g: (lambda h, r, d: r * (
        d - h * (d * h).mean(0)))(*norm_parts(i, g, 0))),
    ("other_variant", L.batch_norm, "x", lambda i, g: _autograd(
        lambda x, gamma, beta: gamma * (x - x.mean(0)) / torch.sqrt(x.var(0) + 1e-5) + beta,
        i, "x", g)),
    ("norm_var_term_missing", L.rms_norm, "x", lambda i, g: g * i["gamma"] * torch.rsqrt(
        i["x"].pow(2).mean(-1, keepdim=True) + 1e-6), "norm_stats_detached"),
    ("other_variant", L.rms_norm, "x", lambda i, g: _rms_with_mean(i, g)),
    ("norm_var_term_missing", L.unit_norm, "x", lambda i, g: g / i["x"].norm(
        dim=-1, keepdim=True), "norm_stats_detached"),
    ("wrong_power", L.batch_norm_eval, "x", lambda i, g: g * i["gamma"] / (i["var"] + 1e-5)),
    ("sign_error", L.layer_norm, "x", lambda i, g: (lambda h, r, d: r * (
        d - d.mean(-1, keepdim=True) + h * (d * h).mean(-1, keepdim=True)))(
            *norm_parts(i, g, -1))),
    # embedding, dropout
    ("overwrite_not_accumulate", L.embedding, "E", overwritten_embedding),
    ("overwrite_not_accumulate", L.torch_embedding, "weight", overwritten_embedding),
    ("extra_mean", L.embedding_sum, "E", lambda i, g: torch.zeros_like(i["E"]).index_add(
        0, i["ids"].flatten(), g.repeat_interleave(3, 0)) / 3),
    ("missing_mean", L.embedding_bag, "E", lambda i, g: torch.zeros_like(i["E"]).index_add(
        0, i["ids"].flatten(), g.repeat_interleave(3, 0))),
    ("missing_scale_factor", L.dropout, "x", lambda i, g: g * i["mask"]),
    ("missing_mask", L.dropout, "x", lambda i, g: g / (1 - i["p"])),
    ("wrong_mask", L.dropout, "x", lambda i, g: g * (1 - i["mask"]) / (1 - i["p"])),
    ("wrong_scale_factor", L.dropout, "x", lambda i, g: g * i["mask"] / i["p"]),
    ("wrong_mask", L.dropout_scaled, "x", lambda i, g: g * (torch.rand(
        g.shape, generator=torch.Generator().manual_seed(5)) > 0.4) / 0.6),
    ("applied_twice", L.dropout_scaled, "x", lambda i, g: g * i["mask"] ** 2,
     "wrong_scale_factor"),
    # convolution
    ("conv_flip", L.conv2d_plain, "x", CONV["x_flip"]),
    ("conv_flip", L.conv2d_plain, "w", CONV["w_flip"]),
    ("conv_flip", L.conv1d_by_hand, "x", lambda i, g: F.conv1d(
        F.pad(g[None, None], (2, 2)), i["w"][None, None])[0, 0]),
    ("overwrite_not_accumulate", L.conv1d_by_hand, "x", overwritten_windows),
    ("missing_broadcast_sum", L.conv2d, "b", lambda i, g: g.sum(0)),
    ("wrong_axis", L.conv1d, "b", lambda i, g: g.sum((1, 2))),
    ("extra_mean", L.conv2d, "b", lambda i, g: g.mean((0, 2, 3))),
    ("transposed_operand", L.conv2d_plain, "x",
     lambda i, g: F.conv_transpose2d(g, i["w"].transpose(0, 1))),
    ("overwrite_not_accumulate", L.conv1d, "w", lambda i, g: _conv_weight(
        i["x"][-1:], i["w"], g[-1:])),
    ("missing_mask", L.max_pool, "x", lambda i, g: g.repeat_interleave(2, -1)
     .repeat_interleave(2, -2)),
    ("missing_mean", L.avg_pool, "x", lambda i, g: g.repeat_interleave(2, -1)
     .repeat_interleave(2, -2), "missing_scale_factor"),
    # residual, attention, networks
    ("missing_path", L.residual, "x",
     lambda i, g: (g * (i["x"] @ i["W"] > 0)) @ i["W"].T),
    ("missing_path", L.residual_tanh, "x", lambda i, g: g),
    ("double_counted", L.residual, "x",
     lambda i, g: 2 * g + (g * (i["x"] @ i["W"] > 0)) @ i["W"].T),
    ("transposed_operand", L.residual, "x",
     lambda i, g: g + (g * (i["x"] @ i["W"] > 0)) @ i["W"]),
    ("missing_scale_factor", L.residual_scaled, "x", lambda i, g: g + (
        g * (1 - torch.tanh(i["x"] @ i["W"]) ** 2)) @ i["W"].T),
    ("missing_scale_factor", L.attention, "Q",
     lambda i, g: (lambda Q, K, V, P, dP, dS, s: dS @ K)(*attention_parts(i, g))),
    ("transposed_operand", L.attention, "K",
     lambda i, g: (lambda Q, K, V, P, dP, dS, s: dS @ Q * s)(*attention_parts(i, g))),
    ("transposed_operand", L.attention, "V",
     lambda i, g: (lambda Q, K, V, P, dP, dS, s: P @ g)(*attention_parts(i, g))),
    ("missing_cross_terms", L.sdpa, "Q",
     lambda i, g: (lambda Q, K, V, P, dP, dS, s: (dP * P * (1 - P)) @ K * s)(
         *attention_parts(i, g))),
    ("missing_local_derivative", L.sdpa, "K",
     lambda i, g: (lambda Q, K, V, P, dP, dS, s: dP.mT @ Q * s)(*attention_parts(i, g))),
    ("wrong_operand", L.attention, "Q",
     lambda i, g: (lambda Q, K, V, P, dP, dS, s: dS @ Q * s)(*attention_parts(i, g))),
    ("missing_mask", L.causal_attention, "V",
     lambda i, g: softmax(i["Q"] @ i["K"].T / math.sqrt(3), -1).T @ g),
    ("wrong_scale_factor", L.sdpa, "Q",
     lambda i, g: (lambda Q, K, V, P, dP, dS, s: dS @ K / 3)(*attention_parts(i, g))),
    ("missing_path", L.self_attention, "x", lambda i, g: _self_attention_v_only(i, g)),
    ("used_updated_weights", L.mlp, "W1", stepped_mlp),
    ("used_updated_weights", L.mlp_ce, "W1", stepped_ce),
    ("missing_local_derivative", L.mlp, "W1", lambda i, g: (lambda Z1, H, d: i["X"].T @ (
        d @ i["W2"].T) * g)(*mlp_forward(i))),
    ("wrong_operand", L.mlp, "W2", lambda i, g: (lambda Z1, H, d: Z1.T @ d * g)(*mlp_forward(i)),
     "derivative_at_wrong_point"),
    ("extra_mean", L.mlp, "W2", lambda i, g: (lambda Z1, H, d: H.T @ d * g / 5)(*mlp_forward(i))),
    ("missing_path", L.tied, "E", lambda i, g: g.T @ torch.tanh(i["E"][i["ids"]])),
    ("missing_broadcast_sum", L.shift, "b", lambda i, g: g.sum(0)),
    ("missing_product_term", L.gate, "x",
     lambda i, g: (g * sigmoid(i["x"] @ i["W"])) @ i["V"].T, "missing_path"),
    ("missing_path", L.quadratic, "x", lambda i, g: g[:, None] * (i["x"] @ i["A"]),
     "missing_product_term"),
    ("missing_product_term", L.cosine, "a", lambda i, g: g[:, None] * i["b"] / (
        i["a"].norm(dim=-1) * i["b"].norm(dim=-1))[:, None], "norm_var_term_missing",
     "missing_path"),
    ("missing_path", L.ridge, "w",
     lambda i, g: 2 * i["X"].T @ (i["X"] @ i["w"] - i["y"]) / 7 * g),
    ("missing_mean", L.mean_rows, "X", lambda i, g: g.expand(5, 4)),
    ("missing_scale_factor", L.l2_loss, "W", lambda i, g: i["W"] * g),
    ("missing_path", L.rnn, "Wh", lambda i, g: _rnn_last_step(i, g)),
]  # fmt: skip


def _gelu_tanh_slope(z):
    z = z.detach().requires_grad_()
    return torch.autograd.grad(F.gelu(z, approximate="tanh").sum(), z)[0]


def _autograd(forward, i, wrt, g):
    leaf = i[wrt].detach().requires_grad_()
    return torch.autograd.grad(forward(**{**i, wrt: leaf}), leaf, g)[0]


def _rms_with_mean(i, g):
    r = torch.rsqrt(i["x"].pow(2).mean(-1, keepdim=True) + 1e-6)
    h, d = i["x"] * r, g * i["gamma"]
    return r * (d - d.mean(-1, keepdim=True) - h * (d * h).mean(-1, keepdim=True))


def _conv_weight(x, w, g):
    return torch.nn.grad.conv1d_weight(x, w.shape, g)


def _self_attention_v_only(i, g):
    x = i["x"]
    P = softmax((x @ i["Wq"]) @ (x @ i["Wk"]).T / math.sqrt(3), -1)
    return P.T @ g @ i["Wv"].T


def _rnn_last_step(i, g):
    h1 = torch.tanh(i["x"] @ i["Wx"] + i["h"] @ i["Wh"])
    h2 = torch.tanh(i["x"] @ i["Wx"] + h1 @ i["Wh"])
    return h1.T @ (g * (1 - h2**2))
