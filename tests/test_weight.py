"""What a visit costs over the wire, compressed, and that nothing moves while a page arrives."""

import pytest

from tests.checks import DEVICES, ROOT, paths

DERIVATIONS = [
    f"derivations/{page.stem}/" for page in sorted((ROOT / "docs/derivations").glob("*.md"))
]
FIRST_VISIT, NEXT_PAGE = 250_000, 60_000
LARGEST_SHIFT = 0.02
WATCH_SHIFTS = """
window.shifted = 0;
new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) shifted += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""


class Visit:
    """A browser with an empty cache, and what the server has sent it."""

    def __init__(self, browser, server, device):
        self.context = browser.new_context(**DEVICES[device])
        self.page = self.context.new_page()
        self.page.add_init_script(WATCH_SHIFTS)
        _, self.sent = server
        self.sent.clear()

    def arrived(self):
        """Wait until nothing more comes; return the bytes that came since the last call."""
        total = -1
        while total != (total := sum(size for _, size in self.sent)):
            self.page.wait_for_timeout(300)
        self.sent.clear()
        return total

    def open(self, address):
        self.page.goto(address, wait_until="load")
        return self.arrived()

    def follow(self, path):
        """Go to a page by its link in the navigation; say whether the page stayed loaded."""
        self.page.evaluate("window.stayed = true")
        # On a phone the links are in the drawer; a click is a click.
        link = self.page.locator(f".md-nav--primary a[href$='{path}']")
        link.first.evaluate("link => link.click()")
        self.page.wait_for_url(f"**/{path}")
        size = self.arrived()
        return size, self.page.evaluate("window.stayed === true")

    def shift(self):
        """Scroll to the end, and return by how much things moved since the page was opened."""
        for _ in range(8):
            self.page.mouse.wheel(0, self.page.evaluate("document.body.scrollHeight / 8"))
            self.page.wait_for_timeout(40)
        return self.page.evaluate("shifted")


@pytest.fixture(params=list(DEVICES))
def visit(browser, server, request):
    visit = Visit(browser, server, request.param)
    yield visit
    visit.context.close()


@pytest.mark.slow
def test_a_first_visit(browser, server, address):
    for path in DERIVATIONS:
        visit = Visit(browser, server, "phone")
        assert 100_000 < visit.open(address + path) <= FIRST_VISIT, path
        visit.context.close()


@pytest.mark.slow
def test_the_next_page(visit, address):
    """By its address, with what the browser has kept of the first page."""
    visit.open(address)
    for path in DERIVATIONS:
        assert 5_000 < visit.open(address + path) <= NEXT_PAGE, path


@pytest.mark.slow
def test_the_next_page_by_its_link(visit, address):
    """Instant navigation takes the page alone, and keeps what is loaded."""
    visit.open(address + DERIVATIONS[0])
    for path in DERIVATIONS[1:]:
        size, stayed = visit.follow(path.removeprefix("derivations/"))
        assert stayed, path
        assert 5_000 < size <= NEXT_PAGE, path
        assert visit.page.evaluate("shifted") < LARGEST_SHIFT, path


@pytest.mark.slow
def test_nothing_moves(visit, address, site):
    """Neither while a page arrives, nor while it is read to its end."""
    for path in paths(site):
        visit.open(address + path)
        assert visit.shift() < LARGEST_SHIFT, path


@pytest.mark.slow
def test_nothing_moves_in_the_middle_of_a_page(visit, address):
    """Where a link to a section leads, formulas that were not laid out yet come into sight."""
    visit.open(address + "derivations/linear/")
    sections = visit.page.locator(".md-typeset :is(h2, h3)[id]").evaluate_all(
        "headings => headings.map(heading => heading.id)"
    )
    assert len(sections) > 15
    for section in sections:
        visit.page.goto("about:blank")
        visit.page.goto(f"{address}derivations/linear/#{section}", wait_until="load")
        visit.page.wait_for_timeout(150)
        assert visit.page.evaluate("shifted") < LARGEST_SHIFT, section
