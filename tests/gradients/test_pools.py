"""What makes the search quick loses nothing."""

import pytest
import torch

from proofread.gradients.graph import recognise
from proofread.gradients.graph.likeness import Likeness
from proofread.gradients.planted.candidates import Enumeration
from proofread.gradients.planted.enumeration import every_mistake
from proofread.gradients.pools import Ways, some_places
from tests.gradients import eighth, sixth
from tests.gradients import layers as L
from tests.gradients.test_program import CASES, problem_of

DEEP = [
    (L.mlp, "W1"),
    (L.layer_norm, "x"),
    (L.attention, "Q"),
    (L.self_attention, "x"),
    (L.conv2d, "x"),
    (sixth.elman, "Wh"),
]


@pytest.mark.parametrize(("forward", "wrt"), DEEP, ids=lambda part: getattr(part, "__name__", part))
def test_a_few_entries_are_those_of_the_whole_gradient(forward, wrt):
    problem = problem_of(forward, wrt)
    for tag, program in problem.programs:
        places = some_places(problem.right)
        ways, known = Ways(program, places), 0
        assert ways.slopes
        for candidate in every_mistake(Enumeration(program, tag, problem.sizes)):
            entries = ways.entries_of(candidate)
            if entries is None:
                continue
            known += 1
            whole = candidate.gradient()
            assert whole is not None, candidate
            torch.testing.assert_close(
                entries,
                whole.reshape(-1)[places],
                equal_nan=True,
                msg=lambda m, c=candidate: f"{c}: {m}",
            )
        assert known > 10


@pytest.mark.parametrize(("forward", "wrt"), [case.values for case in CASES][::3])
def test_looking_at_a_few_entries_first_recognises_the_same(forward, wrt, monkeypatch):
    traced = problem_of(forward, wrt).traced
    found = recognise.textbook_rules(traced).keys()

    class Blind(Likeness):
        def sums_to_one(self, y):
            return True

        def elementwise(self, x, y):
            return True

        def _group(self, x, axes, gamma=None):
            return [0.0, 0.0, 0.0]

    monkeypatch.setattr(recognise, "Likeness", Blind)
    assert recognise.textbook_rules(traced).keys() == found


def test_what_autograd_cannot_follow_is_run_to_the_end():
    problem = problem_of(eighth.running_logarithm, "x")
    for tag, program in problem.programs:
        ways = Ways(program, some_places(problem.right))
        planted = every_mistake(Enumeration(program, tag, problem.sizes))
        assert all(ways.entries_of(candidate) is None for candidate in planted)
