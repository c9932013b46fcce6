"""Textbook chains hold, and the wrong twin of each fails."""

from pathlib import Path

import pytest

from proofread.equations import check_file

PAGES = sorted(Path(__file__).with_name("chains").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_true_chains_hold_and_twins_fail(page):
    report = check_file(page)
    assert report.error == ""
    wrong = [(f.line, f.verdict, f.reason) for f in report.formulas if not f.ok]
    assert wrong == []
    true = [f for f in report.formulas if not f.expected]
    assert [(f.line, f.verdict) for f in true if f.verdict != "holds"] == []


def test_there_are_enough_of_them():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert text.count("proofread: fails") >= 60
