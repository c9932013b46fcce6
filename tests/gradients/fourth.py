# ruff: noqa: PLC3002 - a row of the table is one expression
"""A fourth table: bugs as they are reported, in forwards written as their reporters do.

At first sight 79.2% of the right names came first, 81.1% among the first two; mended since.
"""

import torch
import torch.nn.functional as F

from tests.gradients.layers import DATA, by_autograd, normal, positive

sigmoid, softmax, tanh = torch.sigmoid, torch.softmax, torch.tanh


def bn_forward(x, gamma, beta):
    mu = 1 / x.shape[0] * torch.sum(x, axis=0)
    xmu = x - mu
    var = 1 / x.shape[0] * torch.sum(xmu**2, axis=0)
    ivar = 1.0 / torch.sqrt(var + 1e-5)
    return gamma * (xmu * ivar) + beta


def ln_pieces(x, w, b):
    mean = x.sum(-1, keepdim=True) / x.size(-1)
    xshift = x - mean
    var = (xshift**2).sum(-1, keepdim=True) / x.size(-1)
    rstd = (var + 1e-5) ** -0.5
    return xshift * rstd * w + b


def svm(W, X, y):
    scores = X @ W
    margins = torch.relu(scores - scores.gather(1, y[:, None]) + 1)
    return margins.sum() / X.shape[0] - 1


def neuron(x, w, b):
    return sigmoid((x * w).sum(-1) + b)


def cost(a, y):
    return 0.5 * ((a - y) ** 2).sum()


def reuse(a):
    return a + a


def bigram(W, xs, ys):
    logits = W[xs]
    counts = logits.exp()
    probs = counts / counts.sum(1, keepdim=True)
    return -probs[torch.arange(len(ys)), ys].log().mean()


def rms(x, g):
    ms = (x * x).mean(-1, keepdim=True)
    return x / torch.sqrt(ms + 1e-5) * g


def affine_scalar(x, w, b):
    return w * x + b


def lstm_cell(f, c, i, n):
    return sigmoid(f) * c + sigmoid(i) * tanh(n)


def masked_softmax(scores, mask):
    return softmax(scores + (1 - mask) * -1e9, -1)


def self_similarity(x):
    return x @ x.T


def depthwise(x, w):
    return F.conv1d(x, w, groups=3)


def pool_then_linear(x, W):
    return x.mean(1) @ W


def sum_pool(x):
    return x.sum((2, 3))


def swiglu(x, W, V):
    return F.silu(x @ W) * (x @ V)


def bias_only(x, b):
    return x + b


def token_and_position(E, P, ids):
    return E[ids] + P[: ids.shape[1]]


def weighted_ce(logits, targets, weight):
    return F.cross_entropy(logits, targets, weight=weight)


def smooth_ce(logits, targets):
    return F.cross_entropy(logits, targets, label_smoothing=0.1)


def inverse_sqrt(x):
    return 1 / torch.sqrt(x)


def power(x):
    return x**3


def lse(x):
    return torch.log(torch.exp(x).sum(-1))


def maximum(x):
    return x.max(-1).values


def cosine_loss(x, t):
    return 1 - (F.normalize(x, dim=-1) * t).sum(-1)


def transposed_conv(x, w):
    return F.conv_transpose1d(x, w)


def two_losses(z, y, lam):
    return F.mse_loss(z, y) + lam * z.abs().mean()


DATA.update({
    bn_forward: {"x": normal(6, 4), "gamma": normal(4), "beta": normal(4)},
    ln_pieces: {"x": normal(2, 3, 4), "w": normal(4), "b": normal(4)},
    svm: {"W": normal(3, 4), "X": normal(5, 3), "y": torch.tensor([0, 3, 1, 2, 0])},
    neuron: {"x": normal(5, 3), "w": normal(3), "b": normal(1)},
    cost: {"a": normal(5), "y": normal(5)},
    reuse: {"a": normal(4)},
    bigram: {"W": normal(5, 5), "xs": torch.tensor([0, 2, 2, 4, 1, 0]),
             "ys": torch.tensor([1, 3, 0, 4, 2, 2])},
    rms: {"x": normal(5, 4), "g": normal(4)},
    affine_scalar: {"x": normal(6), "w": normal(1)[0], "b": normal(1)[0]},
    lstm_cell: {"f": normal(5, 4), "c": normal(5, 4), "i": normal(5, 4), "n": normal(5, 4)},
    masked_softmax: {"scores": normal(4, 4), "mask": torch.ones(4, 4).tril().double()},
    self_similarity: {"x": normal(5, 3)},
    depthwise: {"x": normal(2, 3, 8), "w": normal(3, 1, 3)},
    pool_then_linear: {"x": normal(2, 5, 3), "W": normal(3, 4)},
    sum_pool: {"x": normal(2, 3, 4, 5)},
    swiglu: {"x": normal(5, 3), "W": normal(3, 4), "V": normal(3, 4)},
    bias_only: {"x": normal(3, 4, 5, 6), "b": normal(4, 1, 1)},
    token_and_position: {"E": normal(7, 3), "P": normal(5, 3),
                         "ids": torch.tensor([[1, 2, 1, 0], [0, 1, 5, 6]])},
    weighted_ce: {"logits": normal(5, 4), "targets": torch.tensor([0, 2, 3, 1, 2]),
                  "weight": positive(4)},
    smooth_ce: {"logits": normal(5, 4), "targets": torch.tensor([0, 2, 3, 1, 2])},
    inverse_sqrt: {"x": positive(5)},
    power: {"x": normal(5)},
    lse: {"x": normal(5, 4)},
    maximum: {"x": normal(5, 4)},
    cosine_loss: {"x": normal(5, 4), "t": F.normalize(normal(5, 4), dim=-1)},
    transposed_conv: {"x": normal(2, 3, 6), "w": normal(3, 4, 3)},
    two_losses: {"z": normal(5, 4), "y": normal(5, 4), "lam": 0.2},
})  # fmt: skip


def bn_backward(i, g, drop_mu2=False, divide=True):
    x, n = i["x"], i["x"].shape[0]
    xmu = x - x.mean(0)
    ivar = 1 / torch.sqrt((xmu**2).mean(0) + 1e-5)
    dxhat = g * i["gamma"]
    divar = (dxhat * xmu).sum(0)
    dvar = -0.5 * ivar**3 * divar
    dsq = dvar / n if divide else dvar
    dxmu = dxhat * ivar + 2 * xmu * dsq
    return dxmu if drop_mu2 else dxmu - dxmu.sum(0) / n


def ln_backward(i, g, mean=True, var=True):
    x = i["x"]
    mu = x.mean(-1, keepdim=True)
    r = (x.var(-1, unbiased=False, keepdim=True) + 1e-5) ** -0.5
    norm, dn = (x - mu) * r, g * i["w"]
    dx = dn
    if mean:
        dx = dx - dn.mean(-1, keepdim=True)
    if var:
        dx = dx - norm * (dn * norm).mean(-1, keepdim=True)
    return dx * r


def svm_grad(i, g, correct=True, mean=True):
    scores = i["X"] @ i["W"]
    right = scores.gather(1, i["y"][:, None])
    M = ((scores - right + 1) > 0).double()
    M.scatter_(1, i["y"][:, None], 0.0)
    if correct:
        M.scatter_(1, i["y"][:, None], -M.sum(1, keepdim=True))
    return i["X"].T @ M / (len(i["X"]) if mean else 1) * g


def bigram_grad(i, g, overwrite=False, scale=6):
    p = softmax(i["W"][i["xs"]], 1)
    p = (p - F.one_hot(i["ys"], 5)) / scale * g
    dW = torch.zeros_like(i["W"])
    if overwrite:
        dW[i["xs"]] = p
        return dW
    return dW.index_add(0, i["xs"], p)


WRONG = [
    ("norm_mean_term_missing", bn_forward, "x", lambda i, g: bn_backward(i, g, drop_mu2=True)),
    ("missing_mean", bn_forward, "x", lambda i, g: bn_backward(i, g, divide=False)),
    ("missing_upstream", bn_forward, "gamma", lambda i, g: by_autograd(
        bn_forward, i, "gamma", torch.ones_like(g))),
    ("norm_mean_term_missing", ln_pieces, "x", lambda i, g: ln_backward(i, g, mean=False)),
    ("norm_var_term_missing", ln_pieces, "x", lambda i, g: ln_backward(i, g, var=False)),
    ("norm_stats_detached", ln_pieces, "x", lambda i, g: ln_backward(i, g, False, False)),
    ("missing_broadcast_sum", ln_pieces, "w", lambda i, g: by_autograd(
        ln_pieces, {**i, "w": i["w"].expand(3, 4)}, "w", g)),
    ("missing_path", svm, "W", lambda i, g: svm_grad(i, g, correct=False)),
    ("missing_mean", svm, "W", lambda i, g: svm_grad(i, g, mean=False)),
    ("missing_local_derivative", neuron, "w", lambda i, g: g @ i["x"]),
    ("derivative_at_wrong_point", neuron, "w", lambda i, g: (lambda a: (
        g * sigmoid(a) * (1 - sigmoid(a))) @ i["x"])(neuron(**i))),
    ("derivative_at_wrong_point", neuron, "b", lambda i, g: (lambda z: (
        g * z * (1 - z)).sum(0, keepdim=True))((i["x"] * i["w"]).sum(-1) + i["b"])),
    ("sign_error", cost, "a", lambda i, g: (i["y"] - i["a"]) * g),
    ("wrong_scale_factor", cost, "a", lambda i, g: 2 * (i["a"] - i["y"]) * g,
     "missing_scale_factor"),
    ("overwrite_not_accumulate", reuse, "a", lambda i, g: g, "missing_path"),
    ("overwrite_not_accumulate", bigram, "W", lambda i, g: bigram_grad(i, g, overwrite=True)),
    ("wrong_mean_count", bigram, "W", lambda i, g: bigram_grad(i, g, scale=5)),
    ("missing_mean", bigram, "W", lambda i, g: bigram_grad(i, g, scale=1)),
    ("norm_var_term_missing", rms, "x", lambda i, g: g * i["g"] / torch.sqrt(
        (i["x"] ** 2).mean(-1, keepdim=True) + 1e-5), "norm_stats_detached"),
    ("missing_mean", rms, "x", lambda i, g: (lambda r: (lambda h, d: r * (d - h * (d * h).sum(
        -1, keepdim=True)))(i["x"] * r, g * i["g"]))(torch.rsqrt((i["x"] ** 2).mean(
            -1, keepdim=True) + 1e-5))),
    ("wrong_operand", rms, "g", lambda i, g: (g * i["x"]).sum(0)),
    ("missing_broadcast_sum", affine_scalar, "w", lambda i, g: g * i["x"]),
    ("upstream_collapsed", affine_scalar, "w", lambda i, g: g.mean() * i["x"].sum()),
    ("extra_mean", affine_scalar, "b", lambda i, g: g.mean()),
    ("missing_local_derivative", lstm_cell, "f", lambda i, g: g * i["c"]),
    ("wrong_operand", lstm_cell, "f", lambda i, g: g * i["n"] * sigmoid(i["f"]) * (
        1 - sigmoid(i["f"]))),
    ("derivative_at_wrong_point", lstm_cell, "n", lambda i, g: g * sigmoid(i["i"]) * (
        1 - i["n"] ** 2)),
    ("missing_mask", masked_softmax, "scores", lambda i, g: (lambda p: p * (g - (g * p).sum(
        -1, keepdim=True)))(softmax(i["scores"], -1))),
    ("missing_path", self_similarity, "x", lambda i, g: g @ i["x"]),
    ("double_counted", self_similarity, "x", lambda i, g: 2 * g @ i["x"], "transposed_operand"),
    ("conv_flip", depthwise, "x", lambda i, g: by_autograd(
        lambda x, w: depthwise(x, w.flip(-1)), i, "x", g)),
    ("missing_mean", pool_then_linear, "x", lambda i, g: (g @ i["W"].T)[:, None].expand(2, 5, 3)),
    ("wrong_mean_count", pool_then_linear, "x", lambda i, g: (g @ i["W"].T)[:, None].expand(
        2, 5, 3) / 2),
    ("extra_mean", sum_pool, "x", lambda i, g: g[:, :, None, None].expand(2, 3, 4, 5) / 20),
    ("missing_product_term", swiglu, "x", lambda i, g: (g * F.silu(i["x"] @ i["W"])) @ i["V"].T),
    ("missing_local_derivative", swiglu, "W", lambda i, g: i["x"].T @ (g * (i["x"] @ i["V"]))),
    ("missing_broadcast_sum", bias_only, "b", lambda i, g: g.sum(0)),
    ("wrong_axis", bias_only, "b", lambda i, g: g.sum((0, 1, 2, 3)).expand(4, 1, 1)),
    ("missing_broadcast_sum", token_and_position, "P", lambda i, g: g),
    ("overwrite_not_accumulate", token_and_position, "E", lambda i, g: torch.zeros_like(
        i["E"]).index_put((i["ids"],), g)),
    ("missing_scale_factor", weighted_ce, "logits", lambda i, g: (softmax(
        i["logits"], 1) - F.one_hot(i["targets"], 4)) / i["weight"][i["targets"]].sum() * g),
    ("wrong_mean_count", weighted_ce, "logits", lambda i, g: by_autograd(
        weighted_ce, i, "logits", g) * i["weight"][i["targets"]].sum() / 5),
    ("other_variant", smooth_ce, "logits", lambda i, g: (softmax(
        i["logits"], 1) - F.one_hot(i["targets"], 4)) / 5 * g, "missing_path"),
    ("wrong_power", inverse_sqrt, "x", lambda i, g: -0.5 * g / torch.sqrt(i["x"])),
    ("missing_scale_factor", power, "x", lambda i, g: g * i["x"] ** 2),
    ("wrong_power", power, "x", lambda i, g: 3 * g * i["x"] ** 3),
    ("missing_local_derivative", lse, "x", lambda i, g: g[:, None] * torch.exp(i["x"])),
    ("missing_upstream", lse, "x", lambda i, g: softmax(i["x"], -1)),
    ("missing_mask", maximum, "x", lambda i, g: g[:, None].expand(5, 4),
     "missing_local_derivative"),
    ("norm_stats_detached", cosine_loss, "x", lambda i, g: -g[:, None] * i["t"] / i["x"].norm(
        dim=-1, keepdim=True), "norm_var_term_missing", "missing_product_term"),
    ("conv_flip", transposed_conv, "w", lambda i, g: by_autograd(transposed_conv, i, "w", g).flip(-1)),
    ("missing_path", two_losses, "z", lambda i, g: 2 * (i["z"] - i["y"]) / 20 * g),
    ("missing_scale_factor", two_losses, "z", lambda i, g: (
        2 * (i["z"] - i["y"]) + torch.sign(i["z"])) / 20 * g),
]  # fmt: skip
