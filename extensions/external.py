"""Mark links that lead to another site, so that the address stands beside them on paper.

A style sheet alone can't tell: the theme makes every address absolute.
"""

from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor


class ExternalTreeprocessor(Treeprocessor):
    def run(self, root: Element) -> None:
        for link in root.iter("a"):
            if link.get("href", "").startswith(("http:", "https:")):
                link.set("class", f"{link.get('class', '')} external".strip())


class ExternalExtension(Extension):
    """Mark links to other sites.

    >>> from markdown import markdown
    >>> markdown("[a](https://example.org) [b](b.md)", extensions=[makeExtension()])
    '<p><a class="external" href="https://example.org">a</a> <a href="b.md">b</a></p>'
    """

    def extendMarkdown(self, md: Markdown) -> None:
        # After the inline patterns (20), which make the links.
        md.treeprocessors.register(ExternalTreeprocessor(md), "external", 14)


def makeExtension(**settings) -> ExternalExtension:
    return ExternalExtension(**settings)
