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
    ("double_counted", twice_tanh, "x", node_at_each_visit),
]  # fmt: skip
