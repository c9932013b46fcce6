"""Experiments with a backward that is a function: run it again, on other data, without upstream."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from proofread.gradients.compare import TOLERANCES, ratio, relative_error, rounding_of, same
from proofread.gradients.data import (
    Constants,
    entries,
    is_constant,
    is_large,
    other_sizes,
    redraw,
    smaller_sizes,
)
from proofread.gradients.graph.autograd import size_of_terms
from proofread.gradients.search import Problem, explanations, ordered
from proofread.gradients.values import Finding

if TYPE_CHECKING:
    from proofread.gradients.intake import Case

DRAWS = 2
LOOSE = 2e-3  # an eps left out, or a constant with few digits, besides the mistake
LONG = 80  # steps of a forward; a textbook's layer has fewer, unless it is a loop
MANY = 20_000  # entries; of so large data a smaller draw is searched first
ROUNDED = 8  # units in the last place of upstream that rounding may leave
OTHER_NUMBER = 0.7  # for a setting of 0 or 1, which hides what it multiplies
UPSTREAMS = 2_750_159_683  # seeds from here on, far from those of the data
VAGUE = 40  # from this rank on an explanation says little more than "wrong"


@dataclass
class Trial:
    """One set of data with the right gradient and the user's."""

    problem: Problem
    inputs: dict[str, Any]
    upstream: Tensor
    yours: Tensor
    right: Tensor
    tolerance: float
    changed: tuple[str, ...]
    rounding: float  # of a term, what may be left of it where all terms cancel

    @property
    def agrees(self) -> bool:
        return same(self.yours, self.right, self.tolerance) or self.cancels

    @cached_property
    def cancels(self) -> bool:
        """Whether the gradient is 0, and the two differ by what rounding leaves of its terms."""
        u, r, upstream = self.yours, self.right, self.problem.upstream
        if u.shape != r.shape or not u.isfinite().all() or same(u, r, self.tolerance):
            return False
        exact = rounding_of(r.dtype)
        # Most gradients are far larger, and need no look at their terms.
        if r.abs().max() > 1e9 * exact * upstream.abs().max() or self.problem.traced is None:
            return False
        terms = self._terms
        return bool(r.abs().max() <= exact * terms and u.abs().max() <= self.rounding * terms)

    @property
    def rounds(self) -> bool:
        """Whether the two differ by no more than autograd's gradient does, and by more than most."""
        widened = self.tolerance not in TOLERANCES.values()
        return widened and relative_error(self.yours, self.right) > TOLERANCES[torch.float32]

    @cached_property
    def _terms(self) -> float:
        return size_of_terms(self.problem.traced, self.problem.upstream)

    @property
    def error(self) -> float:
        """The largest error, relative to the largest entry, or to the terms that cancel."""
        if self.cancels:
            return float((self.yours - self.right).abs().max()) / self._terms
        return relative_error(self.yours, self.right)


def draw_upstream(case: Case, output: Tensor, seed: int) -> Tensor:
    """Draw a signed upstream like the output, or keep the 1 of a loss."""
    if case.fixed_upstream:
        return torch.ones_like(output)
    generator = torch.Generator().manual_seed(UPSTREAMS + seed)
    drawn = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return drawn.to(output.dtype)


def fresh(
    case: Case,
    seed: int,
    resizings: Iterable[Mapping[int, int]] | None = None,
    constants: Constants = Constants.KEPT,
) -> Iterator[Trial]:
    """Yield trials on other data: other values, and those of the other sizes that the code takes."""
    large = is_large(case.inputs)
    choices = resizings or (other_sizes(case.inputs) if large else ({},))
    # In float64 no rounding can be taken for a mistake; but not every code takes it.
    for sizes, dtype in itertools.product(choices, (torch.float64, None)):
        inputs = redraw(case.inputs, seed, sizes, dtype, constants)
        if large and is_large(inputs):
            continue
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                output = case.seeded(case.forward)(**inputs)
            if isinstance(output, tuple | list):
                output = output[-1]
            if not output.isfinite().all():
                continue
            trial = case.trial(inputs, draw_upstream(case, output, seed))
        except Exception:  # noqa: BLE001, S112 - sizes that the code does not take
            continue
        if trial.right.isfinite().all() and trial.yours.isfinite().all():
            yield trial


def in_float64(case: Case, trial: Trial) -> Trial:
    """Run a function on the same data in float64, where no rounding blurs what it does."""
    exact = trial.right.dtype == trial.inputs[case.wrt].dtype
    if not case.is_function or exact or is_large(case.inputs):
        return trial
    inputs = {
        k: v.to(torch.float64) if isinstance(v, Tensor) and v.is_floating_point() else v
        for k, v in trial.inputs.items()
    }
    try:
        return case.trial(inputs, trial.upstream.to(torch.float64))
    except Exception:  # noqa: BLE001 - code that insists on its dtype
        return trial


def is_lost_in_rounding(case: Case, trial: Trial) -> bool:
    """Tell whether the gradient is so small that rounding is all of the difference.

    Where a sigmoid saturates, 1 - y has no digits left, in autograd as little as in the user's
    code. Elsewhere, where there are digits, the function must be right.
    """
    u, r = trial.yours, trial.right
    if not case.is_function or u.shape != r.shape or not u.isfinite().all():
        return False
    given = trial.inputs[case.wrt]
    coarsest = torch.finfo(given.dtype).eps
    size = float(trial.upstream.abs().max())
    if max(float(u.abs().max()), float(r.abs().max())) > 1e8 * coarsest * size:
        return False  # most gradients are far larger, and need no look at other data
    if float((u - r).abs().max()) > ROUNDED * coarsest * size:
        return False
    for seed in range(DRAWS):
        drawn = torch.randn(given.shape, generator=torch.Generator().manual_seed(seed))
        try:
            other = case.trial(trial.inputs | {case.wrt: drawn.to(given)}, trial.upstream)
        except Exception:  # noqa: BLE001 - values that the forward does not take
            return False
        if not other.agrees or not float(other.right.abs().max()) > 1e3 * coarsest * size:
            return False
    return True


def _draws(case: Case, trial: Trial) -> bool:
    """Tell whether the function gives one result for one seed: then it is chance that it differs."""
    if case.random:
        return False
    with torch.random.fork_rng(devices=[]):
        results = []
        for _ in range(2):
            torch.manual_seed(0)
            results.append(case.run_backward(trial.inputs, trial.upstream)[0])
    return torch.equal(*results)


def repeated(case: Case, trial: Trial) -> list[Finding]:
    """Run the function again on the same data: a stale buffer or a new mask shows."""
    if not case.is_function:
        return []
    again, _ = case.run_backward(trial.inputs, trial.upstream)
    again = again.to(trial.right.dtype)
    if again.shape != trial.yours.shape or same(again, trial.yours, 1e-9):
        return []
    if _draws(case, trial):
        return [
            Finding(
                "wrong_mask",
                "called again on the same data, your function returns another result: it draws "
                "random numbers, as a new mask is, and the forward draws none",
                0,
                "Take the mask that the forward drew: return it there, or pass it in.",
            )
        ]
    if same(again - trial.yours, trial.right, 2 * trial.tolerance) or ratio(
        again, trial.yours, trial.tolerance
    ):
        return [
            Finding(
                "stale_gradient",
                "called again on the same data, your function returns another result",
                0,
            )
        ]
    zeros = (trial.yours == 0) ^ (again == 0)
    if zeros.any():
        return [
            Finding(
                "wrong_mask",
                "called again on the same data, your function masks other entries: it draws a "
                "new mask",
                0,
            )
        ]
    what = "called again on the same data, your function returns another result"
    return [Finding("stale_gradient", what, 0)]


def explained(case: Case, trial: Trial) -> list[Finding]:
    """Search for explanations; where none fits exactly, for one that nearly does."""
    if short := _shorter(case, trial):
        other, sizes = short
        findings = explanations(other.yours, other.problem, other.tolerance)
        if findings:
            return ordered(told_apart(case, findings, other.tolerance, sizes))
    small = _smaller(case, trial)
    for tolerance in (trial.tolerance, max(LOOSE, trial.tolerance)):
        if small:
            like = explanations(small.yours, small.problem, tolerance)
            findings = explanations(trial.yours, trial.problem, tolerance, like)
            if any(f.source for f in findings):
                sources = {f.source for f in like}
                findings = [f for f in findings if f.source in sources]
            if findings:
                return ordered(findings)
        else:
            findings = explanations(trial.yours, trial.problem, tolerance)
            if findings:
                return ordered(told_apart(case, findings, tolerance))
    return []


def _shorter(case: Case, trial: Trial) -> tuple[Trial, Mapping[int, int]] | None:
    """Return a trial with much fewer steps, of a recurrence that is long; None where it is not.

    Its mistakes are the same in a few steps of time, where they are found in a fraction of a second.
    """
    traced = trial.problem.traced
    if not case.is_function or traced is None or len(traced.steps) < LONG:
        return None
    sizes = smaller_sizes(case.inputs)
    other = next(fresh(case, 1, [sizes]), None)
    if other is None or other.agrees or other.problem.traced is None:
        return None
    short = len(other.problem.traced.steps) <= len(traced.steps) / 2
    return (other, sizes) if short else None


def _smaller(case: Case, trial: Trial) -> Trial | None:
    """Return a trial on much smaller data, where the search is quick; None where none is needed."""
    if not case.is_function or entries(trial.inputs) < MANY:
        return None
    for sizes in (smaller_sizes(case.inputs), *other_sizes(case.inputs)):
        small = next(fresh(case, 1, [sizes]), None)
        if small and not small.agrees and entries(small.inputs) <= entries(trial.inputs) / 3:
            return small
    return None


def told_apart(
    case: Case,
    findings: list[Finding],
    tolerance: float,
    sizes: Mapping[int, int] | None = None,
) -> list[Finding]:
    """Keep the explanations that fit on other data too."""
    # A factor that was fitted to the data explains them alone, until other data give it again.
    fitted = all(
        f.label == "wrong_scale_factor" and f.constant is not None and not f.source
        for f in findings
    )
    if not case.is_function or not (fitted or len(findings) > 1):
        return findings
    for resize in (False, True):
        if sizes and resize:
            break
        choices = [sizes] if sizes else other_sizes(case.inputs) if resize else None
        other = next(fresh(case, 2 if sizes else 1, choices), None)
        if other is None or other.agrees:
            continue
        there = explanations(other.yours, other.problem, tolerance, findings)
        ranks = [[t.rank for t in there if _fits_too(f, t, resize)] for f in findings]
        kept = [
            replace(f, rank=max(f.rank, min(found)))
            for f, found in zip(findings, ranks, strict=True)
            if found
        ]
        # A size written as a number makes any gradient wrong at other sizes: no evidence.
        if kept and (not resize or min(f.rank for f in kept) < VAGUE):
            findings = kept
        elif fitted and not resize:
            return []
    return findings


def _fits_too(here: Finding, there: Finding, resized: bool) -> bool:
    """Tell whether two data have the same explanation; a constant may depend on the sizes."""
    if (here.label, here.source) != (there.label, there.source):
        return False
    if resized or here.constant is None or there.constant is None:
        return True
    return abs(here.constant - there.constant) <= 1e-3 * abs(here.constant)


def counterexample(case: Case) -> tuple[Trial, bool] | None:
    """Return a trial on which a backward that was right is wrong, and whether its sizes differ."""
    if not case.is_function:
        return None
    # One row hides a mean for a sum; larger sizes hide nothing, and may be written as numbers.
    small = any(1 in v.shape for v in case.inputs.values() if isinstance(v, Tensor))
    for seed, resize in [(k, False) for k in range(DRAWS)] + [(DRAWS, True)] * small:
        trial = next(fresh(case, seed, other_sizes(case.inputs) if resize else None), None)
        if trial is None or trial.agrees or is_lost_in_rounding(case, trial):
            continue
        return trial, resize
    if any(isinstance(v, Tensor) and is_constant(v) for v in case.inputs.values()):
        trial = next(fresh(case, 0, constants=Constants.DRAWN), None)
        masked = next(fresh(case, 0, constants=Constants.MASKS), None)
        # A mask that blocks nothing is constant too: then only masks need to be right.
        if trial is not None and not trial.agrees and not (masked and masked.agrees):
            return trial, False
    return None


def with_other_numbers(case: Case) -> tuple[Trial, list[str]] | None:
    """Return a trial in which numbers that were 0 or 1 are not, if the backward is wrong there."""
    names = [k for k, v in case.inputs.items() if isinstance(v, float) and v in (0.0, 1.0)]
    if not names or not case.is_function:
        return None
    other = replace(case, inputs=case.inputs | {name: OTHER_NUMBER for name in names})
    trial = next(fresh(other, 0), None)
    return (trial, names) if trial is not None and not trial.agrees else None


def beside_the_kink(case: Case, trial: Trial) -> Trial | None:
    """Run a function on data a little beside the given ones, where no kink is hit."""
    if not case.is_function:
        return None
    given = trial.inputs[case.wrt]
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).to(given)
    size = torch.where(given == 0, given.abs().max().clamp_min(1), given.abs())
    try:
        other = case.trial(trial.inputs | {case.wrt: given + 1e-3 * size * noise}, trial.upstream)
    except Exception:  # noqa: BLE001 - the values beside may be forbidden ones
        return None
    return other if other.right.isfinite().all() else None


def behaviour(case: Case, trial: Trial) -> list[Finding]:
    """Explain a function by what it does with its upstream, whatever its formula."""
    if not case.is_function or case.fixed_upstream:
        return []

    def run(upstream: Tensor) -> Tensor | None:
        try:
            result, _ = case.run_backward(trial.inputs, upstream)
        except (ValueError, TypeError):
            return None
        result = result.to(trial.right.dtype)
        return result if result.shape == trial.yours.shape else None

    g, tolerance = trial.upstream, trial.tolerance
    zero, double = run(torch.zeros_like(g)), run(2 * g)
    if zero is None or double is None:
        return []
    if same(double, trial.yours, tolerance):
        return [
            Finding(
                "missing_upstream", "your gradient does not change with the upstream gradient", 70
            )
        ]
    if same(double, 4 * trial.yours, tolerance):
        return [
            Finding(
                "applied_twice",
                "twice the upstream gradient gives four times the result, which must double",
                70,
            )
        ]
    if zero.abs().max() > tolerance * trial.yours.abs().max():
        return [
            Finding(
                "missing_upstream",
                "with an upstream gradient of zeros your gradient is not 0: it must be proportional to it",
                71,
            )
        ]
    if g.numel() > 1:
        level = run(torch.full_like(g, float(g.mean())))
        if level is not None and same(level, trial.yours, tolerance):
            return [
                Finding(
                    "upstream_collapsed",
                    "your gradient depends on nothing but the mean of the upstream gradient",
                    72,
                )
            ]
    return []
