"""What the extensions do with pages that are not as they should be."""

from xml.etree.ElementTree import Element, SubElement

import pytest

from extensions import diagnosis, evidence, external, mathml
from extensions.mathml import to_mathml

EXTENSIONS = [
    "md_in_html",
    "pymdownx.superfences",
    "pymdownx.arithmatex",
    "extensions.proofs",
    "extensions.mathml",
]
SETTINGS = {"pymdownx.arithmatex": {"generic": True}}
FRONT = """---
proofread:
  symbols: {x: N, y: N}
  forward: J = (x - y).square().sum()
---
"""


RIGHT = "\n$$\n\\frac{\\partial J}{\\partial x_i} = 2 (x_i - y_i)\n$$\n"


def test_a_right_equation_gets_its_mark(convert):
    html, warnings = convert(RIGHT)
    assert warnings == []
    assert html.count('class="proof holds"') == 1
    assert "Holds: 1 equality, both sides evaluated" in html
    assert "<math" in html and "\\frac" not in html


def test_a_wrong_equation_is_a_warning_with_file_and_line(convert, tmp_path):
    _, warnings = convert(RIGHT.replace("2 (", "("))
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{tmp_path / 'page.md'}:7: fails")


def test_every_build_says_it_again(convert):
    """A cached verdict is a verdict."""
    wrong = RIGHT.replace("x_i - y_i", "y_i - x_i")
    assert convert(wrong)[1] == convert(wrong)[1] != []


def test_an_unreadable_equation_is_a_warning(convert):
    _, warnings = convert(RIGHT.replace("y_i", "q_i"))
    assert "unreadable" in warnings[0] and "q" in warnings[0]


def test_a_check_that_could_not_fail_is_a_warning(convert):
    _, warnings = convert("\n$$\nJ = J\n$$\n")
    assert "could not fail" in warnings[0]


def test_a_wrong_declaration_is_a_warning(convert):
    _, warnings = convert(RIGHT, FRONT.replace("symbols", "sybmols"))
    assert "sybmols" in warnings[0]


def test_an_exempt_equation_says_why(convert):
    html, warnings = convert("\n<!-- proofread: skip, told as a story -->\n\n$$\nJ = q\n$$\n")
    assert warnings == []
    assert 'class="proof skipped"' in html and "Not checked: told as a story" in html


def test_an_equation_that_is_wrong_on_purpose_must_be_wrong(convert):
    wrong = RIGHT.replace("2 (", "(")
    html, warnings = convert("\n<!-- proofread: fails -->\n" + wrong)
    assert warnings == [] and "Wrong on purpose" in html
    _, warnings = convert("\n<!-- proofread: fails -->\n" + RIGHT)
    assert len(warnings) == 1


def test_a_formula_that_temml_refuses_is_a_warning_with_its_source(convert):
    html, warnings = convert("\nInline $\\frac{x$ is broken.\n")
    assert any("no MathML for this formula" in warning for warning in warnings)
    assert "\\frac{x" in html


BROKEN = r"\frac{x"
PLACES = {
    "inline": (["An $\\frac{x$ here."], [7]),
    "display": (["$$", BROKEN, "$$"], [8]),
    "over two lines": (["$$", "1 +", BROKEN, "$$"], [8]),
    "brackets": ([r"\[", BROKEN, r"\]"], [8]),
    "beside code": (
        ['<div class="beside" markdown>', "<div markdown>", "", "$$", BROKEN, "$$", ""]
        + ["</div>", "</div>"],
        [11],
    ),
    "in a list": (["- An item:", "", "    $$", f"    {BROKEN}", "    $$"], [10]),
    "in a list, over two lines": (
        ["- An item:", "", "    $$", "    1 +", f"    {BROKEN}", "    $$"],
        [10],
    ),
    "twice": (["$$", BROKEN, "$$", "", "$$", BROKEN, "$$"], [8, 12]),
    "inline and display": (["An $\\frac{x$ here.", "", "$$", BROKEN, "$$"], [7, 10]),
    "after a fence that shows it": (
        ["``` markdown", "$$", BROKEN, "$$", "```", "", "$$", BROKEN, "$$"],
        [14],
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_warning_has_the_line_of_the_formula(convert, tmp_path, name):
    """On this page, though another has the same formula."""
    (tmp_path / "a_page.md").write_text(f"$$\n{BROKEN}\n$$\n\nThe end.\n")
    body, expected = PLACES[name]
    _, warnings = convert("\n" + "\n".join(body) + "\n")
    refused = [w for w in warnings if "no MathML" in w]
    assert [w.partition(": ")[0] for w in refused] == [
        f"{tmp_path / 'page.md'}:{line}" for line in expected
    ]


@pytest.mark.parametrize("address", ["https://example.org", "http://example.org"])
def test_a_link_to_another_site_is_marked_besides_its_own_classes(address):
    root = Element("p")
    links = [SubElement(root, "a", {"class": "wide", "href": to}) for to in (address, "b.md")]
    external.ExternalTreeprocessor().run(root)
    assert [link.get("class") for link in links] == ["wide external", "wide"]


def test_less_than_and_ampersand_reach_temml():
    assert "&lt;" in to_mathml("x < y")


def test_evidence_of_a_broken_snippet_does_not_hold():
    assert evidence.gather("linear").holds
    assert not evidence.Evidence(10, 1, 3, 1e-16).holds
    assert not evidence.Evidence(10, 0, 3, 1e-3).holds


def test_no_error_is_written_as_zero():
    assert ("0", "largest relative error, float64") in evidence.facts(
        evidence.Evidence(10, 0, 3, 0.0)
    )


def test_diagnosis_names_a_mistake():
    found = diagnosis.examine("linear", "grad_b_by_mean", {})
    assert not found.ok and found.mistakes[0].label == "extra_mean"


def test_sizes_have_a_form():
    assert diagnosis.sizes_from("N=5 M=1") == {"N": 5, "M": 1}
    with pytest.raises(ValueError, match="the form is N=5 M=1"):
        diagnosis.sizes_from("N: 5")


def test_a_formula_that_waits_takes_about_its_height():
    row = r"\frac{a}{b} & c"
    heights = [
        mathml.height(mathml.to_mathml(latex, True))
        for latex in (
            "x",
            r"\frac{a}{b}",
            r"\sum_{i=1}^N x_i",
            rf"\begin{{matrix}}{row} \\ {row}\end{{matrix}}",
        )
    ]
    assert heights == sorted(set(heights))
    assert heights[-1] == 4.4
