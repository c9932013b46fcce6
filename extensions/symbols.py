"""Mark the symbols of a formula that stands beside code with the names they have in the code.

Inside `<div class="beside" markdown>`, the MathML of `x_{ij}` gets `data-name="X"`, that of
`\\frac{\\partial J}{\\partial z_{ik}}` gets `data-name="dJ_dZ"`, and an index or a size, whose
letter is the same in the code, `data-letter`. The page's declarations say which LaTeX is
which name. The box becomes a `<linked-symbols>`, whose
script (`assets/linked-symbols.js`) finds the same names in the code and lights both up.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from xml.etree.ElementTree import Element, fromstring, tostring

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from markdown.treeprocessors import Treeprocessor

from extensions import mathml, report
from proofread.equations import Declarations, Unreadable, read_declarations
from proofread.equations.documents import read_document

SCRIPTED = {"msub", "msup", "msubsup"}
LETTERS = {"mi", "mover", "munder"}


@cache
def symbol(latex: str) -> str:
    """Return the MathML of one symbol, without the `<math>` around it; "" if there is none."""
    try:
        inside = list(fromstring(mathml.to_mathml(latex)))
    except ValueError:
        return ""
    return text_of(inside[0]) if len(inside) == 1 else ""


def text_of(element: Element) -> str:
    return tostring(element, encoding="unicode")


@dataclass(frozen=True)
class Names:
    """The names in the code, by the MathML of the symbols; `letters` are indices and sizes."""

    arrays: dict[str, str]
    letters: dict[str, str]


def names_of(declared: Declarations) -> Names:
    """Return the names of all symbols that a page declares."""
    sizes = declared.first_world.sizes
    arrays, letters = {}, {}
    for (base, sub, sup), name in declared.table.items():
        latex = base + f"_{{{sub}}}" * bool(sub) + f"^{{{sup}}}" * bool(sup)
        (letters if name in sizes else arrays)[symbol(latex)] = name
    for letter in declared.index_keys:
        letters[symbol(letter)] = letter
    return Names(arrays, letters)


def mark(markup: str, names: Names) -> str:
    """Return the MathML with a `data-name` on each symbol that has a name."""
    root = fromstring(markup)
    _mark(root, names)
    return tostring(root, encoding="unicode", short_empty_elements=False)


def _mark(element: Element, names: Names) -> None:
    if name := derivative(element, names.arrays) or name_of(element, names.arrays):
        element.set("data-name", name)
        inside = subscripts(element)
    else:
        if element.tag == "mi" and (letter := names.letters.get(text_of(element))):
            element.set("data-letter", letter)
        inside = element
    for child in inside:
        _mark(child, names)


def name_of(element: Element, names: dict[str, str]) -> str:
    """Return the name of a symbol, with or without its indices and a transpose."""
    if element.tag not in SCRIPTED | LETTERS:
        return ""
    parts = [element]
    if element.tag in SCRIPTED:
        base, *scripts = element
        for tag, script in zip(("msub", "msup"), scripts, strict=False):
            parts.append(Element(tag))
            parts[-1].extend([base, script])
        parts.append(base)
    return next((names[text] for part in parts if (text := text_of(part)) in names), "")


def derivative(element: Element, names: dict[str, str]) -> str:
    """Return `dJ_dZ` for the fraction of two differentials, "" for anything else."""
    if element.tag != "mfrac":
        return ""
    found = [
        name_of(part[1], names) if len(part) == 2 and part[0].text == "∂" else ""
        for part in element
    ]
    return f"d{found[0]}_d{found[1]}" if all(found) else ""


def subscripts(element: Element) -> Iterator[Element]:
    """Yield the indices of a symbol, and those of both parts of a derivative."""
    if element.tag == "mfrac":
        for part in element:
            yield from subscripts(part[1])
    elif element.tag in {"msub", "msubsup"}:
        yield element[1]


class SymbolsPreprocessor(Preprocessor):
    """Find which declarations hold for which formula of the page."""

    def run(self, lines: list[str]) -> list[str]:
        self.md.declared = defaultdict(list)
        page = self.md.page
        if page is not None:
            try:
                document = read_document(page)
                sets = read_declarations(document.declarations, str(page.parent))
                for found in document.equations:
                    self.md.declared[report.squeeze(found.latex)].append(sets[found.using])
            except (Unreadable, KeyError):
                self.md.declared.clear()  # the check of the equations says what is wrong
        return lines


class SymbolsTreeprocessor(Treeprocessor):
    """Say which names the formulas beside code are to be marked with."""

    def run(self, root: Element) -> None:
        self.md.marks_of = {}
        declared = {
            element: waiting.pop(0)
            for element in root.iter()
            if element.get("class") == "arithmatex"
            and (waiting := self.md.declared.get(report.squeeze(report.latex_of(element))))
        }
        for box in root.iter("div"):
            if "beside" in (box.get("class") or "").split():
                found = {e: declared[e] for e in box.iter() if e in declared}
                try:
                    marks = {e: partial(mark, names=names_of(d)) for e, d in found.items()}
                except Unreadable:  # the check of the equations says what is wrong
                    continue
                if marks:
                    box.tag = "linked-symbols"
                    self.md.marks_of |= marks


class SymbolsExtension(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        report.know_page(md)
        # Both stand beside those of the proofs.
        md.preprocessors.register(SymbolsPreprocessor(md), "symbols", 199)
        md.treeprocessors.register(SymbolsTreeprocessor(md), "symbols", 15.5)


def makeExtension(**settings) -> SymbolsExtension:
    return SymbolsExtension(**settings)
