"""Check every gradient function of a module against the snippet of the same name."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from torch import Tensor

from proofread.gradients.diagnose import diagnose
from proofread.gradients.objects import (
    forward_of_layer,
    gradients_of_layer,
    layers_of,
    unfit,
)
from proofread.gradients.report import (
    BOLD,
    DIM,
    GREEN,
    RED,
    RESET,
    WIDTH,
    Diagnosis,
    Mistake,
    wrapped,
)
from proofread.gradients.sentences import SQUARE
from proofread.signatures import (
    SIZES,
    brief,
    draw,
    forward_of,
    line_of,
    raised_in,
    shape_of,
    signature_of,
)

RIGHT, WRONG, FAILED, UNWRITTEN = "right", "wrong", "failed", "not written yet"
MISSING, SKIPPED = "missing", "skipped"  # of the snippet's gradients; no gradient, by its name


@dataclass(frozen=True)
class Result:
    """One gradient function: its state, what it takes, and the diagnosis or the trouble."""

    name: str
    state: str
    takes: str
    diagnosis: Diagnosis | None = None
    trouble: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "function": self.name,
            "state": self.state,
            "trouble": self.trouble,
            "diagnosis": self.diagnosis.as_dict() if self.diagnosis else None,
        }


@dataclass(frozen=True)
class Report:
    """The results of a module, in the order of its file."""

    name: str
    results: list[Result] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(r.state == RIGHT for r in self.results)

    def count(self, state: str) -> int:
        return sum(r.state == state for r in self.results)

    def __str__(self) -> str:
        return self.text()

    def text(self, colour: bool = False) -> str:
        """Return the printed form, at most 80 columns wide."""
        green, red, bold, dim, reset = (
            (GREEN, RED, BOLD, DIM, RESET) if colour else ("", "", "", "", "")
        )
        lines = []
        for result in self.results:
            if result.state == UNWRITTEN:
                lines.append(f"{dim}· {result.name}: not written yet{reset}")
                lines += wrapped(f"It takes {result.takes}.", "    ")
            elif result.state == RIGHT:
                lines.append(f"{green}✓{reset} {result.name}: right")
            elif result.state in (MISSING, SKIPPED):
                mark = f"{red}✗{reset}" if result.state == MISSING else "·"
                said = wrapped(f"{result.name}: {result.trouble}", "  ", "    ")
                lines += [f"{mark}{said[0][1:]}", *said[1:]]
            else:
                lines.append(f"{red}✗{reset} {bold}{result.name}{reset}")
                lines += _trouble(result, colour)
            lines.append("")
        skipped = self.count(SKIPPED)
        total = f"{self.count(RIGHT)} of {len(self.results) - skipped} right"
        lines.append(f"{self.name}: {total}" + (f", {skipped} skipped" if skipped else ""))
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ok": self.ok,
            "results": [r.as_dict() for r in self.results],
        }


def _trouble(result: Result, colour: bool) -> list[str]:
    lines = wrapped(result.trouble, "    ")
    if result.state == FAILED:
        lines += wrapped(f"It takes {result.takes}.", "    ")
    if result.diagnosis:
        said = result.diagnosis.text(colour, WIDTH - 2).splitlines()
        lines += [f"  {line}" if line else "" for line in said]
    return lines


@dataclass(frozen=True)
class _Exercise:
    """A function to check: which forward, by which argument, and how to call it."""

    name: str
    wrt: str
    forward: Callable
    call: Callable[[dict[str, Tensor], Tensor], Any]
    function: Callable


def check(module: ModuleType, snippet: ModuleType | None = None) -> Report:
    """Test every gradient of a module against the snippet of its name.

    Tested are its functions `grad_*` and `backward`, and its classes with a `backward` and with
    shapes in their annotations. The forward comes from `snippet`, by default `snippets.<name>`;
    where that has none, from the module itself. Raises LookupError where there is no forward or
    no gradient, ImportError where the snippet can't be imported, TypeError where an argument is no
    module or an annotation can't be evaluated.
    """
    for given in (module, snippet or module):
        if not inspect.ismodule(given):
            raise TypeError(f"a module is needed, got {type(given).__name__}")
    name = module.__name__.rpartition(".")[2]
    snippet = snippet or _snippet(name) or module
    functions, named = _functions_of(module), _functions_of(snippet)
    exercises, results = [*_of_layers(module, snippet)], []
    if functions:
        mine, skipped = _of_functions(functions, named, snippet)
        exercises = [*mine, *exercises]
        lost = _lost(mine, _of_functions(named, named, snippet)[0])
        where = _place(module)
        results = [
            *skipped,
            *(Result(n, MISSING, "", trouble=f"missing from {where}") for n in lost),
        ]
        if not exercises and not lost:
            why = skipped[0].trouble.removeprefix("skipped, ")
            raise LookupError(f"{skipped[0].name}: {why}")
    if not exercises and not results:
        why = "; ".join(unfit(layer) for layer in layers_of(module)) or "no class with a `backward`"
        raise LookupError(f"{name} has no function named grad_<argument> or backward, and {why}")
    return Report(name, [*map(_judged, exercises), *results])


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
) -> tuple[list[_Exercise], list[Result]]:
    """Return what there is to check, and what is skipped for its name."""
    forward = forward_of(snippet)
    names = _outputs_of(forward, snippet, [*named.values(), *functions.values()])
    arguments = list(signature_of(forward).parameters)
    exercises, skipped = [], []
    for name, function in functions.items():
        if name == "backward":
            exercises += _of_backward(function, forward, names)
        elif wrt := _argument_of(name, arguments):
            caller = _caller(function, forward, names)
            exercises.append(_Exercise(name, wrt, forward, caller, function))
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


def _lost(exercises: list[_Exercise], theirs: list[_Exercise]) -> list[str]:
    """Return which of the snippet's gradients are not there, by their shortest names."""

    def key(exercise: _Exercise) -> tuple[bool, str]:
        return both and exercise.name.startswith("backward"), exercise.wrt

    # One `backward` may stand for all grad_*, but not where the snippet has it beside them.
    both = len({e.name.startswith("backward") for e in theirs}) == 2
    there = {key(e) for e in exercises}
    shortest: dict[tuple[bool, str], str] = {}
    for exercise in theirs:
        name = shortest.get(key(exercise), exercise.name)
        shortest[key(exercise)] = min(name, exercise.name, key=len)
    return [name for place, name in shortest.items() if place not in there]


def _place(module: ModuleType) -> str:
    file = Path(getattr(module, "__file__", None) or module.__name__)
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file.name)


def _of_layers(module: ModuleType, snippet: ModuleType) -> Iterator[_Exercise]:
    for layer in layers_of(module):
        if unfit(layer):
            continue  # such as a model that takes other layers: there is no data to draw for it
        forward = forward_of_layer(getattr(snippet, layer.__name__, layer))
        for wrt, call in gradients_of_layer(layer):
            yield _Exercise(f"{layer.__name__}, dJ/d{wrt}", wrt, forward, call, layer.backward)


class _Misfit(TypeError):
    """A function that cannot be called with what there is; says what it does, without its name."""


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
        tree = ast.parse(textwrap.dedent(inspect.getsource(forward)))
    except (OSError, TypeError, SyntaxError):  # a lambda in an expression, or no source at all
        return [""]
    returns = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value]
    if not returns:
        return [""]
    values = returns[-1].elts if isinstance(returns[-1], ast.Tuple) else returns[-1:]
    return [value.id if isinstance(value, ast.Name) else "" for value in values] or [""]


def _caller(
    function: Callable, forward: Callable, names: list[str], position: int | None = None
) -> Callable:
    """Return a function of (inputs, upstream) that calls the user's by the names it takes.

    `names` are those of the forward's outputs.
    """
    parameters = signature_of(function).parameters

    def call(inputs: dict[str, Tensor], upstream: Tensor) -> Any:
        offered = dict(inputs)
        for parameter in parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise _Misfit(f"takes {parameter}: give each of its arguments a name")
        wanted = [n for n, p in parameters.items() if p.default is p.empty or n in inputs]
        missing = [n for n in wanted if n not in offered and not n.startswith("dJ_d")]
        if missing:
            outputs = forward(**inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            offered |= dict(zip(names, outputs, strict=False))
            missing = [n for n in missing if n not in offered]
            # Of several outputs, those without a name of their own go by their order.
            spare = [v for n, v in itertools.zip_longest(names, outputs, fillvalue="") if not n]
            if missing and len(missing) > len(spare) * (len(outputs) > 1):
                raise _Misfit(_unknown(missing[0], wanted, [*inputs, *names], outputs[-1]))
            offered |= dict(zip(missing, spare, strict=False))
        offered |= {n: upstream for n in wanted if n.startswith("dJ_d")}
        result = function(**{n: offered[n] for n in wanted})
        if position is None or result is None:
            return result
        if isinstance(result, list):
            raise _Misfit("returns a list; return a tuple")
        if not isinstance(result, tuple) or len(result) <= position:
            raise _Misfit(f"must return a tuple of {position + 1} gradients or more")
        return result[position]

    return call


def _unknown(name: str, wanted: list[str], known: list[str], output: Tensor) -> str:
    """Say that a function takes a name that nothing has, and which name is meant."""
    upstream = [f"dJ_d{known[-1] or '<output>'}"] if output.numel() > 1 else []
    known = [n for n in known if n]
    said = f"takes {name!r}, which is no argument of the forward and no output of it"
    alike = [n for n in known if n.lower() == name.lower()]
    if alike:
        said += f": did you mean {alike[0]}?"
    elif upstream and not any(n.startswith("dJ_d") for n in wanted):
        said += f": call the upstream gradient {upstream[0]}."
    else:
        said += "."
    return f"{said} Known here: {', '.join(known + upstream)}"


def _of_backward(function: Callable, forward: Callable, names: list[str]) -> Iterator[_Exercise]:
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
    for position, annotation in enumerate([result] if alone else get_args(result)):
        dimensions = getattr(annotation, "dim_str", None)
        wrt = next((name for name, shape in shapes.items() if shape == dimensions), None)
        if wrt is not None:
            del shapes[wrt]
            owned.append((wrt, _caller(function, forward, names, None if alone else position)))
    if not owned:
        raise LookupError(
            "backward has no result annotated with the shape of an argument of the forward, as in "
            '-> tuple[Float[Tensor, "N D"], Float[Tensor, "D M"]]'
        )
    for wrt, call in owned:
        yield _Exercise(f"backward, dJ/d{wrt}", wrt, forward, call, function)


def _judged(exercise: _Exercise) -> Result:
    takes = _taken(exercise.function)
    forward = exercise.forward
    kinds = set()

    def call(inputs: dict[str, Tensor], upstream: Tensor) -> Any:
        result = exercise.call(inputs, upstream)
        if isinstance(result, Tensor) and not (result.is_floating_point() or result.is_complex()):
            kinds.add(result.dtype)
        return result

    try:
        diagnosis = diagnose(call, forward, draw(forward), wrt=exercise.wrt)
    except (ValueError, TypeError) as error:
        file = inspect.unwrap(exercise.function).__code__.co_filename
        said, why, name = str(error), error.__cause__, exercise.function.__name__
        if _is_stub(why, file):
            return Result(exercise.name, UNWRITTEN, takes)
        if isinstance(why, _Misfit):
            said = f"{name} {why}"
        elif said.startswith("backward raises") and (at := line_of(why, file)):
            said = f"{name}, {at}: {brief(why)}"
        else:
            said = said.replace("backward", name, 1)
        said = said.rstrip(".")
        said += "" if said.endswith("?") else "."
        trouble, diagnosis = _where_it_fits(exercise)
        return Result(exercise.name, FAILED, takes, diagnosis, said + trouble)
    if kinds and not diagnosis.ok:
        said = (
            f"{exercise.function.__name__} returns {kinds.pop()}: a gradient needs decimals; look "
            "for .int(), .long(), or a comparison without brackets."
        )
        return Result(exercise.name, FAILED, takes, None, said)
    diagnosis = _in_their_names(diagnosis, exercise.function)
    return Result(exercise.name, RIGHT if diagnosis.ok else WRONG, takes, diagnosis)


def _in_their_names(diagnosis: Diagnosis, function: Callable) -> Diagnosis:
    """Say what is changed in place by the names of the function and of its upstream gradient.

    Which output the gradient is of, the exercise has said already.
    """
    taken = (p for p in signature_of(function).parameters if p.startswith("dJ_d"))
    upstream = next(taken, "upstream")

    def named(mistake: Mistake) -> Mistake:
        if mistake.label != "inputs_changed":
            return mistake
        said = mistake.explanation.replace("Your backward", f"Your {function.__name__}")
        return replace(mistake, explanation=re.sub(r"\bupstream\b", upstream, said))

    notes = [n for n in diagnosis.notes if n.label != "last_output"]
    return replace(diagnosis, mistakes=[named(m) for m in diagnosis.mistakes], notes=notes)


def _is_stub(error: BaseException | None, file: str) -> bool:
    """Tell a file's own `raise NotImplementedError` from one of torch, which says more."""
    return isinstance(error, NotImplementedError) and not str(error) and raised_in(error, file)


def _where_it_fits(exercise: _Exercise) -> tuple[str, Diagnosis | None]:
    """Judge a function that raises on distinct sizes with two of the sizes equal."""
    forward = exercise.forward
    axes = dict.fromkeys(
        name
        for parameter in signature_of(forward).parameters.values()
        for name in getattr(parameter.annotation, "dim_str", "").split()
        if name in SIZES
    )
    best: tuple[str, Diagnosis | None] = "", None
    for a, b in itertools.combinations(axes, 2):
        try:
            inputs = draw(forward, {a: SIZES[b]})
            diagnosis = diagnose(exercise.call, forward, inputs, wrt=exercise.wrt)
        except (ValueError, TypeError):
            continue
        if diagnosis.ok:
            continue
        named = diagnosis.mistakes[0].label != "unexplained"
        if named or best[1] is None:
            best = (
                f" It runs where {a} = {b}, but is wrong there.",
                _of_a_raise(diagnosis, exercise),
            )
        if named:
            break
    return best


def _of_a_raise(diagnosis: Diagnosis, exercise: _Exercise) -> Diagnosis:
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
    mistakes = [
        replace(m, hint=f"{inside}.") if m.hint == SQUARE else m for m in diagnosis.mistakes
    ]
    return replace(_in_their_names(diagnosis, exercise.function), mistakes=mistakes, where="")


def _taken(function: Callable) -> str:
    """Say what a function takes, with the shapes of the data it is called with."""
    parts = []
    for name, parameter in signature_of(function).parameters.items():
        if name == "self":
            continue
        dimensions = getattr(parameter.annotation, "dim_str", None)
        if dimensions is None:
            parts.append(name)
            continue
        try:
            parts.append(f"{name} {_axes(dimensions)}, here {_size(parameter)}")
        except (TypeError, ValueError):
            parts.append(f"{name} {_axes(dimensions)}")
    return "; ".join(parts) or "nothing"


def _axes(dimensions: str) -> str:
    """Write axes as a tuple of Python: (N, D), or (M,).

    >>> _axes("N D"), _axes("M"), _axes("")
    ('(N, D)', '(M,)', '()')
    """
    names = dimensions.split()
    return f"({', '.join(names)}{',' * (len(names) == 1)})"


def _size(parameter: inspect.Parameter) -> str:
    return str(tuple(shape_of(parameter.annotation, SIZES)))
