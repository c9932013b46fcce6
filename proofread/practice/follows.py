"""Say what a wrong gradient follows from: run it again with the right version of what it uses."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import Tensor

from proofread.gradients.compare import same
from proofread.gradients.intake import case_of
from proofread.practice.edits import changeable, mended, other_products, rebuilt, source_of
from proofread.practice.exercise import Exercise, axes_said, unheard
from proofread.practice.judging import is_right, judged
from proofread.practice.results import FAILED, WRONG, Result
from proofread.signatures import draw, signature_of

RUNS_WHERE = " It runs where "
RIGHT_VALUE = "_right_value"


def all_judged(found: list[Exercise | Result], snippet: ModuleType) -> list[Result]:
    """Judge every exercise, and say of each wrong one what it follows from, where that is known."""
    results, heard = [], []
    for item in found:
        if isinstance(item, Exercise):
            results.append(judged(item, quiet=item.function in heard))
            heard.append(item.function)
        else:
            results.append(item)
    exercises = {k: item for k, item in enumerate(found) if isinstance(item, Exercise)}
    slips: dict[tuple, str] = {}
    return [
        _traced_back(k, exercises, results, snippet, slips)
        if k in exercises and result.state in (WRONG, FAILED)
        else result
        for k, result in enumerate(results)
    ]


def _traced_back(
    k: int,
    exercises: dict[int, Exercise],
    results: list[Result],
    snippet: ModuleType,
    slips: dict[tuple, str],
) -> Result:
    """Return the result with what it follows from; `slips` keeps the first gradient of each slip."""
    exercise, result = exercises[k], results[k]
    if result.trouble and (first := _first_with(result.trouble, k, exercises, results)):
        _, where, rest = result.trouble.partition(RUNS_WHERE)
        because = f"fails as {first} above does"
        if result.diagnosis is None:
            return replace(result, because=because)
        return replace(result, takes="", trouble=f"It {because}.{where}{rest}")
    if exercise.caller is None:
        return result
    if because := (
        _of_the_functions(k, exercises, results, snippet)
        or _in_wrong_order(k, exercises, results)
        or next((said for f, said in mended(exercise.function) if _is_right_as(exercise, f)), "")
    ):
        return replace(result, because=because)
    if slip := next(_slips(exercise), None):
        variable, line = slip
        first = slips.setdefault((exercise.function, *slip), exercise.wrt)
        if first != exercise.wrt:
            return replace(result, because=f"follows from {variable}, as dJ/d{first} above does")
        said = f"With the right {variable} it is right: the slip is in line {line}, or in what it uses."
        return replace(result, trouble=f"{said} {result.trouble}".rstrip())
    return replace(result, trouble=f"{result.trouble} {_the_one_product(exercise, result)}".strip())


def _of_one_function(k: int, exercises: dict[int, Exercise]) -> list[int]:
    return [j for j in exercises if j < k and exercises[j].function is exercises[k].function]


def _first_with(trouble: str, k: int, exercises: dict[int, Exercise], results: list[Result]) -> str:
    """Name an earlier gradient, or the forward, that fails in the same way; else ''."""
    trouble = trouble.partition(RUNS_WHERE)[0]
    for j in _of_one_function(k, exercises):
        if results[j].trouble.partition(RUNS_WHERE)[0] == trouble:
            return f"dJ/d{exercises[j].wrt}"
    forwards = [r for j, r in enumerate(results[:k]) if j not in exercises and r.state == FAILED]
    return next((r.name for r in forwards if r.trouble == trouble), "")


def _in_wrong_order(k: int, exercises: dict[int, Exercise], results: list[Result]) -> str:
    """Say which other gradient a function returns in the place of this one, or ''."""
    together = [j for j in exercises if exercises[j].function is exercises[k].function]
    if results[k].diagnosis is None or len(together) < 2:
        return ""
    yours = results[k].diagnosis.yours
    for j in together:
        other = results[j].diagnosis
        if j != k and other and same(yours, other.gradient.to(yours), 1e-6):
            order = ", ".join(f"dJ/d{exercises[i].wrt}" for i in together)
            return f"dJ/d{exercises[j].wrt} stands in its place; the order is {order}"
    return ""


def _the_one_product(exercise: Exercise, result: Result) -> str:
    """Say which order and transposes of a matrix product have the right shape, if only one does."""
    if result.diagnosis:
        yours, right = result.diagnosis.yours.shape, result.diagnosis.gradient.shape
        labels = ("wrong_shape", "transposed_operand")
        if yours == right or result.diagnosis.mistakes[0].label not in labels:
            return ""
    elif result.state != FAILED or not re.search("shape|size", result.trouble):
        return ""
    inputs = draw(exercise.forward)
    fitting = []
    for function, product in other_products(exercise.function):
        try:
            case = case_of(exercise.caller(function), exercise.forward, inputs, exercise.wrt, None)
            with unheard():
                gradient, _ = case.run_backward(case.inputs, case.upstream)
        except (ValueError, TypeError):
            continue
        if gradient.shape == inputs[exercise.wrt].shape:
            fitting.append(product)
    if len(fitting) != 1 or fitting[0] in source_of(exercise.function):
        return ""
    annotation = signature_of(exercise.forward).parameters[exercise.wrt].annotation
    shape = axes_said(annotation.dim_str)
    said = f"Of the matrix products of the two only `{fitting[0]}` has the shape"
    return f"{said} of {exercise.wrt}, {shape}."


def _is_right_as(exercise: Exercise, function: Callable) -> bool:
    return is_right(replace(exercise, call=exercise.caller(function)))


def _of_the_functions(
    k: int, exercises: dict[int, Exercise], results: list[Result], snippet: ModuleType
) -> str:
    """Say from which wrong functions of the same module a gradient follows, or ''.

    It does where it calls them, and is right once the snippet's functions stand in their places.
    """
    own = exercises[k].function
    wrong: dict[str, int] = {}
    for j, other in exercises.items():
        if other.caller and results[j].state in (WRONG, FAILED):
            wrong.setdefault(other.function.__name__, j)
    names = [
        name
        for name in _called(own, set(wrong))
        if inspect.isfunction(getattr(snippet, name, None))
        and not _called(exercises[wrong[name]].function, {own.__name__})
    ]
    for some in [*([name] for name in names), names][: len(names) + (len(names) > 1)]:
        with _in_place(own, {name: getattr(snippet, name) for name in some}):
            if is_right(exercises[k]):
                place = "above" if all(wrong[name] < k for name in some) else "below"
                return f"follows from {' and '.join(some)} {place}"
    return ""


def _called(function: Callable, among: set[str]) -> list[str]:
    """Return which functions of the same module a function calls, itself or through others."""
    found, todo = [], [inspect.unwrap(function)]
    while todo:
        code, space = todo[-1].__code__, todo.pop().__globals__
        for name in _names(code):
            other = space.get(name)
            own = inspect.isfunction(other) and other.__module__ == function.__module__
            if own and name not in found and other is not function:
                found.append(name)
                todo.append(inspect.unwrap(other))
    return [name for name in found if name in among]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@contextmanager
def _in_place(function: Callable, right: dict[str, Callable]) -> Iterator[None]:
    """Put the right functions in the place of those that a function's module has by these names."""
    space = inspect.unwrap(function).__globals__
    own = {name: space[name] for name in right}
    space.update({name: _bound(own[name], right[name]) for name in right})
    try:
        yield
    finally:
        space.update(own)


def _bound(own: Callable, right: Callable) -> Callable:
    """Call the right function as the own one is called: its arguments go by their names."""
    signature = inspect.signature(own)

    def call(*args, **kwargs):
        return right(**signature.bind(*args, **kwargs).arguments)

    return call


def _slips(exercise: Exercise) -> Iterator[tuple[str, int]]:
    """Yield the variables whose right value makes a wrong gradient right, with their lines.

    They are those that are named like the gradient of an output of the forward, as dJ_dZ is.
    """
    for (variable, output), line in _lines_of(exercise).items():
        value: list[Tensor | None] = [None]

        def right(given: Any, value=value) -> Any:
            return given if value[0] is None else value[0].clone()

        with_right = exercise.caller(_with_value(exercise.function, variable, right))
        position = exercise.outputs.index(output)

        def call(inputs, upstream, with_right=with_right, position=position, value=value):
            value[0] = _gradient_of_output(exercise.forward, inputs, position, upstream)
            return with_right(inputs, upstream)

        if is_right(replace(exercise, call=call)):
            yield variable, line


def _lines_of(exercise: Exercise) -> dict[tuple[str, str], int]:
    """Return the variables named like gradients of outputs, each with the last line that sets it."""
    tree, found = changeable(exercise.function), {}
    for node in sorted(ast.walk(tree) if tree else (), key=lambda n: getattr(n, "lineno", 0)):
        for variable in _assigned(node):
            for output in filter(None, exercise.outputs[:-1]):
                name = re.escape(output)
                if re.fullmatch(rf"(d[JL]_?)?d_?{name}|grad_?{name}|{name}_?grad", variable):
                    found[variable, output] = node.lineno
    return found


def _with_value(function: Callable, variable: str, value: Callable[[Any], Any]) -> Callable:
    """Return the function with another value of a variable, set wherever it is assigned.

    `value` is called with what the function has assigned.
    """
    statement = ast.parse(f"{variable} = {RIGHT_VALUE}({variable})").body[0]

    class Setter(ast.NodeTransformer):
        def generic_visit(self, node):
            super().generic_visit(node)
            return [node, copy.deepcopy(statement)] if variable in _assigned(node) else node

    return rebuilt(function, Setter().visit(changeable(function)), **{RIGHT_VALUE: value})


def _assigned(node: ast.AST) -> list[str]:
    """Return the names to which a statement gives a value."""
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    else:
        return []
    parts = [p for t in targets for p in (t.elts if isinstance(t, ast.Tuple) else [t])]
    return [part.id for part in parts if isinstance(part, ast.Name)]


def _gradient_of_output(
    forward: Callable, inputs: dict[str, Tensor], position: int, upstream: Tensor
) -> Tensor | None:
    """Return the gradient of a forward's last output with respect to another of its outputs."""
    with torch.enable_grad():
        leaves = {
            name: v.detach().requires_grad_() if v.is_floating_point() else v
            for name, v in inputs.items()
        }
        outputs = forward(**leaves)
        return torch.autograd.grad(
            outputs[-1], outputs[position], upstream.to(outputs[-1]), allow_unused=True
        )[0]
