"""What axe finds on the pages as they are read: at a desk and on a phone, light and dark."""

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe

from tests.checks import ALL_LAID_OUT, DEVICES, drawn, paths

# Contrast takes most of axe's time: it is asked for the first of the texts that look the same. And
# axe leaves a text of one character, or of mathematical letters, to a person; nearly all symbols are.
AXE = Axe(
    AXE_SCRIPT + "axe.configure({rules: [{id: 'color-contrast', selector: ':not([data-again])'}]})"
)
STRICT = {"color-contrast": {"options": {"ignoreLength": True, "ignoreUnicode": False}}}
# All rules but those for AAA and those that axe calls experimental.
OPTIONS = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "rules": {"target-size": {"enabled": True}},
    "checks": STRICT,
}
# What the scheme decides; the rest is the same in the other one.
OF_COLOURS = {
    "resultTypes": ["violations"],
    "runOnly": ["color-contrast", "link-in-text-block"],
    "checks": STRICT,
}

# Two texts look the same if colour and font are, and the nearest box around them that paints, fades
# or leaves its place is. What is hidden, or drawn, stands for nothing else.
MARK = """() => {
    const boxes = new Map(), seen = new Map();
    for (const element of document.body.querySelectorAll("*")) {
        const style = getComputedStyle(element);
        const plain = [style.backgroundColor, style.backgroundImage, style.opacity, style.filter,
            style.position].join() === "rgba(0, 0, 0, 0),none,1,none,static";
        const box = plain ? boxes.get(element.parentElement) ?? document.body : element;
        boxes.set(element, box);
        element.removeAttribute("data-again");
        const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        const shown = element.checkVisibility({visibilityProperty: true});
        if (!text || !shown || element instanceof SVGElement) continue;
        const { color, fontSize, fontWeight, textShadow } = style;
        const looks = [color, fontSize, fontWeight, textShadow].join();
        if (!seen.has(box)) seen.set(box, new Set());
        element.toggleAttribute("data-again", seen.get(box).has(looks));
        seen.get(box).add(looks);
    }
}"""


# What is far from the screen is not laid out until it comes near; axe, which looks at all of it, is
# shown each equation and block of code as it is then.
LAY_OUT = f"""
const sheet = new CSSStyleSheet();
sheet.replaceSync("{ALL_LAID_OUT}");
document.adoptedStyleSheets = [sheet];
"""


# A link half scrolled out of the list of pages is too small by what the edge of the list hides of it:
# it is judged where all of it is seen.
LARGE_IN_ITS_LIST = """selector => {
    const target = document.querySelector(selector);
    const list = target.closest(".md-sidebar__scrollwrap");
    if (!list) return false;
    target.scrollIntoView({block: "center", behavior: "instant"});
    const {top, bottom, width, height} = target.getBoundingClientRect();
    const edges = list.getBoundingClientRect();
    return top >= edges.top && bottom <= edges.bottom && width >= 24 && height >= 24;
}"""


def violations(page, options=OPTIONS):
    """Return what axe says of the page as it stands: the rule, the element, the reason."""
    page.evaluate(MARK)
    found = AXE.run(page, options=options).response["violations"]
    return [
        (page.url, fault["id"], node["target"], node["failureSummary"])
        for fault in found
        for node in fault["nodes"]
        if fault["id"] != "target-size" or not page.evaluate(LARGE_IN_ITS_LIST, node["target"][0])
    ]


def still(page):
    """Wait until nothing moves by itself: a colour on its way is none of the two."""
    page.wait_for_function("""
        document.getAnimations().every(a => a.timeline !== document.timeline || a.playState !== 'running')
    """)


def in_both_schemes(page):
    """Return what axe says by day and by night; the page stays with the scheme it comes to last."""
    page.evaluate("document.fonts.ready")
    still(page)
    found = violations(page)
    before = page.locator("body").get_attribute("data-md-color-scheme")
    other = f"input[name=__palette]:not([data-md-color-scheme={before}])"
    page.locator(other).evaluate("it => it.click()")
    page.wait_for_function("was => document.body.dataset.mdColorScheme !== was", arg=before)
    still(page)
    return found + violations(page, OF_COLOURS)


@pytest.fixture(params=list(DEVICES))
def page(browser, request):
    context = browser.new_context(**DEVICES[request.param])
    context.add_init_script(LAY_OUT)
    yield context.new_page()
    context.close()


@pytest.mark.slow
def test_no_page_has_a_fault(page, address, site):
    """Everything that can be unfolded is."""
    found = []
    for path in [*paths(site), "404.html"]:
        page.goto(address + path, wait_until="load")
        page.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
        found += in_both_schemes(page)
    assert found == []


@pytest.mark.slow
def test_what_opens_has_no_fault(page, address):
    """The search with results, the note of an equation, and on a phone the drawer."""
    page.goto(address + "derivations/relu/", wait_until="load")
    note = page.locator(".proof-note").first
    page.locator("div.equation > .proof").first.focus()
    found = in_both_schemes(page)
    assert note.is_visible()

    page.keyboard.press("/")
    page.keyboard.type("bias")
    page.locator(".md-search-result__item").first.wait_for()
    found += in_both_schemes(page)
    page.keyboard.press("Escape")

    menu = page.locator("label.md-header__button[for=__drawer]")
    if menu.is_visible():
        page.goto(address + "derivations/linear/", wait_until="load")
        menu.click()
        page.locator(".md-sidebar--primary").wait_for()
        found += in_both_schemes(page)
    assert found == []


def test_a_wide_equation_is_reached_by_keyboard(browser, address):
    """Only the boxes that scroll take part in the tab order."""
    context = browser.new_context(**DEVICES["phone"])
    page = context.new_page()
    page.goto(address + "derivations/linear/", wait_until="load")
    # What is far from the screen is laid out when it is read, and stays in the tab order.
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
    page.evaluate(LAY_OUT)
    drawn(page)
    wide, reached = (
        page.evaluate(
            "test => [...document.querySelectorAll('div.arithmatex')].map(box => eval(test))", test
        )
        for test in ("box.scrollWidth > box.clientWidth", "box.tabIndex === 0")
    )
    assert wide == reached
    assert 0 < sum(wide) < len(wide)
    context.close()
