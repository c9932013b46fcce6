"""Every equation of the site holds, and almost every one is evaluated."""

import pytest

from benchmarks.mutations import pages
from proofread.equations import check_file

PAGES = pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page(page):
    report = check_file(page)
    assert report.ok, [f"{f.line}: {f.verdict}: {f.reason}" for f in report.formulas if not f.ok]
    assert report.vacuous == []
    counts = report.counts()
    assert counts["exempt"] * 20 <= counts["formulas"]
    assert counts["convention"] == 0
    assert report.largest_error < 1e-12


def test_no_page_is_missed():
    assert {page.stem for page in PAGES} >= {
        "index",
        "notation",
        "mse",
        "relu",
        "linear",
        "network",
        "layers",
    }
    assert sum(check_file(page).counts()["equalities"] for page in PAGES) > 120
