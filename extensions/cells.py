"""A figure of one step: the matrices with real small numbers, and where each entry comes from.

    /// cells | linear.grad_W_by_broadcast
        through: N D M
    ///

runs `grad_W_by_broadcast` of `snippets/linear.py` on the numbers of its own doctest, and once
more on numbers that remember how they were made (`extensions.trace`). So the entries that make
an entry, and the sum in words, come from the code that the page shows, whatever the layer. Each
sentence is computed again from its text, and must give what the code gave; one that does not is
a warning with file and line, which fails a strict build.

`through` names the axes of a tensor on the way that is shown too; `name` names the result of a
function that is no gradient. Put the block between a formula and the code that says the same,
inside a `.beside`: then those light up as well.

Without JavaScript the figure is a row of tables, one entry explained and the others in a list.
"""

import ast
import doctest
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import torch
from markdown.util import AtomicString
from pymdownx.blocks.block import type_string

from extensions import evidence
from extensions.blocks import Block, BlocksExtension
from extensions.trace import Comparison, Number, evaluate, exact, trace, written

Pieces = tuple[tuple[str, str], ...]
MOST_AXES = 3
OPPOSITE = {">": "≤", "<": "≥", "≥": "<", "≤": ">", "=": "≠"}


def axes_of(annotation: object) -> tuple[str, ...]:
    return tuple(getattr(annotation, "dim_str", "").split())


def example(function: Callable, module: ModuleType) -> dict[str, torch.Tensor]:
    """Return the arguments of the first call of the function in its own doctest.

    Raises:
        ValueError: where it has no such call, or an argument is no tensor.
    """
    namespace = dict(vars(module))
    bind = inspect.signature(function).bind
    for step in doctest.DocTestParser().get_examples(function.__doc__ or ""):
        for node in ast.walk(ast.parse(step.source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == function.__name__:
                call = eval(ast.unparse(node), namespace | {function.__name__: bind})
                found = call.arguments
                if other := [n for n, value in found.items() if not torch.is_tensor(value)]:
                    raise ValueError(f"{other[0]} is no tensor")
                return found
        exec(step.source, namespace)  # noqa: S102 - the doctest is this project's own
    raise ValueError(f"the doctest of {function.__name__} does not call it")


def text_of(pieces: Pieces) -> str:
    return "".join(text for text, _ in pieces)


def replaced(pieces: Pieces, parts: dict[Pieces, Pieces]) -> Pieces:
    """Return the pieces with each run that is a key of `parts` replaced by its value."""
    for old, new in parts.items():
        for start in range(len(pieces) - len(old), -1, -1):
            if pieces[start : start + len(old)] == old:
                pieces = pieces[:start] + new + pieces[start + len(old) :]
    return pieces


@dataclass(frozen=True, eq=False)
class Matrix:
    """A tensor as the figure shows it; `axes` are their names, as in `("N", "D")`.

    `numbers` say how its entries were made; an input has none.
    """

    name: str
    axes: tuple[str, ...]
    values: np.ndarray
    numbers: tuple[Number, ...] = ()

    def entry(self, place: int) -> str:
        """Return the code for one entry, by its place in reading order."""
        index = np.unravel_index(place, self.values.shape)
        return f"{self.name}[{','.join(map(str, index))}]" if index else self.name


class Step:
    """One function, run on its example and traced: its `matrices`, from the inputs to the output.

    Raises:
        ValueError: where there is no such function or example, the code can't be traced, or
            a sentence does not give what the code gave.
    """

    def __init__(self, layer: str, name: str, result: str = "", through: str = "") -> None:
        module = evidence.load(layer)
        function = getattr(module, name, None)
        if not inspect.isfunction(function):
            raise ValueError(f"snippets/{layer}.py has no function {name!r}")
        if not result and not name.startswith("grad_"):
            raise ValueError(f"{name} is no gradient: the option `name` has to name its result")
        given = {
            key: value.double() if value.is_floating_point() else value
            for key, value in example(function, module).items()
        }
        signature = inspect.signature(function, eval_str=True)
        self.inputs = [
            Matrix(key, axes_of(signature.parameters[key].annotation), value.numpy())
            for key, value in given.items()
        ]
        numbers, made = trace(function, given)
        self.output = Matrix(
            result or f"dJ_d{name.split('_')[1]}",
            axes_of(signature.return_annotation),
            np.asarray(function(**given)),
            tuple(numbers.flat),
        )
        self.way = self.on_the_way(made, tuple(through.split()))
        self.made = [*self.way, self.output]
        self.matrices = [*self.inputs, *self.made]
        for matrix in self.matrices:
            if matrix.values.ndim > MOST_AXES:
                axes = f"{matrix.name or 'the tensor on the way'} has {matrix.values.ndim} axes"
                raise ValueError(f"{axes}; a figure has room for {MOST_AXES}")
        for matrix in self.made:
            self.check(matrix)

    def on_the_way(self, made: list[np.ndarray], axes: tuple[str, ...]) -> list[Matrix]:
        """Return the tensor on the way that has these axes; none where no axes are given."""
        if not axes:
            return []
        sizes = {
            axis: size
            for matrix in self.inputs
            for axis, size in zip(matrix.axes, matrix.values.shape, strict=True)
        }
        if unknown := [axis for axis in axes if axis not in sizes]:
            raise ValueError(f"through: no input has an axis {unknown[0]!r}")
        used = {id(part) for entry in self.output.numbers for part in entry.ancestors()}
        shape = tuple(sizes[axis] for axis in axes)
        for array in reversed(made):
            if array.shape == shape and {id(number) for number in array.flat} <= used:
                numbers = tuple(array.flat)
                values = np.reshape([number.value for number in numbers], shape)
                return [Matrix("", axes, values, numbers)]
        raise ValueError(f"through: the code makes no ({', '.join(axes)}) on the way")

    def check(self, matrix: Matrix) -> None:
        """Compute every sentence of a matrix, and compare it with what the code gave."""
        if len(matrix.numbers) != matrix.values.size:
            raise ValueError(f"{len(matrix.numbers)} entries traced, {matrix.values.size} run")
        for place, value in enumerate(matrix.values.flat):
            near = 1e-9 if is_exact(matrix.numbers[place]) else 1e-2
            for pieces in self.steps(matrix, place):
                text = text_of(pieces)
                if not math.isclose(evaluate(text), value, rel_tol=near, abs_tol=1e-9):
                    raise ValueError(f"{matrix.entry(place)} is {value}, and not {text}")

    def steps(self, matrix: Matrix, place: int) -> list[Pieces]:
        """Return an entry as the inputs make it, and step by step what becomes of that."""
        number = matrix.numbers[place]
        parts = list(number.ancestors())
        decided = {
            part.pieces: ((written(part.value), ""),)
            for part in parts
            if isinstance(part, Comparison)
        }
        ways = {id(number) for way in self.way for number in way.numbers}
        passed = {
            part.pieces: ((written(part.value), "way"),)
            for part in parts
            if id(part) in ways and part is not number
        }
        result = ((written(number.value), matrix.name or "way"),)
        steps = [number.pieces, replaced(number.pieces, decided), replaced(number.pieces, passed)]
        # A step that changed nothing is no step.
        steps = [number.pieces, *(step for step in steps[1:] if step != number.pieces), result]
        return steps[1:] if text_of(steps[0]) == text_of(result) else steps

    def uses(self, matrix: Matrix, place: int) -> list[list[int]]:
        """Return, for each matrix before this one, the places of the entries that made an entry."""
        parts = list(matrix.numbers[place].ancestors())
        seen = {id(part) for part in parts}
        sources = {part.source for part in parts}
        before = self.matrices[: self.matrices.index(matrix)]
        return [
            [n for n, number in enumerate(other.numbers) if id(number) in seen]
            if other.numbers
            else [n for n in range(other.values.size) if (other.name, n) in sources]
            for other in before
        ]

    def reasons(self, matrix: Matrix, place: int) -> list[str]:
        """Return what decided how an entry was made: `−1 ≤ 0`, or `y[0] is 2`."""
        return [self.reason(asked) for asked in matrix.numbers[place].given]

    def reason(self, asked: Number) -> str:
        if not isinstance(asked, Comparison):
            names = {matrix.name: matrix for matrix in self.inputs}
            entry = names[asked.source[0]].entry(asked.source[1]) if asked.source else asked.text
            return f"{entry} is {written(asked.value)}"
        text = asked.text[1:-1]
        if asked.value:
            return text
        return re.sub("[><≥≤=]", lambda sign: OPPOSITE[sign[0]], text, count=1)

    @property
    def first(self) -> int:
        """The entry of the output to start with: the largest says the most."""
        return int(np.argmax(np.abs(self.output.values)))


def is_exact(number: Number) -> bool:
    """Whether nothing is rounded where the number is written as a sum."""
    return all(exact(part.value) for part in number.ancestors())


# ---- the markup ----


def add(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    """Append an element whose text is left as it is; `aria_label` stands for `aria-label`."""
    names = {key.strip("_").replace("_", "-"): value for key, value in attributes.items()}
    element = SubElement(parent, tag, names)
    element.text = AtomicString(text)
    return element


def height(step: Step) -> float:
    """Return how high the figure is, in rem, for the time before it is laid out.

    A tensor of three axes has a line of its own, between those it is made of and what it goes into.
    """
    shapes = [matrix.values.shape for matrix in step.matrices]
    rows = [shape[-2] if len(shape) > 1 else 1 for shape in shapes]
    if all(len(shape) < 3 for shape in shapes):
        return 5.9 + 1.6 * max(rows)
    return 13.3 + 1.6 * (max(rows[:-2]) + rows[-2] + rows[-1])


def draw(step: Step, parent: Element) -> Element:
    """Append the figure: the matrices, a sentence, the sentences of all entries."""
    output = step.output
    names = " and ".join(matrix.name for matrix in step.inputs)
    label = f"How {output.name} is made of {names}, in numbers"
    # Nobody searches for the numbers.
    figure = add(parent, "cell-figure", role="group", aria_label=label, data_search_exclude="true")
    figure.set("style", f"--height: {height(step):.1f}rem")
    hues = {matrix.name or "way": f"hue-{n}" for n, matrix in enumerate(step.matrices[:-1], 1)}
    hues[output.name] = "hue-0"
    row = add(figure, "div", class_="matrices")
    lit = [*step.uses(output, step.first), [step.first]]
    for matrix, places in zip(step.matrices, lit, strict=True):
        draw_matrix(row, matrix, hues[matrix.name or "way"], places)
    said = add(figure, "p", class_="said")
    say(add(said, "span", aria_live="polite"), step, output, step.first, hues)
    details = add(figure, "details")
    add(details, "summary", f"Every entry of {output.name}")
    longest = ""
    for matrix in step.made:
        sentences = add(details, "ul")
        for place in range(matrix.values.size):
            uses = [".".join(map(str, places)) for places in step.uses(matrix, place)]
            item = add(sentences, "li", data_uses=",".join(uses))
            say(item, step, matrix, place, hues)
            longest = max(longest, "".join(item.itertext()), key=len)
    # Keeps room for the longest sentence, so that nothing below moves.
    said.set("data-longest", longest)
    return figure


def draw_matrix(row: Element, matrix: Matrix, hue: str, lit: list[int]) -> None:
    """Append a matrix: one table, or one for each slice of a tensor of three axes."""
    values = matrix.values
    shape = ",".join(map(str, values.shape))
    box = add(row, "div", class_=f"matrix {hue}", data_shape=shape)
    title = add(box, "p")
    if matrix.name:
        add(title, "code", matrix.name, data_name=matrix.name)
    else:
        add(title, "span", "on the way")
    comma = "," * (len(matrix.axes) == 1)
    add(title, "small", f"({', '.join(matrix.axes)}{comma})")
    slices = values if values.ndim == 3 else [np.atleast_2d(values)]
    tables = add(box, "div")
    places = iter(range(values.size))
    for n, rows in enumerate(slices):
        table = add(tables, "table", class_="entries")
        add(table, "caption", f"{matrix.name}[{n}]" if values.ndim == 3 else matrix.name)
        if values.ndim:
            head = add(add(table, "thead"), "tr")
            if values.ndim > 1:
                add(head, "td")
            for k in range(rows.shape[1]):
                add(head, "th", str(k), scope="col")
        body = add(table, "tbody")
        for i, entries in enumerate(rows):
            line = add(body, "tr")
            if values.ndim > 1:
                add(line, "th", str(i), scope="row")
            for value in entries:
                cell = add(line, "td", written(float(value)))
                if next(places) in lit:
                    cell.set("class", "lit")


def say(parent: Element, step: Step, matrix: Matrix, place: int, hues: dict[str, str]) -> None:
    """Write `dJ_dW[1,0] = 2·1 + 4·0 + 6·1 = 8` into the element, each number in its hue."""
    number = matrix.numbers[place]
    last = add(parent, "code", matrix.entry(place), class_=hues[matrix.name or "way"])
    last.tail = ""
    for pieces in step.steps(matrix, place):
        last.tail = AtomicString(f"{last.tail} {'=' if is_exact(number) else '≈'} ")
        for text, name in pieces:
            if name:
                last = add(parent, "b", text, class_=hues[name])
                last.tail = ""
            else:
                last.tail = AtomicString(last.tail + text)
    if reasons := step.reasons(matrix, place):
        why = " and ".join(reasons)
        last.tail = AtomicString(f"{last.tail}, since {why}")


class CellsBlock(Block):
    NAME = "cells"
    ARGUMENT = True
    OPTIONS: ClassVar = {"through": ["", type_string], "name": ["", type_string]}

    def on_create(self, parent: Element) -> Element:
        layer, _, name = self.argument.partition(".")
        return draw(Step(layer, name, self.options["name"], self.options["through"]), parent)


class CellsExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        blocks.register(CellsBlock, self.getConfigs())


def makeExtension(**settings) -> CellsExtension:
    return CellsExtension(**settings)
