"""The command line, and the check of a module."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proofread import check
from proofread.__main__ import main
from proofread.practice import cli

ROOT = Path(__file__).parents[2]
HEADER = 'from jaxtyping import Float\nfrom torch import Tensor\n\nS = Float[Tensor, "N M"]\n\n'


@pytest.fixture
def exercise(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)

    def write(name, body):
        file = tmp_path / f"{name}.py"
        file.write_text(HEADER + body)
        return str(file)

    return write


RIGHT = "def grad_Z(Z: S, dJ_dA: S) -> S:\n    return dJ_dA * (Z > 0)\n"
WRONG = "def grad_Z(Z: S, dJ_dA: S) -> S:\n    return dJ_dA\n"


def test_all_right(exercise, capsys):
    assert main(["gradients", exercise("relu", RIGHT)]) == 0
    assert "✓ grad_Z: right" in capsys.readouterr().out


def test_a_mistake(exercise, capsys):
    assert main(["gradients", exercise("relu", WRONG)]) == 1
    out = capsys.readouterr().out
    assert "missing_mask" in out
    assert "\033" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_json(exercise, capsys):
    assert main(["gradients", "--json", exercise("relu", WRONG)]) == 1
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["state"] == "wrong"
    assert result["diagnosis"]["mistakes"][0]["label"] == "missing_mask"


@pytest.mark.parametrize("command", ["gradients", "progress"])
def test_what_an_exercise_prints_is_no_part_of_the_json(exercise, tmp_path, capsys, command):
    file = exercise("relu", "print('read')\n" + RIGHT.replace(" return", " print(Z); return"))
    main([command, "--json", file if command == "gradients" else str(tmp_path)])
    printed = capsys.readouterr()
    assert json.loads(printed.out)
    assert "read" in printed.err
    main(["gradients", file])
    assert "read" in capsys.readouterr().out


def test_not_written_yet(exercise, capsys):
    body = "def grad_Z(Z: S, dJ_dA: S) -> S:\n    raise NotImplementedError\n"
    assert main(["gradients", exercise("relu", body)]) == 1
    out = capsys.readouterr().out
    assert "grad_Z: not written yet" in out
    assert "Z (N, M), here (5, 4)" in out


def test_what_torch_has_not_implemented_is_written(exercise, capsys):
    body = "def grad_Z(Z: S, dJ_dA: S) -> S:\n    return dJ_dA & (Z > 0)\n"
    assert main(["gradients", exercise("relu", body)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "not written" not in out
    assert 'NotImplementedError: "bitwise_and_cpu" not implemented for' in out


UNUSABLE = {
    "no gradient": ("relu", "x = 1\n", "has no function named grad_"),
    "unknown argument": (
        "mine", "def mine(Z: S): return Z\ndef grad_Q(Z): ...\n",
        ": grad_Q: mine has no argument 'Q' (it has Z)"),
    "no forward": ("nothing", "def grad_Z(Z: S) -> S:\n    return Z\n", "no function named"),
    "syntax": ("relu", "def grad_Z(Z:\n", "was never closed"),
    "import": ("relu", "import nowhere_to_be_found\n", "line 6, `import nowhere_to_be_found`: Mod"),
    "exit": ("relu", "raise SystemExit\n", "run: line 6, `raise SystemExit`: SystemExit\n"),
    "exit 0": ("relu", "import sys\nsys.exit(0)\n", "line 7, `sys.exit(0)`: SystemExit: 0"),
    "two lines": ("relu", "raise OSError('one\\ntwo')\n", "`: OSError: one\n"),
    "null bytes": ("relu", "x = '\0'\n", ".py: source code string cannot contain null bytes"),
    "no forward of a class": (
        "layers", "class A:\n    def backward(self, dJ_dZ: S) -> S: ...\n",
        "A has a `backward`, and no `__call__`"),
    "no forward of a function": (
        "layers",
        "import torch\nclass A(torch.autograd.Function):\n    def backward(ctx, dJ_dZ: S): ...\n",
        "A has a `backward`, and no `forward`"),
    "no shapes": (
        "layers",
        "class A:\n    def __call__(self, X): ...\n    def backward(self, dJ_dZ: S) -> S: ...\n",
        "no argument of A.__call__ has its shape annotated"),
    "no results": (
        "twins", "def forward(x: S): return x\ndef backward(x: S, dJ_dy: S): return dJ_dy\n",
        "backward has no result annotated"),
}  # fmt: skip
# Annotations that raise when they are evaluated, and what is said of each.
LATE = {
    "S[": "SyntaxError",
    "jaxtyping.Flaot": "AttributeError: module",
    "Float[Tensor, 3]": "AttributeError: 'int'",
    "{}['a']": "KeyError: 'a'",
    "Flaot": "NameError: name 'Flaot' is not defined",
    "exit(0)": "SystemExit: 0",
}
UNUSABLE |= {
    annotation: (
        "relu", f"import jaxtyping\ndef grad_Z(Z: {annotation!r}, dJ_dA: S): return dJ_dA\n",
        f"the signature of grad_Z cannot be read: {said}")
    for annotation, said in LATE.items()
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE, ids=str)
def test_unusable(exercise, capsys, case):
    name, body, sentence = UNUSABLE[case]
    assert main(["gradients", exercise(name, body)]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not printed.out


@pytest.mark.parametrize("given", ["relu", None])
def test_only_a_module_is_checked(given):
    with pytest.raises(TypeError, match=f"a module is needed, got {type(given).__name__}"):
        check(given)


def test_a_folder_is_no_file(tmp_path, capsys):
    assert main(["gradients", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path} is a folder; one Python file is needed\n"


# What a function of relu does, and the one sentence that is printed of it.
MISFITS = {
    "exits": (
        "def grad_Z(Z: S, dJ_dA: S) -> S:\n    raise SystemExit(0)\n",
        "grad_Z, line 7, `raise SystemExit(0)`: SystemExit: 0."),
    "raises": (
        "def grad_Z(Z: S, dJ_dA: S) -> S:\n    for r in range(5):\n        Z[r] = msk[r]\n",
        "grad_Z, line 8, `Z[r] = msk[r]`: NameError: name 'msk' is not defined."),
    "called": (
        "import torch\ndef grad_Z(Z: S, dJ_dA: S) -> S:\n    return torch.cat(Z)\n",
        "grad_Z, line 8, `return torch.cat(Z)`: TypeError: cat()"),
    "unknown": (
        "def grad_Z(Z: S, A: S, more: S, dJ_dA: S) -> S:\n    return dJ_dA\n",
        "grad_Z takes 'more', which is no argument of the forward and no output of it. Known "),
    "rest": (
        "def grad_Z(Z: S, *rest) -> S:\n    return Z\n",
        "grad_Z takes *rest: give each of its arguments a name."),
    "None": (
        "def grad_Z(Z: S, dJ_dA: S) -> S:\n    dJ_dA * (Z > 0)\n",
        "grad_Z returns None, not the gradient of Z: is a return missing?\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_a_function_that_cannot_be_judged(exercise, capsys, case):
    body, sentence = MISFITS[case]
    assert main(["gradients", exercise("relu", body)]) == 1
    out = capsys.readouterr().out
    assert sentence in "\n".join(" ".join(part.split()) + "\n" for part in out.split("It takes"))


# Gradients of linear with right formulas: what they take, and what is said of it.
NAMES = {
    "upstream": (
        "b(grad)", "grad.sum(0)",
        "no output of it: call the upstream gradient dJ_dZ. Known here: X, W, b, Z, dJ_dZ."),
    "dZ": ("b(dZ)", "dZ.sum(0)", "grad_b takes 'dZ', which is no argument of the forward and no"),
    "case": ("W(x, dJ_dZ)", "x.T @ dJ_dZ", "no output of it: did you mean X? Known here: X,"),
    "output": ("W(X, Z, dJ_dZ)", "X.T @ dJ_dZ + 0 * Z.sum()", "grad_W: right"),
    "another upstream": ("b(dJ_dOut)", "dJ_dOut.sum(0)", "grad_b: right"),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMES)
def test_a_name_that_nothing_has_is_refused(exercise, capsys, case):
    takes, formula, said = NAMES[case]
    body = f"def grad_{takes}:\n    return {formula}\n"
    main(["gradients", exercise("linear", body)])
    assert said in " ".join(capsys.readouterr().out.split())


def test_the_upstream_gradient_of_a_loss_is_not_asked_for(exercise, capsys):
    body = "def grad_A(pred, Y):\n    return 2 * (pred - Y) / pred.numel()\n"
    assert main(["gradients", exercise("mse", body)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "no output of it. Known here: A, Y, J. It takes" in out


def test_outputs_without_a_name_go_by_their_order(exercise):
    body = (
        "def two(x: S):\n    return x.exp(), x.exp() ** 2\n\n"
        "def grad_x(x: S, z: S, y: S, dJ_dy: S) -> S:\n    return dJ_dy * 2 * z**2\n"
    )
    assert main(["gradients", exercise("two", body)]) == 0


KINDS = {"dJ_dA.int() * (Z > 0)": "int32", "dJ_dA.long()": "int64", "dJ_dA * Z > 0": "bool"}


@pytest.mark.parametrize("formula", KINDS)
def test_a_gradient_without_decimals(exercise, capsys, formula):
    body = f"def grad_Z(Z: S, dJ_dA: S) -> S:\n    return {formula}\n"
    assert main(["gradients", exercise("relu", body)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert f"grad_Z returns torch.{KINDS[formula]}: a gradient needs decimals; look for" in out
    assert "all_zero" not in out
    assert "upstream" not in out


def test_a_right_gradient_without_decimals(exercise):
    body = (
        "def total(x: S):\n    return x.sum()\n\ndef grad_x(x: S):\n    return x.long() * 0 + 1\n"
    )
    assert main(["gradients", exercise("total", body)]) == 0


def test_what_changes_in_place_has_the_names_of_the_exercise(exercise, capsys):
    body = "def grad_Z(Z: S, dJ_dA: S) -> S:\n    dJ_dA[Z <= 0] = 0\n    return dJ_dA\n"
    assert main(["gradients", exercise("relu", body)]) == 1
    assert "Your grad_Z changes dJ_dA in place." in capsys.readouterr().out


def test_an_exponent_that_was_not_lowered(exercise, capsys):
    body = "def grad_A(A: S, Y: S) -> S:\n    return 2 * (A - Y) ** 2 / A.numel()\n"
    assert main(["gradients", exercise("mse", body)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Yours still has the exponent 2 at (A - Y) ** 2; its derivative has 1." in out


def test_what_is_only_another_name_is_not_printed(exercise, capsys):
    body = "def grad_Z(Z: S, dJ_dA: S) -> S:\n    return dJ_dA\n"
    assert main(["gradients", exercise("relu", body)]) == 1
    out = capsys.readouterr().out
    assert "Another name" not in out
    assert "could also come from" not in out
    main(["gradients", "--json", exercise("relu", body)])
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert len(result["diagnosis"]["mistakes"]) == 2


def test_no_note_on_the_outputs_of_an_exercise(exercise, capsys):
    body = (
        'def grad_W(X: Float[Tensor, "N D"], A: S, Y: S) -> Float[Tensor, "D M"]:\n'
        "    return X.T @ (A - Y)\n"
    )
    assert main(["gradients", exercise("network", body)]) == 1
    out = capsys.readouterr().out
    assert "✗ grad_W" in out
    assert "note:" not in out


def test_what_has_a_default_is_not_offered(exercise):
    body = "def grad_Z(Z: S, dJ_dA: S, at=0) -> S:\n    return dJ_dA * (Z > at)\n"
    assert main(["gradients", exercise("relu", body)]) == 0


TWINS = """
def twin(x: S, w: S) -> S:
    return x * w**2

def backward(x: S, w: S, dJ_dy: S) -> tuple[S, S]:
    return dJ_dy * w**2, 2 * dJ_dy * x * w
"""
ALONE = """
def twin(x: S) -> S:
    return x**2

def backward(x: S, dJ_dy: S) -> S:
    return 2 * dJ_dy * x
"""
BACKWARDS = {
    "right": (TWINS, "", "", ["backward, dJ/dx: right", "backward, dJ/dw: right", "2 of 2"]),
    "wrong": (TWINS, "2 * dJ_dy * x * w", "dJ_dy * x * w", ["✗ backward, dJ/dw", "1 of 2"]),
    "no tuple": (TWINS, "dJ_dy * w**2, 2", "2", ["must return a tuple of 2 gradients"]),
    "too few": (TWINS, "2 * dJ_dy * x * w", "", ["backward must return a tuple of 2 gradients"]),
    "list": (
        TWINS,
        "dJ_dy * w**2, 2 * dJ_dy * x * w",
        "[dJ_dy, x]",
        ["backward returns a list; return a tuple."],
    ),
    "alone": (ALONE, "", "", ["backward, dJ/dx: right", "1 of 1"]),
    "alone, wrong": (ALONE, "2 * ", "", ["✗ backward, dJ/dx", "0 of 1"]),
}


@pytest.mark.parametrize("case", BACKWARDS)
def test_a_backward_of_several_gradients(exercise, capsys, case):
    """Results of one shape belong to the arguments of that shape, in their order."""
    body, before, after, said = BACKWARDS[case]
    status = main(["gradients", exercise("twin", body.replace(before, after))])
    out = " ".join(capsys.readouterr().out.split())
    assert status == int(bool(before)), out
    assert all(sentence in out for sentence in said), out


X_AND_W = """
def grad_X(dJ_dZ: S, W: Float[Tensor, "D M"]) -> Float[Tensor, "N D"]:
    return dJ_dZ @ W.T

def grad_W(X: Float[Tensor, "N D"], dJ_dZ: S) -> Float[Tensor, "D M"]:
    return X.T @ dJ_dZ
"""


def test_a_gradient_that_is_missing_is_not_done(exercise, capsys, tmp_path):
    file = exercise("linear", X_AND_W)
    assert main(["gradients", file]) == 1
    out = capsys.readouterr().out
    assert "✗ grad_b: missing from linear.py\n" in out
    assert "2 of 3 right" in out
    assert main(["progress", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[1].split() == ["linear", "2", "0", "1"]


def test_one_backward_stands_for_all_gradients(exercise):
    body = (
        'def backward(X: Float[Tensor, "N D"], W: Float[Tensor, "D M"], dJ_dZ: S) -> tuple['
        'Float[Tensor, "N D"], Float[Tensor, "D M"], Float[Tensor, "M"]]:\n'
        "    return dJ_dZ @ W.T, X.T @ dJ_dZ, dJ_dZ.sum(0)\n"
    )
    assert main(["gradients", exercise("linear", body)]) == 0


@pytest.mark.parametrize("lost", ["backward", "grad_W_in_closed_form"])
def test_a_backward_beside_gradients_is_one_of_them(lost, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    module = cli._load(ROOT / "exercises" / "network.py")
    delattr(module, lost)
    report = check(module)
    assert len(report.results) == 4
    assert f"✗ {lost}" in str(report)
    assert "missing from exercises/network.py" in str(report)


SLIPS = {
    "helper": (
        "grad_of_square", "skipped, mse has no argument 'of_square' (it has A, Y)\n"),
    "case": ("grad_a", "(it has A, Y); did you mean grad_A?\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", SLIPS)
def test_a_name_that_fits_no_argument_hides_nothing(exercise, capsys, case):
    name, said = SLIPS[case]
    body = "def grad_A(A: S, Y: S) -> S:\n    return 2 * (A - Y) / A.numel()\n"
    assert main(["gradients", exercise("mse", body + f"def {name}(A): ...\n")]) == 1
    out = capsys.readouterr().out
    assert "✓ grad_A: right" in out
    assert f"· {name}: " in out
    assert said in out
    assert "1 of 1 right, 1 skipped" in out


def test_a_slip_in_the_only_name(exercise, capsys):
    body = "def grad_a(A: S, Y: S) -> S:\n    return 2 * (A - Y) / A.numel()\n"
    assert main(["gradients", exercise("mse", body)]) == 1
    out = capsys.readouterr().out
    assert "did you mean grad_A?" in out
    assert "✗ grad_A: missing" in out
    assert "0 of 1 right" in out


def test_what_is_imported_is_not_checked(exercise):
    body = "from snippets.mse import grad_A\n" + RIGHT
    assert main(["gradients", exercise("relu", body)]) == 0


def test_a_gradient_is_of_the_argument_with_the_longest_name(exercise, capsys):
    body = (
        "def names(x: S, x_hat: S) -> S:\n    return 2 * x + 3 * x_hat\n\n"
        "def grad_x_hat(dJ_dy: S) -> S:\n    return 3 * dJ_dy\n"
    )
    assert main(["gradients", exercise("names", body)]) == 0


def test_a_snippet_that_cannot_be_imported_is_no_missing_snippet(exercise, capsys, monkeypatch):
    """The module's own forward must not stand in for it."""
    file = exercise("broken", RIGHT + "def broken(Z: S) -> S: return Z.relu()\n")
    assert main(["gradients", file]) == 0
    finder = type("Finder", (), {"find_spec": staticmethod(broken)})
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    assert main(["gradients", file]) == 2
    said = "snippets/broken.py cannot be imported: ModuleNotFoundError: No module named 'nowhere'"
    assert said in capsys.readouterr().err


def broken(name, path=None, target=None):
    if name == "snippets.broken":
        raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")


def test_a_file_that_is_not_there(capsys):
    assert main(["gradients", "exercises/nothing.py"]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_a_function_that_raises_is_judged_where_its_shapes_fit(exercise, capsys):
    body = (
        'def grad_X(dJ_dZ: S, W: Float[Tensor, "D M"]) -> Float[Tensor, "N D"]:\n'
        "    return dJ_dZ @ W\n"
    )
    assert main(["gradients", exercise("linear", body)]) == 1
    out = capsys.readouterr().out
    assert "It runs where D = M, but is wrong there." in " ".join(out.split())
    assert "transposed_operand" in out


RAISED = {
    "transposed": ("X @ dJ_dZ", "Put it inside: (D, N) @ (N, M).", "N = D"),
    "one column": ("X.flatten() @ dJ_dZ", "", ""),
}


@pytest.mark.parametrize("case", RAISED)
def test_what_is_said_after_a_raise_holds_at_all_sizes(exercise, capsys, case):
    formula, hint, sizes = RAISED[case]
    body = f"def grad_W(X, dJ_dZ):\n    return {formula}\n"
    assert main(["gradients", exercise("linear", body)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "RuntimeError" in out
    assert hint in out
    assert ("It runs where" in out) == bool(sizes)
    assert sizes in out
    assert "square" not in out
    assert "entries differ" not in out


def test_colour_only_on_a_terminal(exercise, capsys, monkeypatch):
    monkeypatch.setattr(cli.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["gradients", exercise("relu", WRONG)])
    assert "\033[31m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main(["gradients", exercise("relu", WRONG)])
    assert "\033" not in capsys.readouterr().out


def test_a_module_with_its_own_forward(exercise, capsys):
    body = (
        "def cube(x: S) -> S:\n    return x**3\n\n"
        "def grad_x(x: S, dJ_dy: S) -> S:\n    return dJ_dy * x**2\n"
    )
    assert main(["gradients", exercise("cube", body)]) == 1
    assert "missing_scale_factor" in capsys.readouterr().out


LINEAR = """
class Linear:
    def __init__(self, W: Float[Tensor, "D M"], b: Float[Tensor, "M"]):
        self.W, self.b = W, b

    def __call__(self, X: Float[Tensor, "N D"]) -> S:
        self.X = X
        return X @ self.W + self.b

    def backward(self, dJ_dZ: S):
        self.dJ_dW = self.X.T @ dJ_dZ
        self.dJ_db = dJ_dZ.sum(0)
        return dJ_dZ @ self.W.T
"""

# Each line that is changed, and what the printed report says of it.
CHANGED = {
    "right": ("", "", ["Linear, dJ/dX: right", "dJ/dW: right", "dJ/db: right", ": 3 of "]),
    "mean": ("dJ_dZ.sum(0)", "dJ_dZ.mean(0)", ["Linear, dJ/dW: right", "extra_mean"]),
    "axis": ("return dJ_dZ @ self.W.T", "return dJ_dZ @ self.W", ["transposed_operand"]),
    "not kept": ("self.dJ_db =", "dJ_db =", ["must leave the gradient with respect to b in self.dJ_db."]),
    "not written": ("return dJ_dZ @ self.W.T", "raise NotImplementedError", ["not written yet"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGED)
@pytest.mark.parametrize("name", ["layers", "my_layers"])
def test_a_class(exercise, capsys, name, case):
    """With the forward of the snippet of its name, and with its own."""
    before, after, said = CHANGED[case]
    status = main(["gradients", exercise(name, LINEAR.replace(before, after))])
    out = " ".join(capsys.readouterr().out.split())
    assert status == (0 if (case, name) == ("right", "my_layers") else 1)
    assert all(sentence in out for sentence in said), out


FUNCTION = """
class Times(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: S, w: S) -> S:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, dJ_dy):
        x, w = ctx.saved_tensors
        return dJ_dy * w, dJ_dy * x
"""
IN_TWO = """
    @staticmethod
    def forward(x: S, w: S) -> S:
        return x * w

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
"""


@pytest.mark.parametrize("style", ["one", "two"])
def test_an_autograd_function(exercise, capsys, style):
    body = "import torch\n" + FUNCTION
    if style == "two":
        first, last = FUNCTION.index("    @staticmethod"), FUNCTION.rindex("    @staticmethod")
        body = "import torch\n" + FUNCTION[:first] + IN_TWO[1:] + "\n" + FUNCTION[last:]
    assert main(["gradients", exercise("products", body)]) == 0
    assert "Times, dJ/dw: right" in capsys.readouterr().out
    swapped = body.replace("return dJ_dy * w, dJ_dy * x", "return dJ_dy * x, dJ_dy * w")
    assert main(["gradients", exercise("products", swapped)]) == 1
    assert "wrong_operand" in capsys.readouterr().out


def test_a_class_without_shapes_is_not_checked(exercise, capsys):
    body = (
        LINEAR + "\n\nclass Model:\n    def __call__(self, X): ...\n    def backward(self): ...\n"
    )
    assert main(["gradients", exercise("my_layers", body)]) == 0
    assert "Model" not in capsys.readouterr().out


def test_progress(exercise, tmp_path, capsys):
    exercise("relu", RIGHT)
    exercise("mse", "def grad_A(A: S, Y: S) -> S:\n    raise NotImplementedError\n")
    assert main(["progress", str(tmp_path)]) == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [
        ["mse", "0", "0", "1"], ["relu", "1", "0", "0"], ["all", "1", "0", "1"],
    ]  # fmt: skip


def test_progress_without_exercises(tmp_path, capsys):
    assert main(["progress", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == (
        f"no folder {tmp_path}/none/ here: run this in the root of the clone, or name the folder\n"
    )


UNREAD = {
    "exit": ("raise SystemExit(0)\n", "cannot be run: "),
    "annotation": (
        "def grad_A(A: 'S[', Y: S): ...\n", "cannot be read: the signature of grad_A"),
    "syntax": ("def grad_Z(Z:\n", "cannot be read: line 6, `def grad_Z(Z:`: '(' was never"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREAD)
def test_progress_has_a_row_for_a_file_that_cannot_be_checked(exercise, tmp_path, capsys, case):
    body, said = UNREAD[case]
    exercise("mse", body)
    exercise("relu", RIGHT)
    assert main(["progress", str(tmp_path)]) == 2
    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert [line.split()[0] for line in lines] == ["exercise", "mse", "relu", "all"]
    assert said in lines[1]
    assert lines[-1].endswith("(1 cannot be read)")
    assert main(["progress", "--json", str(tmp_path)]) == 2
    mse, relu = json.loads(capsys.readouterr().out)
    assert (mse["name"], mse["ok"]) == ("mse", False)
    assert said.removeprefix("cannot be read: ") in mse["trouble"]
    assert relu["ok"]


def test_progress_counts_what_is_skipped(exercise, tmp_path, capsys):
    exercise("relu", RIGHT + "def grad_z(): ...\n")
    assert main(["progress", str(tmp_path)]) == 1
    assert "(1 skipped)" in capsys.readouterr().out


WITHOUT_GRADIENTS = {"errata", "faster", "gpu", "machines"}


@pytest.mark.parametrize(
    "file", sorted((ROOT / "snippets").glob("[a-z]*.py")), ids=lambda f: f.stem
)
def test_snippets_are_right_and_each_has_a_stub(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    module = cli._load(file)
    if file.stem in WITHOUT_GRADIENTS:
        with pytest.raises(LookupError, match="no class with a `backward`$"):
            check(module)
        return
    report = check(module)
    assert report.ok, str(report)
    stub = check(cli._load(ROOT / "exercises" / file.name))
    assert stub.count("not written yet") == len(stub.results)


ENDLESS = {
    "a function": (
        "def grad_Z(Z: S, dJ_dA: S) -> S:\n    endless()\n", "grad_Z, line 7: endless()"),
    "a file": ("endless()\n", "{file}, line 6: endless()"),
}  # fmt: skip


@pytest.mark.parametrize("command", ["gradients", "progress"])
@pytest.mark.parametrize("case", ENDLESS)
def test_ctrl_c(exercise, capsys, monkeypatch, case, command):
    def endless():
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.endless", endless, raising=False)
    body, said = ENDLESS[case]
    file = exercise("relu", body)
    assert main([command, file if command == "gradients" else str(Path(file).parent)]) == 130
    assert capsys.readouterr().err == f"stopped in {said.format(file=file)}\n"


def test_a_pipe_that_closes():
    ends = os.pipe()
    os.close(ends[0])
    run = subprocess.run(
        [sys.executable, "-m", "proofread", "gradients", "exercises/relu.py"],
        check=False, cwd=ROOT, stdout=ends[1], stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(ends[1])
    assert (run.returncode, run.stderr) == (141, "")


def test_as_a_command():
    run = subprocess.run(
        [sys.executable, "-m", "proofread", "gradients", "exercises/relu.py"],
        check=False, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1
    assert "not written yet" in run.stdout
    assert not run.stderr
