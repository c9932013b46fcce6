"""Forms as courses write them: each true one holds, and its false twin does not."""

import pytest

from proofread.equations import check_text


def verdicts(latex, given):
    report = check_text(f"$$ {latex} $$", declarations=given)
    assert report.error == ""
    return [(chain.verdict, chain.reason) for chain in report.chains]


def holds(latex, given):
    found = verdicts(latex, given)
    assert [verdict for verdict, _ in found] == ["holds"], found


def fails(latex, given):
    found = verdicts(latex, given)
    assert [verdict for verdict, _ in found] == ["fails"], found


SOFTMAX = {
    "sizes": {"K": 4},
    "symbols": {"z": "K", "y": {"shape": "K", "kind": "probability"}, "W": "K K"},
    "forward": "p = torch.softmax(z, 0)\nh = W @ z\nL = -(y * torch.log(p)).sum()",
    "indices": {"i": "K", "j": "K"},
}


@pytest.mark.parametrize(
    ("true", "false"),
    [
        (r"\partial_{z_j} L = p_j - y_j", r"\partial_{z_j} L = y_j - p_j"),
        (r"\partial_z L = p - y", r"\partial_z L = p + y"),
        (r"\partial_{\mathbf{z}} h = W", r"\partial_{\mathbf{z}} h = 2W"),
        (
            r"\partial_{z_j} p_i = p_i (\delta_{ij} - p_j)",
            r"\partial_{z_j} p_i = p_i (\delta_{ij} - p_i)",
        ),
        (r"\partial_z L = \partial_p L \partial_z p", r"\partial_z L = \partial_p L p"),
        (
            r"\frac{\partial_{z_i} L}{\partial_{z_j} L} = \frac{p_i - y_i}{p_j - y_j}",
            r"\frac{\partial_{z_i} L}{\partial_{z_j} L} = 1",
        ),
        (
            r"\partial_{z_i} \partial_{z_j} L = p_i (\delta_{ij} - p_j)",
            r"\partial_{z_i} \partial_{z_j} L = p_i (\delta_{ij} + p_j)",
        ),
    ],
)
def test_partial_with_a_subscript(true, false):
    holds(true, SOFTMAX)
    fails(false, SOFTMAX)


@pytest.mark.parametrize(
    "latex", [r"\partial_z p h = W", r"\partial_{z p} L = p", r"\partial_z = p"]
)
def test_partial_with_a_subscript_refused(latex):
    assert verdicts(latex, SOFTMAX)[0][0] == "unreadable"


NG = {
    "sizes": {"N": 5, "D": 3, "M": 4},
    "symbols": {"A1": "D N", "W2": "M D"},
    "forward": "Z2 = W2 @ A1\nA2 = torch.tanh(Z2)\nJ = (A2 ** 3).sum()",
    "functions": {"g^{[2]}": "torch.tanh"},
}


@pytest.mark.parametrize(
    ("true", "false"),
    [
        (
            r"\frac{\partial J}{\partial W^{[2]}} = \frac{\partial J}{\partial Z^{[2]}} A^{[1]^T}",
            r"\frac{\partial J}{\partial W^{[2]}} = -\frac{\partial J}{\partial Z^{[2]}} A^{[1]^T}",
        ),
        (
            r"\frac{\partial J}{\partial A^{[1]}} = W^{[2]^{\top}} \frac{\partial J}{\partial Z^{[2]}}",
            r"\frac{\partial J}{\partial A^{[1]}} = 2 W^{[2]^{\top}} \frac{\partial J}{\partial Z^{[2]}}",
        ),
        (
            r"\frac{\partial J}{\partial Z^{[2]}} = \frac{\partial J}{\partial A^{[2]}} \odot g^{[2]'}(Z^{[2]})",
            r"\frac{\partial J}{\partial Z^{[2]}} = \frac{\partial J}{\partial A^{[2]}} \odot g^{[2]}(Z^{[2]})",
        ),
    ],
)
def test_scripts_inside_a_label(true, false):
    holds(true, NG)
    fails(false, NG)


SIDE_BY_SIDE = {
    "sizes": {"N": 5},
    "symbols": {"z": "N", "g": "N"},
    "forward": "a = torch.sigmoid(z)\ns = a - a * a\nq = g * s\nr = g * z",
}


@pytest.mark.parametrize(
    ("true", "false"),
    [
        (r"s = \sigma(z)(1 - \sigma(z))", r"s = \sigma(z)(1 + \sigma(z))"),
        (r"q = g \odot a (1 - a)", r"q = g \odot a (1 + a)"),
        (r"r = g z", r"r = g^T z"),
    ],
)
def test_vectors_side_by_side_are_a_convention(true, false):
    report = check_text(f"$$ {true} $$", declarations=SIDE_BY_SIDE)
    assert [c.verdict for c in report.chains] == ["convention"]
    assert [c.convention for c in report.chains] == ["elementwise-product"]
    declared = {**SIDE_BY_SIDE, "conventions": ["elementwise-product"]}
    holds(true, declared)
    fails(false, SIDE_BY_SIDE)
    fails(false, declared)


CONSTANT = {
    "symbols": {"z": "N"},
    "forward": "k = 2.0\nm = len(z)\nL = k * (z ** 2).sum() / m",
    "latex": {r"\kappa": "k", r"\mu": "m"},
    "indices": {"i": "N"},
}


def test_a_number_of_the_forward_is_a_constant():
    holds(r"\frac{\partial L}{\partial z_i} = \frac{2 \kappa z_i}{\mu}", CONSTANT)
    fails(r"\frac{\partial L}{\partial z_i} = \frac{3 \kappa z_i}{\mu}", CONSTANT)
    fails(r"\frac{\partial L}{\partial z_i} = 2 \kappa z_i \mu", CONSTANT)
    assert verdicts(r"\frac{\partial L}{\partial \kappa} = z^T z", CONSTANT)[0][0] != "holds"


def test_a_number_of_the_forward_takes_no_index_its_letter():
    looped = {
        "symbols": {"z": "N"},
        "forward": "t = 0.0\nfor i in range(len(z)):\n    t = t + z[i] ** 2\nL = t",
        "latex": {r"\kappa": "i"},
        "indices": {"i": "N"},
    }
    holds(r"\frac{\partial L}{\partial z_i} = 2 z_i", looped)
    fails(r"\frac{\partial L}{\partial z_i} = 2 z_i + \kappa", looped)


def test_a_size_and_pi_stay_what_they_are():
    given = {
        "symbols": {"z": "N"},
        "forward": "L = math.pi * z.mean()",
        "latex": {"n": "N", r"\pi": "pi"},
    }
    holds(r"\frac{\partial L}{\partial z_i} = \frac{\pi}{n}", given)
    fails(r"\frac{\partial L}{\partial z_i} = \frac{\pi}{2n}", given)


def test_a_name_is_not_near_itself():
    given = {**CONSTANT, "latex": {r"\kappa": "f"}, "forward": "f = torch.exp\nL = f(z).sum()"}
    verdict, reason = verdicts(r"L = \kappa", given)[0]
    assert verdict == "unreadable"
    assert r"near it: `\kappa`" not in reason


PICKED = {
    "sizes": {"N": 5, "K": 4},
    "symbols": {"z": "K", "Z": "N K", "y": {"shape": "N", "kind": "index", "below": "K"}},
    "forward": (
        "p = torch.softmax(z, 0)\nP = torch.softmax(Z, 1)\nL = -torch.log(P[torch.arange(N), y])\n"
        "a = torch.relu(z)"
    ),
    "latex": {"y_i": "y", "L_i": "L"},
    "indices": {"i": "N", "j": "K", "k": "K", "m": "K"},
}
APART = r"\frac{\partial p_k}{\partial z_j} = -p_k p_j"
WRONG = r"\frac{\partial p_k}{\partial z_j} = p_k p_j"


@pytest.mark.parametrize(
    "condition",
    [
        r"\; (k \neq j)",
        r" (k \neq j)",
        r"\quad (k \neq j)",
        r"\qquad \left(k \neq j\right)",
        r", (k \neq j)",
        r", \quad (k \ne j)",
        r"\; (\text{for } k \neq j)",
        r"\quad \text{if } (k \neq j)",
    ],
)
def test_condition_in_brackets(condition):
    holds(APART + condition, PICKED)
    fails(WRONG + condition, PICKED)
    fails(APART, PICKED)
    fails(APART + condition.replace(r"\neq", "=").replace(r"\ne ", "="), PICKED)


@pytest.mark.parametrize(
    ("true", "false"),
    [
        (
            r"\frac{\partial p_k}{\partial z_j} = p_k (1 - p_k) (k = j)",
            r"\frac{\partial p_k}{\partial z_j} = p_k (1 + p_k) (k = j)",
        ),
        (
            r"\frac{\partial p_k}{\partial z_j} = - p_k p_j + p_k (k = j)",
            r"\frac{\partial p_k}{\partial z_j} = - p_k^2 + p_k (k = j)",
        ),
        (
            r"\frac{\partial a_k}{\partial z_j} = \delta_{jk} (z_k > 0)",
            r"\frac{\partial a_k}{\partial z_j} = \delta_{jk}",
        ),
        (
            r"\frac{\partial z_k}{\partial z_j} = \mathbf{1} (k = j)",
            r"\frac{\partial p_k}{\partial z_j} = \mathbf{1} (k = j)",
        ),
        (
            r"\frac{\partial L_i}{\partial Z_{ij}} = P_{ij}, \quad j \neq y_i",
            r"\frac{\partial L_i}{\partial Z_{ij}} = P_{ij} - 1, \quad j \neq y_i",
        ),
        (
            r"\frac{\partial L_i}{\partial Z_{ij}} = P_{ij} - 1, \quad j = y_i",
            r"\frac{\partial L_i}{\partial Z_{ij}} = P_{ij}, \quad j = y_i",
        ),
        (
            r"\frac{\partial L_i}{\partial Z_{ij}} = P_{ij} \; (j \neq y_i)",
            r"\frac{\partial L_i}{\partial Z_{ij}} = 2 P_{ij} \; (j \neq y_i)",
        ),
    ],
)
def test_condition_and_indicator(true, false):
    holds(true, PICKED)
    fails(false, PICKED)


def test_an_equation_of_data_in_brackets_bounds_nothing():
    assert verdicts(r"\frac{\partial p_k}{\partial z_j} = p_k \; (p = a)", PICKED)[0][0] != "holds"
    assert verdicts(r"p = a, \quad (p = a)", PICKED)[0][0] != "holds"


def test_an_entry_of_an_array_with_another_name():
    given = {
        "sizes": {"N": 5},
        "symbols": {"v": "N"},
        "forward": "s = v ** 2",
        "latex": {"y_i": "v"},
        "indices": {"i": "N", "j": "N"},
    }
    holds(r"\frac{\partial s_i}{\partial y_j} = 2 y_i \delta_{ij}", given)
    fails(r"\frac{\partial s_i}{\partial y_j} = 2 \delta_{ij}", given)
