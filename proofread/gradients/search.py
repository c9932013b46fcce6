"""Search for the mistakes that give the user's gradient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from proofread.gradients import other_inputs, values
from proofread.gradients.compare import ratio, relative_error, same
from proofread.gradients.constants import other_constants
from proofread.gradients.graph.program import Program, Ref, resolve
from proofread.gradients.graph.recognise import textbook_rules
from proofread.gradients.graph.rules import Underivable, differentiate
from proofread.gradients.graph.trace import trace
from proofread.gradients.planted.candidates import Candidate, Enumeration
from proofread.gradients.planted.enumeration import every_mistake
from proofread.gradients.planted.paths import is_skip, is_square, skip_said, through_said
from proofread.gradients.pools import AGAIN, Pool, pools_of
from proofread.gradients.uses import Uses, uses_of
from proofread.gradients.values import Finding

SECONDS = 1.0  # for each tier: data of training size take longer than a textbook's
TIERS = (25, 36, 41)  # ranks
SHARE = 0.05  # of the difference from the right gradient, an explanation may leave so much
TWICE = 50  # two mistakes are less likely than one
FAR = 18  # an explanation so much further fetched than the best is not said


@dataclass
class Problem:
    """A forward on one set of data, the right gradient, and the programs that compute it."""

    forward: Callable
    inputs: dict[str, Any]
    wrt: str
    upstream: Tensor
    right: Tensor

    def __post_init__(self) -> None:
        self.sizes = sizes_of(self.inputs, self.upstream)
        self._plan: list[list[Candidate]] | None = None
        self._tiers: list[list[Pool]] = []
        self._ways: dict = {}

    # Most data are never searched: a right gradient needs no program.
    @cached_property
    def traced(self) -> Program | None:
        """The forward as a program; None where it can't be recorded, and the values must do."""
        try:
            return trace(self.forward, self.inputs, self.wrt)
        except Exception:  # noqa: BLE001
            return None

    @cached_property
    def uses(self) -> Uses:
        return uses_of(self.traced, self.sizes)

    @cached_property
    def programs(self) -> list[tuple[str, Program]]:
        """The right backward, by textbook formulas and step by step."""
        traced, found = self.traced, []
        if traced is None:
            return []
        rules = {k: v for k, v in textbook_rules(traced).items() if self._holds(traced, {k: v})}
        traced.rename()
        for tag, textbook in (("textbook", rules), ("steps", None)):
            if tag == "textbook" and not rules:
                continue
            program = self._differentiated(traced, textbook)
            if program is not None:
                found.append((tag, program))
        return found

    @cached_property
    def terms(self) -> list[tuple[Program, dict[tuple[int, int], Tensor]]]:
        """What each term of each sum adds to the gradient, in each program."""
        return [(program, _contributions(program, self.right)) for _, program in self.programs]

    def _holds(self, traced: Program, rules: dict) -> bool:
        return self._differentiated(traced, rules) is not None

    def _differentiated(self, traced: Program, rules) -> Program | None:
        try:
            program = differentiate(traced, self.upstream, rules)
        except (Underivable, RuntimeError, IndexError, ValueError, TypeError):
            return None
        return program if same(program[program.result], self.right, 1e-5) else None

    def _planted(self, tags: set[str] | None = None) -> Iterator[Candidate]:
        for tag, program in self.programs:
            if tags is not None and tag not in tags:
                continue
            yield from every_mistake(Enumeration(program, tag, self.sizes))

    def pools(self) -> Iterator[tuple[float, list[Pool]]]:
        """Yield every planted mistake that changes the gradient, the most telling first.

        They come in tiers: the lowest rank of each, and the gradients that its mistakes give.
        """
        if self._plan is None:
            # In each tier, those first that change late steps: they are run again in little time.
            planted = sorted(self._planted(), key=lambda c: (_tier(c), -min(c.changes)))
            self._plan = [list(tier) for _, tier in itertools.groupby(planted, _tier)]
        for k, tier in enumerate(self._plan):
            if k == len(self._tiers):
                self._tiers.append(self._run(tier))
            yield min(c.rank for c in tier), self._tiers[k]

    def pools_of(self, sources: set[tuple]) -> list[Pool]:
        """Return the gradients of some mistakes, which have been found on other data."""
        if not sources:
            return []
        places = {source[:3] for source in sources}
        tags = {source[0] for source in sources}
        planted = (c for c in self._planted(tags) if (*c.key[:2], c.label) in places)
        return self._run(c for c in planted if c.source in sources)

    def _run(self, planted: Iterable[Candidate]) -> list[Pool]:
        return pools_of(list(planted), self.right, SECONDS, self._ways)


def _tier(candidate: Candidate) -> int:
    return sum(candidate.rank >= start for start in TIERS)


def sizes_of(inputs: Mapping[str, Any], upstream: Tensor) -> set[int]:
    """Return the axis sizes of the data and the products of those that stand together."""
    sizes = set()
    for value in (*inputs.values(), upstream):
        if isinstance(value, Tensor):
            shape = tuple(value.shape)
            sizes |= {
                math.prod(shape[a:b])
                for a in range(len(shape))
                for b in range(a + 1, 1 + len(shape))
            }
            if len(shape) > 2:
                sizes |= {shape[0] * math.prod(shape[2:])}
    return {s for s in sizes if s > 1}


def explain(u: Tensor, problem: Problem, tolerance: float) -> list[Finding]:
    """Return every explanation that fits, the most telling first, one for each label."""
    return ordered(explanations(u, problem, tolerance))


def explanations(
    u: Tensor, problem: Problem, tolerance: float, like: list[Finding] | None = None
) -> list[Finding]:
    """Return every explanation that fits; with `like`, what was found on other data is enough."""
    right = problem.right
    if u.shape != right.shape:
        found = values.shape_findings(u, right, tolerance)
    else:
        # What lies near the right gradient too explains nothing: it must explain the difference.
        tolerance = min(tolerance, SHARE * relative_error(u, right))
        found = values.value_findings(u, right, tolerance, problem.uses, problem.inputs)
    if u.shape == right.shape:
        found += _fits(u, problem, tolerance)
        for label, look in (
            ("used_updated_weights", other_inputs.updated_weights),
            ("transposed_operand", other_inputs.turned_inputs),
            ("wrong_operand", other_inputs.exchanged),
        ):
            if like is None or any(f.label == label for f in like):
                found += look(u, problem, tolerance)
    pools: list[Pool] = []
    sources = {f.source for f in like or () if f.source}
    tiers = problem.pools() if like is None else [(0.0, problem.pools_of(sources))]
    for lowest, tier in tiers:
        if any(finding.rank + FAR < lowest for finding in found):
            break  # what comes now would not be said
        pools += tier
        for pool in tier:
            for candidate in pool.matching(u, tolerance):
                found += _findings(candidate, candidate.what, candidate.rank)
    solved = like is None or any(s[0] == "constant" for s in sources)
    if not found and u.shape == right.shape and solved:
        found = other_constants(u, problem, tolerance)
    if not found:
        scaled = [pair for pool in pools for pair in pool.proportional(u, tolerance)]
        found = _scaled(scaled, tolerance, problem.uses)
    return found


def _findings(candidate: Candidate, what: str, rank: float, c: float | None = None):
    """Return a planted mistake as an explanation, under each of its labels."""
    return [
        Finding(label, what, rank + (k > 0), hint, c, candidate.source)
        for k, (label, hint) in enumerate(
            [(candidate.label, candidate.hint), *((label, "") for label in candidate.also)]
        )
    ]


def ordered(found: list[Finding]) -> list[Finding]:
    """Keep the best finding of each label, best first."""
    best: dict[str, Finding] = {}
    for finding in found:
        if finding.label not in best or finding.rank < best[finding.label].rank:
            best[finding.label] = finding
    ranked = sorted(best.values(), key=lambda finding: finding.rank)
    return [f for f in ranked if f.rank <= ranked[0].rank + FAR]


def _scaled(scaled, tolerance: float, uses: Uses) -> list[Finding]:
    """Two mistakes at once: a planted one, and a constant factor on all of it."""
    found = []
    best = min((candidate.rank for candidate, _ in scaled), default=0)
    for candidate, c in scaled:
        if candidate.rank > best + 1:
            continue
        minus = abs(c + 1) < 1e-6
        factor = "every sign is opposite" if minus else f"all of it is multiplied by {c:.4g}"
        if c > 0:
            factor = (
                f"all of it is {values.fraction_said(c) or f'{c:.4g}'} times as large as it must be"
            )
        rank = candidate.rank + TWICE
        what = f"{candidate.what}; besides, {factor}"
        found += _findings(candidate, what, rank, c)
        extra = min(values.ratio_findings(c, tolerance, uses), key=lambda finding: finding.rank)
        found.append(Finding(extra.label, what, rank + 2, constant=c, source=candidate.source))
    return found


def _fits(u: Tensor, problem: Problem, tolerance: float) -> list[Finding]:
    """Explain the gradient as its own terms, one of them with another coefficient."""
    found = []
    rest = u - problem.right
    # What is rounding in the gradient is more of the difference.
    loose = tolerance * float(u.abs().max() / rest.abs().max())
    for program, terms in problem.terms:
        for (i, k), term in terms.items():
            more = ratio(rest, term, loose)
            if more is None or ratio(term, problem.right, AGAIN):
                continue
            # The two equal halves of a square: each is as good as the other. Only a node that
            # sends its gradient on at each visit counts one of them twice.
            halves = any(key != (i, k) and ratio(b, term, AGAIN) for key, b in terms.items())
            finding = _coefficient(program, i, k, 1 + more, loose, problem.uses)
            if halves and not (finding and finding.label == "double_counted"):
                finding = _coefficient(program, i, k, 1 + more / 2, loose, problem.uses)
            if finding and finding.label == "double_counted" and (f := _factor_of(program, i, k)):
                said = (
                    f"{_term_said(program, i, program.steps[i].arguments[k])} has twice its factor"
                )
                said = f"{said} {program.number(f)}"
                found.append(Finding("wrong_scale_factor", said, finding.rank - 1))
            if finding and finding.label == "double_counted" and _is_halved(program, i, k):
                finding = replace(finding, rank=finding.rank + 3)  # the half is left out
            if finding:
                found.append(finding)
    return found


def _is_halved(program: Program, i: int, k: int) -> bool:
    """Tell whether the forward halves a term on its way to a sum."""
    step = program.steps[program.steps[i].arguments[k].i]
    while step.phase == "backward" and step.kind in ("mul", "view", "expand", "spread"):
        if step.kind == "mul" and step.arguments[1] == 0.5:
            return True
        step = program.steps[step.operands()[0].i]
    return False


def _factor_of(program: Program, i: int, k: int) -> float | None:
    """Return the number that the forward multiplies a square by, where a term comes from one.

    Its derivative has a 2 of its own: that it is counted twice is less likely than another factor.
    """
    step = program.steps[program.steps[i].arguments[k].i]
    if not is_square(program.steps[step.about]):
        return None
    while step.phase == "backward" and step.operands():
        factor = step.arguments[1] if step.kind == "mul" else None
        if step.role == "const" and isinstance(factor, int | float):
            return factor if factor != 0.5 else None  # that a half is left out is said already
        step = program.steps[step.operands()[0].i]
    return None


def _contributions(program: Program, right: Tensor) -> dict[tuple[int, int], Tensor]:
    """Return what each term of each sum of a backward adds to the gradient."""
    found = {}
    for i in range(program.upstream.i + 1, program.result.i + 1):
        step = program.steps[i]
        if step.kind not in ("add", "sub", "sub3", "bracket"):
            continue
        count = 3 if step.kind == "bracket" else 2
        if not all(isinstance(a, Ref) for a in step.arguments[:count]):
            continue
        for k in range(count):
            left_out = _without(program, i, k)
            if left_out is not None and left_out.shape == right.shape:
                found[i, k] = right - left_out
    return found


def _without(program: Program, i: int, k: int) -> Tensor | None:
    step = program.steps[i]

    def changed(vs):
        arguments = [resolve(a, vs) for a in step.arguments]
        arguments[k] = torch.zeros_like(arguments[k])
        return step.function(*arguments)

    return program.attempt({i: changed})


def _coefficient(
    program: Program, i: int, k: int, c: float, tolerance: float, uses: Uses
) -> Finding | None:
    """Name one term of a sum that is c times as large as it must be."""
    near = max(30 * tolerance, 1e-5)
    what = _term_said(program, i, program.steps[i].arguments[k])

    def is_(value: float) -> bool:
        return abs(c - value) <= near

    if is_(0) or is_(1):
        return None  # the planted mistakes say it better
    if is_(-1):
        return Finding("sign_error", f"{what} has the wrong sign", 18)
    if is_(2):
        return Finding("double_counted", f"{what} is counted twice", 18)
    if is_(1.5):
        return Finding("double_counted", f"{what} is there twice, and counted three times", 18)
    for size in sorted(uses.sizes):
        if abs(c - size) <= near * size and uses.averages(size):
            return Finding("missing_mean", f"{what} is {size} times too large", 34)
        if is_(1 / size):
            return Finding("extra_mean", f"{what} is divided by {size}", 34)
    what = f"{what} is {c:.4g} times as large as it must be"
    return Finding("wrong_scale_factor", what, 37, constant=c)


def _term_said(program: Program, i: int, term: Ref) -> str:
    """Name one term of a sum in the backward."""
    step = program.steps[i]
    if step.role != "fork":
        return f"one term of the gradient of {program.describe(Ref(step.about))}"
    start = program.describe(Ref(step.details["forked"]))
    if is_skip(program, step.details["forked"], term):
        to = program.describe(Ref(program.gradient_of[term.i]))
        return f"the direct path from {start} to {to}{skip_said(program, term)}"
    return f"the path from {start} through {through_said(program, term)}"
