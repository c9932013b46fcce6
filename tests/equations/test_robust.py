"""Whatever comes in ends in a verdict or one clear error, in time."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proofread.equations import check_file, check_text
from proofread.equations.parse import parse
from proofread.equations.problem import Unreadable
from proofread.equations.tree import to_latex
from proofread.equations.verdict import RANK

GIVEN = {
    "sizes": {"N": 4, "D": 3},
    "symbols": {"X": "N D", "w": "D", "b": "scalar", "y": "N"},
    "forward": "z = X @ w + b\na = torch.relu(z)\nJ = (a - y).square().mean()",
}
PIECES = st.sampled_from(
    [
        r"x",
        r"w",
        r"X",
        r"b",
        r"z",
        r"a",
        r"J",
        r"y",
        r"N",
        r"D",
        r"i",
        r"j",
        r"k",
        r"1",
        r"2",
        r"0",
        r"+",
        r"-",
        r"=",
        r"\cdot",
        r"\odot",
        r"(",
        r")",
        r"[",
        r"]",
        r"{",
        r"}",
        r"_",
        r"^",
        r"_i",
        r"_{ij}",
        r"^T",
        r"^2",
        r"^{(i)}",
        r"\frac",
        r"\partial",
        r"\sum_{i=1}^N",
        r"\sum_k",
        r"\sqrt",
        r"\log",
        r"\exp",
        r"\max",
        r"\begin{bmatrix}",
        r"\end{bmatrix}",
        r"&",
        r"\\",
        r"\begin{cases}",
        r"\end{cases}",
        r"\ldots",
        r"\vdots",
        r"\text{if}",
        r"\nabla_w",
        r"\hat",
        r"\mathbf{x}",
        r",",
        r";",
        r"'",
        r"/",
        r"|",
        r"\|",
        r"\left",
        r"\right.",
        r"\neq",
        r"\ge",
        r"\in",
        r"\mathbb{R}^{N}",
        r"\delta_{ij}",
        r"\mathbf{1}",
        r"e^{z_i}",
        r"\frac{\partial",
        r"J}{\partial",
        r"w_j}",
        r"\tanh",
        r"\sigma",
        r"\operatorname{diag}",
        r"\underbrace",
        r"%",
        r"$",
        r"#",
        r"~",
        r"\,",
        r"é",
        r"∂",
        r"\foo",
    ]
)
# Seconds of processor time: what ends at all ends in a hundredth of it.
FOREVER = 10
SLOW = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@SLOW
@given(st.lists(PIECES, max_size=25).map(" ".join))
def test_any_formula_ends_in_a_verdict(latex):
    start = time.process_time()
    report = check_text(f"$$ {latex} $$", declarations=GIVEN, seconds=2.0)
    assert time.process_time() - start < FOREVER
    assert report.error == "" or isinstance(report.error, str)
    for chain in report.chains:
        assert chain.verdict in RANK
        assert chain.verdict != "unreadable" or chain.reason
        json.dumps(chain.as_dict())


@SLOW
@given(st.text(max_size=60))
def test_any_text_ends_in_a_report(text):
    for page in (text, f"$${text}$$", f"---\nproofread: {text}\n---\n$$x = y$$"):
        report = check_text(page, seconds=2.0)
        assert report.error or all(chain.verdict in RANK for chain in report.chains)


@SLOW
@given(st.lists(PIECES, max_size=20).map(" ".join))
def test_printing_and_parsing_again_gives_the_same(latex):
    try:
        tree = parse(latex)
    except Unreadable:
        return
    assert parse(to_latex(tree)) == tree


@pytest.mark.parametrize(
    ("latex", "part"),
    [
        ("{" * 3000 + "x" + "}" * 3000 + " = y", "deep"),
        ("(" * 3000, "deep"),
        ("x = " + "y + " * 30_000 + "y", "characters"),
        (r"x = \frac{a}{", "closed"),
        (r"x = \foo y", r"`\foo`"),
        (r"w = q", "`q` is not declared"),
        (r"z_i = \log w_1 w_2", "can be meant"),
    ],
)
def test_what_is_not_understood_is_said(latex, part):
    start = time.process_time()
    chains = check_text(f"$${latex}$$", declarations=GIVEN).chains
    assert time.process_time() - start < FOREVER
    assert {c.verdict for c in chains} == {"unreadable"}
    assert part in " ".join(c.reason for c in chains)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"symbols": {"x": {"shape": "N", "kind": "prime"}}}, "kind `prime`"),
        ({"symbol": {}}, "`symbol` is no key"),
        ({"symbols": {"x": "N"}, "forward": "y = x +"}, "forward, line 1"),
        ({"symbols": {"x": "N"}, "forward": "y = x @ q"}, "NameError"),
        ({"symbols": {"x": "N"}, "forward": "1 / 0"}, "ZeroDivisionError"),
        ({"symbols": {r"\hat{x}": "N"}}, "no name in code"),
        ({"sizes": {"N": 10_000_000}, "symbols": {"x": "N"}}, "small sizes"),
        ({"sizes": {"N": "M M"}, "symbols": {"x": "N"}}, "no size"),
        ({"symbols": {"i": {"kind": "index"}}}, "below"),
        ({"conventions": ["denominator"]}, "denominator-layout"),
        ({"latex": {"x y": "z"}, "symbols": {"z": ""}}, "not one name"),
        ({"symbols": [1]}, "a mapping"),
    ],
)
def test_a_bad_declaration_gives_one_clear_error(given, part):
    report = check_text("$$ x = y $$", declarations=given)
    assert part in report.error
    assert not report.ok


def test_bad_files(tmp_path):
    large = tmp_path / "large.md"
    large.write_text("$$ x = y $$\n" * 900_000)
    assert "at most" in check_file(large).error
    odd = tmp_path / "odd.md"
    odd.write_bytes(b"\xff\xfe$$ x = y $$\x81")
    assert "UTF-8" in check_file(odd).error
    assert "can't be read" in check_file(tmp_path / "none.md").error
    notebook = tmp_path / "n.ipynb"
    notebook.write_text("[1, 2")
    assert "no notebook" in check_file(notebook).error
    front = tmp_path / "front.md"
    front.write_text("---\nproofread: [a: b: c\n---\n$$ x = y $$\n")
    assert "front matter, line" in check_file(front).error


def test_an_endless_forward_is_stopped():
    given = {"symbols": {"x": "N"}, "forward": "while True: pass"}
    start = time.process_time()
    report = check_text("$$ x = x $$", declarations=given, seconds=0.5)
    assert time.process_time() - start < FOREVER
    assert "time" in report.error + " ".join(c.reason for c in report.chains)


@pytest.mark.parametrize(
    "piece", ["$", "$ ", r"\begin{align}", "`", "` ", "<!-- ", "<pre>", r"\[", r"\(", "```\n"]
)
def test_openers_without_closers_take_one_pass(piece):
    start = time.process_time()
    assert check_text(piece * 20_000).formulas == []
    assert time.process_time() - start < FOREVER


def test_code_and_comments_are_passed_over():
    page = """
`$a = b$` and ``\\(a = b\\)`` <!-- $a = b$ --> <pre>$$a = b$$</pre>

```python
$$ a = b $$
```

~~~
\\[ a = b \\]
~~~

--8<-- "$a = b$"

```math
w = w_1
```

$5 and $6, $w_1 = 2$ and $ w_2 = 3 $ and $w$
"""
    found = [f.latex.strip() for f in check_text(page, declarations=GIVEN).formulas]
    assert found == ["w = w_1", "w_1 = 2", "w_2 = 3"]
