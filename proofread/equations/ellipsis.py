"""The pattern of what an ellipsis leaves out.

Two written terms are laid over each other: where they differ, they must differ by the
number of the term (1 against 2, the last against a size). What results is a term with a
hole in it, which is then a sum, or a matrix, over all values of the hole.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from .problem import Unreadable
from .tree import (
    Add,
    Dots,
    Factor,
    Items,
    Name,
    Node,
    Num,
    Product,
    Scripted,
    Term,
    rebuild,
    to_latex,
)

HOLE = "hole"
ROW = "hole row"
COLUMN = "hole column"


@dataclass(frozen=True)
class Run:
    """A sum with elided terms: the term with a hole, and the hole's first and last value."""

    sign: str
    pattern: Node
    first: Node
    last: Node


@dataclass(frozen=True)
class Pattern:
    """A matrix with elided entries: its entry with two holes, and its sizes."""

    entry: Node
    n_rows: Node
    n_columns: Node
    diagonal: Node | None = None


def is_dots(node: Node | None) -> bool:
    """Whether a node is an ellipsis and nothing else."""
    if isinstance(node, Dots):
        return True
    return isinstance(node, Product) and all(isinstance(f.body, Dots) for f in node.factors)


def sum_runs(node: Add) -> tuple[list[Term], list[Run]]:
    """Split a sum into plain terms and runs with an ellipsis.

    Raises:
        Unreadable: where the written terms follow no pattern.
    """
    terms = list(node.terms)
    spots = [at for at, term in enumerate(terms) if is_dots(term.body)]
    if spots[0] == 0 or spots[-1] == len(terms) - 1:
        raise Unreadable("an ellipsis needs a term before it and one after it", node.pos)
    before, after = terms[spots[0] - 1], terms[spots[-1] + 1]
    if before.sign.replace("+", "") != after.sign.replace("+", ""):
        raise Unreadable("the terms around the ellipsis differ in sign", before.pos)
    pattern, values = overlay([before.body, after.body], HOLE)
    first, last = values
    start, at = spots[0] - 1, spots[0] - 2
    while at >= 0 and isinstance(first, Num) and int(first.text) > 1:
        wanted = Num(str(int(first.text) - 1))
        if fill(pattern, HOLE, wanted) != terms[at].body:
            break
        first, start, at = wanted, at, at - 1
    if first == Num("2") and at >= 0:
        raise Unreadable(
            f"the term `{to_latex(terms[at].body)}` does not follow the pattern of the others",
            terms[at].pos or node.pos,
        )
    for spot in range(spots[0] + 1, spots[-1]):
        if not is_dots(terms[spot].body) and not _generic(pattern, terms[spot].body):
            raise Unreadable(
                f"the term `{to_latex(terms[spot].body)}` does not follow the pattern",
                terms[spot].pos,
            )
    plain = [*terms[:start], *terms[spots[-1] + 2 :]]
    sign = before.sign or "+"
    return plain, [Run(sign, pattern, first, last)]


def _generic(pattern: Node, term: Node) -> bool:
    """Whether a term is the pattern at some letter, as the middle of `w_1 + … + w_j + … + w_n`."""
    try:
        again, values = overlay([fill(pattern, HOLE, Num("1")), term], HOLE)
    except Unreadable:
        return False
    return again == pattern and isinstance(values[1], Name | Num)


def overlay(nodes: list[Node], hole: str) -> tuple[Node, list[Node]]:
    """The common pattern of several nodes, and what each has in the place of the hole.

    Raises:
        Unreadable: where they differ by more than one counting value.
    """
    found: list[tuple[Node, ...]] = []
    pattern = _lay(tuple(nodes), hole, found)
    if not found:
        raise Unreadable("the terms around the ellipsis are all alike", nodes[0].pos)
    if any(values != found[0] for values in found):
        raise Unreadable(
            "the terms around the ellipsis do not count in step: "
            + " against ".join(sorted({", ".join(map(to_latex, v)) for v in found})),
            nodes[0].pos,
        )
    return pattern, list(found[0])


def _lay(nodes: tuple, hole: str, found: list) -> Node:
    first = nodes[0]
    if all(node == first for node in nodes):
        return first
    counting = all(_counts(node) for node in nodes)
    if counting and isinstance(first, Num):
        found.append(nodes)
        return Name(hole)
    if not all(type(node) is type(first) for node in nodes):
        raise _no_pattern(nodes)
    if isinstance(first, Node):
        parts = {}
        for spot in fields(first):
            if spot.name in {"pos", "places"}:
                continue
            parts[spot.name] = _lay(tuple(getattr(n, spot.name) for n in nodes), hole, found)
        return replace(first, **parts)
    if isinstance(first, tuple) and all(len(node) == len(first) for node in nodes):
        return tuple(_lay(tuple(col), hole, found) for col in zip(*nodes, strict=True))
    raise _no_pattern(nodes)


def _counts(node: object) -> bool:
    """Whether a node can be the number of a term: a number, a size, N - 1."""
    if isinstance(node, Num | Name):
        return True
    if isinstance(node, Scripted):
        return isinstance(node.base, Name) and node.sup is None
    return isinstance(node, Add) and all(_counts(term.body) for term in node.terms)


def _no_pattern(nodes: tuple) -> Unreadable:
    shown = [to_latex(n) if isinstance(n, Node) else str(n) for n in nodes]
    first = nodes[0]
    return Unreadable(
        f"the terms around the ellipsis follow no pattern: `{shown[0]}` against `{shown[-1]}`",
        first.pos if isinstance(first, Node) else None,
    )


def fill(node: Node, hole: str, value: Node) -> Node:
    """The pattern with `value` in its hole."""
    if node == Name(hole):
        return value
    return rebuild(node, lambda child: fill(child, hole, value))


# ---- matrices ----


def matrix_pattern(rows: list[list[Node | None]], pos: int) -> Pattern:
    """The entry of an elided matrix; `w_{11}` beside `w_{DM}` counts twice.

    Raises:
        Unreadable: where the written entries follow no pattern.
    """
    try:
        return _matrix_pattern(rows, pos)
    except Unreadable:
        apart = [[split_digits(cell) if cell is not None else None for cell in r] for r in rows]
        if apart == rows:
            raise
        return _matrix_pattern(apart, pos)


def split_digits(node: Node) -> Node:
    """`x_{12}` as `x_{1 2}`."""
    if isinstance(node, Scripted) and node.sub is not None:
        only = node.sub.only()
        if isinstance(only, Num) and only.text.isdigit() and len(only.text) > 1:
            digits = tuple(Factor("", Num(c, pos=only.pos)) for c in only.text)
            node = replace(node, sub=Items((Product(digits, pos=only.pos),)))
    return rebuild(node, split_digits)


def _matrix_pattern(rows: list[list[Node | None]], pos: int) -> Pattern:
    """The entry, with holes for row and column, of a matrix with elided entries.

    Raises:
        Unreadable: where the written entries follow no pattern.
    """
    written = _written(rows, pos)
    (n_rows, row_at), (n_columns, column_at) = written.rows, written.columns
    entries = {
        (r, c): rows[r][c]
        for r in row_at
        for c in column_at
        if c < len(rows[r]) and not is_dots(rows[r][c])
    }
    if any(entries.get((r, c)) is None for r in row_at for c in column_at):
        if n_rows is not None and n_columns is not None:
            return _diagonal(entries, row_at, column_at, pos)
        raise Unreadable("an entry of the matrix is missing", pos)
    try:
        entry, n, k = _two_ways(entries, row_at, column_at)
    except Unreadable:
        if n_rows is None or n_columns is None or len(row_at) < 2:
            raise
        return _diagonal(entries, row_at, column_at, pos)
    return Pattern(entry, n or Num(str(len(rows))), k or Num(str(len(column_at))))


@dataclass(frozen=True)
class _Written:
    rows: tuple[object, list[int]]
    columns: tuple[object, list[int]]


def _written(rows, pos) -> _Written:
    """Which rows and columns are written out, and whether some are elided."""
    width = max(len(row) for row in rows)
    dots = [[is_dots(cell) for cell in row] + [False] * (width - len(row)) for row in rows]

    def elided(line: list[bool], cells: list) -> bool:
        return any(line) and all(d or c is None for d, c in zip(line, cells, strict=True))

    padded = [list(row) + [None] * (width - len(row)) for row in rows]
    row_at = [r for r in range(len(rows)) if not elided(dots[r], padded[r])]
    column_at = [
        c for c in range(width) if not elided([d[c] for d in dots], [row[c] for row in padded])
    ]
    some_rows = "elided" if len(row_at) < len(rows) else None
    some_columns = "elided" if len(column_at) < width else None
    if not row_at or not column_at:
        raise Unreadable("the matrix has no entry written out", pos)
    return _Written((some_rows, row_at), (some_columns, column_at))


def _two_ways(entries, row_at, column_at):
    """Lay all entries over each other: down the rows, then along the columns."""
    n = k = None
    columns = []
    for c in column_at:
        pattern, last = _down([entries[r, c] for r in row_at], ROW)
        n = last or n
        columns.append(pattern)
    entry, k = _down(columns, COLUMN)
    return entry, n, k


def _down(nodes: list[Node], hole: str) -> tuple[Node, Node | None]:
    if len(nodes) == 1:
        return nodes[0], None
    pattern, values = overlay(nodes, hole)
    for place, value in enumerate(values[:-1]):
        if value != Num(str(place + 1)):
            raise Unreadable(
                f"the entries around the dots count {', '.join(map(to_latex, values))}",
                nodes[0].pos,
            )
    return pattern, values[-1]


def _diagonal(entries, row_at, column_at, pos) -> Pattern:
    """A matrix whose diagonal follows one pattern and whose other entries another."""
    pairs = list(zip(row_at, column_at, strict=False))
    on = [entries.get(pair) for pair in pairs]
    if any(node is None for node in on) or len(row_at) != len(column_at):
        raise Unreadable("the entries of the matrix follow no pattern", pos)
    diagonal, last = _down(on, ROW)
    if last is None:
        raise Unreadable("the entries of the matrix follow no pattern", pos)
    off = {pair: node for pair, node in entries.items() if pair not in pairs}
    written = [node for node in off.values() if node is not None]
    if all(node == Num("0") for node in written):
        return Pattern(Num("0"), last, last, diagonal)
    entry = _off_diagonal(off, row_at, column_at, last, pos)
    return Pattern(entry, last, last, diagonal)


def _off_diagonal(off, row_at, column_at, last, pos) -> Node:
    """Read the pattern off the entry (1, 2) and check it at every other one."""
    number = {r: Num(str(p + 1)) for p, r in enumerate(row_at)}
    number[row_at[-1]] = last
    column = {c: Num(str(p + 1)) for p, c in enumerate(column_at)}
    column[column_at[-1]] = last
    places = [pair for pair, node in off.items() if node is not None]
    pair = next((p for p in places if number[p[0]] != column[p[1]]), None)
    if pair is None:
        raise Unreadable("the entries of the matrix follow no pattern", pos)
    r, c = number[pair[0]], column[pair[1]]
    pattern = _swap(_swap(off[pair], r, Name(ROW)), c, Name(COLUMN))
    for place in places:
        wanted = fill(fill(pattern, ROW, number[place[0]]), COLUMN, column[place[1]])
        if wanted != off[place]:
            raise Unreadable(
                f"the entry `{to_latex(off[place])}` does not follow the pattern "
                f"`{to_latex(wanted)}`",
                off[place].pos,
            )
    return pattern


def _swap(node: Node, old: Node, new: Node) -> Node:
    """Put `new` for `old` inside scripts, where numbers count."""
    if isinstance(node, Scripted):

        def deep(part: Node) -> Node:
            return new if part == old else rebuild(part, deep)

        sub = rebuild(node.sub, deep) if node.sub is not None else None
        sup = rebuild(node.sup, deep) if node.sup is not None else None
        return replace(node, base=_swap(node.base, old, new), sub=sub, sup=sup)
    return rebuild(node, lambda child: _swap(child, old, new))
