"""Which relations a formula states, and under which conditions each is claimed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from . import meaning as m
from .patterns import EQUAL, ORDER, letter_of
from .reading import Reader
from .tree import (
    Add,
    Display,
    Dots,
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
    is_word,
)

IDLE = frozenset(
    [
        r"\to",
        r"\rightarrow",
        r"\mapsto",
        r"\leftarrow",
        r"\gets",
        r"\sim",
        r"\longrightarrow",
        r"\notin",
        r"\subset",
        r"\subseteq",
    ]
)
_CONDITION_WORDS = re.compile(
    r"\b(if|for|when|where|whenever|with|all|any|unless)\b", re.IGNORECASE
)


@dataclass
class Statement:
    """A relation, and the conditions under which it is claimed."""

    rel: Rel
    conditions: list[Rel] = field(default_factory=list)


def continued(display: Display, before: Display) -> Display:
    """A formula that opens with a relation, its empty side filled from the one before."""
    first = next((p for line in display.lines for p in line.parts if isinstance(p, Rel)), None)
    rels = [p for line in before.lines for p in line.parts if isinstance(p, Rel)]
    if first is None or first.sides[0] is not None or not rels or rels[-1].sides[-1] is None:
        return display
    last = replace(rels[-1].sides[-1], pos=0)
    filled = replace(first, sides=(last, *first.sides[1:]))
    lines = tuple(
        replace(line, parts=tuple(filled if p is first else p for p in line.parts))
        for line in display.lines
    )
    return replace(display, lines=lines)


def statements(display: Display, reader: Reader) -> list[Statement]:
    """The relations of a formula, each with the conditions that stand beside it."""
    found: list[Statement] = []
    for line in display.lines:
        found += _of_line(line, reader)
    return found


def _of_line(line: Items, reader: Reader) -> list[Statement]:
    found: list[Statement] = []
    conditional = False
    parts = list(line.parts)
    for at, part in enumerate(parts):
        if isinstance(part, Sep):
            if part.text.startswith("\\text") or part.text.startswith("\\m"):
                conditional = bool(_CONDITION_WORDS.search(part.text))
            continue
        if not isinstance(part, Rel):
            if found and not found[-1].conditions:
                found[-1].conditions += _in_brackets(part, reader, conditional)
            conditional = conditional and not isinstance(part, Name)
            continue
        if _counts_to(parts, at) or _quantified(part):
            continue
        if found and (conditional or _only_indices(part) or _of_index(part, reader)):
            if not _has_quantifier(part):
                found[-1].conditions.append(part)
            continue
        found.append(_split(part, reader))
    return found


def _split(rel: Rel, reader: Reader) -> Statement:
    r"""A relation without the condition that ends it in brackets, as `a = b \; (i \neq j)`."""
    last = rel.sides[-1]
    sign = None
    if isinstance(last, Add) and len(last.terms) == 1:
        sign, last = last.terms[0], last.terms[0].body
    if not isinstance(last, Product) or len(rel.sides) < 2:
        return Statement(rel)
    *rest, end = last.factors
    before = rest[-1].body
    base = before.base if isinstance(before, Scripted) else before
    if end.op or end.sign or before is None or _indicates(base) or reader.function(before):
        return Statement(rel)
    conditions = _in_brackets(end.body, reader)
    if not conditions:
        return Statement(rel)
    side = rest[0].body if len(rest) == 1 else replace(last, factors=tuple(rest))
    if sign is not None:
        side = replace(rel.sides[-1], terms=(replace(sign, body=side),))
    return Statement(replace(rel, sides=(*rel.sides[:-1], side)), conditions)


def _indicates(base: Node | None) -> bool:
    """Whether a bracket behind this makes an indicator or a call, and no condition."""
    if isinstance(base, Num):
        return base.text == "1"
    if isinstance(base, Name):
        marks = {"1", "I", "\\bbone", "\\mathbbm1", "\\delta", "\\chi"}
        return base.base in marks or is_word(base.base) or base.font == "\\mathbb"
    return isinstance(base, Mark)


def _in_brackets(node: Node, reader: Reader, told: bool = False) -> list[Rel]:
    """The conditions that stand in brackets; those on data only where a word says so."""
    if not isinstance(node, Group) or node.open != "(":
        return []
    rels = node.inside.values()
    told = told or any(
        isinstance(part, Sep) and _CONDITION_WORDS.search(part.text) for part in node.inside.parts
    )
    for rel in rels:
        if not isinstance(rel, Rel):
            return []
        if not (told or _among_indices(rel, reader) or _of_index(rel, reader)):
            return []
    return [rel for rel in rels if not _has_quantifier(rel)]


def _among_indices(rel: Rel, reader: Reader) -> bool:
    """Whether a relation is between numbers and letters that are no arrays."""
    for side in rel.sides:
        if isinstance(side, Name):
            found = reader.symbol(side)
            if found is not None and not isinstance(found.of, m.Size):
                return False
    return _only_indices(rel)


def _of_index(rel: Rel, reader: Reader) -> bool:
    r"""Whether a relation is between an index and declared values of one, as `j \neq y_i`."""
    letters = values = 0
    for side in rel.sides:
        if not isinstance(side, Name | Scripted):
            return False
        found = reader.symbol(side)
        leaf = reader.declared.leaves.get(getattr(found.of, "name", "")) if found else None
        if leaf is not None and leaf.kind == "index":
            values += 1
        elif found is None and isinstance(side, Name) and letter_of(side) is not None:
            letters += 1
        else:
            return False
    known = all(op in EQUAL or op in ORDER for op in rel.ops)
    return known and letters > 0 and values > 0


def _quantified(rel: Rel) -> bool:
    """`\\forall j` says for which values something holds: for all, as is checked anyway."""
    first = rel.sides[0]
    if isinstance(first, Product):
        first = first.factors[0].body
    return isinstance(first, Mark) and first.text in {"\\forall", "\\exists"}


def _counts_to(parts: Sequence[Node], at: int) -> bool:
    """`i = 1, \\ldots, N` says what an index runs over."""
    rest = [p for p in parts[at + 1 : at + 4] if not isinstance(p, Sep)]
    return bool(rest) and isinstance(rest[0], Dots)


def _has_quantifier(rel: Rel) -> bool:
    return any(op in {"\\in"} for op in rel.ops)


def _only_indices(rel: Rel) -> bool:
    """Whether a relation is between bare letters and numbers, as `i \\neq j`."""
    for side in rel.sides:
        if isinstance(side, Name | Num) and not (isinstance(side, Name) and len(side.base) > 1):
            continue
        return False
    return all(op in EQUAL or op in ORDER or op == "\\in" for op in rel.ops)


def is_note(rel: Rel, reader: Reader) -> str:
    """Why a relation is a remark and no claim, if so."""
    if all(op in IDLE for op in rel.ops):
        return f"`{rel.ops[0]}` claims nothing to evaluate"
    if _only_indices(rel) and "\\in" not in rel.ops:
        names = [s for s in rel.sides if isinstance(s, Name)]
        if names and all(_is_counter(name, reader) for name in names):
            return "a remark on an index or a size"
    return ""


def _is_counter(name: Name, reader: Reader) -> bool:
    found = reader.symbol(name)
    if found is None:
        return name.base in reader.declared.index_keys
    return isinstance(found.of, m.Size)
