"""Check the equations of a page while it is built, and mark each one that was checked.

The work is done by `proofread.equations`; this module brings the verdicts to the page. An
equation that fails, can't be read or could not have failed is a warning with file and
line, which fails a strict build. Verdicts are kept in `.cache/proofread` by the content that
they depend on.

A page's declarations stand in its front matter, which the site generator takes away before
Markdown sees the page. So the page is found again by its text.
"""

import re
from collections import defaultdict
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import yaml
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


def small(error: float) -> str:
    """Write an error in one digit, and none as 0.

    >>> small(2.2e-16), small(0.0)
    ('2e-16', '0')
    """
    return f"{error:.0e}" if error else "0"


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
        f"of indices and data. Largest relative difference: {small(error)}."
    )


def line_of(problem: str, source: str) -> int:
    """Return the line of a page's front matter that a problem with its declarations is about.

    >>> line_of("latex: `z` is `Q`", "---\\nproofread:\\n  latex:\\n    x: X\\n    z: Q\\n---\\n")
    5
    """
    if named := re.match(r"(?:front matter, )?line (\d+): ", problem):
        return int(named[1])
    front = re.match(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)", source, re.DOTALL | re.MULTILINE)
    root = yaml.compose(front[1], Loader=yaml.SafeLoader) if front else None
    keys = re.findall(r"[\w-]+", problem.partition("`")[0]) + re.findall(r"`([^`]+)`", problem)
    page, line, _ = inside(root, ["proofread"])
    # The problem does not say which set it is in: the one that has the most of its words.
    sets, _, _ = inside(page, ["sets"])
    within = [page, *(value for _, value in getattr(sets, "value", []))] if sets else [page]
    found = max((inside(node, keys) for node in within), key=lambda way: way[2])
    return (found[1] if found[2] else line) + 2


def inside(node: yaml.Node | None, keys: list[str]) -> tuple[yaml.Node | None, int, int]:
    """Go down the keys, past those that are not there.

    Returns:
        Where that leads to, the line of its key, and how many of the words are on the way.
    """
    line, depth = -1, 0
    for name in keys:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value == name:
                node, line, depth = value, key.start_mark.line, depth + 1
                break
    return (node if depth else None), line, depth + (getattr(node, "value", None) in keys)


def problems(found: Report, source: str) -> list[tuple[int, str]]:
    """Return the line and the reason of every equation that must not be published so."""
    wrong = [(line_of(found.error, source), found.error)] if found.error else []
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
    """Check the page that is being converted."""

    def run(self, lines: list[str]) -> list[str]:
        self.md.verdicts = defaultdict(list)
        page = self.md.page
        if page is not None:
            found = check(page)
            for line, reason in problems(found, page.read_text("utf-8")):
                report.logger.warning("%s:%s: %s", page, line, reason)
            for formula in found.formulas:
                self.md.verdicts[report.squeeze(formula.latex)].append(formula)
        return lines


class ProofsTreeprocessor(Treeprocessor):
    """Put a mark beside each formula that has a verdict."""

    def run(self, root: Element) -> None:
        for parent in list(root.iter()):
            for place, element in enumerate(list(parent)):
                if element.get("class") == "arithmatex":
                    self.mark(parent, place, element)

    def mark(self, parent: Element, place: int, element: Element) -> None:
        waiting = self.md.verdicts.get(report.squeeze(report.latex_of(element)))
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


class ProofsExtension(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        report.know_page(md)
        md.preprocessors.register(ProofsPreprocessor(md), "proofs", 200)
        # After the inline patterns (20), before the formula becomes MathML (15).
        md.treeprocessors.register(ProofsTreeprocessor(md), "proofs", 16)


def makeExtension(**settings) -> ProofsExtension:
    return ProofsExtension(**settings)
