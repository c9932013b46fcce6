"""The built site: links and anchors resolve, nothing comes from elsewhere, shown code runs."""

import doctest
import importlib.util
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests import checks

LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}


@dataclass
class Html(HTMLParser):
    """What the tests look for on one page."""

    path: Path
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    formulas: int = 0

    def __post_init__(self):
        super().__init__()
        self.depth = 0
        self.text = self.path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if (
            tag in LOADED
            and given.get(LOADED[tag])
            and given.get("rel") not in {"canonical", "next", "prev"}
        ):
            self.loaded.append(given[LOADED[tag]])
        self.formulas += tag == "math"
        if self.depth or "language-python" in (given.get("class") or ""):
            if not self.depth:
                self.code.append("")
            self.depth += tag not in {"br", "img", "input"}

    def handle_endtag(self, tag):
        if self.depth:
            self.depth -= 1

    def handle_data(self, data):
        if self.depth:
            self.code[-1] += data


@pytest.fixture(scope="session")
def pages(site) -> dict[Path, Html]:
    return {path: Html(path) for path in sorted(site.rglob("*.html"))}


def target_of(link: str, page: Path, site: Path) -> Path:
    path = unquote(urlsplit(link).path)
    target = (site / path.lstrip("/") if path.startswith("/") else page.parent / path).resolve()
    if not path:
        target = page
    return target / "index.html" if target.is_dir() else target


def test_every_internal_link_and_anchor_resolves(pages, site):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = target_of(link, path, site)
            if not target.exists():
                broken.append((path.name, link))
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].ids
            ):
                broken.append((path.parent.name, link))
    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 200


def test_nothing_is_loaded_from_elsewhere(pages):
    foreign = {
        (path.parent.name, url)
        for path, page in pages.items()
        for url in page.loaded
        if urlsplit(url).netloc
    }
    assert foreign == set()


def test_formulas_are_mathml(pages):
    assert sum(page.formulas for page in pages.values()) > 150
    for page in pages.values():
        assert 'class="arithmatex">\\' not in page.text, page.path


def test_no_include_is_left_unread(pages):
    for page in pages.values():
        assert "8&lt;--" not in page.text and "8 &lt; --" not in page.text, page.path


def test_every_shown_block_runs(pages, tmp_path):
    """Copied out of the page it runs alone; its examples may use the blocks above it."""
    count = 0
    for path, page in pages.items():
        if path.parent.name == "everything":
            continue  # the blocks of all other pages once more
        above = ""
        # What switches the checks on belongs into a package, and is no block to copy and run.
        for block in (code for code in page.code if "install_import_hook" not in code):
            count += 1
            if "import triton" in block and not checks.TRITON:
                continue
            run(block, tmp_path / f"block_{count}.py")
            # An exercise has the names of the page, and nothing behind them yet.
            if "raise NotImplementedError" not in block:
                above = f"{above}\n\n{block}"
        if "library()" in above and not checks.has_compiler():
            continue
        if above:
            module = run(above, tmp_path / f"page_{count}.py")
            assert doctest.testmod(module).failed == 0, page.path
    assert count > 60


def run(code, path):
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_digits_notebook_ran(site):
    text = (site / "notebooks/digits/index.html").read_text()
    assert "digits it has never seen" in text
    assert text.count('class="jp-RenderedImage') == 3
    assert "Traceback" not in text


def test_whole_modules_are_served(site):
    for name in ("mse", "relu", "linear", "network", "layers", "machines"):
        assert "def " in (site / f"snippets/{name}.py").read_text()


def test_the_style_sheet_has_no_rule_for_what_no_page_has(site):
    """What the theme's script or another formula may bring is left out: `md-`, `tml-`."""
    assets = checks.ROOT / "docs" / "assets"
    rules = re.sub(r"/\*.*?\*/|{[^{}]*}", "", (assets / "site.css").read_text(), flags=re.DOTALL)
    pages = "\n".join(path.read_text(encoding="utf-8") for path in site.rglob("*.html"))
    scripts = "\n".join(path.read_text() for path in assets.glob("*.js"))
    used = {name for found in re.findall(r'class="([^"]*)"', pages) for name in found.split()}
    used |= set(re.findall(r"[\w-]+", scripts))
    classes = set(re.findall(r"\.((?!md-|tml-)[a-zA-Z][\w-]*)", rules))
    headings = set(re.findall(r"\bh[1-6]\b", rules))
    assert len(classes) > 50 and classes <= used
    assert len(headings) > 1 and headings <= set(re.findall(r"(?<=<)h[1-6]\b", pages))
