"""Whether each `=` of a formula holds, and what it may mean where it does not."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch

from . import meaning as m
from .declare import CONVENTIONS, Declarations, World, name_key
from .evaluate import Evaluator, Layout
from .parse import parse
from .patterns import EQUAL, ORDER, index_nodes, letter_of
from .problem import BadDeclaration, TooLong, Undefined, Unreadable
from .reading import Reader
from .tree import (
    Add,
    Big,
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
    to_latex,
    walk,
)
from .value import Value, check_same, say_shape, spread, transpose, union

TOLERANCE = 1e-9
SECONDS = 5.0
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
RANK = {"fails": 0, "unreadable": 1, "convention": 2, "holds": 3, "skipped": 4}
LAYOUTS = {
    "denominator-layout": Layout(denominator=True),
    "einstein": Layout(einstein=True),
    "direct-partial": Layout(direct=True),
    "otimes-elementwise": Layout(otimes_elementwise=True),
    "elementwise-derivative": Layout(elementwise_derivative=True),
    "elementwise-product": Layout(elementwise_product=True),
}


@dataclass
class Equality:
    """One relation of a chain and what came of it.

    Attributes:
        verdict: holds, fails, convention, unreadable or skipped.
        combinations: index combinations compared, over all draws.
        error: the largest difference relative to the largest entry.
        indices: the combination with the largest difference, where it fails.
        left, right: both values there.
        vacuous: why this check could not have failed, if it could not.
    """

    left_latex: str
    op: str
    right_latex: str
    verdict: str = "holds"
    reason: str = ""
    suggestion: str = ""
    convention: str = ""
    combinations: int = 0
    error: float = 0.0
    indices: dict[str, int] = field(default_factory=dict)
    left: float | None = None
    right: float | None = None
    vacuous: str = ""
    pos: int | None = None


@dataclass
class Chain:
    """A row of sides joined by relations, as it stands on a page."""

    latex: str
    verdict: str
    equalities: list[Equality] = field(default_factory=list)
    reason: str = ""
    convention: str = ""
    pos: int | None = None
    defines: str = ""
    timed_out: bool = False

    @property
    def vacuous(self) -> str:
        """Why a check of this chain could not have failed, if one could not."""
        return next((e.vacuous for e in self.equalities if e.vacuous), "")

    @property
    def checked(self) -> int:
        """How many relations were evaluated."""
        return sum(e.verdict in {"holds", "fails", "convention"} for e in self.equalities)

    @property
    def combinations(self) -> int:
        return sum(e.combinations for e in self.equalities)

    @property
    def error(self) -> float:
        return max((e.error for e in self.equalities), default=0.0)

    def as_dict(self) -> dict:
        """The chain as plain data."""
        return asdict(self) | {
            "vacuous": self.vacuous,
            "checked": self.checked,
            "combinations": self.combinations,
            "error": self.error,
        }


@dataclass(frozen=True)
class DefinedSymbol:
    """A symbol that an equation of the page defines, and how to evaluate it in a world."""

    name: str
    rank: int
    value_in: Callable[[World], Value] = field(compare=False)


@dataclass
class Statement:
    """A relation, and the conditions under which it is claimed."""

    rel: Rel
    conditions: list[Rel] = field(default_factory=list)


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
                display = _continued(display, parse(before, self.declared.words))
        except BadDeclaration:
            raise
        except Unreadable as problem:
            return [_refused(latex, problem)]
        except RecursionError:
            return [_refused(latex, Unreadable("nested too deep"))]
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
                chains.append(_refused(to_latex(statement.rel), problem))
            except RecursionError:
                chains.append(_refused(to_latex(statement.rel), Unreadable("nested too deep")))
        if not chains:
            text = latex or to_latex(display)
            chains.append(Chain(text, "skipped", reason="states no relation"))
        return chains

    # ---- one chain ----

    def _chain(self, statement: Statement, deadline: float) -> Chain:
        rel = statement.rel
        definition = self._definition(rel)
        reader = Reader(self.declared, self.defined)
        chain = Chain(to_latex(rel), "holds", pos=rel.pos)
        if definition is not None:
            self._define(definition, statement, reader, deadline)
            chain.defines = definition
            chain.equalities.append(
                Equality(to_latex(rel.sides[0]), "=", to_latex(rel.sides[1]), reason="defines")
            )
            if len(rel.sides) == 2:
                chain.reason = "a definition"
                return chain
        note = _is_note(rel, reader)
        if note:
            return Chain(to_latex(rel), "skipped", reason=note, pos=rel.pos)
        links = list(zip(rel.sides, rel.ops, rel.sides[1:], strict=False))
        if definition is not None:
            links = links[1:]
        checks = [self._prepare(link, statement, reader) for link in links]
        layout = self._declared_layout()
        for link in checks:
            self._run(link, reader, deadline, layout)
        self._try_conventions(checks, reader, deadline)
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
            _refuse(result, problem)
            return made
        if op == ":=" and isinstance(made.left, m.Array) and made.left in set(m.walk(made.right)):
            made.left = None
            result.verdict, result.reason = "skipped", "an update of a value, no equality"
        return made

    def _run(self, link: Link, reader: Reader, deadline: float, layout: Layout) -> None:
        if link.left is None:
            return
        try:
            self._evaluate(link, reader, deadline, layout)
        except BadDeclaration:
            raise
        except Undefined as problem:
            _fail(link.result, str(problem), problem.pos)
        except Unreadable as problem:
            _refuse(link.result, problem)
        except (RuntimeError, ArithmeticError, ValueError, RecursionError) as problem:
            _refuse(link.result, Unreadable(f"could not be evaluated: {str(problem)[:160]}"))

    def _evaluate(self, link, reader, deadline, layout) -> None:
        result = link.result
        entered: dict[int, set] = {}
        totals: dict[int, int] = {}
        comparisons = []
        for world in self.worlds or self._draws_for(link):
            machine = self._machine(world, reader, deadline, layout)
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
        _settle(link, comparisons, self.declared)
        if result.verdict == "holds":
            result.vacuous = _vacuous(link, comparisons, entered, totals)

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

    def _machine(self, world, reader, deadline, layout) -> Evaluator:
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
            _fail(result, f"the left side is {say_shape(found)}, the set is of {say_shape(shape)}")
        else:
            result.combinations += 1
            result.reason = "the shape was checked"

    # ---- conventions ----

    def _try_conventions(self, links: list[Link], reader: Reader, deadline: float) -> None:
        """Where a chain fails, see whether a named convention makes all of it hold."""
        failed = [link for link in links if link.result.verdict == "fails"]
        if (
            not self.conventions
            or not failed
            or any(link.result.verdict == "unreadable" for link in links)
        ):
            return
        for name, layout in LAYOUTS.items():
            if name in self.declared.conventions or not self._applies(name, links):
                continue
            if name == "direct-partial" and (
                any(_zero(link.right) or _total(link.result) for link in failed)
                or not self._can_cut()
            ):
                continue
            if self._all_hold(links, reader, deadline, layout):
                for link in failed:
                    link.result.verdict = "convention"
                    link.result.convention = name
                    link.result.reason = f"holds where {CONVENTIONS[name]} ({name})"
                    link.result.suggestion = ""
                return
        for link in failed:
            name = self._stationary(link, links, reader, deadline)
            if name:
                link.result.verdict, link.result.convention = "convention", "stationary"
                link.result.reason = name
                link.result.suggestion = ""

    def _can_cut(self) -> bool:
        """Whether the forward also runs with each line cut off from those before."""
        try:
            return all(world.direct for world in self.worlds or self.declared.worlds)
        except Unreadable:
            return False

    def _applies(self, name: str, links: list[Link]) -> bool:
        sides = [side for link in links for side in (link.left, link.right) if side is not None]
        nodes = [node for side in sides for node in m.walk(side)]
        partials = any(isinstance(node, m.Partial) for node in nodes)
        if name == "einstein":
            written = any(isinstance(node, m.Over) for node in nodes)
            return not written and not self.sums_shown
        if name == "otimes-elementwise":
            return any(isinstance(n, m.Times) and n.op == "outer" for n in nodes)
        if name == "elementwise-product":
            return any(isinstance(n, m.Times) and n.op in {"", "dot"} for n in nodes)
        if name == "elementwise-derivative":
            hadamard = any(
                isinstance(n, m.Times)
                and n.op == "hadamard"
                and any(isinstance(s, m.Partial) for s in (n.left, n.right))
                for n in nodes
            )
            return hadamard
        return partials

    def _all_hold(self, links, reader, deadline, layout) -> bool:
        for link in links:
            if link.left is None:
                continue
            trial = Link(
                Equality("", link.result.op, ""), link.left, link.right, link.conditions, link.space
            )
            self._run(trial, reader, deadline, layout)
            if trial.result.verdict not in {"holds", "skipped"} or trial.result.vacuous:
                return False
        return True

    def _stationary(self, link: Link, links, reader, deadline) -> str:
        """Whether an equation says that the gradient of a scalar of the forward is zero.

        Three forms do: `gradient = 0`; an equation whose sides differ by a multiple of the
        gradient; and a leaf alone on the left, where the right side is where it rests.
        """
        if link.result.op not in EQUAL or link.left is None or self.declared.stationary:
            return ""
        if any(other.result.verdict != "holds" for other in links if other is not link):
            return ""
        if isinstance(link.left, m.Partial):
            of = link.left.of
            known = isinstance(of, m.Array) and self.declared.first_world.data[of.name].dim() == 0
            if known and _zero(link.right):
                return "holds where the gradient is zero (stationary)"
            return ""
        nodes = [node for side in (link.left, link.right) for node in m.walk(side)]
        chained = [s for other in links for s in (other.left, other.right) if s is not None]
        derives = any(isinstance(node, m.Partial) for side in chained for node in m.walk(side))
        if derives and not _zero(link.right):
            # The chain says what the gradient is; where it is 0, any multiple of it would do.
            return ""
        if any(isinstance(node, m.Partial) for node in nodes):
            return ""
        data = self.declared.first_world.data
        named = [node.name for node in nodes if isinstance(node, m.Array)]
        scalars = [n for n, d in data.items() if d.dim() == 0 and d.grad_fn is not None]
        for leaf in dict.fromkeys(name for name in named if name in self.declared.leaves):
            for scalar in scalars:
                says = self._says_zero(link, scalar, leaf, reader, deadline)
                if says or self._rests_at(link, scalar, leaf, reader, deadline):
                    return f"holds where d{scalar}/d{leaf} is zero (stationary)"
        return ""

    def _says_zero(self, link: Link, scalar: str, leaf: str, reader, deadline) -> bool:
        """Whether the sides differ by a multiple of the gradient, whatever the data."""
        gap = link.left if _zero(link.right) else m.Plus(((1, link.left), (-1, link.right)))
        gradient = m.Partial(m.Array(scalar), m.Array(leaf))
        ratios = []
        for world in self.declared.worlds[:2]:
            machine = self._machine(world, reader, deadline, Layout())
            try:
                one, two = check_same(machine.value(gap), machine.value(gradient))
            except Unreadable:
                return False
            if one.idx or two.idx or one.data.numel() < 2:
                return False
            ratios.append(_constant_ratio(one.data.reshape(1, -1), two.data.reshape(1, -1)))
        if any(ratio is None for ratio in ratios):
            return False
        return abs(ratios[0] - ratios[1]) <= 1e-9 * abs(ratios[0])

    def _rests_at(self, link: Link, scalar: str, leaf: str, reader, deadline) -> bool:
        """Whether a leaf alone on the left equals the right side where the gradient is zero."""
        right = {node for node in m.walk(link.right) if isinstance(node, m.Array)}
        if link.left != m.Array(leaf) or m.Array(leaf) in right or not right:
            return False
        own = replace(self.declared, stationary={scalar: leaf})
        try:
            worlds = own.worlds
        except Unreadable:
            return False
        page = Page(self.declared, worlds=worlds, conventions=False)
        page.defined = self.defined
        trial = Link(Equality("", link.result.op, ""), link.left, link.right, link.conditions)
        page._run(trial, reader, deadline, Layout())
        return trial.result.verdict == "holds" and not trial.result.vacuous

    # ---- definitions ----

    def _definition(self, rel: Rel) -> str | None:
        """The declared name that this relation defines, where it is the first to name it."""
        if not rel.ops or rel.ops[0] not in EQUAL or rel.sides[0] is None:
            return None
        target = rel.sides[0]
        for text in self.declared.defines:
            for node in _heads(target):
                try:
                    key = _key_of(text, self.declared.words)
                except Unreadable as problem:
                    raise BadDeclaration(f"defines: {problem}") from None
                if name_key(node) == key and key not in self.defined:
                    return text
        return None

    def _define(self, text: str, statement: Statement, reader: Reader, deadline: float) -> None:
        target = statement.rel.sides[0]
        key = _key_of(text, self.declared.words)
        right = reader.read(statement.rel.sides[1])
        letters = _subscript_letters(target, key)
        dims = [reader.free.get(letter, letter) for letter in letters]
        before = dict(self.defined)

        def value_in(world: World) -> Value:
            machine = Evaluator(
                world,
                reader.ranges,
                {d.name: d.value_in(world) for d in before.values()},
                self.declared.base,
                self._declared_layout(),
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
        rank = symbol.value_in(self.declared.first_world).data.dim()
        self.defined[key] = replace(symbol, rank=rank)


def _continued(display: Display, before: Display) -> Display:
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


@dataclass
class Link:
    """A relation between two sides that were read."""

    result: Equality
    left: m.Meaning | None = None
    right: m.Meaning | None = None
    conditions: list[m.Meaning] = field(default_factory=list)
    space: Node | None = None


# Told apart by identity: tensors have no single truth to compare by.
@dataclass(eq=False)
class Comparison:
    """Two sides in one world."""

    combinations: int
    error: float
    indices: dict[str, int]
    left: float
    right: float
    one: torch.Tensor
    two: torch.Tensor
    holds: bool
    zero: bool
    world: World
    varied: bool


def compare(left: Value, right: Value, where, op, machine, result, world) -> Comparison:
    """Compare both sides at every index combination that the conditions allow.

    Raises:
        Undefined: if the shapes differ, or a value is not a number.
    """
    left, right = check_same(left, right)
    idx = union(left, right, *where)
    sizes = [machine.length(dim) for dim in idx]
    one, two = (spread(side, idx, sizes).detach() for side in (left, right))
    count = math.prod(sizes)
    one, two = one.reshape(count, -1), two.reshape(count, -1)
    keep = torch.ones(count, dtype=torch.bool)
    for condition in where:
        keep &= (spread(condition, idx, sizes).reshape(count, -1) > 0.5).all(1)
    bad = torch.isnan(one).any(1) | torch.isnan(two).any(1)
    if bool((bad & keep).any()):
        if not machine.out_of_range:
            raise Undefined(
                "a value is not a number (0/0, a logarithm of a negative number, or "
                "no case that applies)"
            )
        keep &= ~bad
    if not bool(keep.any()):
        raise Unreadable("no combination of the indices is left to compare")
    one, two = one[keep], two[keep]
    scale = float(torch.maximum(one.abs(), two.abs()).max()) if one.numel() else 0.0
    gap = (one - two).abs()
    if not torch.isfinite(one).all() or not torch.isfinite(two).all():
        raise Undefined("a value is infinite")
    # What should be zero is zero only up to rounding, and at a stationary point up to Newton.
    floor = 1.0 if world.declared.stationary else 1e-4
    error = float(gap.max()) / max(scale, floor) if gap.numel() else 0.0
    place = int(gap.max(1).values.argmax())
    column = int(gap[place].argmax())
    flat = int(torch.nonzero(keep).reshape(-1)[place])
    indices = {}
    for dim, size in zip(reversed(idx), reversed(sizes), strict=True):
        indices[dim.partition("#")[0]] = flat % size + machine.base
        flat //= size
    holds = _relation_holds(op, one, two, error, scale)
    if op not in EQUAL:
        error = 0.0 if holds else error
    tiny = bool(scale < 1e-12)
    return Comparison(
        int(keep.sum()),
        error,
        dict(reversed(indices.items())),
        float(one[place, column]),
        float(two[place, column]),
        one,
        two,
        holds,
        tiny,
        world,
        not idx or max(sizes) > 1,
    )


def _relation_holds(op, one, two, error, scale) -> bool:
    if op in EQUAL:
        return error <= TOLERANCE
    if op in ORDER:
        slack = 1e-12 * max(scale, 1.0)
        test = {
            "<": lambda: one < two, ">": lambda: one > two, "!=": lambda: (one - two).abs() > slack,
            "<=": lambda: one <= two + slack, ">=": lambda: one >= two - slack,
        }[ORDER[op]]  # fmt: skip
        return bool(test().all())
    if op == "\\propto":
        return _constant_ratio(one, two) is not None
    return error <= 0.05


_TOTAL = re.compile(r"\\frac\s*\{\s*(?:d|\\(?:mathrm|text|rm)\s*\{?\s*d)\b")


def _total(result: Equality) -> bool:
    """Whether a side is written with an upright or plain d: that follows all paths."""
    return any(_TOTAL.search(side) for side in (result.left_latex, result.right_latex))


def _constant_ratio(one: torch.Tensor, two: torch.Tensor) -> float | None:
    """c with one = c * two at every entry, where there is one."""
    one, two = one.detach(), two.detach()
    top = two.abs().max()
    if float(top) < 1e-13 or float(one.abs().max()) < 1e-13:
        return None
    at = int(two.abs().argmax())
    ratio = float(one.reshape(-1)[at] / two.reshape(-1)[at])
    gap = (one - ratio * two).abs().max()
    return ratio if float(gap) <= 1e-9 * float(one.abs().max()) else None


def _settle(link: Link, comparisons: list[Comparison], declared: Declarations) -> None:
    """Turn the comparisons of all draws into a verdict."""
    result = link.result
    bad = [c for c in comparisons if not c.holds]
    if not bad:
        if result.op in {"\\approx", "\\simeq", "\\cong"}:
            result.reason = "to within 5%"
        return
    if result.op in {"\\approx", "\\simeq", "\\cong"}:
        result.verdict, result.reason = "skipped", "an approximation, off by more than 5%"
        return
    worst = max(bad, key=lambda c: c.error)
    result.left, result.right, result.indices = worst.left, worst.right, worst.indices
    at = ", ".join(f"{k} = {v}" for k, v in worst.indices.items())
    shown = f"{worst.left:.6g} {_plain(result.op)} {worst.right:.6g} is false"
    result.verdict = "fails"
    result.reason = f"at {at}: {shown}" if at else shown
    if len(bad) < len(comparisons) and comparisons[-1] in bad and len(bad) == 1:
        sizes = ", ".join(f"{k} = {v}" for k, v in worst.world.sizes.items())
        result.reason += f" (other draws agree; here {sizes})"
    if result.op in EQUAL:
        result.suggestion = suggest(comparisons)


def _plain(op: str) -> str:
    return {"=": "="}.get(op, op)


def suggest(comparisons: list[Comparison]) -> str:
    """What a constant ratio of the sides says: a sign, a factor, a size."""
    ratios = [_constant_ratio(c.one, c.two) for c in comparisons]
    if all(r is not None for r in ratios):
        for name, factor in _factors(comparisons[0].world.sizes):
            if all(
                abs(r - factor(c.world.sizes)) <= 1e-7 * abs(r)
                for r, c in zip(ratios, comparisons, strict=True)
            ):
                return f"the left side is {name} times the right"
        if max(ratios) - min(ratios) <= 1e-9 * abs(ratios[0]):
            return f"the left side is {ratios[0]:.6g} times the right"
        return "the sides differ by a factor"
    return ""


def _factors(sizes):
    """Named factors, as functions of the sizes; the plainest first."""
    found = [
        ("-1", lambda s: -1.0),
        ("2", lambda s: 2.0),
        ("1/2", lambda s: 0.5),
        ("-2", lambda s: -2.0),
        ("-1/2", lambda s: -0.5),
    ]
    names = list(sizes)
    for sign, mark in ((1.0, ""), (-1.0, "-")):
        for n in names:
            found += [
                (f"{mark}{n}", lambda s, n=n, g=sign: g * s[n]),
                (f"{mark}1/{n}", lambda s, n=n, g=sign: g / s[n]),
                (f"{mark}{n}/2", lambda s, n=n, g=sign: g * s[n] / 2),
                (f"{mark}2/{n}", lambda s, n=n, g=sign: g * 2 / s[n]),
                (f"{mark}2{n}", lambda s, n=n, g=sign: g * 2 * s[n]),
                (f"{mark}1/(2{n})", lambda s, n=n, g=sign: g / (2 * s[n])),
            ]
        for at, n in enumerate(names):
            for k in names[at + 1 :]:
                found += [
                    (f"{mark}{n}{k}", lambda s, n=n, k=k, g=sign: g * s[n] * s[k]),
                    (f"{mark}1/({n}{k})", lambda s, n=n, k=k, g=sign: g / (s[n] * s[k])),
                    (f"{mark}{n}/{k}", lambda s, n=n, k=k, g=sign: g * s[n] / s[k]),
                    (f"{mark}{k}/{n}", lambda s, n=n, k=k, g=sign: g * s[k] / s[n]),
                ]
    return found


def _vacuous(link: Link, comparisons, entered, totals) -> str:
    """Why the check of a link that holds could not have failed, if so."""
    literal = any(isinstance(s, m.Const | m.Like) for s in (link.left, link.right))
    if link.left == link.right:
        return "an equation with itself"
    for key, total in totals.items():
        if len(entered.get(key, ())) < total:
            return "a branch of the cases is never entered by the data"
    if all(c.zero for c in comparisons) and not literal:
        return "both sides are zero throughout"
    if not any(c.varied for c in comparisons):
        return "no index takes more than one value"
    return ""


# ---- statements ----

_CONDITION_WORDS = re.compile(
    r"\b(if|for|when|where|whenever|with|all|any|unless)\b", re.IGNORECASE
)


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


def _is_note(rel: Rel, reader: Reader) -> str:
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
    from .parse import parse_atom

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
    from .tree import Factor, Product

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


def _zero(node: m.Meaning | None) -> bool:
    return isinstance(node, m.Const) and node.number == 0


def _refused(latex: str, problem: Unreadable) -> Chain:
    late = isinstance(problem, TooLong)
    return Chain(latex, "unreadable", reason=str(problem), pos=problem.pos, timed_out=late)


def _refuse(result: Equality, problem: Unreadable) -> None:
    result.verdict, result.reason = "unreadable", problem.reason
    result.suggestion, result.pos = problem.suggestion, problem.pos


def _fail(result: Equality, reason: str, pos: int | None = None) -> None:
    result.verdict, result.reason, result.pos = "fails", reason, pos


__all__ = ["Big", "Chain", "Equality", "Page", "TooLong", "transpose"]
