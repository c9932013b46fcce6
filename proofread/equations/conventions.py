"""Under which named convention a chain that fails would hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from . import meaning as m
from .compare import Link, constant_ratio
from .declare import CONVENTIONS, Declarations
from .evaluate import Layout
from .links import Runner
from .outcome import Equality
from .patterns import EQUAL
from .problem import Unreadable
from .reading import Reader
from .value import check_same

LAYOUTS = {
    "denominator-layout": Layout(denominator=True),
    "einstein": Layout(einstein=True),
    "direct-partial": Layout(direct=True),
    "otimes-elementwise": Layout(otimes_elementwise=True),
    "elementwise-derivative": Layout(elementwise_derivative=True),
    "elementwise-product": Layout(elementwise_product=True),
}
_TOTAL = re.compile(r"\\frac\s*\{\s*(?:d|\\(?:mathrm|text|rm)\s*\{?\s*d)\b")


@dataclass
class Conventions:
    """Tries the conventions that a page has not declared.

    Attributes:
        runner: what evaluates a relation.
        sums_shown: whether the page writes sums out, so that a repeated index is no sum.
    """

    runner: Runner
    sums_shown: bool

    @property
    def declared(self) -> Declarations:
        return self.runner.declared

    def apply(self, links: list[Link], reader: Reader, deadline: float) -> None:
        """Where a chain fails, see whether a named convention makes all of it hold."""
        failed = [link for link in links if link.result.verdict == "fails"]
        if not failed or any(link.result.verdict == "unreadable" for link in links):
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
            return all(world.direct for world in self.runner.worlds or self.declared.worlds)
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
            self.runner.run(trial, reader, deadline, layout)
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
            machine = self.runner.machine(world, reader, deadline, Layout())
            try:
                one, two = check_same(machine.value(gap), machine.value(gradient))
            except Unreadable:
                return False
            if one.idx or two.idx or one.data.numel() < 2:
                return False
            ratios.append(constant_ratio(one.data.reshape(1, -1), two.data.reshape(1, -1)))
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
        there = replace(self.runner, worlds=worlds)
        trial = Link(Equality("", link.result.op, ""), link.left, link.right, link.conditions)
        there.run(trial, reader, deadline, Layout())
        return trial.result.verdict == "holds" and not trial.result.vacuous


def _total(result: Equality) -> bool:
    """Whether a side is written with an upright or plain d: that follows all paths."""
    return any(_TOTAL.search(side) for side in (result.left_latex, result.right_latex))


def _zero(node: m.Meaning | None) -> bool:
    return isinstance(node, m.Const) and node.number == 0
