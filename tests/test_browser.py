"""The site in Chromium, at the widths of a desk and a phone, light and dark."""

import pytest

from tests.checks import paths


@pytest.mark.slow
# 320: a wide screen at 400 %.
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_pages_fit_and_are_quiet(browser, address, site, width, scheme):
    """No page scrolls sideways, logs an error, or asks another origin for anything."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    problems = []
    page.on("console", lambda m: problems.append((page.url, m.text)) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append((page.url, str(error))))
    # What the next page cuts short did not fail.
    page.on(
        "requestfailed",
        lambda request: (
            None
            if "ERR_ABORTED" in (request.failure or "")
            else problems.append((page.url, request.url))
        ),
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "data:", "blob:"))
            else problems.append((page.url, request.url))
        ),
    )
    visited = paths(site)
    assert len(visited) >= 11
    for path in visited:
        page.goto(address + path, wait_until="load")
        wide = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if wide > 0:
            problems.append((path, f"scrolls sideways by {wide} pixels"))
        shown = page.evaluate("document.body.getAttribute('data-md-color-scheme')")
        assert shown == {"light": "default", "dark": "slate"}[scheme]
    context.close()
    assert problems == []


def test_formulas_need_no_script(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + "derivations/linear/")
    assert page.locator("math").count() > 60
    box = page.locator("div.arithmatex math").first.bounding_box()
    assert box["height"] > 20
    context.close()
