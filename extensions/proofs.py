"""Check the equations of a page while it is built, and mark each one that was checked.

The work is done by `proofread.equations`; this module brings the verdicts to the page. An
equation that fails, can't be read or could not have failed is a warning with file and
line, which fails a strict build. Verdicts are kept in `.cache/proofread` by the content that
they depend on.

A page's declarations stand in its front matter, which the site generator takes away before
Markdown sees the page. So the page is found again by its text.
"""

from collections import defaultdict
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from markdown.treeprocessors import Treeprocessor

from extensions import report
from proofread.equations import Formula, Report, check_file

CACHE = Path(".cache/proofread")


def check(page: Path) -> Report:
    """Check a page, or take the verdicts of an earlier build where nothing changed."""
    return check_file(page, cache_dir=CACHE)


def describe(formula: Formula) -> str:
    """Say in a sentence what was evaluated of an equation, and how it went."""
    if formula.exempt:
        return f"Not checked: {formula.reason}"
    checked = sum(chain.checked for chain in formula.chains)
    combinations = sum(chain.combinations for chain in formula.chains)
    error = max(chain.error for chain in formula.chains)
    what = f"{checked} {'equality' if checked == 1 else 'equalities'}"
    if formula.expected:
        return f"Wrong on purpose, and the check says so: {formula.reason}"
    convention = next((c.convention for c in formula.chains if c.convention), "")
    under = f" under the convention {convention}" if convention else ""
    return (
        f"Holds{under}: {what}, both sides evaluated in float64 at {combinations} combinations "
        f"of indices and data. Largest relative difference: {error:.0e}."
    )


def problems(found: Report) -> list[tuple[int, str]]:
    """Return the line and the reason of every equation that must not be published so."""
    wrong = [(0, found.error)] if found.error else []
    for formula in found.formulas:
        if not formula.ok:
            wrong.append((formula.line, f"{formula.verdict}: {formula.reason}"))
        wrong += [
            (formula.line, f"the check could not fail: {chain.vacuous}")
            for chain in formula.chains
            if chain.vacuous and not formula.exempt
        ]
    return wrong


class ProofsPreprocessor(Preprocessor):
    """Find the page that is being converted, and check it."""

    def run(self, lines: list[str]) -> list[str]:
        self.md.verdicts = defaultdict(list)
        page = report.page_of("\n".join(lines))
        if page is not None:
            found = check(page)
            for line, reason in problems(found):
                report.logger.warning("%s:%s: %s", page, line, reason)
            for formula in found.formulas:
                self.md.verdicts[squeeze(formula.latex)].append(formula)
        return lines


class ProofsTreeprocessor(Treeprocessor):
    """Put a mark beside each formula that has a verdict."""

    def run(self, root: Element) -> None:
        for parent in list(root.iter()):
            for place, element in enumerate(list(parent)):
                if element.get("class") == "arithmatex":
                    self.mark(parent, place, element)

    def mark(self, parent: Element, place: int, element: Element) -> None:
        waiting = self.md.verdicts.get(squeeze(report.latex_of(element)))
        if not waiting:
            return
        formula = waiting.pop(0)
        box = Element(element.tag, {"class": "equation"})
        box.tail, element.tail = element.tail, None
        parent.remove(element)
        parent.insert(place, box)
        box.append(element)
        self.md.marks = getattr(self.md, "marks", 0) + 1
        name = f"proof-{self.md.marks}"
        state = "skipped" if formula.exempt else "wrong" if formula.expected else "holds"
        button = {"type": "button", "class": f"proof {state}", "aria-describedby": name}
        SubElement(box, "button", button | {"aria-label": "How this equation was checked"})
        note = {"class": "proof-note", "role": "tooltip", "id": name}
        # Nobody searches for what every equation says of itself.
        SubElement(box, "span", note | {"data-search-exclude": "true"}).text = describe(formula)


def squeeze(latex: str) -> str:
    """Return a formula without its white space, by which it is found again."""
    return "".join(latex.split())


class ProofsExtension(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        # Before any other preprocessor changes the text by which the page is known.
        md.preprocessors.register(ProofsPreprocessor(md), "proofs", 200)
        # After the inline patterns (20), before the formula becomes MathML (15).
        md.treeprocessors.register(ProofsTreeprocessor(md), "proofs", 16)


def makeExtension(**settings) -> ProofsExtension:
    return ProofsExtension(**settings)
