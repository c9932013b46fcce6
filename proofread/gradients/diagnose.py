"""Judge a gradient: right, or wrong with the name of the mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from proofread.gradients import experiments, intake
from proofread.gradients.compare import relative_error
from proofread.gradients.readings import said
from proofread.gradients.report import Diagnosis, Note, locate, note
from proofread.gradients.search import explain
from proofread.gradients.values import Finding, be


@dataclass
class _Verdict:
    findings: list[Finding]
    notes: list[Note]
    trial: experiments.Trial


def diagnose(
    backward: Tensor | Callable[[dict[str, Any], Tensor], Tensor],
    forward: Callable[..., Tensor],
    inputs: Mapping[str, Any],
    *,
    wrt: str,
    upstream: Tensor | None = None,
) -> Diagnosis:
    """Compare a gradient with the right one, and name the mistake where they differ.

    `forward(**inputs)` is any function of torch; `wrt` names the argument whose gradient it is.
    `backward` is that gradient, of the argument's shape, or a function of `(inputs, upstream)`
    that returns it. `upstream` has the shape of the output. Where it is None, it is 1 for a
    forward that returns one number, and otherwise drawn at random for a function, all ones for
    a tensor.

    Raises TypeError or ValueError, with one sentence, where there is nothing to judge: an
    unknown argument, an integer, complex, empty or not finite one, a forward that raises or is
    not differentiable, a backward that raises or returns no tensor.

    >>> import torch
    >>> X, G = torch.tensor([[1., 2.], [3., 4.], [5., 6.]]), torch.tensor([[1.], [-2.], [3.]])
    >>> W = torch.tensor([[1.], [-1.]])
    >>> diagnose(X.T @ G / 3, lambda X, W: X @ W, {"X": X, "W": W}, wrt="W", upstream=G)
    Diagnosis(ok=False, wrt='W', mistakes=[extra_mean])
    """
    with _one_thread():
        case = intake.case_of(backward, forward, inputs, wrt, upstream)
        verdict = _judge(case, case.trial(case.inputs, case.upstream))
    trial = verdict.trial
    right = trial.right
    mistakes = said(verdict.findings, trial.problem.traced, wrt, tuple(right.shape))
    where = locate(trial.yours, right, trial.tolerance, wrt) if mistakes else ""
    return Diagnosis(
        ok=not mistakes,
        wrt=wrt,
        mistakes=mistakes,
        error=relative_error(trial.yours, right),
        gradient=right.to(case.dtype),
        yours=trial.yours,
        notes=[*case.notes, *verdict.notes],
        where=where,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Thousands of tiny operations only lose by waiting for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _judge(case: intake.Case, trial: experiments.Trial) -> _Verdict:
    trial = experiments.in_float64(case, trial)
    if trial.agrees:
        return _confirm(case, trial)
    plain = _plain_trouble(trial)
    if plain:
        return _Verdict(plain, [], trial)
    tie = experiments.tie(trial)
    if tie:
        return _Verdict([], [note("tie_convention", tie)], trial)
    changed = _changed(trial)
    findings = experiments.repeated(case, trial)
    if not findings:
        findings = experiments.explained(case, trial)
    if not findings and changed:
        return _Verdict(changed, [], trial)
    if not findings:
        findings = experiments.behaviour(case, trial)
    if not findings:
        where = locate(trial.yours, trial.right, trial.tolerance, case.wrt).rstrip(".")
        label = "unexplained" if trial.yours.shape == trial.right.shape else "wrong_shape"
        if label == "unexplained":
            where = f"your gradient is wrong, and I don't know why: {where[0].lower()}{where[1:]}"
        findings = [Finding(label, where, 99)]
    return _Verdict([*findings, *changed], [], trial)


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
    other = experiments.counterexample(case)
    if other is None:
        return _Verdict([], [], trial)
    if experiments.tie(other):
        return _Verdict([], [], trial)
    findings = _plain_trouble(other) or explain(other.yours, other.problem, other.tolerance)
    if findings:
        return _Verdict(findings, [], other)
    return _Verdict([], [note("holds_data")], trial)
