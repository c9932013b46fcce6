"""Under the title of each derivation page, a link to it as a notebook.

`python -m tools.notebooks` writes the notebooks. Colab opens one out of the repository, so its link
stands there only where `repo_url` is one on GitHub.
"""

import re

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from extensions import report

GITHUB = re.compile(r"https://github\.com/(?P<repository>[^/]+/[^/]+?)(?:\.git)?/?")
COLAB = "https://colab.research.google.com/github/{repository}/blob/{branch}/docs/{notebook}"


def links(layer: str, repo_url: str, branch: str) -> str:
    """Return the line of links, in Markdown.

    >>> print(links("relu", "https://example.org/a/b", "main"))
    [This page as a notebook](../notebooks/derivations/relu.ipynb){ download="relu.ipynb" }
    {: .as-notebook data-search-exclude="true" }
    >>> print(links("relu", "https://github.com/a/b", "main").splitlines()[1])
    [Open in Colab](https://colab.research.google.com/github/a/b/blob/main/docs/notebooks/derivations/relu.ipynb)
    """
    notebook = f"notebooks/derivations/{layer}.ipynb"
    lines = [f'[This page as a notebook](../{notebook}){{ download="{layer}.ipynb" }}']
    if found := GITHUB.fullmatch(repo_url):
        address = COLAB.format(repository=found["repository"], branch=branch, notebook=notebook)
        lines.append(f"[Open in Colab]({address})")
    return "\n".join([*lines, '{: .as-notebook data-search-exclude="true" }'])


class NotebookPreprocessor(Preprocessor):
    def __init__(self, md: Markdown, repo_url: str, branch: str):
        super().__init__(md)
        self.repo_url, self.branch = repo_url, branch

    def run(self, lines: list[str]) -> list[str]:
        page = self.md.page
        if page is None or page.parent.name != "derivations":
            return lines
        shown = report.without_fences("\n".join(lines)).split("\n")
        title = next((i for i, line in enumerate(shown) if line.startswith("# ")), None)
        if title is None:
            report.warn(page.stem, "it has no title, `# …`, under which its links stand", str(page))
            return lines
        added = links(page.stem, self.repo_url, self.branch).splitlines()
        return [*lines[: title + 1], "", *added, "", *lines[title + 1 :]]


class NotebookExtension(Extension):
    def __init__(self, **settings):
        self.config = {
            "repo_url": ["", "The address of the repository"],
            "branch": ["main", "The branch from which Colab takes the notebooks"],
        }
        super().__init__(**settings)

    def extendMarkdown(self, md: Markdown) -> None:
        report.know_page(md)
        # After the check of the equations (200).
        added = NotebookPreprocessor(md, self.getConfig("repo_url"), self.getConfig("branch"))
        md.preprocessors.register(added, "notebook", 190)


def makeExtension(**settings) -> NotebookExtension:
    return NotebookExtension(**settings)
