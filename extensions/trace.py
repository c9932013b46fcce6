"""Run a function of tensors on numbers that remember how they were made.

The stand-in for a tensor is an array of `Number`s, and the function's own code does the
rest: what comes out says which entries went in, and by what arithmetic. So a figure can
say `2·1 + 4·0 + 6·1` of a matrix product without knowing what a matrix product is.

A `Number` is written as it was computed. A zero that a sum starts from is left out.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import jaxtyping
import numpy as np
import torch

ADD, MULTIPLY, UNARY, ATOM = range(4)
ARITHMETIC = {
    " + ": (operator.add, ADD),
    " − ": (operator.sub, ADD),
    "·": (operator.mul, MULTIPLY),
    "/": (operator.truediv, MULTIPLY),
}
RELATIONS = {
    ">": operator.gt,
    "≥": operator.ge,
    "<": operator.lt,
    "≤": operator.le,
    "=": operator.eq,
}
FUNCTIONS = {
    "exp": math.exp,
    "sqrt": math.sqrt,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "max": max,
}
POWERS = {2: "²", 3: "³"}


class Untraceable(ValueError):
    """The code does something that no `Number` can follow."""


def written(value: float) -> str:
    """Write a number in at most four digits, with a real minus sign.

    >>> written(-6.0), written(2 / 3)
    ('−6', '0.6667')
    """
    return f"{value + 0:.4g}".replace("-", "−")


def exact(value: float) -> bool:
    """Say whether nothing of the number is lost when it is written."""
    return float(written(value).replace("−", "-")) == value


@dataclass(frozen=True, eq=False)
class Number:
    """A value, the text that makes it, and the numbers it was made of.

    `pieces` are the text, each with the name of the tensor whose entry it is, or "";
    `binding` says which brackets the text needs when more is done with it.
    """

    value: float
    pieces: tuple[tuple[str, str], ...]
    binding: int = ATOM
    parents: tuple[Number, ...] = ()
    source: tuple[str, int] | None = None
    given: tuple[Number, ...] = ()  # the conditions and labels that decided what made it

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    def ancestors(self) -> Iterator[Number]:
        """Yield the number and all that it was made of, conditions included."""
        waiting, seen = [self], set()
        while waiting:
            here = waiting.pop()
            if id(here) not in seen:
                seen.add(id(here))
                yield here
                waiting += [*here.parents, *here.given]

    def within(self, least: int, first: bool = False) -> tuple[tuple[str, str], ...]:
        """Return the pieces, in brackets where they bind less than `least` or a sign leads."""
        (head, name), *rest = self.pieces
        if self.binding < least or (head == "−" and not first):
            return (("(", ""), *self.pieces, (")", ""))
        if head.startswith("−") and not first:
            return ((f"({head})", name), *rest)
        return self.pieces

    def join(self, sign: str, other: object) -> Number:
        how, binding = ARITHMETIC[sign]
        other = number(other)
        if sign == " + " and is_start(other):
            return self
        if sign == " + " and is_start(self):
            return other
        right = binding + (sign in (" − ", "/"))  # a − (b − c) and a/(b·c) keep their brackets
        pieces = (*self.within(binding, first=True), (sign, ""), *other.within(right))
        return Number(how(self.value, other.value), pieces, binding, (self, other))

    def compare(self, sign: str, other: object) -> Comparison:
        other = number(other)
        pieces = (("(", ""), *self.pieces, (f" {sign} ", ""), *other.pieces, (")", ""))
        return Comparison(RELATIONS[sign](self.value, other.value), pieces, ATOM, (self, other))

    def __neg__(self):
        return Number(-self.value, (("−", ""), *self.within(UNARY)), UNARY, (self,))

    def __pow__(self, power):
        if power in (0.5, -0.5):
            root = self.call("sqrt")
            return root if power > 0 else 1 / root
        if power == -1:
            return 1 / self
        if power not in POWERS:
            raise Untraceable(f"a power of {power} can't be written yet")
        pieces = (*self.within(ATOM), (POWERS[power], ""))
        return Number(self.value**power, pieces, ATOM, (self,))

    def call(self, name: str, *others: object) -> Number:
        parts = (self, *map(number, others))
        pieces = [(f"{name}(", "")]
        for part in parts:
            pieces += [*part.pieces, (", ", "")]
        pieces[-1] = (")", "")
        value = FUNCTIONS[name](*(part.value for part in parts))
        return Number(value, tuple(pieces), ATOM, parts)

    def because(self, *reasons: Number) -> Number:
        """Return the number with what decided that it is this one."""
        return replace(self, given=tuple(dict.fromkeys(self.given + reasons))) if reasons else self

    def __index__(self) -> int:
        """A label that picks an entry has decided which one."""
        if self.value != int(self.value):
            raise Untraceable(f"{self.text} is no index")
        Comparison.asked.append(self)
        return int(self.value)

    def square(self) -> Number:
        return self**2

    @classmethod
    def __torch_function__(cls, function, types, arguments, settings=None):
        return called(function, arguments, settings or {})


class Comparison(Number):
    """A condition: 1 or 0 in a product, and remembered where code branches on it."""

    asked: ClassVar[list[Number]] = []

    def __bool__(self) -> bool:
        Comparison.asked.append(self)
        return bool(self.value)


class Size(int):
    """The length of an axis: an `int` that is written as it was computed."""

    text: str

    def __new__(cls, value: int, text: str = "") -> Self:
        size = super().__new__(cls, value)
        size.text = text or str(int(value))
        return size

    def __mul__(self, other):
        if isinstance(other, Size):
            return Size(int(self) * int(other), f"{self.text}·{other.text}")
        return int(self) * other if isinstance(other, int) else number(self) * other

    def __rtruediv__(self, other):
        return number(other) / number(self)


def number(value: object) -> Number:
    """Return the value as a constant, or as it is if it is a Number."""
    if isinstance(value, Number):
        return value
    if isinstance(value, Size):
        binding = MULTIPLY if "·" in value.text else ATOM
        return Number(int(value), ((value.text, ""),), binding)
    if isinstance(value, bool | int | float | np.number):
        return constant(float(value))
    raise Untraceable(f"{value!r} is no number")


def constant(value: float, name: str = "", place: int = 0) -> Number:
    binding = UNARY if value < 0 else ATOM
    source = (name, place) if name else None
    return Number(value, ((written(value), name),), binding, source=source)


def is_start(value: object) -> bool:
    """Whether a term is the zero that a sum starts from, and no entry of a tensor."""
    if isinstance(value, Number):
        return value.value == 0 and not value.parents and value.source is None
    return isinstance(value, int | float) and value == 0


class Traced:
    """The stand-in for a tensor: as much of its interface as the snippets use."""

    made: ClassVar[list[Traced]] = []

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        Traced.made.append(self)

    @property
    def shape(self) -> tuple[Size, ...]:
        return tuple(Size(size) for size in self.array.shape)

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def T(self) -> Traced:
        return Traced(self.array.T)

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self):
        return (wrap(row) for row in self.array)

    def __getitem__(self, place):
        return wrap(self.array[places_of(place)])

    def __setitem__(self, place, value) -> None:
        place = places_of(place)
        if isinstance(value, Traced):
            self.array[place] = value.array
        else:
            self.array[place] = number(value).because(*Comparison.asked)
        Comparison.asked.clear()

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise Untraceable(f"`.{name}` of a tensor can't be traced yet")

    def numel(self) -> Size:
        return Size(self.array.size)

    def unsqueeze(self, dim: int) -> Traced:
        return Traced(np.expand_dims(self.array, dim))

    def squeeze(self, dim: int) -> Traced:
        return wrap(np.squeeze(self.array, dim))

    def reshape(self, *shape: int) -> Traced:
        return Traced(self.array.reshape(*shape))

    def sum(self, dim=None, keepdim: bool = False):
        return wrap(self.array.sum(axis=dim, keepdims=keepdim))

    def mean(self, dim=None, keepdim: bool = False):
        total = self.sum(dim, keepdim)
        return total / Size(self.array.size // getattr(total, "array", np.zeros(1)).size)

    def amax(self, dim=None, keepdim: bool = False):
        lines = self.array if dim is not None else self.array.reshape(-1)
        dim = 0 if dim is None else dim
        largest = np.apply_along_axis(lambda line: line[0].call("max", *line[1:]), dim, lines)
        return wrap(np.expand_dims(largest, dim) if keepdim else largest[()])

    def var(self, dim=None, unbiased: bool = True, keepdim: bool = False):
        if unbiased:
            raise Untraceable("the unbiased variance can't be written yet")
        return (self - self.mean(dim, True)).square().mean(dim, keepdim)

    def square(self) -> Traced:
        return self**2

    def to(self, *_, **__) -> Traced:
        return self

    float = double = contiguous = to

    def clone(self) -> Traced:
        return Traced(self.array.copy())

    def new_zeros(self, *shape: int) -> Traced:
        return filled(shape, 0.0)

    def new_ones(self, *shape: int) -> Traced:
        return filled(shape, 1.0)

    @classmethod
    def __torch_function__(cls, function, types, arguments, settings=None):
        return called(function, arguments, settings or {})


def _of_numbers(how: Callable) -> Callable:
    """A method of Number; an array beside it answers for itself."""

    def method(self, other):
        if isinstance(other, Traced | np.ndarray):
            return NotImplemented
        return how(self, other)

    return method


def _of_arrays(how: Callable) -> Callable:
    """A method of Traced."""

    def method(self, *others):
        return wrap(how(self.array, *map(array_of, others)))

    return method


def _define(name: str, of_numbers: Callable, of_arrays: Callable) -> None:
    setattr(Number, name, _of_numbers(of_numbers))
    setattr(Traced, name, _of_arrays(of_arrays))


for _sign, _name in {" + ": "add", " − ": "sub", "·": "mul", "/": "truediv"}.items():
    _how = getattr(operator, _name)
    _define(f"__{_name}__", lambda a, b, sign=_sign: a.join(sign, b), _how)
    _define(
        f"__r{_name}__",
        lambda a, b, sign=_sign: number(b).join(sign, a),
        lambda a, b, how=_how: how(b, a),
    )
for _sign, _how in RELATIONS.items():
    if _sign == "=":
        continue  # a Number is compared by identity, or it could stand in no set
    # NumPy's own comparison would turn the result into plain booleans.
    _relation = np.frompyfunc(lambda a, b, sign=_sign: number(a).compare(sign, b), 2, 1)
    _define(f"__{_how.__name__}__", lambda a, b, sign=_sign: a.compare(sign, b), _relation)
for _name in FUNCTIONS.keys() - {"max"}:
    setattr(Number, _name, lambda self, name=_name: self.call(name))
    setattr(Traced, _name, _of_arrays(np.frompyfunc(lambda n, name=_name: n.call(name), 1, 1)))
Traced.__matmul__ = _of_arrays(operator.matmul)
Traced.__pow__ = _of_arrays(operator.pow)
Traced.__neg__ = _of_arrays(operator.neg)


def array_of(value):
    """Return the array of a stand-in or of a tensor, whose entries are constants."""
    if isinstance(value, torch.Tensor):
        return of_tensor(value).array
    return getattr(value, "array", value)


def wrap(value):
    return Traced(value) if isinstance(value, np.ndarray) else value


def places_of(index):
    """Return an index as NumPy takes it; labels in it are asked for their value."""
    if isinstance(index, tuple):
        return tuple(map(places_of, index))
    if isinstance(index, Traced):
        return np.frompyfunc(operator.index, 1, 1)(index.array).astype(int)
    if isinstance(index, Number):
        return operator.index(index)
    return index.numpy() if isinstance(index, torch.Tensor) else index


def filled(shape: tuple[int, ...], value: float) -> Traced:
    if len(shape) == 1 and isinstance(shape[0], tuple):
        shape = shape[0]
    array = np.empty(shape, dtype=object)
    array[...] = constant(value)
    return Traced(array)


def arrays(values) -> list[np.ndarray]:
    return [np.asarray(getattr(value, "array", value), dtype=object) for value in values]


def chosen(condition: Traced, yes: object, no: object) -> Traced:
    """Return `torch.where`: each entry knows why it is this one."""

    def choose(asked: Comparison, a: object, b: object) -> Number:
        return number(a if asked.value else b).because(asked)

    return wrap(np.frompyfunc(choose, 3, 1)(*arrays([condition, yes, no])))


def one_hot(labels: Traced, classes: int) -> Traced:
    return Traced(
        np.frompyfunc(lambda label, c: label.compare("=", int(c)), 2, 1)(
            labels.array[..., None], np.arange(classes)
        )
    )


TORCH: dict[str, Callable] = {
    "outer": lambda a, b: Traced(np.multiply.outer(a.array, b.array)),
    "stack": lambda parts, dim=0: Traced(np.stack(arrays(parts), axis=dim)),
    "diag": lambda a: Traced(np.diag(a.array)),
    "empty_like": lambda a: filled(a.shape, 0.0),
    "zeros_like": lambda a: filled(a.shape, 0.0),
    "ones_like": lambda a: filled(a.shape, 1.0),
    "matmul": operator.matmul,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "sum": Traced.sum,
    "mean": Traced.mean,
    "square": operator.methodcaller("square"),
    "amax": Traced.amax,
    "where": chosen,
    "one_hot": one_hot,
    "relu": lambda a: wrap(np.frompyfunc(lambda n: constant(0).call("max", n), 1, 1)(*arrays([a]))),
} | {name: operator.methodcaller(name) for name in FUNCTIONS if name != "max"}


def called(function: Callable, arguments: tuple, settings: dict):
    """Do what `torch.<function>` would do with tensors."""
    try:
        how = TORCH[function.__name__]
    except KeyError:
        raise Untraceable(f"torch.{function.__name__} can't be traced yet") from None
    made = (of_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments)
    return how(*made, **settings)


def of_tensor(tensor: torch.Tensor, name: str = "") -> Traced:
    """Return the stand-in of a tensor, each entry marked with its name and place.

    Without a name its entries are constants: the tensor was made by the code.
    """
    array = np.empty(tensor.shape, dtype=object)
    for place, value in enumerate(tensor.flatten().tolist()):
        array.flat[place] = constant(value, name, place)
    return Traced(array)


def trace(
    function: Callable, inputs: dict[str, torch.Tensor]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Call the function on stand-ins of the inputs.

    Returns:
        The output's Numbers, and every array on the way to them.

    Raises:
        Untraceable: where the code does what can't be followed.
    """
    Comparison.asked.clear()
    Traced.made.clear()
    checked = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)  # a stand-in is no Tensor
    try:
        result = function(**{name: of_tensor(value, name) for name, value in inputs.items()})
    except Untraceable:
        raise
    except Exception as problem:
        reason = f"{type(problem).__name__}: {problem}"
        raise Untraceable(f"{function.__name__} can't be traced: {reason}") from problem
    finally:
        jaxtyping.config.update("jaxtyping_disable", checked)
    way = [traced.array for traced in Traced.made]
    Traced.made.clear()
    if not isinstance(result, Traced | Number):
        raise Untraceable(f"{function.__name__} returns {type(result).__name__}, not one tensor")
    return arrays([result])[0], way


def evaluate(text: str) -> float:
    """Compute what a text says, as a reader would.

    >>> evaluate("2·(3 − 1)²/4")
    2.0
    >>> evaluate("−6·(2 > 0)")
    -6
    """
    for sign, python in {
        "=": "==",
        "≥": ">=",
        "≤": "<=",
        "·": "*",
        "−": "-",
        "²": "**2",
        "³": "**3",
    }.items():
        text = text.replace(sign, python)
    return eval(text, {"__builtins__": {}}, FUNCTIONS)
