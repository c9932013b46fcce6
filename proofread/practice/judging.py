"""Judge one gradient of a module."""

from __future__ import annotations

import difflib
import inspect
import itertools
import re
import traceback
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from math import prod
from typing import Any

from torch import Tensor

from proofread.gradients.diagnose import diagnose
from proofread.gradients.intake import case_of
from proofread.gradients.report import Diagnosis, Mistake
from proofread.gradients.sentences import SQUARE
from proofread.practice import edits
from proofread.practice.exercise import Exercise, axes_said, taken, unheard
from proofread.practice.objects import Misfit
from proofread.practice.results import FAILED, RIGHT, UNWRITTEN, WRONG, Result
from proofread.signatures import SIZES, brief, draw, line_of, raised_in, signature_of

# What an exception says, and what to do then.
ADVICE = (
    ("does not require grad", "The exercise asks for the formula itself, without autograd."),
    ("builtin_function_or_method|'method'", "Are brackets missing, as in A.numel()?"),
    (r"torch\.Size'", "A.size() is a tuple of all sizes; A.numel() is one number."),
    (
        "Boolean value of Tensor with more than one",
        "An `if` takes one value; for each entry by itself, multiply by the comparison.",
    ),
    ("bitwise_xor", "In Python, `^` is no power: `**` is."),
    ("bitwise_(and|or)", "To apply a mask, multiply by it."),
    (
        "same dtype|expected scalar type",
        "The data here are float64: make a new tensor of their dtype, as zeros_like does.",
    ),
    (r"name '(np|torch|F|nn|math)' is not defined", "Is its import missing?"),
    ("1D tensors expected", "dot() is for vectors; `@` multiplies matrices."),
    (
        "cannot access local variable|referenced before assignment",
        "Give it a value before its first use, as with zeros_like.",
    ),
    ("to unpack .*saved_tensors", "They are what ctx.save_for_backward was given."),
)


def judged(exercise: Exercise, quiet: bool = False) -> Result:
    """Judge a gradient, at several sizes; what it prints is heard once, or never if `quiet`."""
    takes = taken(exercise.function)
    forward, run = exercise.forward, exercise.call
    kinds, calls = set(), itertools.count(int(quiet))

    def call(inputs: dict[str, Tensor], upstream: Tensor) -> Any:
        with unheard() if next(calls) else nullcontext():
            result = run(inputs, upstream)
        if isinstance(result, Tensor) and not (result.is_floating_point() or result.is_complex()):
            kinds.add(result.dtype)
        return result

    exercise = replace(exercise, call=call)
    try:
        diagnosis = diagnose(call, forward, draw(forward), wrt=exercise.wrt)
    except (ValueError, TypeError) as error:
        why = error.__cause__
        if _is_stub(why, exercise.file):
            return Result(exercise.name, UNWRITTEN, takes, because=_waits(why, exercise))
        fits, diagnosis = _where_it_fits(exercise)
        said = _said_of(error, exercise)
        return Result(exercise.name, FAILED, takes, diagnosis, said + fits)
    if kinds and not diagnosis.ok:
        said = (
            f"{exercise.function.__name__} returns {kinds.pop()}: a gradient needs decimals; look "
            "for .int(), .long(), or a comparison without brackets."
        )
        return Result(exercise.name, FAILED, takes, None, said)
    diagnosis = _in_their_names(diagnosis, exercise.function)
    if diagnosis.ok and (said := _at_other_sizes(exercise) or _at_zero(exercise)):
        return Result(exercise.name, WRONG, takes, None, said)
    return Result(exercise.name, RIGHT if diagnosis.ok else WRONG, takes, diagnosis)


def is_right(exercise: Exercise) -> bool:
    """Tell whether a gradient is right, at all the sizes at which it is judged."""
    try:
        with unheard():
            case = case_of(
                exercise.call, exercise.forward, draw(exercise.forward), exercise.wrt, None
            )
            agrees = case.trial(case.inputs, case.upstream).agrees
    except (ValueError, TypeError):
        return False
    return agrees and judged(exercise, quiet=True).state == RIGHT


def _said_of(error: BaseException, exercise: Exercise) -> str:
    """Say in one sentence what a function does that can't be judged, and what to do."""
    said, why, name = str(error), error.__cause__, exercise.function.__name__
    if isinstance(why, Misfit):
        said = f"{name} {why}"
    elif said.startswith("backward raises") and line_of(why, exercise.file):
        return raised_said(why, exercise)
    else:
        said = said.replace("backward", name, 1)
    said = said.rstrip(".")
    return said if said.endswith("?") else f"{said}."


def raised_said(error: BaseException, exercise: Exercise) -> str:
    """Say which function of the exercise's file raises what, in which line, and what to do."""
    said = re.sub("(, but expected one of)?[.:]*$", "", brief(error))
    at = line_of(error, exercise.file)
    if at:
        frames = traceback.extract_tb(error.__traceback__)
        said = f"{[f for f in frames if f.filename == exercise.file][-1].name}, {at}: {said}"
    return f"{said}. {_advice(error, exercise)}".rstrip()


def _advice(error: BaseException, exercise: Exercise) -> str:
    said = f"{error} {line_of(error, exercise.file)}"
    for pattern, advice in ADVICE:
        if re.search(pattern, said):
            return advice
    name = getattr(error, "name", None)
    given = [*draw(exercise.forward), *filter(None, exercise.outputs)]
    if isinstance(error, NameError) and name in given:
        return f"{name} is known here: add it to the arguments."
    if isinstance(error, NameError | AttributeError) and name:
        code = inspect.unwrap(exercise.function).__code__
        known = dir(error.obj) if isinstance(error, AttributeError) else code.co_varnames
        if alike := closest(name, known):
            return f"Did you mean {alike}?"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, AttributeError) and frames[-1].name == "backward" and not exercise.caller:
        return f"The forward has to keep it, as self.{name}."
    return ""


def closest(name: str, known: Iterable[str]) -> str:
    """Return the name that another one is likely to be a slip for, or ''.

    >>> closest("dJ_da", ["dJ_dZ", "dJ_dA"]), closest("sums", ["mean", "sum"]), closest("a", "bc")
    ('dJ_dA', 'sum', '')
    """
    known = list(known)
    alike = [k for k in known if k.lower() == name.lower()]
    alike += difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return alike[0] if alike else ""


def _waits(error: BaseException, exercise: Exercise) -> str:
    """Say for which function that is not written yet another one waits, or ''."""
    stub = traceback.extract_tb(error.__traceback__)[-1].name
    return "" if stub == exercise.function.__name__ else f"waits for {stub}, not written yet"


def _at_other_sizes(exercise: Exercise) -> str:
    """Say at which sizes a gradient that is right at the first ones is not, or ''."""
    axes = exercise.axes
    free = (size for size in itertools.count(3) if size not in {SIZES[a] for a in axes})
    choices = [{axis: next(free) for axis in axes}]
    choices += [{axes[0]: 1}] if axes else []  # one row, in which a squeeze() loses an axis
    for sizes in choices:
        try:
            diagnosis = _on(draw(exercise.forward, sizes), exercise)
        except (ValueError, TypeError) as error:
            if not str(error).startswith("backward"):
                continue  # the forward does not take these sizes
            said = _said_of(error, exercise)
        else:
            if diagnosis.ok:
                continue
            said = diagnosis.where or diagnosis.mistakes[0].explanation
        right = _sizes_said({axis: SIZES[axis] for axis in sizes})
        there = _sizes_said(sizes)
        return f"Right at {right}, but not at {there}. {said} {_numbers_said(exercise, sizes)}"
    return ""


def _on(inputs: dict[str, Tensor], exercise: Exercise) -> Diagnosis:
    """Diagnose a gradient on other data, where prints and warnings would only repeat."""
    with unheard():
        return diagnose(exercise.call, exercise.forward, inputs, wrt=exercise.wrt)


def _at_zero(exercise: Exercise) -> str:
    """Say that a right gradient is not finite where an entry is 0 and autograd's is, or ''."""
    inputs = draw(exercise.forward)
    inputs[exercise.wrt].view(-1)[0] = 0
    try:
        diagnosis = _on(inputs, exercise)
    except (ValueError, TypeError):
        return ""
    labels = [mistake.label for mistake in diagnosis.mistakes]
    if labels[:1] != ["not_finite"] or not diagnosis.gradient.isfinite().all():
        return ""
    said = diagnosis.mistakes[0]
    return f"Right, but not where an entry of {exercise.wrt} is 0. {said.explanation} {said.hint}"


def _sizes_said(sizes: dict[str, int]) -> str:
    return ", ".join(f"{axis} = {size}" for axis, size in sizes.items())


def _numbers_said(exercise: Exercise, sizes: dict[str, int]) -> str:
    """Say which number of a function's code is a size, or a product of sizes, where one is."""
    known = {
        prod(SIZES[axis] for axis in some): " * ".join(some)
        for count in (2, 1)
        for some in itertools.combinations(sizes, count)
    }
    for line, number in edits.numbers_of(exercise.function):
        if number in known:
            said = f"Is the {number} in line {line} meant as {known[number]}?"
            return f"{said} Take it from a tensor's shape."
    if list(sizes.values()) == [1]:
        squeezed = "squeeze" in edits.source_of(exercise.function)
        return (
            "A squeeze() takes away every axis of size 1."
            if squeezed
            else "A batch may be one row."
        )
    return "Sizes have to come from the tensors' shapes."


def _in_their_names(diagnosis: Diagnosis, function: Callable) -> Diagnosis:
    """Call the function, and its upstream gradient, by the names that they have there.

    Which output the gradient is of, the exercise has said already.
    """
    taken = (p for p in signature_of(function).parameters if p.startswith("dJ_d"))
    upstream = next(taken, "upstream")

    def named(mistake: Mistake) -> Mistake:
        said = re.sub(r"\bupstream\b(?! gradient)", upstream, mistake.explanation)
        said = said.replace("Your backward", f"Your {function.__name__}")
        return replace(mistake, explanation=said)

    notes = [n for n in diagnosis.notes if n.label != "last_output"]
    return replace(diagnosis, mistakes=[named(m) for m in diagnosis.mistakes], notes=notes)


def _is_stub(error: BaseException | None, file: str) -> bool:
    """Tell a file's own `raise NotImplementedError` from one of torch, which says more."""
    if not isinstance(error, NotImplementedError) or not raised_in(error, file):
        return False
    return not str(error) or "`raise " in line_of(error, file)


def _where_it_fits(exercise: Exercise) -> tuple[str, Diagnosis | None]:
    """Judge a function that raises on distinct sizes with two of the sizes equal."""
    forward = exercise.forward
    for a, b in itertools.combinations(exercise.axes, 2):
        try:
            diagnosis = _on(draw(forward, {a: SIZES[b]}), exercise)
        except (ValueError, TypeError):
            continue
        # A shape that is wrong there too says nothing of the distinct sizes.
        if not diagnosis.ok and diagnosis.mistakes[0].label not in ("unexplained", "wrong_shape"):
            said = f" It runs where {a} = {b}, but is wrong there."
            return said, _of_a_raise(diagnosis, exercise)
    return "", None


def _of_a_raise(diagnosis: Diagnosis, exercise: Exercise) -> Diagnosis:
    """Leave out what is so at equal sizes alone: the entries, and that every shape fits."""
    shapes = {
        name: getattr(parameter.annotation, "dim_str", "").split()
        for name, parameter in signature_of(exercise.forward).parameters.items()
    }
    rows = shapes[exercise.wrt]
    summed = list(dict.fromkeys(a for axes in shapes.values() for a in axes if a not in rows))
    inside = "Which axis is summed? Put it inside"
    if len(rows) == 2 and len(summed) == 1:
        inside += f": ({rows[0]}, {summed[0]}) @ ({summed[0]}, {rows[1]})"
    shape = str(tuple(diagnosis.gradient.shape))

    def at_any_sizes(hint: str) -> str:
        return f"{inside}." if hint == SQUARE else hint.replace(shape, axes_said(" ".join(rows)))

    mistakes = [replace(m, hint=at_any_sizes(m.hint)) for m in diagnosis.mistakes]
    return replace(_in_their_names(diagnosis, exercise.function), mistakes=mistakes, where="")
