"""What the nodes of a formula mean, once the declared symbols are known.

`meaning` nodes are what `evaluate` computes; `reading.Reader` makes them from a tree.
A `dim` is the name of one use of an index letter: a letter bound by a sum gets a dim of
its own, so that it may shadow a free one.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Meaning:
    """A part of a formula that has a value."""

    pos: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True)
class Const(Meaning):
    number: float


@dataclass(frozen=True)
class Size(Meaning):
    name: str


@dataclass(frozen=True)
class IndexOf(Meaning):
    """The value of an index, counted as the page counts."""

    dim: str


@dataclass(frozen=True)
class Array(Meaning):
    """A leaf, or what the forward assigned, under its code name."""

    name: str


@dataclass(frozen=True)
class Defined(Meaning):
    """A symbol that an earlier equation of the page defines."""

    name: str


@dataclass(frozen=True)
class Like(Meaning):
    """Ones or an identity; `size` is None where it follows from the neighbours."""

    kind: str
    size: Meaning | None = None


@dataclass(frozen=True)
class At(Meaning):
    """Entries or slices: one slot for each axis in turn, None for the whole axis.

    `last` are slots that count from the last axis (samples in columns).
    """

    of: Meaning
    slots: tuple[Meaning | None, ...]
    last: Meaning | None = None


@dataclass(frozen=True)
class Call(Meaning):
    """A function of the table in `functions`, or one that the page declares."""

    function: str
    args: tuple[Meaning, ...]
    primes: int = 0


@dataclass(frozen=True)
class Partial(Meaning):
    """A derivative along all paths of the forward."""

    of: Meaning
    by: Meaning
    transposed: bool = False


@dataclass(frozen=True)
class Over(Meaning):
    """A sum, product, maximum or minimum over index values."""

    op: str
    dims: tuple[str, ...]
    body: Meaning
    where: Meaning | None = None
    upper: Meaning | None = None


@dataclass(frozen=True)
class Times(Meaning):
    """A product; `op` is "" for the product of linear algebra, or `hadamard`, `star`, `outer`."""

    op: str
    left: Meaning
    right: Meaning
    other: Meaning | None = None


@dataclass(frozen=True)
class Quotient(Meaning):
    """A quotient."""

    num: Meaning
    den: Meaning


@dataclass(frozen=True)
class Plus(Meaning):
    terms: tuple[tuple[int, Meaning], ...]


@dataclass(frozen=True)
class Power(Meaning):
    base: Meaning
    exponent: Meaning


@dataclass(frozen=True)
class Turned(Meaning):
    """A transpose."""

    of: Meaning


@dataclass(frozen=True)
class NormOf(Meaning):
    of: Meaning
    kind: str


@dataclass(frozen=True)
class Grid(Meaning):
    """A matrix written out; `diagonal` is set where the off-diagonal follows another pattern."""

    rows: tuple[tuple[Meaning | None, ...], ...]


@dataclass(frozen=True)
class Patterned(Meaning):
    """A matrix with elided entries: an entry for every row and column."""

    row: str
    column: str
    n_rows: Meaning
    n_columns: Meaning
    entry: Meaning
    diagonal: Meaning | None = None


@dataclass(frozen=True)
class Choice(Meaning):
    """Values and the conditions under which they hold; None for otherwise."""

    branches: tuple[tuple[Meaning, Meaning | None], ...]


@dataclass(frozen=True)
class Compare(Meaning):
    """A condition: 1 where it holds, 0 elsewhere."""

    sides: tuple[Meaning, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True)
class All(Meaning):
    """Conditions that must hold together."""

    parts: tuple[Meaning, ...]


def below(node: Meaning):
    """The meanings directly below."""
    for value in node.__dict__.values():
        yield from _meanings(value)


def _meanings(value):
    if isinstance(value, Meaning):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _meanings(part)


def walk(node: Meaning):
    """`node` and all below it."""
    yield node
    for part in below(node):
        yield from walk(part)


@dataclass(frozen=True)
class Either(Meaning):
    """Two readings of one row of factors: the second where the shapes of the first do not fit."""

    first: Meaning
    second: Meaning


@dataclass(frozen=True)
class AxisOf(Meaning):
    """The length of an axis of an array."""

    of: Meaning
    axis: int
