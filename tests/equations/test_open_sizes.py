"""Identities and ones of open size, total derivatives, and failures of a single draw."""

import pytest

from proofread.equations import check_text

MEAN = {"symbols": {"x": "n", "A": "n n"}, "forward": "y = A @ x - x.mean()"}
NORM = {"symbols": {"x": "n", "a": "n"}, "forward": "r = x - a"}
RNN = {
    "symbols": {"w": "scalar", "h0": "scalar", "x1": "scalar"},
    "forward": "h1 = torch.tanh(w * h0 + x1)\nh2 = w * h1",
}
HUBER = {
    "symbols": {"x": "n", "delta": {"shape": "scalar", "kind": "constant", "value": 0.8}},
    "forward": "l = torch.where(x.abs() <= delta, 0.5 * x**2, delta * x.abs())",
}
CASES = [
    (MEAN, r"\frac{\partial y}{\partial x} = A - \frac{1}{n} \mathbf{1}\mathbf{1}^T", "holds"),
    (MEAN, r"\frac{\partial y}{\partial x} = A - \frac{I}{n}", "fails"),
    (MEAN, r"\frac{\partial y}{\partial x} = A - I/n", "fails"),
    (MEAN, r"A + \frac{2I}{2} = A + I", "holds"),
    (MEAN, r"A + \frac{I}{2} = A + \frac12 I", "holds"),
    (MEAN, r"A + \frac{I}{2} = A + \frac12", "fails"),
    (MEAN, r"A + \exp(I) = A + e", "fails"),
    (
        NORM,
        (
            r"\frac{\partial}{\partial x} \frac{x-a}{\|x-a\|_2}"
            r" = \frac{I}{\|x-a\|_2} - \frac{(x-a)(x-a)^T}{\|x-a\|_2^3}"
        ),
        "holds",
    ),
    (RNN, r"\frac{\mathrm{d} h_2}{\mathrm{d} w} = h_1", "fails"),
    (RNN, r"\frac{d h_2}{d w} = h_1", "fails"),
    (RNN, r"\frac{\partial h_2}{\partial w} = h_1", "convention"),
    (
        HUBER,
        (
            r"\frac{\partial l_i}{\partial x_i} = \begin{cases} x_i & |x_i| \leq \delta \\"
            r" \delta & \text{otherwise} \end{cases}"
        ),
        "fails",
    ),
]


@pytest.mark.parametrize(("declared", "latex", "verdict"), CASES, ids=[c[1][:50] for c in CASES])
def test_verdict(declared, latex, verdict):
    report = check_text(f"$$\n{latex}\n$$", declarations=declared)
    assert [chain.verdict for chain in report.chains] == [verdict], report.chains[0].reason
