"""What `proofread` says of a wrong gradient, run while the page is built.

    /// diagnosis | linear.grad_X_untransposed
    options:
        sizes: D=4 M=4
    ///

takes the function from `mistakes/linear.py`, the forward from `snippets/linear.py`, draws data,
and shows the printed diagnosis. `sizes` replaces sizes of the axes; `zeros: Z` sets a row of
an argument to 0, where a ReLU ties.
"""

import inspect
from collections.abc import Mapping
from typing import ClassVar
from xml.etree.ElementTree import Element, SubElement

from markdown.util import AtomicString
from pymdownx.blocks.block import type_string
from torch import Tensor

from extensions import evidence
from extensions.blocks import Block, BlocksExtension
from proofread.gradients import Diagnosis, diagnose
from proofread.signatures import Gradient, by_hand, draw, forward_of, output

LARGEST = 10**9
# So wide that nothing is broken: the page breaks the lines where the screen ends.
UNBROKEN = 10_000


def load(layer: str, name: str) -> Gradient:
    """Return the wrong function; ValueError where there is no such file or function."""
    function = getattr(evidence.load(layer, "mistakes"), name, None)
    if not inspect.isfunction(function) or not name.startswith("grad_"):
        raise ValueError(f"mistakes/{layer}.py has no function {name!r} that is a gradient")
    parameters = inspect.signature(function).parameters
    upstream = next((p for p in parameters if p.startswith("dJ_d")), None)
    return Gradient(function, name.split("_")[1], upstream)


def examine(layer: str, name: str, sizes: Mapping[str, int], zeros: str = "") -> Diagnosis:
    """Diagnose one wrong function on random data.

    Raises:
        ValueError: where there is no such function, axis or argument.
    """
    gradient = load(layer, name)
    forward = forward_of(evidence.load(layer))
    shapes = inspect.get_annotations(forward, eval_str=True)
    inputs = draw(forward, sizes)
    axes = {axis for argument in inputs for axis in shapes[argument].dim_str.split()}
    if unknown := [axis for axis in sizes if axis not in axes]:
        raise ValueError(f"sizes: no argument has an axis {unknown[0]!r}, but {sorted(axes)}")
    if zeros and zeros not in inputs:
        raise ValueError(f"zeros: there is no argument {zeros!r}, but {list(inputs)}")
    if zeros:
        inputs[zeros][0] = 0

    def backward(inputs: dict[str, Tensor], upstream: Tensor) -> Tensor:
        return by_hand(gradient, forward, inputs, upstream)

    def scalar_or_output(**arguments: Tensor) -> Tensor:
        return output(forward, arguments)

    return diagnose(backward, scalar_or_output, inputs, wrt=gradient.wrt)


def sizes_from(text: str, option: str = "sizes") -> dict[str, int]:
    """Read `N=5 M=1`; ValueError, which names the option, where it has another form."""
    sizes = {}
    for part in text.split():
        name, _, size = part.partition("=")
        if not (name.isidentifier() and size.isdecimal() and 1 <= int(size) <= LARGEST):
            raise ValueError(
                f"{option}: {part!r} was given; the form is N=5 M=1, with whole numbers from 1 to "
                f"{LARGEST:,}"
            )
        if name in sizes:
            raise ValueError(f"{option}: {name} is there twice; one size is needed")
        sizes[name] = int(size)
    return sizes


class DiagnosisBlock(Block):
    NAME = "diagnosis"
    ARGUMENT = True
    OPTIONS: ClassVar = {"sizes": ["", type_string], "zeros": ["", type_string]}

    def on_create(self, parent: Element) -> Element:
        layer, _, name = self.argument.partition(".")
        sizes = sizes_from(self.options["sizes"])
        found = examine(layer, name, sizes, self.options["zeros"])
        if found.ok and not self.options["zeros"]:
            self.warn("proofread finds nothing wrong with it")
        box = SubElement(parent, "div", {"class": "diagnosis"})
        SubElement(box, "p").text = "What proofread says of it:"
        # No `pre`: it is no code, and nobody copies it.
        said = SubElement(box, "samp")
        for line in found.text(width=UNBROKEN).splitlines():
            hang = len(line) - len(line.lstrip(" →"))
            span = SubElement(said, "span", {"style": f"--hang: {hang}ch"} if hang else {})
            span.text = AtomicString(line + "\n")
        return box


class DiagnosisExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        blocks.register(DiagnosisBlock, self.getConfigs())


def makeExtension(**settings) -> DiagnosisExtension:
    return DiagnosisExtension(**settings)
