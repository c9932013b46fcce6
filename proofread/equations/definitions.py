"""Equations that define a symbol of the page, and its value in each world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .declare import Declarations
from .drawing import World
from .evaluate import Evaluator, Layout
from .parse import parse_atom
from .patterns import EQUAL, index_nodes
from .problem import BadDeclaration, Unreadable
from .reading import Reader
from .spelling import name_key
from .tree import Name, Node, Rel, Scripted, walk
from .value import Value, spread


@dataclass(frozen=True)
class DefinedSymbol:
    """A symbol that an equation of the page defines, and how to evaluate it in a world."""

    name: str
    rank: int
    value_in: Callable[[World], Value] = field(compare=False)


def defined_name(rel: Rel, declared: Declarations, defined: dict) -> str | None:
    """The declared name that this relation defines, where it is the first to name it."""
    if not rel.ops or rel.ops[0] not in EQUAL or rel.sides[0] is None:
        return None
    target = rel.sides[0]
    for text in declared.defines:
        for node in _heads(target):
            try:
                key = _key_of(text, declared.words)
            except Unreadable as problem:
                raise BadDeclaration(f"defines: {problem}") from None
            if name_key(node) == key and key not in defined:
                return text
    return None


def define(text: str, rel: Rel, reader: Reader, layout: Layout, defined: dict) -> None:
    """Add the symbol that a relation defines to those of the page."""
    declared, target = reader.declared, rel.sides[0]
    key = _key_of(text, declared.words)
    right = reader.read(rel.sides[1])
    letters = _subscript_letters(target, key)
    dims = [reader.free.get(letter, letter) for letter in letters]
    before = dict(defined)

    def value_in(world: World) -> Value:
        machine = Evaluator(
            world,
            reader.ranges,
            {d.name: d.value_in(world) for d in before.values()},
            declared.base,
            layout,
            limited=frozenset(reader.limited),
        )
        found = machine.value(right)
        missing = [d for d in found.idx if d not in dims]
        if missing:
            raise Unreadable(
                f"`{text}` is defined with the free index `{missing[0]}` on the right alone"
            )
        sizes = [machine.length(d) for d in dims]
        return Value(spread(found, tuple(dims), sizes))

    symbol = DefinedSymbol(text, 0, value_in)
    rank = symbol.value_in(declared.first_world).data.dim()
    defined[key] = replace(symbol, rank=rank)


def _heads(node: Node) -> list[Node]:
    """The forms of a left side under which a name may be declared: with and without scripts."""
    if isinstance(node, Scripted):
        found: list[Node] = [node]
        if node.sub is not None:
            found.append(
                replace(node, sub=None) if node.sup is not None or node.primes else node.base
            )
        if node.sup is not None and node.sub is not None:
            found.append(replace(node, sup=None))
        found.append(node.base)
        return [n for n in found if isinstance(n, Name | Scripted)]
    return [node] if isinstance(node, Name) else []


def _key_of(text: str, words) -> tuple[str, str, str]:
    return name_key(parse_atom(text, words))


def _subscript_letters(target: Node, key) -> list[str]:
    if not isinstance(target, Scripted) or name_key(target) == key:
        return []
    letters = []
    if target.sup is not None and not key[2]:
        letters += [n.base for n in walk(target.sup) if isinstance(n, Name)]
    if target.sub is not None and not key[1]:
        letters += [n.base for n in index_nodes(target.sub) if isinstance(n, Name)]
    return letters
