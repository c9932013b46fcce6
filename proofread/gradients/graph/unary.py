"""Functions of one variable: their derivative, in the forms that people write it in.

A derivative can be written in terms of the input z or, for some functions, of the output y.
Fed the other one, it is the derivative at a wrong point. Where it is a sum by the product
rule, `terms` are the summands. `relatives` are functions that are mistaken for this one, `slips`
other wrong derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from proofread.gradients.graph.naming import spelled

Function = Callable[[Tensor], Tensor]
_ROOT = math.sqrt(2 / math.pi)


class Slip(NamedTuple):
    """A wrong derivative: its label, what is wrong, and the derivative itself, of the input.

    In `what`, {site} is the function with its argument.
    """

    label: str
    what: str
    from_input: Function


@dataclass(frozen=True)
class Unary:
    function: Function
    from_input: Function
    from_output: Function | None = None
    terms: tuple[Function, ...] = ()
    relatives: tuple[str, ...] = ()
    wrong_powers: tuple[Function, ...] = ()
    unscaled: Function | None = None
    slips: tuple[Slip, ...] = ()


def _phi(z: Tensor) -> Tensor:
    return torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _cdf(z: Tensor) -> Tensor:
    return (1 + torch.erf(z / math.sqrt(2))) / 2


def _tanh_argument(z: Tensor) -> Tensor:
    return torch.tanh(_ROOT * (z + 0.044715 * z**3))


def _gelu_tanh_slope(z: Tensor) -> Tensor:
    t = _tanh_argument(z)
    return z / 2 * (1 - t * t) * _ROOT * (1 + 3 * 0.044715 * z * z)


def _inner_slope(of_inside: Function) -> Function:
    """The derivative of GELU's tanh approximation with another derivative inside of the tanh."""

    def slope(z: Tensor) -> Tensor:
        t = _tanh_argument(z)
        return (1 + t) / 2 + z / 2 * (1 - t * t) * _ROOT * of_inside(z)

    return slope


_WRONG_SIDE = Slip(
    "sign_error",
    "the sigmoid in the derivative of {site} is given the wrong sign",
    lambda z: torch.sigmoid(-z),
)


def _sigmoid_slope(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1 - s)


def _quick(z: Tensor) -> Tensor:
    return torch.sigmoid(1.702 * z)


def _mish_slope(z: Tensor) -> Tensor:
    t = torch.tanh(F.softplus(z))
    return z * (1 - t * t) * torch.sigmoid(z)


UNARY: dict[str, Unary] = {
    "relu": Unary(
        torch.relu,
        lambda z: (z > 0).to(z),
        lambda y: (y > 0).to(y),
        relatives=("leaky_relu", "silu", "gelu", "relu6", "elu"),
    ),
    "sigmoid": Unary(
        torch.sigmoid,
        _sigmoid_slope,
        lambda y: y * (1 - y),
        relatives=("tanh", "hardsigmoid", "logsigmoid", "silu"),
    ),
    "tanh": Unary(
        torch.tanh,
        lambda z: 1 - torch.tanh(z) ** 2,
        lambda y: 1 - y * y,
        relatives=("sigmoid", "hardtanh"),
    ),
    "exp": Unary(torch.exp, torch.exp, lambda y: y, relatives=("expm1",)),
    "expm1": Unary(torch.expm1, torch.exp, lambda y: y + 1),
    "log": Unary(
        torch.log,
        lambda z: 1 / z,
        lambda y: torch.exp(-y),
        relatives=("log2", "log1p", "log10"),
        wrong_powers=(lambda z: z, lambda z: 1 / (z * z)),
    ),
    "log2": Unary(torch.log2, lambda z: 1 / (z * math.log(2)), relatives=("log", "log10")),
    "log10": Unary(torch.log10, lambda z: 1 / (z * math.log(10)), relatives=("log", "log2")),
    "log1p": Unary(torch.log1p, lambda z: 1 / (1 + z), lambda y: torch.exp(-y), relatives=("log",)),
    "sqrt": Unary(
        torch.sqrt,
        lambda z: 0.5 * z**-0.5,
        lambda y: 0.5 / y,
        wrong_powers=(lambda z: 0.5 * z**0.5, lambda z: 0.5 / z, lambda z: 0.5 * z**-1.5),
        unscaled=lambda z: z**-0.5,
    ),
    "rsqrt": Unary(
        torch.rsqrt,
        lambda z: -0.5 * z**-1.5,
        lambda y: -0.5 * y**3,
        wrong_powers=(
            lambda z: -0.5 * z**-0.5,
            lambda z: -0.5 / z,
            lambda z: -0.5 * z**-2,
            lambda z: -0.5 * z**-2.5,
        ),
        unscaled=lambda z: -(z**-1.5),
    ),
    "reciprocal": Unary(
        torch.reciprocal,
        lambda z: -1 / (z * z),
        lambda y: -y * y,
        wrong_powers=(lambda z: -1 / z, lambda z: -1 / z**3, lambda z: -1 / z**4),
    ),
    "silu": Unary(
        F.silu,
        lambda z: torch.sigmoid(z) + z * _sigmoid_slope(z),
        terms=(torch.sigmoid, lambda z: z * _sigmoid_slope(z)),
        relatives=("quick_gelu", "gelu", "sigmoid", "hardswish", "gelu_tanh", "relu"),
    ),
    "quick_gelu": Unary(
        lambda z: z * _quick(z),
        lambda z: _quick(z) + 1.702 * z * _quick(z) * (1 - _quick(z)),
        terms=(_quick, lambda z: 1.702 * z * _quick(z) * (1 - _quick(z))),
        relatives=("silu", "gelu", "gelu_tanh"),
    ),
    "gelu": Unary(
        F.gelu,
        lambda z: _cdf(z) + z * _phi(z),
        terms=(_cdf, lambda z: z * _phi(z)),
        relatives=("gelu_tanh", "quick_gelu", "silu", "relu"),
        slips=(
            Slip(
                "missing_scale_factor",
                "the factor 1 / sqrt(2 pi) of the normal density is left out of {site}'s derivative",
                lambda z: _cdf(z) + z * torch.exp(-z * z / 2),
            ),
            Slip(
                "missing_scale_factor",
                "the factor 1/2 in the exponent of the normal density is left out of {site}'s "
                "derivative",
                lambda z: _cdf(z) + z * torch.exp(-z * z) / math.sqrt(2 * math.pi),
            ),
        ),
    ),
    "gelu_tanh": Unary(
        lambda z: F.gelu(z, approximate="tanh"),
        lambda z: (1 + _tanh_argument(z)) / 2 + _gelu_tanh_slope(z),
        terms=(lambda z: (1 + _tanh_argument(z)) / 2, _gelu_tanh_slope),
        relatives=("gelu", "quick_gelu", "silu", "relu"),
        slips=(
            Slip(
                "missing_scale_factor",
                "the factor 3 of the derivative of x³ is left out inside of {site}",
                _inner_slope(lambda z: 1 + 0.044715 * z * z),
            ),
            Slip(
                "missing_local_derivative",
                "the derivative of what the tanh of {site} is taken of is left out",
                _inner_slope(lambda z: torch.full_like(z, 1 / _ROOT)),
            ),
            Slip(
                "missing_product_term",
                "the derivative of x³ is left out inside of {site}",
                _inner_slope(torch.ones_like),
            ),
            Slip(
                "missing_scale_factor",
                "the factor sqrt(2/pi) is left out of the derivative inside of {site}",
                _inner_slope(lambda z: (1 + 3 * 0.044715 * z * z) / _ROOT),
            ),
            Slip(
                "wrong_power",
                "the tanh of {site} is not squared in 1 - tanh²",
                lambda z: (
                    (1 + _tanh_argument(z)) / 2
                    + z / 2 * (1 - _tanh_argument(z)) * _ROOT * (1 + 3 * 0.044715 * z * z)
                ),
            ),
        ),
    ),
    "mish": Unary(
        F.mish,
        lambda z: torch.tanh(F.softplus(z)) + _mish_slope(z),
        terms=(lambda z: torch.tanh(F.softplus(z)), _mish_slope),
        relatives=("silu", "gelu"),
    ),
    "softplus": Unary(
        F.softplus,
        torch.sigmoid,
        lambda y: 1 - torch.exp(-y),
        relatives=("relu", "logsigmoid"),
        slips=(_WRONG_SIDE,),
    ),
    "logsigmoid": Unary(
        F.logsigmoid,
        lambda z: torch.sigmoid(-z),
        lambda y: 1 - torch.exp(y),
        relatives=("sigmoid", "softplus"),
        slips=(
            _WRONG_SIDE._replace(from_input=torch.sigmoid),
            Slip(
                "missing_local_derivative",
                "the derivative of the sigmoid inside of {site} is left out: only that of log is there",
                lambda z: 1 / torch.sigmoid(z),
            ),
            Slip(
                "missing_target",
                "the target 1 is not there: the derivative of {site} is 1 - sigmoid, not -sigmoid",
                lambda z: -torch.sigmoid(z),
            ),
        ),
    ),
    "elu": Unary(
        F.elu,
        lambda z: torch.where(z > 0, torch.ones_like(z), torch.exp(z)),
        lambda y: torch.where(y > 0, torch.ones_like(y), y + 1),
        relatives=("relu", "selu", "leaky_relu"),
    ),
    "selu": Unary(
        F.selu,
        lambda z: (
            1.0507009873554805
            * torch.where(z > 0, torch.ones_like(z), 1.6732632423543772 * torch.exp(z))
        ),
        relatives=("elu",),
    ),
    "leaky_relu": Unary(
        F.leaky_relu,
        lambda z: torch.where(z > 0, 1.0, 0.01).to(z),
        relatives=("relu", "elu"),
    ),
    "relu6": Unary(F.relu6, lambda z: ((z > 0) & (z < 6)).to(z), relatives=("relu",)),
    "hardtanh": Unary(F.hardtanh, lambda z: (z.abs() < 1).to(z), relatives=("tanh", "relu")),
    "hardsigmoid": Unary(F.hardsigmoid, lambda z: (z.abs() < 3).to(z) / 6, relatives=("sigmoid",)),
    "hardswish": Unary(
        F.hardswish,
        lambda z: torch.where(z.abs() < 3, z / 3 + 0.5, (z > 0).to(z)),
        relatives=("silu", "relu6"),
    ),
    "abs": Unary(torch.abs, torch.sign, relatives=("half_square",)),
    "half_square": Unary(lambda z: z * z / 2, lambda z: z),
    "sin": Unary(torch.sin, torch.cos),
    "cos": Unary(torch.cos, lambda z: -torch.sin(z)),
    "erf": Unary(torch.erf, lambda z: 2 / math.sqrt(math.pi) * torch.exp(-z * z)),
    "atan": Unary(torch.atan, lambda z: 1 / (1 + z * z), relatives=("tan", "tanh")),
    "asin": Unary(torch.asin, lambda z: (1 - z * z) ** -0.5, relatives=("acos",)),
    "acos": Unary(torch.acos, lambda z: -((1 - z * z) ** -0.5), relatives=("asin",)),
    "tan": Unary(
        torch.tan,
        lambda z: 1 + torch.tan(z) ** 2,
        lambda y: 1 + y * y,
        relatives=("tanh",),
        wrong_powers=(lambda z: 1 / torch.cos(z),),
    ),
    "sinh": Unary(torch.sinh, torch.cosh),
    "cosh": Unary(torch.cosh, torch.sinh),
    "asinh": Unary(torch.asinh, lambda z: (z * z + 1) ** -0.5, relatives=("acosh",)),
    "acosh": Unary(torch.acosh, lambda z: (z * z - 1) ** -0.5, relatives=("asinh",)),
    "atanh": Unary(torch.atanh, lambda z: 1 / (1 - z * z), relatives=("atan",)),
    "exp2": Unary(
        torch.exp2, lambda z: math.log(2) * torch.exp2(z), unscaled=torch.exp2, relatives=("exp",)
    ),
    "erfc": Unary(
        torch.erfc, lambda z: -2 / math.sqrt(math.pi) * torch.exp(-z * z), relatives=("erf",)
    ),
}


# Functions that share a name.
VARIANTS = {
    "gelu": "the exact GELU",
    "gelu_tanh": "GELU's tanh approximation",
    "quick_gelu": "GELU's sigmoid approximation",
    "half_square": "half the square",
}


def mistaken(relative: str, name: str) -> str:
    """Say which of two functions is differentiated for the other."""
    a, b = (VARIANTS.get(n, spelled(n)) for n in (relative, name))
    if a == b:
        return f"this is the derivative of {a} with its usual setting, and the forward has another"
    return f"this is the derivative of {a}, and the forward has {b}"


def leaky(slope: float) -> Unary:
    """Leaky ReLU with another slope than the usual one."""
    return Unary(
        lambda z: torch.where(z > 0, z, slope * z),
        lambda z: torch.where(z > 0, 1.0, slope).to(z),
        relatives=("relu", "elu"),
    )


# Functions that tell values apart well enough to recognise a forward written by hand.
RECOGNISABLE = (
    "sigmoid",
    "tanh",
    "silu",
    "gelu",
    "gelu_tanh",
    "quick_gelu",
    "mish",
    "softplus",
    "logsigmoid",
    "elu",
    "relu",
    "leaky_relu",
)
