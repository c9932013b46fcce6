"""Wrong input is a clear error that names the argument, and never a wrong number."""

import ast
import inspect

import pytest
import torch
from jaxtyping import TypeCheckError

from snippets import layers, linear, mse, network, relu
from tests.checks import LAYERS, module_of


def ones(*shape, **settings):
    return torch.ones(*shape, **settings)


def integers(*shape):
    return torch.ones(*shape, dtype=torch.int64)


MISFITS = [
    pytest.param("Y", lambda: mse.mse(ones(5, 1), ones(5)), id="column against vector, Y"),
    pytest.param(
        "Y", lambda: mse.grad_A(ones(5, 1), ones(5)), id="column against vector, Y in the gradient"
    ),
    pytest.param("Y", lambda: mse.mse(ones(5, 1), ones(4, 1)), id="fewer rows, Y"),
    pytest.param("Y", lambda: mse.mse(ones(5, 4), ones(1, 4)), id="one row to broadcast, Y"),
    pytest.param("A", lambda: mse.mse(integers(5, 1), ones(5, 1)), id="integers, A"),
    pytest.param(
        "dJ_dA", lambda: relu.grad_Z(ones(5, 4), ones(5, 1)), id="upstream of another shape, dJ_dA"
    ),
    pytest.param("Z", lambda: relu.relu(integers(5, 4)), id="integers, Z"),
    pytest.param("b", lambda: linear.linear(ones(5, 3), ones(3, 1), ones(3)), id="bias of D, b"),
    pytest.param(
        "W", lambda: linear.linear(ones(5, 3), ones(3), ones(1)), id="vector of weights, W"
    ),
    pytest.param("dJ_dZ", lambda: linear.grad_W(ones(5, 3), ones(4, 4)), id="another batch, dJ_dZ"),
    pytest.param("W", lambda: linear.grad_X(ones(5, 4), ones(4, 3)), id="transposed weights, W"),
    pytest.param("X", lambda: linear.linear([[1.0]], ones(1, 1), ones(1)), id="a list, X"),
    pytest.param(
        "Y",
        lambda: network.forward(ones(5, 3), ones(3, 1), ones(1), ones(5)),
        id="targets as a vector, Y",
    ),
    pytest.param(
        "Y", lambda: layers.Mse()(ones(5, 1), ones(5)), id="targets as a vector, Y of a class"
    ),
    pytest.param(
        "X", lambda: layers.Linear(ones(3, 4), ones(4))(integers(5, 3)), id="integers, X of a class"
    ),
]


@pytest.mark.parametrize(("argument", "call"), MISFITS)
def test_misfit_is_named(argument, call):
    with pytest.raises(TypeCheckError, match=f"parameter '{argument}'"):
        call()


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("A", lambda: mse.mse(ones(0, 1), ones(0, 1))),
        ("A", lambda: layers.Mse()(ones(0, 1), ones(0, 1))),
        ("A", lambda: mse.mse_by_row(ones(0, 1), ones(0, 1))),
        ("A", lambda: mse.mse(ones(5, 0), ones(5, 0))),
        ("Y", lambda: network.forward(ones(0, 3), ones(3, 1), ones(1), ones(0, 1))),
        ("Y", lambda: network.forward_by_row(ones(0, 3), ones(3, 1), ones(1), ones(0, 1))),
        ("Y", lambda: network.grad_W_in_closed_form(ones(0, 3), ones(3, 1), ones(1), ones(0, 1))),
    ],
)
def test_mean_of_an_empty_batch(argument, call):
    with pytest.raises(ValueError, match=rf"{argument} needs entries: torch.Size\("):
        call()


def test_sum_over_an_empty_batch_is_zero():
    """No row contributes: 0 is the right gradient, and what an empty share of a batch needs."""
    torch.testing.assert_close(linear.grad_W(ones(0, 3), ones(0, 4)), torch.zeros(3, 4))
    torch.testing.assert_close(linear.grad_b(ones(0, 4)), torch.zeros(4))
    assert linear.grad_X(ones(0, 4), ones(3, 4)).shape == (0, 3)


def raised_by(module):
    """Return the functions of a module, and the names of the errors that each can raise."""
    tree = ast.parse(inspect.getsource(module))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    errors = {
        name: {ast.unparse(n.exc.func) for n in ast.walk(node) if isinstance(n, ast.Raise)}
        for name, node in functions.items()
    }
    calls = {
        name: {
            n.func.id
            for n in ast.walk(node)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        for name, node in functions.items()
    }
    for _ in functions:  # as many steps as a chain of calls can have
        for name in functions:
            for called in calls[name]:
                errors[name] |= errors.get(called, set())
                if called in vars(module) and called not in functions:
                    other = inspect.getmodule(vars(module)[called])
                    if other not in (None, module) and other.__name__.startswith("snippets."):
                        errors[name] |= raised_by(other)[called]
    return {name: found for name, found in errors.items() if found}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_docstring_names_the_errors(layer):
    module = module_of(layer)
    silent = {
        (name, error)
        for name, errors in raised_by(module).items()
        for error in errors
        if error not in inspect.getdoc(getattr(module, name))
    }
    assert silent == set()


def test_errors_are_found():
    assert raised_by(module_of("faster"))["one_pass"] == {"ValueError", "RuntimeError"}
