"""Whatever is wrong with a block is one warning with file and line, and never a traceback."""

import pytest

from extensions import notebook, report

NAMES = ["cells", "curves", "diagnosis", "evidence", "machines", "measured", "shapes"]
EXTENSIONS = ["md_in_html", "pymdownx.superfences", *(f"extensions.{name}" for name in NAMES)]


FRONT = "---\ntitle: A page\n---\n"
SIZES = "sizes: N=5 D=3 M=4"
WRONG = [
    # What pymdownx leaves as text
    ("laddr", "there is no block 'laddr', but ladder"),
    ("nosuch | 1", "there is no block 'nosuch', but against-backward, cells, "),
    ("cells: linear.grad_W", "it is no directive; the form is"),
    ("cells", "cells needs an argument"),
    ("roofline | 64", "the argument '64' was given; roofline takes none"),
    ("cells | linear.grad_W | thru: N D M", "no option 'thru'; its options are through, name"),
    ("diagnosis | linear.grad_b_by_mean | zero: Z", "no option 'zero'; its options are sizes, "),
    ("probes | sizes: N=5", "no option 'sizes'; it takes none"),
    ("shapes | linear | sizes: 5", "sizes: 5 was given; text is needed"),
    ("shapes | linear | sizes: N: 5", "it can't be read; an option is"),
    # What there is not
    ("growth | Q", "growth needs one of N, D, M: 'Q'"),
    ("ladder | 77", "there is no benchmarks/results/ladder-77.json; there are "),
    ("cells | linear.grad_Q", "snippets/linear.py has no function 'grad_Q'"),
    ("diagnosis | nosuch.grad_W", "there is no mistakes/nosuch.py"),
    ("diagnosis | linear.nosuch", "mistakes/linear.py has no function 'nosuch'"),
    ("diagnosis | linear", "mistakes/linear.py has no function ''"),
    (
        "diagnosis | linear.grad_b_by_mean | zeros: Q",
        "zeros: there is no argument 'Q', but ['X', 'W', 'b']",
    ),
    (
        "diagnosis | linear.grad_b_by_mean | sizes: Q=3",
        "sizes: no argument has an axis 'Q', but ['D', 'M', 'N']",
    ),
    ("diagnosis | linear.grad_b_by_mean | sizes: N", "sizes: 'N' was given; the form is N=5 M=1"),
    ("evidence | nosuch", "there is no snippets/nosuch.py"),
    ("evidence | faster", "docs/derivations/faster.md can't be read"),
    ("curve | nosuch", "there is no figure 'nosuch', but relu, mse, weight, digits"),
    # Shapes
    ("shapes | nolayer | " + SIZES, "there is no snippets/nolayer.py"),
    ("shapes | network | " + SIZES, "snippets.network.forward has no table: return is tuple"),
    ("shapes | layers | " + SIZES, "layers has no table: snippets.layers has no function"),
    ("shapes | linear", "sizes: '' was given; a size for each of N, D, M is needed"),
    ("shapes | linear | sizes: N=5 D=3", "sizes: 'N=5 D=3' was given; a size for each of N, D, M"),
    ("shapes | linear | sizes: N=5 D=3 M=4 Q=1", "a size for each of N, D, M is needed"),
    ("shapes | linear | sizes: N=-3 D=3 M=4", "'N=-3' was given; the form is N=5 M=1, with whole"),
    ("shapes | linear | sizes: N=0 D=3 M=4", "numbers from 1 to 1,000,000,000"),
    ("shapes | linear | sizes: N=1000000001 D=3 M=4", "'N=1000000001' was given"),
    ("shapes | linear | sizes: N=5 N=6 D=3 M=4", "sizes: N is there twice"),
    (f"shapes | linear | {SIZES} | try: N=6", "try: 'N=6' was given; a size for each of N, D, M"),
    (f"shapes | linear | {SIZES} | try: A=1 B=2 C=3", "try: 'A=1 B=2 C=3' was given"),
    (f"shapes | linear | {SIZES} | try: N=0 D=1 M=1", "try: 'N=0' was given"),
    (
        f"shapes | linear | {SIZES} | also: linear.grad_W_by_brodcast",
        "also: 'linear.grad_W_by_brodcast' was given; other forms are linear.grad_W_by_entry, ",
    ),
    (f"shapes | linear | {SIZES} | also: relu.grad_Z", "'relu.grad_Z' was given; the layers are"),
    (
        f"shapes | linear | {SIZES} | also: linear.grad_W_by_entry",
        "grad_W_by_entry repeats an operation in a loop",
    ),
]


def written(block):
    """Return a directive: name, argument and options stand between the bars."""
    parts = block.split(" | ")
    first = next((n for n, part in enumerate(parts) if n and ": " in part), len(parts))
    return "\n".join(["/// " + " | ".join(parts[:first]), *(f"    {p}" for p in parts[first:])])


@pytest.mark.parametrize(("block", "reason"), WRONG, ids=[block for block, _ in WRONG])
def test_a_wrong_block_is_one_warning_with_file_and_line(convert, tmp_path, block, reason):
    html, warnings = convert(f"# Title\n\nText.\n\n{written(block)}\n///\n\nThe end.\n")
    assert len(warnings) == 1, warnings
    assert warnings[0].startswith(f"{tmp_path / 'page.md'}:8: ") and reason in warnings[0]
    assert "The end." in html and "<table" not in html and "cell-figure" not in html


def test_two_of_a_kind_have_their_own_lines(convert, tmp_path):
    """Each in a place of its own, and the ones with other faults between them."""
    page = """/// ladder | 77
///

<div markdown>

/// laddr | 77
///

-   An item.

    /// ladder | 77
    ///

</div>

``` markdown
/// ladder | 77
///
```

/// ladder | 77
    size: 5
///

/// ladder | 77
///

/// laddr | 77
///
"""
    _, warnings = convert(page)
    expected = [n for n, line in enumerate(page.split("\n"), 4) if "/// ladd" in line]
    del expected[3]  # in the fence
    found = [int(warning.split(":")[1]) for warning in warnings]
    assert sorted(found) == expected


def test_what_stands_inside_or_is_open_is_told(convert, tmp_path):
    _, warnings = convert("/// roofline\nsizes: N=5\n///\n")
    assert len(warnings) == 1 and "page.md:4: 'sizes: N=5' stands in it" in warnings[0]
    _, warnings = convert("Text.\n\n/// roofline\n\nMore.\n")
    assert len(warnings) == 1 and "page.md:6: it is not closed by `///`" in warnings[0]


@pytest.mark.parametrize(
    "page",
    ["``` markdown\n/// laddr\n///\n```", "    /// laddr\n    ///", "Say `/// laddr`.", "\\/// a"],
)
def test_a_directive_that_is_shown_is_none(convert, page):
    html, warnings = convert(f"Text.\n\n{page}\n")
    assert warnings == [] and "///" in html


def test_what_was_drawn_before_it_went_wrong_is_gone(convert, monkeypatch):
    def broken(parent):
        raise KeyError("rows")

    monkeypatch.setattr("extensions.measured.sizes", broken)
    html, warnings = convert("Text.\n\n/// ladder\n///\n")
    assert "KeyError: 'rows'" in warnings[0] and "<td" not in html


def test_the_page_is_looked_for_once(convert, monkeypatch):
    asked, page_of = [], report.page_of
    monkeypatch.setattr(report, "page_of", lambda text: asked.append(text) or page_of(text))
    others = ["proofs", "symbols", "mathml", "notebook"]
    convert(
        "# Title\n",
        extensions=["pymdownx.arithmatex", *EXTENSIONS, *(f"extensions.{n}" for n in others)],
    )
    assert len(asked) == 1


# ---- the links to a notebook ----

LINK = "This page as a notebook"


def test_the_title_is_no_comment_in_code(convert, tmp_path):
    path = tmp_path / "derivations" / "own.md"
    body = "``` python\n# a comment\n```\n\n# The title\n\nText.\n"
    html, warnings = convert(
        body, extensions=["extensions.notebook", "pymdownx.superfences"], path=path
    )
    assert warnings == []
    assert html.index("The title") < html.index(LINK) < html.index("Text.")


def test_a_derivation_without_a_title_is_a_warning(convert, tmp_path):
    path = tmp_path / "derivations" / "own.md"
    html, warnings = convert(
        "## Not a title\n\nText.\n", extensions=[notebook.makeExtension()], path=path
    )
    assert len(warnings) == 1 and warnings[0].startswith(f"{path}: it has no title")
    assert LINK not in html and "Text." in html
