"""The parsed form of an equation, and its way back to LaTeX.

The nodes keep the surface of what was written: a `Product` is a row of factors, not
yet a matrix product or a call. What the row means is decided in `meaning`, where the
declared symbols are known. `pos` is the offset in the LaTeX source and never compared,
so that `parse(to_latex(parse(x))) == parse(x)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an equation; `pos` is where it starts in the source."""

    pos: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Num(Node):
    """A number as written."""

    text: str


@dataclass(frozen=True, slots=True)
class Name(Node):
    r"""A letter or a word: `x`, `\alpha`, `\mathbf{x}`, `\hat{y}`, `\operatorname{diag}`.

    `base` is the bare letter or word (`x`, `\alpha`, `diag`), `font` the command around
    it (`\mathbf`), or `\` for a command that is itself the name (`\log`).
    """

    base: str
    font: str = ""
    accents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark(Node):
    r"""A sign that is no name: `\partial`, `\nabla`, `\top`, a lone `*` in a script."""

    text: str


@dataclass(frozen=True, slots=True)
class Sep(Node):
    """Something between statements or indices: a comma, a colon, prose, `quad`."""

    text: str


@dataclass(frozen=True, slots=True)
class Dots(Node):
    """An ellipsis."""

    text: str


@dataclass(frozen=True, slots=True)
class Items(Node):
    """A row of relations and separators: a line, the inside of brackets, a script."""

    parts: tuple[Node, ...]

    def values(self) -> list[Node]:
        """The parts that are no separators."""
        return [part for part in self.parts if not isinstance(part, Sep)]

    def only(self) -> Node | None:
        """The one part, where there is no other, not even a separator."""
        return self.parts[0] if len(self.parts) == 1 else None


@dataclass(frozen=True, slots=True)
class Scripted(Node):
    """A base with a subscript, a superscript, primes."""

    base: Node | None
    sub: Items | None = None
    sup: Items | None = None
    primes: int = 0


@dataclass(frozen=True, slots=True)
class Group(Node):
    """Something in brackets that show."""

    open: str
    inside: Items
    close: str


@dataclass(frozen=True, slots=True)
class Brace(Node):
    """Something in braces that do not show, with the command before them, if any."""

    inside: Items
    command: str = ""


@dataclass(frozen=True, slots=True)
class Frac(Node):
    """A fraction; each part is a `Brace` or a single sign."""

    num: Node
    den: Node


@dataclass(frozen=True, slots=True)
class Sqrt(Node):
    """A root; `index` is "" for the square root."""

    body: Node
    index: str = ""


@dataclass(frozen=True, slots=True)
class Norm(Node):
    """`|x|` (`bars` 1) or `||x||` (`bars` 2)."""

    bars: int
    body: Node


@dataclass(frozen=True, slots=True)
class Big(Node):
    """A sum or product sign and all that follows it in its term."""

    op: str
    sub: Items | None
    sup: Items | None
    body: Node


@dataclass(frozen=True, slots=True)
class Factor(Node):
    """A factor and the sign of multiplication before it ("" where there is none)."""

    op: str
    body: Node | None
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Product(Node):
    """Factors in a row."""

    factors: tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Term(Node):
    """A term and the sign before it."""

    sign: str
    body: Node | None


@dataclass(frozen=True, slots=True)
class Add(Node):
    """Terms in a row."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Rel(Node):
    """Sides and the relations between them: one more side than relations."""

    sides: tuple[Node | None, ...]
    ops: tuple[str, ...]
    places: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Matrix(Node):
    """Rows of cells; each cell is an `Items`."""

    kind: str
    rows: tuple[tuple[Items, ...], ...]


@dataclass(frozen=True, slots=True)
class Cases(Node):
    """Rows of cells: a value, then its condition."""

    rows: tuple[tuple[Items, ...], ...]


@dataclass(frozen=True, slots=True)
class Display(Node):
    """All lines of one equation environment."""

    lines: tuple[Items, ...]


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below `node`, in order."""
    for spot in fields(node):
        yield from _nodes(getattr(node, spot.name))


def _nodes(value: object) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _nodes(part)


def walk(node: Node) -> Iterator[Node]:
    """`node` and all nodes below it."""
    stack = [node]
    while stack:
        here = stack.pop()
        yield here
        stack.extend(reversed(list(children(here))))


def rebuild(node: Node, change: Callable[[Node], Node]) -> Node:
    """A copy of `node` in which each direct child `c` is `change(c)`."""

    def turn(value: object) -> object:
        if isinstance(value, Node):
            return change(value)
        if isinstance(value, tuple):
            return tuple(turn(part) for part in value)
        return value

    return replace(node, **{spot.name: turn(getattr(node, spot.name)) for spot in fields(node)})


def is_word(base: str) -> bool:
    """Whether a name is a word of several letters, not a letter or a command."""
    return len(base) > 1 and not base.startswith("\\")


# ---- back to LaTeX ----


def to_latex(node: Node | None) -> str:
    """Write a node as LaTeX that parses to an equal node."""
    if node is None:
        return ""
    return _WRITERS[type(node)](node)


def _name(node: Name) -> str:
    text = node.base
    if node.font == "\\":
        text = "\\" + node.base
    elif node.font:
        text = f"{node.font}{{{node.base}}}"
    for accent in node.accents:
        text = f"{accent}{{{text}}}"
    return text


def _scripted(node: Scripted) -> str:
    text = to_latex(node.base) + "'" * node.primes
    if node.sub is not None:
        text += f"_{{{to_latex(node.sub)}}}"
    if node.sup is not None:
        text += f"^{{{to_latex(node.sup)}}}"
    return text


def _big(node: Big) -> str:
    text = node.op
    if node.sub is not None:
        text += f"_{{{to_latex(node.sub)}}}"
    if node.sup is not None:
        text += f"^{{{to_latex(node.sup)}}}"
    return f"{text} {to_latex(node.body)}"


def _sep(node: Sep) -> str:
    return node.text if node.text in {",", ";", ":", "."} else f" {node.text} "


def _argument(node: Node) -> str:
    text = to_latex(node)
    return text if isinstance(node, Brace) and not node.command else "{" + text + "}"


def _rows(rows: tuple[tuple[Items, ...], ...]) -> str:
    return r" \\ ".join(" & ".join(to_latex(cell) for cell in row) for row in rows)


def _rel(node: Rel) -> str:
    text = to_latex(node.sides[0])
    for op, side in zip(node.ops, node.sides[1:], strict=True):
        text += f" {op} {to_latex(side)}"
    return text


def _factor(node: Factor) -> str:
    return " ".join(part for part in (node.op, node.sign, to_latex(node.body)) if part)


def _term(node: Term) -> str:
    return f"{node.sign} {to_latex(node.body)}" if node.sign else to_latex(node.body)


_BARS = {1: ("\\lvert ", "\\rvert "), 2: ("\\lVert ", "\\rVert ")}

_WRITERS: dict[type, Callable] = {
    Num: lambda n: n.text,
    Name: _name,
    Mark: lambda n: n.text,
    Sep: _sep,
    Dots: lambda n: n.text,
    Items: lambda n: "".join(to_latex(part) for part in n.parts),
    Scripted: _scripted,
    Group: lambda n: f"{n.open} {to_latex(n.inside)} {n.close}",
    Brace: lambda n: f"{n.command}{{{to_latex(n.inside)}}}",
    Frac: lambda n: f"\\frac{_argument(n.num)}{_argument(n.den)}",
    Sqrt: lambda n: f"\\sqrt{f'[{n.index}]' if n.index else ''}{_argument(n.body)}",
    Norm: lambda n: f"{_BARS[n.bars][0]}{to_latex(n.body)}{_BARS[n.bars][1]}",
    Big: _big,
    Factor: _factor,
    Product: lambda n: " ".join(_factor(part) for part in n.factors),
    Term: _term,
    Add: lambda n: " ".join(_term(part) for part in n.terms),
    Rel: _rel,
    Matrix: lambda n: f"\\begin{{{n.kind}}} {_rows(n.rows)} \\end{{{n.kind}}}",
    Cases: lambda n: f"\\begin{{cases}} {_rows(n.rows)} \\end{{cases}}",
    Display: lambda n: r" \\ ".join(to_latex(line) for line in n.lines),
}
