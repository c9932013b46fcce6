"""What people get wrong is caught: edits of the textbook chains, and what is not an error."""

from pathlib import Path

import pytest

from proofread.equations import mutate
from proofread.equations.mutate import KINDS, mutate_file

PAGES = sorted(Path(__file__).with_name("chains").glob("*.md"))


@pytest.mark.parametrize("page", PAGES[::3], ids=lambda page: page.stem)
def test_every_edit_is_caught_or_means_the_same(page):
    result = mutate_file(page, most=4)
    assert result.survivors == []
    assert result.caught > 20
    assert all(one.reason for one in result.same)
    assert {one.kind for one in result.outcomes} <= set(KINDS)


def test_an_edit_that_means_the_same_is_told_from_one_that_survives(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "---\nproofread:\n  symbols: {z: C}\n  forward: p = torch.softmax(z, 0)\n---\n"
        r"$$\frac{\partial p_i}{\partial z_j} = p_i (\delta_{ij} - p_j)$$"
    )
    result = mutate_file(page)
    assert result.survivors == []
    assert [(one.kind, one.before) for one in result.same] == [("swapped index", r"\delta_{i j}")]
    assert "symmetric" in result.same[0].reason
    assert "100.0%" in result.as_text()


def test_fresh_draws_are_made_where_the_page_defines_a_symbol_too(tmp_path, monkeypatch):
    """On fresh data that is wrong on purpose, an edit that means the same does not hold."""

    def wrong(declared, real=mutate._fresh_worlds):
        worlds = real(declared)
        for world in worlds:
            world.data["p"] = 2 * world.data["p"]
        return worlds

    page = tmp_path / "page.md"
    page.write_text(
        "---\nproofread:\n  symbols: {z: C}\n  forward: p = torch.softmax(z, 0)\n  defines: [q]\n---\n"
        "$$q_i = 2 p_i$$\n\n"
        r"$$\frac{\partial p_i}{\partial z_j} = \frac{1}{2} q_i (\delta_{ij} - p_j)$$"
    )
    assert r"\delta_{i j}" in [one.before for one in mutate_file(page).same]
    monkeypatch.setattr(mutate, "_fresh_worlds", wrong)
    assert [one.before for one in mutate_file(page).survivors] == [r"\delta_{i j}"]
