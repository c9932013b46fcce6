"""What a function costs, as formulas in the names of its axes: found by running it.

The function runs once on meta tensors, which have shapes and no memory, while each operation is
watched. Every axis gets a prime as its size, so that a product of sizes tells which axes were
multiplied: at N = 1009, D = 1013 and M = 1019, a count of 1022117 can only be ND.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from proofread.signatures import shape_of

PRIMES = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049)
# A matrix product multiplies each entry of the result as often as its inner axis is long.
PRODUCTS = {"mm", "bmm", "mv", "dot", "addmm"}
# One multiplication, or one division, for each entry of the result.
EACH = {"mul", "div", "mean"}
NONE = {
    *("add", "sub", "neg", "sum", "relu", "gt", "ge", "lt", "le"),
    *("clone", "_to_copy", "_unsafe_view", "squeeze_", "zeros_like", "new_ones"),
}


class Formula(Counter):
    """A sum of products of axes: {("N", "D"): 4} is 4ND, and {(): 1} is 1."""

    @classmethod
    def of(cls, number: int, axes: Mapping[str, int]) -> "Formula":
        """Factor a number into axes; ValueError where more is left than a small number."""
        if number == 0:
            return cls()
        rest, names = number, []
        for name, size in axes.items():
            while rest % size == 0:
                rest //= size
                names.append(name)
        if rest >= min(axes.values(), default=rest + 1):
            raise ValueError(f"{number} is no small multiple of a product of {dict(axes)}")
        return cls({tuple(names): rest})

    def __add__(self, other: "Formula") -> "Formula":
        return Formula(super().__add__(other))

    def at(self, sizes: Mapping[str, int]) -> int:
        return sum(factor * prod(sizes[n] for n in names) for names, factor in self.items())

    def __str__(self) -> str:
        """Return `4*N*D + 1`, the longest product first."""
        terms = sorted(self.items(), key=lambda term: (-len(term[0]), term[0]))
        return " + ".join("*".join([str(factor), *names]) for names, factor in terms) or "0"


@dataclass(frozen=True)
class Cost:
    """What one call needs: multiplications (a division counts as one), bytes of new tensors."""

    multiplications: Formula
    bytes: Formula


class Watch(TorchDispatchMode):
    """Count the multiplications of every operation, and the bytes of the tensors it makes."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self.operations = 0
        self.unknown = ""
        self.multiplications: list[int] = []
        self.bytes: list[int] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.operations += 1
        if self.operations >= min(PRIMES):
            raise ValueError(f"{self.name} repeats an operation in a loop, once for each row")
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not operation.is_view:
            count = multiplications(name, args, inputs, result)
            if count is None:
                self.unknown = self.unknown or f"{name}{args[1:]}"
            else:
                self.multiplications.append(count)
        # A view has the storage of what it is a view of.
        known = {tensor.untyped_storage()._cdata for tensor in inputs}
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage()._cdata not in known:
                self.bytes.append(made.untyped_storage().nbytes())
        return result


def multiplications(name: str, args: tuple, inputs: list[Tensor], result: Tensor) -> int | None:
    """Return the multiplications of one operation, None for one that is not known here."""
    if name in PRODUCTS:
        return result.numel() * inputs[-1].shape[-2 if inputs[-1].ndim > 1 else -1]
    if name in EACH or (name == "pow" and args[1] == 2):
        return result.numel()
    if name in NONE:
        return 0
    return None


def arguments_of(
    function: Callable, sizes: Mapping[str, int], device: str = "meta"
) -> dict[str, Tensor]:
    """Return float32 tensors of the shapes that the annotations ask for."""
    parameters = inspect.signature(function, eval_str=True).parameters
    return {
        name: torch.zeros(shape_of(parameter.annotation, sizes), device=device)
        for name, parameter in parameters.items()
    }


def measure(function: Callable, sizes: Mapping[str, int], device: str = "meta") -> Watch:
    """Run the function once and return what was watched.

    Raises:
        ValueError: where it repeats operations in a loop, or has one that is not known here.
    """
    arguments = arguments_of(function, sizes, device)
    with Watch(function.__name__) as watch:
        function(**arguments)
    if watch.unknown:
        # Said last: what a loop is made of is none of the author's business.
        raise ValueError(
            f"how many multiplications are in {watch.unknown}, which {watch.name} does? "
            f"Say it in {__name__}"
        )
    return watch


def cost_of(function: Callable, axes: Iterable[str]) -> Cost:
    """Return what a call costs, for a function of float32 tensors; ValueError for one with loops.

    >>> from snippets.linear import grad_W_by_broadcast
    >>> cost = cost_of(grad_W_by_broadcast, ["N", "D", "M"])
    >>> print(cost.multiplications)
    1*N*D*M
    >>> print(cost.bytes)
    4*N*D*M + 4*D*M
    """
    sizes = dict(zip(axes, PRIMES, strict=False))
    watch = measure(function, sizes)
    return Cost(total(watch.multiplications, sizes), total(watch.bytes, sizes))


def total(counts: Iterable[int], sizes: Mapping[str, int]) -> Formula:
    return sum((Formula.of(count, sizes) for count in counts), Formula())
