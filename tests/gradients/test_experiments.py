"""Each experiment is needed: with it switched off, a mistake is missed or confused."""

import pytest
import torch

from proofread import diagnose
from proofread.gradients import candidates, experiments, intake, search
from tests.gradients import layers as L
from tests.gradients.tables import labels, upstream_for
from tests.gradients.wrong import Accumulating


def two_rows():
    generator = torch.Generator().manual_seed(2)
    return {"X": torch.randn(2, 4, generator=generator, dtype=torch.float64)}


def named(backward, forward, inputs, wrt, **given):
    return labels(diagnose(backward, forward, inputs, wrt=wrt, **given))


def test_other_sizes_tell_a_factor_2_from_a_count_of_2(monkeypatch):
    def forgotten(i, g):
        return g.expand_as(i["X"])

    def doubled(i, g):
        return 2 * g.expand_as(i["X"]) / len(i["X"])

    def both():
        return [named(b, L.mean_rows, two_rows(), "X") for b in (forgotten, doubled)]

    assert both()[0][0] == "missing_mean"
    assert both()[1][0] == "double_counted"
    assert "missing_mean" not in both()[1]
    monkeypatch.setattr(experiments, "told_apart", lambda case, trial, findings, t: findings)
    first, second = both()
    assert first == second


def test_running_twice_tells_a_stale_buffer_from_a_factor_2(monkeypatch):
    def both():
        stale = Accumulating(lambda i, g: i["X"].T @ g)
        inputs = L.inputs_of(L.linear)
        stale(inputs, upstream_for(L.linear, inputs))
        upstream = upstream_for(L.linear, inputs)
        return (
            named(stale, L.linear, inputs, "W", upstream=upstream)[0],
            named(lambda i, g: 2 * i["X"].T @ g, L.linear, inputs, "W", upstream=upstream)[0],
        )

    assert both() == ("stale_gradient", "double_counted")
    monkeypatch.setattr(experiments, "repeated", lambda case, trial: [])
    monkeypatch.setattr(experiments, "told_apart", lambda case, trial, findings, t: findings)
    assert both() == ("double_counted", "double_counted")


def test_more_rows_tell_a_mean_from_a_sum(monkeypatch):
    inputs = {"X": torch.ones(1, 3), "W": torch.ones(3, 4), "b": torch.zeros(4)}
    assert named(lambda i, g: g.mean(0), L.linear, inputs, "b")[0] == "extra_mean"
    assert diagnose(lambda i, g: g.sum(0), L.linear, inputs, wrt="b").ok
    monkeypatch.setattr(experiments, "counterexample", lambda case: None)
    assert diagnose(lambda i, g: g.mean(0), L.linear, inputs, wrt="b").ok


def test_other_values_show_what_friendly_data_hide(monkeypatch):
    inputs = {"Z": torch.rand(5, 4) + 0.1}  # no entry that relu blocks
    with_mask = diagnose(lambda i, g: g * (i["Z"] > 0), L.relu, inputs, wrt="Z")
    assert with_mask.ok

    signed = {"Z": inputs["Z"] * torch.tensor([1.0, -1.0, 1.0, -1.0])}
    assert named(lambda i, g: g, L.relu, signed, "Z")[0] == "missing_mask"


def test_upstream_of_ones_hides_that_it_is_missing(monkeypatch):
    inputs = L.inputs_of(L.sigmoid)
    ones = torch.ones(5, 4, dtype=torch.float64)

    def slope(i, g):
        return torch.sigmoid(i["z"]) * (1 - torch.sigmoid(i["z"]))

    assert named(slope, L.sigmoid, inputs, "z", upstream=ones)[0] == "missing_upstream"
    monkeypatch.setattr(experiments, "counterexample", lambda case: None)
    assert diagnose(slope, L.sigmoid, inputs, wrt="z", upstream=ones).ok


def test_changing_the_upstream_explains_what_no_formula_does(monkeypatch):
    inputs = L.inputs_of(L.tanh)

    def odd(i, g):
        return (1 - torch.tanh(i["z"]) ** 2) * torch.cos(7 * i["z"])

    assert named(odd, L.tanh, inputs, "z")[0] == "missing_upstream"
    assert named(lambda i, g: g * g * odd(i, g), L.tanh, inputs, "z")[0] == "applied_twice"
    monkeypatch.setattr(experiments, "behaviour", lambda case, trial: [])
    assert named(odd, L.tanh, inputs, "z") == ["unexplained"]


def test_looking_for_changed_inputs(monkeypatch):
    def backward(i, g):
        g[i["Z"] <= 0] = 0
        return g

    inputs = L.inputs_of(L.relu)
    assert named(backward, L.relu, inputs, "Z") == ["inputs_changed"]
    monkeypatch.setattr(intake, "_unchanged", lambda now, before: True)
    assert diagnose(backward, L.relu, inputs, wrt="Z").ok


def test_the_tie_is_told_from_a_wrong_mask(monkeypatch):
    inputs = {"Z": torch.tensor([[-1.0, 0.0, 2.0], [0.0, 3.0, -4.0]])}
    gradient = (inputs["Z"] >= 0).float()
    assert diagnose(gradient, L.relu, inputs, wrt="Z").ok
    monkeypatch.setattr(experiments, "tie", lambda trial: "")
    assert not diagnose(gradient, L.relu, inputs, wrt="Z").ok


def softmax_over_rows(i, g):
    p = torch.softmax(i["z"], -1)
    return p * (g - (g * p).sum(0))


def test_recognising_by_value_names_mistakes_in_a_formula(monkeypatch):
    inputs = L.inputs_of(L.softmax_by_hand)
    assert named(softmax_over_rows, L.softmax_by_hand, inputs, "z")[0] == "wrong_axis"
    monkeypatch.setattr(search, "textbook_rules", lambda program: {})
    assert named(softmax_over_rows, L.softmax_by_hand, inputs, "z")[0] != "wrong_axis"


@pytest.mark.parametrize(
    ("switch", "label", "forward", "wrt", "backward"),
    [
        ("_updated_weights", "used_updated_weights", L.linear, "X",
         lambda i, g: g @ (i["W"] - 0.03 * i["X"].T @ g).T),
        ("_fits", "double_counted", L.residual, "x",
         lambda i, g: 2 * g + (g * (i["x"] @ i["W"] > 0)) @ i["W"].T),
    ],
)  # fmt: skip
def test_each_part_of_the_search(monkeypatch, switch, label, forward, wrt, backward):
    inputs = L.inputs_of(forward)
    assert named(backward, forward, inputs, wrt)[0] == label
    monkeypatch.setattr(search, switch, lambda *arguments: [])
    assert named(backward, forward, inputs, wrt)[0] != label


def test_other_forwards_name_what_no_backward_step_does(monkeypatch):
    def unbiased(i, g):
        x = i["x"].clone().requires_grad_()
        y = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + 1e-5)
        return torch.autograd.grad(y * i["gamma"], x, g)[0]

    inputs = L.inputs_of(L.layer_norm)
    assert named(unbiased, L.layer_norm, inputs, "x")[0] == "other_variant"

    def unmasked(i, g):
        return torch.softmax(i["Q"] @ i["K"].T / 3**0.5, -1).T @ g

    inputs = L.inputs_of(L.causal_attention)
    assert named(unmasked, L.causal_attention, inputs, "V")[0] == "missing_mask"
    monkeypatch.setattr(candidates, "FORWARDS", {})
    assert named(unmasked, L.causal_attention, inputs, "V") == ["unexplained"]


def test_a_left_out_eps_does_not_hide_the_mistake(monkeypatch):
    def detached(i, g):
        return g * i["gamma"] / i["x"].std(-1, unbiased=False, keepdim=True)

    inputs = L.inputs_of(L.layer_norm)
    assert named(detached, L.layer_norm, inputs, "x")[0] == "norm_stats_detached"
    monkeypatch.setattr(experiments, "LOOSE", 0.0)
    assert named(detached, L.layer_norm, inputs, "x") == ["unexplained"]


def test_says_both_where_nothing_tells_them_apart():
    inputs = L.inputs_of(L.linear)
    upstream = upstream_for(L.linear, inputs)
    twice = 2 * inputs["X"].T @ upstream
    found = named(twice, L.linear, inputs, "W", upstream=upstream)
    assert found[:2] == ["double_counted", "stale_gradient"]
    text = str(diagnose(twice, L.linear, inputs, wrt="W", upstream=upstream))
    assert "The same numbers could also come from" in text
