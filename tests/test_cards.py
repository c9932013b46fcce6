"""What other sites show beside a link to a page: a card for each, with the page's own result."""

import doctest
import os
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.checks import ROOT, paths
from tests.conftest import ADDRESS
from tests.test_reading import DERIVATIONS, front_matter, metas, text
from tools import cards

PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "docs/notebooks/digits.py"]
SITE = "How a gradient becomes code"


def pixels(png):
    """Return the picture as (630, 1200, 3) bytes."""
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def test_each_page_names_its_card(site):
    named = set()
    for path in paths(site):
        found = metas(text(site, path))
        named.add(found["og:image"])
        file = site / found["og:image"].removeprefix(ADDRESS)
        assert file.stat().st_size < 80_000, path
        with Image.open(file) as picture:
            size = (found["og:image:width"], found["og:image:height"])
            assert tuple(map(str, picture.size)) == size == ("1200", "630"), path
            assert picture.format == "PNG" and picture.info.keys() <= {"transparency"}
        assert found["og:title"] in found["og:image:alt"], path
        assert found["og:description"][:100] in found["og:image:alt"], path
    assert len(named) == len(paths(site)) == len(PAGES)


@pytest.mark.parametrize("page", DERIVATIONS, ids=lambda p: p.stem)
def test_a_derivation_shows_its_result(site, page):
    result = page.read_text().split('<div class="result" markdown>')[1].split("</div>")[0]
    card = cards.read(page, SITE)
    assert card.latex in " ".join(result.split())
    assert f"Code: `{card.code}`" in result
    said = metas(text(site, f"derivations/{page.stem}"))["og:image:alt"]
    assert said.startswith(f"{front_matter(page)['title']}. ")
    assert "The formula of dJ/d" in said and said.endswith(f", and the code {card.code}")


def test_home_shows_the_result_of_a_page():
    home = cards.read(ROOT / "docs/index.md", SITE)
    linear = cards.read(ROOT / "docs/derivations/linear.md", SITE)
    assert home.code and (home.latex, home.code) == (linear.latex, linear.code)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_nothing_is_cut(page):
    """All that is written stays off the edges; the large letter behind a text is cut on purpose."""
    card = cards.read(page, SITE)
    written = (pixels(cards.draw(card)) < 200).any(-1)
    rows, columns = np.nonzero(written[:, 30:].any(1))[0], np.nonzero(written[:, 30:].any(0))[0]
    assert rows.min() > 50 and rows.max() < 600
    assert columns.min() + 30 > 80 and columns.max() + 30 < 1150
    assert written[:, 30:].sum() > 10_000


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"latex": r"\begin{aligned} a \end{aligned}"}, "Unknown symbol|Expected"),
        ({"latex": r"\frac{a"}, "Expected"),
        ({"latex": "a = " + " + ".join("abcdefghijklmnopqrstuvw" * 2)}, "too wide"),
        ({"code": "X.T @ dJ_dZ " * 10}, "too wide"),
        ({"description": "Far too much for a card. " * 20}, "too long"),
        ({"title": "A title of many words " * 8, "latex": "", "code": ""}, "too long"),
    ],
)
def test_what_does_not_fit_is_refused(changes, reason):
    given = {"title": "A", "description": "B.", "latex": "a = b", "code": "b"} | changes
    with pytest.raises(cards.Misfit, match=reason):
        cards.draw(cards.Card(SITE, **given))


def test_the_examples_hold():
    assert doctest.testmod(cards) == (0, 3)


SMALL = """\
---
title: A page
description: With one result.
---

<div class="result" markdown>

$$
FORMULA
$$

Code: `X.T`

</div>
"""


def build(folder, formula, address):
    """Build a site of one page with the site's own script; return the run and its cards."""
    (folder / "docs").mkdir()
    (folder / "docs/index.md").write_text(SMALL.replace("FORMULA", formula))
    script = ROOT / "tools/cards_of_build.py"
    settings = f"site_name: S\nsite_url: '{address}'\nplugins: [gen-files: {{scripts: [{script}]}}]"
    (folder / "mkdocs.yml").write_text(settings)
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder / "site"],
        check=False, cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    return run, [p.name for p in (folder / "site").rglob("*.png") if "cards" in p.parts]


def test_a_build_makes_cards(tmp_path):
    run, made = build(tmp_path, r"X^T", "https://example.org/")
    assert run.returncode == 0, run.stderr
    assert made == ["index.png"]


def test_a_formula_without_a_card_fails_the_build(tmp_path):
    run, made = build(tmp_path, r"\operatornam{X}", "https://example.org/")
    assert run.returncode == 1 and made == []
    assert "docs/index.md:9: no card for this page: " in run.stderr


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:8000/"], ids=["none", "served"])
def test_a_site_nobody_can_link_to_has_no_cards(tmp_path, address):
    run, made = build(tmp_path, r"X^T", address)
    assert run.returncode == 0, run.stderr
    assert made == []
