"""Turn the formulas that `pymdownx.arithmatex` finds into MathML while the page is built.

Temml (JavaScript) does it, run in-process by QuickJS: the reader's browser gets plain
markup and runs no math script. A formula that Temml refuses is a warning with file and
line, which fails a strict build, and shows as its source on the page.
"""

from collections import Counter
from functools import cache
from pathlib import Path
from xml.etree.ElementTree import Element

import quickjs
from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

from extensions import report

TEMML = Path(__file__).parent / "vendor/temml/temml.min.js"
RENDER = """
function render(latex, display) {
    return temml.renderToString(latex, {displayMode: display, throwOnError: true});
}
"""


@cache
def _render() -> quickjs.Object:
    context = quickjs.Context()
    context.eval(TEMML.read_text(encoding="utf-8"))
    context.eval(RENDER)
    return context.get("render")


@cache
def to_mathml(latex: str, display: bool = False) -> str:
    r"""Return the formula as a `<math>` element; ValueError says where Temml gave up.

    >>> to_mathml("x")
    '<math><mi>x</mi></math>'
    >>> to_mathml(r"\frac{x")
    Traceback (most recent call last):
    ...
    ValueError: Unexpected end of input in a macro argument, expected '}' at end of input: \frac{x
    """
    try:
        return _render()(latex, display)
    except quickjs.JSException as error:
        reason = str(error).partition("\n    at ")[0].removeprefix("ParseError:").strip()
        raise ValueError(reason) from None


def height(mathml: str) -> float:
    """Return about how high a display formula is, in em, for the time before it is laid out."""
    rows = max(table.count("<mtr") for table in mathml.split("<mtable"))
    line = 2.2 if "<mfrac" in mathml else 1.3
    # The lines of a derivation have one such cell each, and room between them.
    if lines := mathml.count('"tml-right"'):
        return lines * (0.6 + (2.9 if "<munder" in mathml else line))
    return rows * line if rows else 2.9 if "<munder" in mathml else line


class MathmlTreeprocessor(Treeprocessor):
    """Replace the text of every arithmatex element by stashed MathML."""

    def run(self, root: Element) -> None:
        seen = Counter()
        for element in root.iter():
            if element.get("class") == "arithmatex":
                latex = report.latex_of(element)
                self.replace(element, latex, seen[report.squeeze(latex)])
                seen[report.squeeze(latex)] += 1

    def replace(self, element: Element, latex: str, earlier: int) -> None:
        """Replace one formula, which stands on the page so many times before."""
        try:
            mathml = to_mathml(latex, element.tag == "div")
        except ValueError as problem:
            place = report.place_of(latex, self.md.page, earlier)
            report.warn(latex, f"no MathML for this formula: {problem}", place)
            return
        # `symbols` marks the formulas that stand beside code.
        if mark := getattr(self.md, "marks_of", {}).get(element):
            mathml = mark(mathml)
        if element.tag == "div":
            element.set("style", f"--height: {height(mathml):.1f}em")
        element.text = self.md.htmlStash.store(mathml)
        if element.tag == "div":
            # A formula without its fractions and sums is no text to search, or to show as a result.
            element.set("data-search-exclude", "true")


class MathmlExtension(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        report.know_page(md)
        # After the inline patterns (20), which make the elements of inline formulas.
        md.treeprocessors.register(MathmlTreeprocessor(md), "mathml", 15)


def makeExtension(**settings) -> MathmlExtension:
    return MathmlExtension(**settings)
