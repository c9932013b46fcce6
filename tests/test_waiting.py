"""The measured waiting times belong to the pages of today, and reach what is asked of them."""

import json

import pytest

from benchmarks import lighthouse, reading


@pytest.mark.parametrize("script", [reading, lighthouse], ids=lambda s: s.__name__)
def test_what_was_measured_is_what_is_there(script):
    result = json.loads(script.RESULTS.read_text())
    assert result["code"] == reading.fingerprint(), (
        f"what a page loads has changed: run `python -m {script.__name__}` again"
    )


def test_a_page_is_ready_soon_on_a_slow_phone():
    result = json.loads(reading.RESULTS.read_text())
    assert result["variants"]["MathML, as on this site"]["ready_s"]["median"] <= 2.0
    assert result["sooner"]["median"] >= 3
    assert result["formulas_s"]["median"] < 0.3
    mathml, mathjax = result["variants"].values()
    assert mathjax["paint_s"]["median"] < mathml["paint_s"]["median"]


def test_lighthouse_finds_nothing_to_mend():
    scores = json.loads(lighthouse.RESULTS.read_text())["scores"]
    assert scores.pop("Performance")["median"] >= 97
    assert {title: score["median"] for title, score in scores.items()} == {
        "Accessibility": 100,
        "Best Practices": 100,
        "SEO": 100,
    }
