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
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import ClassVar
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import torch
from markdown.util import AtomicString
from pymdownx.blocks import BlocksExtension
from pymdownx.blocks.block import Block, type_string

from extensions import evidence, report
from extensions.trace import Comparison, Number, evaluate, exact, trace, written

Pieces = tuple[tuple[str, str], ...]
WAY = "way"  # the name of the tensor on the way, which has none in the code


@dataclass(frozen=True)
class Matrix:
    """A tensor as the figure shows it; `axes` are their names, as in `("N", "D")`."""

    name: str
    axes: tuple[str, ...]
    values: np.ndarray

    def entry(self, place: int) -> str:
        """Return the code for one entry, by its place in reading order."""
        index = np.unravel_index(place, self.values.shape)
        return f"{self.name}[{','.join(map(str, index))}]" if index else self.name


def axes_of(annotation: object) -> tuple[str, ...]:
    return tuple(getattr(annotation, "dim_str", "").split())


def example(function: Callable, module: ModuleType) -> dict[str, torch.Tensor]:
    """Return the arguments of the first call of the function in its own doctest.

    Raises:
        ValueError: where it has no such call, or an argument is no tensor.
    """
    namespace = dict(vars(module))
    for step in doctest.DocTestParser().get_examples(function.__doc__ or ""):
        for node in ast.walk(ast.parse(step.source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == function.__name__:
                given = [eval(ast.unparse(argument), namespace) for argument in node.args]
                found = inspect.signature(function).bind(*given).arguments
                if other := [n for n, value in found.items() if not torch.is_tensor(value)]:
                    raise ValueError(f"{other[0]} is no tensor")
                return found
        exec(step.source, namespace)
    raise ValueError(f"the doctest of {function.__name__} does not call it")


def replaced(pieces: Pieces, parts: dict[Pieces, Pieces]) -> Pieces:
    """Return the pieces with each run that is a key of `parts` replaced by its value."""
    for old, new in parts.items():
        for start in range(len(pieces) - len(old), -1, -1):
            if pieces[start : start + len(old)] == old:
                pieces = pieces[:start] + new + pieces[start + len(old) :]
    return pieces


def condition(asked: Comparison) -> str:
    """Write a condition as it came out: `2 > 0`, or `−1 ≤ 0` where `−1 > 0` is false."""
    text = asked.text[1:-1]
    for sign, opposite in {">": "≤", "<": "≥", "≥": "<", "≤": ">"}.items():
        if not asked.value and sign in text:
            return text.replace(sign, opposite)
    return text


class Step:
    """One function, run on its example and traced.

    Raises:
        ValueError: where there is no such function or example, the code can't be traced, or
            a sentence does not give what the code gave.
    """

    def __init__(self, layer: str, name: str, result: str = "", through: str = "") -> None:
        module = evidence.load(layer)
        function = getattr(module, name, None)
        if not inspect.isfunction(function):
            raise ValueError(f"snippets/{layer}.py has no function {name!r}")
        signature = inspect.signature(function, eval_str=True)
        given = {
            key: value.double() if value.is_floating_point() else value
            for key, value in example(function, module).items()
        }
        self.inputs = [
            Matrix(key, axes_of(signature.parameters[key].annotation), value.numpy())
            for key, value in given.items()
        ]
        self.entries, made = trace(function, given)
        values = np.asarray(function(**given))
        if not result and not name.startswith("grad_"):
            raise ValueError(f"{name} is no gradient: the option `name` has to name its result")
        result = result or f"dJ_d{name.split('_')[1]}"
        self.output = Matrix(result, axes_of(signature.return_annotation), values)
        self.way, self.through = self.on_the_way(made, tuple(through.split()))
        self.check()

    def on_the_way(self, made: list[np.ndarray], axes: tuple[str, ...]):
        """Return the tensor on the way that has these axes, and its Numbers."""
        if not axes:
            return None, ()
        sizes = {
            axis: size
            for matrix in self.inputs
            for axis, size in zip(matrix.axes, matrix.values.shape, strict=True)
        }
        if unknown := [axis for axis in axes if axis not in sizes]:
            raise ValueError(f"through: no input has an axis {unknown[0]!r}")
        used = {id(part) for entry in self.entries.flat for part in entry.ancestors()}
        shape = tuple(sizes[axis] for axis in axes)
        for array in reversed(made):
            if array.shape == shape and {id(number) for number in array.flat} <= used:
                values = np.vectorize(lambda number: number.value)(array)
                return Matrix(WAY, axes, values), tuple(array.flat)
        raise ValueError(f"through: the code makes no tensor ({', '.join(axes)}) on the way")

    def check(self) -> None:
        """Compare every sentence with what the code gave."""
        if self.entries.shape != self.output.values.shape:
            raise ValueError(f"traced {self.entries.shape}, run {self.output.values.shape}")
        for place, value in enumerate(self.output.values.flat):
            for pieces in self.steps(place):
                text = "".join(part for part, _ in pieces)
                rounded = not all(exact(part.value) for part in self.entry(place).ancestors())
                if not math.isclose(evaluate(text), value, rel_tol=1e-2 if rounded else 1e-9, abs_tol=1e-9):
                    raise ValueError(f"{self.output.entry(place)} is {value}, and not {text}")

    def entry(self, place: int) -> Number:
        return self.entries.flat[place]

    def steps(self, place: int) -> list[Pieces]:
        """Return the entry as the inputs make it, then step by step up to its value."""
        entry = self.entry(place)
        parts = list(entry.ancestors())
        decided = {
            part.pieces: ((written(part.value), ""),)
            for part in parts
            if isinstance(part, Comparison)
        }
        ways = {id(number) for number in self.through}
        on_the_way = {part.pieces: ((written(part.value), WAY),) for part in parts if id(part) in ways}
        steps = [
            entry.pieces,
            replaced(entry.pieces, decided),
            replaced(entry.pieces, on_the_way),
            ((written(entry.value), self.output.name),),
        ]
        texts = ["".join(text for text, _ in pieces) for pieces in steps]
        return [pieces for n, pieces in enumerate(steps) if texts[n] not in texts[n + 1 :]]

    def uses(self, place: int) -> list[list[int]]:
        """Return, for each matrix but the output, the places of the entries that made it."""
        parts = list(self.entry(place).ancestors())
        seen = {id(part) for part in parts}
        sources = {part.source for part in parts if part.source}
        found = [
            [n for n in range(matrix.values.size) if (matrix.name, n) in sources]
            for matrix in self.inputs
        ]
        if self.way:
            found.append([n for n, number in enumerate(self.through) if id(number) in seen])
        return found

    @cached_property
    def matrices(self) -> list[Matrix]:
        return [*self.inputs, *([self.way] if self.way else []), self.output]

    @property
    def first(self) -> int:
        """The entry to start with: the largest says the most."""
        return int(np.argmax(np.abs(self.output.values)))


# ---- the markup ----


def add(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    """Append an element whose text is left as it is."""
    element = SubElement(parent, tag, {key.rstrip("_"): value for key, value in attributes.items()})
    element.text = AtomicString(text)
    return element


def draw(step: Step, parent: Element) -> Element:
    """Append the figure: the matrices, a sentence, the sentences of all entries."""
    output, names = step.output, " and ".join(matrix.name for matrix in step.inputs)
    figure = add(
        parent, "cell-figure", role="group", aria_label=f"How {output.name} is made of {names}"
    )
    figure.set("aria-label", figure.attrib.pop("aria_label"))
    lit = [*step.uses(step.first), [step.first]]
    hues = {matrix.name: f"hue-{n}" for n, matrix in enumerate(step.matrices[:-1], 1)}
    hues[output.name] = "hue-0"
    row = add(figure, "div", class_="matrices")
    for matrix, places in zip(step.matrices, lit, strict=True):
        draw_matrix(row, matrix, hues[matrix.name], places)
    said = add(figure, "p", class_="said")
    said.set("aria-live", "polite")
    say(said, step, step.first, hues)
    details = add(figure, "details")
    add(details, "summary", f"All entries of {output.name} in numbers")
    sentences = add(details, "ul")
    for place in range(output.values.size):
        item = add(sentences, "li")
        uses = step.uses(place)
        item.set("data-uses", " ".join(".".join(map(str, places)) or "-" for places in uses))
        say(item, step, place, hues)
    return figure


def draw_matrix(row: Element, matrix: Matrix, hue: str, lit: list[int]) -> None:
    box = add(row, "div", class_=f"matrix {hue}")
    name = add(box, "p")
    if matrix.name == WAY:
        add(name, "span", "on the way")
    else:
        add(name, "code", matrix.name).set("data-name", matrix.name)
    add(name, "span", f" ({', '.join(matrix.axes)}{',' * (len(matrix.axes) == 1)})")
    slices = matrix.values if matrix.values.ndim == 3 else [np.atleast_2d(matrix.values)]
    tables = add(box, "div")
    place = 0
    for n, values in enumerate(slices):
        table = add(tables, "table")
        title = matrix.entry(place).partition("[")[0] if matrix.name != WAY else ""
        caption = add(table, "caption", f"{title}[{n}]" if len(slices) > 1 else title)
        if len(slices) == 1:
            caption.set("class", "hidden")
        head = add(add(table, "thead"), "tr")
        add(head, "td")
        for k in range(values.shape[1]):
            add(head, "th", str(k), scope="col")
        body = add(table, "tbody")
        for i, line in enumerate(values):
            cells = add(body, "tr")
            add(cells, "th", str(i) if matrix.values.ndim > 1 else "", scope="row")
            for value in line:
                cell = add(cells, "td", written(float(value)))
                if place in lit:
                    cell.set("class", "lit")
                place += 1


def say(parent: Element, step: Step, place: int, hues: dict[str, str]) -> None:
    """Write `dJ_dW[1,0] = 2·1 + 4·0 + 6·1 = 8` into the element, each number in its hue."""
    add(parent, "code", step.output.entry(place))
    for pieces in step.steps(place):
        last = parent[-1]
        last.tail = AtomicString((last.tail or "") + (" = " if shown_exactly(step, place, pieces) else " ≈ "))
        for text, name in pieces:
            if name:
                add(parent, "b", text, class_=hues[name])
            else:
                parent[-1].tail = AtomicString((parent[-1].tail or "") + text)
    if given := step.entry(place).given:
        why = " and ".join(condition(asked) for asked in given)
        parent[-1].tail = AtomicString((parent[-1].tail or "") + f", since {why}")


def shown_exactly(step: Step, place: int, pieces: Pieces) -> bool:
    parts = step.entry(place).ancestors()
    return all(exact(part.value) for part in parts)


class CellsBlock(Block):
    NAME = "cells"
    ARGUMENT = True
    OPTIONS: ClassVar = {"through": ["", type_string], "name": ["", type_string]}

    def on_create(self, parent: Element) -> Element:
        layer, _, name = self.argument.partition(".")
        try:
            step = Step(layer, name, self.options["name"], self.options["through"])
        except (ValueError, ImportError) as problem:
            report.warn(f"/// cells | {self.argument}\n", str(problem))
            return SubElement(parent, "div")
        return draw(step, parent)


class CellsExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        blocks.register(CellsBlock, self.getConfigs())


def makeExtension(**settings) -> CellsExtension:
    return CellsExtension(**settings)
