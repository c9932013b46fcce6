"""Verdicts, conventions, vacuity, suggestions and the orders that a page gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proofread.__main__ import main
from proofread.equations import check_file, check_text

FORWARD = """
Z = X @ W + b
A = torch.relu(Z)
J = A.square().sum() / N
u = V @ x
h = torch.tanh(u)
E = (h * h).sum()
mu = y.mean()
c = y - mu
Q = (c ** 3).sum()
"""
LAYER = {
    "sizes": {"N": 5, "D": 3, "M": 4},
    "symbols": {"X": "N D", "W": "D M", "b": "M", "x": "D", "V": "M D", "y": "N"},
    "forward": FORWARD,
    "latex": {r"\mu": "mu"},
    "indices": {"i": "N", "k": "N", "j": "D", "m": "M"},
}


def chains(latex, given=LAYER, **changes):
    report = check_text(f"$$ {latex} $$", declarations={**given, **changes})
    assert report.error == ""
    return report.chains


def one(latex, given=LAYER, **changes):
    found = chains(latex, given, **changes)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("latex", "convention"),
    [
        (r"\frac{\partial u}{\partial x} = V^T", "denominator-layout"),
        (
            r"\frac{\partial E}{\partial x} = \frac{\partial u}{\partial x}\frac{\partial E}{\partial u}",
            "denominator-layout",
        ),
        (r"\frac{\partial E}{\partial x_j} = \frac{\partial E}{\partial u_m} V_{mj}", "einstein"),
        (r"\frac{\partial c_i}{\partial y_k} = \delta_{ik}", "direct-partial"),
        (
            r"\frac{\partial E}{\partial u} = \frac{\partial E}{\partial h} \odot \frac{\partial h}{\partial u}",
            "elementwise-derivative",
        ),
        (r"\frac{\partial E}{\partial h} \otimes h = 2 h \odot h", "otimes-elementwise"),
        (r"\frac{\partial E}{\partial x} = 0", "stationary"),
    ],
)
def test_a_convention_is_named_and_holds_where_declared(latex, convention):
    chain = one(latex)
    assert (chain.verdict, chain.convention) == ("convention", convention)
    assert convention in chain.reason
    if convention != "stationary":
        assert one(latex, conventions=[convention]).verdict == "holds"


@pytest.mark.parametrize(
    "latex",
    [
        r"\frac{\partial J}{\partial W} = \frac{\partial J}{\partial Z} X",
        r"\frac{\partial J}{\partial W} = \left(X^T \frac{\partial J}{\partial Z}\right)^T",
        r"\frac{\partial u}{\partial x} = 2 V^T",
        r"\frac{\partial E}{\partial x} = 2 V h",
        r"\frac{\partial E}{\partial x_j} = 2 \frac{\partial E}{\partial u_m} V_{mj}",
        r"\frac{\partial c_i}{\partial y_k} = 2 \delta_{ik}",
        r"\frac{\partial E}{\partial u} = h \odot \frac{\partial h}{\partial u}",
        r"V^T h + V^T u = 0",
        r"\frac{\partial E}{\partial x} = 3 V^T \frac{\partial E}{\partial u} = 0",
    ],
)
def test_an_error_never_passes_as_a_convention(latex):
    assert one(latex).verdict == "fails"


def test_a_lost_sum_is_no_einstein_convention_where_sums_are_written():
    lost = r"\frac{\partial E}{\partial x_j} = \frac{\partial E}{\partial u_m} V_{mj}"
    page = f"$$ E = \\sum_m h_m^2 $$\n\n$$ {lost} $$"
    assert [c.verdict for c in check_text(page, declarations=LAYER).chains] == ["holds", "fails"]


@pytest.mark.parametrize(
    ("latex", "said"),
    [
        (r"W_{jmi} = W_{jm}", "`j m i` has 3 indices, and the array 2 axes"),
        (r"W_{ijm} = W_{jm}", "`i j m` has 3 indices, and the array 2 axes"),
        (r"b_{mm} = b_m", "`m m` has 2 indices, and the array 1 axis"),
        (r"\sum_{i \in S} y_i = N \mu", "a sum over the set `S` is not read"),
        (r"\sum_{i \in \{1, 2\}} y_i = N \mu", "a sum over the set `"),
        (r"\nabla E = V^T \nabla_u E", "the gradient names nothing to derive by"),
        (r"u(q) = V x", "`q` is not declared"),
    ],
)
def test_what_has_no_meaning_is_unreadable_and_not_wrong(latex, said):
    chain = one(latex)
    assert chain.verdict == "unreadable"
    assert said in chain.reason


def test_a_gradient_by_nothing_is_by_the_only_array_there_is():
    given = {"symbols": {"x": "N"}, "forward": "J = (x ** 3).sum()"}
    assert one(r"\nabla J = 3 x \odot x", given).verdict == "holds"
    assert one(r"\nabla J = 2 x \odot x", given).verdict == "fails"


@pytest.mark.parametrize(
    ("true", "false"),
    [
        (r"h \odot V x = h \odot (V x)", r"h \odot V x = h \odot (V x) \odot h"),
        (r"V \odot V x = (V \odot V) x", r"V \odot V x = V x"),
    ],
)
def test_a_product_beside_an_elementwise_one_is_read_as_its_shapes_allow(true, false):
    assert (one(true).verdict, one(false).verdict) == ("holds", "fails")


def test_stationary_point_can_be_declared():
    given = {
        "symbols": {"X": "N D", "w": "D", "y": "N"},
        "forward": "L = ((X @ w - y) ** 2).sum()",
    }
    latex = r"w = (X^T X)^{-1} X^T y"
    assert one(latex, given).convention == "stationary"
    assert one(latex.replace("w =", "w = 2"), given).verdict == "fails"
    assert one(latex, given, stationary={"L": "w"}).verdict == "holds"


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        (r"\frac{1}{N} (X^T X w - X^T y)", "holds"),
        (r"\frac{1}{N} (X^T y - X^T X w)", "fails"),
        (r"X^T X w - X^T y", "fails"),
        (r"\frac{1}{N} \sum_i (y_i - w^T x_i) x_i", "fails"),
        ("0", "convention"),
    ],
)
def test_a_chain_from_the_gradient_is_no_stationary_point(last, verdict):
    given = {
        "symbols": {"X": "N D", "w": "D", "y": "N"},
        "forward": "J = 0.5 * (X @ w - y).square().mean()",
        "indices": {"i": "N"},
    }
    assert one(rf"\nabla_w J = \frac{{1}}{{N}} X^T (X w - y) = {last}", given).verdict == verdict


@pytest.mark.parametrize(
    ("factor", "said"),
    [("-", "-1 times"), ("2", "1/2 times"), (r"\frac{1}{2}", "2 times"), ("N", "1/N times"),
     (r"\frac{1}{N}", "N times"), (r"\frac{1}{NM}", "NM times"), ("7", "0.142857 times")],
)  # fmt: skip
def test_a_factor_is_named(factor, said):
    chain = one(
        rf"\frac{{\partial J}}{{\partial W}} = {factor} X^T \frac{{\partial J}}{{\partial Z}}"
    )
    assert chain.verdict == "fails"
    assert said in chain.reason


def test_which_equality_fails_and_where():
    chain = one(r"z_{im} = \sum_{j=1}^{D} x_{ij} w_{jm} + b_m = \sum_{j=1}^{D} x_{ij} w_{jm}")
    assert [e.verdict for e in chain.equalities] == ["holds", "fails"]
    bad = chain.equalities[1]
    assert set(bad.indices) == {"i", "m"}
    assert bad.left != bad.right


@pytest.mark.parametrize(
    ("latex", "said"),
    [
        (r"E = E", "itself"),
        (r"\frac{\partial E}{\partial y} = \frac{\partial E}{\partial W_{11}} y", "zero"),
        (r"h_m^2 = \begin{cases} h_m^2 & h_m^2 \ge 0 \\ 1 & h_m^2 < 0 \end{cases}", "branch"),
    ],
)
def test_a_check_that_could_not_fail_says_so(latex, said):
    chain = one(latex)
    assert chain.verdict == "holds"
    assert said in chain.vacuous


def test_no_index_varied_is_vacuous():
    given = {"sizes": {"N": 1}, "symbols": {"v": "N"}, "indices": {"i": "N"}}
    assert "no index" in one(r"v_i = v_1", given).vacuous


@pytest.mark.parametrize(
    "latex",
    [
        r"\frac{\partial J}{\partial Z_{im}} = \frac{2}{N} \max(0, z_{im})",
        r"{\partial J \over \partial b} = \mathbf{1}^T {\partial J \over \partial Z}",
        r"\partial J / \partial b_m = \sum_i \partial J / \partial Z_{im}",
        r"dE/dx = V^T (dE/du)",
        r"\nabla_{\!x} E = V^\top \nabla_u E",
        r"E = \langle h, h \rangle = \sum_m h_m^2 = h_1^2 + h_2^2 + \dots + h_M^2",
        r"\prod_{m=1}^M e^{h_m} = e^{h_1} e^{h_2} \cdots e^{h_M}",
        r"h = [h_1, h_2, \ldots, h_M]^T",
        r"\frac{\partial^2 E}{\partial h_m^2} = 2",
        r"\nabla_h^2 E = 2 I",
        r"\sum_{j'=1}^{D} x_{j'} = \mathbf{1}^T x",
        r"V^T h = \begin{bmatrix} v_{11} & v_{21} & v_{31} & v_{41} \\ v_{12} & v_{22} & v_{32} & v_{42} \\ v_{13} & v_{23} & v_{33} & v_{43} \end{bmatrix} h",
        r"\frac{\partial E}{\partial V} = \frac{\partial E}{\partial u} x^T = \frac{\partial E}{\partial u} \otimes x",
        r"a_{im} = z_{im} \mathbf{1}[z_{im} > 0] = z_{im} 1_{z_{im} > 0}",
    ],
)
def test_forms_in_print(latex):
    assert [c.verdict for c in chains(latex)] == ["holds"]


def test_shapes_are_checked():
    assert one(r"X \in \mathbb{R}^{N \times D}").verdict == "holds"
    assert one(r"X \in \mathbb{R}^{D \times N}").verdict == "fails"


@pytest.mark.parametrize(
    "latex", [r"x \leftarrow x - V^T u", r"x := x - V^T u", r"m = 1, \ldots, M"]
)
def test_what_claims_nothing_is_skipped(latex):
    assert {c.verdict for c in chains(latex)} == {"skipped"}


def test_conditions_beside_an_equation_bound_it():
    assert (
        one(r"\frac{\partial z_{km}}{\partial x_{ij}} = 0 \text{ for any } k \neq i").verdict
        == "holds"
    )
    assert one(r"\frac{\partial z_{km}}{\partial x_{ij}} = 0").verdict == "fails"


def test_definitions():
    page = r"$$ \delta_m = \frac{\partial E}{\partial u_m} $$ $$ \frac{\partial E}{\partial x} = V^T \delta $$"
    refused = check_text(page, declarations=LAYER)
    assert {c.verdict for c in refused.chains} == {"unreadable"}
    report = check_text(page, declarations={**LAYER, "defines": [r"\delta"]})
    assert [c.verdict for c in report.chains] == ["holds", "holds"]
    wrong = check_text(page.replace("V^T", "2V^T"), declarations={**LAYER, "defines": [r"\delta"]})
    assert [c.verdict for c in wrong.chains] == ["holds", "fails"]


def test_arbitrary_scalar_and_upstream():
    given = {"symbols": {"Z": "N M"}, "forward": "A = torch.relu(Z)", "upstream": {"G": "A"}}
    latex = r"\frac{\partial J}{\partial Z} = G \odot \mathbf{1}[Z > 0] = \frac{\partial J}{\partial A} \odot \mathbf{1}[Z > 0]"
    assert one(latex, given).verdict == "holds"
    assert one(latex.replace("Z > 0", "G > 0"), given).verdict == "fails"


# ---- pages ----

PAGE = r"""---
title: A page
proofread:
  symbols: {X: N D, w: D}
  forward: |
    z = X @ w
  sets:
    one:
      symbols: {x: D}
      forward: |
        z = x @ w
---
Text with `$a = b$` in code, and $z_i = \sum_j w_j x_{ij}$ in line.

<!-- proofread: skip, it is a figure of speech -->
$$ \text{love} = \heartsuit $$

<!-- proofread: use one -->

$$
\begin{aligned}
z &= w^T x \\
  &= \sum_j w_j x_j
\end{aligned}
$$

<!-- proofread: use page -->

<!-- proofread: fails -->
$$ z = 2 X w $$
"""


def write(tmp_path, text=PAGE, name="page.md"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_page(tmp_path):
    report = check_file(write(tmp_path))
    assert report.error == ""
    assert [(f.line, f.verdict) for f in report.formulas] == [
        (13, "holds"), (16, "skipped"), (20, "holds"), (30, "fails")
    ]  # fmt: skip
    assert report.formulas[1].exempt and "figure" in report.formulas[1].reason
    assert report.ok
    assert not check_file(write(tmp_path, PAGE.replace("z = 2 X w", "z = X w"))).ok


def test_declarations_apart_from_the_text():
    body = PAGE.split("---\n", 2)[2]
    given = {"symbols": {"X": "N D", "w": "D"}, "forward": "z = X @ w", "sets": {"one": {}}}
    report = check_text(body, "docs/x.md", declarations=given, line=13)
    assert report.formulas[0].line == 13


@pytest.mark.parametrize(
    ("order", "said"),
    [("skip", "needs a reason"), ("ignore it", "one of"), ("use two", "`two`"),
     ("convention denominator", "not known"), ("where i", "the form is")],
)  # fmt: skip
def test_orders_that_make_no_sense_are_one_clear_error(tmp_path, order, said):
    path = write(tmp_path, PAGE.replace("skip, it is a figure of speech", order))
    assert said in check_file(path).error


def test_results_are_kept_by_content(tmp_path, monkeypatch):
    sketches = tmp_path / "sketches"
    sketches.mkdir()
    (sketches / "helper.py").write_text("def scale(z):\n    return z\n")
    (sketches / "layer.py").write_text(
        "from sketches.helper import scale\n\ndef lin(X, w):\n    return scale(X @ w)\n"
    )
    text = PAGE.replace(
        "    z = X @ w\n", "    from sketches.layer import lin\n    z = lin(X, w)\n", 1
    )
    path = write(tmp_path, text)
    first = check_file(path, cache_dir=tmp_path / "cache")
    assert first.error == "" and first.ok
    monkeypatch.setattr("proofread.equations.verdict.Page.check", None)
    again = check_file(path, cache_dir=tmp_path / "cache")
    assert [c.as_dict() for c in again.chains] == [c.as_dict() for c in first.chains]
    monkeypatch.undo()
    (sketches / "helper.py").write_text("def scale(z):\n    return 3 * z\n")
    changed = check_file(path, cache_dir=tmp_path / "cache")
    assert changed.formulas[0].verdict == "fails"


TEX = r"""% proofread:
%   symbols: {X: N D, w: D}
%   forward: z = X @ w
\newcommand{\vect}[1]{\mathbf{#1}} \DeclareMathOperator{\total}{sum}
\begin{align} \vect{z} &= X \vect{w} \\ \total(z) &= \sum_i z_i \label{eq} \end{align}
% proofread: fails
\[ z = 2 X w \]
"""


def test_notebook_and_latex_file(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": PAGE.split("Text with")[0]},
        {"cell_type": "code", "source": "$$ z = 3 $$"},
        {"cell_type": "markdown", "source": ["first\n", "$$ z = X w $$\n"]},
    ]
    path = write(tmp_path, json.dumps({"cells": cells}), "n.ipynb")
    (formula,) = check_file(path).formulas
    assert (formula.cell, formula.line, formula.verdict) == (3, 2, "holds")
    report = check_file(write(tmp_path, TEX, "p.tex"))
    assert [c.verdict for c in report.chains] == ["holds", "holds", "fails"]
    assert report.ok


def test_command_line(tmp_path, capsys):
    path = write(tmp_path)
    assert main(["equations", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"{path}:13: holds: 1 equality" in said
    assert "3 holds" not in said and "2 holds, 1 fails, 1 skipped" in said
    bad = write(tmp_path, PAGE.replace("<!-- proofread: fails -->", ""), "bad.md")
    assert main(["equations", "--quiet", str(bad)]) == 1
    assert "the left side is 1/2 times the right" in capsys.readouterr().out
    assert main(["equations", "--json", str(path)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {"file", "line", "latex", "verdict", "equalities", "reason"} <= set(data[0])
    assert main(["mutate", "--json", str(path)]) == 0
    result = json.loads(capsys.readouterr().out)[0]
    assert result["edits"] > 10 and result["survivors"] == []
    assert result["caught"] + len(result["same"]) == result["edits"]


# A forward or a function of it that ends the program must not end the check as if all held.
EXITS = {
    "forward": "symbols: {x: N}\n  forward: exit(0)",
    "function": "symbols: {x: N}\n  functions: {f: exit(0)}",
}


@pytest.mark.parametrize("case", EXITS)
@pytest.mark.parametrize("command", ["equations", "mutate"])
def test_code_that_exits_is_an_error(tmp_path, capsys, command, case):
    page = f"---\nproofread:\n  {EXITS[case]}\n---\n$$ f(x) = f(x) $$\n"
    assert main([command, str(write(tmp_path, page))]) == 1
    printed = capsys.readouterr()
    assert "raised SystemExit: 0" in printed.out + printed.err


def test_a_function_that_exits_when_called_fails(tmp_path, capsys):
    given = "symbols: {x: N}\n  forward: 'def f(v): raise SystemExit'\n  functions: {f: f}"
    page = f"---\nproofread:\n  {given}\n---\n$$ f(x) = x $$\n"
    assert main(["equations", str(write(tmp_path, page))]) == 1
    assert "f raised SystemExit" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_a_cache_where_nothing_can_be_kept_is_one_sentence(tmp_path, capsys, place):
    path = write(tmp_path)
    cache = path if place == "a file" else path / "cache"
    assert main(["equations", "--cache", str(cache), str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: --cache {cache} can't be made a folder: ")
    assert len(printed.err.splitlines()) == 1 and not printed.out
    assert main(["equations", "--cache", str(tmp_path / "new/cache"), str(path)]) == 0


@pytest.mark.parametrize("most", ["-3", "0", "x", "1.5"])
def test_edits_are_counted_from_one(tmp_path, capsys, most):
    with pytest.raises(SystemExit) as ended:
        main(["mutate", "--most", most, str(write(tmp_path))])
    assert ended.value.code == 2
    assert f"'{most}' is given; a whole number above 0 is needed" in capsys.readouterr().err


def test_module_runs_on_a_missing_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "proofread", "equations", str(tmp_path / "none.md")],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 1
    assert "can't be read" in done.stdout
    assert "Traceback" not in done.stderr


def test_an_index_under_a_sum_stays_in_its_range():
    chain = one(r"\sum_{i=1}^{N} y_{i+1} = \sum_{i=1}^{N} y_i - y_1")
    assert chain.verdict == "fails"
    assert "leaves the range" in chain.reason
    assert one(r"\sum_{i=1}^{N-1} y_{i+1} = \sum_{i=1}^{N} y_i - y_1").verdict == "holds"
    assert one(r"\sum_{i=2}^{N} y_{i} = \sum_{i=1}^{N} y_i - y_1").verdict == "holds"


def test_a_swapped_index_is_named():
    chain = one(r"z_{im} = \sum_{j=1}^{D} x_{ji} w_{jm} + b_m")
    assert chain.verdict == "fails"
    assert "axis" in chain.reason


def test_numerator_layout_only_where_declared():
    latex = r"\frac{\partial J}{\partial W} = \left(\frac{\partial J}{\partial Z}\right) X"
    assert one(latex).verdict == "fails"
    assert one(latex, conventions=["numerator-layout"]).verdict == "holds"


def test_few_decisions_are_drawn_often():
    given = {
        "sizes": {"C": 4},
        "symbols": {"s": "C", "y": {"kind": "index", "below": "C"}},
        "forward": "L = torch.clamp(s - s[y] + 1, min=0).sum() - 1",
    }
    latex = r"\frac{\partial L}{\partial s_j} = \mathbb{1}(s_j - s_y + 1 > 0) \text{ for } j \neq y"
    assert one(latex, given).verdict == "holds"
    assert one(latex.replace("s_j - s_y", "s_j"), given).verdict == "fails"
