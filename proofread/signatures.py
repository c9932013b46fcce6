"""Read a module's forward and gradient functions by their signatures, and draw data for them.

A module's forward is the function named like the module, or `forward`. Its gradients are
the functions `grad_<argument>` and `grad_<argument>_<form>`. Shapes are annotations in the
manner of jaxtyping, such as `Float[Tensor, "N D"]`.
"""

from __future__ import annotations

import inspect
import linecache
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

# Distinct and above 2, so that no wrong axis, lost transpose or factor of 2 can hide.
SIZES = {"N": 5, "D": 3, "M": 4, "C": 6, "T": 7, "H": 8, "h": 9, "V": 10}


@dataclass(frozen=True)
class Gradient:
    """One function `grad_<wrt>`; `upstream` is its `dJ_d<Output>` argument, or None."""

    function: Callable[..., Tensor]
    wrt: str
    upstream: str | None

    @property
    def name(self) -> str:
        return self.function.__name__


def brief(error: BaseException) -> str:
    """Return the kind of an exception and the first line of what it says.

    >>> brief(ValueError("no such axis\\nsee above")), brief(SystemExit())
    ('ValueError: no such axis', 'SystemExit')
    """
    first = [] if error.args == (None,) else str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__


def line_of(error: BaseException, file: str) -> str:
    """Return the last line of a file on the way to an exception, as in "line 5, `x = y`", or ''."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if not frames:
        return ""
    linecache.checkcache(file)
    text = linecache.getline(file, frames[-1].lineno or 0).strip()
    return f"line {frames[-1].lineno}" + (f", `{text}`" if text else "")


def raised_in(error: BaseException, file: str) -> bool:
    """Tell whether a file raises an exception itself, by no call of another's code."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename == file


def signature_of(function: Callable) -> inspect.Signature:
    """Return a signature with its annotations evaluated; TypeError where that raises anything."""
    try:
        return inspect.signature(function, eval_str=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an annotation may be any code
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"the signature of {name} cannot be read: {brief(error)}") from None


def forward_of(module: ModuleType) -> Callable:
    """Return the module's forward; LookupError where it has none."""
    layer = module.__name__.rpartition(".")[2]
    for name in (layer, "forward"):
        if callable(function := getattr(module, name, None)):
            return function
    raise LookupError(f"{module.__name__} has no function named {layer!r} or 'forward'")


def gradients_of(module: ModuleType) -> list[Gradient]:
    """Return every `grad_*` function of the module, in the order of the file.

    Raises ValueError where a name after `grad_` starts with no argument of the forward.
    """
    arguments = list(signature_of(forward_of(module)).parameters)
    found = []
    for name, function in vars(module).items():
        if not name.startswith("grad_") or not inspect.isfunction(function):
            continue
        # The longest match: with arguments `x` and `x_hat`, grad_x_hat is of x_hat.
        matching = [a for a in arguments if re.match(rf"grad_{re.escape(a)}(_|$)", name)]
        if not matching:
            raise ValueError(f"{name}: the forward has no such argument, only {arguments}")
        upstreams = [p for p in inspect.signature(function).parameters if p.startswith("dJ_d")]
        if len(upstreams) > 1:
            raise ValueError(f"{name} takes {upstreams}: one upstream gradient is needed")
        found.append(Gradient(function, max(matching, key=len), (upstreams or [None])[0]))
    return found


def shape_of(annotation, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape that an annotation such as `Float[Tensor, "N D"]` asks for."""
    dimensions = getattr(annotation, "dim_str", None)
    if dimensions is None:
        raise TypeError(f'needs an annotation such as Float[Tensor, "N D"], got {annotation!r}')
    try:
        return tuple(int(d) if d.isdigit() else sizes[d] for d in dimensions.split())
    except KeyError as unknown:
        raise ValueError(
            f'no size for axis {unknown} of "{dimensions}": known are {dict(sizes)}'
        ) from None


def draw(
    function: Callable,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """Draw a normal tensor for each argument, each axis name with a size of its own.

    `sizes` replaces some of the default sizes, such as {"N": 1}. An axis name without a
    default raises ValueError; an argument without a shape raises TypeError.
    """
    sizes = SIZES | dict(sizes or {})
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, parameter in signature_of(function).parameters.items():
        try:
            shape = shape_of(parameter.annotation, sizes)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{function.__name__}, argument {name}: {error}") from None
        # Drawn in float64 and rounded, so that every dtype sees the same data.
        drawn[name] = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return drawn


def output(forward: Callable, arguments: Mapping[str, Tensor]) -> Tensor:
    """Run the forward; of several outputs the last counts, as J does in (Z, A, J)."""
    result = forward(**arguments)
    return result[-1] if isinstance(result, tuple) else result


def by_hand(
    gradient: Gradient,
    forward: Callable,
    arguments: Mapping[str, Tensor],
    upstream: Tensor,
) -> Tensor:
    """Call the gradient function with what its signature asks for of arguments and upstream."""
    offered = dict(arguments)
    if gradient.upstream:
        offered[gradient.upstream] = upstream
    wanted = inspect.signature(gradient.function).parameters
    missing = [name for name in wanted if name not in offered]
    if missing:
        raise ValueError(f"{gradient.name} takes {missing}, which the forward does not have")
    result = gradient.function(**{name: offered[name] for name in wanted})
    return result if gradient.upstream else upstream * result


def by_autograd(
    wrt: str, forward: Callable, arguments: Mapping[str, Tensor], upstream: Tensor
) -> Tensor:
    """Return autograd's gradient of the forward by its argument `wrt`."""
    leaf = arguments[wrt].detach().clone().requires_grad_()
    result = output(forward, {**arguments, wrt: leaf})
    return torch.autograd.grad(result, leaf, upstream)[0]


def compare(
    gradient: Gradient,
    forward: Callable,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Return the gradient by hand and by autograd, on one draw with a random signed upstream."""
    arguments = draw(forward, sizes, seed, dtype)
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    shape = output(forward, arguments).shape
    upstream = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return (
        by_hand(gradient, forward, arguments, upstream),
        by_autograd(gradient.wrt, forward, arguments, upstream),
    )


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference over the largest expected value; inf where shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return ((actual - expected).abs().max() / scale).item()
