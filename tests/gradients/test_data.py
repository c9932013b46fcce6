"""Other data keep what is special about the data given."""

import torch
import torch.nn.functional as F

from proofread import diagnose
from proofread.gradients.data import is_large, other_sizes, redraw
from proofread.gradients.graph.recognise import textbook_rules
from proofread.gradients.graph.trace import trace
from tests.gradients import layers as L


def test_redraws_values_of_the_same_kind():
    p = torch.softmax(torch.randn(5, 4), -1)
    given = {
        "x": torch.randn(5, 3),
        "mask": torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        "p": p,
        "positive": torch.rand(6) + 2,
        "ids": torch.tensor([0, 3, 1]),
        "causal": torch.ones(3, 3).tril().bool(),
        "eps": 1e-5,
        "constant": torch.zeros(4),
    }
    drawn = redraw(given, 0)
    assert not torch.equal(drawn["x"], given["x"])
    assert (drawn["x"] < 0).any()
    assert set(drawn["mask"].unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn["p"].sum(-1), torch.ones(5))
    assert (drawn["positive"] > 0).all()
    for name in ("ids", "causal", "constant"):
        assert torch.equal(drawn[name], given[name])
    assert drawn["eps"] == 1e-5


def test_equal_sizes_stay_equal_and_others_stay_distinct():
    given = {"X": torch.randn(5, 3), "W": torch.randn(3, 4), "ids": torch.tensor([0, 1, 2, 0, 1])}
    drawn = redraw(given, 0, next(other_sizes(given)))
    n, d = drawn["X"].shape
    assert drawn["W"].shape[0] == d
    assert drawn["ids"].shape == (n,)
    assert len({n, d, drawn["W"].shape[1]}) == 3


def test_large_data_are_drawn_smaller():
    given = {"X": torch.empty(50_000, 784), "W": torch.empty(784, 50)}
    assert is_large(given)
    sizes = next(other_sizes(given))
    assert max(sizes.values()) < 100


def test_positive_values_are_not_taken_for_a_relu():
    program = trace(lambda x: F.rms_norm(x, (4,)), {"x": torch.randn(5, 4).double()}, "x")
    assert len(textbook_rules(program)) == 1


def test_leaves_the_threads_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        diagnose(lambda i, g: g, L.relu, L.inputs_of(L.relu), wrt="Z")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
