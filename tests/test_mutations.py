"""The mutation figures on the page belong to the equations on the pages."""

import ast
import json
import runpy
import sys

import markdown
import pytest

from benchmarks import mutations
from extensions import measured
from proofread.equations.mutate import mutate_file

RESULT = json.loads(mutations.RESULTS.read_text())["pages"]


def test_measured_equations_are_those_of_today():
    today = {
        p.relative_to(mutations.ROOT).as_posix(): mutations.fingerprint(p)
        for p in mutations.pages()
    }
    measured = {path: page["equations"] for path, page in RESULT.items()}
    assert measured == today, "an equation has changed: run `python -m benchmarks.mutations` again"


SCRIPTS = sorted(
    path
    for path in mutations.ROOT.glob("benchmarks/*.py")
    if '__name__ == "__main__"' in path.read_text()
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_says_what_the_docstring_says_and_measures_nothing(monkeypatch, capsys, script):
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    first = ast.get_docstring(ast.parse(script.read_text())).partition("\n\n")[0]
    assert " ".join(first.split()) in " ".join(capsys.readouterr().out.split())


def test_every_edit_that_changes_the_meaning_is_caught():
    assert [
        edit for page in RESULT.values() for edit in page["listed"] if edit["outcome"] != "same"
    ] == []
    assert sum(page["caught"] for page in RESULT.values()) > 1000


def test_an_edit_is_listed_with_the_line_of_today(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("$$a = a$$\n\nA sentence.\n\n$$b = b$$\n")
    edit = {"equation": 1, "kind": "sign", "before": "b", "after": "c", "reason": "why"}
    pages = {str(page): {"listed": [edit, edit | {"equation": 2}]}}
    monkeypatch.setattr(measured, "read", lambda name: {"pages": pages})
    shown = markdown.markdown("/// uncaught\n///", extensions=["extensions.measured"])
    assert "line 5, sign: <code>b</code>" in shown
    assert "line unknown" in shown
    page.write_text("One more.\n\n" + page.read_text())
    assert "line 7, sign" in markdown.markdown(
        "/// uncaught\n///", extensions=["extensions.measured"]
    )


# W and Y are there for the draws that they bring about: at one scale, no draw of these tells.
CASES = r"""---
proofread:
  vectors: rows
  symbols: {X: N D, W: D M, b: scalar, Y: N M, w: D, y: N}
  forward: J = (torch.relu(X @ w + b) - y).square().mean()
  latex: {'\mathbf{x}': X, '\mathbf{w}': w}
---
$$
\frac{\partial J}{\partial \mathbf{w}} = \frac{2}{N} \sum_{i=1}^{N} \begin{cases}
\mathbf{0} & \mathbf{x}_i \mathbf{w} + b \leq 0 \\
(\mathbf{x}_i \mathbf{w} + b - y_i) \, \mathbf{x}_i^T & \mathbf{x}_i \mathbf{w} + b > 0
\end{cases}
$$
"""


def test_a_condition_that_fails_on_small_data_alone_is_caught(tmp_path):
    """J > 0 nearly always where b > 0, unless the data is small: J is a square."""
    page = tmp_path / "page.md"
    page.write_text(CASES)
    found = mutate_file(page, most=1000)
    edits = [o for o in found.outcomes if (o.before, o.after) == ("b", "J")]
    assert edits and {o.outcome for o in edits} == {"caught"}
