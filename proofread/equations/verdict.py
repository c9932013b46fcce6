"""Whether each `=` of a formula holds, and what it may mean where it does not."""

from __future__ import annotations

import time
from collections.abc import Sequence

from . import meaning as m
from .compare import Link
from .conventions import Conventions
from .declare import Declarations
from .definitions import define, defined_name
from .drawing import World
from .evaluate import Layout
from .links import Runner
from .outcome import RANK, Chain, Equality, refuse, refused
from .parse import parse
from .patterns import EQUAL, ORDER
from .problem import BadDeclaration, Unreadable
from .reading import Reader
from .statements import Statement, continued, is_note, statements
from .tree import Display, to_latex

SECONDS = 5.0


class Page:
    """The checks of one page, in order: later equations may use what earlier ones define.

    Args:
        declared: what the symbols mean.
        sums_shown: whether the page writes sums out, so that a repeated index is no sum.
        seconds: the time one formula may take.
        worlds: the draws to use instead of the declarations' own.
        conventions: whether to look for a convention under which a failing chain holds.
    """

    def __init__(
        self,
        declared: Declarations,
        *,
        sums_shown: bool = False,
        seconds: float = SECONDS,
        worlds: Sequence[World] | None = None,
        conventions: bool = True,
    ):
        self.conventions = conventions
        self.declared = declared
        self.worlds = worlds
        self.sums_shown = sums_shown
        self.seconds = seconds
        self.defined: dict = {}

    def check(self, latex: str, before: str = "") -> list[Chain]:
        """The chains of one formula, each with its verdict.

        Args:
            latex: the formula.
            before: the formula before it, which one that opens with `=` goes on with.
        """
        try:
            display = parse(latex, self.declared.words)
            if before:
                display = continued(display, parse(before, self.declared.words))
        except BadDeclaration:
            raise
        except Unreadable as problem:
            return [refused(latex, problem)]
        except RecursionError:
            return [refused(latex, Unreadable("nested too deep"))]
        return self.check_display(display, latex)

    def check_display(self, display: Display, latex: str = "") -> list[Chain]:
        """The chains of a parsed formula."""
        deadline = time.monotonic() + self.seconds
        chains = []
        for statement in statements(display, Reader(self.declared, self.defined)):
            try:
                chains.append(self._chain(statement, deadline))
            except BadDeclaration:
                raise
            except Unreadable as problem:
                chains.append(refused(to_latex(statement.rel), problem))
            except RecursionError:
                chains.append(refused(to_latex(statement.rel), Unreadable("nested too deep")))
        if not chains:
            text = latex or to_latex(display)
            chains.append(Chain(text, "skipped", reason="states no relation"))
        return chains

    def _chain(self, statement: Statement, deadline: float) -> Chain:
        rel = statement.rel
        definition = defined_name(rel, self.declared, self.defined)
        reader, layout = Reader(self.declared, self.defined), self._declared_layout()
        chain = Chain(to_latex(rel), "holds", pos=rel.pos)
        if definition is not None:
            define(definition, rel, reader, layout, self.defined)
            chain.defines = definition
            chain.equalities.append(
                Equality(to_latex(rel.sides[0]), "=", to_latex(rel.sides[1]), reason="defines")
            )
            if len(rel.sides) == 2:
                chain.reason = "a definition"
                return chain
        note = is_note(rel, reader)
        if note:
            return Chain(to_latex(rel), "skipped", reason=note, pos=rel.pos)
        links = list(zip(rel.sides, rel.ops, rel.sides[1:], strict=False))
        if definition is not None:
            links = links[1:]
        checks = [self._prepare(link, statement, reader) for link in links]
        runner = Runner(self.declared, self.defined, self.worlds)
        for link in checks:
            runner.run(link, reader, deadline, layout)
        if self.conventions:
            Conventions(runner, self.sums_shown).apply(checks, reader, deadline)
        chain.equalities += [link.result for link in checks]
        worst = min(chain.equalities, key=lambda e: RANK[e.verdict])
        chain.verdict, chain.convention = worst.verdict, worst.convention
        chain.reason = "; ".join(x for x in (worst.reason, worst.suggestion) if x)
        if worst.verdict != "holds" and worst.pos is not None:
            chain.pos = worst.pos
        return chain

    def _declared_layout(self) -> Layout:
        names = self.declared.conventions
        return Layout(
            denominator="denominator-layout" in names,
            numerator="numerator-layout" in names,
            einstein="einstein" in names,
            direct="direct-partial" in names,
            otimes_elementwise="otimes-elementwise" in names,
            elementwise_derivative="elementwise-derivative" in names,
            elementwise_product="elementwise-product" in names,
        )

    def _prepare(self, link, statement: Statement, reader: Reader) -> Link:
        left, op, right = link
        result = Equality(to_latex(left), op, to_latex(right))
        made = Link(result)
        if (
            op not in EQUAL
            and op not in ORDER
            and op not in {"\\approx", "\\propto", "\\in", "\\simeq", "\\cong"}
        ):
            result.verdict, result.reason = "skipped", f"`{op}` claims nothing to evaluate"
            return made
        try:
            if op == "\\in":
                if right is None:
                    raise Unreadable("a side of the relation is empty")
                made.left, made.space = reader.read(left), right
            else:
                made.left, made.right = reader.read(left), reader.read(right)
            made.conditions = [reader.condition(c) for c in statement.conditions]
        except BadDeclaration:
            raise
        except Unreadable as problem:
            refuse(result, problem)
            return made
        if op == ":=" and isinstance(made.left, m.Array) and made.left in set(m.walk(made.right)):
            made.left = None
            result.verdict, result.reason = "skipped", "an update of a value, no equality"
        return made
