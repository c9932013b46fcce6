"""The test of the tests: plant a classic mistake, and a check must turn red."""

import doctest
import importlib
import importlib.util
import inspect
import sys

import pytest

from proofread.signatures import Gradient, forward_of, gradients_of
from tests import checks

# Mistakes of the curriculum's steps 1 to 5: the line of the snippet, and the line as people write it.
PLANTED = {
    "mse": [
        ("2 * (A - Y) / A.numel()", "2 * (Y - A) / A.numel()"),
        ("2 * (A - Y) / A.numel()", "(A - Y) / A.numel()"),
        ("2 * (A - Y) / A.numel()", "2 * (A - Y) / len(A)"),
        ("2 * (A - Y) / A.numel()", "2 * (A - Y)"),
        ("2 * (A - Y) / A.numel()", "2 * (A - Y[:, 0]) / A.numel()"),
        ("2 * (A - Y) / A.numel()", "2 * (A - Y).abs() / A.numel()"),
        ("2 / (N * M) * error", "2 / N * error"),
        ("2 / (N * M) * (A[i] - Y[i])", "2 / (N * M) * (Y[i] - A[i])"),
    ],
    "relu": [
        ("return dJ_dA * (Z > 0)", "return dJ_dA"),
        ("return dJ_dA * (Z > 0)", "return dJ_dA * (dJ_dA > 0)"),
        ("return dJ_dA * (Z > 0)", "return dJ_dA * (Z >= 0)"),
        ("return dJ_dA * (Z > 0)", "return (Z > 0).to(Z)"),
        ("return dJ_dA * (Z > 0)", "return dJ_dA * (Z < 0)"),
        ("1 if Z[i, k] > 0 else 0", "1 if Z[i, k] >= 0 else 0"),
        ("rows.append(g @ da_dz)", "rows.append(da_dz.diag())"),
    ],
    "linear": [
        ("return X.T @ dJ_dZ", "return X.T @ dJ_dZ / len(X)"),
        ("return X.T @ dJ_dZ", "return dJ_dZ.T @ X"),
        ("return X.T @ dJ_dZ", "return X.sum(0).outer(dJ_dZ.sum(0))"),
        ("return X.T @ dJ_dZ", "return X[0].outer(dJ_dZ[0])"),
        ("return outer_products(X, dJ_dZ).sum(0)", "return outer_products(X, dJ_dZ)"),
        ("return outer_products(X, dJ_dZ).sum(0)", "return outer_products(X, dJ_dZ).mean(0)"),
        ("dJ_dZ.unsqueeze(1)).sum(0)", "dJ_dZ.unsqueeze(1)).sum(1)"),
        ("dJ_dW[j, k] += X", "dJ_dW[j, k] = X"),
        ("return dJ_dZ.sum(0)", "return dJ_dZ.mean(0)"),
        ("return dJ_dZ.sum(0)", "return dJ_dZ.sum(1)"),
        ("return dJ_dZ.sum(0)", "return dJ_dZ.sum(0, keepdim=True)"),
        ("return dJ_dZ.sum(0)", "return dJ_dZ"),
        ("return ones @ dJ_dZ", "return ones @ dJ_dZ / len(ones)"),
        ("return dJ_dZ @ W.T", "return dJ_dZ @ W"),
        ("return dJ_dZ @ W.T", "return (dJ_dZ @ W.T).sum(0)"),
        ("[g @ W.T for g in dJ_dZ]", "[g @ W.T for g in dJ_dZ.flip(0)]"),
        ("dJ_dX[i, j] += dJ_dZ[i, k] * W[j, k]", "dJ_dX[i, j] += dJ_dZ[i, k] * W[0, k]"),
    ],
    "network": [
        ("return 2 / Y.numel() * dJ_dW", "return 2 / len(Y) * dJ_dW"),
        ("(z > 0) * (z - y)", "(z - y)"),
    ],
}
# The layers for which wrong gradients are kept: every file of `mistakes` that has one.
WITH_GRADIENTS = sorted(
    path.stem
    for path in (checks.ROOT / "mistakes").glob("*.py")
    if "def grad_" in path.read_text(encoding="utf-8")
)
CASES = [(layer, old, new) for layer, edits in PLANTED.items() for old, new in edits]


def load_edited(layer: str, old: str, new: str, folder):
    """Import a copy of the snippet with one line changed, without the check of its shapes."""
    source = (checks.ROOT / f"snippets/{layer}.py").read_text()
    assert source.count(old) == 1, f"{old!r} should stand in {layer}.py once"
    path = folder / f"{layer}.py"
    path.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location(layer, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def red(module) -> list[str]:
    """Return the names of the gradient functions that fail a check."""
    failed = []
    for gradient in gradients_of(module):
        try:
            checks.check_all(gradient, forward_of(module))
        except (AssertionError, RuntimeError, IndexError):
            failed.append(gradient.name)
    return failed


@pytest.mark.parametrize(("layer", "old", "new"), CASES)
def test_a_planted_mistake_turns_red(layer, old, new, tmp_path):
    assert red(load_edited(layer, old, new, tmp_path))


@pytest.mark.parametrize("layer", PLANTED)
def test_an_unedited_copy_stays_green(layer, tmp_path):
    header = "# --8<-- [start:imports]"
    assert red(load_edited(layer, header, header, tmp_path)) == []


def failing_examples(layer, module, monkeypatch) -> int:
    """Run the doctests of an edited copy and return how many fail."""
    monkeypatch.setitem(sys.modules, layer, module)
    runner = doctest.DocTestRunner(verbose=False)
    for test in doctest.DocTestFinder().find(module, layer):
        runner.run(test, out=lambda text: None)
    return runner.summarize(verbose=False).failed


@pytest.mark.parametrize(("layer", "old", "new"), CASES)
def test_a_planted_mistake_fails_a_doctest_too(layer, old, new, tmp_path, monkeypatch):
    """The examples on the page alone would tell: they have numbers that a mistake changes."""
    assert failing_examples(layer, load_edited(layer, old, new, tmp_path), monkeypatch)


# Mistakes in code that has no `grad_*` function of its own: its examples have to tell.
PLANTED_ELSEWHERE = {
    "mse": [
        ("(A - Y).square().mean()", "(A - Y).square().sum(1).mean()"),
        ("errors.append(sum(squares) / len(squares))", "errors.append(sum(squares))"),
    ],
    "network": [
        ("dJ_dA = 2 * (A - Y) / A.numel()", "dJ_dA = 2 * (A - Y) / len(A)"),
        ("dJ_dA = 2 * (A - Y) / A.numel()", "dJ_dA = 2 * (Y - A) / A.numel()"),
        ("dJ_dZ = dJ_dA * (Z > 0)", "dJ_dZ = dJ_dA * (Z >= 0)"),
        ("dJ_dZ = dJ_dA * (Z > 0)", "dJ_dZ = dJ_dA"),
        ("dJ_dX = dJ_dZ @ W.T", "dJ_dX = dJ_dZ @ W"),
        ("dJ_dX = dJ_dZ @ W.T", "dJ_dX = X"),
        ("dJ_dW = X.T @ dJ_dZ", "dJ_dW = X.T @ dJ_dZ / len(X)"),
        ("dJ_db = dJ_dZ.sum(0)", "dJ_db = dJ_dZ.mean(0)"),
        ("return J, *backward(X, W, Z, A, Y)", "return J, *(-g for g in backward(X, W, Z, A, Y))"),
    ],
    "layers": [
        ("self.dJ_db = dJ_dZ.sum(0)", "self.dJ_db = dJ_dZ.mean(0)"),
        ("self.dJ_dW = self.X.T @ dJ_dZ", "self.dJ_dW = self.X.T @ dJ_dZ / len(dJ_dZ)"),
        ("        return dJ_dZ @ self.W.T", "        return dJ_dZ @ self.W"),
        ("return dJ_dA * (self.Z > 0)", "return dJ_dA * (self.Z >= 0)"),
        ("return dJ_dA * (self.Z > 0)", "return dJ_dA * (dJ_dA > 0)"),
        ("2 * (self.A - self.Y) / self.A.numel()", "2 * (self.A - self.Y) / len(self.A)"),
        ("in reversed(self.layers)", "in self.layers"),
        ("X.g = Z.g @ W.T", "X.g = X"),
        ("Z.g = A.g * (Z > 0)", "Z.g = A.g * (Z >= 0)"),
        ("A.g = 2 * (A - Y) / A.numel()", "A.g = 2 * (A - Y) / len(A)"),
        (
            "return dJ_dZ @ W.T, X.T @ dJ_dZ, dJ_dZ.sum(0)",
            "return dJ_dZ @ W.T, X.T @ dJ_dZ, dJ_dZ.mean(0)",
        ),
    ],
    "machines": [
        ("2 * (A - Y))", "2 * (A - Y) / Y.numel())"),
        ("(A - Y).square().sum()", "(A - Y).square().mean()"),
        ("W.new_tensor(Y.numel())", "W.new_tensor(len(Y))"),
        ("return S / NM, dS_dW / NM, dS_db / NM", "return S / NM, dS_dW, dS_db"),
        ("total += term", "total.copy_(term)"),
        ("total += term", "total += term / len(batches)"),
        ("[sums.view_as(t) for sums, t in pairs]", "[t - sums.view_as(t) for sums, t in pairs]"),
    ],
}


@pytest.mark.parametrize(
    ("layer", "old", "new"),
    [(layer, *edit) for layer, edits in PLANTED_ELSEWHERE.items() for edit in edits],
)
def test_a_mistake_planted_elsewhere_fails_a_doctest(layer, old, new, tmp_path, monkeypatch):
    assert failing_examples(layer, load_edited(layer, old, new, tmp_path), monkeypatch)


def wrong_gradients():
    """Return each wrong function that a page shows, with the forward it is wrong for."""
    found = []
    for layer in WITH_GRADIENTS:
        forward = forward_of(checks.module_of(layer))
        for name, function in vars(importlib.import_module(f"mistakes.{layer}")).items():
            if name.startswith("grad_"):
                parameters = inspect.signature(function).parameters
                upstream = next((p for p in parameters if p.startswith("dJ_d")), None)
                gradient = Gradient(function, name.split("_")[1], upstream)
                found.append(pytest.param(gradient, forward, id=f"{layer}.{name}"))
    return found


@pytest.mark.parametrize(("gradient", "forward"), wrong_gradients())
def test_what_the_pages_call_a_mistake_is_one(gradient, forward):
    with pytest.raises((AssertionError, RuntimeError)):
        checks.check_all(gradient, forward)
