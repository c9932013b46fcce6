"""How strong the check of the equations is: edit them as people err, and count what is caught.

An edit is caught if the edited formula no longer holds: it fails, holds by a convention
alone, can't be read, or becomes a check that could not fail. A survivor is an edit after
which the formula still holds. It is drawn again on many fresh draws at several sizes:
where it holds on all of them, both forms have the same value there, and it is listed as
meaning the same, with the reason where one can be told. What fails on a fresh draw is a
true survivor: a weakness of the check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from .check import Formula, _with_orders, one_thread
from .declare import Declarations
from .documents import Found, read_document
from .drawing import World, draw
from .front_matter import read_declarations
from .parse import parse
from .patterns import DIVIDE, HADAMARD, ORDER, is_dots
from .problem import BadDeclaration, Unreadable
from .reading import Reader
from .tree import (
    Add,
    Big,
    Brace,
    Cases,
    Display,
    Factor,
    Group,
    Items,
    Mark,
    Name,
    Node,
    Num,
    Product,
    Rel,
    Scripted,
    Term,
    to_latex,
    walk,
)
from .verdict import Page

FRESH = 12
KINDS = (
    "sign",
    "factor",
    "dropped factor",
    "dropped term",
    "dropped sum",
    "swapped index",
    "shifted index",
    "other index",
    "dropped transpose",
    "product for elementwise",
    "neighbour symbol",
    "flipped relation",
)


@dataclass(frozen=True)
class Edit:
    """One edit of a formula: its kind, what it replaces by what, and the edited formula."""

    kind: str
    before: str
    after: str
    display: Display


@dataclass
class Outcome:
    """What came of one edit: caught, same or survived, and why."""

    line: int
    kind: str
    before: str
    after: str
    latex: str
    outcome: str
    reason: str = ""


@dataclass
class Mutations:
    """The outcomes of one document."""

    path: str
    outcomes: list[Outcome] = field(default_factory=list)
    formulas: int = 0
    skipped: int = 0

    @property
    def survivors(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.outcome == "survived"]

    @property
    def same(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.outcome == "same"]

    @property
    def caught(self) -> int:
        return sum(o.outcome == "caught" for o in self.outcomes)

    def by_kind(self) -> dict[str, dict[str, int]]:
        """How many edits of each kind were caught, meant the same, survived."""
        found: dict[str, dict[str, int]] = {}
        for one in self.outcomes:
            row = found.setdefault(one.kind, {"caught": 0, "same": 0, "survived": 0})
            row[one.outcome] += 1
        return found

    def as_dict(self) -> dict:
        """Plain data."""
        return {
            "file": self.path,
            "formulas": self.formulas,
            "skipped": self.skipped,
            "edits": len(self.outcomes),
            "caught": self.caught,
            "same": [o.__dict__ for o in self.same],
            "survivors": [o.__dict__ for o in self.survivors],
            "by_kind": self.by_kind(),
        }

    def as_text(self) -> str:
        """A summary with every edit that was not caught."""
        real = len(self.outcomes) - len(self.same)
        share = f"{100 * self.caught / real:.1f}%" if real else "-"
        head = (
            f"{self.path}: {self.formulas} formulas, {len(self.outcomes)} edits, "
            f"{self.caught} of {real} caught ({share}), {len(self.same)} mean the same, "
            f"{len(self.survivors)} survive"
        )
        lines = [head]
        for kind, row in sorted(self.by_kind().items()):
            lines.append(f"  {kind}: {row['caught']} caught, {row['same']} mean the same, "
                         f"{row['survived']} survive")  # fmt: skip
        for one in [*self.survivors, *self.same]:
            lines.append(f"  line {one.line}: {one.outcome}: {one.kind}: {one.before} -> "
                         f"{one.after}: {one.reason}")  # fmt: skip
        return "\n".join(lines)


def mutate_file(
    path: str | Path, *, declarations: Mapping | None = None, most: int = 40
) -> Mutations:
    """Edit each formula of a file that holds, and see what the check says.

    Args:
        path: a Markdown, notebook or LaTeX file.
        declarations: the mapping otherwise found in its front matter.
        most: edits of one formula at most, taken evenly from all kinds.

    Raises:
        Unreadable: if the file or its declarations can't be read.
    """
    with one_thread():
        return _mutate(Path(path), declarations, most)


def _mutate(path: Path, declarations: Mapping | None, most: int) -> Mutations:
    document = read_document(path)
    given = declarations if declarations is not None else document.declarations
    sets = read_declarations(given, str(path.parent))
    sums_shown = any("\\sum" in found.latex for found in document.equations)
    result = Mutations(str(path))
    pages: dict[str, Page] = {}
    fresh: dict[str, list[World]] = {}
    for found in document.equations:
        if any(order.word in {"skip", "fails"} for order in found.orders):
            result.skipped += 1
            continue
        if found.using not in sets:
            raise BadDeclaration(f"line {found.line}: the set `{found.using}` is not declared")
        declared = sets[found.using]
        page = pages.setdefault(found.using, Page(declared, sums_shown=sums_shown))
        before = dict(page.defined)
        chains = page.check(found.latex)
        if any(c.verdict != "holds" for c in chains) or not sum(c.checked for c in chains):
            result.skipped += 1
            continue
        result.formulas += 1
        if found.using not in fresh:
            fresh[found.using] = _fresh_worlds(declared)
        own = Page(_with_orders(declared, found), sums_shown=sums_shown, conventions=False)
        vacuous = any(chain.vacuous for chain in chains)
        for edit in _spread(list(edits(parse(found.latex, declared.words), declared)), most):
            own.defined = dict(before)
            result.outcomes.append(_try(own, edit, found, vacuous, fresh[found.using]))
    return result


def _fresh_worlds(declared: Declarations) -> list[World]:
    worlds = []
    for number in range(FRESH):
        try:
            worlds.append(draw(declared, 100 + number, grow=number % 3))
        except Unreadable:
            worlds.append(draw(declared, 100 + number))
    return worlds


def _spread(found: list[Edit], most: int) -> list[Edit]:
    """At most `most` edits, taken from each kind in turn."""
    if len(found) <= most:
        return found
    queues = {kind: [e for e in found if e.kind == kind] for kind in KINDS}
    taken: list[Edit] = []
    while len(taken) < most and any(queues.values()):
        for kind in KINDS:
            if queues[kind] and len(taken) < most:
                queue = queues[kind]
                taken.append(queue.pop(len(queue) // 2))
    return taken


def _try(page: Page, edit: Edit, found: Found, vacuous: bool, fresh: list[World]) -> Outcome:
    made = Outcome(found.line, edit.kind, edit.before, edit.after, to_latex(edit.display), "caught")
    defined = dict(page.defined)
    chains = page.check_display(edit.display)
    bad = next((c for c in chains if c.verdict != "holds"), None)
    if bad is not None:
        made.reason = f"{bad.verdict}: {bad.reason}"
        return made
    if any(chain.vacuous for chain in chains) and not vacuous:
        made.reason = "vacuous: " + next(c.vacuous for c in chains if c.vacuous)
        return made
    again = Page(page.declared, sums_shown=page.sums_shown, worlds=fresh, conventions=False)
    again.defined = defined
    chains = again.check_display(edit.display)
    bad = next((c for c in chains if c.verdict != "holds"), None)
    if bad is not None:
        made.outcome, made.reason = "survived", f"a fresh draw tells it apart: {bad.reason}"
        return made
    made.outcome = "same"
    made.reason = (
        _why(edit) or f"the same value on {FRESH} fresh draws at three sizes and four scales"
    )
    return made


def _why(edit: Edit) -> str:
    """An argument that an edit means the same, beyond the numbers."""
    if edit.kind == "swapped index" and edit.before.startswith("\\delta"):
        return "Kronecker's delta is symmetric; the same value on fresh draws too"
    if edit.kind == "flipped relation" and "=" in edit.before:
        return "the relation is symmetric in what differs; the same value on fresh draws too"
    if edit.kind == "dropped transpose":
        return (
            "a transpose of a one-dimensional array, or of a symmetric matrix; "
            "the same value on fresh draws too"
        )
    return ""


# ---- edits ----


def edits(display: Display, declared: Declarations) -> Iterator[Edit]:
    """All single edits of a formula, as people err."""
    reader = Reader(declared)
    names = _names(display, reader)
    seen: set[str] = {to_latex(display)}
    for node, put, inside in _spots(display, lambda new: new, ()):
        for kind, new in _edits_of(node, inside, names, reader):
            changed = put(new)
            text = to_latex(changed)
            if text not in seen:
                seen.add(text)
                yield Edit(kind, to_latex(node), to_latex(new), changed)


def _spots(
    node: Node, put: Callable[[Node], Node], inside: tuple[Node, ...]
) -> Iterator[tuple[Node, Callable[[Node], Node], tuple[Node, ...]]]:
    """Each node, a function that gives the whole with the node replaced, and its ancestors."""
    yield node, put, inside
    for spot in fields(node):
        value = getattr(node, spot.name)
        yield from _in_value(value, _setter(node, spot.name, put), (*inside, node))


def _setter(node: Node, name: str, put: Callable) -> Callable:
    return lambda new: put(replace(node, **{name: new}))


def _in_value(value, put, inside):
    if isinstance(value, Node):
        yield from _spots(value, put, inside)
    elif isinstance(value, tuple):
        for at, part in enumerate(value):

            def put_at(new, at=at, value=value, put=put):
                return put((*value[:at], new, *value[at + 1 :]))

            yield from _in_value(part, put_at, inside)


def _names(display: Display, reader: Reader) -> dict[Node, tuple[int, ...]]:
    """The array names of a formula, with their shapes."""
    found: dict[Node, tuple[int, ...]] = {}
    world = reader.declared.first_world
    for node in walk(display):
        if isinstance(node, Name):
            try:
                symbol = reader.symbol(node)
            except Unreadable:
                continue
            code = getattr(symbol.of, "name", None) if symbol else None
            if code in world.data:
                found[node] = tuple(world.data[code].shape)
    return found


def _edits_of(node, inside, names, reader) -> Iterator[tuple[str, Node]]:
    in_script = any(isinstance(a, Items) and _script_of(inside, a) for a in inside)
    if isinstance(node, Add) and not in_script:
        yield from _of_sum(node)
    if isinstance(node, Rel) and not in_script:
        yield from _of_relation(node, inside)
    if isinstance(node, Product) and not in_script:
        yield from _of_product(node)
    if isinstance(node, Big):
        yield "dropped sum", Brace(Items((node.body,)))
    if isinstance(node, Num) and not in_script and not _in_elision(inside):
        yield "factor", Num(str(_other_number(node.text)))
    if isinstance(node, Scripted):
        yield from _of_scripts(node, reader)
    if isinstance(node, Name) and node in names and not in_script:
        yield from _neighbour(node, names)
    if isinstance(node, Rel):
        for at, op in enumerate(node.ops):
            flipped = _FLIPPED.get(op)
            if flipped and (in_script or _is_condition(inside) or op in ORDER):
                ops = (*node.ops[:at], flipped, *node.ops[at + 1 :])
                yield "flipped relation", replace(node, ops=ops)


_FLIPPED = {
    "<": ">", ">": "<", "\\lt": "\\gt", "\\gt": "\\lt", "\\le": "\\ge", "\\ge": "\\le",
    "\\leq": "\\geq", "\\geq": "\\leq", "\\neq": "=", "\\ne": "=",
}  # fmt: skip


def _script_of(inside: tuple[Node, ...], items: Items) -> bool:
    at = inside.index(items)
    owner = inside[at - 1] if at else None
    return (
        isinstance(owner, Scripted | Big)
        and owner is not None
        and items
        in (
            owner.sub,
            owner.sup,
        )
    )


def _is_condition(inside: tuple[Node, ...]) -> bool:
    return any(isinstance(a, Group | Cases) for a in inside)


def _in_elision(inside: tuple[Node, ...]) -> bool:
    """Numbers beside an ellipsis count its terms."""
    return any(
        isinstance(part, Add) and any(is_dots(t.body) for t in part.terms) for part in inside
    )


def _other_number(text: str) -> str:
    number = float(text)
    changed = 2 * number if number else 1
    return f"{changed:g}"


def _of_sum(node: Add) -> Iterator[tuple[str, Node]]:
    if any(is_dots(term.body) for term in node.terms):
        return
    for at, term in enumerate(node.terms):
        if term.body is None:
            continue
        sign = "+" if term.sign in {"-", "−"} else "-"
        if at == 0 and sign == "+":
            sign = ""
        terms = (*node.terms[:at], replace(term, sign=sign), *node.terms[at + 1 :])
        yield "sign", Add(terms) if len(terms) > 1 or sign else term.body
        if len(node.terms) > 1:
            rest = (*node.terms[:at], *node.terms[at + 1 :])
            if at == 0 and rest[0].sign == "+":
                rest = (replace(rest[0], sign=""), *rest[1:])
            alone = len(rest) == 1 and not rest[0].sign
            yield "dropped term", rest[0].body if alone else Add(rest)


def _of_relation(node: Rel, inside) -> Iterator[tuple[str, Node]]:
    if not inside or not isinstance(inside[-1], Items) or len(inside) > 2:
        return
    for at in range(len(node.sides)):
        side = node.sides[at]
        if side is None or at == 0 or side == Num("0"):
            continue
        doubled = Product((Factor("", Num("2")), Factor("", Group("(", Items((side,)), ")"))))
        yield "factor", _with_side(node, at, doubled)
        if not isinstance(side, Add):
            yield "sign", _with_side(node, at, Add((Term("-", side),)))


def _with_side(node: Rel, at: int, side: Node) -> Rel:
    return replace(node, sides=(*node.sides[:at], side, *node.sides[at + 1 :]))


def _of_product(node: Product) -> Iterator[tuple[str, Node]]:
    factors = node.factors
    if any(is_dots(f.body) for f in factors):
        return
    if any(isinstance(f.body, Mark) or _is_differential(f.body) for f in factors):
        return
    for at, factor in enumerate(factors):
        if factor.op in HADAMARD:
            changed = (*factors[:at], replace(factor, op=""), *factors[at + 1 :])
            yield "product for elementwise", Product(changed)
        follows = at + 1 < len(factors) and isinstance(factors[at + 1].body, Group)
        name = isinstance(factor.body, Name) or (
            isinstance(factor.body, Scripted) and isinstance(factor.body.base, Name)
        )
        divided = at + 1 < len(factors) and factors[at + 1].op in DIVIDE
        if factor.body is None or (name and follows) or (divided and at == 0):
            continue
        rest = (*factors[:at], *factors[at + 1 :])
        rest = (replace(rest[0], op=""), *rest[1:])
        yield (
            "dropped factor",
            rest[0].body if len(rest) == 1 and not rest[0].sign else Product(rest),
        )


def _is_differential(node: Node | None) -> bool:
    base = node.base if isinstance(node, Scripted) else node
    return isinstance(base, Name) and base.base == "d"


def _of_scripts(node: Scripted, reader: Reader) -> Iterator[tuple[str, Node]]:
    sup, sub = node.sup, node.sub
    if sup is not None:
        rest = _without_transpose(sup)
        if rest is not None:
            bare = replace(node, sup=rest if rest.parts else None)
            empty = bare.sup is None and bare.sub is None and not bare.primes
            yield "dropped transpose", node.base if empty else bare
    for name, items in (("sub", sub), ("sup", sup)):
        if items is None or any(isinstance(p, Rel) for p in items.parts):
            continue
        for at, (kind, new) in enumerate(_index_edits(items, reader, name)):
            del at
            yield kind, replace(node, **{name: new})
    if sub is not None and sup is not None:
        one, two = _sole_index(sup, reader), _sole_index(sub, reader)
        if one is not None and two is not None and one != two:
            swapped = replace(node, sub=_put(sub, two, one), sup=_put(sup, one, two))
            yield "swapped index", swapped


def _index_names(items: Items, reader: Reader) -> list[Name]:
    return [n for n in walk(items) if isinstance(n, Name) and _is_index(n, reader)]


def _is_index(name: Name, reader: Reader) -> bool:
    plain = not name.accents and (len(name.base) == 1)
    return (
        plain
        and name.base not in {"T"}
        and (name.base in reader.declared.index_keys or reader.symbol(name) is None)
    )


def _sole_index(items: Items, reader: Reader) -> Name | None:
    names = _index_names(items, reader)
    return names[0] if len(names) == 1 else None


def _put(node: Node, old: Node, new: Node) -> Node:
    from .tree import rebuild

    return new if node == old else rebuild(node, lambda child: _put(child, old, new))


def _index_edits(items: Items, reader: Reader, which: str) -> Iterator[tuple[str, Node]]:
    names = _index_names(items, reader)
    distinct = list(dict.fromkeys(names))
    if len(distinct) == 2:
        one, two = distinct
        marker = Name("swap")
        yield "swapped index", _put(_put(_put(items, one, marker), two, one), marker, two)
    letters = [x for x in reader.declared.index_keys if len(x) == 1]
    if which == "sup" and not any(isinstance(p, Group) for p in items.parts):
        return
    for name in distinct:
        shifted = Add((Term("", name), Term("+", Num("1"))))
        if len(distinct) == 1 and items.only() == name:
            yield "shifted index", Items((shifted,))
        for other in letters:
            if other != name.base and _same_span(reader, other, name.base):
                yield "other index", _put(items, name, Name(other))
                break


def _same_span(reader: Reader, one: str, two: str) -> bool:
    keys = reader.declared.index_keys
    return keys.get(one) == keys.get(two)


def _without_transpose(sup: Items) -> Items | None:
    """A superscript without its transpose; None where it has none."""
    parts = []
    found = False
    for part in sup.parts:
        if _is_transpose(part):
            found = True
        elif isinstance(part, Product):
            rest = tuple(f for f in part.factors if not _is_transpose(f.body))
            found = found or len(rest) < len(part.factors)
            parts.append(rest[0].body if len(rest) == 1 else Product(rest))
        else:
            parts.append(part)
    return Items(tuple(parts)) if found else None


def _is_transpose(node: Node | None) -> bool:
    if isinstance(node, Mark):
        return node.text in {"\\top", "\\intercal"}
    return isinstance(node, Name) and node.base == "T"


def _neighbour(node: Name, names) -> Iterator[tuple[str, Node]]:
    others = [other for other in names if other != node and names[other] == names[node]]
    if others:
        yield "neighbour symbol", others[0]


__all__ = ["Edit", "Formula", "Mutations", "Outcome", "edits", "mutate_file"]
