"""From the tree of a formula to its meaning, by the declared symbols.

What is ambiguous on paper is settled here by what is declared, or reported: whether
`f(x)` is a call or a product, whether `^{(i)}` is an index, a label or a power, how far
a sum, a derivative or a logarithm reaches.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import ellipsis, functions
from . import meaning as m
from .declare import Declarations, bare, squeeze
from .problem import Unreadable
from .tree import (
    Add,
    Big,
    Brace,
    Cases,
    Dots,
    Factor,
    Frac,
    Group,
    Items,
    Mark,
    Matrix,
    Name,
    Node,
    Norm,
    Num,
    Product,
    Rel,
    Scripted,
    Sep,
    Sqrt,
    Term,
    is_word,
    to_latex,
    walk,
)

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


@dataclass(frozen=True)
class Symbol:
    """What a name stands for, and the scripts that are no part of the name."""

    of: m.Meaning
    rank: int
    sub: Items | None = None
    sup: tuple[Node, ...] = ()


class Reader:
    """Reads the nodes of one chain; its free indices are shared by all sides."""

    def __init__(self, declared: Declarations, defined: dict | None = None):
        self.declared = declared
        self.defined = defined if defined is not None else {}
        self.free: dict[str, str] = {}
        self.ranges: dict[str, m.Meaning] = {}
        self.limited: set[str] = set()
        self._scopes: list[dict[str, str]] = []
        self._made = 0

    # ---- indices ----

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

    # ---- names ----

    def symbol(self, node: Node) -> Symbol | None:
        """Look a name up, with as many of its scripts as are declared with it."""
        base, sub, sup, primes = _parts(node)
        if not isinstance(base, Name | Num):
            return None
        sup_parts = _sup_parts(sup)
        labels = [part for part in sup_parts if not self._is_transpose(part)]
        for name in _variants(base, primes):
            for take in range(len(labels), -1, -1):
                label = "".join(to_latex(part).replace(" ", "") for part in labels[:take])
                for with_sub in (True, False) if sub is not None else (False,):
                    found = self._named((name, squeeze(sub) if with_sub else "", label))
                    if not with_sub and sub is not None and not sup_parts:
                        entry = self.declared.entries.get((name, len(_index_nodes(sub))))
                        if entry is not None:
                            data = self.declared.first_world.data[entry]
                            return Symbol(m.Array(entry), data.dim(), sub)
                    if found is None:
                        continue
                    rest = _without(sup_parts, labels[:take])
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
        count = len(_index_nodes(sub))
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
        for name in _variants(base, 0):
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
        close = difflib.get_close_matches(bare(_parts(node)[0] or node), keys, n=1, cutoff=0.5)
        hint = f"declared and near it: `{close[0]}`" if close else "declare it under `symbols`"
        return Unreadable(f"`{text}` is not declared", node.pos, hint)

    # ---- expressions ----

    def read(self, node: Node | None) -> m.Meaning:
        """The meaning of an expression.

        Raises:
            Unreadable: with the place of what has no meaning here.
        """
        if node is None:
            raise Unreadable("a side of the relation is empty")
        method = getattr(self, f"_read_{type(node).__name__.lower()}", None)
        if method is None:
            raise Unreadable(f"`{to_latex(node)}` has no value here", node.pos)
        return method(node)

    def _read_num(self, node: Num) -> m.Meaning:
        return m.Const(float(node.text), pos=node.pos)

    def _read_name(self, node: Name) -> m.Meaning:
        return self._scripted_symbol(node)

    def _read_mark(self, node: Mark) -> m.Meaning:
        if node.text == "\\infty":
            return m.Const(float("inf"), pos=node.pos)
        raise Unreadable(f"`{node.text}` stands alone here", node.pos)

    def _read_dots(self, node: Dots) -> m.Meaning:
        raise Unreadable(
            "an ellipsis is read between terms of a sum or entries of a matrix", node.pos
        )

    def _read_brace(self, node: Brace) -> m.Meaning:
        if node.command.startswith("\\") and node.command in {
            "\\hat", "\\bar", "\\tilde", "\\dot", "\\ddot", "\\check", "\\breve", "\\widehat",
            "\\overline", "\\widetilde",
        }:  # fmt: skip
            raise Unreadable(f"`{to_latex(node)}` is not declared", node.pos)
        return self._only(node.inside, node)

    def _read_group(self, node: Group) -> m.Meaning:
        values = node.inside.values()
        if node.open == "\\langle" and len(values) == 2:
            left, right = (self.read(value) for value in values)
            return m.Times("inner", left, right, pos=node.pos)
        if node.open in {"\\lfloor", "\\lceil"}:
            raise Unreadable("rounding is not read", node.pos)
        inside = node.inside.only()
        if isinstance(inside, Rel):
            return self.condition(inside)
        if len(values) > 1 and node.open in {"(", "["} and _is_list(node.inside):
            cells = tuple(Items((value,)) for value in values)
            return self._read_matrix(Matrix("bmatrix", (cells,), pos=node.pos))
        return self._only(node.inside, node)

    def _only(self, items: Items, node: Node) -> m.Meaning:
        values = items.values()
        if len(values) == 1 and all(isinstance(p, Sep) is False or _idle(p) for p in items.parts):
            return self.read(values[0])
        what = "is empty" if not values else "holds several things"
        raise Unreadable(f"`{to_latex(node)}` {what}, and is no list of arguments", node.pos)

    def _read_sqrt(self, node: Sqrt) -> m.Meaning:
        root = float(node.index) if re.fullmatch(r"\d+", node.index) else 2.0
        return m.Power(self.read(node.body), m.Const(1.0 / root), pos=node.pos)

    def _read_norm(self, node: Norm, kind: str = "") -> m.Meaning:
        return m.NormOf(self.read(node.body), kind or ("2" if node.bars == 2 else "abs"))

    def _read_rel(self, node: Rel) -> m.Meaning:
        return self.condition(node)

    def _read_frac(self, node: Frac) -> m.Meaning:
        found = self._as_derivative(node)
        if found is not None:
            of, wrap = found
            if of is None:
                raise Unreadable("the derivative has nothing to its right", node.pos)
            return wrap(of)
        return m.Quotient(self.read(node.num), self.read(node.den), pos=node.pos)

    def _read_add(self, node: Add) -> m.Meaning:
        if any(_is_dots(term.body) for term in node.terms):
            return self._elided_sum(node)
        return m.Plus(tuple(self._term(term) for term in node.terms), pos=node.pos)

    def _term(self, term: Term) -> tuple[int, m.Meaning]:
        if term.body is None:
            raise Unreadable(f"nothing follows `{term.sign}`", term.pos)
        if term.sign in {"\\pm", "\\mp"}:
            raise Unreadable(f"`{term.sign}` means two things at once", term.pos)
        return (-1 if term.sign in {"-", "−"} else 1), self.read(term.body)

    def _elided_sum(self, node: Add) -> m.Meaning:
        plain, runs = ellipsis.sum_runs(node)
        terms = [self._term(term) for term in plain]
        for run in runs:
            terms.append((-1 if run.sign in {"-", "−"} else 1, self._run("sum", run)))
        return m.Plus(tuple(terms), pos=node.pos)

    def _elided_product(self, factors: Sequence[Factor], pos: int) -> m.Meaning:
        terms = tuple(Term("", factor.body, pos=factor.pos) for factor in factors)
        plain, runs = ellipsis.sum_runs(Add(terms, pos=pos))
        rest = [Factor("", term.body, pos=term.pos) for term in plain]
        items = [("", self.product(rest, pos))] if rest else []
        return _fold_run([*items, *(("", self._run("prod", run)) for run in runs)], pos)

    def _run(self, op: str, run: ellipsis.Run) -> m.Meaning:
        """A sum or product over the hole of a pattern."""
        self._scopes.append({})
        dim = self.bind(ellipsis.HOLE)
        self.limited.add(dim)
        first, last = self.read(run.first), self.read(run.last)
        self.ranges[dim] = last
        where = m.Compare((m.IndexOf(dim), first), (">=",))
        body = self.read(run.pattern)
        self._scopes.pop()
        return m.Over(op, (dim,), body, where)

    def _read_big(self, node: Big) -> m.Meaning:
        op = "sum" if node.op == "\\sum" else "prod"
        return self.over(op, node.sub, node.sup, node.body, node.pos)

    def over(self, op, sub, sup, body, pos) -> m.Meaning:
        """A sum, product, maximum or minimum over the indices that `sub` names."""
        letters, conditions, lowers = _bound(sub) if sub is not None else ([], [], {})
        if not letters and sub is None:
            letters = self._letters_of_body(body, pos)
        if not letters:
            raise Unreadable(f"`{to_latex(sub)}` names no index to run over", pos)
        outer = self.read(_single(sup)) if sup is not None else None
        lows = {letter: self.read(low) for letter, low in lowers.items() if not _is_base(low, self)}
        self._scopes.append({})
        dims = [self.bind(letter) for letter in letters]
        if outer is not None and not any(isinstance(p, m.IndexOf) for p in m.walk(outer)):
            for dim in dims:
                self.ranges[dim] = outer
                self.limited.add(dim)
        parts = [
            m.Compare((m.IndexOf(self._scopes[-1][letter]), low), (">=",))
            for letter, low in lows.items()
        ]
        if outer is not None and dims[0] not in self.ranges:
            parts += [m.Compare((m.IndexOf(dim), outer), ("<=",)) for dim in dims]
        parts += [self.condition(condition) for condition in conditions]
        what = self.read(body)
        self._scopes.pop()
        for letter, dim in zip(letters, dims, strict=True):
            if dim not in self.ranges and letter in self.declared.index_keys:
                self.ranges[dim] = self.span(self.declared.index_keys[letter], letter)
        where = None if not parts else parts[0] if len(parts) == 1 else m.All(tuple(parts))
        return m.Over(op, tuple(dims), what, where, pos=pos)

    def _letters_of_body(self, body: Node, pos: int) -> list[str]:
        """A sum without an index runs over the one index of its body that is not yet in use."""
        found: dict[str, None] = {}
        for node in walk(body):
            if isinstance(node, Scripted) and node.sub is not None:
                for part in walk(node.sub):
                    if isinstance(part, Name) and self._index_like(part):
                        found[part.base] = None
        letters = [x for x in found if x not in self.free and not any(x in s for s in self._scopes)]
        if len(letters) == 1:
            return letters
        raise Unreadable(
            "the sum names no index, and its body leaves open which is meant", pos, r"write \sum_i"
        )

    def _index_like(self, name: Name) -> bool:
        plain = len(name.base) == 1 and not name.accents
        known = self.symbol(name)
        return plain and (known is None or name.base in self.declared.index_keys)

    # ---- products ----

    def _read_product(self, node: Product) -> m.Meaning:
        return self.product(node.factors, node.pos)

    def product(self, factors: Sequence[Factor], pos: int) -> m.Meaning:
        """A row of factors: calls and operators first, then the multiplications."""
        factors = _slash_derivatives(factors)
        if any(_is_dots(factor.body) for factor in factors):
            return self._elided_product(factors, pos)
        items: list[tuple[str, m.Meaning]] = []
        at = 0
        while at < len(factors):
            factor = factors[at]
            if factor.body is None:
                raise Unreadable(f"nothing follows `{factor.op}`", factor.pos)
            value, used = self._factor(factors, at)
            if factor.sign in {"-", "−"}:
                value = m.Plus(((-1, value),), pos=factor.pos)
            items.append((factor.op, value))
            self._check_slash(factors, at + used)
            at += used
        return _fold(items, pos)

    def _check_slash(self, factors: Sequence[Factor], at: int) -> None:
        """`1/2N` is read as 1/(2N) by some and as N/2 by others."""
        if at >= len(factors) or at < 1 or factors[at].op or factors[at - 1].op not in DIVIDE:
            return
        one, two = factors[at - 1].body, factors[at].body
        simple = (Name, Scripted)
        if isinstance(one, Num) and isinstance(two, simple) and not isinstance(two, Group):
            base = two.base if isinstance(two, Scripted) else two
            if isinstance(base, Name) and not self.function(two):
                raise Unreadable(
                    f"`/{to_latex(one)} {to_latex(two)}` can be read in two ways",
                    factors[at].pos,
                    "write a \\frac or brackets",
                )

    def _factor(self, factors: Sequence[Factor], at: int) -> tuple[m.Meaning, int]:
        """The meaning of the factor at `at`, and how many factors it takes up."""
        node = factors[at].body
        ahead = factors[at + 1] if at + 1 < len(factors) else None
        beside = ahead is not None and ahead.op == "" and not ahead.sign
        if _is_nabla(node):
            return self._nabla(factors, at)
        if _is_operator(node):
            return self._partial_operator(factors, at)
        if isinstance(node, Frac):
            found = self._as_derivative(node)
            if found is not None and found[0] is None:
                body, used = self._operand(factors, at + 1, node.pos)
                return found[1](body), used + 1
        group = _group_of(ahead.body) if beside else None
        indicator = self._indicator(node, group)
        if indicator is not None:
            return indicator
        if self._extreme(node):
            return self._read_extreme(factors, at)
        if group is not None and self.function(node) is None:
            shown = self._shown_arguments(node, group)
            if shown is not None:
                scripts = ahead.body if isinstance(ahead.body, Scripted) else None
                return (self._rescripted(shown, scripts) if scripts else shown), 2
        if self.function(node) is not None and not self._rather_symbol(node, group):
            return self._call(factors, at)
        named = isinstance(_parts(node)[0], Name)
        if group is not None and _is_list(group.inside) and named:
            raise Unreadable(
                f"`{to_latex(node)}` is followed by a list, as a function is",
                node.pos,
                "declare it under `functions`",
            )
        return self.read(node), 1

    def _rather_symbol(self, node: Node, group: Group | None) -> bool:
        """Whether a name that is declared as a function and as a quantity means the quantity."""
        if self.symbol(node) is None or self._label_of_function(node):
            return False
        return group is None or isinstance(node, Scripted) and node.sub is not None

    def _operand(self, factors, at, pos) -> tuple[m.Meaning, int]:
        """What an operator such as d/dx acts on: a bracket, or all up to a sign between."""
        if at >= len(factors):
            raise Unreadable("the derivative has nothing to its right", pos)
        first = factors[at].body
        if _group_of(first) is not None:
            return self.read(first), 1
        stop = at + 1
        while stop < len(factors) and factors[stop].op == "":
            stop += 1
        return self.product([replace(factors[at], op=""), *factors[at + 1 : stop]], pos), stop - at

    def _nabla(self, factors, at) -> tuple[m.Meaning, int]:
        node = factors[at].body
        sub = node.sub if isinstance(node, Scripted) else None
        if at + 1 >= len(factors):
            raise Unreadable("the gradient has nothing to its right", node.pos)
        ahead = factors[at + 1].body
        found = self.symbol(ahead) if isinstance(ahead, Name | Scripted) else None
        if found is not None and found.rank == 0:
            # The gradient of a named scalar reaches no further than its name.
            of, used = self._factor(factors, at + 1)
        else:
            of, used = self._operand(factors, at + 1, node.pos)
        if sub is not None:
            by = self.read(_single(sub))
        else:
            by = self._sole_argument(factors, at + 1, node.pos)
        once = m.Partial(of, by, pos=node.pos)
        sup = _sup_parts(node.sup) if isinstance(node, Scripted) else ()
        if sup == (Num("2"),):
            return m.Partial(once, by, pos=node.pos), used + 1
        if sup:
            raise Unreadable(f"`{to_latex(node)}` is not read", node.pos)
        return once, used + 1

    def _partial_operator(self, factors, at) -> tuple[m.Meaning, int]:
        r"""`\partial_x f`: the derivative of the one factor that follows."""
        node = factors[at].body
        by_node, sup = _single(node.sub), _sup_parts(node.sup)
        order = 2 if sup == (Num("2"),) else 1
        if (sup and order == 1) or node.primes or not isinstance(by_node, Name | Scripted):
            raise Unreadable(f"`{to_latex(node)}` is not read", node.pos)
        ahead = factors[at + 1] if at + 1 < len(factors) else None
        if ahead is None or ahead.op or ahead.sign:
            raise Unreadable("the derivative has nothing to its right", node.pos)
        of, used = self._factor(factors, at + 1)
        after = factors[at + 1 + used] if at + 1 + used < len(factors) else None
        if after is not None and after.op == "" and not _is_operator(after.body):
            found = self.symbol(ahead.body) if self._plain(ahead.body) else None
            if _group_of(ahead.body) is None and (found is None or found.rank):
                one, two = to_latex(ahead.body), to_latex(after.body)
                raise Unreadable(
                    f"the derivative can be meant of `{one}` or of `{one} {two}`",
                    after.pos,
                    "put what is derived in brackets",
                )
        by = self._by(by_node)
        turned = isinstance(by, m.Turned)
        for _ in range(order):
            of = m.Partial(of, by.of if turned else by, turned, pos=node.pos)
        return of, used + 1

    def _sole_argument(self, factors, at, pos) -> m.Meaning:
        """What a nabla without subscript derives by: the one argument that is shown."""
        group = _group_of(factors[at + 1].body) if at + 1 < len(factors) else None
        if group is not None and len(group.inside.values()) == 1:
            return self.read(group.inside.values()[0])
        floats = [n for n, leaf in self.declared.leaves.items() if leaf.kind == "real"]
        if len(floats) == 1:
            return m.Array(floats[0])
        raise Unreadable("the gradient names nothing to derive by", pos, r"write \nabla_w")

    def _indicator(self, node: Node, group: Group | None) -> tuple[m.Meaning, int] | None:
        r"""`\mathbf{1}[z > 0]`, `1\{y = k\}`, `1_{i = j}`."""
        base, sub, sup, _ = _parts(node)
        one = isinstance(base, Name | Num) and (
            (isinstance(base, Num) and base.text == "1")
            or base == Name("I")
            or (isinstance(base, Name) and base.base in {"1", "I", "\\bbone", "\\mathbbm1"})
        )
        if not one:
            return None
        if sub is not None and any(isinstance(p, Rel) for p in walk(sub)):
            value = self.condition_items(_inner(sub))
            return self._powers(value, _sup_parts(sup)), 1
        if group is not None and sub is None and _has_relation(group.inside):
            return self.condition_items(group.inside), 2
        return None

    def _extreme(self, node: Node) -> bool:
        base = node.base if isinstance(node, Scripted) else node
        word = isinstance(base, Name) and base.base in {"max", "min"}
        return word and isinstance(node, Scripted) and node.sub is not None

    def _read_extreme(self, factors, at) -> tuple[m.Meaning, int]:
        node = factors[at].body
        stop = at + 1
        while stop < len(factors) and factors[stop].op == "":
            stop += 1
        if stop == at + 1:
            raise Unreadable(f"`{to_latex(node)}` has nothing to its right", node.pos)
        if _group_of(factors[at + 1].body) is not None:
            stop = at + 2
        body = Product(tuple(factors[at + 1 : stop]), pos=node.pos)
        inner = body if len(body.factors) > 1 else body.factors[0].body
        return self.over(node.base.base, node.sub, None, inner, node.pos), stop - at

    def _shown_arguments(self, node: Node, group: Group) -> m.Meaning | None:
        """`J(w, b)` is J with its arguments shown, where J is what the forward computes."""
        if group.open not in {"(", "["}:
            return None
        found = self.symbol(node)
        if found is None or not isinstance(found.of, m.Array | m.Defined):
            return None
        if isinstance(found.of, m.Array) and found.of.name in self.declared.leaves:
            return None
        values = group.inside.values()
        if not values or not all(_argument_like(value) for value in values):
            return None
        only = values[0] if len(values) == 1 else None
        if only is not None and self.symbol(only) is None and not _is_set(only):
            raise self.undeclared(only)
        return self._finish(found)

    def _call(self, factors, at) -> tuple[m.Meaning, int]:
        node = factors[at].body
        name = self.function(node)
        _, sub, sup, primes = _parts(node)
        label_taken = self._label_of_function(node)
        ahead = factors[at + 1] if at + 1 < len(factors) else None
        if ahead is None or ahead.op != "" or ahead.sign:
            raise Unreadable(f"the function `{to_latex(node)}` has no argument", node.pos)
        group, used = _group_of(ahead.body), 2
        scripts = None
        if group is not None:
            args = [self.read(value) for value in group.inside.values()]
            if isinstance(ahead.body, Scripted):
                scripts = ahead.body
        else:
            body, took = self._loose_argument(factors, at + 1, name in functions.WHOLE)
            args, used = [body], took + 1
        if not args:
            raise Unreadable(f"the function `{to_latex(node)}` has no argument", node.pos)
        value = self._apply(name, args, primes, node)
        if not label_taken:
            if sub is not None:
                value = self._function_sub(value, name, sub, node)
            value = self._powers(value, _sup_parts(sup))
        if scripts is not None:
            value = self._rescripted(value, scripts)
        return value, used

    def _label_of_function(self, node: Node) -> bool:
        if not isinstance(node, Scripted):
            return False
        table = self.declared.function_table
        keys = [(name, squeeze(node.sub), squeeze(node.sup)) for name in _variants(node.base, 0)]
        return any(key in table and (key[1] or key[2]) for key in keys)

    def _function_sub(self, value, name, sub, node):
        if name in {"log", "lg"}:
            base = self.read(_single(sub))
            return m.Quotient(value, m.Call("log", (base,)))
        return self.indexed(value, sub, None)

    def _apply(self, name, args, primes, node) -> m.Meaning:
        if name in functions.EXTREMES and len(args) == 1:
            return m.NormOf(args[0], name)
        if primes == 0 and isinstance(args[0], m.At) and self._of_rows(name):
            entry = args[0]
            if entry.slots and entry.slots[-1] is not None and entry.last is None:
                # softmax(z_i) is written for the i-th entry of softmax(z)
                whole = (*entry.slots[:-1], None)
                inner = m.At(entry.of, whole) if any(whole) else entry.of
                depth = sum(slot is None for slot in whole) - 1
                return m.At(m.Call(name, (inner,)), (None,) * depth + (entry.slots[-1],))
        return m.Call(name, tuple(args), primes, pos=node.pos)

    def _of_rows(self, name: str) -> bool:
        if name in functions.ROW and name not in self.declared.functions:
            return True
        return name in self.declared.functions and self.declared.acts_on_rows(name)

    def _loose_argument(self, factors, at, whole=False) -> tuple[m.Meaning, int]:
        """The argument of a function without brackets, such as `\\log 2 p_i`."""
        stop = at + 1
        if whole:
            while stop < len(factors) and factors[stop].op == "" and not factors[stop].sign:
                stop += 1
            inner = [replace(factors[at], op=""), *factors[at + 1 : stop]]
            return self.product(inner, factors[at].pos), stop - at
        while stop < len(factors) and factors[stop].op == "" and not factors[stop].sign:
            if not all(isinstance(f.body, Num) for f in factors[at:stop]):
                break
            stop += 1
        after = factors[stop] if stop < len(factors) else None
        taken = factors[at].body
        if after is not None and after.op == "" and self._plain(taken) and self._plain(after.body):
            one, two = to_latex(taken), to_latex(after.body)
            raise Unreadable(
                f"the function can be meant of `{one}` or of `{one} {two}`",
                after.pos,
                "put its argument in brackets",
            )
        if self.function(taken) is not None or self._extreme(taken):
            return self._factor(factors, at)
        inner = [replace(factors[at], op=""), *factors[at + 1 : stop]]
        return self.product(inner, taken.pos), stop - at

    def _plain(self, node: Node | None) -> bool:
        """Whether a factor is a quantity, neither a bracket nor something that acts."""
        if not isinstance(node, Name | Scripted) or _group_of(node) is not None:
            return False
        return self.function(node) is None and not _is_nabla(node)

    # ---- scripts ----

    def _read_scripted(self, node: Scripted) -> m.Meaning:
        base = node.base
        indicator = self._indicator(node, None)
        if indicator is not None:
            return indicator[0]
        if isinstance(base, Brace) and base.command in HIDDEN:
            return self.read(replace(base, command=""))
        if isinstance(base, Norm):
            kind = squeeze(node.sub) or ("2" if base.bars == 2 else "abs")
            return self._powers(self._read_norm(base, kind), _sup_parts(node.sup))
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
        sup = _sup_parts(node.sup)
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
        base, sub, sup, _ = _parts(node)
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
            return self._powers(value, _sup_parts(sup))
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
        base, sub, sup, primes = _parts(node)
        if not isinstance(base, Name) or base.base not in {"\\delta", "1"} or sub is None:
            return None
        if base.accents or primes or (sup is not None and base.base == "\\delta"):
            return None
        if base.base == "1":
            return None
        found = self.symbol(node)
        if found is not None and found.sub is None:
            return None
        parts = _index_nodes(sub)
        if len(parts) != 2 or (found is not None and found.rank >= 2):
            return None
        one, two = (self.slot(part) for part in parts)
        if one is None or two is None:
            return None
        return m.Compare((one, two), ("=",), pos=node.pos)

    def _special(self, base: Name, sub, sup, node) -> m.Meaning | None:
        text, bold = base.base, base.font in ONE_FONTS or "\\vec" in base.accents
        if text == "e" and not base.accents:
            return self._powers(m.Const(2.718281828459045), _sup_parts(sup))
        if text == "\\pi" and sub is None:
            return self._powers(m.Const(3.141592653589793), _sup_parts(sup))
        size = self.read(_single(sub)) if sub is not None and text in {"1", "0", "I"} else None
        if text == "1" and bold:
            return self._powers(m.Like("ones", size, pos=node.pos), _sup_parts(sup))
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
            elif _minus_transpose(part):
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
        nodes = _index_nodes(sub)
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

    # ---- derivatives ----

    def _as_derivative(self, node: Frac):
        """A fraction of differentials: what is derived (None for an operator), and how."""
        num, den = _brace_inside(node.num), _brace_inside(node.den)
        den_factors = _row(den)
        sign = self._differential(den_factors)
        if sign is None or len(den_factors) < 2:
            return None
        num_factors = _row(num)
        order, rest = _differential_head(num_factors, sign)
        if order is None:
            return None
        targets = self._targets(den_factors, sign, order)
        bys = [self._by(target) for target in targets]

        def wrap(of: m.Meaning) -> m.Meaning:
            for by in reversed(bys):
                turned = isinstance(by, m.Turned)
                of = m.Partial(of, by.of if turned else by, turned, pos=node.pos)
            return of

        if rest is None:
            return None, wrap
        if len(rest) == 1 and len(bys) == 1 and self._bare_function(rest[0].body):
            name = self.function(rest[0].body)
            return m.Call(name, (bys[0],)), wrap
        of = rest[0].body if len(rest) == 1 and not rest[0].sign else None
        return (self.read(of) if of is not None else self.product(rest, node.pos)), wrap

    def _bare_function(self, node: Node | None) -> bool:
        """Whether a function stands without its argument, as in d sigma / dz."""
        if not isinstance(node, Name) or self.function(node) is None:
            return False
        return self.symbol(node) is None

    def _differential(self, factors) -> str | None:
        head = factors[0].body if factors else None
        if _is_operator(head):
            return None
        base = head.base if isinstance(head, Scripted) else head
        if isinstance(base, Mark) and base.text == "\\partial":
            return "partial"
        if isinstance(base, Name) and base.base == "d" and not base.accents:
            return "d"
        return None

    def _targets(self, factors, sign, order) -> list[Node]:
        groups: list[list[Factor]] = []
        for factor in factors:
            if _is_differential(factor.body, sign):
                groups.append([])
            else:
                groups[-1].append(factor)
        targets: list[Node] = []
        for group in groups:
            if not group:
                raise Unreadable("a differential has nothing behind it", factors[0].pos)
            node = group[0].body if len(group) == 1 else Product(tuple(group), pos=group[0].pos)
            count = 1
            if order > 1 and isinstance(node, Scripted) and node.sup is not None:
                power = node.sup.only()
                if isinstance(power, Num) and int(float(power.text)) == order:
                    node = replace(node, sup=None) if node.sub or node.primes else node.base
                    count = order
            targets += [node] * count
        if len(targets) != order:
            raise Unreadable(f"a derivative of order {order} by {len(targets)}", factors[0].pos)
        return targets

    def _by(self, node: Node) -> m.Meaning:
        by = self.read(node)
        if isinstance(by, m.Const | m.Size | m.IndexOf):
            raise Unreadable(f"`{to_latex(node)}` is nothing to derive by", node.pos)
        return by

    # ---- matrices and cases ----

    def _read_matrix(self, node: Matrix) -> m.Meaning:
        rows = _without_ornaments([_cells(row) for row in node.rows])
        if any(_is_dots(cell) for row in rows for cell in row):
            return self._elided_matrix(rows, node)
        width = max(len(row) for row in rows)
        if node.kind == "vmatrix":
            raise Unreadable("a determinant written with bars is not read; write \\det", node.pos)
        return m.Grid(
            tuple(
                tuple(
                    self.read(cell) if cell is not None else m.Const(0.0)
                    for cell in [*row, *[None] * (width - len(row))]
                )
                for row in rows
            ),
            pos=node.pos,
        )

    def _elided_matrix(self, rows, node) -> m.Meaning:
        alike = {cell for row in rows for cell in row if not _is_dots(cell)}
        if len(alike) == 1 and (len(rows) == 1 or all(len(row) == 1 for row in rows)):
            # As many as what it is compared or multiplied with has.
            ones = m.Like("ones", pos=node.pos)
            ones = m.Turned(ones) if len(rows) == 1 else ones
            return m.Times("", self.read(alike.pop()), ones, pos=node.pos)
        found = ellipsis.matrix_pattern(rows, node.pos)
        self._scopes.append({})
        row, column = self.bind(ellipsis.ROW), self.bind(ellipsis.COLUMN)
        self.limited |= {row, column}
        self.ranges[row], self.ranges[column] = self.read(found.n_rows), self.read(found.n_columns)
        entry = self.read(found.entry)
        diagonal = self.read(found.diagonal) if found.diagonal is not None else None
        self._scopes.pop()
        n_rows, n_columns = self.ranges[row], self.ranges[column]
        return m.Patterned(row, column, n_rows, n_columns, entry, diagonal, pos=node.pos)

    def _read_cases(self, node: Cases) -> m.Meaning:
        branches = []
        for row in node.rows:
            parts = [part for cell in row for part in (*cell.parts, Sep("&"))]
            if all(isinstance(part, Sep) for part in parts):
                continue
            value = next(part for part in parts if not isinstance(part, Sep))
            rest = parts[parts.index(value) + 1 :]
            conditions = Items(tuple(rest))
            value_meaning = self.read(value)
            where = self.condition_items(conditions) if conditions.values() else None
            branches.append((value_meaning, where))
        if not branches:
            raise Unreadable("the cases are empty", node.pos)
        return m.Choice(tuple(branches), pos=node.pos)

    # ---- conditions ----

    def condition_items(self, items: Items) -> m.Meaning:
        """All relations of a row, to hold together."""
        parts = [self.condition(value) for value in items.values() if isinstance(value, Rel)]
        others = [v for v in items.values() if not isinstance(v, Rel)]
        for other in others:
            inner = _inner(Items((other,)))
            if inner.values() and all(isinstance(v, Rel) for v in inner.values()):
                parts.append(self.condition_items(inner))
            else:
                parts.append(self.read(other))
        if not parts:
            raise Unreadable("a condition is empty")
        if any(isinstance(p, Sep) and re.search(r"\bor\b|lor|vee", p.text) for p in items.parts):
            raise Unreadable("`or` between conditions is not read")
        return parts[0] if len(parts) == 1 else m.All(tuple(parts))

    def condition(self, node: Node) -> m.Meaning:
        """A relation as a value: 1 where it holds, 0 elsewhere."""
        if not isinstance(node, Rel):
            return self.read(node)
        ops = []
        for op in node.ops:
            if op in EQUAL:
                ops.append("=")
            elif op in ORDER:
                ops.append(ORDER[op])
            else:
                raise Unreadable(f"`{op}` is no condition", node.pos)
        sides = tuple(self._condition_side(side) for side in node.sides)
        return m.Compare(sides, tuple(ops), pos=node.pos)

    def _condition_side(self, side: Node | None) -> m.Meaning:
        letter = letter_of(side)
        if letter is not None:
            dim = self.dim_of(letter)
            if dim is not None:
                return m.IndexOf(dim, pos=side.pos)
        return self.read(side)


# ---- helpers on trees ----


def _parts(node: Node):
    if isinstance(node, Scripted):
        return node.base, node.sub, node.sup, node.primes
    return node, None, None, 0


def _variants(base: Node, primes: int) -> list[str]:
    """The spellings under which a name may be declared, the closest first."""
    tick = "'" * primes
    found = [bare(base) + tick]
    if isinstance(base, Name):
        if base.font and base.font != "\\mathbb":
            found.append(bare(replace(base, font="")) + tick)
        if base.accents and "\\vec" in base.accents:
            found.append(bare(replace(base, font="", accents=())) + tick)
    return list(dict.fromkeys(found))


def _sup_parts(sup: Items | None) -> tuple[Node, ...]:
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
            found += _sup_parts(part.inside)
            continue
        found.append(part)
    return tuple(found)


def _without(parts, taken) -> tuple[Node, ...]:
    rest = list(parts)
    for part in taken:
        rest.remove(part)
    return tuple(rest)


def _inner(items: Items) -> Items:
    only = items.only()
    if isinstance(only, Group):
        return only.inside
    if isinstance(only, Brace):
        return _inner(only.inside)
    return items


def _single(items: Items) -> Node:
    values = items.values()
    if len(values) != 1:
        raise Unreadable(f"`{to_latex(items)}` should be one thing")
    return values[0]


def _index_nodes(sub: Items) -> list[Node]:
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
            found += _index_nodes(part.inside)
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


def _is_dots(node: Node | None) -> bool:
    if isinstance(node, Dots):
        return True
    return isinstance(node, Product) and all(isinstance(f.body, Dots) for f in node.factors)


def _is_nabla(node: Node | None) -> bool:
    base = node.base if isinstance(node, Scripted) else node
    return isinstance(base, Mark) and base.text == "\\nabla"


def _is_operator(node: Node | None) -> bool:
    r"""Whether a factor is a partial with what it derives by as its subscript."""
    return isinstance(node, Scripted) and node.base == Mark("\\partial") and node.sub is not None


def _group_of(node: Node | None) -> Group | None:
    """The bracket that a factor is, with or without scripts."""
    if isinstance(node, Scripted):
        node = node.base
    if isinstance(node, Brace) and not node.command:
        inner = node.inside.only()
        return inner if isinstance(inner, Group) else None
    return node if isinstance(node, Group) else None


def _has_relation(items: Items) -> bool:
    inner = _inner(items)
    return any(isinstance(part, Rel) for part in inner.parts)


def _argument_like(node: Node) -> bool:
    return (
        isinstance(node, Name | Scripted)
        and isinstance(_parts(node)[0], Name | Group)
        or _is_set(node)
    )


def _is_list(items: Items) -> bool:
    """Whether the inside of a bracket is several values with commas between."""
    seps = [part.text for part in items.parts if isinstance(part, Sep)]
    return len(items.values()) > 1 and all(text == "," for text in seps)


def _is_set(node: Node) -> bool:
    group = _group_of(node)
    return group is not None and group.open in {"\\{", "\\lbrace"}


def _idle(sep: Sep) -> bool:
    return sep.text in {"\\quad", "\\qquad", ".", ","}


def _is_base(node: Node, reader: Reader) -> bool:
    return isinstance(node, Num) and node.text == str(reader.declared.base)


def _minus_transpose(node: Node) -> bool:
    if not isinstance(node, Add) or len(node.terms) != 1 or node.terms[0].sign != "-":
        return False
    body = node.terms[0].body
    return (isinstance(body, Name) and body.base == "T") or (
        isinstance(body, Mark) and body.text in TRANSPOSE
    )


def _brace_inside(node: Node) -> Node | None:
    if isinstance(node, Brace):
        values = node.inside.values()
        return values[0] if len(values) == 1 else None
    return node


def _row(node: Node | None) -> list[Factor]:
    if node is None:
        return []
    if isinstance(node, Brace) and not node.command:
        return _row(_brace_inside(node))
    if isinstance(node, Product):
        return list(node.factors)
    if isinstance(node, Add) and _is_partial_sign(node.terms[0].body):
        # `\partial -\log p`: the differential of all that follows
        rest = Add(node.terms[1:], pos=node.pos)
        return [Factor("", node.terms[0].body), Factor("", rest, pos=node.pos)]
    return [Factor("", node, pos=node.pos)]


def _is_partial_sign(node: Node | None) -> bool:
    if _is_operator(node):
        return False
    base = node.base if isinstance(node, Scripted) else node
    return isinstance(base, Mark) and base.text == "\\partial"


def _is_differential(node: Node | None, sign: str) -> bool:
    if _is_operator(node):
        return False
    base = node.base if isinstance(node, Scripted) else node
    if sign == "partial":
        return isinstance(base, Mark) and base.text == "\\partial"
    return isinstance(base, Name) and base.base == "d" and not base.accents


def _differential_head(factors: list[Factor], sign: str):
    """The order of a differential and what it is of; (None, None) where it is none."""
    if not factors or not _is_differential(factors[0].body, sign):
        return None, None
    head, order = factors[0].body, 1
    if isinstance(head, Scripted) and head.sup is not None:
        power = head.sup.only()
        if not isinstance(power, Num):
            return None, None
        order = int(float(power.text))
    rest = factors[1:]
    return order, (rest or None)


def _slash_derivatives(factors: Sequence[Factor]) -> list[Factor]:
    r"""`\partial J / \partial w` and `dJ/dw` become fractions."""
    out = list(factors)
    at = 0
    while at < len(out):
        if out[at].op in DIVIDE and at + 1 < len(out):
            for sign in ("partial", "d"):
                if not _is_differential(out[at].body, sign) or out[at + 1].op:
                    continue
                start = next(
                    (k for k in range(at - 1, -1, -1) if _is_differential(out[k].body, sign)), None
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


def _fold(items: list[tuple[str, m.Meaning]], pos: int) -> m.Meaning:
    """Multiply a row: juxtaposition binds closer than the elementwise product."""
    straight = _fold_run(items, pos)
    runs: list[list[tuple[str, m.Meaning]]] = [[]]
    for op, value in items:
        if op in HADAMARD:
            runs.append([("", value)])
        else:
            runs[-1].append((op, value))
    if len(runs) == 1 or all(len(run) == 1 for run in runs[1:]):
        return straight
    tight = _fold_run([(HADAMARD_OP, _fold_run(run, pos)) for run in runs], pos)
    return m.Either(tight, straight, pos=pos)


HADAMARD_OP = "\\odot"


def _fold_run(items: list[tuple[str, m.Meaning]], pos: int) -> m.Meaning:
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


def _cells(row: Sequence[Items]) -> list[Node | None]:
    """The entries of a matrix row; commas divide like `&`."""
    found: list[Node | None] = []
    for cell in row:
        values = [part for part in cell.parts if not isinstance(part, Sep)]
        if len(values) <= 1:
            found.append(values[0] if values else None)
        else:
            found += values
    return found


def _without_ornaments(rows: list[list[Node | None]]) -> list[list[Node | None]]:
    """Drop the columns that hold nothing but the strokes of rows drawn as lines."""
    width = max(len(row) for row in rows)
    padded = [row + [None] * (width - len(row)) for row in rows]
    if not any(all(row[c] is None for row in padded) for c in range(width)):
        return rows
    kept = [c for c in range(width) if any(row[c] is not None for row in padded)]
    return [[row[c] for c in kept] for row in padded] if kept else rows


def _bound(sub: Items) -> tuple[list[str], list[Rel], dict[str, Node]]:
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
            if not (_is_set(right) and any(isinstance(x, Dots) for x in walk(right))):
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
