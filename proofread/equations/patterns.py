"""What a piece of the tree looks like: a differential, a list, an operator, a row of factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from . import meaning as m
from .problem import Unreadable
from .spelling import bare
from .tree import (
    Add,
    Brace,
    Dots,
    Factor,
    Frac,
    Group,
    Items,
    Mark,
    Name,
    Node,
    Num,
    Product,
    Rel,
    Scripted,
    Sep,
    to_latex,
    walk,
)

if TYPE_CHECKING:
    from .reading import Reader

EQUAL = {"=", ":=", "=:", "\\equiv", "\\triangleq", "\\doteq", "\\coloneqq", "\\eqqcolon"}
ORDER = {
    "<": "<", "\\lt": "<", ">": ">", "\\gt": ">", "<=": "<=", ">=": ">=",
    "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=", "\\ge": ">=", "\\geq": ">=",
    "\\geqslant": ">=", "\\neq": "!=", "\\ne": "!=",
}  # fmt: skip
SCALE = {"", "\\cdot", "\\times", "\\bullet"}
HADAMARD = {"\\odot", "\\circ", "\\bigodot", "\\circledast"}
STAR = {"*", "\\ast", "\\star"}
DIVIDE = {"/", "\\div"}
TRANSPOSE = {"\\top", "\\intercal"}
HIDDEN = {"\\underbrace", "\\overbrace"}
ONE_FONTS = {"\\mathbf", "\\mathbb", "\\mathds", "\\boldsymbol", "\\bm", "\\vec", "\\mathrm"}
HADAMARD_OP = "\\odot"


def parts_of(node: Node):
    if isinstance(node, Scripted):
        return node.base, node.sub, node.sup, node.primes
    return node, None, None, 0


def variants_of(base: Node, primes: int) -> list[str]:
    """The spellings under which a name may be declared, the closest first."""
    tick = "'" * primes
    found = [bare(base) + tick]
    if isinstance(base, Name):
        if base.font and base.font != "\\mathbb":
            found.append(bare(replace(base, font="")) + tick)
        if base.accents and "\\vec" in base.accents:
            found.append(bare(replace(base, font="", accents=())) + tick)
    return list(dict.fromkeys(found))


def superscripts(sup: Items | None) -> tuple[Node, ...]:
    """The factors of a superscript: `(l)` and `T` of `W^{(l)T}`."""
    if sup is None:
        return ()
    found: list[Node] = []
    for part in sup.parts:
        if isinstance(part, Sep):
            continue
        if isinstance(part, Product) and all(f.op == "" and f.body for f in part.factors):
            marks = [f.body for f in part.factors]
            if any(isinstance(x, Group | Mark) or x == Name("T") for x in marks):
                found += marks
                continue
        if isinstance(part, Brace) and not part.command:
            found += superscripts(part.inside)
            continue
        found.append(part)
    return tuple(found)


def without(parts, taken) -> tuple[Node, ...]:
    rest = list(parts)
    for part in taken:
        rest.remove(part)
    return tuple(rest)


def inner_items(items: Items) -> Items:
    only = items.only()
    if isinstance(only, Group):
        return only.inside
    if isinstance(only, Brace):
        return inner_items(only.inside)
    return items


def single_node(items: Items) -> Node:
    values = items.values()
    if len(values) != 1:
        raise Unreadable(f"`{to_latex(items)}` should be one thing")
    return values[0]


def index_nodes(sub: Items) -> list[Node]:
    """The places of a subscript: `i` and `j` of `ij`, `i` and `:` of `i,:`."""
    found: list[Node] = []
    for part in sub.parts:
        if isinstance(part, Sep):
            if part.text == ":":
                found.append(part)
            continue
        if isinstance(part, Product) and all(
            f.op == "" or (f.body is None and f.op in {"\\cdot", "*", "\\bullet"})
            for f in part.factors
        ):
            for factor in part.factors:
                if factor.op:
                    found.append(Mark("*", pos=factor.pos))
                else:
                    found.append(factor.body)
            continue
        if isinstance(part, Brace) and not part.command:
            found += index_nodes(part.inside)
            continue
        found.append(part)
    return found


def letter_of(node: Node | None) -> str | None:
    """The letter of an index, primes included; None where a node is no single letter."""
    if isinstance(node, Scripted) and node.primes and node.sub is None and node.sup is None:
        inner = letter_of(node.base)
        return inner + "'" * node.primes if inner is not None else None
    if isinstance(node, Name) and not node.accents and node.font in {"", "\\mathit"}:
        return node.base
    return None


def is_dots(node: Node | None) -> bool:
    if isinstance(node, Dots):
        return True
    return isinstance(node, Product) and all(isinstance(f.body, Dots) for f in node.factors)


def is_nabla(node: Node | None) -> bool:
    base = node.base if isinstance(node, Scripted) else node
    return isinstance(base, Mark) and base.text == "\\nabla"


def is_operator(node: Node | None) -> bool:
    r"""Whether a factor is a partial with what it derives by as its subscript."""
    return isinstance(node, Scripted) and node.base == Mark("\\partial") and node.sub is not None


def group_of(node: Node | None) -> Group | None:
    """The bracket that a factor is, with or without scripts."""
    if isinstance(node, Scripted):
        node = node.base
    if isinstance(node, Brace) and not node.command:
        inner = node.inside.only()
        return inner if isinstance(inner, Group) else None
    return node if isinstance(node, Group) else None


def has_relation(items: Items) -> bool:
    inner = inner_items(items)
    return any(isinstance(part, Rel) for part in inner.parts)


def argument_like(node: Node) -> bool:
    return (
        isinstance(node, Name | Scripted)
        and isinstance(parts_of(node)[0], Name | Group)
        or is_set(node)
    )


def is_list(items: Items) -> bool:
    """Whether the inside of a bracket is several values with commas between."""
    seps = [part.text for part in items.parts if isinstance(part, Sep)]
    return len(items.values()) > 1 and all(text == "," for text in seps)


def is_set(node: Node) -> bool:
    group = group_of(node)
    return group is not None and group.open in {"\\{", "\\lbrace"}


def is_idle(sep: Sep) -> bool:
    return sep.text in {"\\quad", "\\qquad", ".", ","}


def is_base(node: Node, reader: Reader) -> bool:
    return isinstance(node, Num) and node.text == str(reader.declared.base)


def minus_transpose(node: Node) -> bool:
    if not isinstance(node, Add) or len(node.terms) != 1 or node.terms[0].sign != "-":
        return False
    body = node.terms[0].body
    return (isinstance(body, Name) and body.base == "T") or (
        isinstance(body, Mark) and body.text in TRANSPOSE
    )


def brace_inside(node: Node) -> Node | None:
    if isinstance(node, Brace):
        values = node.inside.values()
        return values[0] if len(values) == 1 else None
    return node


def factor_row(node: Node | None) -> list[Factor]:
    if node is None:
        return []
    if isinstance(node, Brace) and not node.command:
        return factor_row(brace_inside(node))
    if isinstance(node, Product):
        return list(node.factors)
    if isinstance(node, Add) and is_partial_sign(node.terms[0].body):
        # `\partial -\log p`: the differential of all that follows
        rest = Add(node.terms[1:], pos=node.pos)
        return [Factor("", node.terms[0].body), Factor("", rest, pos=node.pos)]
    return [Factor("", node, pos=node.pos)]


def is_partial_sign(node: Node | None) -> bool:
    if is_operator(node):
        return False
    base = node.base if isinstance(node, Scripted) else node
    return isinstance(base, Mark) and base.text == "\\partial"


def is_differential(node: Node | None, sign: str) -> bool:
    if is_operator(node):
        return False
    base = node.base if isinstance(node, Scripted) else node
    if sign == "partial":
        return isinstance(base, Mark) and base.text == "\\partial"
    return isinstance(base, Name) and base.base == "d" and not base.accents


def differential_head(factors: list[Factor], sign: str):
    """The order of a differential and what it is of; (None, None) where it is none."""
    if not factors or not is_differential(factors[0].body, sign):
        return None, None
    head, order = factors[0].body, 1
    if isinstance(head, Scripted) and head.sup is not None:
        power = head.sup.only()
        if not isinstance(power, Num):
            return None, None
        order = int(float(power.text))
    rest = factors[1:]
    return order, (rest or None)


def slash_derivatives(factors: Sequence[Factor]) -> list[Factor]:
    r"""`\partial J / \partial w` and `dJ/dw` become fractions."""
    out = list(factors)
    at = 0
    while at < len(out):
        if out[at].op in DIVIDE and at + 1 < len(out):
            for sign in ("partial", "d"):
                if not is_differential(out[at].body, sign) or out[at + 1].op:
                    continue
                start = next(
                    (k for k in range(at - 1, -1, -1) if is_differential(out[k].body, sign)), None
                )
                if start is None:
                    continue
                num = Product((replace(out[start], op=""), *out[start + 1 : at]))
                den = Product((replace(out[at], op=""), out[at + 1]))
                frac = Frac(
                    Brace(Items((num if len(num.factors) > 1 else num.factors[0].body,))),
                    Brace(Items((den,))),
                    pos=out[start].pos,
                )
                out[start : at + 2] = [Factor(out[start].op, frac, pos=out[start].pos)]
                at = start
                break
        at += 1
    return out


def fold(items: list[tuple[str, m.Meaning]], pos: int) -> m.Meaning:
    """Multiply a row: juxtaposition binds closer than the elementwise product."""
    straight = fold_run(items, pos)
    runs: list[list[tuple[str, m.Meaning]]] = [[]]
    for op, value in items:
        if op in HADAMARD:
            runs.append([("", value)])
        else:
            runs[-1].append((op, value))
    if len(runs) == 1 or all(len(run) == 1 for run in runs[1:]):
        return straight
    tight = fold_run([(HADAMARD_OP, fold_run(run, pos)) for run in runs], pos)
    return m.Either(tight, straight, pos=pos)


def fold_run(items: list[tuple[str, m.Meaning]], pos: int) -> m.Meaning:
    total = items[0][1]
    for op, value in items[1:]:
        if op in DIVIDE or op == "\\oslash":
            total = m.Quotient(total, value, pos=pos)
        elif op in HADAMARD:
            total = m.Times("hadamard", total, value, pos=pos)
        elif op in STAR:
            total = m.Times("star", total, value, pos=pos)
        elif op == "\\otimes":
            total = m.Times("outer", total, value, pos=pos)
        elif op in SCALE:
            total = m.Times("dot" if op in {"\\cdot", "\\bullet"} else "", total, value, pos=pos)
        else:
            raise Unreadable(f"the sign `{op}` is not read", pos)
    return total


def cells_of(row: Sequence[Items]) -> list[Node | None]:
    """The entries of a matrix row; commas divide like `&`."""
    found: list[Node | None] = []
    for cell in row:
        values = [part for part in cell.parts if not isinstance(part, Sep)]
        if len(values) <= 1:
            found.append(values[0] if values else None)
        else:
            found += values
    return found


def without_ornaments(rows: list[list[Node | None]]) -> list[list[Node | None]]:
    """Drop the columns that hold nothing but the strokes of rows drawn as lines."""
    width = max(len(row) for row in rows)
    padded = [row + [None] * (width - len(row)) for row in rows]
    if not any(all(row[c] is None for row in padded) for c in range(width)):
        return rows
    kept = [c for c in range(width) if any(row[c] is not None for row in padded)]
    return [[row[c] for c in kept] for row in padded] if kept else rows


def bound_by(sub: Items) -> tuple[list[str], list[Rel], dict[str, Node]]:
    """The letters that a sum binds, its conditions, and the lower limits."""
    letters: list[str] = []
    conditions: list[Rel] = []
    lowers: dict[str, Node] = {}

    def bind(node: Node) -> bool:
        letter = letter_of(node)
        if letter is not None:
            if letter not in letters:
                letters.append(letter)
            return True
        if isinstance(node, Product) and all(
            f.op == "" and letter_of(f.body) is not None for f in node.factors
        ):
            for factor in node.factors:
                bind(factor.body)
            return True
        return False

    for part in sub.parts:
        if isinstance(part, Sep):
            continue
        if not isinstance(part, Rel):
            if not bind(part):
                raise Unreadable(f"`{to_latex(part)}` names no index", part.pos)
            continue
        left = part.sides[0]
        if part.ops == ("=",) and bind(left):
            lowers[letter_of(left) or letters[-1]] = part.sides[1]
        elif part.ops == ("\\in",) and bind(left):
            right = part.sides[1]
            if not (is_set(right) and any(isinstance(x, Dots) for x in walk(right))):
                raise Unreadable(
                    f"a sum over the set `{to_latex(right)}` is not read",
                    part.pos,
                    "give limits, or a condition such as k \\neq i",
                )
        elif len(part.sides) == 3 and letter_of(part.sides[1]) is not None:
            bind(part.sides[1])
            conditions.append(part)
        else:
            bind(left)
            conditions.append(part)
    return letters, conditions, lowers
