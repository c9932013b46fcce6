"""The evidence strip of a page: what was run for it while it was built.

    /// evidence | linear
    ///

evaluates the equations of `docs/derivations/linear.md`, runs the doctests of `snippets/linear.py`, compares each of its gradient functions with
autograd on random float64 data, and shows the counts and the largest error.
"""

import doctest
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from xml.etree.ElementTree import Element, SubElement

import torch

from extensions import proofs
from extensions.blocks import Block, BlocksExtension
from proofread.signatures import compare, forward_of, gradients_of, relative_error

SEEDS = range(3)
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Evidence:
    """What was run for one module, and how it went."""

    examples: int
    failed_examples: int
    gradients: int
    largest_error: float | None

    @property
    def holds(self) -> bool:
        return self.failed_examples == 0 and (self.largest_error or 0) <= TOLERANCE


def load(layer: str, room: str = "snippets") -> ModuleType:
    """Import a snippet anew, so that a served page shows the file as it is now.

    Raises:
        ValueError: where there is no such file.
    """
    name = f"{room}.{layer}"
    sys.modules.pop(name, None)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name != name:
            raise
        raise ValueError(f"there is no {room}/{layer}.py") from None


def gather(layer: str) -> Evidence:
    """Run everything that the snippet `snippets/<layer>.py` can prove of itself."""
    module = load(layer)
    results = doctest.testmod(module)
    try:
        forward = forward_of(module)
    except LookupError:  # classes: their doctests and the tests speak for them
        return Evidence(results.attempted, results.failed, 0, None)
    errors = [
        relative_error(*compare(gradient, forward, seed=seed))
        for gradient in gradients_of(module)
        for seed in SEEDS
    ]
    functions = len(errors) // len(SEEDS)
    return Evidence(results.attempted, results.failed, functions, max(errors, default=None))


def equations_of(layer: str) -> list[tuple[str, str]]:
    """Return what was evaluated of the equations on the layer's page; ValueError if nothing was."""
    found = proofs.check(Path(f"docs/derivations/{layer}.md"))
    if found.error:
        raise ValueError(f"the equations of {found.path} were not checked: {found.error}")
    counts = found.counts()
    rows = [
        (str(counts["holds"] + counts["convention"]), "chains of equations evaluated, all hold"),
        (f"{counts['combinations']:,}", "combinations of indices and data"),
    ]
    return rows + [(str(counts["exempt"]), "exempt")] * bool(counts["exempt"])


def facts(evidence: Evidence) -> list[tuple[str, str]]:
    """Return the strip's entries about the code, each a value and what it is."""
    rows = [(str(evidence.examples), "doctest examples run")]
    if evidence.largest_error is not None:
        rows += [
            (str(evidence.gradients), "gradient functions against autograd"),
            (
                f"{evidence.largest_error:.1e}" if evidence.largest_error else "0",
                "largest relative error, float64",
            ),
        ]
    return [*rows, (torch.__version__.partition("+")[0], "PyTorch")]


class EvidenceBlock(Block):
    NAME = "evidence"
    ARGUMENT = True

    def on_create(self, parent: Element) -> Element:
        evidence = gather(self.argument)
        if not evidence.holds:
            self.warn(f"the snippet does not hold: {evidence}")
        strip = SubElement(parent, "dl", {"class": "evidence"})
        for value, label in equations_of(self.argument) + facts(evidence):
            group = SubElement(strip, "div")
            SubElement(group, "dt").text = label
            SubElement(group, "dd").text = value
        return strip


class EvidenceExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        blocks.register(EvidenceBlock, self.getConfigs())


def makeExtension(**settings) -> EvidenceExtension:
    return EvidenceExtension(**settings)
