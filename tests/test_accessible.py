"""What axe finds on the pages as they are read: at a desk and on a phone, light and dark."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.checks import DEVICES, paths

# All rules but those for AAA and those that axe calls experimental.
OPTIONS = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "rules": {"target-size": {"enabled": True}},
}


# What the scheme decides; the rest is the same in the dark.
OF_COLOURS = {"resultTypes": ["violations"], "runOnly": ["color-contrast", "link-in-text-block"]}


# A link half scrolled out of the list of pages is too small by what the edge of the list hides of it.
CUT = """selector => {
    const target = document.querySelector(selector);
    const list = target.closest(".md-sidebar__scrollwrap")?.getBoundingClientRect();
    const { top, bottom } = target.getBoundingClientRect();
    return Boolean(list) && (top < list.top || bottom > list.bottom);
}"""


def violations(page, options=OPTIONS):
    """Return what axe says of the page as it stands: the rule, the element, the reason."""
    found = Axe().run(page, options=options).response["violations"]
    return [
        (page.url, fault["id"], node["target"], node["failureSummary"])
        for fault in found
        for node in fault["nodes"]
        if not (fault["id"] == "target-size" and page.evaluate(CUT, node["target"][0]))
    ]


def settle(page):
    """Wait until all is laid out and nothing moves: a colour on its way is none of the two."""
    page.evaluate("document.fonts.ready")
    # What is far from the screen is laid out when it is read.
    page.evaluate(
        """async () => {
            const before = scrollY;
            for (let y = 0; y < document.body.scrollHeight; y += innerHeight) {
                scrollTo({top: y, behavior: "instant"});
                await new Promise(requestAnimationFrame);
            }
            scrollTo({top: before, behavior: "instant"});
        }"""
    )
    page.wait_for_function("document.getAnimations().every(a => a.playState !== 'running')")


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(params=list(DEVICES))
def page(browser, scheme, request):
    context = browser.new_context(color_scheme=scheme, **DEVICES[request.param])
    yield context.new_page()
    context.close()


@pytest.mark.slow
def test_no_page_has_a_fault(page, address, site, scheme):
    """Everything that can be unfolded is."""
    options = OPTIONS if scheme == "light" else OF_COLOURS
    found = []
    # All pages on one are the others once more, and take axe some minutes.
    for path in [*set(paths(site)) - {"everything/"}, "404.html"]:
        page.goto(address + path, wait_until="load")
        page.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
        settle(page)
        found += violations(page, options)
    assert found == []


@pytest.mark.slow
def test_what_opens_has_no_fault(page, address):
    """The search with results, the note of an equation, and on a phone the drawer."""
    page.goto(address + "derivations/linear/", wait_until="load")
    page.locator("div.equation > .proof").first.focus()
    assert page.locator(".proof-note").first.is_visible()
    settle(page)
    found = violations(page)

    page.goto(address + "derivations/linear/", wait_until="load")
    page.keyboard.press("/")
    page.keyboard.type("bias")
    page.locator(".md-search-result__item").first.wait_for()
    settle(page)
    found += violations(page)
    page.keyboard.press("Escape")

    menu = page.locator("label.md-header__button[for=__drawer]")
    if menu.is_visible():
        menu.click()
        page.locator(".md-sidebar--primary").wait_for()
        settle(page)
        found += violations(page)
    assert found == []


def test_a_wide_equation_is_reached_by_keyboard(browser, address):
    """Only the boxes that scroll take part in the tab order."""
    context = browser.new_context(**DEVICES["phone"])
    page = context.new_page()
    page.goto(address + "derivations/linear/", wait_until="load")
    settle(page)
    wide, reached = (
        page.evaluate(
            "test => [...document.querySelectorAll('div.arithmatex')].map(box => eval(test))", test
        )
        for test in ("box.scrollWidth > box.clientWidth", "box.tabIndex === 0")
    )
    assert wide == reached
    assert 0 < sum(wide) < len(wide)
    context.close()
