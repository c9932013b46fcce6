"""A calculator of shapes: what each tensor and each step of some layers needs, at any size.

    /// shapes | linear relu mse
        sizes: N=50000 D=784 M=1
        also: linear.grad_W_by_broadcast
        try: N=50000 D=784 M=50; N=1797 D=64 M=10
    ///

The tables are complete in the page, at the given sizes. Every number in them carries the formula
it was made from, in `data-sum`, and `docs/assets/shapes.js` puts the reader's sizes in. Shapes are
the annotations of the snippets; multiplications and memory are found by running them.
"""

import inspect
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import ClassVar
from xml.etree.ElementTree import Element, SubElement

from markdown.util import AtomicString
from pymdownx.blocks.block import type_string

from extensions.blocks import Block, BlocksExtension
from extensions.costs import Formula, cost_of
from extensions.diagnosis import LARGEST, sizes_from
from extensions.evidence import load
from proofread.signatures import Gradient, forward_of, gradients_of

UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB", "RB", "QB")
MEANINGS = {
    "N": "rows in the batch",
    "D": "features in",
    "M": "outputs",
}


def leading(number: int) -> tuple[str, int]:
    """Return the first three digits, rounded, and the power of ten of the first.

    >>> leading(7840156800), leading(999500)
    (('784', 9), ('100', 6))
    """
    power = len(str(number)) - 1
    digits = (number + 5 * 10 ** (power - 3)) // 10 ** (power - 2)
    return ("100", power + 1) if digits == 1000 else (str(digits), power)


def show_bytes(number: int) -> str:
    """Return bytes in units of 1000, with three digits.

    >>> show_bytes(7840156800), show_bytes(200000), show_bytes(999), show_bytes(999999)
    ('7.84 GB', '200 kB', '999 B', '1.00 MB')
    """
    if number < 1000:
        return f"{number} B"
    digits, power = leading(number)
    whole = power % 3 + 1
    return f"{digits[:whole]}.{digits[whole:]}".rstrip(".") + f" {UNITS[power // 3]}"


def show_count(number: int) -> str:
    """Return a count in full; from a billion on, with three digits and a power of ten.

    >>> show_count(39200000), show_count(1960000000)
    ('39,200,000', '1.96 × 10⁹')
    """
    if number < 10**9:
        return f"{number:,}"
    digits, power = leading(number)
    raised = str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits[0]}.{digits[1:]} × 10{raised}"


def show_shape(names: list[str], sizes: Mapping[str, int]) -> str:
    """Return the sizes of the axes, `50,000 × 784`, or `1 number` where there is no axis."""
    return " × ".join(f"{sizes[n] if n in sizes else int(n):,}" for n in names) or "1 number"


def tuple_of(names: list[str]) -> str:
    """Return `(N, D)`, or `(M,)` as Python writes it."""
    return f"({', '.join(names)}{',' * (len(names) == 1)})"


def product_of(formula: Formula) -> str:
    """Return a formula as it is read: `2NDM + 1`.

    >>> product_of(Formula({("N", "M"): 2, (): 1}))
    '2NM + 1'
    """
    terms = (term.split("*") for term in str(formula).split(" + "))
    return " + ".join("".join(t[1:] if t[0] == "1" and t[1:] else t) for t in terms)


class Layer:
    """One snippet: its tensors with their axes, and its functions without loops.

    Raises:
        ValueError: where there is no such snippet, or none that has a table.
    """

    def __init__(self, name: str, also: list[str]):
        self.module: ModuleType = load(name)
        try:
            self.forward = forward_of(self.module)
        except LookupError as problem:
            raise ValueError(f"{name} has no table: {problem}") from None
        gradients = gradients_of(self.module)
        forms = {f"{name}.{g.name}": g for g in gradients if g.name != f"grad_{g.wrt}"}
        for form in also:
            if form.partition(".")[0] == name and form not in forms:
                raise ValueError(f"also: {form!r} was given; other forms are {', '.join(forms)}")
        self.gradients = [
            g for g in gradients if f"{name}.{g.name}" in {*also, f"{name}.grad_{g.wrt}"}
        ]
        upstream = next((g.upstream for g in gradients if g.upstream), None)
        self.output = upstream.removeprefix("dJ_d") if upstream else "J"

    def tensors(self) -> dict[str, list[str]]:
        """Return the axes of the arguments and of the output."""
        annotations = inspect.get_annotations(self.forward, eval_str=True)
        for name, annotation in annotations.items():
            if not hasattr(annotation, "dim_str"):
                function = f"{self.module.__name__}.{self.forward.__name__}"
                kind = str(annotation).partition("[")[0]
                raise ValueError(f"{function} has no table: {name} is {kind}, not one tensor")
        annotations[self.output] = annotations.pop("return")
        return {name: annotation.dim_str.split() for name, annotation in annotations.items()}

    def check(self) -> None:
        """Raise ValueError where a gradient is said to have another shape than its tensor."""
        tensors = self.tensors()
        for gradient in self.gradients:
            axes = inspect.get_annotations(gradient.function, eval_str=True)["return"].dim_str
            if axes.split() != tensors[gradient.wrt]:
                raise ValueError(f"{gradient.name} returns ({axes}), not {tensors[gradient.wrt]}")


class ShapesBlock(Block):
    NAME = "shapes"
    ARGUMENT = True
    OPTIONS: ClassVar = {
        "sizes": ["", type_string],
        "also": ["", type_string],
        "try": ["", type_string],
    }

    def on_create(self, parent: Element) -> Element:
        names, also = self.argument.split(), self.options["also"].split()
        self.sizes = sizes_from(self.options["sizes"])
        if other := [form for form in also if form.partition(".")[0] not in names]:
            raise ValueError(f"also: {other[0]!r} was given; the layers are {', '.join(names)}")
        layers = [Layer(name, also) for name in names]
        for layer in layers:
            layer.check()
        axes = [axis for layer in layers for names in layer.tensors().values() for axis in names]
        needed = dict.fromkeys(axis for axis in axes if not axis.isdecimal())
        self.same_names("sizes", self.sizes, needed)
        self.choices = [self.sizes]
        for text in filter(None, map(str.strip, self.options["try"].split(";"))):
            choice = sizes_from(text, "try")
            self.same_names("try", choice, self.sizes)
            self.choices.append({name: choice[name] for name in self.sizes})
        root = SubElement(parent, "shape-calculator", {"data-largest": str(LARGEST)})
        self.form(root)
        self.tensors(root, layers)
        self.steps(root, layers)
        note = "Memory in float32, 4 bytes a number: 1 kB is 1,000 bytes, 1 MB is 1,000 kB."
        SubElement(root, "p", {"class": "note"}).text = note
        return root

    def same_names(self, option: str, given: Mapping[str, int], needed: Iterable[str]) -> None:
        if set(given) != set(needed):
            said = " ".join(f"{name}={size}" for name, size in given.items())
            wanted = ", ".join(needed)
            raise ValueError(f"{option}: {said!r} was given; a size for each of {wanted} is needed")

    def form(self, root: Element) -> None:
        """Append a field for each axis, the sizes to try, and what the numbers are for."""
        form = SubElement(root, "form", {"autocomplete": "off", "novalidate": ""})
        for name, size in self.sizes.items():
            field = SubElement(form, "div", {"class": "field"})
            label = SubElement(field, "label", {"for": f"size-{name}"})
            SubElement(label, "b").text = AtomicString(name)
            label[0].tail = f" {MEANINGS.get(name, '')}".rstrip()
            attributes = {"id": f"size-{name}", "name": name, "value": f"{size:,}"}
            attributes |= {"inputmode": "numeric", "aria-describedby": f"wrong-{name}"}
            SubElement(field, "input", attributes)
        wrong = SubElement(form, "div", {"class": "wrong", "aria-live": "polite"})
        for name in self.sizes:
            SubElement(wrong, "span", {"id": f"wrong-{name}"})
        group = SubElement(form, "div", {"class": "choices", "role": "group"})
        group.set("aria-label", "Sizes to try")
        for sizes in self.choices:
            button = SubElement(group, "button", {"type": "button"})
            button.set("data-sizes", " ".join(map(str, sizes.values())))
            button.text = show_shape(list(sizes), sizes)
        status = SubElement(root, "p", {"role": "status"})
        status.text = "Numbers for " + ", ".join(f"{n} = {s:,}" for n, s in self.sizes.items())

    def table(self, root: Element, headings: list[str]) -> Element:
        table = SubElement(root, "table", {"class": "shapes"})
        heads = SubElement(SubElement(table, "thead"), "tr")
        for heading in headings:
            SubElement(heads, "th", {"scope": "col"}).text = heading
        return SubElement(table, "tbody")

    def row(self, body: Element, codes: list[str]) -> list[Element]:
        """Append a row that begins with code, and return its two cells."""
        row = SubElement(body, "tr")
        head = SubElement(row, "th", {"scope": "row"})
        for code in codes:
            SubElement(head, "code").text = AtomicString(code)
            head[-1].tail = " "
        return [SubElement(row, "td"), SubElement(row, "td")]

    def number(self, cell: Element, formula: Formula, unit: str) -> None:
        """Fill a cell with a number and, under it, the formula that it comes from."""
        show = {"bytes": show_bytes, "count": show_count}[unit]
        value = SubElement(cell, "span", {"data-sum": str(formula), "data-unit": unit})
        value.text = AtomicString(show(formula.at(self.sizes)))
        if any(formula):
            SubElement(cell, "small").text = AtomicString(product_of(formula))

    def tensors(self, root: Element, layers: list[Layer]) -> None:
        body = self.table(root, ["Tensor", "Shape", "Memory, each"])
        axes = {name: names for layer in layers for name, names in layer.tensors().items()}
        known = {gradient.wrt for layer in layers for gradient in layer.gradients}
        known |= {layer.output for layer in layers} - {"J"}
        for name, names in axes.items():
            shape, memory = self.row(body, [name] + [f"dJ_d{name}"] * (name in known))
            size = SubElement(shape, "span", {"data-shape": " ".join(names)})
            size.text = AtomicString(show_shape(names, self.sizes))
            SubElement(shape, "small").text = AtomicString(tuple_of(names))
            self.number(memory, Formula({tuple(names): 4}), "bytes")

    def steps(self, root: Element, layers: list[Layer]) -> None:
        body = self.table(root, ["Step", "Multiplications", "Memory allocated"])
        gradients = [g for layer in reversed(layers) for g in self.ordered(layer)]
        for function in [layer.forward for layer in layers] + [g.function for g in gradients]:
            arguments = ", ".join(inspect.signature(function).parameters)
            times, memory = self.row(body, [f"{function.__name__}({arguments})"])
            cost = cost_of(function, self.sizes)
            self.number(times, cost.multiplications, "count")
            self.number(memory, cost.bytes, "bytes")

    def ordered(self, layer: Layer) -> list[Gradient]:
        """Put the plain form of each gradient before its others."""
        order = [g.wrt for g in layer.gradients]
        return sorted(layer.gradients, key=lambda g: (order.index(g.wrt), len(g.name)))


class ShapesExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        md.block_level_elements.append("shape-calculator")
        blocks.register(ShapesBlock, self.getConfigs())


def makeExtension(**settings) -> ShapesExtension:
    return ShapesExtension(**settings)
