"""What the eye sees at once and no other test looks at: what is in line, what covers what, what is cut."""

import re

import pytest

from tests.checks import DEVICES, ROOT, drawn, opened, paths

DERIVATIONS = ["mse", "relu", "linear", "network", "layers"]


@pytest.fixture(params=DEVICES)
def device(browser, request):
    context = browser.new_context(**DEVICES[request.param])
    yield context.new_page()
    context.close()


def test_every_class_that_a_formula_asks_for_has_its_rule(site):
    """Temml leaves the alignment of columns, and some spaces, to a style sheet."""
    style = (ROOT / "docs/assets/site.css").read_text()
    asked = set()
    for path in paths(site):
        asked |= set(re.findall(r"\btml-[\w-]+", (site / path / "index.html").read_text("utf-8")))
    assert {"tml-right", "tml-left", "tml-jot"} <= asked
    assert {name for name in asked if f".{name}" not in style} == set()


@pytest.mark.parametrize("name", ["mse", "network"])
def test_the_equals_signs_of_a_derivation_stand_in_line(device, address, name):
    columns = opened(device, f"{address}derivations/{name}/").evaluate("""
        [...document.querySelectorAll("mtable.tml-jot")].map((table) =>
            [...table.querySelectorAll(":scope > mtr > mtd:nth-child(2)")].map((cell) =>
                Math.round(cell.querySelector("mo").getBoundingClientRect().left)))
    """)
    assert columns and all(len(lines) > 1 and len(set(lines)) == 1 for lines in columns), columns


@pytest.mark.parametrize("width", [820, 1280])
def test_numbers_of_a_measured_table_stand_under_each_other(browser, address, width):
    """At their right ends, as numbers do; the theme's own rule for tables says left."""
    page = opened(browser.new_page(viewport={"width": width, "height": 900}), f"{address}faster/")
    rows = page.evaluate("""
        [...document.querySelector("figure.measured tbody").rows].map((row) =>
            [...row.cells].map((cell) => getComputedStyle(cell).textAlign))
    """)
    wide = page.evaluate("""
        [...document.querySelectorAll("figure.measured .md-typeset__scrollwrap")].filter((box) =>
            box.scrollWidth > box.clientWidth).length
    """)
    page.close()
    assert len(rows) > 9 and {cell for row in rows for cell in row[1:]} == {"right"}
    assert {row[0] for row in rows} == {"left"}
    assert wide == 0


def test_a_measured_table_is_short_on_a_phone(browser, address):
    """A row is a card, with a line for each number, and says what it is a row of."""
    context = browser.new_context(**DEVICES["phone"])
    page = opened(context.new_page(), f"{address}faster/")
    lines = page.evaluate("""
        [...document.querySelector("figure.measured tbody").rows].map((row) =>
            row.getBoundingClientRect().height / row.cells.length)
    """)
    label = page.evaluate("""
        getComputedStyle(document.querySelector("figure.measured td"), "::before").content
    """)
    context.close()
    assert len(lines) > 9 and max(lines) < 30
    assert label == '"Form"'


@pytest.mark.parametrize("name", DERIVATIONS)
def test_the_mark_of_an_equation_covers_none_of_it(device, address, name):
    covered = opened(device, f"{address}derivations/{name}/").evaluate("""
        [...document.querySelectorAll("div.equation")].map((box) =>
            box.querySelector(".arithmatex").getBoundingClientRect().right
            - box.querySelector(".proof").getBoundingClientRect().left)
    """)
    assert len(covered) > 5 and max(covered) <= 0


def test_what_goes_on_beyond_an_edge_fades_there(browser, address):
    """A formula that is cut at a sign looks whole. At its end nothing fades on that side."""
    context = browser.new_context(**DEVICES["phone"])
    page = opened(context.new_page(), f"{address}derivations/linear/")
    wide = page.locator("div.arithmatex[tabindex='0']").first
    faded = "box => ['--before', '--after'].map(name => parseFloat(getComputedStyle(box).getPropertyValue(name)))"
    start = wide.evaluate(faded)
    wide.evaluate("box => box.scrollLeft = box.scrollWidth")
    drawn(page)
    end = wide.evaluate(faded)
    boxes = """
        [...document.querySelectorAll("div.arithmatex, pre > code")].map((box) =>
            [box.scrollWidth > box.clientWidth, getComputedStyle(box).maskImage !== "none"])
    """
    # The theme looks at its blocks of code when it comes to it.
    page.wait_for_function(f"{boxes}.every(([wide, masked]) => wide === masked)")
    masks = page.evaluate(boxes)
    context.close()
    assert start[0] == 0 < start[1] and end[1] == 0 < end[0]
    assert 0 < sum(wide for wide, _ in masks) < len(masks)


@pytest.mark.parametrize("path", ["notation/", "proofread/"])
def test_tables_of_words_fit_a_phone_and_break_no_name(browser, address, path):
    context = browser.new_context(**DEVICES["phone"])
    page = opened(context.new_page(), address + path)
    wide = page.evaluate("""
        [...document.querySelectorAll(".md-typeset__scrollwrap")]
            .map((box) => box.scrollWidth - box.clientWidth)
    """)
    lines = page.evaluate("""
        [...document.querySelectorAll("td:first-child code")].filter((code) => !/[ ,-]/.test(code.textContent))
            .map((code) => code.getClientRects().length)
    """)
    context.close()
    assert len(wide) > 1 and max(wide) <= 0
    assert len(lines) > 2 and max(lines) == 1


def test_a_diagnosis_breaks_its_lines_where_the_screen_ends(browser, address):
    """Broken once, and under where its words began: not broken for a terminal and again for a phone."""
    context = browser.new_context(**DEVICES["phone"])
    page = opened(context.new_page(), f"{address}derivations/linear/")
    said = page.locator(".diagnosis samp", has_text="extra_mean")
    lines = said.locator("span").all_text_contents()
    hint = said.locator("span", has_text="→").evaluate("""(line) => {
        const letter = document.createRange(), rows = {};
        const start = line.textContent.indexOf("→") + 2;
        for (let n = start; n < line.textContent.trimEnd().length; n++) {
            letter.setStart(line.firstChild, n);
            letter.setEnd(line.firstChild, n + 1);
            const { left, bottom } = letter.getBoundingClientRect();
            rows[Math.round(bottom)] ??= left;
        }
        return Object.values(rows);
    }""")
    context.close()
    assert (
        "    → A sum in the backward stays a sum. Look for a mean() or a division by a size.\n"
        in lines
    )
    first, *others = hint
    assert len(others) > 1 and all(left == pytest.approx(first, abs=1) for left in others)


def test_with_colours_of_the_reader_a_figure_still_points(browser, address):
    """Forced colours take backgrounds and shadows away; what is lit needs a line."""
    page = browser.new_page(forced_colors="active")
    opened(page, f"{address}derivations/linear/")
    figure = page.locator("cell-figure").first
    figure.locator(".matrix").nth(2).locator("tbody td").first.hover()
    outlines = {
        lit: figure.evaluate(
            "(box, lit) => [...box.querySelectorAll('tbody td')].filter(c => c.matches('.lit') === lit)"
            ".map(c => getComputedStyle(c).outlineStyle)",
            lit,
        )
        for lit in (True, False)
    }
    symbols = page.locator("linked-symbols .lit").evaluate_all(
        "found => found.map(symbol => getComputedStyle(symbol).outlineStyle)"
    )
    page.close()
    assert len(outlines[True]) == 7 and "none" not in outlines[True]
    assert set(outlines[False]) == {"none"}
    assert len(symbols) > 5 and "none" not in symbols


@pytest.mark.parametrize("path", ["ci/", "machines/", "derivations/linear/"])
def test_a_command_is_read_whole_on_a_phone(browser, address, path):
    context = browser.new_context(**DEVICES["phone"])
    page = opened(context.new_page(), address + path)
    cut = page.evaluate("""
        [...document.querySelectorAll(".language-console pre > code")]
            .map((code) => code.scrollWidth - code.clientWidth)
    """)
    context.close()
    assert cut and max(cut) <= 0
