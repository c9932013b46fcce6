"""Names, their scripts and their indices, by the declared symbols."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import functions
from . import meaning as m
from .declare import Declarations
from .patterns import (
    HADAMARD,
    HIDDEN,
    ONE_FONTS,
    TRANSPOSE,
    index_nodes,
    letter_of,
    minus_transpose,
    parts_of,
    single_node,
    superscripts,
    variants_of,
    without,
)
from .problem import Unreadable
from .spelling import bare, squeeze
from .tree import (
    Add,
    Brace,
    Frac,
    Group,
    Items,
    Mark,
    Name,
    Node,
    Norm,
    Num,
    Product,
    Rel,
    Scripted,
    Sep,
    is_word,
    to_latex,
    walk,
)


@dataclass(frozen=True)
class Symbol:
    """What a name stands for, and the scripts that are no part of the name."""

    of: m.Meaning
    rank: int
    sub: Items | None = None
    sup: tuple[Node, ...] = ()


class Names:
    """Looks names up; the letters that are free in one chain are shared by all its sides."""

    def __init__(self, declared: Declarations, defined: dict | None = None):
        self.declared = declared
        self.defined = defined if defined is not None else {}
        self.free: dict[str, str] = {}
        self.ranges: dict[str, m.Meaning] = {}
        self.limited: set[str] = set()
        self._scopes: list[dict[str, str]] = []
        self._made = 0

    def dim_of(self, letter: str) -> str | None:
        """The dim that a letter means here, where it means an index."""
        for scope in reversed(self._scopes):
            if letter in scope:
                return scope[letter]
        if letter in self.free:
            return self.free[letter]
        if letter in self.declared.index_keys:
            return self._new_free(letter)
        return None

    def _new_free(self, letter: str) -> str:
        self.free[letter] = letter
        span = self.declared.index_keys.get(letter)
        if span is not None:
            self.ranges[letter] = self.span(span, letter)
        return letter

    def span(self, span: object, letter: str) -> m.Meaning:
        """The length of a declared range: a size, a number, or `1..N`."""
        text = str(span)
        if ".." in text:
            text = text.split("..")[1].strip(". ")
        if text.isdigit():
            return m.Const(float(text))
        if text in self.declared.first_world.sizes:
            return m.Size(text)
        raise Unreadable(f"indices: {letter} runs to `{text}`, which is no declared size")

    def bind(self, letter: str) -> str:
        """A dim of its own for a letter that a sum binds."""
        self._made += 1
        dim = f"{letter}#{self._made}"
        self._scopes[-1][letter] = dim
        return dim

    def _note_range(self, slot: m.Meaning | None, of: m.Meaning, axis: int) -> None:
        own = any(isinstance(part, m.IndexOf) and part == slot for part in m.walk(of))
        if isinstance(slot, m.IndexOf) and slot.dim not in self.ranges and not own:
            self.ranges[slot.dim] = m.AxisOf(of, axis)

    def symbol(self, node: Node) -> Symbol | None:
        """Look a name up, with as many of its scripts as are declared with it."""
        base, sub, sup, primes = parts_of(node)
        if not isinstance(base, Name | Num):
            return None
        sup_parts = superscripts(sup)
        labels = [part for part in sup_parts if not self._is_transpose(part)]
        for name in variants_of(base, primes):
            for take in range(len(labels), -1, -1):
                label = "".join(to_latex(part).replace(" ", "") for part in labels[:take])
                for with_sub in (True, False) if sub is not None else (False,):
                    found = self._named((name, squeeze(sub) if with_sub else "", label))
                    if not with_sub and sub is not None and not sup_parts:
                        entry = self.declared.entries.get((name, len(index_nodes(sub))))
                        if entry is not None:
                            data = self.declared.first_world.data[entry]
                            return Symbol(m.Array(entry), data.dim(), sub)
                    if found is None:
                        continue
                    rest = without(sup_parts, labels[:take])
                    if not with_sub and self._wants_capital(base, sub, found[1]):
                        continue
                    return Symbol(found[0], found[1], None if with_sub else sub, rest)
        if isinstance(base, Name) and len(base.base) == 1 and base.base.islower():
            return self._entry_of_capital(node, base, sub, sup)
        return None

    def _wants_capital(self, base: Node, sub: Items | None, rank: int) -> bool:
        """Whether `x_{ij}` has more indices than a declared `x`, but as many as `X`."""
        if sub is None or not isinstance(base, Name) or not base.base.islower():
            return False
        count = len(index_nodes(sub))
        only = sub.only()
        if isinstance(only, Num):
            count = len(only.text)
        if count <= rank or len(base.base) != 1:
            return False
        capital = self.symbol(replace(base, base=base.base.upper()))
        return capital is not None and capital.rank >= count

    def _entry_of_capital(self, node, base, sub, sup) -> Symbol | None:
        """`x_{ij}` is an entry and `x_i` a row of a declared `X`, where `x` is not declared."""
        if sub is None and sup is None:
            return None
        if self.dim_of(base.base) is not None:
            return None
        if base.base == "e" and sub is None:
            return None
        capital = replace(base, base=base.base.upper())
        found = self.symbol(replace(node, base=capital))
        return found if found is not None and found.rank else None

    def _named(self, key) -> tuple[m.Meaning, int] | None:
        if key in self.defined:
            return m.Defined(self.defined[key].name), self.defined[key].rank
        code = self.declared.table.get(key)
        if code is None:
            return None
        data = self.declared.first_world.data
        if code in data:
            return m.Array(code), data[code].dim()
        if code in self.declared.first_world.sizes:
            return m.Size(code), 0
        if code in self.declared.first_world.namespace:
            return None
        raise Unreadable(
            f"latex: `{key[0]}` is `{code}`, which neither `symbols`, `sizes` nor `forward` has"
        )

    def _is_transpose(self, node: Node) -> bool:
        if isinstance(node, Mark):
            return node.text in TRANSPOSE
        return isinstance(node, Name) and node.base == "T" and not node.accents

    def function(self, node: Node) -> str | None:
        """The function that a name means, if it means one."""
        base = node.base if isinstance(node, Scripted) else node
        if not isinstance(base, Name):
            return None
        table = self.declared.function_table
        label = squeeze(node.sub) if isinstance(node, Scripted) else ""
        sup = squeeze(node.sup) if isinstance(node, Scripted) else ""
        for name in variants_of(base, 0):
            for key in ((name, label, sup), (name, "", sup), (name, label, ""), (name, "", "")):
                if key in table:
                    return table[key]
        if base.accents or (not is_word(base.base) and base.base != "\\sigma"):
            return None
        if self.symbol(base) is not None or self.symbol(node) is not None:
            return None
        word = base.base.lower().replace("_", "")
        word = {"lognormal": "", "tr": "tr", "Tr": "tr"}.get(word, word)
        return word if word in functions.KNOWN else None

    def undeclared(self, node: Node) -> Unreadable:
        """Say that a name is not declared, and which declared one is nearest."""
        text = to_latex(node)
        keys = [k[0] for k in self.declared.table if k[0] != text]
        close = difflib.get_close_matches(bare(parts_of(node)[0] or node), keys, n=1, cutoff=0.5)
        hint = f"declared and near it: `{close[0]}`" if close else "declare it under `symbols`"
        return Unreadable(f"`{text}` is not declared", node.pos, hint)

    def _read_scripted(self, node: Scripted) -> m.Meaning:
        base = node.base
        indicator = self._indicator(node, None)
        if indicator is not None:
            return indicator[0]
        if isinstance(base, Brace) and base.command in HIDDEN:
            return self.read(replace(base, command=""))
        if isinstance(base, Norm):
            kind = squeeze(node.sub) or ("2" if base.bars == 2 else "abs")
            return self._powers(self._read_norm(base, kind), superscripts(node.sup))
        if isinstance(base, Name | Num):
            return self._scripted_symbol(node)
        if isinstance(base, Group) and base.open == "\\langle" and squeeze(node.sub) in {"F", "2"}:
            return self._read_scripted(replace(node, sub=None))
        if isinstance(base, Brace) and not base.command:
            inner = base.inside.only()
            if isinstance(inner, Name):
                return self._read_scripted(replace(node, base=inner))
        if isinstance(base, Mark):
            raise Unreadable(f"`{to_latex(node)}` stands alone here", node.pos)
        return self._rescripted(self.read(base), node)

    def _rescripted(self, value: m.Meaning, node: Scripted) -> m.Meaning:
        """Scripts on something closed: entries, then transposes and powers."""
        if node.primes:
            raise Unreadable("a prime stands at a group", node.pos)
        sup = superscripts(node.sup)
        inner = [part for part in sup if self._sample_index(part)]
        if inner:
            sup = tuple(part for part in sup if part not in inner)
            value = self.indexed(value, Items((inner[0].inside.only(),)), None)
        if node.sub is not None:
            entry = len(self.slots(node.sub)) > 1
            if entry and any(self._is_transpose(part) for part in sup):
                value = self._powers(value, sup)
                sup = ()
            value = self.indexed(value, node.sub, None)
        return self._powers(value, sup)

    def _sample_index(self, part: Node) -> bool:
        if not isinstance(part, Group) or part.open not in {"(", "["}:
            return False
        inside = part.inside.only()
        return isinstance(inside, Name) and self.dim_of(inside.base) is not None

    def _scripted_symbol(self, node: Name | Scripted) -> m.Meaning:
        base, sub, sup, _ = parts_of(node)
        letter = letter_of(node)
        if letter is not None:
            index = self._scope_only(letter)
            if index is not None:
                return m.IndexOf(index, pos=node.pos)
        kronecker = self._kronecker(node)
        if kronecker is not None:
            return kronecker
        found = self.symbol(node)
        if found is not None:
            return self._finish(found)
        if isinstance(base, Num):
            if sub is not None:
                raise Unreadable(f"`{to_latex(node)}` is a number with a subscript", node.pos)
            value = m.Const(float(base.text), pos=node.pos)
            return self._powers(value, superscripts(sup))
        special = self._special(base, sub, sup, node)
        if special is not None:
            return special
        raise self.undeclared(node)

    def _scope_only(self, letter: str) -> str | None:
        for scope in reversed(self._scopes):
            if letter in scope:
                return scope[letter]
        if self.symbol(Name(letter)) is None and (
            letter in self.free or letter in self.declared.index_keys
        ):
            return self.dim_of(letter)
        return None

    def _kronecker(self, node) -> m.Meaning | None:
        base, sub, sup, primes = parts_of(node)
        if not isinstance(base, Name) or base.base not in {"\\delta", "1"} or sub is None:
            return None
        if base.accents or primes or (sup is not None and base.base == "\\delta"):
            return None
        if base.base == "1":
            return None
        found = self.symbol(node)
        if found is not None and found.sub is None:
            return None
        parts = index_nodes(sub)
        if len(parts) != 2 or (found is not None and found.rank >= 2):
            return None
        one, two = (self.slot(part) for part in parts)
        if one is None or two is None:
            return None
        return m.Compare((one, two), ("=",), pos=node.pos)

    def _special(self, base: Name, sub, sup, node) -> m.Meaning | None:
        text, bold = base.base, base.font in ONE_FONTS or "\\vec" in base.accents
        if text == "e" and not base.accents:
            return self._powers(m.Const(2.718281828459045), superscripts(sup))
        if text == "\\pi" and sub is None:
            return self._powers(m.Const(3.141592653589793), superscripts(sup))
        size = self.read(single_node(sub)) if sub is not None and text in {"1", "0", "I"} else None
        if text == "1" and bold:
            return self._powers(m.Like("ones", size, pos=node.pos), superscripts(sup))
        if text == "0" and bold:
            return m.Const(0.0, pos=node.pos)
        if text in {"I", "E"} and sup is None and (text == "I" or bold):
            return m.Like("eye", size, pos=node.pos)
        return None

    def _finish(self, found: Symbol) -> m.Meaning:
        """Apply the scripts of a name that are no part of the name."""
        value, rank = found.of, found.rank
        sup = list(found.sup)
        slots = self._sub_slots(found.sub, rank) if found.sub is not None else []
        n_sub = len(slots)
        sample = None
        for part in sup:
            slot = self._superscript_index(part, rank - n_sub)
            if slot is not None:
                sample = slot
                sup.remove(part)
                break
        turn = [part for part in sup if self._is_transpose(part)]
        # An entry of the transpose; a slice such as W_{:,k} is taken first.
        entry = rank == 2 and n_sub == 2 and sample is None and None not in slots
        if turn and entry:
            value = m.Turned(value)
            sup = [part for part in sup if part not in turn]
        if found.sub is not None or sample is not None:
            value = self.indexed(value, found.sub, sample, rank)
        return self._powers(value, tuple(sup))

    def _superscript_index(self, part: Node, room: int) -> m.Meaning | None:
        if room < 1:
            return None
        inside = part
        if isinstance(part, Group) and part.open in {"(", "["}:
            inside = part.inside.only()
            if inside is None:
                return None
            if isinstance(inside, Num) or self._is_index_expression(inside):
                return self.slot(inside)
            return None
        known = isinstance(part, Name) and self.dim_of(part.base) is not None
        if known and (self.symbol(part) is None or part.base in self.declared.index_keys):
            return self.slot(part)
        return None

    def _is_index_expression(self, node: Node) -> bool:
        names = [part for part in walk(node) if isinstance(part, Name)]
        return bool(names) and all(
            self.dim_of(n.base) is not None or len(n.base) == 1 or n.base.startswith("\\")
            for n in names
        )

    def _powers(self, value: m.Meaning, parts: Sequence[Node]) -> m.Meaning:
        for part in parts:
            if self._is_transpose(part):
                value = m.Turned(value)
            elif isinstance(part, Mark) and part.text in {"+", "\\dagger"}:
                value = m.Call("pinv", (value,))
            elif isinstance(part, Mark):
                raise Unreadable(f"the superscript `{part.text}` is not declared", part.pos)
            elif minus_transpose(part):
                value = m.Turned(m.Power(value, m.Const(-1.0)))
            elif isinstance(part, Product) and part.factors[0].op in HADAMARD:
                raise Unreadable("an elementwise power is written with ^2", part.pos)
            elif (
                isinstance(part, Group)
                and part.open in {"(", "["}
                and not isinstance(part.inside.only(), Add | Frac)
            ):
                raise Unreadable(
                    f"`{to_latex(part)}` is neither a declared label nor an index with an axis "
                    "to run over",
                    part.pos,
                )
            else:
                value = m.Power(value, self.read(part), pos=part.pos)
        return value

    def indexed(self, value, sub, sample, rank: int | None = None) -> m.Meaning:
        """Take entries: the superscript index first, then the subscripts."""
        slots = list(self._sub_slots(sub, rank)) if sub is not None else []
        last = None
        if sample is not None:
            if self.declared.samples == "columns" and (rank or 1) > 1:
                last = sample
            else:
                slots.insert(0, sample)
        if rank is not None and len(slots) + (last is not None) > rank:
            what = to_latex(sub) if sub is not None else "the index"
            raise Unreadable(
                f"`{what}` has {len(slots) + (last is not None)} indices, and the array "
                f"{rank} {'axis' if rank == 1 else 'axes'}",
                sub.parts[0].pos if sub is not None and sub.parts else None,
            )
        for axis, slot in enumerate(slots):
            self._note_range(slot, value, axis)
        if last is not None:
            self._note_range(last, value, -1)
        return m.At(value, tuple(slots), last)

    def _sub_slots(self, sub: Items, rank: int | None) -> list[m.Meaning | None]:
        nodes = index_nodes(sub)
        only = nodes[0] if len(nodes) == 1 else None
        if rank and rank > 1 and isinstance(only, Num) and len(only.text) == rank:
            nodes = [Num(c, pos=nodes[0].pos) for c in nodes[0].text]
        return [self.slot(node) for node in nodes]

    def slots(self, sub: Items) -> list[m.Meaning | None]:
        """One slot for each index of a subscript."""
        return self._sub_slots(sub, None)

    def slot(self, node: Node) -> m.Meaning | None:
        """What stands in the place of an index; None for a whole axis."""
        if isinstance(node, Sep) or (isinstance(node, Mark) and node.text in {"*", "\\cdot"}):
            return None
        if isinstance(node, Mark | Rel):
            raise Unreadable(f"`{to_latex(node)}` is no index", node.pos)
        if letter_of(node) is not None:
            return self._index_name(node)
        if isinstance(node, Num):
            return m.Const(float(node.text), pos=node.pos)
        if isinstance(node, Group) and node.inside.only() is not None:
            return self.slot(node.inside.only())
        if isinstance(node, Add):
            terms = tuple(
                (-1 if t.sign in {"-", "−"} else 1, self.slot(t.body)) for t in node.terms
            )
            return m.Plus(terms, pos=node.pos)
        return self.read(node)

    def _index_name(self, node: Node) -> m.Meaning:
        letter = letter_of(node)
        dim = self.dim_of(letter)
        if dim is not None:
            return m.IndexOf(dim, pos=node.pos)
        found = self.symbol(node)
        if found is not None:
            return found.of
        if not is_word(letter.rstrip("'")):
            return m.IndexOf(self._new_free(letter), pos=node.pos)
        raise Unreadable(f"the index `{to_latex(node)}` is not declared", node.pos)
