"""What `proofread` says of a wrong gradient, run while the page is built.

    /// diagnosis | linear.grad_X_untransposed
    options:
        sizes: D=4 M=4
    ///

takes the function from `mistakes/linear.py`, the forward from `snippets/linear.py`, draws data,
and shows the printed diagnosis. `sizes` replaces sizes of the axes; `zeros: Z` sets a row of
an argument to 0, where a ReLU ties.
"""

import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import ClassVar
from xml.etree.ElementTree import Element, SubElement

from markdown.util import AtomicString
from pymdownx.blocks import BlocksExtension
from pymdownx.blocks.block import Block, type_string
from torch import Tensor

from extensions import report
from proofread.gradients import Diagnosis, diagnose
from proofread.signatures import Gradient, by_hand, draw, forward_of, output


def load(layer: str, name: str) -> Gradient:
    """Import the wrong function anew, so that a served page shows the file as it is now."""
    sys.modules.pop(f"mistakes.{layer}", None)
    function = getattr(importlib.import_module(f"mistakes.{layer}"), name)
    parameters = inspect.signature(function).parameters
    upstream = next((p for p in parameters if p.startswith("dJ_d")), None)
    return Gradient(function, name.split("_")[1], upstream)


def examine(layer: str, name: str, sizes: Mapping[str, int], zeros: str = "") -> Diagnosis:
    """Diagnose one wrong function on random data."""
    gradient = load(layer, name)
    forward = forward_of(importlib.import_module(f"snippets.{layer}"))
    inputs = draw(forward, sizes)
    if zeros:
        inputs[zeros][0] = 0

    def backward(inputs: dict[str, Tensor], upstream: Tensor) -> Tensor:
        return by_hand(gradient, forward, inputs, upstream)

    def scalar_or_output(**arguments: Tensor) -> Tensor:
        return output(forward, arguments)

    return diagnose(backward, scalar_or_output, inputs, wrt=gradient.wrt)


def sizes_from(text: str) -> dict[str, int]:
    """Read `N=5 M=1`; ValueError where it has another form."""
    try:
        return {name: int(size) for name, size in (part.split("=") for part in text.split())}
    except ValueError:
        raise ValueError(f"sizes: {text!r} was given; the form is N=5 M=1") from None


class DiagnosisBlock(Block):
    NAME = "diagnosis"
    ARGUMENT = True
    OPTIONS: ClassVar = {"sizes": ["", type_string], "zeros": ["", type_string]}

    def on_create(self, parent: Element) -> Element:
        layer, _, name = self.argument.partition(".")
        sizes = sizes_from(self.options["sizes"])
        found = examine(layer, name, sizes, self.options["zeros"])
        if found.ok and not self.options["zeros"]:
            report.warn(f"diagnosis | {self.argument}", "proofread finds nothing wrong with it")
        box = SubElement(parent, "div", {"class": "diagnosis"})
        SubElement(box, "p").text = "What proofread says of it:"
        SubElement(SubElement(box, "pre"), "code").text = AtomicString(str(found))
        return box


class DiagnosisExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        blocks.register(DiagnosisBlock, self.getConfigs())


def makeExtension(**settings) -> DiagnosisExtension:
    return DiagnosisExtension(**settings)
