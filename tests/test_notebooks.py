"""Each derivation page as a notebook: up to date, self-contained, and able to fail."""

import ast
import re
import sys
import types
from urllib.parse import urlsplit

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from extensions.notebook import links
from tests.checks import ROOT
from tests.shown import sections, shown
from tools.notebooks import PAGES, TARGET, Page, parts_of, text_of

LAYERS = sorted(page.stem for page in (ROOT / PAGES).glob("*.md"))
each_layer = pytest.mark.parametrize("layer", LAYERS)
# What a reader's machine does not have.
OURS = ("snippets", "mistakes", "exercises", "proofread", "extensions", "tests", "tools")


def read(layer):
    return nbformat.read(ROOT / TARGET / f"{layer}.ipynb", as_version=4)


def sources(notebook, kind="code"):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def run(monkeypatch, cells):
    """Run cells as a notebook does, and return their names; nothing of this project is there."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    for name in OURS:
        monkeypatch.setitem(sys.modules, name, None)
    for source in cells:
        exec(TransformerManager().transform_cell(source), vars(main))  # noqa: S102
    return vars(main)


@each_layer
def test_it_is_what_the_page_gives(layer, monkeypatch):
    monkeypatch.chdir(ROOT)
    stored = (ROOT / TARGET / f"{layer}.ipynb").read_text(encoding="utf-8")
    assert stored == text_of(PAGES / f"{layer}.md"), "run `python -m tools.notebooks`"


def test_there_is_no_other():
    assert sorted(path.stem for path in (ROOT / TARGET).iterdir()) == LAYERS


@each_layer
def test_nothing_of_the_page_is_missing(layer):
    page = (ROOT / PAGES / f"{layer}.md").read_text()
    text, code = ("\n".join(sources(read(layer), kind)) for kind in ("markdown", "code"))
    assert text.count("$$") == page.count("$$") > 0
    headings = re.compile(r"^#+ .*", re.MULTILINE)
    assert headings.findall(text) == headings.findall(re.sub(r"\A---.*?\n---", "", page, flags=16))
    for path, section in shown(page, ROOT):
        source = (ROOT / path).read_text()
        if section != "imports":
            part = "\n".join(sections(source)[section]) if section else source
            for node in ast.parse(part).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    assert ast.get_source_segment(part, node) in code, (path, node.name)


@each_layer
def test_nothing_of_the_site_is_left(layer):
    everything = "\n".join(sources(read(layer)) + sources(read(layer), "markdown"))
    for trace in ("8<", "<!--", "<div", "///", "!!!", "exercises/", "-m proofread", "\n{:"):
        assert trace not in everything, trace
    assert not re.search(r"\]\((?!https?:)", everything), "a link to a file that is not there"
    assert not re.search(rf"^(from|import) ({'|'.join(OURS)})\b", everything, re.MULTILINE)


@each_layer
def test_links_lead_to_the_site_where_it_is_known(layer, site, monkeypatch):
    monkeypatch.chdir(ROOT)
    here = "https://example.org/project"
    text = "\n".join(sources(Page(PAGES / f"{layer}.md", f"{here}/").notebook(), "markdown"))
    found = re.findall(rf"\]\({here}/([^)]*)\)", text)
    assert f"derivations/{layer}/" in found and len(found) > 1
    for address in found:
        parts = urlsplit(address)
        target = site / parts.path
        target = target / "index.html" if parts.path.endswith("/") else target
        assert target.is_file(), address
        assert not parts.fragment or f'id="{parts.fragment}"' in target.read_text(), address


def functions_of(layer):
    """Yield every shown function that is compared with autograd, and the cell it is in."""
    for source in sources(read(layer)):
        if re.search("NotImplementedError|differs|Swapped|%pip", source):
            continue
        for node in ast.walk(ast.parse(source)):
            name = getattr(node, "name", "")
            if isinstance(node, ast.FunctionDef) and re.match(r"grad_|backward$|.*_by_row$", name):
                yield source, node


class Negate(ast.NodeTransformer):
    """Turn the sign of what a function returns; of several things, the first."""

    def visit_Return(self, node):
        match node.value:
            case ast.Tuple(elts=[first, *_]):
                node.value.elts[0] = ast.UnaryOp(ast.USub(), first)
            case _:
                node.value = ast.UnaryOp(ast.USub(), node.value)
        return ast.fix_missing_locations(node)


@each_layer
def test_a_wrong_sign_in_any_function_is_noticed(layer, monkeypatch):
    cells = sources(read(layer))
    run(monkeypatch, cells)
    planted = list(functions_of(layer))
    assert planted
    for source, node in planted:
        right = ast.get_source_segment(source, node)
        indent = " " * node.col_offset
        wrong = ast.unparse(Negate().visit(node)).replace("\n", f"\n{indent}")
        with pytest.raises(AssertionError):
            run(monkeypatch, [cell.replace(right, wrong) for cell in cells])


@each_layer
def test_what_the_reader_writes_is_judged(layer, monkeypatch, capsys):
    cells = sources(read(layer))
    stubs = next(i for i, cell in enumerate(cells) if "raise NotImplementedError" in cell)
    run(monkeypatch, cells)
    names = re.findall(r"^(\w+): not written yet$", capsys.readouterr().out, re.MULTILINE)
    assert names
    # What the page shows is right; a reader who returns what comes in is not.
    run(monkeypatch, [*cells[:stubs], solution(layer), *cells[stubs + 1 :]])
    printed = capsys.readouterr().out
    assert all(f"{name}: right" in printed for name in names)
    wrong = cells[stubs].replace("raise NotImplementedError", "return torch.ones(5, 3).double()")
    run(monkeypatch, [*cells[:stubs], wrong, *cells[stubs + 1 :]])
    printed = capsys.readouterr().out
    assert re.findall(r"^(\w+): \w+Error: ", printed, re.MULTILINE) == names


SIGMOID = """
class Sigmoid:
    def __call__(self, Z):
        self.A = 1 / (1 + torch.exp(-Z))
        return self.A

    def backward(self, dJ_dA):
        return dJ_dA * self.A * (1 - self.A)
"""


def solution(layer):
    """Return the cell of a reader who writes what the page shows, and what it does not."""
    return SIGMOID if layer == "layers" else ""


def execute(notebook, folder):
    """Run all cells in a kernel of its own, which has nothing of this project."""
    hide = f"import sys\nsys.modules.update(dict.fromkeys({OURS}))"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(hide))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()


@pytest.mark.slow
@each_layer
def test_it_runs_in_jupyter(layer, tmp_path):
    notebook = read(layer)
    execute(notebook, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "not written yet" in str(notebook.cells[-10:])


@pytest.mark.slow
def test_a_wrong_gradient_stops_jupyter(tmp_path):
    notebook = read("linear")
    for cell in notebook.cells:
        cell.source = cell.source.replace("return X.T @ dJ_dZ", "return X.T @ dJ_dZ / 5")
    with pytest.raises(CellExecutionError, match="AssertionError.*not close"):
        execute(notebook, tmp_path)


# What the generator refuses, and what it makes of a page's parts.

FRONT = "---\ntitle: Cube\nproofread:\n  forward: y = cube(x)\n---\n\n# Cube\n\n"
SNIPPET = """
# --8<-- [start:imports]
import torch
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:cube]
def cube(x: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    return x**3


# --8<-- [end:cube]


# --8<-- [start:grad_x]
def grad_x(x: Float[Tensor, "N"], dJ_dy: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    return dJ_dy * 3 * x**2


# --8<-- [end:grad_x]
"""
SHOW = '``` python\n--8<-- "snippets/cube.py:imports"\n--8<-- "snippets/cube.py:{}"\n```\n\n'


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Return a function that writes a page and its snippet, and gives the cells."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "snippets").mkdir()

    def write(body, snippet=SNIPPET, front=FRONT):
        (tmp_path / "snippets/cube.py").write_text(snippet)
        (tmp_path / "cube.md").write_text(front + body)
        return nbformat.reads(text_of(tmp_path / "cube.md"), as_version=4)

    return write


def test_any_layer_gets_its_data_and_its_checks(page, monkeypatch):
    notebook = page(SHOW.format("cube") + SHOW.format("grad_x"))
    names = run(monkeypatch, sources(notebook))
    assert names["x"].shape == (5,)
    assert "assert_close(grad_x(x, dJ_dy), dJ_dx)" in sources(notebook)[-1]
    wrong = page(SHOW.format("cube") + SHOW.format("grad_x"), SNIPPET.replace("3 * x", "2 * x"))
    with pytest.raises(AssertionError, match="not close"):
        run(monkeypatch, sources(wrong))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("y = cube(x)", "y = 3 * x", r"no declaration of the page is `Z = cube\(x\)`"),
        ('"N"', '"Q"', r"no size for \['Q'\]"),
        ("def grad_x(x:", "def grad_w(x:", "has no such argument"),
        ("dJ_dy:", "dJ_dz:", r"takes \['dJ_dz'\]; known are"),
    ],
)
def test_what_it_cannot_check_is_an_error(page, old, new, reason):
    with pytest.raises(ValueError, match=rf"cube\.md: .*{reason}"):
        page(
            SHOW.format("cube") + SHOW.format("grad_x"),
            SNIPPET.replace(old, new),
            FRONT.replace(old, new),
        )


def test_notes_become_quotations_and_lists_stay(page):
    body = '!!! note "Two shapes"\n    One.\n\n    Two.\n\n- a\n\n    b\n\nEnd [of\nit](x.md).\n'
    text = sources(page(body), "markdown")[-1]
    assert text == "> **Two shapes.**\n> One.\n> \n> Two.\n\n- a\n\n    b\n\nEnd of\nit."


def test_blocks_of_the_build_are_left_out():
    parts = list(parts_of("a\n\n/// figure | linear\n    sizes: N=3\ninside\n///\n\nb"))
    assert [(part.kind, part.name) for part in parts] == [
        ("prose", ""), ("block", "figure"), ("prose", ""),
    ]  # fmt: skip
    assert parts[1].argument == "linear" and parts[2].lines == ["", "b"]


def test_colab_needs_a_repository_on_github():
    assert "colab" not in links("relu", "", "main")
    assert "colab" not in links("relu", "https://gitlab.com/a/b", "main")
    assert "/github/a/b.c/blob/next/docs/" in links("relu", "https://github.com/a/b.c.git", "next")
