"""Pages and modules fit together: what is shown exists, what exists is shown."""

import ast
import re

import pytest

from extensions.shapes import Layer, tuple_of
from tests.checks import LAYERS, ROOT
from tests.shown import sections, shown

PAGES = sorted((ROOT / "docs").rglob("*.md"))
MODULES = [
    f"{room}/{p.name}"
    for room in ("snippets", "mistakes", "examples")
    for p in (ROOT / room).glob("*.py")
]
MODULES = sorted(path for path in MODULES if "__init__" not in path)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page_shows_only_what_exists(page):
    shown(page.read_text(), ROOT)


def test_every_section_is_shown():
    seen = set().union(*(shown(page.read_text(), ROOT) for page in PAGES))
    existing = {(m, s) for m in MODULES for s in sections((ROOT / m).read_text())}
    assert existing - seen == set()


def test_all_code_of_a_module_is_in_a_section():
    """A function outside of every section would be tested and never seen."""
    for module in MODULES:
        source = (ROOT / module).read_text()
        inside = "\n".join(line for lines in sections(source).values() for line in lines)
        names = re.findall(r"^(?:def|class) (\w+)", source, re.MULTILINE)
        assert names == re.findall(r"^(?:def|class) (\w+)", inside, re.MULTILINE), module


def page_of(layer):
    derivation = ROOT / f"docs/derivations/{layer}.md"
    return derivation if derivation.exists() else ROOT / f"docs/{layer}.md"


@pytest.mark.parametrize("layer", LAYERS)
def test_module_has_its_page_and_the_page_links_it(layer):
    assert re.search(rf"\]\((\.\./)?snippets/{layer}\.py\)", page_of(layer).read_text())


def test_derivation_has_its_module():
    assert {p.stem for p in (ROOT / "docs/derivations").glob("*.md")} <= set(LAYERS)


HEADINGS = ["Classic mistakes", "Your turn", "Where to read on"]


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs/derivations").glob("*.md")), ids=lambda p: p.stem
)
def test_derivation_has_the_anatomy_of_a_page(page):
    text = page.read_text()
    assert '<div class="result" markdown>' in text.split("\n## ")[0], "the result comes first"
    assert f"/// evidence | {page.stem}\n" in text
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[-3:] == HEADINGS


def code_in(text):
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs/derivations").glob("*.md")), ids=lambda p: p.stem
)
def test_code_of_the_result_stands_in_the_module(page):
    result = page.read_text().split('<div class="result" markdown>')[1].split("</div>")[0]
    source = (ROOT / f"snippets/{page.stem}.py").read_text()
    found = [
        code
        for line in result.splitlines()
        if "Code:" in line
        for code in code_in(line.split("Code:")[1])
    ]
    assert found
    for code in found:
        assert code in source or code == "dJ_dZ", code


CHAIN = (ROOT / "docs/index.md").read_text().split('<div class="chain"')[1].split("</div>")[0]
FORWARD, BACKWARD = CHAIN.split("</ol>")[:2]


def assignments(function):
    """Return the lines `name = ...` of a function, and what each reads."""
    (tree,) = (
        node
        for node in ast.parse((ROOT / "snippets/network.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    lines = [node for node in tree.body if isinstance(node, ast.Assign)]
    return {
        ast.unparse(line): {node.id for node in ast.walk(line.value) if isinstance(node, ast.Name)}
        for line in lines
    }


@pytest.mark.parametrize(("way", "function"), [(FORWARD, "forward"), (BACKWARD, "backward")])
def test_the_map_has_the_lines_of_the_network(way, function):
    """All of them, in the order in which they run."""
    assert [code for code in code_in(way) if "=" in code] == list(assignments(function))


@pytest.mark.parametrize(("way", "function"), [(FORWARD, "forward"), (BACKWARD, "backward")])
def test_each_box_names_what_its_lines_read(way, function):
    """What comes in by the arrow, and what is said after `with`."""
    reads = assignments(function)
    arrow = "X" if function == "forward" else None
    for box in way.split("</li>")[:-1]:
        given = next((line for line in box.splitlines() if line.startswith("with ")), "")
        needed = set().union(*(reads[code] for code in code_in(box) if "=" in code))
        assert set(code_in(given)) == needed - {arrow, "torch"}, box
        arrow = re.search(r"^`(\w+)` .*\n{: \.out }", box, re.MULTILINE)[1]


def test_the_map_has_the_shapes_of_the_annotations():
    axes = {}
    for layer in ("linear", "relu", "mse"):
        axes |= Layer(layer, []).tensors()
    told = re.findall(r"`(\w+)` (\(.*?\))", CHAIN)
    assert len(told) == 10
    for name, shape in told:
        assert shape == tuple_of(axes[name.removeprefix("dJ_d")]), name


# The tests of these tests: what must be refused.

GOOD = "# --8<-- [start:a]\nx = 1\n# --8<-- [end:a]\n"


def test_good_sections_are_read():
    assert sections(GOOD) == {"a": ["x = 1"]}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (GOOD.replace("# --8<-- [end:a]\n", ""), "not closed"),
        (GOOD.replace("[end:a]", "[end:b]"), "out of place"),
        (GOOD.replace("[end:a]", "[ende:a]"), "is no marker"),
        (GOOD + GOOD, "out of place"),
        (GOOD.replace("x = 1\n", "\n"), "nothing in"),
        (GOOD.replace("# --8<-- [start:a]\n", ""), "out of place"),
    ],
)
def test_bad_sections_are_refused(source, reason):
    with pytest.raises(ValueError, match=reason):
        sections(source)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x = 1", "typed by hand"),
        ("--8<-- a.py:a", "typed by hand"),
        ('--8 < --"a.py:a"', "typed by hand"),
        (';--8<-- "a.py:a"', "typed by hand"),
        ('--8<-- "a.py:b"', "no section 'b'"),
        ('--8<-- "b.py:a"', "there is no b.py"),
    ],
)
def test_bad_fences_are_refused(line, reason, tmp_path):
    (tmp_path / "a.py").write_text(GOOD)
    assert shown('``` python\n--8<-- "a.py:a"\n```\n', tmp_path) == {("a.py", "a")}
    with pytest.raises(ValueError, match=reason):
        shown(f"``` python\n{line}\n```\n", tmp_path)


def test_a_directive_outside_a_fence_is_refused(tmp_path):
    with pytest.raises(ValueError, match="outside a Python fence"):
        shown('--8<-- "a.py:a"\n', tmp_path)
