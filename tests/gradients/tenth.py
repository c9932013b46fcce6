"""A tenth table: whole networks with one slip somewhere, loops over time above all."""

import torch
import torch.nn.functional as F

from tests.gradients import layers as L

normal, positive = L.draws(1010)
sigmoid, tanh = torch.sigmoid, torch.tanh


def lstm(x, h0, c0, Wx, Wh, b):
    h, c = h0, c0
    for t in range(len(x)):
        i, f, o, g = (x[t] @ Wx + h @ Wh + b).chunk(4, 1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
    return h


def gru(x, h, Wz, Wr, Wn):
    for t in range(len(x)):
        z = sigmoid(torch.cat([x[t], h], 1) @ Wz)
        r = sigmoid(torch.cat([x[t], h], 1) @ Wr)
        n = tanh(torch.cat([x[t], r * h], 1) @ Wn)
        h = (1 - z) * h + z * n
    return h


def rnn(x, h, Wx, Wh, Wy):
    outputs = []
    for t in range(len(x)):
        h = tanh(x[t] @ Wx + h @ Wh)
        outputs.append(h @ Wy)
    return torch.stack(outputs)


def last_state(x, h, Wx, Wh):
    for t in range(len(x)):
        h = tanh(x[t] @ Wx + h @ Wh)
    return h


def hard(x):
    return F.hardsigmoid(x)


def running_product(x):
    return x.cumprod(1)


def log_sum(x):
    return torch.logsumexp(x, 1)


def distances(a, b):
    return torch.cdist(a, b)


def bce(z, y):
    return F.binary_cross_entropy_with_logits(z, y, reduction="sum")


def positives(u, v):
    return -F.logsigmoid((u * v).sum(1)).mean()


def poisson(X, w, n):
    z = X @ w
    return (torch.exp(z) - n * z).mean()


def mirrored(x):
    return F.pad(x, (2, 2), mode="reflect") ** 2


def signal(x, w):
    return tanh(F.conv1d(x, w))


def two_layers(X, W1, W2, Y):
    return ((tanh(X @ W1) @ W2 - Y) ** 2).sum() / 2


def affine(a, b):
    return 2 * a + b


def triplet(a, p, n):
    return torch.relu(((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + 1).mean()


def penalised(X, W, y):
    return F.cross_entropy(X @ W, y) + 0.3 * (W * W).sum()


def classifier(X, W1, W2, y):
    return F.cross_entropy(torch.relu(X @ W1) @ W2, y)


def likelihood(noise, K, y):
    A = K + noise * torch.eye(len(y), dtype=K.dtype)
    return 0.5 * y @ torch.linalg.solve(A, y) + 0.5 * torch.linalg.slogdet(A)[1]


def quantised(x, s):
    v = (x / s).clamp(-4, 3)
    return (v.round() - v).detach() + v


def normed_tokens(x, gamma, beta, W):
    return tanh(F.layer_norm(x, x.shape[-1:], gamma, beta) @ W)


def dropped(X, W1, W2, mask):
    return (torch.relu(X @ W1) * mask) @ W2


def absolute(x):
    return x.abs()


def heads(q, k, v):
    return torch.softmax(q @ k.mT / 2, -1) @ v


def gated(gate, up):
    return sigmoid(gate) * up


L.DATA |= {
    lstm: {"x": normal(3, 5, 2), "h0": normal(5, 4), "c0": normal(5, 4), "Wx": normal(2, 16),
           "Wh": normal(4, 16) / 2, "b": normal(16)},
    gru: {"x": normal(3, 4, 2), "h": normal(4, 3), "Wz": normal(5, 3), "Wr": normal(5, 3),
          "Wn": normal(5, 3)},
    rnn: {"x": normal(4, 3, 2), "h": normal(3, 5), "Wx": normal(2, 5), "Wh": normal(5, 5) / 2,
          "Wy": normal(5, 3)},
    last_state: {"x": normal(3, 5, 2), "h": normal(5, 4), "Wx": normal(2, 4), "Wh": normal(4, 4) / 2},
    hard: {"x": 3 * normal(5, 4)},
    running_product: {"x": positive(4, 5)},
    log_sum: {"x": normal(4, 5)},
    distances: {"a": normal(4, 5), "b": normal(3, 5)},
    bce: {"z": normal(5, 3), "y": (normal(5, 3) > 0).to(L.DTYPE)},
    positives: {"u": normal(6, 4), "v": normal(6, 4)},
    poisson: {"X": normal(7, 3), "w": normal(3) / 2, "n": torch.tensor([0.0, 2, 1, 5, 0, 3, 1], dtype=L.DTYPE)},
    mirrored: {"x": normal(2, 3, 6)},
    signal: {"x": normal(2, 3, 8), "w": normal(4, 3, 3)},
    two_layers: {"X": normal(7, 3), "W1": normal(3, 4), "W2": normal(4, 2), "Y": normal(7, 2)},
    affine: {"a": normal(4, 3), "b": normal(4, 3)},
    triplet: {"a": normal(9, 4), "p": normal(9, 4), "n": normal(9, 4)},
    penalised: {"X": normal(10, 4), "W": normal(4, 5), "y": torch.tensor([0, 3, 2, 4, 1, 1, 0, 2, 3, 4])},
    classifier: {"X": normal(10, 4), "W1": normal(4, 6), "W2": normal(6, 3),
                 "y": torch.tensor([0, 1, 2, 2, 1, 1, 0, 2, 0, 1])},
    likelihood: {"noise": torch.tensor(0.7, dtype=L.DTYPE), "K": (m := normal(5, 5)) @ m.T, "y": normal(5)},
    quantised: {"x": 3 * normal(4, 5), "s": torch.tensor(0.7, dtype=L.DTYPE)},
    normed_tokens: {"x": normal(3, 4, 6), "gamma": positive(6), "beta": normal(6), "W": normal(6, 5)},
    dropped: {"X": normal(30, 4), "W1": normal(4, 8), "W2": normal(8, 3),
              "mask": (normal(30, 8) > 0).to(L.DTYPE) * 2},
    absolute: {"x": normal(5, 4)},
    heads: {name: normal(2, 4, 4, 3) for name in "qkv"},
    gated: {"gate": normal(4, 6), "up": normal(4, 6)},
}  # fmt: skip


def through_lstm(wrt, slip):
    """Go back through time, with one slip at every step."""

    def backward(v, G):
        x, h, c, Wx, Wh, b = v.values()
        H, tape = h.shape[1], []
        for t in range(len(x)):
            i, f, o, g = (x[t] @ Wx + h @ Wh + b).chunk(4, 1)
            i, f, o, g, before, hidden = sigmoid(i), sigmoid(f), sigmoid(o), tanh(g), c, h
            c = f * c + i * g
            h = o * tanh(c)
            tape.append((hidden, before, i, f, o, g, c))
        d = {name: torch.zeros_like(value) for name, value in v.items()}
        dh, dc = G, torch.zeros_like(c)
        for t in reversed(range(len(x))):
            hidden, before, i, f, o, g, c = tape[t]
            slope = 1 if slip == "no slope of c" else 1 - tanh(c) ** 2
            dc = dh * o * slope + (0 if slip == "no carried c" else dc)
            df = dc * (c if slip == "c, not the one before" else before)
            di, dg = (dc * i, dc * g) if slip == "exchanged" else (dc * g, dc * i)
            slope_of_g = g * (1 - g) if slip == "slope of a sigmoid" else 1 - g**2
            gates = [
                di * i * (1 - i),
                df * f * (1 - f),
                dh * tanh(c) * o * (1 - o),
                dg * slope_of_g,
            ]
            if slip == "another order":
                gates = [gates[k] for k in (0, 1, 3, 2)]
            dz = torch.cat(gates, 1)
            d["x"][t], d["b"] = dz @ Wx.T, d["b"] + dz.sum(0)
            d["Wx"], d["Wh"] = d["Wx"] + x[t].T @ dz, d["Wh"] + hidden.T @ dz
            dh, dc = dz @ Wh.T, dc * (1 if slip == "no forget gate" else f)
        assert H == dh.shape[1]
        return (d | {"h0": dh, "c0": dc})[wrt]

    return backward


def through_gru(wrt, slip):
    def backward(v, G):
        x, h, Wz, Wr, Wn = v.values()
        D, tape = x.shape[2], []
        for t in range(len(x)):
            both = torch.cat([x[t], h], 1)
            z, r = sigmoid(both @ Wz), sigmoid(both @ Wr)
            reset = torch.cat([x[t], r * h], 1)
            n = tanh(reset @ Wn)
            tape.append((both, h, z, r, n))
            h = (1 - z) * h + z * n
        dWz, dh = torch.zeros_like(Wz), G
        for both, h, z, r, n in reversed(tape):
            dz = dh * (h - n if slip == "sign of z" else n - h)
            dreset = (dh * z * (1 - n**2)) @ Wn.T
            before = dh * (1 - z) + dreset[:, D:] * (1 if slip == "no reset gate" else r)
            dgates = (dreset[:, D:] * h * r * (1 - r)) @ Wr.T
            dz = dz * z * (1 - z)
            dWz = dWz + both.T @ dz
            dgates = dgates + dz @ Wz.T
            dh = before + (0 if slip == "not through the gates" else dgates[:, D:])
        return {"Wz": dWz, "h": dh}[wrt]

    return backward


def through_rnn(wrt, slip):
    def backward(v, G):
        x, h, Wx, Wh, Wy = v.values()
        hidden = [h]
        for t in range(len(x)):
            hidden.append(tanh(x[t] @ Wx + hidden[-1] @ Wh))
        d = {name: torch.zeros_like(v[name]) for name in ("Wx", "Wh")}
        carried = 0
        for t in reversed(range(len(x))):
            out = G[t] @ Wy.T if slip != "last output only" or t == len(x) - 1 else 0
            dh = out + carried
            dz = dh * (1 - hidden[t + 1] ** 2)
            carried = (dh if slip == "no slope in what is carried" else dz) @ Wh.T
            d["Wx"] = d["Wx"] + x[t].T @ dz
            earlier = 0 if slip == "written over" else d["Wh"]
            d["Wh"] = earlier + hidden[t].T @ dz
        return d[wrt]

    return backward


def slope_of_the_last_alone(i, g):
    d = g * (1 - last_state(**i) ** 2)
    for _ in i["x"]:
        d = d @ i["Wh"].T
    return d


def offsets_written_over(i, g):
    dz = g * (1 - signal(**i) ** 2)
    dx, width = torch.zeros_like(i["x"]), dz.shape[2]
    for k in range(3):
        dx[:, :, k : k + width] = torch.einsum("nml,mc->ncl", dz, i["w"][:, :, k])
    return dx


def of_two_layers(i, g, through):
    H = tanh(i["X"] @ i["W1"])
    d = g * (H @ i["W2"] - i["Y"])
    return i["X"].T @ (d @ through(i, H, d).T * (1 - H**2))


def of_logits(i, scale=1):
    one_hot = F.one_hot(i["y"], i["W"].shape[1])
    return i["X"].T @ (torch.softmax(i["X"] @ i["W"], 1) - one_hot) * scale


def by_all_entries(i, g):
    hidden = torch.relu(i["X"] @ i["W1"])
    d = (torch.softmax(hidden @ i["W2"], 1) - F.one_hot(i["y"], 3)) / 30 * g
    return i["X"].T @ (d @ i["W2"].T * (hidden > 0))


def by_the_active(i, g):
    on = ((i["a"] - i["p"]) ** 2).sum(1) - ((i["a"] - i["n"]) ** 2).sum(1) + 1 > 0
    return g * 2 * (i["n"] - i["p"]) * on[:, None] / on.sum()


def without_the_half(i, g):
    inverse = torch.linalg.inv(i["K"] + i["noise"] * torch.eye(5, dtype=L.DTYPE))
    weights = inverse @ i["y"]
    return g * (inverse.trace() - weights @ weights)


def before_the_affine(i, g):
    dz = g * (1 - normed_tokens(**i) ** 2)
    plain = F.layer_norm(i["x"], (6,))
    return plain.reshape(-1, 6).T @ dz.reshape(-1, 5)


def heads_by_hand(i, g, k):
    P = torch.softmax(i["q"] @ i["k"].mT / 2, -1)
    dP = g @ i["v"].mT
    return P * (dP - (dP * P).sum(-1, keepdim=True)) @ k / 2


def new_mask(i, g):
    mask = torch.bernoulli(torch.full_like(i["mask"], 0.5)) * 2
    return i["X"].T @ (g @ i["W2"].T * mask * (i["X"] @ i["W1"] > 0))


# Label, forward, argument, the wrong backward, and labels that are as good.
WRONG = [
    ("missing_local_derivative", lstm, "Wh", through_lstm("Wh", "no slope of c")),
    ("missing_path", lstm, "Wx", through_lstm("Wx", "no carried c")),
    ("wrong_operand", lstm, "b", through_lstm("b", "c, not the one before")),
    ("wrong_operand", lstm, "h0", through_lstm("h0", "exchanged")),
    ("other_variant", lstm, "x", through_lstm("x", "slope of a sigmoid")),
    ("wrong_operand", lstm, "Wx", through_lstm("Wx", "another order")),
    ("missing_local_derivative", lstm, "c0", through_lstm("c0", "no forget gate")),
    ("sign_error", gru, "Wz", through_gru("Wz", "sign of z")),
    ("missing_local_derivative", gru, "h", through_gru("h", "no reset gate")),
    ("missing_path", gru, "h", through_gru("h", "not through the gates")),
    ("missing_path", rnn, "Wx", through_rnn("Wx", "last output only")),
    ("missing_local_derivative", rnn, "Wx", through_rnn("Wx", "no slope in what is carried")),
    ("overwrite_not_accumulate", rnn, "Wh", through_rnn("Wh", "written over")),
    ("missing_local_derivative", last_state, "h", slope_of_the_last_alone),
    ("missing_mask", hard, "x", lambda i, g: g / 6),
    ("missing_scale_factor", running_product, "x", lambda i, g: (
        g * i["x"].cumprod(1)).flip(1).cumsum(1).flip(1), "missing_local_derivative"),
    ("transposed_operand", running_product, "x", lambda i, g: (
        g * i["x"].cumprod(1)).cumsum(1) / i["x"]),
    ("missing_local_derivative", log_sum, "x", lambda i, g: g[:, None] * i["x"].exp()),
    ("missing_local_derivative", distances, "a", lambda i, g: (
        g[:, :, None] * (i["a"][:, None] - i["b"])).sum(1)),
    ("derivative_at_wrong_point", bce, "z", lambda i, g: g * (
        (1 - i["y"]) / (1 - i["z"]) - i["y"] / i["z"]) * (s := sigmoid(i["z"])) * (1 - s)),
    ("missing_target", positives, "u", lambda i, g: g * sigmoid((i["u"] * i["v"]).sum(1))[:, None] * i["v"] / 6),
    ("applied_twice", poisson, "w", lambda i, g: g * i["X"].T @ (
        ((lam := (i["X"] @ i["w"]).exp()) - i["n"]) * lam) / 7),
    ("missing_path", mirrored, "x", lambda i, g: 2 * i["x"] * g[..., 2:-2]),
    ("overwrite_not_accumulate", signal, "x", offsets_written_over),
    ("wrong_operand", two_layers, "W1", lambda i, g: of_two_layers(i, g, lambda i, H, d: H.T @ d)),
    ("wrong_operand", affine, "a", lambda i, g: 2 * affine(**i)),
    ("wrong_mean_count", triplet, "a", by_the_active),
    ("extra_mean", penalised, "W", lambda i, g: g * (of_logits(i) + 0.6 * i["W"]) / 10),
    ("wrong_mean_count", classifier, "W1", by_all_entries, "extra_mean"),
    ("missing_scale_factor", likelihood, "noise", without_the_half),
    ("missing_scale_factor", quantised, "x", lambda i, g: g * ((i["x"] / i["s"]).clamp(-4, 3) == i["x"] / i["s"]),
     "missing_local_derivative"),
    ("wrong_operand", normed_tokens, "W", before_the_affine),
    ("missing_local_derivative", absolute, "x", lambda i, g: g),
    ("transposed_operand", heads, "q", lambda i, g: heads_by_hand(i, g, i["k"].transpose(1, 2))),
    ("wrong_operand", gated, "gate", lambda i, g: g * sigmoid(i["gate"])),
    ("wrong_mask", dropped, "W1", new_mask),
]  # fmt: skip
