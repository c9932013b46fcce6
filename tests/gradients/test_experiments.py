"""Each experiment is needed: with it switched off, a mistake is missed or confused."""

import pytest
import torch

from proofread import diagnose
from proofread.gradients import experiments, intake, kinks, search
from proofread.gradients.planted import enumeration
from tests.gradients import eighth, tenth
from tests.gradients import layers as L
from tests.gradients.tables import labels, upstream_for
from tests.gradients.wrong import Accumulating


def two_rows():
    generator = torch.Generator().manual_seed(2)
    return {"X": torch.randn(2, 4, generator=generator, dtype=torch.float64)}


def named(backward, forward, inputs, wrt, **given):
    return labels(diagnose(backward, forward, inputs, wrt=wrt, **given))


def test_a_long_recurrence_is_judged_on_a_short_one():
    inputs = L.inputs_of(eighth.recurrent) | {"x": L.normal(24, 3, 4)}
    case = intake.case_of(eighth.not_carried, eighth.recurrent, inputs, "Wh", None)
    trial = case.trial(case.inputs, case.upstream)
    short, sizes = experiments._shorter(case, trial)
    assert sizes[24] < 10
    assert len(short.problem.traced.steps) < len(trial.problem.traced.steps) / 2
    diagnosis = diagnose(eighth.not_carried, eighth.recurrent, inputs, wrt="Wh")
    assert labels(diagnosis)[0] == "missing_path"
    # What is said of the numbers is about the data given.
    assert torch.equal(diagnosis.gradient, trial.right)


def test_other_sizes_tell_a_factor_2_from_a_count_of_2(monkeypatch):
    def forgotten(i, g):
        return g.expand_as(i["X"])

    def doubled(i, g):
        return 2 * g.expand_as(i["X"]) / len(i["X"])

    def both():
        return [named(b, L.mean_rows, two_rows(), "X") for b in (forgotten, doubled)]

    assert both()[0][0] == "missing_mean"
    assert both()[1][0] == "wrong_scale_factor"
    assert "missing_mean" not in both()[1]
    monkeypatch.setattr(experiments, "told_apart", lambda case, findings, t: findings)
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

    assert both() == ("stale_gradient", "wrong_scale_factor")
    monkeypatch.setattr(experiments, "repeated", lambda case, trial: [])
    monkeypatch.setattr(experiments, "told_apart", lambda case, findings, t: findings)
    assert both() == ("wrong_scale_factor", "wrong_scale_factor")


def test_more_rows_tell_a_mean_from_a_sum(monkeypatch):
    inputs = {"X": torch.ones(1, 3), "W": torch.ones(3, 4), "b": torch.zeros(4)}

    def said(backward):
        diagnosis = diagnose(backward, L.linear, inputs, wrt="b")
        assert diagnosis.ok  # on one row a mean is a sum
        return "extra_mean" in str(diagnosis)

    assert said(lambda i, g: g.mean(0))
    assert not said(lambda i, g: g.sum(0))
    monkeypatch.setattr(experiments, "counterexample", lambda case: None)
    assert not said(lambda i, g: g.mean(0))


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

    diagnosis = diagnose(slope, L.sigmoid, inputs, wrt="z", upstream=ones)
    assert labels(diagnosis)[0] == "missing_upstream"
    assert [n.label for n in diagnosis.notes] == ["other_values"]
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
    monkeypatch.setattr(kinks, "tie", lambda trial: "")
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
        ("other_inputs.updated_weights", "used_updated_weights", L.linear, "X",
         lambda i, g: g @ (i["W"] - 0.03 * i["X"].T @ g).T),
        ("search._fits", "double_counted", L.residual, "x",
         lambda i, g: 2 * g + (g * (i["x"] @ i["W"] > 0)) @ i["W"].T),
        ("other_inputs.turned_inputs", "transposed_operand", tenth.heads, "q",
         lambda i, g: tenth.heads_by_hand(i, g, i["k"].transpose(1, 2))),
        ("other_inputs.exchanged", "wrong_operand", tenth.gated, "gate",
         lambda i, g: g * torch.sigmoid(i["gate"])),
    ],
)  # fmt: skip
def test_each_part_of_the_search(monkeypatch, switch, label, forward, wrt, backward):
    inputs = L.inputs_of(forward)
    assert named(backward, forward, inputs, wrt)[0] == label
    monkeypatch.setattr(f"proofread.gradients.{switch}", lambda *arguments: [])
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
    monkeypatch.setattr(enumeration, "FORWARDS", {})
    assert named(unmasked, L.causal_attention, inputs, "V") == ["unexplained"]


def test_a_left_out_eps_does_not_hide_the_mistake(monkeypatch):
    def detached(i, g):
        return g * i["gamma"] / i["x"].std(-1, unbiased=False, keepdim=True)

    inputs = L.inputs_of(L.layer_norm)
    assert named(detached, L.layer_norm, inputs, "x")[0] == "norm_stats_detached"
    monkeypatch.setattr(experiments, "LOOSE", 0.0)
    assert named(detached, L.layer_norm, inputs, "x") == ["unexplained"]


def test_says_both_where_nothing_tells_them_apart():
    def decayed(w, b):
        return (w * b).sum() + 0.5 * (w**2).sum()

    inputs = {"w": torch.arange(1.0, 4.0), "b": torch.ones(3)}
    twice = inputs["b"] + 2 * inputs["w"]
    assert named(twice, decayed, inputs, "w")[:2] == ["missing_scale_factor", "double_counted"]
    text = str(diagnose(twice, decayed, inputs, wrt="w"))
    assert "The same numbers could also come from" in text


def test_what_is_nearly_right_is_not_named(monkeypatch):
    inputs = L.inputs_of(L.linear)
    upstream = upstream_for(L.linear, inputs)
    right = inputs["X"].T @ upstream
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(1)).to(right)
    for size in (1e-5, 1e-4, 1e-3):
        diagnosis = diagnose(
            right * (1 + size * noise), L.linear, inputs, wrt="W", upstream=upstream
        )
        assert labels(diagnosis) == ["unexplained"]
        assert "off by at most" in str(diagnosis)
    monkeypatch.setattr(search, "SHARE", 1e9)  # as if to lie near the right one explained it
    assert named(right * (1 + 1e-4 * noise), L.linear, inputs, "W", upstream=upstream) != [
        "unexplained"
    ]


def test_a_left_out_eps_is_named():
    def no_eps(i, g):
        c = i["x"] - i["x"].mean(-1, keepdim=True)
        r = c.square().mean(-1, keepdim=True).rsqrt()
        h, d = c * r, g * i["gamma"]
        return r * (d - d.mean(-1, keepdim=True) - h * (d * h).mean(-1, keepdim=True))

    inputs = L.inputs_of(L.layer_norm)
    diagnosis = diagnose(no_eps, L.layer_norm, inputs, wrt="x")
    assert labels(diagnosis)[0] == "other_variant"
    assert "eps" in str(diagnosis)


def recurrent(x, W):
    for _ in range(3):
        x = torch.tanh(x @ W)
    return x


def test_the_same_mistake_at_every_step_of_a_recurrence(monkeypatch):
    def states(i):
        out = [i["x"]]
        for _ in range(3):
            out.append(torch.tanh(out[-1] @ i["W"]))
        return out

    def untransposed(i, g):
        for h in states(i)[:0:-1]:
            g = (g * (1 - h**2)) @ i["W"]
        return g

    def last_state(i, g):
        for _ in range(3):
            g = (g * (1 - states(i)[-1] ** 2)) @ i["W"].T
        return g

    inputs = {"x": L.normal(5, 4), "W": L.normal(4, 4)}
    assert named(untransposed, recurrent, inputs, "x")[0] == "transposed_operand"
    assert named(last_state, recurrent, inputs, "x")[0] == "wrong_operand"
    monkeypatch.setattr(enumeration, "_at_all", lambda e, found: found[0])
    monkeypatch.setattr(enumeration.repeated, "shifted", lambda e: iter(()))
    assert named(untransposed, recurrent, inputs, "x") == ["unexplained"]
    assert named(last_state, recurrent, inputs, "x") == ["unexplained"]


@pytest.mark.parametrize(("wrt", "said"), [("W", "after"), ("x", "before")])
def test_a_recurrence_that_reads_its_neighbour_is_told_which(wrt, said):
    """dJ/dW needs the states that were taken in, and dJ/dx those that came out."""

    def backward(i, g, shift):
        h, dJ_dW = [i["x"]], 0
        for _ in range(3):
            h.append(torch.tanh(h[-1] @ i["W"]))
        for t in range(3)[::-1]:
            g = g * (1 - h[t + 1 - shift * (wrt == "x")] ** 2)
            dJ_dW = dJ_dW + h[t + shift * (wrt == "W")].T @ g
            g = g @ i["W"].T
        return dJ_dW if wrt == "W" else g

    def judged(shift):
        return diagnose(lambda i, g: backward(i, g, shift), recurrent, inputs, wrt=wrt)

    inputs = {"x": L.normal(5, 4), "W": L.normal(4, 4)}
    assert judged(0).ok
    assert f"uses the one {said} it each time" in " ".join(str(judged(1)).split())


@pytest.mark.parametrize(
    ("forward", "other", "label", "constant"),
    [
        (lambda x: torch.tanh(0.7 * x), lambda x: torch.tanh(-0.7 * x), "sign_error", -0.7),
        (lambda x: torch.tanh(0.7 * x), lambda x: torch.tanh(0.5 * x), "wrong_scale_factor", 0.5),
        (lambda x: (2 + x.tanh()) ** 3, lambda x: (2 + x.tanh()) ** 2.5, "wrong_power", 2.5),
    ],
)
def test_what_another_constant_means(forward, other, label, constant):
    inputs = {"x": L.normal(5, 4)}
    upstream = torch.ones_like(inputs["x"])
    right, yours = (intake.right_gradient(f, inputs, "x", upstream) for f in (forward, other))
    problem = search.Problem(forward, inputs, "x", upstream, right)
    found = search.other_constants(yours, problem, 1e-6)
    assert (label, pytest.approx(constant)) in [(f.label, f.constant) for f in found]


def test_solves_for_another_constant(monkeypatch):
    def forward(x):
        return torch.tanh(0.7 * x) + 0.3 * x**2

    def backward(i, g):
        return g * (0.6 * (1 - torch.tanh(0.6 * i["x"]) ** 2) + 0.6 * i["x"])

    inputs = {"x": L.normal(5, 4)}
    diagnosis = diagnose(backward, forward, inputs, wrt="x")
    assert labels(diagnosis)[0] == "wrong_scale_factor"
    assert "0.7" in str(diagnosis)
    assert "0.6" in str(diagnosis)
    monkeypatch.setattr(search, "other_constants", lambda *arguments: [])
    assert named(backward, forward, inputs, "x") == ["unexplained"]


def test_names_a_factor_besides_the_mistake():
    inputs = L.inputs_of(L.softmax)

    def diagonal(i, g):
        p = torch.softmax(i["z"], -1)
        return 0.7 * g * p * (1 - p)

    text = str(diagnose(diagonal, L.softmax, inputs, wrt="z"))
    assert "missing_cross_terms" in text
    assert "0.7" in text


def test_large_data_are_searched_on_a_smaller_draw(monkeypatch):
    inputs = {"X": torch.randn(40, 600), "W": torch.randn(600, 10), "b": torch.zeros(10)}

    def mean(i, g):
        return i["X"].T @ g / len(g)

    assert named(mean, L.linear, inputs, "W")[0] == "extra_mean"
    sizes = []
    of = search.explanations
    monkeypatch.setattr(
        experiments,
        "explanations",
        lambda u, *rest: sizes.append(u.numel()) or of(u, *rest),
    )
    diagnose(mean, L.linear, inputs, wrt="W")
    assert sizes[0] < sizes[1] == 6000


def test_says_which_output_is_judged():
    x = L.normal(4)
    diagnosis = diagnose(lambda i, g: g, lambda x: (2 * x, x), {"x": x}, wrt="x")
    assert diagnosis.ok
    assert [n.label for n in diagnosis.notes] == ["last_output"]


def test_a_mistake_has_the_same_source_at_sizes_whose_numbers_are_written_otherwise():
    def sources(rows, columns):  # 1/sqrt(3), 1/3 and 0.2, 0.5
        x = torch.randn(rows, columns, dtype=torch.float64)
        forward = lambda x: torch.tanh(x / columns**0.5) * (1 / columns)
        upstream = torch.ones_like(x)
        right = intake.right_gradient(forward, {"x": x}, "x", upstream)
        problem = search.Problem(forward, {"x": x}, "x", upstream, right)
        return {c.source for c in problem._planted() if c.label == "missing_scale_factor"}

    assert sources(6, 3) == sources(6, 5) == sources(7, 4) != set()
