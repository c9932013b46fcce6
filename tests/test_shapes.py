"""The calculator of shapes: its formulas against runs, its script against Python."""

import json
import re
from types import SimpleNamespace

import markdown
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from extensions import shapes
from extensions.costs import Formula, arguments_of, cost_of, measure
from extensions.diagnosis import sizes_from
from proofread.signatures import forward_of
from snippets import linear, mse, relu
from tests.checks import ROOT

FUNCTIONS = [
    *(linear.linear, linear.grad_W, linear.grad_b, linear.grad_X, linear.grad_W_by_broadcast),
    *(linear.grad_b_by_ones, relu.relu, relu.grad_Z, mse.mse, mse.grad_A),
]
SIZES = [{"N": 5, "D": 3, "M": 4}, {"N": 1, "D": 1, "M": 1}, {"N": 64, "D": 2, "M": 7}]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_formula_gives_what_a_run_with_real_memory_takes(function, sizes):
    cost, run = cost_of(function, sizes), measure(function, sizes, device="cpu")
    assert cost.multiplications.at(sizes) == sum(run.multiplications)
    assert cost.bytes.at(sizes) == sum(run.bytes)


@pytest.mark.parametrize("name", ["linear", "grad_W", "grad_X"])
def test_matrix_products_are_counted_as_torch_counts_them(name):
    """A floating-point operation is a multiplication or an addition; there are as many of each."""
    sizes = SIZES[0]
    function = getattr(linear, name)
    with FlopCounterMode(display=False) as flops:
        function(**arguments_of(function, sizes, "cpu"))
    assert 2 * cost_of(function, sizes).multiplications.at(sizes) == flops.get_total_flops() > 0


def test_multiplications_by_hand():
    """Counted with pencil and paper, from the lines of the functions."""
    by_hand = {
        linear.linear: "1*N*D*M",
        linear.grad_b: "0",
        relu.relu: "0",
        relu.grad_Z: "1*N*M",  # a mask times the upstream
        mse.mse: "1*N*M + 1",  # squares, and the mean's division
        mse.grad_A: "2*N*M",  # times 2, and divided
    }
    assert {f: str(cost_of(f, "NDM").multiplications) for f in by_hand} == by_hand


def test_every_axis_of_a_table_has_a_meaning_and_no_other():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    fields = re.findall(r"^/// shapes .*\n +sizes: (.*)$", pages, re.MULTILINE)
    assert {axis for text in fields for axis in sizes_from(text)} == set(shapes.MEANINGS)


def test_the_broadcast_form_makes_the_block():
    sizes = SIZES[0]
    X, dJ_dZ = arguments_of(linear.grad_W_by_broadcast, sizes, "cpu").values()
    block = X.unsqueeze(-1) * dJ_dZ.unsqueeze(1)
    assert block.nbytes in measure(linear.grad_W_by_broadcast, sizes, "cpu").bytes
    taken = cost_of(linear.grad_W_by_broadcast, "NDM").bytes
    assert taken[("N", "D", "M")] * sizes["N"] * sizes["D"] * sizes["M"] == block.nbytes
    assert shapes.show_bytes(taken.at({"N": 50_000, "D": 784, "M": 50})) == "7.84 GB"


def unknown(X: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    return torch.erfinv(X)


def loop(X: Float[Tensor, "N D"]) -> Float[Tensor, "D"]:
    return sum(2 * x for x in X)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (unknown, "in erfinv"),
        (loop, "loop repeats an operation in a loop"),
        (linear.grad_W_by_entry, "grad_W_by_entry repeats an operation in a loop"),
    ],
)
def test_what_has_no_formula_is_refused(function, reason):
    with pytest.raises(ValueError, match=reason):
        cost_of(function, "NDM")


def test_a_sum_is_no_product():
    with pytest.raises(ValueError, match="no small multiple"):
        Formula.of(1009 + 1013, {"N": 1009, "D": 1013})


def test_a_gradient_of_another_shape_is_refused():
    def grad_W(X: Float[Tensor, "N D"], dJ_dZ: Float[Tensor, "N M"]) -> Float[Tensor, "M D"]: ...

    layer = shapes.Layer("linear", [])
    layer.check()
    layer.gradients = [SimpleNamespace(function=grad_W, name="grad_W", wrt="W")]
    with pytest.raises(ValueError, match="grad_W returns"):
        layer.check()


BLOCK = """
/// shapes | linear relu mse
    sizes: N={N} D={D} M={M}
    also: linear.grad_W_by_broadcast
///
"""


def test_sizes_to_try_go_by_their_names():
    block = BLOCK.format(N=50000, D=784, M=1).replace(
        "\n///\n", "\n    try: M=50 N=1797 D=64; D=2 M=3 N=4\n///\n", 1
    )
    html = markdown.markdown(block, extensions=["extensions.shapes"])
    buttons = re.findall(r'<button data-sizes="([^"]*)" type="button">([^<]*)</button>', html)
    buttons = buttons or re.findall(r'<button type="button" data-sizes="([^"]*)">([^<]*)', html)
    assert buttons == [
        ("50000 784 1", "50,000 × 784 × 1"),
        ("1797 64 50", "1,797 × 64 × 50"),
        ("4 2 3", "4 × 2 × 3"),
    ]


CELL = re.compile(r'<span data-(sum|shape)="([^"]*)"(?: data-unit="\w+")?>([^<]*)</span>')


def cells(html):
    return [text for _, _, text in CELL.findall(html)]


def table(**sizes):
    return markdown.markdown(BLOCK.format(**sizes), extensions=["extensions.shapes"])


def test_the_table_has_the_shape_of_every_tensor():
    """Each tensor is made and asked; the table knows the annotations alone."""
    sizes = SIZES[0]
    tensors = {}
    for module in (linear, relu, mse):
        forward = forward_of(module)
        tensors |= arguments_of(forward, sizes, "cpu")
        tensors[shapes.Layer(module.__name__.rpartition(".")[2], []).output] = forward(
            **arguments_of(forward, sizes, "cpu")
        )
    html = table(**sizes)
    for name, tensor in tensors.items():
        row = html.split(f'<th scope="row"><code>{name}</code>')[1].split("</tr>")[0]
        size = " × ".join(map(str, tensor.shape)) or "1 number"
        assert cells(row) == [size, f"{tensor.nbytes} B"], name
    assert len(tensors) == 7
    assert "dJ_dA" in html and "dJ_dJ" not in html


# The script. Sizes of one, sizes that round up, and the largest there are.
ASKED = [(1, 1, 1), (3, 2, 7), (999, 1, 25), (50_000, 784, 50), (999_500, 1, 1), (10**9,) * 3]


@pytest.fixture
def calculator(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{address}notation/")
    yield page
    context.close()


def fill(page, **sizes):
    for name, size in sizes.items():
        page.get_by_label(re.compile(f"^{name} ")).fill(str(size))


def search(page):
    """Return what the address says; Playwright hears of a change a little later."""
    return page.evaluate("location.search")


def shown(page):
    return page.locator(
        "shape-calculator [data-sum], shape-calculator [data-shape]"
    ).all_inner_texts()


def test_the_script_gives_the_numbers_of_python(calculator):
    for N, D, M in ASKED:
        fill(calculator, N=N, D=D, M=M)
        assert shown(calculator) == cells(table(N=N, D=D, M=M)), (N, D, M)
        status = calculator.get_by_role("status").inner_text()
        assert status == f"Numbers for N = {N:,}, D = {D:,}, M = {M:,}"


@pytest.mark.parametrize("bad", ["", "0", "-3", "1.5", "1,5", "1e99", "ten", "1000000001"])
def test_a_size_that_is_none_is_said_at_its_field(calculator, bad):
    before = shown(calculator)
    fill(calculator, D=bad)
    field = calculator.get_by_label("D features in")
    assert field.get_attribute("aria-invalid") == "true"
    said = calculator.locator(f"#{field.get_attribute('aria-describedby')}").inner_text()
    assert said.startswith("D needs a whole number from 1 to 1,000,000,000")
    assert bad in said
    assert shown(calculator) == before
    assert search(calculator) == "", "no wrong size is passed on"
    assert "the last sizes that were right" in calculator.get_by_role("status").inner_text()
    fill(calculator, D="1,000")
    assert field.get_attribute("aria-invalid") == "false"
    assert "1,000 × 1" in shown(calculator)
    assert "last" not in calculator.get_by_role("status").inner_text()


@pytest.mark.parametrize("size", ["1,000", "1 000", "1_000", " 1000 "])
def test_a_size_may_have_its_digits_in_groups(calculator, size):
    fill(calculator, N=7, D=size, M=3)
    assert shown(calculator) == cells(table(N=7, D=1000, M=3))
    assert search(calculator) == "?N=7&D=1000&M=3"


def test_a_change_of_size_is_no_step_back(calculator):
    before = calculator.evaluate("history.length")
    fill(calculator, N=7, D=5, M=3)
    assert search(calculator) == "?N=7&D=5&M=3"
    assert calculator.evaluate("history.length") == before


def test_by_keyboard_and_by_address(calculator):
    calculator.get_by_label("N rows in the batch").focus()
    for _ in range(3):
        calculator.keyboard.press("Tab")
    calculator.keyboard.press("Tab")
    calculator.keyboard.press("Enter")
    assert "7.84 GB" in shown(calculator)
    assert calculator.url.endswith("?N=50000&D=784&M=50")
    expected = shown(calculator)
    calculator.reload()
    assert shown(calculator) == expected


def test_after_following_a_link(calculator):
    """Where the site's address is known, the page changes without a load."""
    calculator.goto(calculator.url.replace("notation/", ""))
    calculator.locator(".md-content").get_by_role("link", name="Notation").first.click()
    calculator.locator("shape-calculator").wait_for()
    fill(calculator, N=2, D=3, M=5)
    assert shown(calculator) == cells(table(N=2, D=3, M=5))


def test_every_box_of_the_map_is_reached_by_keyboard(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    reached = []
    page.locator(".chain a").first.focus()
    while page.evaluate("document.activeElement.closest('.chain') !== null"):
        reached.append(page.evaluate("document.activeElement.getAttribute('href')"))
        page.keyboard.press("Tab")
    links = [link for link in reached if link]
    assert len(links) == 14
    assert {link.removeprefix(address).partition("#")[0] for link in links} == {
        f"derivations/{layer}/" for layer in ("linear", "relu", "mse")
    }
    assert {link.partition("#")[2] for link in links} >= {"the-weights", "the-bias", "the-input"}
    context.close()


@pytest.mark.parametrize("width", [1280, 900, 390])
def test_the_map_cuts_off_no_formula(browser, address, width):
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(address)
    cut = page.evaluate(
        "[...document.querySelectorAll('.chain div.arithmatex, .chain li')]"
        ".filter(box => box.scrollWidth > box.clientWidth + 1 && !box.querySelector('.in, .out'))"
        ".map(box => box.textContent)"
    )
    assert cut == []
    context.close()


def test_without_scripts_the_table_is_there(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}derivations/linear/")
    assert page.get_by_text("7.84 GB").count() == 2
    assert not page.get_by_label("N rows in the batch").is_visible()
    context.close()


@given(st.integers(0, 10**30))
def test_units_round_as_they_should(number):
    text = shapes.show_bytes(number)
    value, unit = text.split()
    exact = number / 1000 ** shapes.UNITS.index(unit)
    assert abs(float(value) - exact) <= 0.00501 * max(exact, 1)
    assert 1 <= float(value) < 1000 or number == 0
    assert len(value.replace(".", "")) <= 3
    assert json.dumps(shapes.show_count(number))
