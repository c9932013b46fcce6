"""Rows that stay rows, slices, and diagonal matrices, as the site's own pages write them."""

import pytest

from proofread.equations import check_text

DECLARED = {
    "vectors": "rows",
    "symbols": {"X": "N D", "W": "D M", "b": "M", "w": "D"},
    "forward": "Z = X @ W + b\nA = torch.relu(Z)",
    "arbitrary": {"J": "A"},
    "indices": {"i": "N", "k": "M"},
    "latex": {
        r"\mathbf{x}": "X",
        r"\mathbf{z}": "Z",
        r"\mathbf{a}": "A",
        "z": "Z",
        "a": "A",
        r"\mathbf{w}": "w",
    },
}
TRUE = {
    "a column times a row": r"\frac{\partial J}{\partial W} = \sum_{i=1}^{N} \mathbf{x}_i^T \frac{\partial J}{\partial \mathbf{z}_i}",
    "a row times a matrix": r"\mathbf{z}_i = \mathbf{x}_i W + b",
    "a row times a column": r"\mathbf{x}_i \mathbf{w} = \sum_{j=1}^{D} X_{ij} w_j",
    "slices of columns": r"\frac{\partial J}{\partial X} = \sum_{k=1}^{M} \frac{\partial J}{\partial Z_{:,k}} W_{:,k}^T",
    "an entry of the transpose": r"W_{kj}^T = W_{jk}",
    "a diagonal of each row": r"""\frac{\partial \mathbf{a}_i}{\partial \mathbf{z}_i} = \begin{bmatrix}
        \frac{\partial a_{i1}}{\partial z_{i1}} & \cdots & 0 \\
        \vdots & \ddots & \vdots \\
        0 & \cdots & \frac{\partial a_{iM}}{\partial z_{iM}}
        \end{bmatrix}""",
}
FALSE = {
    "two rows": r"\frac{\partial J}{\partial W} = \sum_{i=1}^{N} \mathbf{x}_i \frac{\partial J}{\partial \mathbf{z}_i}",
    "the transpose on the wrong one": r"\frac{\partial J}{\partial W} = \sum_{i=1}^{N} \mathbf{x}_i \frac{\partial J}{\partial \mathbf{z}_i}^T",
    "rows of W for its columns": r"\frac{\partial J}{\partial X} = \sum_{k=1}^{M} \frac{\partial J}{\partial Z_{:,k}} W_{k,:}^T",
    "the same diagonal for each row": r"""\frac{\partial \mathbf{a}_i}{\partial \mathbf{z}_i} = \begin{bmatrix}
        \frac{\partial a_{11}}{\partial z_{11}} & \cdots & 0 \\
        \vdots & \ddots & \vdots \\
        0 & \cdots & \frac{\partial a_{1M}}{\partial z_{1M}}
        \end{bmatrix}""",
}


@pytest.mark.parametrize("name", TRUE)
def test_it_holds(name):
    report = check_text(f"$$\n{TRUE[name]}\n$$", declarations=DECLARED)
    assert [c.verdict for c in report.chains] == ["holds"], report.chains[0].reason


@pytest.mark.parametrize("name", FALSE)
def test_it_fails(name):
    report = check_text(f"$$\n{FALSE[name]}\n$$", declarations=DECLARED)
    assert [c.verdict for c in report.chains] == ["fails"]


@pytest.mark.parametrize("factor", ["", "2 "])
def test_a_lost_transpose_is_suggested(factor):
    latex = rf"\frac{{\partial J}}{{\partial W}} = {factor}\frac{{\partial J}}{{\partial Z}}^T X"
    (chain,) = check_text(f"$$\n{latex}\n$$", declarations=DECLARED).chains
    assert chain.verdict == "fails"
    assert chain.reason.endswith("one is the other transposed") == (not factor)


def test_vectors_is_one_of_two_words():
    report = check_text("$$x = x$$", declarations=DECLARED | {"vectors": "columns"})
    assert "vectors: 'columns' was given" in report.error
