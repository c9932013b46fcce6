"""From the tree of a formula to its meaning, by the declared symbols.

What is ambiguous on paper is settled here by what is declared, or reported: whether
`f(x)` is a call or a product, whether `^{(i)}` is an index, a label or a power, how far
a sum, a derivative or a logarithm reaches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from . import ellipsis, functions
from . import meaning as m
from .names import Names
from .patterns import (
    DIVIDE,
    EQUAL,
    ORDER,
    argument_like,
    bound_by,
    brace_inside,
    cells_of,
    differential_head,
    factor_row,
    fold,
    fold_run,
    group_of,
    has_relation,
    inner_items,
    is_base,
    is_differential,
    is_dots,
    is_idle,
    is_list,
    is_nabla,
    is_operator,
    is_set,
    letter_of,
    parts_of,
    single_node,
    slash_derivatives,
    superscripts,
    variants_of,
    without_ornaments,
)
from .problem import Unreadable
from .spelling import squeeze
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
    to_latex,
    walk,
)


class Reader(Names):
    """Reads the nodes of one chain; its free indices are shared by all sides."""

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
        if len(values) > 1 and node.open in {"(", "["} and is_list(node.inside):
            cells = tuple(Items((value,)) for value in values)
            return self._read_matrix(Matrix("bmatrix", (cells,), pos=node.pos))
        return self._only(node.inside, node)

    def _only(self, items: Items, node: Node) -> m.Meaning:
        values = items.values()
        if len(values) == 1 and all(isinstance(p, Sep) is False or is_idle(p) for p in items.parts):
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
        if any(is_dots(term.body) for term in node.terms):
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
        return fold_run([*items, *(("", self._run("prod", run)) for run in runs)], pos)

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
        letters, conditions, lowers = bound_by(sub) if sub is not None else ([], [], {})
        if not letters and sub is None:
            letters = self._letters_of_body(body, pos)
        if not letters:
            raise Unreadable(f"`{to_latex(sub)}` names no index to run over", pos)
        outer = self.read(single_node(sup)) if sup is not None else None
        lows = {letter: self.read(low) for letter, low in lowers.items() if not is_base(low, self)}
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

    def _read_product(self, node: Product) -> m.Meaning:
        return self.product(node.factors, node.pos)

    def product(self, factors: Sequence[Factor], pos: int) -> m.Meaning:
        """A row of factors: calls and operators first, then the multiplications."""
        factors = slash_derivatives(factors)
        if any(is_dots(factor.body) for factor in factors):
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
        return fold(items, pos)

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
        if is_nabla(node):
            return self._nabla(factors, at)
        if is_operator(node):
            return self._partial_operator(factors, at)
        if isinstance(node, Frac):
            found = self._as_derivative(node)
            if found is not None and found[0] is None:
                body, used = self._operand(factors, at + 1, node.pos)
                return found[1](body), used + 1
        group = group_of(ahead.body) if beside else None
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
        named = isinstance(parts_of(node)[0], Name)
        if group is not None and is_list(group.inside) and named:
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
        if group_of(first) is not None:
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
            by = self.read(single_node(sub))
        else:
            by = self._sole_argument(factors, at + 1, node.pos)
        once = m.Partial(of, by, pos=node.pos)
        sup = superscripts(node.sup) if isinstance(node, Scripted) else ()
        if sup == (Num("2"),):
            return m.Partial(once, by, pos=node.pos), used + 1
        if sup:
            raise Unreadable(f"`{to_latex(node)}` is not read", node.pos)
        return once, used + 1

    def _partial_operator(self, factors, at) -> tuple[m.Meaning, int]:
        r"""`\partial_x f`: the derivative of the one factor that follows."""
        node = factors[at].body
        by_node, sup = single_node(node.sub), superscripts(node.sup)
        order = 2 if sup == (Num("2"),) else 1
        if (sup and order == 1) or node.primes or not isinstance(by_node, Name | Scripted):
            raise Unreadable(f"`{to_latex(node)}` is not read", node.pos)
        ahead = factors[at + 1] if at + 1 < len(factors) else None
        if ahead is None or ahead.op or ahead.sign:
            raise Unreadable("the derivative has nothing to its right", node.pos)
        of, used = self._factor(factors, at + 1)
        after = factors[at + 1 + used] if at + 1 + used < len(factors) else None
        if after is not None and after.op == "" and not is_operator(after.body):
            found = self.symbol(ahead.body) if self._plain(ahead.body) else None
            if group_of(ahead.body) is None and (found is None or found.rank):
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
        group = group_of(factors[at + 1].body) if at + 1 < len(factors) else None
        if group is not None and len(group.inside.values()) == 1:
            return self.read(group.inside.values()[0])
        floats = [n for n, leaf in self.declared.leaves.items() if leaf.kind == "real"]
        if len(floats) == 1:
            return m.Array(floats[0])
        raise Unreadable("the gradient names nothing to derive by", pos, r"write \nabla_w")

    def _indicator(self, node: Node, group: Group | None) -> tuple[m.Meaning, int] | None:
        r"""`\mathbf{1}[z > 0]`, `1\{y = k\}`, `1_{i = j}`."""
        base, sub, sup, _ = parts_of(node)
        one = isinstance(base, Name | Num) and (
            (isinstance(base, Num) and base.text == "1")
            or base == Name("I")
            or (isinstance(base, Name) and base.base in {"1", "I", "\\bbone", "\\mathbbm1"})
        )
        if not one:
            return None
        if sub is not None and any(isinstance(p, Rel) for p in walk(sub)):
            value = self.condition_items(inner_items(sub))
            return self._powers(value, superscripts(sup)), 1
        if group is not None and sub is None and has_relation(group.inside):
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
        if group_of(factors[at + 1].body) is not None:
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
        if not values or not all(argument_like(value) for value in values):
            return None
        only = values[0] if len(values) == 1 else None
        if only is not None and self.symbol(only) is None and not is_set(only):
            raise self.undeclared(only)
        return self._finish(found)

    def _call(self, factors, at) -> tuple[m.Meaning, int]:
        node = factors[at].body
        name = self.function(node)
        _, sub, sup, primes = parts_of(node)
        label_taken = self._label_of_function(node)
        ahead = factors[at + 1] if at + 1 < len(factors) else None
        if ahead is None or ahead.op != "" or ahead.sign:
            raise Unreadable(f"the function `{to_latex(node)}` has no argument", node.pos)
        group, used = group_of(ahead.body), 2
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
            value = self._powers(value, superscripts(sup))
        if scripts is not None:
            value = self._rescripted(value, scripts)
        return value, used

    def _label_of_function(self, node: Node) -> bool:
        if not isinstance(node, Scripted):
            return False
        table = self.declared.function_table
        keys = [(name, squeeze(node.sub), squeeze(node.sup)) for name in variants_of(node.base, 0)]
        return any(key in table and (key[1] or key[2]) for key in keys)

    def _function_sub(self, value, name, sub, node):
        if name in {"log", "lg"}:
            base = self.read(single_node(sub))
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
        if not isinstance(node, Name | Scripted) or group_of(node) is not None:
            return False
        return self.function(node) is None and not is_nabla(node)

    def _as_derivative(self, node: Frac):
        """A fraction of differentials: what is derived (None for an operator), and how."""
        num, den = brace_inside(node.num), brace_inside(node.den)
        den_factors = factor_row(den)
        sign = self._differential(den_factors)
        if sign is None or len(den_factors) < 2:
            return None
        num_factors = factor_row(num)
        order, rest = differential_head(num_factors, sign)
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
        if is_operator(head):
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
            if is_differential(factor.body, sign):
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

    def _read_matrix(self, node: Matrix) -> m.Meaning:
        rows = without_ornaments([cells_of(row) for row in node.rows])
        if any(is_dots(cell) for row in rows for cell in row):
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
        alike = {cell for row in rows for cell in row if not is_dots(cell)}
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

    def condition_items(self, items: Items) -> m.Meaning:
        """All relations of a row, to hold together."""
        parts = [self.condition(value) for value in items.values() if isinstance(value, Rel)]
        others = [v for v in items.values() if not isinstance(v, Rel)]
        for other in others:
            inner = inner_items(Items((other,)))
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
