"""One relation, evaluated in every draw of the data that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import meaning as m
from .compare import Link, compare
from .declare import Declarations
from .drawing import World
from .evaluate import Evaluator, Layout
from .explain import settle, vacuous
from .outcome import fail, refuse
from .problem import BadDeclaration, Undefined, Unreadable
from .reading import Reader
from .tree import Factor, Name, Node, Product, Scripted
from .value import say_shape


@dataclass
class Runner:
    """Evaluates the relations of a page.

    Attributes:
        declared: what the symbols mean.
        defined: what the page has defined so far.
        worlds: the draws to use instead of those that a relation needs.
    """

    declared: Declarations
    defined: dict
    worlds: Sequence[World] | None = None

    def run(self, link: Link, reader: Reader, deadline: float, layout: Layout) -> None:
        if link.left is None:
            return
        try:
            self._evaluate(link, reader, deadline, layout)
        except BadDeclaration:
            raise
        except Undefined as problem:
            fail(link.result, str(problem), problem.pos)
        except Unreadable as problem:
            refuse(link.result, problem)
        except (RuntimeError, ArithmeticError, ValueError, RecursionError) as problem:
            refuse(link.result, Unreadable(f"could not be evaluated: {str(problem)[:160]}"))

    def _evaluate(self, link, reader, deadline, layout) -> None:
        result = link.result
        entered: dict[int, set] = {}
        totals: dict[int, int] = {}
        comparisons = []
        for world in self.worlds or self._draws_for(link):
            machine = self.machine(world, reader, deadline, layout)
            if link.space is not None:
                self._check_space(link, machine, reader)
                continue
            left, right = link.left, link.right
            if layout.einstein:
                left, right = summed(left, _dims(right)), summed(right, _dims(left))
            sides = machine.value(left), machine.value(right)
            where = [machine.value(c) for c in link.conditions]
            comparisons.append(compare(*sides, where, result.op, machine, result, world))
            for key, taken in machine.branches.items():
                entered.setdefault(key, set()).update(taken)
            totals |= machine.branch_totals
        if link.space is not None:
            return
        result.combinations = sum(c.combinations for c in comparisons)
        result.error = max(c.error for c in comparisons)
        settle(link, comparisons, self.declared)
        if result.verdict == "holds":
            result.vacuous = vacuous(link, comparisons, entered, totals)

    def _draws_for(self, link: Link) -> tuple[World, ...]:
        """The draws that a relation needs: more where it asks yes or no of the data."""
        if _writes_sizes(link):
            return self.declared.fixed_worlds
        return self.declared.many_worlds if self._decides(link) else self.declared.worlds

    def _decides(self, link: Link) -> bool:
        for side in (link.left, link.right, *link.conditions):
            for node in m.walk(side) if side is not None else ():
                if isinstance(node, m.Compare) and any(
                    isinstance(part, m.Array | m.Defined) for part in m.walk(node)
                ):
                    return True
                leaf = self.declared.leaves.get(node.name) if isinstance(node, m.Array) else None
                if leaf is not None and leaf.kind in {"index", "one-hot", "boolean"}:
                    return True
        return False

    def machine(self, world, reader, deadline, layout) -> Evaluator:
        values = {d.name: d.value_in(world) for d in self.defined.values()}
        return Evaluator(
            world,
            reader.ranges,
            values,
            self.declared.base,
            layout,
            deadline,
            frozenset(reader.limited),
        )

    def _check_space(self, link, machine, reader) -> None:
        shape = _space_shape(link.space, reader, machine)
        result = link.result
        if shape is None:
            result.verdict, result.reason = "skipped", "the set on the right is not evaluated"
            return
        found = machine.value(link.left).shape
        slim = tuple(n for n in found if n != 1)
        if found != shape and not (slim == tuple(n for n in shape if n != 1) and len(slim) < 2):
            fail(result, f"the left side is {say_shape(found)}, the set is of {say_shape(shape)}")
        else:
            result.combinations += 1
            result.reason = "the shape was checked"


def _space_shape(space: Node, reader: Reader, machine) -> tuple[int, ...] | None:
    r"""The shape that `\mathbb{R}^{N \times D}` names."""
    if not isinstance(space, Scripted | Name):
        return None
    base = space.base if isinstance(space, Scripted) else space
    base = base if isinstance(base, Name) else None
    if base is None or base.base != "R":
        return None
    if isinstance(space, Name) or space.sup is None:
        return ()
    sizes = []
    only = space.sup.only()
    factors = only.factors if isinstance(only, Product) else (Factor("", only),)
    run: list = []
    for factor in factors:
        if factor.op == "\\times" and run:
            sizes.append(run)
            run = []
        run.append(factor)
    sizes.append(run)
    found = []
    for part in sizes:
        node = part[0].body if len(part) == 1 else Product(tuple(part))
        number = float(machine.value(reader.read(node)).data)
        found.append(int(number))
    return tuple(found)


def _dims(node: m.Meaning) -> list[str]:
    """The indices of a side, as often as they occur, without those that its sums bind."""
    found = [part.dim for part in m.walk(node) if isinstance(part, m.IndexOf)]
    bound = {dim for part in m.walk(node) if isinstance(part, m.Over) for dim in part.dims}
    return [dim for dim in found if dim not in bound]


def summed(node: m.Meaning, keep: Sequence[str]) -> m.Meaning:
    """Einstein's reading: each term summed over what it repeats and the other side lacks."""
    if isinstance(node, m.Plus):
        return m.Plus(tuple((sign, summed(term, keep)) for sign, term in node.terms))
    found = _dims(node)
    twice = tuple(d for d in dict.fromkeys(found) if found.count(d) > 1 and d not in keep)
    return m.Over("sum", twice, node) if twice else node


def _writes_sizes(link: Link) -> bool:
    """Whether a side writes out a size: a matrix in full, or an entry such as x_3."""
    for side in (link.left, link.right):
        for node in m.walk(side) if side is not None else ():
            if isinstance(node, m.Grid):
                return True
            slots = [*node.slots, node.last] if isinstance(node, m.At) else []
            if any(isinstance(slot, m.Const) and slot.number > 1 for slot in slots):
                return True
    return False
