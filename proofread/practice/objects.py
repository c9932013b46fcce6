"""Layers as classes: which forward they have, and how to get at each of their gradients.

Two kinds are read. A class with `__call__` and `backward` returns the gradient of its first
argument from `backward`, and leaves those of what `__init__` took on itself, as `dJ_d<name>`.
A `torch.autograd.Function` returns one gradient for each argument of its `forward`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from proofread.signatures import signature_of


class Misfit(TypeError):
    """A function that cannot be called with what there is; says what it does, without its name."""


def layers_of(module: ModuleType) -> Iterator[type]:
    """Yield the module's own classes that have a `backward`, in the order of the file."""
    for value in vars(module).values():
        if (
            inspect.isclass(value)
            and value.__module__ == module.__name__
            and callable(getattr(value, "backward", None))
        ):
            yield value


def is_function(layer: type) -> bool:
    return issubclass(layer, torch.autograd.Function)


def unfit(layer: type) -> str:
    """Say why no data can be drawn for a layer, or ''."""
    name = "forward" if is_function(layer) else "__call__"
    # Every class has a `__call__`, the one that makes its instances.
    own = [b for b in layer.__mro__[:-1] if b.__module__.partition(".")[0] != "torch"]
    if not any(name in vars(base) for base in own):
        return f"{layer.__name__} has a `backward`, and no `{name}`"
    made_of = () if is_function(layer) else _parameters(layer.__init__)
    for parameter in _parameters(getattr(layer, name)):
        if parameter.name in [p.name for p in made_of]:
            return f"{layer.__name__} takes {parameter.name} in `__init__` and in `__call__`"
    if any(hasattr(p.annotation, "dim_str") for p in _parameters(getattr(layer, name))):
        return ""
    return f"no argument of {layer.__name__}.{name} has its shape annotated"


def forward_of_layer(layer: type) -> Callable[..., Tensor]:
    """Return the layer's forward as one function of all the tensors it needs.

    They keep the names, the order and the annotated shapes they have in `__init__` and in
    `__call__` or `forward`.
    """
    if is_function(layer):
        return _without_context(layer.forward)

    made_of, called_with = _parameters(layer.__init__), _parameters(layer.__call__)

    def forward(**inputs: Tensor) -> Tensor:
        instance = layer(**{p.name: inputs[p.name] for p in made_of})
        return instance(**{p.name: inputs[p.name] for p in called_with})

    forward.__name__ = layer.__name__
    forward.__signature__ = inspect.Signature(
        [p.replace(kind=p.KEYWORD_ONLY) for p in [*called_with, *made_of]]
    )
    return forward


class _Context:
    """Takes what an old-style forward keeps for its backward, and forgets it."""

    def save_for_backward(self, *tensors: Tensor) -> None: ...


def _without_context(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    if "ctx" not in inspect.signature(forward).parameters:
        return forward

    def of_tensors(**inputs: Tensor) -> Tensor:
        return forward(_Context(), **inputs)

    of_tensors.__signature__ = inspect.Signature(_parameters(forward))
    return of_tensors


def gradients_of_layer(layer: type) -> Iterator[tuple[str, Callable[[dict, Tensor], Any]]]:
    """Yield each argument's name, and a function of (inputs, upstream) that gives its gradient."""
    if is_function(layer):
        for parameter in _parameters(layer.forward):
            yield parameter.name, _by_apply(layer, parameter.name)
        return
    made_of, called_with = _parameters(layer.__init__), _parameters(layer.__call__)
    for parameter in [called_with[0], *made_of]:
        yield parameter.name, _by_backward(layer, parameter.name, parameter is called_with[0])


def _by_apply(layer: type, wrt: str) -> Callable[[dict, Tensor], Any]:
    def gradient(inputs: dict[str, Tensor], upstream: Tensor) -> Any:
        # PyTorch asks for what needs a gradient, and a layer may leave out the rest.
        leaves = {
            name: v.detach().requires_grad_() if v.is_floating_point() else v
            for name, v in inputs.items()
        }
        with torch.enable_grad():
            output = layer.apply(*leaves.values())
        return torch.autograd.grad(output, leaves[wrt], upstream, allow_unused=True)[0]

    return gradient


def _by_backward(layer: type, wrt: str, returned: bool) -> Callable[[dict, Tensor], Any]:
    made_of, called_with = _parameters(layer.__init__), _parameters(layer.__call__)
    takes_upstream = bool(_parameters(layer.backward))

    def gradient(inputs: dict[str, Tensor], upstream: Tensor) -> Any:
        instance = layer(**{p.name: inputs[p.name] for p in made_of})
        instance(**{p.name: inputs[p.name] for p in called_with})
        result = instance.backward(*([upstream] if takes_upstream else []))
        if returned:
            return result
        if not hasattr(instance, f"dJ_d{wrt}"):
            raise Misfit(f"must leave the gradient with respect to {wrt} in self.dJ_d{wrt}")
        return getattr(instance, f"dJ_d{wrt}")

    return gradient


def _parameters(function: Callable) -> list[inspect.Parameter]:
    """Return what a function or method takes, but for `self` and the `ctx` of PyTorch."""
    if function is object.__init__:
        return []
    parameters = signature_of(function).parameters.values()
    return [p for p in parameters if p.name not in ("self", "ctx")]
