"""Say how many lines a block of code has, so that its room is known before it is laid out.

The style sheet leaves code alone that is far from the screen: a long page is there sooner.
"""

import re

from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor

CODE = re.compile(r"<pre>(<span></span><code>)(.*?)(?=\n*</code>)", re.DOTALL)


def count(block: re.Match) -> str:
    lines = block[2].count("\n") + 1
    return f'<pre style="--lines: {lines}">{block[1]}{block[2]}'


class LinesPostprocessor(Postprocessor):
    def run(self, text: str) -> str:
        return CODE.sub(count, text)


class LinesExtension(Extension):
    """Count the lines of highlighted code.

    >>> from markdown import markdown
    >>> page = "```python\\na = 1\\nb = 2\\n```"
    >>> markdown(page, extensions=["pymdownx.superfences", makeExtension()]).partition("<span")[0]
    '<div class="highlight"><pre style="--lines: 2">'
    """

    def extendMarkdown(self, md: Markdown) -> None:
        # After highlighted code has come back into the page (30).
        md.postprocessors.register(LinesPostprocessor(md), "lines", 25)


def makeExtension(**settings) -> LinesExtension:
    return LinesExtension(**settings)
