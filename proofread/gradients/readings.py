"""Which explanations are said, in which words, and with which hint."""

from __future__ import annotations

from proofread.gradients.graph.program import Program
from proofread.gradients.planted.factors import is_statistic
from proofread.gradients.report import Mistake
from proofread.gradients.sentences import ANOTHER_NAME, LOG_SOFTMAX, SENTENCES
from proofread.gradients.values import Finding

STATISTICS = {"var", "normalise", "standardise"}
THRICE = "every entry is three times the right one"
FITS_EITHER_WAY = (
    "Its last two axes have one size: derive one entry on paper, or try unequal sizes."
)
MOST = 3  # explanations that are said

# Beside the first explanation these are nonsense: they see a symptom of it at the same place.
SYMPTOMS = {
    "missing_upstream": {"missing_scale_factor", "missing_local_derivative"},
    "missing_mean": {"missing_upstream", "upstream_collapsed", "double_counted"},
    "missing_scale_factor": {"upstream_collapsed"},
    "applied_twice": {"missing_scale_factor"},
    "wrong_mean_count": {"missing_upstream", "upstream_collapsed"},
    "extra_mean": {"missing_upstream"},
    "missing_mask": {"wrong_mask", "upstream_collapsed"},
    "missing_path": {"wrong_mask", "wrong_operand", "upstream_collapsed"},
    "missing_target": {"wrong_mask"},
    "missing_broadcast_sum": {"wrong_axis"},
    "wrong_axis": {"upstream_collapsed"},
    "sign_error": {"missing_scale_factor", "missing_local_derivative"},
    "missing_cross_terms": {"missing_broadcast_sum", "overwrite_not_accumulate"},
    "norm_mean_term_missing": {"missing_product_term", "missing_path"},
    "norm_var_term_missing": {
        "wrong_power",
        "missing_path",
        "missing_local_derivative",
        "missing_product_term",
        "missing_upstream",
    },
}


def said(
    findings: list[Finding], program: Program | None, wrt: str, shape: tuple[int, ...]
) -> list[Mistake]:
    """Put the findings into words, the best first, without those that the best one rules out."""
    mistakes, accounts = [], set()
    # A change in place is seen, and no explanation among others.
    explain = [f for f in _apart(findings) if f.label != "inputs_changed"][:MOST]
    changes = [f for f in _apart(findings) if f.label == "inputs_changed"]
    for finding in [*explain, *changes]:
        meaning, hint = SENTENCES[finding.label]
        sentence = f"{finding.what[0].upper()}{finding.what[1:]}."
        if finding.what in accounts:  # the same account by another name: say what the name means
            meant = meaning.format(wrt=wrt, shape=shape)
            sentence = f"{ANOTHER_NAME}: {meant[0].lower()}{meant[1:]}"
        accounts.add(finding.what)
        own = finding.hint
        if own == LOG_SOFTMAX:
            own = _hint_on_cross_entropy(program) or own
        hint = own or _hint(finding, program, shape) or hint.format(wrt=wrt, shape=shape)
        mistakes.append(Mistake(finding.label, sentence, hint))
    return mistakes


def _apart(findings: list[Finding]) -> list[Finding]:
    if not findings:
        return []
    first, *others = findings
    ruled_out = SYMPTOMS.get(first.label, set())
    kept = [f for f in others if f.label not in ruled_out]
    return [first, *[f for f in kept if f.what == first.what or not _is_dull(f)]]


def _is_dull(finding: Finding) -> bool:
    """Tell whether a second explanation only gives the ratio of the two gradients again."""
    times = finding.what in ("every entry is twice the right one", THRICE)
    ratio = finding.what.startswith("your gradient is ") and finding.label == "wrong_scale_factor"
    return times or ratio or finding.what.endswith("once too often")


def _rooted(program: Program) -> bool:
    """Tell whether the forward has a root of a mean, as a normalisation written by hand has."""
    return any(
        step.details.get("called") in ("sqrt", "rsqrt")
        and is_statistic(program, step.operands()[0])
        for step in program.steps[: program.output.i + 1]
    )


def _hint_on_cross_entropy(program: Program) -> str:
    """Return the formula of a cross-entropy that the forward calls or computes; else ''."""
    calls = (*program.calls.values(), *program.recognised.values())
    call = next((c for c in calls if c.called == "cross_entropy" and len(c.arguments) == 2), None)
    if call is None:
        return ""
    logits, target = (program.describe(ref) for ref in call.arguments)
    formula = f"softmax({logits}) - one_hot({target})"
    if any(step.kind in ("mean", "div") for step in program.steps[: program.output.i + 1]):
        formula = f"({formula}) / N"
    return f"The gradient of the logits is {formula}."


def _in_a_difference(program: Program) -> bool:
    """Tell whether the forward takes the difference of the argument itself and something."""
    same = {program.wrt.i}
    for i, step in enumerate(program.steps[: program.output.i + 1]):
        if step.kind in ("view", "expand", "cast") and step.operands()[0].i in same:
            same.add(i)
        if step.kind == "sub" and any(r.i in same for r in step.operands()):
            return True
    return False


def _hint(finding: Finding, program: Program | None, shape: tuple[int, ...]) -> str:
    """Return a hint that fits this finding or forward better than the general one; else ''."""
    label = finding.label
    if label == "transposed_operand" and len(shape) > 1 and shape[-1] == shape[-2]:
        return FITS_EITHER_WAY
    if label == "overwrite_not_accumulate" and finding.what.startswith("only the first"):
        return "Look for a return inside the loop, which ends it, or for an index 0."
    if program is None:
        return ""
    if label == "conv_flip" and any(c.called == "convolve" for c in program.recognised.values()):
        return "The forward flips the kernel. Write the sum for one entry, and see where it is flipped back."
    if label == "wrong_power":
        kinds = {step.kind for step in program.steps[: program.output.i + 1]}
        powers = (
            "Differentiate the power again: (xⁿ)' = n xⁿ⁻¹, so (1/x)' = -1/x², (√x)' = 1/(2√x)."
        )
        return "" if kinds & STATISTICS or _rooted(program) else powers
    if label != "sign_error":
        return ""
    active = program.dependents(1 << program.wrt.i)
    calls = {c.called for c in (*program.calls.values(), *program.recognised.values())}
    if any("entropy" in called for called in calls):
        return "The gradient of this loss is prediction minus target, in this order."
    steps = [s for i, s in enumerate(program.steps[: program.output.i + 1]) if active >> i & 1]
    everywhere = finding.what.startswith("every entry has the opposite sign")
    if any(s.kind == "sub" for s in steps) and (not everywhere or _in_a_difference(program)):
        return "Differentiate the difference again: d(a - b)/da is 1, and d(a - b)/db is -1."
    if any(s.kind == "div" and s.needs & active for s in steps):
        return "Differentiate the quotient again: d(a / b)/da is 1 / b, and d(a / b)/db is -a / b²."
    return ""
