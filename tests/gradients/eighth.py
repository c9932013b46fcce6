"""An eighth table: functions with settings, those that torch runs as one, and values that move."""

import math

import torch
import torch.nn.functional as F

from tests.gradients import layers as L

normal, _ = L.draws(88)
ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805  # of SELU


def half_elu(z):
    return F.elu(z, alpha=0.5)


def selu(z):
    return F.selu(z)


def sharp_celu(z):
    return F.celu(z, alpha=0.5)


def sharp_softplus(z):
    return F.softplus(z, beta=3)


def narrow_smooth_l1(pred, target):
    return F.smooth_l1_loss(pred, target, beta=0.5)


def narrow_huber(pred, target):
    return F.huber_loss(pred, target, delta=0.5)


def usual_huber(pred, target):
    return F.huber_loss(pred, target, reduction="sum")


def torch_prelu(z, a):
    return F.prelu(z, a)


def torch_glu(z):
    return F.glu(z)


def mixed(a, b):
    return torch.lerp(a, b, 0.3)


def tangent(z):
    return torch.tan(z)


def cosh(z):
    return torch.cosh(z)


def sinh(z):
    return torch.sinh(z)


def power_of_two(z):
    return torch.exp2(z)


def complement(z):
    return torch.erfc(z)


def upsampled(x):
    return F.interpolate(x, scale_factor=2)


def running_sum(x):
    return x.cumsum(1)


def running_product(x):
    return x.cumprod(1)


def running_logarithm(x):
    return torch.logcumsumexp(x, 1)


def log_partition(z):
    return torch.logsumexp(z, 1)


def rolled(x):
    return torch.tanh(x.roll(1, 0))


def largest_of_window(x):
    return F.max_pool2d(x, 2)


def tempered(z):
    return torch.softmax(z / 0.5, 1)


def turned_halves(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def turned_keys(x, W, cos, sin):
    k = x @ W
    return torch.tanh(k * cos + half_turned(k) * sin)


def half_turned(k):
    a, b = k.chunk(2, -1)
    return torch.cat([-b, a], -1)


def turned_pairs(x, cos, sin):
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def elu_of_setting(z, alpha):
    return torch.where(z > 0, z, alpha * (torch.exp(z) - 1))


def approximate_gelu(z):
    return F.gelu(z, approximate="tanh")


def exact_gelu(z):
    return F.gelu(z)


def embedded_words(C, ids):
    return C[ids]


def scaled_first(x, gamma, beta):
    c = x - x.mean(-1, keepdim=True)
    return gamma * c / torch.sqrt((c**2).mean(-1, keepdim=True) + 1e-5) + beta


def image_norm(x, gamma):
    c = x - x.mean((0, 2, 3), keepdim=True)
    return gamma[None, :, None, None] * c / torch.sqrt((c**2).mean((0, 2, 3), keepdim=True) + 1e-5)


def mean_of_valid(x, mask):
    return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def mean_of_groups(x, groups):
    sums = torch.zeros(3, x.shape[1], dtype=x.dtype).index_add(0, groups, x)
    return sums / torch.bincount(groups, minlength=3)[:, None]


def recurrent(x, Wx, Wh):
    h, states = torch.zeros(x.shape[1], Wh.shape[0], dtype=x.dtype), []
    for step in x:
        h = torch.tanh(step @ Wx + h @ Wh)
        states.append(h)
    return torch.stack(states)


def last_state(x, Wx, Wh):
    return recurrent(x, Wx, Wh)[-1]


def gated(x, h, Wz, Uz, Wn, Un):
    for step in x:
        z = torch.sigmoid(step @ Wz + h @ Uz)
        n = torch.tanh(step @ Wn + h @ Un)
        h = (1 - z) * n + z * h
    return h


def attends_to_all(Q, K, V):
    return torch.softmax(Q @ K.T / 2, -1) @ V


def scaled_branch(x, branch, scale):
    return x + branch * scale[:, None]


def overlapping_pool(x):
    return F.max_pool2d(x, 3, stride=2, padding=1)


def decibels(x):
    return torch.log10(x)


def divergence(mu, log_var):
    return -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum()


def twice_tanh(x, a):
    h = torch.tanh(x * a)
    return x * h + x * x * a + x * h


OF_ONE_MATRIX = (
    half_elu,
    selu,
    sharp_celu,
    sharp_softplus,
    tangent,
    cosh,
    sinh,
    power_of_two,
    complement,
)
OF_TWO = (narrow_smooth_l1, narrow_huber, usual_huber)
ANGLES = normal(5, 2)
TURN = {"cos": torch.cos(ANGLES), "sin": torch.sin(ANGLES)}
L.DATA |= {
    running_sum: {"x": normal(4, 5)},
    running_product: {"x": normal(4, 5)},
    running_logarithm: {"x": normal(4, 5)},
    log_partition: {"z": normal(4, 5)},
    rolled: {"x": normal(4, 3)},
    largest_of_window: {"x": normal(2, 3, 4, 6)},
    tempered: {"z": normal(4, 5)},
    turned_halves: {"x": normal(5, 4), **TURN},
    turned_pairs: {"x": normal(5, 4), **TURN},
    turned_keys: {
        "x": normal(5, 3),
        "W": normal(3, 4),
        **{name: angle.repeat(1, 2) for name, angle in TURN.items()},
    },
    **{function: {"z": normal(5, 4)} for function in OF_ONE_MATRIX},
    **{function: {"pred": 2 * normal(4, 5), "target": normal(4, 5)} for function in OF_TWO},
    torch_prelu: {"z": normal(5, 4), "a": torch.tensor([0.3], dtype=L.DTYPE)},
    torch_glu: {"z": normal(5, 6)},
    mixed: {"a": normal(4, 3), "b": normal(4, 3)},
    upsampled: {"x": normal(2, 3, 3, 4)},
    elu_of_setting: {"z": normal(6, 5), "alpha": 1.3},
    **{function: {"z": normal(4, 5)} for function in (approximate_gelu, exact_gelu)},
    embedded_words: {"C": normal(5, 3), "ids": torch.tensor([[0, 1, 0], [1, 1, 4], [3, 0, 2]])},
    scaled_first: {"x": normal(5, 6), "gamma": normal(6), "beta": normal(6)},
    image_norm: {"x": normal(4, 3, 5, 2), "gamma": normal(3)},
    mean_of_valid: {
        "x": normal(3, 4, 2),
        "mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 1, 1]], dtype=L.DTYPE),
    },
    mean_of_groups: {"x": normal(6, 4), "groups": torch.tensor([0, 1, 2, 2, 2, 1])},
    recurrent: {"x": normal(5, 3, 4), "Wx": normal(4, 6), "Wh": 0.5 * normal(6, 6)},
    # As many rows as neurons: no shape tells a weight from a state.
    last_state: {"x": normal(4, 3, 2), "Wx": normal(2, 3), "Wh": normal(3, 3)},
    gated: {
        "x": normal(4, 3, 2),
        "h": normal(3, 4),
        "Wz": normal(2, 4),
        "Uz": normal(4, 4),
        "Wn": normal(2, 4),
        "Un": normal(4, 4),
    },
    attends_to_all: {name: normal(5, 4) for name in "QKV"},
    scaled_branch: {"x": normal(4, 3), "branch": normal(4, 3), "scale": normal(4)},
    overlapping_pool: {"x": normal(2, 2, 6, 5)},
    decibels: {"x": normal(6).abs() + 0.5},
    divergence: {"mu": normal(4, 3), "log_var": normal(4, 3)},
    twice_tanh: {"x": normal(9), "a": normal(9)},
}


def sides(above, below):
    """A derivative by the sign of z."""
    return lambda i, g: g * torch.where(i["z"] > 0, above, below(i["z"]))


def within(edge, inside, outside, mask=torch.abs, count=20):
    """A derivative by the size of the difference."""

    def backward(i, g):
        d = i["pred"] - i["target"]
        return g * torch.where(mask(d) < edge, inside(d), outside(d)) / count

    return backward


def gate_held(i, g):
    gate = i["z"].chunk(2, -1)[1]
    return torch.cat([g * torch.sigmoid(gate), torch.zeros_like(gate)], -1)


def gate_slope_lost(i, g):
    value, gate = i["z"].chunk(2, -1)
    return torch.cat([g * torch.sigmoid(gate), g * value], -1)


def turned_again(i, g):
    k = i["x"] @ i["W"]
    d = g * (1 - torch.tanh(k * i["cos"] + half_turned(k) * i["sin"]) ** 2)
    return i["x"].T @ (d * i["cos"] + half_turned(d) * i["sin"])


def tempered_from_plain(i, g):
    p = torch.softmax(i["z"], 1)
    return p * (g - (g * p).sum(1, keepdim=True)) / 0.5


def gelu_slope(inside, squared=True):
    """The derivative of GELU's approximation, with another one of what is inside of the tanh."""
    root = math.sqrt(2 / math.pi)

    def backward(i, g):
        z = i["z"]
        t = torch.tanh(root * (z + 0.044715 * z**3))
        outside = 1 - (t * t if squared else t)
        return g * ((1 + t) / 2 + z / 2 * outside * root * inside(z))

    return backward


def slice_by_slice(axis):
    """As dC[ids[k]] += g[k] does: what repeats in a slice is written over."""

    def backward(i, g):
        dC = torch.zeros_like(i["C"])
        for places, part in zip(i["ids"].unbind(axis), g.unbind(axis), strict=True):
            dC[places] += part
        return dC

    return backward


def over_the_batch_alone(i, g):
    c = i["x"] - i["x"].mean((0, 2, 3), keepdim=True)
    scale = torch.rsqrt((c**2).mean((0, 2, 3), keepdim=True) + 1e-5)
    xhat, d = c * scale, g * i["gamma"][None, :, None, None]
    return scale * (d - d.mean(0, keepdim=True) - xhat * (d * xhat).mean(0, keepdim=True))


def not_carried(i, g):
    states = recurrent(**i)
    before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
    dz = g * (1 - states**2)
    return torch.einsum("tnh,tnk->hk", before, dz)


def through_time(of_step, turned=True):
    """Backpropagation through time, with what each step adds, and Wh transposed or not."""

    def backward(i, g):
        states = [torch.zeros_like(g), *recurrent(**i)]
        found = 0
        for t in reversed(range(len(i["x"]))):
            dz = g * (1 - states[t + 1] ** 2)
            found = found + of_step(i["x"], states, t).T @ dz
            g = dz @ (i["Wh"].T if turned else i["Wh"])
        return found

    return backward


def gates_through_time(lost):
    """Backpropagation through a gated recurrence that leaves out one path from state to state."""

    def backward(i, g):
        states, dWz = [i["h"]], 0
        for step in i["x"]:
            z = torch.sigmoid(step @ i["Wz"] + states[-1] @ i["Uz"])
            n = torch.tanh(step @ i["Wn"] + states[-1] @ i["Un"])
            states.append((1 - z) * n + z * states[-1])
        for step, h in zip(reversed(i["x"]), states[-2::-1], strict=True):
            z = torch.sigmoid(step @ i["Wz"] + h @ i["Uz"])
            n = torch.tanh(step @ i["Wn"] + h @ i["Un"])
            da, dn = g * (h - n) * z * (1 - z), g * (1 - z) * (1 - n**2)
            dWz = dWz + step.T @ da
            ways = {"direct": g * z, "gate": da @ i["Uz"].T, "new": dn @ i["Un"].T}
            g = sum(way for name, way in ways.items() if name != lost)
        return dWz

    return backward


def causal(of):
    """The gradient by Q or V of an attention with a causal mask."""

    def backward(i, g):
        S = (i["Q"] @ i["K"].T / 2).masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf)
        P, dP = torch.softmax(S, -1), g @ i["V"].T
        dS = P * (dP - (P * dP).sum(-1, keepdim=True))
        return {"V": P.T @ g, "Q": dS @ i["K"] / 2}[of]

    return backward


def windows_written_over(i, g):
    x = F.pad(i["x"], (1, 1, 1, 1), value=-torch.inf)
    dx = torch.zeros_like(x)
    for r in range(g.shape[2]):
        for c in range(g.shape[3]):
            place = (..., slice(2 * r, 2 * r + 3), slice(2 * c, 2 * c + 3))
            largest = x[place] == x[place].amax((-2, -1), keepdim=True)
            dx[place] = largest * g[..., r : r + 1, c : c + 1]
    return dx[..., 1:-1, 1:-1]


def node_at_each_visit(i, g):
    x, a = i["x"], i["a"]
    h = torch.tanh(x * a)
    dx, dh = g * h, g * x
    dx = dx + dh * (1 - h**2) * a
    dx, dh = dx + g * h, dh + g * x
    return dx + dh * (1 - h**2) * a + g * 2 * x * a


ITSELF, POSITIVE = (lambda d: d), (lambda d: 0.5 * torch.ones_like(d))
WRONG = [
    ("missing_scale_factor", half_elu, "z", sides(1.0, torch.exp)),
    ("missing_local_derivative", half_elu, "z", sides(1.0, lambda z: 0.5 * torch.expm1(z))),
    ("missing_scale_factor", selu, "z", sides(1.0, lambda z: ALPHA * torch.exp(z)),
     "wrong_scale_factor"),
    ("missing_scale_factor", selu, "z", sides(SCALE, lambda z: SCALE * torch.exp(z))),
    ("wrong_mask", selu, "z", lambda i, g: g * SCALE * torch.where(
        i["z"] < 0, 1, ALPHA * torch.exp(i["z"]))),
    ("other_variant", selu, "z", sides(1.0, torch.exp)),
    ("missing_scale_factor", sharp_celu, "z", sides(1.0, torch.exp)),
    ("missing_scale_factor", sharp_celu, "z", sides(1.0, lambda z: 2 * torch.exp(2 * z))),
    ("missing_scale_factor", sharp_softplus, "z", lambda i, g: g * torch.sigmoid(i["z"])),
    ("missing_scale_factor", sharp_softplus, "z", lambda i, g: 3 * g * torch.sigmoid(3 * i["z"]),
     "wrong_scale_factor"),
    ("wrong_mask", narrow_smooth_l1, "pred", within(0.5, lambda d: d / 0.5, torch.sign, ITSELF)),
    ("wrong_mask", narrow_smooth_l1, "pred", within(1, lambda d: d / 0.5, torch.sign)),
    ("missing_scale_factor", narrow_smooth_l1, "pred", within(0.5, ITSELF, torch.sign)),
    ("other_variant", narrow_smooth_l1, "target", lambda i, g: -g * torch.sign(
        i["pred"] - i["target"]) / 20),
    ("wrong_mask", narrow_huber, "pred", within(0.5, ITSELF, lambda d: 0.5 * d.sign(), ITSELF)),
    ("wrong_mask", narrow_huber, "pred", within(
        -0.5, ITSELF, lambda d: 0.5 * d.sign(), lambda d: -d.abs())),
    ("missing_scale_factor", narrow_huber, "pred", within(0.5, ITSELF, torch.sign)),
    ("sign_error", narrow_huber, "pred", within(0.5, ITSELF, POSITIVE)),
    ("other_variant", narrow_huber, "pred", within(math.inf, ITSELF, ITSELF)),
    ("wrong_mask", usual_huber, "pred", within(1, ITSELF, torch.sign, ITSELF, 1)),
    ("wrong_mask", torch_prelu, "z", lambda i, g: g * torch.where(i["z"] < 0, 1, i["a"])),
    ("missing_local_derivative", torch_prelu, "z", lambda i, g: g),
    ("missing_mask", torch_prelu, "a", lambda i, g: (g * i["z"]).sum().reshape(1)),
    ("missing_path", torch_glu, "z", gate_held, "missing_product_term"),
    ("missing_local_derivative", torch_glu, "z", gate_slope_lost),
    ("missing_scale_factor", mixed, "b", lambda i, g: g),
    ("sign_error", mixed, "a", lambda i, g: 1.3 * g),
    ("wrong_power", tangent, "z", lambda i, g: g / torch.cos(i["z"])),
    ("sign_error", cosh, "z", lambda i, g: -g * torch.sinh(i["z"])),
    ("missing_local_derivative", sinh, "z", lambda i, g: g * torch.sinh(i["z"])),
    ("missing_scale_factor", power_of_two, "z", lambda i, g: g * torch.exp2(i["z"]),
     "wrong_scale_factor"),
    ("sign_error", complement, "z", lambda i, g: (
        2 / math.sqrt(math.pi) * g * torch.exp(-i["z"] ** 2))),
    ("overwrite_not_accumulate", upsampled, "x", lambda i, g: g[..., ::2, ::2]),
    ("extra_mean", upsampled, "x", lambda i, g: F.avg_pool2d(g, 2)),
    ("transposed_operand", running_sum, "x", lambda i, g: g.cumsum(1)),
    ("wrong_axis", running_sum, "x", lambda i, g: g.flip(0).cumsum(0).flip(0)),
    ("missing_cross_terms", running_sum, "x", lambda i, g: g.sum(1, keepdim=True).expand(4, 5)),
    ("wrong_axis", log_partition, "z", lambda i, g: g[:, None] * i["z"].softmax(0)),
    ("transposed_operand", rolled, "x", lambda i, g: (
        g * (1 - torch.tanh(i["x"].roll(1, 0)) ** 2)).roll(1, 0)),
    ("other_variant", largest_of_window, "x", lambda i, g: F.interpolate(g / 4, scale_factor=2)),
    ("derivative_at_wrong_point", tempered, "z", tempered_from_plain),
    ("transposed_operand", turned_halves, "x", lambda i, g: turned_halves(g, i["cos"], i["sin"])),
    ("transposed_operand", turned_pairs, "x", lambda i, g: turned_pairs(g, i["cos"], i["sin"])),
    ("transposed_operand", turned_keys, "W", turned_again),
    ("derivative_at_wrong_point", elu_of_setting, "z", lambda i, g: g * torch.where(
        i["z"] > 0, 1, i["z"] + i["alpha"])),
    ("missing_scale_factor", approximate_gelu, "z", gelu_slope(lambda z: 1 + 0.044715 * z**2)),
    ("missing_local_derivative", approximate_gelu, "z", gelu_slope(
        lambda z: math.sqrt(math.pi / 2))),
    ("missing_product_term", approximate_gelu, "z", gelu_slope(lambda z: 1)),
    ("wrong_power", approximate_gelu, "z", gelu_slope(lambda z: 1 + 3 * 0.044715 * z**2, False)),
    ("missing_scale_factor", exact_gelu, "z", lambda i, g: g * (
        (1 + torch.erf(i["z"] / math.sqrt(2))) / 2 + i["z"] * torch.exp(-i["z"] ** 2 / 2))),
    ("overwrite_not_accumulate", embedded_words, "C", slice_by_slice(0)),
    ("overwrite_not_accumulate", embedded_words, "C", slice_by_slice(1)),
    ("wrong_operand", scaled_first, "gamma", lambda i, g: (g * i["x"]).sum(0)),
    ("wrong_axis", image_norm, "x", over_the_batch_alone),
    ("wrong_mean_count", mean_of_valid, "x", lambda i, g: g[:, None] * i["mask"][..., None] / 4),
    ("missing_mean", mean_of_valid, "x", lambda i, g: g[:, None] * i["mask"][..., None]),
    ("missing_mean", mean_of_groups, "x", lambda i, g: g[i["groups"]]),
    ("missing_path", recurrent, "Wh", not_carried),
    ("transposed_operand", last_state, "Wx", through_time(lambda x, h, t: x[t], turned=False)),
    ("wrong_operand", last_state, "Wh", through_time(lambda x, h, t: h[t + 1])),
    *[("missing_path", gated, "Wz", gates_through_time(lost), "missing_product_term")
      for lost in ("direct", "gate", "new")],
    ("wrong_mask", attends_to_all, "V", causal("V")),
    ("wrong_mask", attends_to_all, "Q", causal("Q")),
    ("missing_scale_factor", scaled_branch, "branch", lambda i, g: g),
    ("overwrite_not_accumulate", overlapping_pool, "x", windows_written_over),
    ("other_variant", decibels, "x", lambda i, g: g / i["x"]),
    ("missing_scale_factor", divergence, "log_var", lambda i, g: g * (i["log_var"].exp() - 1)),
    ("double_counted", twice_tanh, "x", node_at_each_visit),
]  # fmt: skip
