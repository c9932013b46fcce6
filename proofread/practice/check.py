"""Check every gradient function of a module against the snippet of the same name."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import torch
from torch import Tensor

from proofread.gradients.compare import same
from proofread.gradients.report import locate
from proofread.practice.edits import source_of
from proofread.practice.exercise import Exercise, taken, unheard
from proofread.practice.follows import all_judged
from proofread.practice.judging import closest, raised_said
from proofread.practice.objects import (
    forward_of_layer,
    gradients_of_layer,
    is_function,
    layers_of,
    unfit,
)
from proofread.practice.results import (
    FAILED,
    MISSING,
    RIGHT,
    SKIPPED,
    UNWRITTEN,
    WRONG,
    Report,
    Result,
)
from proofread.signatures import brief, draw, forward_of, signature_of


def check(module: ModuleType, snippet: ModuleType | None = None) -> Report:
    """Test every gradient of a module against the snippet of its name.

    Tested are its functions `grad_*` and `backward`, and its classes with a `backward` and with
    shapes in their annotations. The forward comes from `snippet`, by default `snippets.<name>`;
    where that has none, from the module itself. A forward of the module's own beside the snippet's
    must return what that returns, and no gradient or class of the snippet may be missing.

    Raises LookupError where there is no forward or no gradient, ImportError where the snippet can't
    be imported, TypeError where an argument is no module or an annotation can't be evaluated.
    """
    for given in (module, snippet or module):
        if not inspect.ismodule(given):
            raise TypeError(f"a module is needed, got {type(given).__name__}")
    name = module.__name__.rpartition(".")[2]
    snippet = snippet or _snippet(name) or module
    functions, named = _functions_of(module), _functions_of(snippet)
    found: list[Exercise | Result] = []
    where, lost, skipped = _place(module), [], []
    if functions:
        mine, skipped = _of_functions(functions, named, snippet)
        found += [*_forward_of_its_own(module, snippet), *mine]
        lost = [
            Result(n, MISSING, "", trouble=f"missing from {where}{_alike(n, module)}")
            for n in _lost(mine, _of_functions(named, named, snippet)[0])
        ]
    found += _of_layers(module, snippet)
    lost += _lost_layers(module, snippet, where)
    if not found and not lost:
        if skipped:
            why = skipped[0].trouble.removeprefix("skipped, ")
            raise LookupError(f"{skipped[0].name}: {why}")
        needed = _lost([], _of_functions(named, named, snippet)[0]) if named else []
        needed = " or ".join(needed or ["grad_<argument>", "backward"])
        why = "; ".join(unfit(layer) for layer in layers_of(module)) or "no class with a `backward`"
        raise LookupError(f"{name} has no function named {needed}, and {why}")
    twice = _defined_twice(module)
    judged = [_with_lines(result, twice) for result in all_judged(found, snippet)]
    return Report(name, [*judged, *skipped, *lost])


def _defined_twice(module: ModuleType) -> dict[str, list[int]]:
    """Return the names that a file gives to more than one function or class, with their lines."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        return {}
    lines: dict[str, list[int]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            lines.setdefault(node.name, []).append(node.lineno)
    return {name: found for name, found in lines.items() if len(found) > 1}


def _with_lines(result: Result, twice: dict[str, list[int]]) -> Result:
    """Add to a gradient that is not right that another one of its name stands further down."""
    lines = twice.get(re.split("[,.]", result.name)[0])
    if result.state == RIGHT or not lines:
        return result
    more = f"it is defined in lines {' and '.join(map(str, lines))}, and the last one counts"
    if result.because or result.state == UNWRITTEN:
        return replace(result, because=f"{result.because or result.state}; {more}")
    return replace(result, trouble=f"{result.trouble} {more[0].upper()}{more[1:]}.".strip())


def _snippet(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"snippets.{name}")
    except (Exception, SystemExit) as error:
        if getattr(error, "name", None) in ("snippets", f"snippets.{name}"):
            return None
        raise ImportError(f"snippets/{name}.py cannot be imported: {brief(error)}") from error


def _functions_of(module: ModuleType) -> dict[str, Callable]:
    return {
        name: function
        for name, function in vars(module).items()
        if (name == "backward" or name.startswith("grad_"))
        and inspect.isfunction(function)
        and function.__module__ == module.__name__
    }


def _of_functions(
    functions: dict[str, Callable], named: dict[str, Callable], snippet: ModuleType
) -> tuple[list[Exercise], list[Result]]:
    """Return what there is to check, and what is skipped for its name."""
    forward = forward_of(snippet)
    names = _outputs_of(forward, snippet, [*named.values(), *functions.values()])
    arguments = list(signature_of(forward).parameters)
    exercises, skipped = [], []
    for name, function in functions.items():
        if name == "backward":
            exercises += _of_backward(function, forward, names)
        elif wrt := _argument_of(name, arguments):
            exercises.append(Exercise.of_function(name, wrt, forward, function, names))
        else:
            skipped.append(
                Result(name, SKIPPED, "", trouble=_no_argument(name, arguments, snippet))
            )
    return exercises, skipped


def _argument_of(name: str, arguments: Iterable[str]) -> str:
    """Return the argument whose gradient a function is by its name, the longest that fits."""
    return max(
        (a for a in arguments if re.match(rf"grad_{re.escape(a)}(_|$)", name)), key=len, default=""
    )


def _no_argument(name: str, arguments: list[str], snippet: ModuleType) -> str:
    of = name.removeprefix("grad_")
    layer = snippet.__name__.rpartition(".")[2]
    alike = [a for a in arguments if a.lower() == of.lower()]
    meant = f"; did you mean grad_{alike[0]}?" if alike else ""
    return f"skipped, {layer} has no argument {of!r} (it has {', '.join(arguments)}){meant}"


def _lost(exercises: list[Exercise], theirs: list[Exercise]) -> list[str]:
    """Return which of the snippet's gradients are not there, by their shortest names."""

    def key(exercise: Exercise) -> tuple[bool, str]:
        return both and exercise.name.startswith("backward"), exercise.wrt

    # One `backward` may stand for all grad_*, but not where the snippet has it beside them.
    both = len({e.name.startswith("backward") for e in theirs}) == 2
    there = {key(e) for e in exercises}
    shortest: dict[tuple[bool, str], str] = {}
    for exercise in theirs:
        name = shortest.get(key(exercise), exercise.name)
        shortest[key(exercise)] = min(name, exercise.name, key=len)
    return [name for place, name in shortest.items() if place not in there]


def _alike(name: str, module: ModuleType) -> str:
    """Say under which name a module may have what it lacks, or ''."""
    plain = {
        own.lower().replace("_", ""): own
        for own, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not own.startswith(("grad_", "backward"))
    }
    wanted = name.lower().replace("_", "")
    # The names of gradients differ in one letter, so that none is a slip for another.
    alike = (
        wanted if wanted in plain else "" if wanted.startswith("grad") else closest(wanted, plain)
    )
    return f"; is it {plain[alike]} there?" if alike else ""


def _place(module: ModuleType) -> str:
    file = Path(getattr(module, "__file__", None) or module.__name__)
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file.name)


def _of_layers(module: ModuleType, snippet: ModuleType) -> Iterator[Exercise | Result]:
    for layer in layers_of(module):
        if unfit(layer):
            continue  # such as a model that takes other layers: there is no data to draw for it
        theirs = getattr(snippet, layer.__name__, layer)
        own, forward = forward_of_layer(layer), forward_of_layer(theirs)
        called = "forward" if is_function(layer) else "__call__"
        name, written = f"{layer.__name__}.{called}", getattr(layer, called)
        mine, right = (list(signature_of(f).parameters) for f in (own, forward))
        if mine != right and set(mine) == set(right):
            said = f"It takes {', '.join(mine)}; the order is {', '.join(right)}."
            said += " The gradients are judged when it is so."
            yield Result(name, WRONG, taken(written), trouble=said)
            continue
        if theirs is not layer:
            yield from _compared(name, written, own, forward)
        names = _names_for(own, forward)
        for wrt, call in gradients_of_layer(layer):
            yield Exercise(
                f"{layer.__name__}, dJ/d{wrt}",
                names.get(wrt, wrt),
                forward,
                lambda inputs, upstream, call=call, names=names: call(
                    {own: inputs[name] for own, name in names.items()}, upstream
                ),
                layer.backward,
            )


def _names_for(own: Callable, right: Callable) -> dict[str, str]:
    """Return the right forward's name for each argument of one's own.

    They go by their order where the names differ.
    """
    mine, theirs = (list(signature_of(forward).parameters) for forward in (own, right))
    if len(mine) == len(theirs) and set(mine) != set(theirs):
        return dict(zip(mine, theirs, strict=True))
    return dict(zip(theirs, theirs, strict=True))


def _lost_layers(module: ModuleType, snippet: ModuleType, where: str) -> list[Result]:
    """Return which layers a file lacks: of the snippet's, and of its own `__all__`.

    A file that has none of the snippet's has layers of its own.
    """
    theirs = [layer.__name__ for layer in layers_of(snippet) if not unfit(layer)]
    mine = {layer.__name__: unfit(layer) for layer in layers_of(module)}
    if snippet is module or not any(hasattr(module, name) for name in theirs):
        theirs = []
    listed = [n for n in getattr(module, "__all__", ()) if not hasattr(module, n)]
    lost = []
    for name in dict.fromkeys([*theirs, *listed]):
        if mine.get(name, "none") == "":
            continue
        why = f"missing from {where}{_alike(name, module)}"
        if name in mine:
            why = f"not checked, {mine[name]}"
        elif inspect.isclass(getattr(module, name, None)):
            why = "it has no `backward`"
        lost.append(Result(name, MISSING, "", trouble=why))
    return lost


def _forward_of_its_own(module: ModuleType, snippet: ModuleType) -> list[Result]:
    """Compare the forward that a module of functions has with the snippet's."""
    if snippet is module:
        return []
    theirs = forward_of(snippet)
    own = vars(module).get(theirs.__name__)
    if not inspect.isfunction(own) or own.__module__ != module.__name__:
        return []
    return _compared(own.__name__, own, own, theirs)


def _compared(name: str, written: Callable, own: Callable, right: Callable) -> list[Result]:
    """Say where a forward returns another output than the right one; nothing where it does not.

    `own` is what is called like the right one, `written` what is in the file.
    """
    takes, names, inputs = taken(written), _names_for(own, right), draw(right)
    with torch.no_grad(), unheard():
        expected = right(**inputs)
        try:
            given = own(**{n: inputs[name].clone() for n, name in names.items()})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's code does
            said = raised_said(error, Exercise(name, "", right, own, written))
            return [Result(name, FAILED, takes, None, said)]
    said = _differs(given, expected)
    return [Result(name, WRONG, takes, None, said)] if said else []


def _differs(given: Any, expected: Any) -> str:
    """Say how the output of a forward differs from the right one, or ''."""
    begin = "It is the forward that is wrong here, not a gradient"
    if isinstance(expected, tuple):
        if not isinstance(given, tuple) or len(given) != len(expected):
            return f"{begin}: it must return a tuple of {len(expected)}."
        return next(filter(None, map(_differs, given, expected)), "")
    if given is None:
        return f"{begin}: it returns None. Is a return missing?"
    if not isinstance(given, Tensor):
        return f"{begin}: it returns a {type(given).__name__}, not a tensor."
    if given.shape == expected.shape and same(given.to(expected), expected, 1e-6):
        return ""
    where = locate(given.to(expected), expected, 1e-6, "output")
    return f"{begin}: {where[0].lower()}{where[1:]}"


def _outputs_of(forward: Callable, module: ModuleType, functions: Iterable[Callable]) -> list[str]:
    """Return the names of a forward's outputs; '' where one has none.

    It is the name in its `return`, or in `Z = linear(X, W, b)` of the module's docstring. The
    last output is also told by the `dJ_d<output>` that the gradient functions take.
    """
    names = _returned(forward)
    if not any(names):
        called = re.search(rf"([\w, ]+?) = {forward.__name__}\(", module.__doc__ or "")
        names = called[1].strip().split(", ") if called else names
    if not names[-1]:
        taken = (p for f in functions for p in inspect.signature(f).parameters)
        names[-1] = next((p[4:] for p in taken if p.startswith("dJ_d")), "")
    return names


def _returned(forward: Callable) -> list[str]:
    try:
        tree = ast.parse(source_of(forward))
    except SyntaxError:  # a lambda in an expression
        return [""]
    returns = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value]
    if not returns:
        return [""]
    values = returns[-1].elts if isinstance(returns[-1], ast.Tuple) else returns[-1:]
    return [value.id if isinstance(value, ast.Name) else "" for value in values] or [""]


def _of_backward(function: Callable, forward: Callable, names: list[str]) -> Iterator[Exercise]:
    """Yield one exercise for each gradient that `backward` returns, told by its shape.

    Gradients of one shape belong to the arguments of that shape in the order of the forward.
    """
    result = signature_of(function).return_annotation
    alone = hasattr(result, "dim_str")
    shapes = {
        name: parameter.annotation.dim_str
        for name, parameter in signature_of(forward).parameters.items()
        if hasattr(parameter.annotation, "dim_str")
    }
    owned = []
    annotations = [result] if alone else get_args(result)
    for position, annotation in enumerate(annotations):
        dimensions = getattr(annotation, "dim_str", None)
        wrt = next((name for name, shape in shapes.items() if shape == dimensions), None)
        if wrt is not None:
            del shapes[wrt]
            owned.append((wrt, None if alone else (position, len(annotations))))
    if not owned:
        raise LookupError(
            "backward has no result annotated with the shape of an argument of the forward, as in "
            '-> tuple[Float[Tensor, "N D"], Float[Tensor, "D M"]]'
        )
    for wrt, place in owned:
        name = f"backward, dJ/d{wrt}"
        yield Exercise.of_function(name, wrt, forward, function, names, place)
