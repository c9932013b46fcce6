"""What people get wrong is caught: edits of the textbook chains, and what is not an error."""

from pathlib import Path

import pytest

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
