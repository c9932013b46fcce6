"""The recorded program computes the same gradient as autograd, in every form."""

import pytest
import torch

from proofread import diagnose
from proofread.gradients.graph.trace import Untraceable, trace
from proofread.gradients.planted.candidates import Enumeration
from proofread.gradients.planted.enumeration import every_mistake
from proofread.gradients.search import Problem
from tests.gradients import (  # noqa: F401 - the tables add layers to the others
    eighth,
    fifth,
    fourth,
    layers,
    ninth,
    tenth,
    third,
)
from tests.gradients.tables import upstream_for

# PyTorch gives these arguments no gradient.
WITHOUT = {
    ("batch_norm_eval", "mean"),
    ("batch_norm_eval", "var"),
    ("attention_weights", "mask"),
    ("weighted_ce", "weight"),
    ("weighted_bce", "w"),
    ("rows_weighted", "w"),
    ("bce_of_weighted", "w"),
}
# By name, because the collection of doctests imports the tables a second time.
CASES = {
    f"{forward.__name__}-{wrt}": pytest.param(forward, wrt, id=f"{forward.__name__}-{wrt}")
    for forward, inputs in layers.DATA.items()
    for wrt, value in inputs.items()
    if isinstance(value, torch.Tensor)
    and value.is_floating_point()
    and (forward.__name__, wrt) not in WITHOUT
}.values()


def problem_of(forward, wrt):
    inputs = layers.inputs_of(forward)
    upstream = upstream_for(forward, inputs)
    leaf = inputs[wrt].clone().requires_grad_()
    output = forward(**{**inputs, wrt: leaf})
    right = torch.autograd.grad(output, leaf, upstream)[0]
    return Problem(forward, inputs, wrt, upstream, right)


@pytest.mark.parametrize(("forward", "wrt"), CASES)
def test_agrees_with_autograd(forward, wrt):
    problem = problem_of(forward, wrt)
    assert problem.programs
    for _, program in problem.programs:
        torch.testing.assert_close(program[program.result], problem.right)


@pytest.mark.parametrize(("forward", "wrt"), CASES)
def test_autograd_itself_is_never_flagged(forward, wrt):
    def backward(inputs, upstream):
        leaf = inputs[wrt].clone().requires_grad_()
        return torch.autograd.grad(forward(**{**inputs, wrt: leaf}), leaf, upstream)[0]

    diagnosis = diagnose(backward, forward, layers.inputs_of(forward), wrt=wrt)
    assert diagnosis.ok, str(diagnosis)
    assert not diagnosis.notes


def test_recognises_what_is_written_by_hand():
    for forward, wrt in (
        (layers.softmax_by_hand, "z"),
        (layers.layer_norm, "x"),
        (layers.bce_by_hand, "z"),
        (layers.gelu_tanh, "z"),
        (layers.conv1d_by_hand, "w"),
        (layers.cross_entropy_by_hand, "logits"),
    ):
        assert [tag for tag, _ in problem_of(forward, wrt).programs] == ["textbook", "steps"]


def test_a_changed_step_leaves_the_program_as_it_was():
    problem = problem_of(layers.mlp, "W1")
    (_, program), *_ = problem.programs
    before = program[program.result].clone()
    for candidate in every_mistake(Enumeration(program, "", problem.sizes)):
        candidate.gradient()
    assert torch.equal(program[program.result], before)
    assert torch.equal(program.run({program.wrt.i: lambda values: values[program.wrt.i]}), before)


def test_records_changes_in_place():
    def forward(x):
        y = x + 1
        y.mul_(2)
        return y.relu_()

    inputs = {"x": torch.randn(4).double()}
    program = trace(forward, inputs, "x")
    assert torch.equal(program[program.output], forward(**inputs))


def test_records_changes_of_a_view():
    def forward(x):
        y = x * 2
        y[0] += 1
        y.view(2, 2)[:, 1] *= x[:2]
        y[torch.tensor([0, 3])] = -x[1:3]
        return y

    x = torch.randn(4)
    program = trace(forward, {"x": x}, "x")
    assert torch.equal(program[program.output], forward(x))
    assert not any(step.kind == "leaf" and not step.name for step in program.steps)


def test_refuses_an_output_from_elsewhere():
    def forward(x):
        x.mul(2)
        return 3

    with pytest.raises(Untraceable):
        trace(forward, {"x": torch.randn(4)}, "x")
