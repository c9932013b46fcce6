"""What all blocks `/// name | argument` share: whatever is wrong with one is a warning.

pymdownx leaves a directive that it does not know, or whose argument or options do not fit, as text
on the page, and lets an exception end the build. Here each is one warning with file and line, which
fails a strict build.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from xml.etree.ElementTree import Element, SubElement

from markdown import Markdown
from markdown.preprocessors import Preprocessor
from markdown.treeprocessors import Treeprocessor
from pymdownx import blocks
from pymdownx.blocks import block

from extensions import report

LEFT = re.compile(r"^ {0,3}/{3,}.*$", re.MULTILINE)
DIRECTIVE = re.compile(
    r"^[ >]*(?P<text>/{3,}(?: *(?P<name>[\w-]+) *(?:\| *(?P<argument>.*?))?| *[^\s/].*?)) *$"
    r"(?P<options>(?:\n {4,}(?!/{3})\S.*)*)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Directive:
    """A directive as it stands in the source.

    `options` are None where they can't be read, and `name` is "" where the line is none.
    """

    line: int
    text: str
    name: str
    argument: str
    options: dict | None


def directives(source: str) -> Iterator[Directive]:
    """Yield the directives of a page, those shown in a fence left out.

    >>> [(d.line, d.name, d.options) for d in directives("/// a | b\\n    c: D\\n///\\n\\n/// e\\n///")]
    [(1, 'a', {'c': 'D'}), (5, 'e', {})]
    """
    source = report.without_fences(source)
    for found in DIRECTIVE.finditer(source):
        options = blocks.get_frontmatter(textwrap.dedent(found["options"].strip("\n")))
        line = report.line_at(source, found.start("text"))
        name, argument = (found["name"] or "").lower(), found["argument"] or ""
        yield Directive(line, found["text"], name, argument, options)


class DirectivesPreprocessor(Preprocessor):
    """Keep the page's directives as `md.directives`; each is taken out when it is met."""

    def run(self, lines: list[str]) -> list[str]:
        source = self.md.page.read_text("utf-8") if self.md.page else ""
        self.md.directives = list(directives(source))
        return lines


def place_of(md: Markdown, **like: object) -> str:
    """Return `file:line` of the first directive that is like this and was not met yet."""
    for directive in md.directives:
        if like.items() <= vars(directive).items():
            md.directives.remove(directive)
            return f"{md.page}:{directive.line}"
    return str(md.page or "a page")


class Block(block.Block):
    """A block whose `on_create` may raise: that is a warning, and an empty box on the page."""

    def _validate(self, parent: Element, argument: str | None, /, **options: object) -> bool:
        self.text = f"/// {self.NAME}" + f" | {argument}" * bool(argument)
        self.place = place_of(self.md, name=self.NAME, argument=argument or "", options=options)
        self.problem = self.misfit(argument, options)
        if self.problem:
            self.options = {"attrs": {}}
            return True
        return super()._validate(parent, argument, **options)

    def misfit(self, argument: str | None, options: dict) -> str:
        """Say what of the argument or the options does not fit, "" where all do."""
        if argument and self.ARGUMENT is False:
            return f"the argument {argument!r} was given; {self.NAME} takes none"
        if not argument and self.ARGUMENT:
            return f"{self.NAME} needs an argument, `/// {self.NAME} | …`"
        known = f"its options are {', '.join(self.OPTIONS)}" if self.OPTIONS else "it takes none"
        for name, value in options.items():
            if name not in self.option_spec:
                return f"{self.NAME} has no option {name!r}; {known}"
            try:
                self.option_spec[name][1](value)
            except ValueError:
                return f"{name}: {value!r} was given; text is needed"
        return ""

    def _create(self, parent: Element) -> Element:
        before = len(parent)
        try:
            if self.problem:
                raise ValueError(self.problem)
            element = super()._create(parent)
        except Exception as problem:  # noqa: BLE001 - it runs code, which may raise anything
            kind = "" if isinstance(problem, ValueError) else f"{type(problem).__name__}: "
            self.problem = f"{kind}{problem}"
            self.warn(self.problem)
            report.logger.debug("how it came to that", exc_info=problem)
            del parent[before:]  # what was drawn until then
            element = SubElement(parent, "div")
        self.drawn = "".join(element.itertext())
        return element

    def on_end(self, element: Element) -> None:
        inside = "".join(element.itertext())[len(self.drawn) :].strip()
        if inside and not self.problem:
            self.warn(f"{inside!r} stands in it; options are indented by four spaces")

    def warn(self, problem: str) -> None:
        """Log a warning about this block."""
        report.warn(self.text, problem, self.place)


def texts(element: Element) -> Iterator[str]:
    """Yield the texts of a page that are not code."""
    if element.tag not in {"pre", "code"}:
        yield element.text or ""
        for child in element:
            yield from texts(child)
            yield child.tail or ""


class LeftTreeprocessor(Treeprocessor):
    """Say which directives are left as text, and which blocks are open at the end of the page."""

    def run(self, root: Element) -> None:
        known = self.md.parser.blockprocessors["blocks"]
        for entry in known.stack:
            place = getattr(entry.block, "place", str(self.md.page))
            report.warn(f"/// {entry.block.NAME}", "it is not closed by `///`", place)
        left = [line.strip() for text in texts(root) for line in LEFT.findall(text)]
        named = [line for line in left if line.strip("/")]
        # What would have closed a directive that is left is left as well.
        for line in named or left[:1]:
            report.warn(line, self.reason(line, list(known.blocks)), place_of(self.md, text=line))

    def reason(self, line: str, known: list[str]) -> str:
        name = next((directive.name for directive in directives(line)), "")
        if not name:
            return "it is no directive; the form is `/// name | argument`, closed by `///`"
        if name in known:
            return "it can't be read; an option is `name: value`, one on each line"
        near = get_close_matches(name, known, 1) or sorted(known)
        return f"there is no block {name!r}, but {', '.join(near)}"


class BlocksExtension(blocks.BlocksExtension):
    """An extension of blocks that have `Block` as their base."""

    def extendMarkdown(self, md: Markdown) -> None:
        super().extendMarkdown(md)
        report.know_page(md)
        if "directives" not in md.preprocessors:
            # When the page is known (210).
            md.preprocessors.register(DirectivesPreprocessor(md), "directives", 205)
            # Before the inline patterns (20) turn text into elements.
            md.treeprocessors.register(LeftTreeprocessor(md), "left", 21)
