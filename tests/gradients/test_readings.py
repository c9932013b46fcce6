"""What is said beside the account: a hint that fits the forward, and no nonsense as a second."""

import pytest
import torch
import torch.nn.functional as F

from proofread import diagnose
from proofread.gradients.patterns import pattern
from proofread.gradients.report import wrapped
from proofread.gradients.sentences import SENTENCES
from tests.gradients import tenth
from tests.gradients.layers import normal
from tests.gradients.tables import diagnosed, labels

A, B, C = normal(5, 4), normal(5, 4), normal(5, 4)
Y = torch.tensor([0, 3, 1, 1, 2])


def opposite(forward):
    """Return a backward whose every sign is wrong."""

    def backward(inputs, upstream):
        leaf = inputs["a"].detach().requires_grad_()
        with torch.enable_grad():
            output = forward(**{**inputs, "a": leaf})
        return -torch.autograd.grad(output, leaf, upstream)[0]

    return backward


HINTS = {
    "difference": (lambda a, b: (b - a) ** 2, {"a": A, "b": B}, "d(a - b)/db is -1"),
    "quotient": (lambda a, b: b / a, {"a": A, "b": B}, "d(a / b)/db is -a / b²"),
    "loss": (F.cross_entropy, {"a": A, "y": Y}, "prediction minus target"),
    "neither": (lambda a: torch.sigmoid(a), {"a": A}, "term by term"),
}


@pytest.mark.parametrize("case", HINTS)
def test_the_hint_on_a_sign_fits_the_forward(case):
    plain, inputs, hint = HINTS[case]

    def forward(**given):
        return plain(*given.values())

    diagnosis = diagnose(opposite(forward), forward, inputs, wrt="a")
    assert labels(diagnosis)[0] == "sign_error"
    assert hint in diagnosis.mistakes[0].hint


OPERANDS = {
    "quotient": (lambda a, b: a / b, lambda i, g: g / i["a"], "For a / b"),
    "product": (lambda a, b: a * b, lambda i, g: g * i["a"], "For a * b"),
    "activation": (
        lambda a, b: torch.tanh(b) * a,
        lambda i, g: g * i["b"],
        "the output of tanh there, and not its input",
    ),
}


@pytest.mark.parametrize("case", OPERANDS)
def test_the_hint_on_an_operand_fits_the_operation(case):
    forward, backward, hint = OPERANDS[case]
    diagnosis = diagnose(backward, forward, {"a": A, "b": B}, wrt="a")
    assert labels(diagnosis)[0] == "wrong_operand"
    assert hint in diagnosis.mistakes[0].hint


# A loss without its 1/N has its upstream in it; a mask left out is not another mask; …
ALONE = {
    "missing_mean": (
        lambda a, b: (a - b).abs().mean(), {"a": A, "b": B}, lambda i, g: g * (i["a"] - i["b"]).sign(),
    ),
    "extra_mean": (
        lambda a: a.sum(1), {"a": A}, lambda i, g: g[:, None].expand(5, 4) / 4,
    ),
    "missing_mask": (
        lambda a, mask: (mask * a**2).sum() / mask.sum(),
        {"a": A, "mask": (B > 0).double()},
        lambda i, g: 2 * i["a"] * g / i["mask"].sum(),
    ),
    "sign_error": (lambda a, b: b - a, {"a": A, "b": B}, lambda i, g: g),
    "missing_broadcast_sum": (
        lambda a, h: a * h, {"a": normal(2, 1, 4, 1), "h": normal(2, 1, 4, 6)}, lambda i, g: g * i["h"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("label", ALONE)
def test_symptoms_are_not_said_beside_the_mistake(label):
    forward, inputs, backward = ALONE[label]
    assert labels(diagnose(backward, forward, inputs, wrt="a")) == [label]


def lora(x, W, A, B, scale):
    return x @ W + scale * (x @ A) @ B


# a factor of 4, of forwards with an axis of size 4
FOUR_TIMES = {
    "no average": (
        lora,
        {"x": normal(7, 6), "W": normal(6, 5), "A": normal(6, 4), "B": normal(4, 5), "scale": 2.0},
        lambda i, g: 8.0 * (i["x"] @ i["A"]).T @ g,
        "B",
        "wrong_scale_factor",
        "Your gradient is 4 times the right one; 4 is also the size of an axis.",
    ),
    "an average": (
        lambda x: torch.logsumexp(x, 1) / 4, {"x": normal(4, 3)},
        lambda i, g: torch.softmax(i["x"], 1) * g[:, None],
        "x",
        "missing_mean",
        "4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUR_TIMES)
def test_a_mean_is_named_only_where_the_forward_averages(case):
    forward, inputs, backward, wrt, label, said = FOUR_TIMES[case]
    first = diagnose(backward, forward, inputs, wrt=wrt).mistakes[0]
    assert (first.label, said in first.explanation) == (label, True)


@pytest.mark.parametrize(
    ("forward", "label"),
    [
        (lambda a, b: a @ b.T, "wrong_scale_factor"),
        (lambda a, b: a * (a @ b.T @ b), "double_counted"),
    ],
    ids=["once", "twice"],
)
def test_twice_is_double_counted_where_the_forward_uses_it_twice(forward, label):
    inputs = {"a": A, "b": B}

    def backward(inputs, upstream):
        return -2 * opposite(forward)(inputs, upstream)

    found = labels(diagnose(backward, forward, inputs, wrt="a"))
    assert found[0] == label and "stale_gradient" not in found
    # A tensor can't be run again: that it holds an earlier result too is said last.
    given = torch.ones_like(forward(**inputs))
    tensor = backward(inputs, given)
    found = labels(diagnose(tensor, forward, inputs, wrt="a", upstream=given))
    assert found[0] == label and found[-1] == "stale_gradient"


def hinge(a, p, n):
    return torch.relu(((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + 0.2).mean()


def attention(x, wq, wk):
    scores = (x @ wq) @ (x @ wk).T
    return scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1) @ x


def attention_detached(i, g):
    return (
        attention(i["x"], i["wq"], i["wk"]).new_zeros(())
        + torch.autograd.functional.vjp(
            lambda x: attention(i["x"], i["wq"], i["wk"]) * 0 + _weights(i) @ x, i["x"], g
        )[1]
    )


def _weights(i):
    scores = (i["x"] @ i["wq"]) @ (i["x"] @ i["wk"]).T
    return scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1)


def twice_in_einsum(x, A):
    return torch.einsum("bi,ij,bj->b", x, A, x)


def by_hand(x):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5)


def without_cube(i, g):
    centred = i["x"] - i["x"].mean(-1, keepdim=True)
    var = (centred**2).mean(-1, keepdim=True) + 1e-5
    slope = (g * centred).sum(-1, keepdim=True) * -0.5 * var**-0.5
    gradient = g * var**-0.5 + 2 * centred * slope / 8
    return gradient - gradient.mean(-1, keepdim=True)


def unbiased(x):
    return (x - x.mean(0)) / torch.sqrt(x.var(0) + 1e-5)


def as_if_biased(i, g):
    scale = (i["x"].var(0) + 1e-5) ** -0.5
    hat = (i["x"] - i["x"].mean(0)) * scale
    return scale * (g - g.mean(0) - hat * (g * hat).mean(0))


def clip(u, v):
    logits, t = u @ v.T, torch.arange(5)
    return (F.cross_entropy(logits, t) + F.cross_entropy(logits.T, t)) / 2


def pooled(x, seg):
    return torch.zeros(3, 4, dtype=x.dtype).index_add(0, seg, x) / torch.bincount(seg)[
        :, None
    ].clamp(min=1)


def block(x, w):
    y = x + torch.tanh(x * w)
    return y * torch.sigmoid(y)


def without_skip(i, g):
    x = i["x"].detach().requires_grad_()
    with torch.enable_grad():
        y = i["x"] + torch.tanh(x * i["w"])
        z = y * torch.sigmoid(y)
    return torch.autograd.grad(z, x, g)[0]


def without_half(i, g):
    v = i["v"].detach().requires_grad_()
    with torch.enable_grad():
        y = 2 * clip(i["u"], v)
    return torch.autograd.grad(y, v, g)[0]


def without_variance(i, g):
    x = i["x"]
    scale = (x.var(-1, correction=0, keepdim=True) + 1e-5) ** -0.5
    return scale * (g - g.mean(-1, keepdim=True))


GAMMA = normal(4)


def _slope(x):
    return x * (1 - torch.tanh(F.layer_norm(x, (4,), GAMMA)) ** 2)


def rnn(x, Wx, Wh):
    states = [x.new_zeros(3, 6)]
    for step in x:
        states.append(torch.tanh(step @ Wx + states[-1] @ Wh))
    return torch.stack(states[1:])


def through_time(i, g, carry=False, slope=True, first=0):
    x, Wh = i["x"], i["Wh"]
    h, gradient, back = rnn(**i), torch.zeros_like(Wh), 0
    for t in reversed(range(first, len(x))):
        dz = (g[t] + back) * (1 - h[t] ** 2 if slope else 1)
        if t:
            gradient = gradient + h[t - 1].T @ dz
        back = dz @ Wh.T if carry else 0
    return gradient


STEPS = {"x": normal(10, 3, 4), "Wx": 0.5 * normal(4, 6), "Wh": 0.4 * normal(6, 6)}
FIVE = STEPS | {"x": STEPS["x"][:5]}


# forward, inputs, backward, wrt, the labels that are said, a part of the text, and what is not in it
SAID = {
    "hinge": (
        hinge, {"a": normal(9, 5), "p": normal(9, 5), "n": normal(9, 5)},
        lambda i, g: g * 2 * (i["n"] - i["p"]) / 9, "a",
        ["missing_mask", "missing_local_derivative"], "must be 0", "mean",
    ),
    "bounded count": (
        pooled, {"x": normal(9, 4), "seg": torch.tensor([0, 0, 1, 2, 2, 2, 1, 0, 2])},
        lambda i, g: g[i["seg"]], "x", ["missing_mean", "missing_scale_factor"], "1 / clamp", "mask",
    ),
    "half of two losses": (
        clip, {"u": normal(5, 7), "v": normal(5, 7)}, without_half, "v",
        ["missing_scale_factor"], "The divisor 2", "not multiplied",
    ),
    "einsum": (
        twice_in_einsum, {"x": A, "A": normal(4, 4)},
        lambda i, g: g[:, None] * (i["x"] @ i["A"].T), "x",
        ["missing_path", "overwrite_not_accumulate"], "One of the two uses of x in", "x through x ",
    ),
    "norm by hand": (
        by_hand, {"x": normal(4, 8)}, without_variance, "x",
        ["norm_var_term_missing"], "variance", "direct",
    ),
    "skip": (
        block, {"x": A, "w": B}, without_skip, "x",
        ["missing_path", "overwrite_not_accumulate"], "the skip", "product",
    ),
    "anchor": (
        lambda a, p, n: ((a - p) ** 2).sum(1) - torch.tanh(a - n).sum(1), {"a": A, "p": B, "n": C},
        lambda i, g: 2 * (i["a"] - i["p"]) * g[:, None], "a",
        ["missing_path", "overwrite_not_accumulate"], "→ Add its term", "unchanged",
    ),
    "another setting": (
        lambda x: F.elu(x, 0.7), {"x": A},
        lambda i, g: torch.where(i["x"] > 0, g, g * i["x"].exp()), "x",
        ["missing_scale_factor", "other_variant"], "elu with its usual setting", "forward has elu",
    ),
    "unbiased variance": (
        unbiased, {"x": normal(8, 5)}, as_if_biased, "x", ["other_variant", "wrong_mean_count"],
        "where it must divide by 7, as the unbiased variance of", "as one average",
    ),
    "power of a variance": (
        by_hand, {"x": normal(4, 8)}, without_cube, "x", ["wrong_power"],
        "has std where 1/std belongs: (var + eps)**-0.5 for **-1.5.", "as one average",
    ),
    "not carried": (
        rnn, FIVE, through_time, "Wh", ["missing_path", "overwrite_not_accumulate"],
        "not carried from one time step to the one before: the term through the product with Wh",
        "a value of shape",
    ),
    "last step": (
        rnn, FIVE, lambda i, g: through_time(i, g, first=4), "Wh", None,
        "Only one of the uses of Wh has a term.", "a value of shape",
    ),
    "ten derivatives": (
        rnn, STEPS, lambda i, g: through_time(i, g, carry=True, slope=False), "Wh",
        ["missing_local_derivative"],
        "The derivative of tanh is left out, at this and all other such steps.", "a value of shape",
    ),
    "factor without a name": (
        lambda x: torch.tanh(F.layer_norm(x, (4,), GAMMA)) * x, {"x": A},
        lambda i, g: torch.autograd.functional.vjp(
            lambda x: torch.tanh(F.layer_norm(i["x"], (4,), GAMMA)) * x
            + (F.layer_norm(x, (4,)) * _slope(i["x"])), i["x"], g)[1],
        "x", None, "actor of shape (4,) is left out", "factor a value",
    ),
    "softmax behind a mask": (
        attention, {"x": normal(5, 4), "wq": normal(4, 3), "wk": normal(4, 3)},
        attention_detached, "x", None, "No gradient reaches x @ wq @ (x @ wk).T.", "triu",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_says_no_nonsense(case):
    forward, inputs, backward, wrt, expected, there, not_there = SAID[case]
    diagnosis = diagnose(backward, forward, inputs, wrt=wrt)
    text = " ".join(str(diagnosis).split())
    assert there in text
    assert not_there not in text
    assert expected is None or labels(diagnosis) == expected


def test_the_same_account_is_said_once():
    diagnosis = diagnose(lambda i, g: g * 1, torch.relu, {"input": A}, wrt="input")
    first, second = diagnosis.mistakes
    assert first.explanation != second.explanation
    assert (
        second.explanation == "Another name for the same: one link of the chain rule is left out."
    )
    assert "upstream itself" in first.explanation


def test_rows_of_several_axes_are_named_by_their_index():
    x = normal(3, 4, 5)

    def backward(inputs, upstream):
        gradient = upstream * torch.cos(inputs["x"])
        gradient[1] *= 1.3
        return gradient

    diagnosis = diagnose(backward, lambda x: torch.sin(x), {"x": x}, wrt="x")
    assert "20 of 60 entries differ, all in x[1];" in " ".join(str(diagnosis).split())


def test_one_entry_is_said_in_the_singular():
    def backward(inputs, upstream):
        gradient = upstream * 1
        gradient[2, 1] = 7.0
        return gradient

    diagnosis = diagnose(backward, lambda a: a + 1, {"a": A}, wrt="a")
    assert "1 of 20 entries differs; at [2, 1]: yours 7," in " ".join(str(diagnosis).split())


def test_the_length_of_a_vector_is_called_a_norm():
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    held = diagnose(
        lambda i, g: g / i["x"].norm(dim=1, keepdim=True),
        lambda x: F.normalize(x, dim=1),
        {"x": x},
        wrt="x",
    )
    said = " ".join(str(held).split())
    assert "The path through the norm of normalize(x) is left out." in said
    assert "there is a term along the unit vector" in said
    # The clamp in F.normalize is open everywhere: to invert it is no likely mistake.
    assert not {"variance", "1/std", "clamp"} & set(said.split())
    assert "wrong_mask" not in said


def test_the_hint_on_a_cross_entropy_is_its_own_formula():
    def plus(i, g):
        return g * (torch.softmax(i["z"], 1) + F.one_hot(i["y"], 4)) / 5

    held = diagnose(plus, lambda z, y: F.cross_entropy(z, y), {"z": A, "y": Y}, wrt="z")
    assert held.mistakes[0].hint == "The gradient of the logits is (softmax(z) - one_hot(y)) / N."


def doubled_in_place(i, g):
    return g.mul_(2)


def test_a_gradient_whose_values_are_right_is_not_called_wrong():
    text = str(diagnose(doubled_in_place, lambda a: 2 * a, {"a": A}, wrt="a"))
    assert "values right, but upstream is changed in place" in " ".join(text.split())
    assert "wrong" not in text
    assert all(len(line) < 80 for line in text.splitlines())


def test_a_change_in_place_is_no_other_reading():
    text = str(diagnose(doubled_in_place, lambda a, b: a * b, {"a": A, "b": B}, wrt="a"))
    assert "Besides, your backward changes upstream in place." in text
    assert "could also come from" not in text


def test_says_that_a_gradient_cancels_rather_than_an_error_of_1():
    held = diagnose(torch.zeros(3, 4), lambda z: F.layer_norm(z, (4,)), {"z": torch.randn(
        3, 4, generator=torch.Generator().manual_seed(1))}, wrt="z")  # fmt: skip
    assert held.ok
    text = str(held)
    assert "right (up to rounding)" in text
    assert "cancels to 0" in text


def off_where_negative(i, g):
    return g * torch.where(i["a"] > 0, 1, torch.cos(3 * i["a"]))


def nearly(i, g):
    return g * torch.cos(i["a"] * 1.00002)


def never_filled(i, g):
    gradient = torch.zeros_like(i["a"])
    for k in range(len(gradient) - 1):
        gradient[k] = g[k] @ i["b"].T
    return gradient


UNEXPLAINED = {
    "sign": (lambda a: F.elu(a), {"a": A}, off_where_negative, "all where a <= 0; the most"),
    "rounded": (lambda a: torch.sin(a), {"a": A}, nearly, "a rounded constant or a left-out eps"),
    "never filled": (
        lambda a, b: a @ b, {"a": A, "b": normal(4, 3)}, never_filled,
        "all_zero Row 4 of your gradient is left at 0. → Does your loop get there?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNEXPLAINED)
def test_says_what_can_be_seen_of_what_has_no_name(case):
    forward, inputs, backward, seen = UNEXPLAINED[case]
    text = " ".join(str(diagnose(backward, forward, inputs, wrt="a")).split())
    assert seen in text


def test_a_repeated_index_is_seen():
    ids = torch.tensor([[0, 0, 1], [2, 1, 3], [4, 2, 2]])
    wrong = torch.zeros(6, 2, dtype=torch.bool)
    wrong[[0, 2]] = True
    assert pattern(wrong, {"ids": ids})[0] == "all read more than once by one row of ids"
    wrong[1] = True
    assert pattern(wrong, {"ids": ids})[0] == "all read more than once by ids"
    wrong[5] = True
    assert pattern(wrong, {"ids": ids}) == ("", "")


# Readers and their scripts know the mistakes by these names.
STABLE = """
all_zero applied_twice conv_flip derivative_at_wrong_point double_counted extra_mean inputs_changed
missing_broadcast_sum missing_cross_terms missing_local_derivative missing_mask missing_mean
missing_path missing_product_term missing_scale_factor missing_target missing_upstream
norm_mean_term_missing norm_stats_detached norm_var_term_missing not_finite other_variant
overwrite_not_accumulate sign_error stale_gradient transposed_operand unexplained
upstream_collapsed used_updated_weights wrong_axis wrong_mask wrong_mean_count wrong_operand
wrong_power wrong_scale_factor wrong_shape
"""


def test_the_labels_are_those_that_are_promised():
    assert set(SENTENCES) == set(STABLE.split())


def test_a_weight_is_not_stepped_uphill():
    """Four times the term of W is also what C would give after a step in the wrong direction."""
    inputs = {"C": normal(5, 4), "W": normal(5, 4)}
    found = diagnose(
        lambda i, g: g * (i["C"] + 0.6 * i["W"]),
        lambda C, W: (W * C).sum() + 0.075 * (W**2).sum(),
        inputs,
        wrt="W",
    )
    assert "used_updated_weights" not in labels(found)


def test_a_factor_that_other_data_refute_is_not_said():
    """Two mistakes in one row of five look like one term, -2.002 times as large, on one draw."""
    found = diagnose(
        lambda i, g: F.log_softmax(i["x"], 0).exp() + g,
        lambda x: F.log_softmax(x, 0),
        {"x": normal(5)},
        wrt="x",
    )
    assert "wrong_scale_factor" not in labels(found)


def test_a_factor_is_said_as_a_fraction():
    found = diagnose(5 / 6 * B, lambda a, b: (a * b).sum(), {"a": A, "b": B}, wrt="a")
    assert "5/6 (0.8333) times" in found.mistakes[0].explanation


def test_no_word_is_broken():
    """What stands in brackets stays together where it can; a whole sentence can't."""
    text = (
        f"At other sizes (overwrite_not_accumulate: {'only the first row counts, ' * 4}and so on)"
    )
    lines = wrapped(text, "  note: ", "        ", 80)
    assert " ".join(" ".join(lines).split()) == f"note: {text}"
    assert max(map(len, lines)) <= 80
    kept = wrapped(f"{'word ' * 12}mean((A - Y) ** 2) is left out", "    ", width=80)
    assert any("mean((A - Y) ** 2)" in line for line in kept)


def test_an_instance_norm_has_its_own_name():
    def plain(x):
        return F.instance_norm(x)

    def by_hand(x):
        centred = x - x.mean((2, 3), keepdim=True)
        return centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()

    def detached(i, g):
        return g / (i["x"].var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()

    for forward in (by_hand, plain):
        found = diagnose(detached, forward, {"x": normal(2, 3, 4, 4)}, wrt="x")
        assert labels(found)[0] == "norm_stats_detached"
        assert "instance_norm(x)" in found.mistakes[0].explanation


def test_no_path_through_time_is_blamed_where_an_output_is_lost():
    """The output is lost at each step but the last, and what is carried back is there."""
    row = next(r for r in tenth.WRONG if r[:3] == ("missing_path", tenth.rnn, "Wx"))
    said = diagnosed(row).mistakes[0].explanation
    assert "not carried" not in said and "left out" in said


def test_a_share_of_those_that_are_not_zero_is_said_to_be_one():
    row = next(r for r in tenth.WRONG if r[1] is tenth.triplet)
    assert "are not 0" in diagnosed(row, as_tensor=True).mistakes[0].explanation


@pytest.mark.parametrize("wrt", ["x", "A", "U", "B", "R"])
def test_no_loop_is_needed_to_search_two_loops(wrt):
    """The second starts from what the first has made: that has a run, and what follows has none."""

    def both_ways(x, A, U, B, R, V):
        h, there = torch.zeros(3, 4), []
        for t in range(4):
            h = torch.tanh(x[t] @ A + h @ U)
            there.append(h)
        h, back = torch.zeros_like(h), []
        for t in reversed(range(4)):
            h = torch.tanh(x[t] @ B + h @ R)
            back.insert(0, h)
        return torch.stack([torch.cat(pair, 1) @ V for pair in zip(there, back, strict=True)])

    inputs = {"x": (4, 3, 2), "A": (2, 4), "U": (4, 4), "B": (2, 4), "R": (4, 4), "V": (8, 3)}
    inputs = {name: torch.randn(shape) / 2 for name, shape in inputs.items()}
    found = diagnose(lambda i, g: 2 * i[wrt], both_ways, inputs, wrt=wrt)
    assert not found.ok and "search_failed" not in [n.label for n in found.notes]


def test_what_is_computed_twice_is_one_value():
    def plain(x, W):
        return x + torch.tanh(x @ W) + torch.relu((x + torch.tanh(x @ W)) @ W)

    def lost(i, g):
        x, W = i["x"], i["W"]
        t = torch.tanh(x @ W)
        d = g + (g * ((x + t) @ W > 0)) @ W.T
        return (d * (1 - t**2)) @ W.T

    found = diagnose(lost, plain, {"x": normal(5, 3), "W": normal(3, 3)}, wrt="x")
    assert labels(found)[0] == "missing_path"
    assert "direct path" in found.mistakes[0].explanation


def test_two_views_of_one_value_are_told_apart():
    """X - X would read as nothing: one of the two has its rows along another axis."""

    def kernel(X):
        return (-((X[:, None] - X[None]) ** 2).sum(-1)).exp()

    def one_side(i, g):
        apart = i["X"][:, None] - i["X"][None]
        return (-2 * (g * kernel(i["X"]))[..., None] * apart).sum(1)

    found = diagnose(one_side, kernel, {"X": normal(4, 3)}, wrt="X")
    assert "X[:, None] - X[None]" in found.mistakes[0].explanation


def test_a_hint_on_a_square_result_asks_for_no_shape():
    inputs = {"q": normal(3, 4), "W": normal(4, 4)}
    found = diagnose(lambda i, g: g.T @ i["q"], lambda q, W: q @ W, inputs, wrt="W")
    assert labels(found)[0] == "transposed_operand"
    assert "the result must be (4, 4)" not in found.mistakes[0].hint


@pytest.mark.parametrize(
    ("backward", "said"),
    [
        (lambda i, g: g * i["x"] * i["x"].cos(), "The factor x of x * sin(x) is treated as"),
        (lambda i, g: g * i["x"].sin(), "The factor sin(x) is treated as"),
    ],
)
def test_of_a_product_the_factor_that_is_kept_constant_is_named(backward, said):
    found = diagnose(backward, lambda x: x * x.sin(), {"x": normal(5, 4)}, wrt="x")
    assert labels(found)[0] == "missing_product_term"
    assert found.mistakes[0].explanation.startswith(said)
