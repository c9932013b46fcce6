"""One gradient of a module: which forward it belongs to, and how it is called."""

from __future__ import annotations

import inspect
import io
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from proofread.practice.objects import Misfit
from proofread.signatures import SIZES, shape_of, signature_of


@dataclass(frozen=True)
class Exercise:
    """A function to check: which forward, by which argument, and how to call it.

    `caller` makes such a `call` of another function in its place; `outputs` are the names of the
    forward's. A method has neither.
    """

    name: str
    wrt: str
    forward: Callable
    call: Callable[[dict[str, Tensor], Tensor], Any]
    function: Callable
    caller: Callable[[Callable], Callable] | None = None
    outputs: tuple[str, ...] = ()

    @classmethod
    def of_function(
        cls,
        name: str,
        wrt: str,
        forward: Callable,
        function: Callable,
        outputs: list[str],
        place: tuple[int, int] | None = None,
    ) -> Exercise:
        """Make one of a function; `place` is k, n for the k-th of n gradients that it returns."""
        caller = partial(calling, forward=forward, names=outputs, place=place)
        return cls(name, wrt, forward, caller(function), function, caller, tuple(outputs))

    @property
    def axes(self) -> list[str]:
        """The names of the axes of what the forward takes."""
        axes = dict.fromkeys(
            name
            for parameter in signature_of(self.forward).parameters.values()
            for name in getattr(parameter.annotation, "dim_str", "").split()
            if name in SIZES
        )
        return list(axes)

    @property
    def file(self) -> str:
        return inspect.unwrap(self.function).__code__.co_filename


def calling(
    function: Callable, forward: Callable, names: list[str], place: tuple[int, int] | None = None
) -> Callable:
    """Return a function of (inputs, upstream) that calls the user's by the names it takes.

    `names` are those of the forward's outputs.
    """
    parameters = signature_of(function).parameters

    def call(inputs: dict[str, Tensor], upstream: Tensor) -> Any:
        offered = dict(inputs)
        for parameter in parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise Misfit(f"takes {parameter}: give each of its arguments a name")
        wanted = [n for n, p in parameters.items() if p.default is p.empty or n in inputs]
        missing = [n for n in wanted if n not in offered and not n.startswith("dJ_d")]
        if missing:
            outputs = forward(**inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            offered |= dict(zip(names, outputs, strict=False))
            missing = [n for n in missing if n not in offered]
            # Of several outputs, those without a name of their own go by their order.
            spare = [v for n, v in itertools.zip_longest(names, outputs, fillvalue="") if not n]
            if missing and len(missing) > len(spare) * (len(outputs) > 1):
                raise Misfit(_unknown(missing[0], wanted, [*inputs, *names], outputs[-1]))
            offered |= dict(zip(missing, spare, strict=False))
        offered |= {n: upstream for n in wanted if n.startswith("dJ_d")}
        given = {n: offered[n] for n in wanted}
        # Whether inputs and upstream stay as they are is for the diagnosis to say.
        mine = [n for n in wanted if n not in inputs and not n.startswith("dJ_d")]
        before = {n: given[n].clone() for n in mine if isinstance(given[n], Tensor)}
        result = function(**given)
        for n, value in before.items():
            if not torch.equal(given[n].nan_to_num(), value.nan_to_num()):
                raise Misfit(f"changes {n} in place: work on a copy, such as {n}.clone()")
        if place is None or result is None:
            return result
        position, count = place
        if isinstance(result, list):
            raise Misfit("returns a list; return a tuple")
        if not isinstance(result, tuple) or len(result) <= position:
            raise Misfit(f"must return a tuple of {count} gradients")
        return result[position]

    return call


def _unknown(name: str, wanted: list[str], known: list[str], output: Tensor) -> str:
    """Say that a function takes a name that nothing has, and which name is meant."""
    upstream = [f"dJ_d{known[-1] or '<output>'}"] if output.numel() > 1 else []
    known = [n for n in known if n]
    said = f"takes {name!r}, which is no argument of the forward and no output of it"
    alike = [n for n in known if n.lower() == name.lower()]
    if alike:
        said += f": did you mean {alike[0]}?"
    elif name in SIZES:
        said += ": take a size from a tensor's shape."
    elif upstream and not any(n.startswith("dJ_d") for n in wanted):
        said += f": call the upstream gradient {upstream[0]}."
    else:
        said += "."
    return f"{said} Known here: {', '.join(known + upstream)}"


@contextmanager
def unheard() -> Iterator[None]:
    """Run a reader's code again without its prints and warnings, and past its breakpoints."""
    hook, sys.breakpointhook = sys.breakpointhook, lambda *args, **kwargs: None
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        sys.breakpointhook = hook


def taken(function: Callable) -> str:
    """Say what a function takes, with the shapes of the data it is called with."""
    parts = []
    for name, parameter in signature_of(function).parameters.items():
        if name in ("self", "ctx"):
            continue
        dimensions = getattr(parameter.annotation, "dim_str", None)
        if dimensions is None:
            parts.append(name)
            continue
        try:
            parts.append(f"{name} {axes_said(dimensions)}, here {_size(parameter)}")
        except (TypeError, ValueError):
            parts.append(f"{name} {axes_said(dimensions)}")
    return "; ".join(parts) or "nothing"


def axes_said(dimensions: str) -> str:
    """Write axes as a tuple of Python: (N, D), or (M,).

    >>> axes_said("N D"), axes_said("M"), axes_said("")
    ('(N, D)', '(M,)', '()')
    """
    names = dimensions.split()
    return f"({', '.join(names)}{',' * (len(names) == 1)})"


def _size(parameter: inspect.Parameter) -> str:
    return str(tuple(shape_of(parameter.annotation, SIZES)))
