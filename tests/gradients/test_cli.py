"""The command line, and the check of a module."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proofread import check
from proofread.__main__ import main
from proofread.gradients import cli

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


def test_not_written_yet(exercise, capsys):
    body = "def grad_Z(Z: S, dJ_dA: S) -> S:\n    raise NotImplementedError\n"
    assert main(["gradients", exercise("relu", body)]) == 1
    out = capsys.readouterr().out
    assert "grad_Z: not written yet" in out
    assert "Z (N, M), here (5, 4)" in out


UNUSABLE = {
    "no gradient": ("relu", "x = 1\n", "has no function named grad_"),
    "unknown argument": ("relu", "def grad_Q(Z: S) -> S:\n    return Z\n", "no argument"),
    "no forward": ("nothing", "def grad_Z(Z: S) -> S:\n    return Z\n", "no function named"),
    "syntax": ("relu", "def grad_Z(Z:\n", "was never closed"),
    "import": ("relu", "import nowhere_to_be_found\n", "cannot be run: ModuleNotFoundError"),
}


@pytest.mark.parametrize("case", UNUSABLE, ids=str)
def test_unusable(exercise, capsys, case):
    name, body, sentence = UNUSABLE[case]
    assert main(["gradients", exercise(name, body)]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not printed.out


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
    "right": ("", "", ["Linear, dJ/dX: right", "dJ/dW: right", "dJ/db: right", "3 of 3 right"]),
    "mean": ("dJ_dZ.sum(0)", "dJ_dZ.mean(0)", ["Linear, dJ/dW: right", "extra_mean"]),
    "axis": ("return dJ_dZ @ self.W.T", "return dJ_dZ @ self.W", ["transposed_operand"]),
    "not kept": ("self.dJ_db =", "dJ_db =", ["it must leave the gradient with respect to b in self.dJ_db"]),
    "not written": ("return dJ_dZ @ self.W.T", "raise NotImplementedError", ["not written yet"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGED)
@pytest.mark.parametrize("name", ["layers", "my_layers"])
def test_a_class(exercise, capsys, name, case):
    """With the forward of the snippet of its name, and with its own."""
    before, after, said = CHANGED[case]
    status = main(["gradients", exercise(name, LINEAR.replace(before, after))])
    out = " ".join(capsys.readouterr().out.split())
    assert status == (0 if case == "right" else 1)
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
    assert main(["gradients", exercise("layers", body)]) == 0
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
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "file", sorted((ROOT / "snippets").glob("[a-z]*.py")), ids=lambda f: f.stem
)
def test_snippets_are_right_and_each_has_a_stub(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    module = cli._load(file)
    try:
        report = check(module)
    except LookupError:
        pytest.skip("no gradients")
    assert report.ok, str(report)
    stub = check(cli._load(ROOT / "exercises" / file.name))
    assert stub.count("not written yet") == len(stub.results)


def test_as_a_command():
    run = subprocess.run(
        [sys.executable, "-m", "proofread", "gradients", "exercises/relu.py"],
        check=False, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1
    assert "not written yet" in run.stdout
    assert not run.stderr
