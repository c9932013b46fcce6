"""The figure and the linked symbols in Chromium: by mouse, by keyboard, by touch, without a script."""

import gzip

import pytest
from playwright.sync_api import expect

from tests.checks import ROOT, opened

LINEAR, RELU = "derivations/linear/", "derivations/relu/"
LIT = "cells => cells.map(cell => cell.textContent)"
PAGES = sorted(p.stem for p in (ROOT / "docs/derivations").glob("*.md"))


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.problems = []
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield opened(page, address + LINEAR)
    context.close()
    assert page.problems == []


class Figure:
    """One figure of a page, and the box with the formula and the code around it."""

    def __init__(self, page, number=0):
        self.page, self.root = page, page.locator("cell-figure").nth(number)
        self.root.scroll_into_view_if_needed()
        self.box = self.root.locator("xpath=ancestor::linked-symbols")
        self.names = self.root.locator(".matrix p code").all_inner_texts()

    def cell(self, name, place):
        matrix = self.root.locator(".matrix").filter(
            has=self.page.locator(f"code:text-is('{name}')")
        )
        return matrix.locator("tbody td").nth(place)

    @property
    def said(self):
        return self.root.locator(".said [aria-live=polite]").inner_text()

    def lit(self):
        """Return the numbers that are lit, matrix by matrix."""
        return [m.locator("td.lit").all_inner_texts() for m in self.root.locator(".matrix").all()]

    def linked(self):
        """Return the names that are lit in the formula, and what is lit in the code."""
        formula = self.box.locator("math .lit").evaluate_all("all => all.map(e => e.dataset.name)")
        return set(formula), set(self.box.locator(".highlight .lit").all_inner_texts())


def test_by_mouse(page):
    figure = Figure(page)
    figure.cell("dJ_dW", 2).hover()
    assert figure.said == "dJ_dW[1,0] = 2·1 + 4·0 + 6·1 = 8"
    assert figure.lit() == [["2", "4", "6"], ["1", "0", "1"], ["8"]]
    assert figure.linked() == ({"dJ_dW", "X", "dJ_dZ"},) * 2
    figure.cell("X", 5).hover()
    assert figure.said == "X[2,1] = 6 goes into dJ_dW[1,:]"
    assert figure.lit() == [["6"], [], ["8", "10"]]
    page.mouse.move(0, 0)
    assert figure.linked() == (set(), set()), "the formula and the code are as they were"


def test_an_input_says_where_it_goes(page):
    figure = Figure(page, 3)
    figure.cell("W", 1).hover()
    assert figure.said == "W[0,1] = 0 goes into dJ_dX[:,0]"
    figure = Figure(page, 2)
    figure.cell("dJ_dZ", 1).hover()
    assert figure.said == "dJ_dZ[0,1] = 1 goes into dJ_db[1]"


def test_entries_are_named_together_only_where_they_are_all_of_a_row_or_block(page):
    figure = Figure(page)
    name = "([m, places]) => document.querySelector('cell-figure').entries(m, places)"
    assert figure.names == ["X", "dJ_dZ", "dJ_dW"]
    for m, places, named in [
        (0, [0, 2, 4], "X[:,0]"),
        (0, [0, 2], "X[0,0], X[1,0]"),
        (0, [0, 1, 2, 3, 4, 5], "X[:,:]"),
        (2, [0, 3], "dJ_dW[0,0], dJ_dW[1,1]"),
        (2, [0, 1, 2], "dJ_dW[0,0], dJ_dW[0,1], dJ_dW[1,0]"),
    ]:
        assert page.evaluate(name, [m, places]) == named


def test_a_slice_on_the_way(page):
    figure = Figure(page, 1)
    figure.root.locator(".matrix").nth(2).locator("td.lit, tbody td").nth(6).hover()
    assert figure.said == "[1,1,0] = 4·0 = 0"
    assert figure.lit() == [["4"], ["0"], ["0"], ["8"]]
    figure.cell("dJ_dW", 3).hover()
    assert figure.lit() == [["2", "4", "6"], ["1", "2", "0"], ["2", "8", "0"], ["10"]]


def test_by_keyboard(page):
    figure = Figure(page)
    grid = figure.root.locator("table[role=grid]").last
    assert grid.locator("[tabindex='0']").count() == 1, "one stop for the tab key"
    # From the matrix before, one press of Tab.
    figure.cell("dJ_dZ", 0).focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "10"
    heard = []
    for key in ["Home", "ArrowUp", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "End"]:
        page.keyboard.press(key)
        heard.append(figure.said.partition(" = ")[0])
        assert page.evaluate("document.activeElement.textContent") == figure.said.split()[-1]
    assert [text[6:-1] for text in heard] == ["1,0", "0,0", "0,1", "1,1", "1,1", "1,0", "1,1"]
    assert figure.linked()[0] == {"dJ_dW", "X", "dJ_dZ"}
    assert page.locator(":focus").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Escape")
    assert figure.lit() == [[], [], []] and figure.linked() == (set(), set())
    assert "arrow keys" in figure.said


def test_an_arrow_goes_on_in_the_next_slice(page):
    figure = Figure(page, 1)
    figure.root.locator(".matrix").nth(2).locator("tbody td").nth(0).focus()
    for key, entry in [
        ("ArrowRight", "[0,0,1]"),
        ("ArrowRight", "[1,0,0]"),
        ("ArrowDown", "[1,1,0]"),
        ("ArrowLeft", "[0,1,1]"),
        ("ArrowDown", "[0,1,1]"),
        ("Control+End", "[2,1,1]"),
        ("ArrowRight", "[2,1,1]"),
        ("Control+Home", "[0,0,0]"),
        ("ArrowLeft", "[0,0,0]"),
    ]:
        page.keyboard.press(key)
        assert figure.said.partition(" = ")[0] == entry, key


def test_by_touch(browser, address):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = opened(context.new_page(), address + RELU)
    figure = Figure(page)
    figure.cell("dJ_dZ", 1).tap()
    assert figure.said == "dJ_dZ[0,1] = −6·(2 > 0) = −6·1 = −6"
    assert figure.linked()[0] == {"Z", "dJ_dA", "dJ_dZ"}
    figure.box.locator("math [data-name=dJ_dA]").first.tap()
    assert figure.linked() == ({"dJ_dA"}, {"dJ_dA"}), "it stays when the finger is lifted"
    context.close()


def test_without_a_script(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + LINEAR)
    figure = page.locator("cell-figure").first
    figure.scroll_into_view_if_needed()
    expect(figure.locator("table")).to_have_count(3)
    expect(figure.locator("table").first).to_be_visible()
    expect(figure.locator(".said")).to_have_text("dJ_dW[1,1] = 2·1 + 4·2 + 6·0 = 10")
    expect(figure.locator("td.lit")).to_have_text(["2", "4", "6", "1", "2", "0", "10"])
    figure.locator("summary").click()
    third = figure.locator("li").nth(2)
    expect(third).to_be_visible()
    expect(third).to_have_text("dJ_dW[1,0] = 2·1 + 4·0 + 6·1 = 8")
    assert page.locator("[tabindex]", has=page.locator("td")).count() == 0
    context.close()


def test_after_a_change_of_page(page):
    """Material replaces the content: elements made of text have to come alive as well."""
    page.evaluate(
        """async (address) => {
            const text = await (await fetch(address)).text();
            const other = new DOMParser().parseFromString(text, "text/html");
            document.querySelector(".md-content").replaceWith(other.querySelector(".md-content"));
        }""",
        "../relu/",
    )
    figure = Figure(page)
    figure.cell("dJ_dZ", 2).hover()
    assert figure.said == "dJ_dZ[1,0] = 7·(3 > 0) = 7·1 = 7"
    assert figure.linked()[1] == {"Z", "dJ_dA"}


def test_a_symbol_and_its_name_light_each_other(page):
    box = page.locator("linked-symbols").first
    formula, code = box.locator("math .lit"), box.locator(".highlight .lit")
    box.locator("math msub[data-name=X] > mi").first.hover()
    assert set(code.all_inner_texts()) == {"X"} and formula.count() == 1
    box.locator(".highlight span:text-is('dJ_dZ')").last.hover()
    assert {e.get_attribute("data-name") for e in formula.all()} == {"dJ_dZ"}
    box.locator(".highlight span:text-is('i')").first.hover()
    assert set(formula.all_text_contents()) == {"i"} == set(code.all_inner_texts())
    page.mouse.move(0, 0)
    assert formula.count() + code.count() == 0


def test_a_row_is_named_after_its_tensor(page):
    box = page.locator("linked-symbols", has=page.locator("text=grad_W_by_row"))
    box.locator("math [data-name=X]").first.hover()
    assert set(box.locator(".highlight .lit").all_inner_texts()) == {"X", "x"}


def test_letters_are_their_own_and_a_transpose_is_no_name(page):
    """The length T of a sequence is not the T of `X.T`, and an index j is no J."""
    found = page.evaluate(
        """() => {
            const box = document.createElement("linked-symbols");
            box.innerHTML = `<math><mi data-letter="T"></mi><mi data-letter="j"></mi><mi data-name="W"></mi></math>
                <code class="highlight"><span>T</span><span>X</span><span>.</span><span>T</span><span>J</span>
                <span>w</span><span>t</span></code>`;
            document.body.append(box);
            box.find();
            return [...box.querySelectorAll(".highlight [data-name]")].map(e => e.textContent);
        }"""
    )
    assert found == ["T", "w"]


def test_symbols_by_keyboard(page):
    box = page.locator("linked-symbols").first
    box.focus()
    heard = []
    for key in ["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "Escape"]:
        page.keyboard.press(key)
        heard.append(box.locator(".status").inner_text())
    assert heard[0] == heard[2] != heard[1]
    assert heard[0] == "dJ_dW: 2 in the formula, 3 in the code"
    assert heard[-1] == "← → symbols" and box.locator(".lit:not(td)").count() == 0


def test_the_first_arrow_to_the_left_begins_at_the_end(page):
    box = page.locator("linked-symbols").first
    status = box.locator(".status")
    box.focus()
    page.keyboard.press("ArrowLeft")
    last = status.inner_text()
    assert last.partition(":")[0] == box.evaluate("box => [...box.places.keys()].at(-1)")
    page.keyboard.press("ArrowRight")
    first = status.inner_text()
    assert first.startswith("dJ_dW: ")
    page.keyboard.press("ArrowLeft")
    assert status.inner_text() == last != first


def test_no_light_stays_where_the_focus_has_left(page):
    box = page.locator("linked-symbols").first
    lit = box.locator("math .lit, .highlight .lit")
    box.focus()
    page.keyboard.press("ArrowRight")
    assert lit.count() > 0
    page.keyboard.press("Shift+Tab")
    assert lit.count() == 0


@pytest.mark.parametrize("script", ["cell-figure", "linked-symbols"])
def test_the_scripts_are_small(script):
    source = (ROOT / f"docs/assets/{script}.js").read_bytes()
    assert len(gzip.compress(source)) < 3_000


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_every_entry_of_every_figure(browser, address, name, width):
    """What is said is what is listed; nothing moves, and nothing is cut off."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    problems = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{address}derivations/{name}/")
    for number in range(page.locator("cell-figure").count()):
        figure = Figure(page, number)
        figure.root.locator("tbody td").first.hover()  # until it is seen, its height is a guess
        height = figure.root.bounding_box()["height"]
        listed = figure.root.locator("li").all_text_contents()
        said = set()
        for cell in figure.root.locator("tbody td").all():
            cell.hover()
            said.add(figure.said)
            assert figure.root.bounding_box()["height"] == pytest.approx(height, abs=0.1)
            assert cell.get_attribute("class") == "lit at"
        assert set(listed) <= said
        wide = "e => e.scrollWidth - e.clientWidth"
        assert figure.root.evaluate(wide) <= 0
    assert problems == []
    context.close()


def test_a_figure_takes_the_room_that_is_kept_for_it(browser, address):
    """Before it is laid out, the build says how high it is: nothing moves when it comes near."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    found = []
    for name in ("linear", "relu", "mse"):
        page.goto(f"{address}derivations/{name}/")
        found += page.evaluate("""() => {
            const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
            return [...document.querySelectorAll("cell-figure")].map((figure) => {
                const kept = parseFloat(figure.style.getPropertyValue("--height"));
                figure.style.contentVisibility = "visible";
                const { paddingTop, paddingBottom } = getComputedStyle(figure);
                const room = figure.clientHeight - parseFloat(paddingTop) - parseFloat(paddingBottom);
                return [kept, room / rem];
            });
        }""")
    page.close()
    assert len(found) == 6 and len({kept for kept, _ in found}) == 3
    assert all(kept == pytest.approx(room, abs=0.15) for kept, room in found), found


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_every_formula_beside_code_has_its_names_in_it(browser, address, name):
    """Of the arrays and gradients in a formula, some stand in the code beside it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    opened(page, f"{address}derivations/{name}/")
    for box in page.locator("linked-symbols").all():
        box.press("ArrowRight")  # names are looked up by the first use
        named = box.locator("math [data-name]").evaluate_all("all => all.map(e => e.dataset.name)")
        found = box.locator(".highlight [data-name]").evaluate_all(
            "all => all.map(e => e.dataset.name)"
        )
        assert set(named) & set(found), box.inner_text()
        tops = box.evaluate(
            "e => [...e.children].slice(0, 2).map(c => c.getBoundingClientRect().top)"
        )
        assert tops[0] == tops[1], "both columns start at the same height"
    context.close()
