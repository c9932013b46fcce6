"""What is said of the exercises as a newcomer fills them in."""

import itertools
import json

import pytest

from proofread import diagnose
from proofread.__main__ import main
from proofread.practice import cli, judging
from proofread.practice.check import check
from tests.practice.test_cli import ROOT

SOLUTIONS = {
    "linear": ["return X.T @ dJ_dZ", "return dJ_dZ.sum(0)", "return dJ_dZ @ W.T"],
    "mse": ["return 2 * (A - Y) / A.numel()"],
    "relu": ["return dJ_dA * (Z > 0)"],
    "network": [
        (
            "dJ_dA = 2 * (A - Y) / A.numel()\n"
            "dJ_dZ = dJ_dA * (Z > 0)\n"
            "return X.T @ dJ_dZ, dJ_dZ.sum(0), dJ_dZ @ W.T"
        ),
        "Z = X @ W + b\nreturn backward(X, W, Z, torch.relu(Z), Y)[0]",
    ],
    "layers": [
        "self.dJ_dW = self.X.T @ dJ_dZ\nself.dJ_db = dJ_dZ.sum(0)\nreturn dJ_dZ @ self.W.T",
        "return dJ_dA * (self.Z > 0)",
        "return dJ_dA * self.A * (1 - self.A)",
        "return 2 * (self.A - self.Y) / self.A.numel()",
        "X, W, b = ctx.saved_tensors\nreturn dJ_dZ @ W.T, X.T @ dJ_dZ, dJ_dZ.sum(0)",
    ],
}
LEFT = "left as it is"
KEPT = (
    ("return X @ self.W + self.b", "self.X = X; return X @ self.W + self.b"),
    ("return torch.relu(Z)", "self.Z = Z; return torch.relu(Z)"),
    ("return torch.sigmoid(Z)", "self.A = torch.sigmoid(Z); return self.A"),
    ("return (A - Y).square()", "self.A, self.Y = A, Y; return (A - Y).square()"),
    ("pass  # ctx.save_for_backward(…)", "ctx.save_for_backward(*inputs)"),
)


def filled(name, bodies=None, changes=()):
    """Return an exercise with the right bodies, or others, and with some of its text changed."""
    text = (ROOT / f"exercises/{name}.py").read_text()
    indent = "\n" + " " * (8 if name == "layers" else 4)
    for body in bodies or SOLUTIONS[name]:
        text = text.replace("raise NotImplementedError", body.replace("\n", indent), 1)
    text = text.replace(LEFT, "raise NotImplementedError")
    for before, after in (*(KEPT if name == "layers" else ()), *changes):
        assert text.count(before) >= 1, before
        text = text.replace(before, after, 1)
    return text


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Give what is printed of an exercise, in one line, and hold it to 80 columns."""
    monkeypatch.chdir(ROOT)

    def run(name, bodies=None, *changes):
        file = tmp_path / f"{name}.py"
        file.write_text(filled(name, bodies, changes))
        main(["gradients", str(file)])
        printed = capsys.readouterr()
        assert max(map(len, printed.out.splitlines()), default=0) <= 80
        return " ".join((printed.out + printed.err).split())

    return run


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_solutions_are_right(said, name):
    assert "✗" not in said(name)


# Of a layer that is not there, or has no backward: what is changed, and what is said.
LOST = {
    "deleted": ("class Relu:", "class Other:", "✗ Relu: missing from layers.py "),
    "renamed": ("class Relu:", "class ReLU:", "✗ Relu: missing from layers.py; is it ReLU there?"),
    "a new one": ("class Sigmoid:", "class Sgm:", "✗ Sigmoid: missing from layers.py "),
    "no backward": ("def backward(self, dJ_dA", "def bakward(self, dJ_dA", "✗ Relu: it has no `back"),
    "no forward": (
        "def __call__(self, Z", "def forward(self, Z",
        "✗ Relu: not checked, Relu has a `backward`, and no `__call__`"),
    "twice the same": (
        "def __call__(self, Z", "def __init__(self, Z):\n        self.Z = Z\n\n    def __call__(self, Z",
        "✗ Relu: not checked, Relu takes Z in `__init__` and in `__call__`"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOST)
def test_a_layer_that_is_missing_is_not_done(said, case):
    before, after, sentence = LOST[case]
    out = said("layers", None, (before, after))
    assert sentence in out
    assert out.count("✗") == 1
    assert " 9 of 10 right" in out or " 8 of 9 right" in out


def test_progress_counts_a_missing_layer(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "layers.py").write_text(filled("layers", None, [("class Mse:", "class Loss:")]))
    assert main(["progress", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[1].split() == ["layers", "9", "0", "1"]


FORWARDS = {
    "no bias": (
        "self.W + self.b", "self.W",
        "✗ Linear.__call__ It is the forward that is wrong here, not a gradient: 20 of 20 entries"),
    "another function": ("return torch.relu", "return torch.tanh", "20 entries differ; the most at"),
    "a sum": ("square().mean()", "square().sum()", "not a gradient: yours is 24.455, the right one"),
    "no return": ("return torch.relu", "torch.relu", "it returns None. Is a return missing?"),
    "a shape": ("return torch.relu(Z)", "return torch.relu(Z)[0]", "yours has shape (4,), the"),
    "a function's": ("X @ W + b\n", "X @ W\n", "✗ LinearFunction.forward It is the forward"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORWARDS)
def test_a_wrong_forward_is_told_from_a_wrong_gradient(said, case):
    before, after, sentence = FORWARDS[case]
    out = said("layers", None, (before, after))
    assert sentence in out
    assert out.count("✗") == 1
    assert "9 of 10 right" in out


def test_a_forward_that_raises_is_said_once(said):
    out = said("layers", None, ("X @ self.W", "X @ self.w"))
    assert "__call__, line 22, " in out
    assert out.count("no attribute 'w'. Did you mean W?") == 1
    assert "Linear, dJ/dX: fails as Linear.__call__ above does" in out


def test_the_arguments_of_a_forward_have_an_order(said):
    pair = 'A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]'
    out = said("layers", None, (pair, 'Y: Float[Tensor, "N M"], A: Float[Tensor, "N M"]'))
    assert "✗ Mse.__call__ It takes Y, A; the order is A, Y." in out


def test_the_arguments_of_a_forward_may_have_other_names(said):
    out = said("layers", None, ("__call__(self, X:", "__call__(self, x:"), ("= X;", "= x;"),
               ("return X @ self", "return x @ self"))  # fmt: skip
    assert "✓ Linear, dJ/dx: right" in out
    assert "9 of 9 right" in out


def test_a_forward_beside_functions_is_compared_too(said):
    more = (
        'def linear(X: Float[Tensor, "N D"], W: Float[Tensor, "D M"], b: Float[Tensor, "M"]):\n'
        "    return X @ W\n\n\ndef grad_W"
    )
    out = said("linear", None, ("def grad_W", more))
    assert "✗ linear It is the forward that is wrong here, not a gradient: 20 of 20" in out
    assert "3 of 4 right" in out


# One slip in `backward`, and what is said of each of its gradients.
FOLLOWS = {
    "dJ_dA": ("(A - Y) / A.numel()", "(A - Y)", "dJ_dA", 20),
    "dJ_dZ": ("dJ_dA * (Z > 0)", "dJ_dA", "dJ_dZ", 21),
}


@pytest.mark.parametrize("case", FOLLOWS)
def test_one_slip_has_one_block(said, case):
    before, after, variable, line = FOLLOWS[case]
    out = said("network", None, (before, after))
    assert f"With the right {variable} it is right: the slip is in line {line}, or in" in out
    assert f"✗ backward, dJ/db: follows from {variable}, as dJ/dW above does" in out
    assert f"✗ backward, dJ/dX: follows from {variable}, as dJ/dW above does" in out
    assert "✗ grad_W_in_closed_form: follows from backward above" in out
    assert out.count("gradient with respect to") == 1


def test_what_has_a_slip_of_its_own_does_not_follow(said):
    out = said(
        "network", None, ("A.numel()", "1"), ("Y)[0]", "Y)[0] / 2"), ("dZ.sum(0)", "dZ.mean(0)")
    )
    assert "backward, dJ/dX: follows" in out
    assert "backward, dJ/db: follows" not in out
    assert "closed_form: follows" not in out
    assert out.count("gradient with respect to") == 3


def test_the_right_function_must_be_called_in_the_right_way(said):
    out = said(
        "network",
        None,
        ("A.numel()", "1"),
        ("b\n    return backward(X,", "b\n    return backward(-X,"),
    )
    assert "closed_form: follows" not in out


def test_json_keeps_what_follows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    file = tmp_path / "network.py"
    file.write_text(filled("network", None, [("A.numel()", "1")]))
    main(["gradients", "--json", str(file)])
    for result in json.loads(capsys.readouterr().out)["results"]:
        assert result["state"] == "wrong"
        assert result["diagnosis"]["mistakes"][0]["label"] == "missing_mean"
        assert bool(result["because"]) == (result["function"] != "backward, dJ/dW")


def test_two_functions_that_call_each_other_both_keep_their_blocks(said):
    out = said(
        "linear",
        [
            "return grad_b(dJ_dZ) if X is None else X",
            "return grad_W(None, dJ_dZ) if dJ_dZ is None else dJ_dZ[0]",
        ],
    )
    assert "follows from" not in out
    assert out.count("gradient with respect to") == 2


def test_what_calls_a_stub_waits(said):
    out = said("network", [LEFT, SOLUTIONS["network"][1]])
    assert "· grad_W_in_closed_form: waits for backward, not written yet" in out
    assert out.count("It takes X (N, D), here (5, 3); W (D, M), here (3, 4); Z") == 1


def test_gradients_in_the_wrong_order(said):
    out = said(
        "network", None, ("return X.T @ dJ_dZ, dJ_dZ.sum(0)", "return dJ_dZ.sum(0), X.T @ dJ_dZ")
    )
    assert "backward, dJ/dW: dJ/db stands in its place; the order is dJ/dW, dJ/db, dJ/dX" in out
    assert "✓ backward, dJ/dX" in out


ZEROS = (
    "out = torch.zeros_like(A)\nfor i in range({}):\n    out[i] = 2 * (A[i] - Y[i]) / A.numel()\n"
)
ROWS = "rows = []\nfor g in dJ_dZ:\n    rows.append(W @ g)\n    return torch.stack(rows)"
# What is written in a gradient, and what is said of it.
WRITTEN = {
    "a number for N and M": (
        "mse", "return 2 * (A - Y) / 20",
        "Right at N = 5, M = 4, but not at N = 3, M = 6. 18 of 18 entries differ; "),
    "which number": ("mse", "return 2 * (A - Y) / 20", "Is the 20 in line 14 meant as N * M? Take"),
    "a hidden number": ("mse", "return (A - Y) / 10", "Sizes have to come from the tensors' shapes."),
    "a number for N": (
        "relu", "return (dJ_dA * (Z > 0)).reshape(5, -1)",
        ("N = 3, M = 6. grad_Z, line 14, `return (dJ_dA * (Z > 0)).reshape(5, -1)`: RuntimeError: "
        "shape '[5, -1]' is invalid for input of size 18. Is the 5 in line 14 meant as N?")),
    "squeeze": (
        "relu", "return (dJ_dA * (Z > 0)).squeeze()",
        ("Right at N = 5, but not at N = 1. Yours has shape (4,), the right one (1, 4). A squeeze() "
        "takes away every axis of size 1.")),
    "an early return": (
        "mse", ZEROS.format("len(A)") + "    return out",
        "✗ grad_A: the `return` in line 17 ends the loop in its first round; behind the loop it is "),
    "a return in two loops": (
        "relu", ("out = torch.zeros_like(Z)\nfor i in range(len(Z)):\n    for j in range(Z.shape[1]):\n"
        "        out[i, j] = dJ_dA[i, j] if Z[i, j] > 0 else 0\n        return out"),
        "✗ grad_Z: the `return` in line 18 ends the loop in its first round; behind the loop it is "),
    "a loop too short": (
        "mse", ZEROS.format("len(A) - 1") + "return out",
        "all_zero Row 4 of your gradient is left at 0. → Does your loop get there?"),
    "a return in a loop that might not end": (
        "mse",
        ("out, i = torch.zeros_like(A), 0\nwhile i < len(A):\n    out[i] = 2 * (A[i] - Y[i]) / A.numel()\n"
        "    return out\n    i += 1"),
        "all_zero Rows 1 to 4 of your gradient are left at 0. → Does your loop get there?",
    ),
    "whole numbers": ("mse", "return 2 * (A - Y) // A.numel()", "`//` in line 14 rounds down; with `/`"),
    "a power": ("mse", "return 2 * (A ^ Y) / A.numel()", "In Python, `^` is no power: `**` is."),
    "the loss": (
        "mse", "return ((A - Y) ** 2).mean()",
        "wrong_shape This is what the forward returns, and not its gradient."),
    "no axis": ("mse", "return 2 * (A - Y).mean()", "→ It is one number: look for a sum() or a mean()"),
    "an axis gone": ("mse", "return 2 * (A - Y).mean(0)", "→ Axis 0, of size 5, is gone: look for a"),
    "keepdim": (
        "mse", "return 2 * (A - Y).mean(0, keepdim=True)",
        "→ Axis 0 has 1 entry for 5: look for keepdim, or a return inside a loop."),
    "brackets of a sum": (
        "mse", "return 2 * A - Y / A.numel()",
        "with brackets as in `2 * (A - Y) / A.numel()`, in line 14, it is right"),
    "brackets of a factor": (
        "mse", "return 2 / A.numel() * A - Y", "with brackets as in `2 / A.numel() * (A - Y)`, in"),
    "brackets of a divisor": (
        "mse", "return 2 * (A - Y) / A.shape[0] * A.shape[1]",
        "with brackets as in `2 * (A - Y) / (A.shape[0] * A.shape[1])`, in"),
    "a reshape": ("mse", "return (2 * (A - Y) / A.numel()).view(-1)", "→ Look for a view or a reshape."),
    "0 / 0": (
        "relu", "return dJ_dA * (torch.relu(Z) / Z)",
        "Right, but not where an entry of Z is 0. 1 of 20 entries of your gradient is not finite."),
    "another tie": ("relu", "return dJ_dA * (Z >= 0)", "✓ grad_Z: right"),
    "no first value": ("relu", "for z in Z:\n    out += z", "Give it a value before its first use"),
    "numel": ("mse", "return 2 * (A - Y) / A.numel", "Are brackets missing, as in A.numel()?"),
    "size": ("mse", "return 2 * (A - Y) / A.size()", "A.numel() is one number."),
    "autograd": ("mse", "((A - Y) ** 2).mean().backward()", "asks for the formula itself, without"),
    "a dtype": (
        "mse", "return torch.ones(A.shape[0], 1) @ A[:1]",
        "The data here are float64: make a new tensor of their dtype, as zeros_like does."),
    "a comma": ("mse", "return 2 * (A - Y) / A.numel(),", "is there a comma at the end of its line?"),
    "a list of rows": ("mse", "return [a for a in A]", "grad_A returns a list of 5: use torch.stack."),
    "a nested list": ("mse", "return A.tolist()", "grad_A returns a list of 5: use torch.tensor."),
    "a method": ("mse", "return A.clone", "not a tensor: are brackets missing behind its name?"),
    "a string": ("mse", "return 'A'", "grad_A gives a str, not a tensor."),
    "an if": ("relu", "if Z > 0:\n    return dJ_dA", "multiply by the comparison."),
    "an output": ("relu", "return dJ_dA * (A > 0)", "A is known here: add it to the arguments."),
    "a slip of the pen": ("relu", "return dJ_da * (Z > 0)", "Did you mean dJ_dA?"),
    "an attribute": ("relu", "return dJ_dA.sums(0)", "Did you mean sum?"),
    "an import": ("relu", "return np.where(Z > 0, dJ_dA, 0)", "Is its import missing?"),
    "a matrix product": ("relu", "return dJ_dA @ (Z > 0)", "`@` in line 14 is a matrix product; entry"),
    "the upstream": ("relu", "return dJ_dA", "Your gradient is dJ_dA itself: the mask"),
    "a note to oneself": ("relu", "raise NotImplementedError('later')", "· grad_Z: not written yet"),
    "a stop": ("relu", "quit()", "line 14, `quit()`: SystemExit. It takes"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN)
def test_what_a_newcomer_writes(said, case):
    name, body, sentence = WRITTEN[case]
    assert sentence in said(name, [body])


# The products that a newcomer tries for dJ/dW and dJ/dX, and the one that fits.
TRIED = [
    ("linear", k, product, fits)
    for k, pair, fits in ((0, ("X", "dJ_dZ"), "X.T @ dJ_dZ"), (2, ("dJ_dZ", "W"), "dJ_dZ @ W.T"))
    for a, b in itertools.permutations(pair)
    for product in (
        f"{a} @ {b}",
        f"{a}.T @ {b}",
        f"{a} @ {b}.T",
        f"torch.mm({a}, {b})",
        f"{a} * {b}",
    )
    if product != fits
]


@pytest.mark.parametrize("name, k, product, fits", TRIED)
def test_a_product_of_the_wrong_shape(said, name, k, product, fits):
    """It is named, or the transposed factor is."""
    bodies = [body if j != k else f"return {product}" for j, body in enumerate(SOLUTIONS[name])]
    out = said(name, bodies)
    one = f"Of the matrix products of the two only `{fits}` has the shape of"
    inside = "(D, N) @ (N, M)." if k == 0 else "(N, M) @ (M, D)."
    assert (one in out) != (inside in out or "missing_broadcast_sum" in out), out
    assert "shape (3, 3)" not in out
    assert "shape (4, 4)" not in out


def test_a_function_runs_often_and_prints_once(said):
    out = said("relu", ["print('look'); return dJ_dA * (Z > 0)"])
    assert out.count("look") == 1
    bodies = ["print('look'); " + SOLUTIONS["network"][0], LEFT]
    assert said("network", bodies).count("look") == 1


def test_an_output_changed_in_place(said):
    body = "A -= Y\nA *= 2 / A.numel()\nA *= Z > 0\nreturn X.T @ A, A.sum(0), A @ W.T"
    out = said("network", [body, LEFT])
    assert "backward changes A in place: work on a copy, such as A.clone()." in out
    assert "backward, dJ/db: fails as dJ/dW above does" in out


def test_a_stub_below_the_solution(said):
    again = "\n\n\ndef grad_Z(Z, dJ_dA):\n    raise NotImplementedError\n"
    end = "(Z > 0)\n"
    out = said("relu", None, (end, end + again))
    assert "grad_Z: not written yet; it is defined in lines 12 and 18, and the last one" in out


def test_a_breakpoint_stops_once(said, monkeypatch):
    stops = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stops.append(1))
    said("relu", ["breakpoint(); return dJ_dA"])
    assert len(stops) == 1


def test_the_gradients_that_are_needed_are_named(said):
    assert "mse has no function named grad_A, and" in said("mse", None, ("grad_A", "gradient"))


@pytest.mark.parametrize("given", ["exercises/linear", "linear", "linear.py"])
def test_a_file_that_is_meant_is_named(given, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["gradients", given]) == 2
    assert (
        capsys.readouterr().err == f"{given}: there is no such file; is it exercises/linear.py?\n"
    )


def test_what_each_function_takes_is_said_once(said):
    out = said("layers", [LEFT] * 5)
    assert out.count("It takes dJ_dA (N, M), here (5, 4).") == 2  # of Relu and of Sigmoid
    assert out.count("It takes dJ_dZ (N, M), here (5, 4).") == 1


def test_an_unfinished_line_is_shown(said):
    out = said("mse", ["return 2 * (A - Y))"])
    assert "mse.py, line 14, `return 2 * (A - Y))`: unmatched ')'" in out


@pytest.mark.parametrize("name", SOLUTIONS)
def test_what_is_right_is_judged_four_times_and_no_more(name, tmp_path, monkeypatch):
    """A check is to take less than a second."""
    monkeypatch.chdir(ROOT)
    file = tmp_path / f"{name}.py"
    file.write_text(filled(name))
    calls = []
    monkeypatch.setattr(
        judging, "diagnose", lambda *args, **more: calls.append(1) or diagnose(*args, **more)
    )
    report = check(cli._load(file))
    assert report.ok
    assert len(calls) == 4 * len(report.results)
