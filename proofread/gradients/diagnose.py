"""Judge a gradient: right, or wrong with the name of the mistake."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from proofread.gradients import experiments, intake, kinks, patterns
from proofread.gradients.compare import ratio, relative_error, same
from proofread.gradients.readings import said
from proofread.gradients.report import Diagnosis, Note, differing, locate, note
from proofread.gradients.search import explain
from proofread.gradients.values import Finding, be, shape_hint
from proofread.signatures import brief

NOTHING = 1e-12  # where upstream is 1, a gradient below this is left over by rounding
NEARLY = 0.01  # a relative error that is too small for most mistakes


@dataclass
class _Verdict:
    findings: list[Finding]
    notes: list[Note]
    trial: experiments.Trial


@torch.inference_mode(False)  # under the caller's, autograd would record nothing
def diagnose(
    backward: Tensor | Callable[[dict[str, Any], Tensor], Tensor],
    forward: Callable[..., Tensor],
    inputs: Mapping[str, Any],
    *,
    wrt: str,
    upstream: Tensor | None = None,
) -> Diagnosis:
    """Compare a gradient with the right one, and name the mistake where they differ.

    `forward(**inputs)` is any function of torch; of several outputs the last counts, as J does in
    (Z, A, J). `wrt` names the argument whose gradient it is.
    `backward` is that gradient, of the argument's shape, or a function of `(inputs, upstream)`
    that returns it. `upstream` has the shape of the output. Where it is None, it is 1 for a
    forward that returns one number, and otherwise drawn at random for a function, all ones for
    a tensor. A function is run on other data too: what is right on the data given and wrong on
    other values is wrong; what is wrong only where an axis of size 1 is longer, or where a number
    of 0 or 1 is another, gets a note. So does a `torch.autograd.Function` in the forward whose own
    backward, by which it is judged, finite differences contradict.

    Raises TypeError or ValueError, with one sentence, where there is nothing to judge: an
    unknown argument, an integer, complex, empty or not finite one, a forward that raises or is
    not differentiable, a backward that raises or returns no tensor.

    >>> import torch
    >>> X, G = torch.tensor([[1., 2.], [3., 4.], [5., 6.]]), torch.tensor([[1.], [-2.], [3.]])
    >>> W = torch.tensor([[1.], [-1.]])
    >>> diagnose(X.T @ G / 3, lambda X, W: X @ W, {"X": X, "W": W}, wrt="W", upstream=G)
    Diagnosis(ok=False, wrt='W', mistakes=[extra_mean])
    """
    with _undisturbed():
        case = intake.case_of(backward, forward, inputs, wrt, upstream)
        verdict = _judge(case, case.trial(case.inputs, case.upstream))
    trial = verdict.trial
    right = trial.right
    program = trial.problem.traced if verdict.findings else None
    mistakes = said(verdict.findings, program, wrt, tuple(right.shape))
    where = locate(trial.yours, right, trial.tolerance, wrt) if mistakes else ""
    notes = [*case.notes, *verdict.notes]
    if trial.cancels:
        notes.append(note("cancels"))
    elif not mistakes and not verdict.notes and trial.rounds:
        notes.append(note("nearly_cancels"))
    if case.random and mistakes:
        notes.append(note("random_forward"))
    if any(n.label == "upstream_ones" for n in notes) and right.abs().max() < NOTHING:
        notes.append(note("upstream_shows_nothing"))
    return Diagnosis(
        ok=not mistakes,
        wrt=wrt,
        mistakes=mistakes,
        error=trial.error,
        gradient=right.to(case.dtype),
        yours=trial.yours,
        notes=notes,
        where=where,
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Thousands of tiny operations only lose by threads and by looks for cycles of garbage."""
    threads, collects = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collects:
            gc.enable()


def _judge(case: intake.Case, trial: experiments.Trial) -> _Verdict:
    if not trial.yours.isfinite().all() and case.is_finite_in_its_dtype():
        return _Verdict(_plain_trouble(trial), [], trial)  # float64 would hide an overflow
    trial = experiments.in_float64(case, trial)
    if trial.agrees:
        return _confirm(case, trial)
    if experiments.is_lost_in_rounding(case, trial):
        return _Verdict([], [note("lost_in_rounding")], trial)
    plain = _plain_trouble(trial)
    if plain and plain[0].label != "all_zero":
        return _Verdict(plain, [], trial)
    # Where all entries are ties, as in a layer of zeros, nothing but zeros is a choice of slopes.
    tie = kinks.tie(trial)
    if plain and not tie:
        return _Verdict(plain, [], trial)
    notes = []
    if tie:
        beside = experiments.beside_the_kink(case, trial)
        if beside is None or beside.agrees:
            return _Verdict([], [note("tie_convention", tie)], trial)
        trial, notes = beside, [note("other_values")]
    changed = _changed(trial)
    findings = experiments.repeated(case, trial)
    if not findings:
        findings, broken = _searched(experiments.explained, case, trial)
        notes += broken
    if not findings and changed:
        return _Verdict(changed, notes, trial)
    if not findings:
        findings = experiments.behaviour(case, trial)
    if not findings:
        findings = [_unexplained(trial, case.wrt)]
    if not case.is_function:  # a function is called twice, which tells
        findings += _added_up(trial)
    return _Verdict([*findings, *changed], notes, trial)


def _added_up(trial: experiments.Trial) -> list[Finding]:
    """Name what `.grad` holds after several calls of `backward()`."""
    times = ratio(trial.yours, trial.right, trial.tolerance) or 0
    for count, often in ((2, "twice"), (3, "three times")):
        if abs(times - count) <= 3 * trial.tolerance * count:
            what = f"backward() was called {often}, without zero_grad() between"
            return [Finding("stale_gradient", what, 98)]
    return []


def _searched(search: Callable[..., list[Finding]], *arguments) -> tuple[list[Finding], list[Note]]:
    """Search for a name; the verdict stands without one, and an unforeseen forward takes none away."""
    try:
        return search(*arguments), []
    except Exception as error:  # noqa: BLE001
        return [], [note("search_failed", brief(error))]


def _unexplained(trial: experiments.Trial, wrt: str) -> Finding:
    where = locate(trial.yours, trial.right, trial.tolerance, wrt).rstrip(".")
    if trial.yours.shape != trial.right.shape:
        hint = shape_hint(tuple(trial.yours.shape), tuple(trial.right.shape))
        if _is_output(trial):
            where = "this is what the forward returns, and not its gradient"
            hint = f"Differentiate it: how does it change with one entry of {wrt}?"
        return Finding("wrong_shape", where, 99, hint)
    where = where[0].lower() + where[1:]
    error = relative_error(trial.yours, trial.right)
    differ = differing(trial.yours, trial.right, trial.tolerance)
    which, hint = patterns.pattern(differ, trial.inputs)
    if error <= patterns.SMALL:
        hint = patterns.ROUNDED
    if which:
        where = where.replace(";", f", {which};", 1)
    if error < NEARLY:
        where = f"it is off by at most {error:.1g} of the largest entry; {where}"
    what = f"your gradient is wrong, and I don't know why: {where}"
    return Finding("unexplained", what, 99, hint)


def _is_output(trial: experiments.Trial) -> bool:
    output = trial.problem.forward(**trial.problem.inputs)
    output = output[-1] if isinstance(output, tuple | list) else output
    return same(trial.yours, output.to(trial.yours), trial.tolerance)


def _plain_trouble(trial: experiments.Trial) -> list[Finding]:
    """Trouble that needs no search: values that are not finite, or nothing but zeros."""
    yours, right = trial.yours, trial.right
    bad = ~yours.isfinite()
    if bad.any():
        return [
            Finding(
                "not_finite",
                f"{int(bad.sum())} of {bad.numel()} entries of your gradient {be(int(bad.sum()))} not "
                "finite",
                0,
            )
        ]
    if yours.shape == right.shape and not yours.any() and right.any():
        return [
            Finding(
                "all_zero",
                "your gradient is 0 everywhere; the largest entry of the right one is "
                f"{float(right.abs().max()):.4g}",
                0,
            )
        ]
    return []


def _changed(trial: experiments.Trial) -> list[Finding]:
    if not trial.changed:
        return []
    names = " and ".join(trial.changed)
    return [
        Finding(
            "inputs_changed",
            f"your backward changes {names} in place",
            90,
        )
    ]


def _confirm(case: intake.Case, trial: experiments.Trial) -> _Verdict:
    """Right on the data given: look whether it is right on other data too."""
    changed = _changed(trial)
    repeated = experiments.repeated(case, trial)
    if repeated or changed:
        return _Verdict([*repeated, *changed], [], trial)
    found = experiments.counterexample(case)
    if found is None or kinks.tie(found[0]):
        return _Verdict([], _numbers_that_hide(case), trial)
    other, resized = found
    findings = _plain_trouble(other)
    if not findings:
        findings, _ = _searched(explain, other.yours, other.problem, other.tolerance)
    if resized:  # a mean of one row is that row: on the data given, nothing is wrong
        return _Verdict([], [note("other_sizes", _said_of_sizes(case, other, findings))], trial)
    if findings:
        hidden = [replace(f, what=f"{f.what}, which the data given hide") for f in findings]
        return _Verdict(hidden, [note("other_values")], other)
    error = relative_error(other.yours, other.right)
    label = "holds_data" if error > NEARLY else "nearly"
    return _Verdict([], [note(label, f"{error:.1g}")], trial)


def _numbers_that_hide(case: intake.Case) -> list[Note]:
    """Note where another setting than 0 or 1 shows a mistake: the code may be for that one only."""
    found = experiments.with_other_numbers(case)
    if found is None or kinks.tie(found[0]):
        return []
    other, names = found
    findings, _ = _searched(explain, other.yours, other.problem, other.tolerance)
    if not findings:
        return []
    given, there = (
        " and ".join(f"{name} = {inputs[name]:g}" for name in names)
        for inputs in (case.inputs, other.inputs)
    )
    what = f"with {there} it differs: {findings[0].label}, {findings[0].what}"
    return [note("other_numbers", f"with {given}; {what}")]


def _said_of_sizes(case: intake.Case, other: experiments.Trial, findings: list[Finding]) -> str:
    shape = tuple(other.inputs[case.wrt].shape)
    why = f": {findings[0].label}, {findings[0].what}" if findings else ""
    return f"{case.wrt} of shape {shape}{why}"
