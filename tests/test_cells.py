"""The figure as it is built: numbers from a run, every sentence computed again, and its links."""

import importlib.util
import re
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest

from extensions import cells, evidence, mathml, symbols
from extensions.cells import Step
from proofread.equations import read_declarations

EXTENSIONS = [
    "md_in_html",
    "pymdownx.arithmatex",
    "pymdownx.superfences",
    "pymdownx.highlight",
    "extensions.symbols",
    "extensions.mathml",
    "extensions.cells",
]
SETTINGS = {"pymdownx.arithmatex": {"generic": True}}


def sentences(step, matrix=None):
    matrix = matrix or step.output
    return [
        " = ".join([matrix.entry(n), *map(cells.text_of, step.steps(matrix, n))])
        for n in range(matrix.values.size)
    ]


def test_a_matrix_product_says_its_sums():
    step = Step("linear", "grad_W")
    assert sentences(step)[2] == "dJ_dW[1,0] = 2·1 + 4·0 + 6·1 = 8"
    assert step.uses(step.output, 2) == [[1, 3, 5], [0, 2, 4]]


def test_all_forms_of_a_gradient_say_the_same():
    forms = ["grad_W_by_entry", "grad_W_by_row", "grad_W_by_broadcast", "grad_W"]
    assert len({tuple(sentences(Step("linear", form))) for form in forms}) == 1


def test_a_block_on_the_way_is_shown_with_its_own_sums():
    step = Step("linear", "grad_W_by_broadcast", through="N D M")
    (way,) = step.way
    assert way.values.shape == (3, 2, 2)
    np.testing.assert_array_equal(way.values.sum(0), step.output.values)
    assert sentences(step, way)[10] == "[2,1,0] = 6·1 = 6"
    assert sentences(step)[2] == "dJ_dW[1,0] = 2·1 + 4·0 + 6·1 = 2 + 0 + 6 = 8"
    assert step.uses(step.output, 2)[2] == [2, 6, 10]


def test_a_mask_says_why():
    assert sentences(Step("relu", "grad_Z"))[1] == "dJ_dZ[0,1] = −6·(2 > 0) = −6·1 = −6"
    html = Element("div")
    cells.draw(Step("relu", "grad_Z_by_entry"), html)
    assert ["".join(item.itertext()) for item in html.iter("li")][:2] == [
        "dJ_dZ[0,0] = 5·0 = 0, since −1 ≤ 0",
        "dJ_dZ[0,1] = −6·1 = −6, since 2 > 0",
    ]


def test_a_label_says_why(snippet):
    snippet("x[x[0].long() if isinstance(x, torch.Tensor) else x[0]] = 7; return x", CALL)
    html = Element("div")
    cells.draw(Step("own", "grad_x"), html)
    assert "".join(list(html.iter("li"))[1].itertext()) == "dJ_dx[1] = 7, since x[0] is 1"


def test_a_row_of_the_loss_says_its_factor():
    assert sentences(Step("mse", "grad_A_by_row"))[0] == "dJ_dA[0,0] = 2/(2·2)·(3 − 1) = 1"


def test_a_forward_and_a_single_number_do_as_well():
    assert sentences(Step("mse", "mse", "J")) == [
        "J = ((3 − 1)² + (1 − 5)² + (5 − 5)² + (2 − 4)²)/4 = 6"
    ]
    html = Element("div")
    cells.draw(Step("mse", "mse", "J"), html)
    assert sentences(Step("linear", "linear", "Z"))[0] == "Z[0,0] = 1·1 + 2·(−1) + 10 = 9"


@pytest.fixture
def snippet(tmp_path, monkeypatch):
    """Return a function that puts a snippet in the place of all others."""

    def write(body, doctest):
        source = f'import torch\n\ndef grad_x(x):\n    """Say it.\n\n    {doctest}\n    """\n    {body}\n'
        path = tmp_path / "own.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("own", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(evidence, "load", lambda layer: module)

    return write


CALL = ">>> grad_x(torch.tensor([1., 3.]))"


def test_numbers_that_are_rounded_say_so(snippet):
    snippet("return x / 3", CALL)
    html = Element("div")
    cells.draw(Step("own", "grad_x"), html)
    assert "".join(next(html.iter("li")).itertext()) == "dJ_dx[0] ≈ 1/3 ≈ 0.3333"


def test_a_sentence_that_does_not_give_the_number_is_refused(snippet):
    snippet("return x * 2 if isinstance(x, torch.Tensor) else x * 3", CALL)
    with pytest.raises(ValueError, match=r"dJ_dx\[0\] is 2.0, and not 1·3"):
        Step("own", "grad_x")


def test_what_is_exact_is_held_to_every_digit(snippet):
    snippet("return x * 2 if isinstance(x, torch.Tensor) else x * 2.01", CALL)
    with pytest.raises(ValueError, match=r"dJ_dx\[0\] is 2.0, and not 1·2.01"):
        Step("own", "grad_x")


def test_the_figure_starts_with_the_entry_farthest_from_0(snippet):
    snippet("return -2 * x", CALL)
    assert Step("own", "grad_x").first == 1


@pytest.mark.parametrize(
    ("body", "doctest", "reason"),
    [
        ("return x.cumsum(0)", CALL, "`.cumsum` of a tensor can't be traced"),
        ("return x", ">>> 1", "the doctest of grad_x does not call it"),
        ("return x", ">>> grad_x(3)", "x is no tensor"),
    ],
)
def test_what_has_no_figure_says_why(snippet, body, doctest, reason):
    snippet(body, doctest)
    with pytest.raises(ValueError, match=re.escape(reason)):
        Step("own", "grad_x")


def test_a_doctest_may_call_by_keyword(snippet):
    snippet("return x * 2", ">>> grad_x(x=torch.tensor([1., 3.]))")
    assert sentences(Step("own", "grad_x"))[1] == "dJ_dx[1] = 3·2 = 6"


@pytest.mark.parametrize(
    ("body", "call"),
    [
        ("return x.sum(0)", ">>> grad_x(torch.ones(2, 2, 2, 2))"),
        ("return x.reshape(1, 1, 1, 2)", CALL),
    ],
)
def test_more_axes_than_a_figure_shows_are_refused(snippet, body, call):
    snippet(body, call)
    with pytest.raises(ValueError, match="x has 4 axes; a figure has room for 3"):
        Step("own", "grad_x")


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("linear.grad_Q", "snippets/linear.py has no function 'grad_Q'"),
        ("linaer.grad_W", "there is no snippets/linaer.py"),
        ("linear.linear", "the option `name`"),
        ("linear.grad_W\n    through: N Q", "no input has an axis 'Q'"),
        ("linear.grad_W\n    through: N D M", "makes no (N, D, M) on the way"),
    ],
)
def test_a_wrong_block_is_a_warning_with_file_and_line(convert, tmp_path, block, reason):
    html, warnings = convert(f"Text.\n\n/// cells | {block}\n///\n")
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{tmp_path / 'page.md'}:3: ") and reason in warnings[0]
    assert "cell-figure" not in html


def test_the_warning_is_of_the_page_that_is_built(convert, tmp_path):
    """Another page has the same block, and this one has it twice."""
    block = "/// cells | linear.grad_W_by_broadcast\n    through: N Q\n///\n"
    (tmp_path / "a_page.md").write_text(f"Text.\n\n{block}")
    right = block.replace("N Q", "N D M")
    fence = f"``` markdown\n{block}```\n"
    _, warnings = convert(f"{fence}\n{right}\n{block}\n{block}")
    places = [warning.partition(": ")[0] for warning in warnings]
    assert places == [f"{tmp_path / 'page.md'}:{line}" for line in (11, 15)]


def test_without_a_script_it_is_tables_and_sentences(convert):
    html, warnings = convert("/// cells | linear.grad_X\n///\n")
    assert warnings == []
    figure = fromstring(html)
    tables = list(figure.iter("table"))
    assert [table.find("caption").text for table in tables] == ["dJ_dZ", "W", "dJ_dX"]
    numbers = [[cell.text for cell in line.findall("td")] for line in tables[2].find("tbody")]
    assert numbers == [["1", "1"], ["0", "4"], ["1", "−1"]]
    assert [cell.get("scope") for cell in tables[0].iter("th")] == ["col"] * 2 + ["row"] * 3
    listed = ["".join(item.itertext()) for item in figure.iter("li")]
    assert listed == sentences(Step("linear", "grad_X"))
    # The entry to start with is explained, and its parts are marked.
    said = figure.find("p[@class='said']")
    assert "".join(said.itertext()) == listed[3]
    assert said.get("data-longest") == max(listed, key=len)
    assert [cell.text for cell in figure.iter("td") if cell.get("class")] == [
        "0",
        "2",
        "−1",
        "2",
        "4",
    ]


# ---- symbols ----

DECLARED = {
    "symbols": {"X": "N D", "W": "D M", "x_hat": "N"},
    "forward": "Z = X @ W",
    "arbitrary": {"J": "Z"},
    "indices": {"i": "N", "j": "D", "k": "M"},
    "latex": {"x": "X", "w": "W", "z": "Z", r"\mathbf{x}": "X", "W^{(1)}": "W"},
}


def marks(latex):
    names = symbols.names_of(read_declarations(DECLARED)["page"])
    root = fromstring(symbols.mark(mathml.to_mathml(latex), names))
    found = [(e.get("data-name"), e.get("data-letter")) for e in root.iter()]
    return [name or f"-{letter}" for name, letter in found if name or letter]


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"\frac{\partial J}{\partial Z}", ["dJ_dZ"]),
        (r"\frac{\partial J}{\partial z_{ik}}", ["dJ_dZ", "-i", "-k"]),
        (r"\frac{\partial z_{ik}}{\partial w_{jk}}", ["dZ_dW", "-i", "-k", "-j", "-k"]),
        (r"\mathbf{x}_i^T W^T", ["X", "-i", "W"]),
        (r"\sum_{i=1}^{N} x_{ij}", ["-i", "-N", "X", "-i", "-j"]),
        (r"W^{(1)}", ["W"]),
        (r"\hat{x}", ["x_hat"]),
        (r"\frac{1}{N} q \partial y", ["-N"]),
    ],
)
def test_a_symbol_is_marked_with_its_name(latex, expected):
    assert marks(latex) == expected


DECLARING = """---
proofread:
  symbols: {X: N D, W: D M}
  forward: Z = X @ W
  arbitrary: {J: Z}
  latex: {z: Z}
  indices: {i: N, k: M}
  sets:
    other:
      latex: {z: X}
---
"""
BESIDE = """
<!-- proofread: use page -->

<div class="beside" markdown>
<div markdown>

$$
\\frac{\\partial J}{\\partial z_{ik}}
$$

/// cells | linear.grad_X
///

</div>
</div>
"""


def test_formulas_beside_code_are_linked_and_others_are_left_alone(convert):
    html, _ = convert(BESIDE + "\n$$\n\\frac{\\partial J}{\\partial z_{ik}}\n$$\n", DECLARING)
    assert html.count("<linked-symbols") == 1
    assert html.count('<mfrac data-name="dJ_dZ">') == 1 and html.count("<mfrac>") == 1
    assert html.count("<cell-figure") == 1
    other, _ = convert(BESIDE.replace("use page", "use other"), DECLARING)
    assert '<mfrac data-name="dJ_dX">' in other


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("forward: Z = X @ W", "forward: Z = X @ V", 4),
        ("arbitrary: {J: Z}", "arbitrary: {J: Q}", 5),
        ("{X: N D, W: D M}", "{X: N D, W: D M}\n  sizes: {N: two}", 4),
        ("latex: {z: Z}\n  indices", "latex: {'z_{': Z}\n  indices", 2),
        ("latex: {z: X}", "latex: {'z': V}", 10),
        ("symbols", "sybmols", 3),
    ],
)
def test_wrong_front_matter_is_one_warning_at_its_key(convert, tmp_path, right, wrong, line):
    assert right in DECLARING
    body = BESIDE.replace("use page", "use other") if line > 6 else BESIDE
    with_proofs = [*EXTENSIONS, "extensions.proofs"]
    html, warnings = convert(body, DECLARING.replace(right, wrong), with_proofs)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{tmp_path / 'page.md'}:{line}: ")
    assert "<math" in html


def test_a_page_without_declarations_is_left_alone(convert):
    html, warnings = convert(BESIDE)
    assert warnings == [] and "<mfrac>" in html
