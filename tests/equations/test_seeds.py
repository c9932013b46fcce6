"""The checker finds by itself what the two seed documents get wrong."""

from pathlib import Path

from proofread.equations import check_file

PAGES = Path(__file__).with_name("pages")


def verdicts(name):
    report = check_file(PAGES / name)
    assert report.error == ""
    return {f.line: f for f in report.formulas}, (PAGES / name).read_text().splitlines()


def formula_with(name, part):
    found, lines = verdicts(name)
    return next(f for line, f in found.items() if part in " ".join(lines[line - 1 : line + 1]))


def test_seed_b_fails_where_its_author_erred_and_nowhere_else():
    found, _ = verdicts("seed_b_as_printed.md")
    assert [f.line for f in found.values() if not f.ok] == []
    assert sum(f.verdict == "fails" for f in found.values()) == 5
    assert sum(f.verdict == "holds" for f in found.values()) == 17


def test_seed_b_takes_the_2_twice():
    chain = formula_with("seed_b_as_printed.md", r"\frac{2}{N}\sum_{i=1}^{N} \frac").chains[0]
    first, second, third = chain.equalities
    assert first.verdict == second.verdict == "fails"
    assert third.verdict == "holds"
    assert set(first.indices) == {"i"}


def test_seed_b_diagonal_is_no_jacobian():
    chain = formula_with("seed_b_as_printed.md", r"\[\frac{\partial \mathbf{a}}").chains[0]
    assert "(5, 5)" in chain.reason and "(5, 1)" in chain.reason


def test_seed_b_columns_do_not_conform():
    for part in (r"{\partial w_{j}} = \frac", r"{\partial b} = \frac", r"\sum_{k: k \neq i}"):
        chain = formula_with("seed_b_as_printed.md", part).chains[0]
        assert "does not conform" in chain.reason
        assert [e.verdict for e in chain.equalities[2:]] == ["holds"] * len(chain.equalities[2:])


def test_seed_a_as_printed_and_with_its_minus():
    found, _ = verdicts("seed_a_as_printed.md")
    assert [f.line for f in found.values() if not f.ok and f.verdict != "unreadable"] == []
    unreadable = [f for f in found.values() if f.verdict == "unreadable"]
    assert [f.reason.split(";")[0] for f in unreadable] == [
        "`)` closes what is not open",
        "`v` is not declared",
    ]


def test_seed_a_sign():
    chain = formula_with("seed_a_as_printed.md", r"* (y-u) * 1 =").chains[0]
    assert [e.verdict for e in chain.equalities] == ["holds", "holds", "fails", "holds"]
    assert "-1 times" in chain.reason


def test_seed_a_cases_outside_the_sum():
    assert formula_with("seed_a_as_printed.md", r"\begin{align}").verdict == "fails"
