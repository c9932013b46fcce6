# ruff: noqa: PLC3002 - a row of the table is one expression
"""A sixth table: every kind of mistake in every kind of layer, in the styles people write.

At first sight 88.7% of the right names came first, 90.6% among the first two; mended since.
"""

import math

import torch
import torch.nn.functional as F

from tests.gradients import layers as L
from tests.gradients.layers import BINARY, CLASSES, DATA, IDS
from tests.gradients.wrong import onehot

sigmoid, softmax, tanh = torch.sigmoid, torch.softmax, torch.tanh


normal, positive = L.draws(66)


def keep(t):
    return t.sum(-1, keepdim=True)


def average(t, *axes):
    return t.mean(axes or -1, keepdim=True)


# Elementwise functions and products.
def power_mix(x, a):
    return a * x**3 - x


def quotient(a, b):
    return a / (1 + b**2)


def hard(x):
    return x.clamp(-2, 2) * 0.5


def log_sum(x):
    return torch.log(1 + torch.exp(x))


def product3(a, b, c):
    return a * b * c


def tanh_scaled(x):
    return 1.7159 * tanh(2 / 3 * x)


def bump(x):
    return torch.exp(-(x**2))


def root_mean(x):
    return torch.sqrt((x**2).mean(1))


def prelu(x, a):
    return torch.where(x > 0, x, a * x)


# Layers.
def two_layers(x, W1, b1, W2, b2):
    return tanh(tanh(x @ W1 + b1) @ W2 + b2)


def shared(x, W):
    return sigmoid(sigmoid(x @ W) @ W)


def batched(x, weight, bias):
    return F.linear(x, weight, bias)


def low_rank(x, A, B):
    return x + 0.5 * (x @ A) @ B


def outer(x, y):
    return torch.einsum("ni,nj->ij", x, y)


# Losses.
def mse_two(a, W, y):
    return 0.5 * ((a @ W - y) ** 2).sum(1).mean()


def weighted_mse(p, t, w):
    return (w * (p - t) ** 2).sum() / w.sum()


def huber(p, t):
    return F.smooth_l1_loss(p, t)


def mse_and_decay(W, X, y):
    return ((X @ W - y) ** 2).mean() + 0.01 * (W * W).sum()


def ce_and_decay(W, X, y):
    return F.cross_entropy(X @ W, y) + 0.5 * 0.1 * (W**2).sum()


def focal(z, y):
    p = sigmoid(z)
    return -(y * (1 - p) * torch.log(p) + (1 - y) * p * torch.log(1 - p)).mean()


def kl(logits, q):
    return (q * (q.log() - F.log_softmax(logits, -1))).sum(-1).mean()


def hinge(s, y):
    return torch.relu(1 - y * s).mean()


def masked_ce(logits, targets, mask):
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (losses * mask).sum() / mask.sum()


def distil(z, t):
    return F.kl_div(F.log_softmax(z / 2, -1), softmax(t / 2, -1), reduction="batchmean")


def poisson(eta, y):
    return (torch.exp(eta) - y * eta).mean()


# Normalisations, step by step.
def layer_norm_steps(x, g, b):
    mu = x.sum(-1, keepdim=True) / x.shape[-1]
    c = x - mu
    var = (c * c).sum(-1, keepdim=True) / x.shape[-1]
    rstd = 1 / torch.sqrt(var + 1e-5)
    return g * c * rstd + b


def batch_norm_steps(x, gamma, beta):
    mu = x.mean(0, keepdim=True)
    diff = x - mu
    var = (diff**2).sum(0, keepdim=True) / (x.shape[0] - 1)
    return gamma * diff * (var + 1e-5) ** -0.5 + beta


def batch_norm2d(x, weight, bias):
    return F.batch_norm(x, None, None, weight, bias, training=True)


def group_norm(x, weight, bias):
    return F.group_norm(x, 2, weight, bias)


def rms_steps(x, w):
    ms = x.pow(2).sum(-1, keepdim=True) / x.shape[-1]
    return w * x / torch.sqrt(ms + 1e-6)


def instance(x):
    return F.instance_norm(x)


def unit(x):
    return x / torch.sqrt((x * x).sum(-1, keepdim=True))


def eval_norm(x, mean, var, g):
    return g * (x - mean) / torch.sqrt(var + 1e-5)


# Embedding, dropout, convolution, pooling.
def embed_add(E, P, ids):
    return E[ids] + P


def embed_padded(E, ids):
    return F.embedding(ids, E, padding_idx=1)


def embed_relu(E, ids):
    return torch.relu(E[ids]).mean(1)


def drop_relu(x, W, mask):
    return torch.relu(x @ W) * mask / 0.8


def conv_strided(x, w):
    return F.conv2d(x, w, stride=2, padding=1)


def conv_relu(x, w):
    return torch.relu(F.conv1d(x, w, padding=1))


def conv_bias1d(x, w, b):
    return F.conv1d(x, w, b)


def separable(x, w):
    return F.conv2d(x, w, groups=3)


def max_then_sum(x):
    return F.max_pool1d(x, 3, 2)


def mean_pool(x):
    return F.avg_pool2d(x, (2, 3))


def global_mean(x):
    return x.mean((2, 3))


def max_rows(x):
    return x.max(1).values


# Residuals, attention, recurrence, gates.
def post_norm(x, W):
    return F.layer_norm(x + torch.relu(x @ W), (x.shape[-1],))


def pre_norm(x, W, g):
    return x + F.silu(F.layer_norm(x, (x.shape[-1],), g) @ W)


def two_skips(x, W1, W2):
    h = x + tanh(x @ W1)
    return h + tanh(h @ W2)


def attend(Q, K, V):
    S = Q @ K.mT * Q.shape[-1] ** -0.5
    T = S.shape[-1]
    S = S + torch.full((T, T), float("-inf"), dtype=S.dtype).triu(1)
    return softmax(S, -1) @ V


def attend_padded(Q, K, V, pad):
    S = (Q @ K.mT / 2).masked_fill(pad[None, :], -1e9)
    return softmax(S, -1) @ V


def heads(x, Wqkv, Wo):
    T, C = x.shape
    q, k, v = (t.reshape(T, 2, C // 2).transpose(0, 1) for t in (x @ Wqkv).split(C, -1))
    P = softmax(q @ k.mT / math.sqrt(C // 2), -1)
    return (P @ v).transpose(0, 1).reshape(T, C) @ Wo


def elman(xs, Wx, Wh, b, h0):
    h = h0
    for t in range(xs.shape[1]):
        h = tanh(xs[:, t] @ Wx + h @ Wh + b)
    return h


def relu_rnn(xs, W, U, h):
    for x in xs.unbind(0):
        h = torch.relu(x @ W + h @ U)
    return h


def gru_update(z, n, h):
    return (1 - sigmoid(z)) * tanh(n) + sigmoid(z) * h


def lstm(x, c, W):
    i, f, o, g = (x @ W).chunk(4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c)


def geglu(x, Wg, Wu, Wd):
    return (F.gelu(x @ Wg) * (x @ Wu)) @ Wd


def glu_half(x):
    u, v = x.split(x.shape[-1] // 2, -1)
    return u * sigmoid(v)


EMA = torch.tensor([False, True, False, False, True])
DATA.update({
    power_mix: {"x": normal(5, 4), "a": normal(4)},
    quotient: {"a": normal(5, 3), "b": normal(5, 3)},
    hard: {"x": 3 * normal(6, 4)},
    log_sum: {"x": normal(5, 4)},
    product3: {"a": normal(4, 3), "b": normal(4, 3), "c": normal(4, 3)},
    tanh_scaled: {"x": normal(5, 4)},
    bump: {"x": normal(5, 4)},
    root_mean: {"x": normal(5, 4)},
    prelu: {"x": normal(5, 4), "a": positive(4)},
    two_layers: {"x": normal(5, 3), "W1": normal(3, 4), "b1": normal(4), "W2": normal(4, 4),
                 "b2": normal(4)},
    shared: {"x": normal(5, 4), "W": normal(4, 4)},
    batched: {"x": normal(2, 5, 3), "weight": normal(4, 3), "bias": normal(4)},
    low_rank: {"x": normal(5, 4), "A": normal(4, 2), "B": normal(2, 4)},
    outer: {"x": normal(5, 3), "y": normal(5, 4)},
    mse_two: {"a": normal(5, 3), "W": normal(3, 4), "y": normal(5, 4)},
    weighted_mse: {"p": normal(6, 4), "t": normal(6, 4), "w": positive(6, 4)},
    huber: {"p": 2 * normal(5, 3), "t": normal(5, 3)},
    mse_and_decay: {"W": normal(3, 4), "X": normal(5, 3), "y": normal(5, 4)},
    ce_and_decay: {"W": normal(3, 4), "X": normal(5, 3), "y": CLASSES},
    focal: {"z": normal(5), "y": BINARY},
    kl: {"logits": normal(5, 4), "q": softmax(normal(5, 4), -1)},
    hinge: {"s": 3 * normal(7), "y": torch.tensor([1.0, -1, 1, 1, -1, -1, 1], dtype=L.DTYPE)},
    masked_ce: {"logits": normal(5, 4), "targets": CLASSES,
                "mask": torch.tensor([1.0, 0, 1, 1, 0], dtype=L.DTYPE)},
    distil: {"z": normal(5, 4), "t": normal(5, 4)},
    poisson: {"eta": normal(6), "y": positive(6)},
    layer_norm_steps: {"x": normal(5, 6), "g": positive(6), "b": normal(6)},
    batch_norm_steps: {"x": normal(7, 4), "gamma": positive(4), "beta": normal(4)},
    batch_norm2d: {"x": normal(3, 4, 2, 5), "weight": positive(4), "bias": normal(4)},
    group_norm: {"x": normal(3, 4, 5, 2), "weight": positive(4), "bias": normal(4)},
    rms_steps: {"x": normal(5, 6), "w": positive(6)},
    instance: {"x": normal(2, 3, 7)},
    unit: {"x": normal(5, 4)},
    eval_norm: {"x": normal(6, 4), "mean": normal(4), "var": positive(4), "g": positive(4)},
    embed_add: {"E": normal(6, 3), "P": normal(3, 3), "ids": IDS},
    embed_padded: {"E": normal(6, 3), "ids": IDS},
    embed_relu: {"E": normal(6, 3), "ids": IDS},
    drop_relu: {"x": normal(5, 3), "W": normal(3, 4),
                "mask": (torch.arange(20).reshape(5, 4) % 3 != 1).to(L.DTYPE)},
    conv_strided: {"x": normal(2, 3, 7, 6), "w": normal(4, 3, 3, 3)},
    conv_relu: {"x": normal(2, 3, 8), "w": normal(3, 3, 3)},
    conv_bias1d: {"x": normal(2, 3, 8), "w": normal(4, 3, 3), "b": normal(4)},
    separable: {"x": normal(2, 3, 5, 6), "w": normal(3, 1, 3, 3)},
    max_then_sum: {"x": normal(2, 3, 9)},
    mean_pool: {"x": normal(2, 3, 4, 6)},
    global_mean: {"x": normal(2, 3, 4, 5)},
    max_rows: {"x": normal(5, 4)},
    post_norm: {"x": normal(5, 4), "W": normal(4, 4)},
    pre_norm: {"x": normal(5, 4), "W": normal(4, 4), "g": positive(4)},
    two_skips: {"x": normal(5, 4), "W1": normal(4, 4), "W2": normal(4, 4)},
    attend: {"Q": normal(2, 5, 3), "K": normal(2, 5, 3), "V": normal(2, 5, 3)},
    attend_padded: {"Q": normal(5, 4), "K": normal(5, 4), "V": normal(5, 3), "pad": EMA},
    heads: {"x": normal(5, 4), "Wqkv": normal(4, 12), "Wo": normal(4, 4)},
    elman: {"xs": normal(5, 3, 2), "Wx": normal(2, 4), "Wh": 0.7 * normal(4, 4), "b": normal(4),
            "h0": normal(5, 4)},
    relu_rnn: {"xs": normal(4, 5, 3), "W": normal(3, 4), "U": 0.7 * normal(4, 4),
               "h": normal(5, 4)},
    gru_update: {"z": normal(5, 4), "n": normal(5, 4), "h": normal(5, 4)},
    lstm: {"x": normal(5, 3), "c": normal(5, 4), "W": normal(3, 16)},
    geglu: {"x": normal(5, 3), "Wg": normal(3, 4), "Wu": normal(3, 4), "Wd": normal(4, 3)},
    glu_half: {"x": normal(5, 6)},
})  # fmt: skip


def ce_slope(z, y, c=4):
    return (softmax(z, 1) - onehot(y, c)) / len(y)


def rule_of_norm(g, h, r, axes, count=None, mean=1, var=1):
    if count is None:
        return r * (
            g - mean * g.mean(axes, keepdim=True) - var * h * (g * h).mean(axes, keepdim=True)
        )
    return r * (g - g.sum(axes, keepdim=True) / count - h * (g * h).sum(axes, keepdim=True) / count)


def normed(x, axes, eps=1e-5, correction=0):
    r = torch.rsqrt(x.var(axes, correction=correction, keepdim=True) + eps)
    return (x - x.mean(axes, keepdim=True)) * r, r


def bn_steps(i, g, power=-1.5, count=None, mean=True):
    n = len(i["x"])
    diff = i["x"] - i["x"].mean(0)
    var = (diff**2).sum(0) / (n - 1)
    dn = g * i["gamma"]
    dvar = (dn * diff * -0.5 * (var + 1e-5) ** power).sum(0)
    dmu = -(dn * (var + 1e-5) ** -0.5).sum(0)
    out = dn * (var + 1e-5) ** -0.5 + dvar * 2 * diff / (count or n - 1)
    return out + dmu / n if mean else out


def rms_back(i, g, power=3, count=None, inner=True):
    x, w = i["x"], i["w"]
    r = torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)
    dn = g * w
    return dn * r - x * r**power / (count or x.shape[-1]) * keep(dn * x) * inner


def attention_back(i, g, wrt, mask=0, scale=True, axis=-1, scores=None):
    Q, K, V = i["Q"], i["K"], i["V"]
    s = Q.shape[-1] ** -0.5
    S = Q @ K.mT * s
    if mask is not None:
        T = S.shape[-1]
        S = S.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1 + mask), -math.inf)
    P = softmax(S, -1)
    dP = g @ V.mT
    dS = P * (dP - (dP * P).sum(axis, keepdim=True))
    s = s if scale else 1
    return {"V": P.mT @ g, "Q": dS @ K * s, "K": dS.mT @ Q * s}[wrt]


def padded_back(i, g, wrt, pad=None, diagonal=False):
    pad = i["pad"][None, :] if pad is None else pad
    P = softmax((i["Q"] @ i["K"].T / 2).masked_fill(pad, -1e9), -1)
    dP = g @ i["V"].T
    dS = P * (1 - P) * dP if diagonal else P * (dP - keep(dP * P))
    return {"V": P.T @ g, "Q": dS @ i["K"] / 2, "K": dS.T @ i["Q"] / 2}[wrt]


def elman_back(i, g, wrt, steps=3, slope=None, turn=True, shift=0, order=1, total=True, bias=None):
    xs, hs = i["xs"], [i["h0"]]
    for t in range(3):
        hs.append(tanh(xs[:, t] @ i["Wx"] + hs[-1] @ i["Wh"] + i["b"]))
    grads = {"Wx": 0, "Wh": 0, "b": 0}
    for t in (2, 1, 0)[:steps]:
        h = slope(hs, t) if slope else hs[t + 1]
        da = g * (1 - h**2)
        new = {
            "Wx": xs[:, t if order == 1 else 2 - t].T @ da,
            "Wh": hs[t + shift].T @ da,
            "b": da.sum(0) if bias is None else bias(da),
        }
        grads = {k: v + new[k] if total else new[k] for k, v in grads.items()}
        g = da @ (i["Wh"].T if turn else i["Wh"])
    return g if wrt == "h0" else grads[wrt]


def relu_rnn_back(i, g, wrt, mask=True, last=False):
    hs = [i["h"]]
    for x in i["xs"]:
        hs.append(torch.relu(x @ i["W"] + hs[-1] @ i["U"]))
    dW = dU = 0
    for t in (3, 2, 1, 0):
        da = g * (hs[-1 if last else t + 1] > 0) if mask else g
        dW, dU, g = dW + i["xs"][t].T @ da, dU + hs[t].T @ da, da @ i["U"].T
    return {"W": dW, "U": dU, "h": g}[wrt]


def geglu_back(i, g, wrt, slope=None):
    a, u = i["x"] @ i["Wg"], i["x"] @ i["Wu"]
    dh = g @ i["Wd"].T
    phi = torch.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    cdf = (1 + torch.erf(a / math.sqrt(2))) / 2
    da = dh * u * (cdf + a * phi if slope is None else slope(a, cdf, phi))
    du = dh * F.gelu(a)
    return {"Wg": i["x"].T @ da, "Wu": i["x"].T @ du, "x": da @ i["Wg"].T + du @ i["Wu"].T}[wrt]


def accumulated(shape, ids, g):
    return torch.zeros(shape, dtype=g.dtype).index_add(0, ids.flatten(), g.reshape(-1, shape[-1]))


def windows_assigned(i, g):
    dx = torch.zeros_like(i["x"])
    for n in range(2):
        for c in range(3):
            for t in range(g.shape[-1]):
                k = int(i["x"][n, c, 2 * t : 2 * t + 3].argmax())
                dx[n, c, 2 * t + k] = g[n, c, t]
    return dx


ROWS = [
    # Elementwise.
    ("missing_scale_factor", power_mix, "x", lambda i, g: g * (i["a"] * i["x"] ** 2 - 1)),
    ("wrong_power", power_mix, "x", lambda i, g: g * (3 * i["a"] * i["x"] ** 3 - 1)),
    ("sign_error", power_mix, "x", lambda i, g: g * (3 * i["a"] * i["x"] ** 2 + 1)),
    ("missing_path", power_mix, "x", lambda i, g: g * 3 * i["a"] * i["x"] ** 2),
    ("missing_broadcast_sum", power_mix, "a", lambda i, g: g * i["x"] ** 3),
    ("sign_error", quotient, "b", lambda i, g: g * i["a"] * 2 * i["b"] / (1 + i["b"] ** 2) ** 2),
    ("wrong_power", quotient, "b", lambda i, g: -g * i["a"] * 2 * i["b"] / (1 + i["b"] ** 2)),
    ("missing_scale_factor", quotient, "b", lambda i, g: -g * i["a"] * i["b"] / (
        1 + i["b"] ** 2) ** 2),
    ("missing_mask", hard, "x", lambda i, g: 0.5 * g, "missing_local_derivative"),
    ("missing_scale_factor", hard, "x", lambda i, g: g * (i["x"].abs() < 2)),
    ("missing_local_derivative", log_sum, "x", lambda i, g: g / (1 + i["x"].exp()),
     "sign_error"),
    ("derivative_at_wrong_point", log_sum, "x", lambda i, g: g * sigmoid(F.softplus(i["x"]))),
    ("wrong_operand", product3, "a", lambda i, g: g * i["a"] * i["c"]),
    ("missing_scale_factor", product3, "b", lambda i, g: g * i["a"], "missing_local_derivative"),
    ("missing_scale_factor", tanh_scaled, "x", lambda i, g: g * 1.7159 * (
        1 - tanh(2 / 3 * i["x"]) ** 2)),
    ("derivative_at_wrong_point", tanh_scaled, "x", lambda i, g: g * 1.7159 * 2 / 3 * (
        1 - (1.7159 * tanh(2 / 3 * i["x"])) ** 2)),
    ("sign_error", bump, "x", lambda i, g: 2 * i["x"] * bump(i["x"]) * g),
    ("missing_local_derivative", bump, "x", lambda i, g: g * bump(i["x"])),
    ("missing_scale_factor", bump, "x", lambda i, g: -i["x"] * bump(i["x"]) * g),
    ("missing_mean", root_mean, "x", lambda i, g: (g / root_mean(i["x"]))[:, None] * i["x"]),
    ("wrong_power", root_mean, "x", lambda i, g: (g * root_mean(i["x"]))[:, None] * i["x"] / 4),
    ("missing_mask", prelu, "a", lambda i, g: (g * i["x"]).sum(0)),
    ("missing_scale_factor", prelu, "x", lambda i, g: g * (i["x"] > 0), "missing_path"),
    ("wrong_mask", prelu, "x", lambda i, g: g * torch.where(i["x"] < 0, 1, i["a"])),
    ("derivative_at_wrong_point", L.softplus, "z", lambda i, g: g * sigmoid(F.softplus(i["z"]))),
    ("applied_twice", L.tanh, "z", lambda i, g: g * (1 - tanh(i["z"]) ** 2) ** 2),
    ("upstream_collapsed", L.silu, "z", lambda i, g: g.sum() * (sigmoid(i["z"]) * (
        1 + i["z"] * (1 - sigmoid(i["z"]))))),
    ("sign_error", L.silu, "z", lambda i, g: g * sigmoid(i["z"]) * (
        1 - i["z"] * (1 - sigmoid(i["z"])))),
    ("other_variant", L.gelu, "z", lambda i, g: g * (lambda s: s + 1.702 * i["z"] * s * (1 - s))(
        sigmoid(1.702 * i["z"]))),
    # Linear layers.
    ("missing_local_derivative", two_layers, "b1", lambda i, g: (lambda h, y: (
        g * (1 - y**2) @ i["W2"].T).sum(0))(
            tanh(i["x"] @ i["W1"] + i["b1"]), two_layers(**i))),
    ("transposed_operand", two_layers, "x", lambda i, g: (lambda h, y: (
        ((g * (1 - y**2)) @ i["W2"]) * (1 - h**2)) @ i["W1"].T)(
            tanh(i["x"] @ i["W1"] + i["b1"]), two_layers(**i))),
    ("wrong_operand", two_layers, "W2", lambda i, g: (i["x"] @ i["W1"] + i["b1"]).T @ (
        g * (1 - two_layers(**i) ** 2)), "derivative_at_wrong_point", "missing_local_derivative"),
    ("derivative_at_wrong_point", two_layers, "b2", lambda i, g: (lambda z: (
        g * (1 - z**2)).sum(0))(tanh(i["x"] @ i["W1"] + i["b1"]) @ i["W2"] + i["b2"])),
    ("extra_mean", two_layers, "W1", lambda i, g: (lambda h, y: i["x"].T @ (
        ((g * (1 - y**2)) @ i["W2"].T) * (1 - h**2)) / len(g))(
            tanh(i["x"] @ i["W1"] + i["b1"]), two_layers(**i))),
    ("transposed_operand", shared, "x", lambda i, g: (lambda h, y: (
        ((g * y * (1 - y)) @ i["W"]) * h * (1 - h)) @ i["W"])(
            sigmoid(i["x"] @ i["W"]), shared(**i))),
    ("missing_path", shared, "W", lambda i, g: (lambda h, y: h.T @ (g * y * (1 - y)))(
        sigmoid(i["x"] @ i["W"]), shared(**i)), "overwrite_not_accumulate"),
    ("missing_local_derivative", shared, "x", lambda i, g: g @ i["W"].T @ i["W"].T),
    ("wrong_operand", shared, "x", lambda i, g: (lambda y: ((g * y * (1 - y)) @ i["W"].T * (
        y * (1 - y))) @ i["W"].T)(shared(**i))),
    ("missing_broadcast_sum", batched, "weight", lambda i, g: torch.einsum(
        "bto,bti->boi", g, i["x"])),
    ("transposed_operand", batched, "weight", lambda i, g: torch.einsum(
        "bto,bti->io", g, i["x"])),
    ("extra_mean", batched, "bias", lambda i, g: g.sum(1).mean(0)),
    ("missing_scale_factor", low_rank, "A", lambda i, g: i["x"].T @ (g @ i["B"].T)),
    ("missing_path", low_rank, "x", lambda i, g: 0.5 * g @ i["B"].T @ i["A"].T),
    ("wrong_operand", low_rank, "B", lambda i, g: 0.5 * (i["x"] @ i["B"].T).T @ g),
    ("transposed_operand", outer, "x", lambda i, g: (g @ i["y"].T), "wrong_shape"),
    # Losses.
    ("missing_mean", mse_two, "W", lambda i, g: i["a"].T @ (i["a"] @ i["W"] - i["y"])),
    ("wrong_mean_count", mse_two, "W", lambda i, g: i["a"].T @ (i["a"] @ i["W"] - i["y"]) / 20),
    ("wrong_scale_factor", mse_two, "a", lambda i, g: 2 * (i["a"] @ i["W"] - i["y"]) @ (
        i["W"].T) / 5, "double_counted", "missing_scale_factor"),
    ("missing_mean", weighted_mse, "p", lambda i, g: 2 * i["w"] * (i["p"] - i["t"])),
    ("wrong_mean_count", weighted_mse, "p", lambda i, g: 2 * i["w"] * (i["p"] - i["t"]) / 24),
    ("missing_scale_factor", weighted_mse, "p", lambda i, g: 2 * (i["p"] - i["t"]) / (
        i["w"].sum())),
    ("other_variant", huber, "p", lambda i, g: (i["p"] - i["t"]) / 15, "missing_mask"),
    ("other_variant", huber, "p", lambda i, g: (i["p"] - i["t"]).sign() / 15),
    ("missing_mean", huber, "t", lambda i, g: -(i["p"] - i["t"]).clamp(-1, 1)),
    ("missing_path", mse_and_decay, "W", lambda i, g: i["X"].T @ (
        i["X"] @ i["W"] - i["y"]) / 10),
    ("missing_scale_factor", mse_and_decay, "W", lambda i, g: i["X"].T @ (
        i["X"] @ i["W"] - i["y"]) / 10 + 0.01 * i["W"]),
    ("sign_error", mse_and_decay, "W", lambda i, g: i["X"].T @ (
        i["X"] @ i["W"] - i["y"]) / 10 - 0.02 * i["W"]),
    ("missing_scale_factor", ce_and_decay, "W", lambda i, g: i["X"].T @ ce_slope(
        i["X"] @ i["W"], i["y"]) + i["W"], "wrong_scale_factor"),
    ("wrong_scale_factor", ce_and_decay, "W", lambda i, g: i["X"].T @ ce_slope(
        i["X"] @ i["W"], i["y"]) + 0.2 * i["W"], "double_counted"),
    ("missing_mean", ce_and_decay, "W", lambda i, g: 5 * i["X"].T @ ce_slope(
        i["X"] @ i["W"], i["y"]) + 0.1 * i["W"]),
    ("missing_target", ce_and_decay, "W", lambda i, g: i["X"].T @ softmax(
        i["X"] @ i["W"], 1) / 5 + 0.1 * i["W"]),
    ("missing_scale_factor", kl, "logits", lambda i, g: softmax(i["logits"], -1) - i["q"],
     "missing_mean"),
    ("sign_error", kl, "logits", lambda i, g: (i["q"] - softmax(i["logits"], -1)) / 5),
    ("missing_mask", hinge, "s", lambda i, g: -i["y"] / 7, "missing_local_derivative"),
    ("sign_error", hinge, "s", lambda i, g: i["y"] * (i["y"] * i["s"] < 1) / 7),
    ("wrong_mask", hinge, "s", lambda i, g: -i["y"] * (i["y"] * i["s"] < 0) / 7),
    ("wrong_mean_count", masked_ce, "logits", lambda i, g: ce_slope(
        i["logits"], i["targets"]) * i["mask"][:, None]),
    ("missing_mask", masked_ce, "logits", lambda i, g: ce_slope(
        i["logits"], i["targets"]) * 5 / 3),
    ("missing_mask", masked_ce, "logits", lambda i, g: ce_slope(i["logits"], i["targets"])),
    ("missing_scale_factor", distil, "z", lambda i, g: (
        softmax(i["z"] / 2, -1) - softmax(i["t"] / 2, -1)) / 5),
    ("wrong_mean_count", distil, "z", lambda i, g: (
        softmax(i["z"] / 2, -1) - softmax(i["t"] / 2, -1)) / 2 / 20),
    ("missing_target", poisson, "eta", lambda i, g: i["eta"].exp() / 6, "missing_path"),
    ("derivative_at_wrong_point", poisson, "eta", lambda i, g: (i["eta"] - i["y"]) / 6,
     "missing_local_derivative"),
    ("wrong_axis", L.cross_entropy, "logits", lambda i, g: (
        softmax(i["logits"], 0) - onehot(i["targets"], 4)) / 5),
    ("derivative_at_wrong_point", L.cross_entropy, "logits", lambda i, g: (
        softmax(softmax(i["logits"], 1), 1) - onehot(i["targets"], 4)) / 5),
    ("applied_twice", L.bce_logits, "z", lambda i, g: (lambda s: (s - i["y"]) * s * (1 - s) / 5)(
        sigmoid(i["z"]))),
    # Normalisations.
    ("wrong_power", layer_norm_steps, "x", lambda i, g: (lambda h, r, d: r * d - average(
        r * d) - h * r**2 * average(d * h))(*normed(i["x"], -1), g * i["g"])),
    ("norm_mean_term_missing", layer_norm_steps, "x", lambda i, g: rule_of_norm(
        g * i["g"], *normed(i["x"], -1), -1, mean=0)),
    ("missing_scale_factor", layer_norm_steps, "x", lambda i, g: rule_of_norm(
        g, *normed(i["x"], -1), -1)),
    ("wrong_axis", layer_norm_steps, "x", lambda i, g: rule_of_norm(
        g * i["g"], *normed(i["x"], -1), 0)),
    ("missing_mean", layer_norm_steps, "x", lambda i, g: rule_of_norm(
        g * i["g"], *normed(i["x"], -1), -1, count=1)),
    ("missing_scale_factor", layer_norm_steps, "g", lambda i, g: (
        g * (i["x"] - average(i["x"]))).sum(0), "wrong_operand"),
    ("wrong_power", layer_norm_steps, "g", lambda i, g: (lambda c: (g * c / average(c * c)).sum(
        0))(i["x"] - average(i["x"]))),
    ("other_variant", layer_norm_steps, "x", lambda i, g: rule_of_norm(
        g * i["g"], *normed(i["x"], -1, eps=0), -1)),
    ("other_variant", layer_norm_steps, "x", lambda i, g: rule_of_norm(
        g * i["g"], *normed(i["x"], -1, correction=1), -1), "missing_scale_factor"),
    ("wrong_power", batch_norm_steps, "x", lambda i, g: bn_steps(i, g, power=-0.5)),
    ("wrong_mean_count", batch_norm_steps, "x", lambda i, g: bn_steps(i, g, count=7),
     "other_variant"),
    ("norm_mean_term_missing", batch_norm_steps, "x", lambda i, g: bn_steps(i, g, mean=False)),
    ("wrong_mean_count", batch_norm2d, "x", lambda i, g: rule_of_norm(
        g * i["weight"][:, None, None], *normed(i["x"], (0, 2, 3)), (0, 2, 3), count=10)),
    ("wrong_axis", batch_norm2d, "x", lambda i, g: rule_of_norm(
        g * i["weight"][:, None, None], *normed(i["x"], (0, 2, 3)), (2, 3))),
    ("missing_broadcast_sum", batch_norm2d, "weight", lambda i, g: (
        g * normed(i["x"], (0, 2, 3))[0]).sum((2, 3))),
    ("wrong_axis", group_norm, "x", lambda i, g: (lambda x, d: rule_of_norm(
        d, *normed(x, (2, 3, 4)), (3, 4)).reshape(3, 4, 5, 2))(
            i["x"].reshape(3, 2, 2, 5, 2),
            (g * i["weight"][:, None, None]).reshape(3, 2, 2, 5, 2))),
    ("wrong_power", rms_steps, "x", lambda i, g: rms_back(i, g, power=1)),
    ("missing_mean", rms_steps, "x", lambda i, g: rms_back(i, g, count=1)),
    ("norm_var_term_missing", rms_steps, "x", lambda i, g: rms_back(i, g, inner=False),
     "norm_stats_detached"),
    ("wrong_power", rms_steps, "w", lambda i, g: (
        g * i["x"] * torch.sqrt(average(i["x"] ** 2) + 1e-6)).sum(0)),
    ("norm_stats_detached", instance, "x", lambda i, g: g * normed(i["x"], -1)[1]),
    ("wrong_axis", instance, "x", lambda i, g: rule_of_norm(g, *normed(i["x"], -1), 1)),
    ("norm_var_term_missing", unit, "x", lambda i, g: g / i["x"].norm(dim=-1, keepdim=True),
     "norm_stats_detached", "missing_product_term"),
    ("wrong_power", unit, "x", lambda i, g: (lambda n: g / n - i["x"] * keep(g * i["x"]) / n**2)(
        i["x"].norm(dim=-1, keepdim=True))),
    ("other_variant", eval_norm, "x", lambda i, g: (lambda r: rule_of_norm(
        g * i["g"], (i["x"] - i["mean"]) * r, r, 0))(torch.rsqrt(i["var"] + 1e-5))),
    ("wrong_power", eval_norm, "x", lambda i, g: g * i["g"] / (i["var"] + 1e-5)),
    # Embedding and dropout.
    ("overwrite_not_accumulate", embed_add, "E", lambda i, g: torch.zeros(
        6, 3, dtype=g.dtype).index_copy(0, i["ids"].flatten(), g.reshape(-1, 3))),
    ("missing_broadcast_sum", embed_add, "P", lambda i, g: g),
    ("missing_mask", embed_padded, "E", lambda i, g: accumulated((6, 3), i["ids"], g)),
    ("missing_mean", embed_relu, "E", lambda i, g: accumulated((6, 3), i["ids"], (
        g[:, None] * (i["E"][i["ids"]] > 0)))),
    ("missing_mask", embed_relu, "E", lambda i, g: accumulated(
        (6, 3), i["ids"], g[:, None].expand(2, 3, 3) / 3), "missing_local_derivative"),
    ("missing_mask", drop_relu, "W", lambda i, g: i["x"].T @ (
        g / 0.8 * (i["x"] @ i["W"] > 0))),
    ("missing_scale_factor", drop_relu, "W", lambda i, g: i["x"].T @ (
        g * i["mask"] * (i["x"] @ i["W"] > 0))),
    ("missing_local_derivative", drop_relu, "x", lambda i, g: (g * i["mask"] / 0.8) @ i["W"].T,
     "missing_mask"),
    ("wrong_mask", drop_relu, "W", lambda i, g: i["x"].T @ (
        g / 0.8 * (1 - i["mask"]) * (i["x"] @ i["W"] > 0))),
    # Convolution and pooling.
    ("conv_flip", conv_strided, "x", lambda i, g: F.conv_transpose2d(
        g, i["w"].flip(2, 3), stride=2, padding=1, output_padding=(0, 1))),
    ("conv_flip", conv_strided, "w", lambda i, g: torch.nn.grad.conv2d_weight(
        i["x"], i["w"].shape, g, stride=2, padding=1).flip(2, 3)),
    ("missing_local_derivative", conv_relu, "w", lambda i, g: torch.nn.grad.conv1d_weight(
        i["x"], i["w"].shape, g, padding=1), "missing_mask"),
    ("transposed_operand", conv_relu, "x", lambda i, g: F.conv_transpose1d(
        g * (conv_relu(**i) > 0), i["w"].transpose(0, 1), padding=1)),
    ("extra_mean", conv_bias1d, "b", lambda i, g: g.sum(2).mean(0)),
    ("wrong_axis", conv_bias1d, "b", lambda i, g: g.sum().expand(4)),
    ("conv_flip", separable, "x", lambda i, g: F.conv_transpose2d(
        g, i["w"].flip(2, 3), groups=3)),
    ("overwrite_not_accumulate", max_then_sum, "x", windows_assigned),
    ("missing_mean", mean_pool, "x", lambda i, g: g.repeat_interleave(2, 2).repeat_interleave(
        3, 3), "missing_scale_factor"),
    ("wrong_mean_count", mean_pool, "x", lambda i, g: g.repeat_interleave(
        2, 2).repeat_interleave(3, 3) / 3),
    ("wrong_mean_count", global_mean, "x", lambda i, g: g[..., None, None].expand(
        2, 3, 4, 5) / 5),
    ("missing_mask", max_rows, "x", lambda i, g: g[:, None].expand(5, 4)),
    # Residuals.
    ("missing_path", post_norm, "x", lambda i, g: (lambda d: (
        d * (i["x"] @ i["W"] > 0)) @ i["W"].T)(rule_of_norm(
            g, *normed(i["x"] + torch.relu(i["x"] @ i["W"]), -1), -1))),
    ("missing_local_derivative", post_norm, "W", lambda i, g: i["x"].T @ rule_of_norm(
        g, *normed(i["x"] + torch.relu(i["x"] @ i["W"]), -1), -1), "missing_mask"),
    ("norm_stats_detached", pre_norm, "x", lambda i, g: (lambda h, r: g + (g * (lambda z: sigmoid(
        z) * (1 + z * (1 - sigmoid(z))))((h * i["g"]) @ i["W"])) @ i["W"].T * i["g"] * r)(
            *normed(i["x"], -1))),
    ("missing_path", two_skips, "x", lambda i, g: (lambda h: (lambda d: d + (
        d * (1 - tanh(i["x"] @ i["W1"]) ** 2)) @ i["W1"].T)(
            (g * (1 - tanh(h @ i["W2"]) ** 2)) @ i["W2"].T))(i["x"] + tanh(i["x"] @ i["W1"]))),
    ("transposed_operand", two_skips, "x", lambda i, g: (lambda h: (lambda d: d + (
        d * (1 - tanh(i["x"] @ i["W1"]) ** 2)) @ i["W1"])(
            g + (g * (1 - tanh(h @ i["W2"]) ** 2)) @ i["W2"]))(i["x"] + tanh(i["x"] @ i["W1"]))),
    # Attention.
    ("wrong_mask", attend, "V", lambda i, g: attention_back(i, g, "V", mask=1)),
    ("wrong_mask", attend, "Q", lambda i, g: attention_back(i, g, "Q", mask=1)),
    ("missing_mask", attend, "K", lambda i, g: attention_back(i, g, "K", mask=None)),
    ("missing_scale_factor", attend, "K", lambda i, g: attention_back(i, g, "K", scale=False)),
    ("wrong_axis", attend, "Q", lambda i, g: attention_back(i, g, "Q", axis=-2)),
    ("wrong_mask", attend_padded, "V", lambda i, g: padded_back(
        i, g, "V", pad=i["pad"][:, None])),
    ("wrong_mask", attend_padded, "Q", lambda i, g: padded_back(i, g, "Q", pad=~i["pad"])),
    ("missing_cross_terms", attend_padded, "K", lambda i, g: padded_back(
        i, g, "K", diagonal=True)),
    # Recurrence.
    ("transposed_operand", elman, "h0", lambda i, g: elman_back(i, g, "h0", turn=False)),
    ("transposed_operand", elman, "Wx", lambda i, g: elman_back(i, g, "Wx", turn=False)),
    ("missing_path", elman, "Wh", lambda i, g: elman_back(i, g, "Wh", steps=1)),
    ("missing_path", elman, "b", lambda i, g: elman_back(i, g, "b", steps=2)),
    ("wrong_operand", elman, "Wh", lambda i, g: elman_back(i, g, "Wh", shift=1)),
    ("wrong_operand", elman, "Wx", lambda i, g: elman_back(i, g, "Wx", order=-1)),
    ("wrong_operand", elman, "b", lambda i, g: elman_back(
        i, g, "b", slope=lambda hs, t: hs[-1])),
    ("wrong_operand", elman, "h0", lambda i, g: elman_back(
        i, g, "h0", slope=lambda hs, t: hs[t]), "derivative_at_wrong_point"),
    ("missing_local_derivative", elman, "Wx", lambda i, g: elman_back(i, g, "Wx", slope=lambda hs, t: 0 * hs[0])),
    ("overwrite_not_accumulate", elman, "Wx", lambda i, g: elman_back(i, g, "Wx", total=False),
     "missing_path"),
    ("extra_mean", elman, "b", lambda i, g: elman_back(i, g, "b", bias=lambda d: d.mean(0))),
    ("missing_local_derivative", relu_rnn, "U", lambda i, g: relu_rnn_back(
        i, g, "U", mask=False), "missing_mask"),
    ("wrong_mask", relu_rnn, "W", lambda i, g: relu_rnn_back(i, g, "W", last=True),
     "wrong_operand"),
    # Gates.
    ("sign_error", gru_update, "z", lambda i, g: (lambda s: g * s * (1 - s) * (
        tanh(i["n"]) - i["h"]))(sigmoid(i["z"]))),
    ("missing_path", gru_update, "z", lambda i, g: (lambda s: g * s * (1 - s) * i["h"])(
        sigmoid(i["z"])), "missing_product_term"),
    ("wrong_operand", gru_update, "n", lambda i, g: g * sigmoid(i["z"]) * (
        1 - tanh(i["n"]) ** 2)),
    ("missing_local_derivative", lstm, "c", lambda i, g: (lambda z: g * sigmoid(z[2]) * sigmoid(
        z[1]))((i["x"] @ i["W"]).chunk(4, -1))),
    ("missing_local_derivative", geglu, "Wg", lambda i, g: geglu_back(
        i, g, "Wg", slope=lambda a, cdf, phi: 1.0)),
    ("missing_product_term", geglu, "x", lambda i, g: geglu_back(
        i, g, "x", slope=lambda a, cdf, phi: cdf)),
    ("sign_error", geglu, "Wg", lambda i, g: geglu_back(
        i, g, "Wg", slope=lambda a, cdf, phi: cdf - a * phi)),
    ("missing_path", glu_half, "x", lambda i, g: (lambda u, v: torch.cat(
        [g * sigmoid(v), torch.zeros_like(v)], -1))(*i["x"].split(3, -1)),
     "missing_product_term"),
    ("missing_local_derivative", glu_half, "x", lambda i, g: (lambda u, v: torch.cat(
        [g * sigmoid(v), g * u], -1))(*i["x"].split(3, -1))),
    ("wrong_operand", glu_half, "x", lambda i, g: (lambda u, v: torch.cat(
        [g * u, g * u * sigmoid(v) * (1 - sigmoid(v))], -1))(*i["x"].split(3, -1))),
]  # fmt: skip

LOSSES = (mse_two, weighted_mse, huber, mse_and_decay, ce_and_decay, focal, kl, hinge, masked_ce,
          distil, poisson, L.cross_entropy, L.bce_logits)  # fmt: skip


def with_upstream(row):
    """The losses' rows are written for an upstream gradient of 1."""
    label, forward, wrt, backward, *others = row
    if forward not in LOSSES:
        return row
    return label, forward, wrt, lambda i, g: g * backward(i, g), *others


WRONG = [with_upstream(row) for row in ROWS]
