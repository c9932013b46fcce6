"""Figures are drawn from runs, say what they show, and are the same each time."""

import inspect
import itertools
import re
from xml.etree.ElementTree import tostring

import pytest
import torch
from sklearn.datasets import load_digits

from extensions import curves
from tests.checks import ROOT


@pytest.fixture(scope="module")
def figures():
    return {name: figure() for name, figure in curves.FIGURES.items()}


def test_every_figure_is_on_a_page():
    pages = "\n".join(p.read_text() for p in (ROOT / "docs").rglob("*.md"))
    assert set(re.findall(r"^/// curve \| (\w+)$", pages, re.MULTILINE)) == set(curves.FIGURES)


def test_figures_have_captions_and_are_small(figures):
    for plots, caption in figures.values():
        assert caption.endswith(".")
        assert all(len(tostring(plot.element())) < 5000 for plot in plots)


def test_figures_are_the_same_each_time(figures):
    for name, (plots, caption) in figures.items():
        again, caption_again = curves.FIGURES[name]()
        assert caption == caption_again
        assert [tostring(p.element()) for p in plots] == [tostring(p.element()) for p in again]


def ends(plot, kind, number=0):
    """Return the first and last value pair of a line, back from where it was drawn."""
    lines = [p for p in plot.element().iter("polyline") if p.get("class") == f"line {kind}"]
    return [tuple(map(float, point.split(","))) for point in lines[number].get("points").split()]


def steepness(plot, line):
    (x1, y1), (x2, y2) = line[0], line[-1]
    across, up = plot.at(1, 1)[0] - plot.at(0, 1)[0], plot.at(1, 1)[1] - plot.at(1, 0)[1]
    return (y2 - y1) / (x2 - x1) * across / up


def test_tangents_have_the_slope_that_autograd_finds(figures):
    one = curves.OneWeight()
    W = one.W.clone().requires_grad_()
    J = (torch.relu(one.X @ W + one.b) - one.Y).square().mean()
    (expected,) = torch.autograd.grad(J, W)
    plot = figures["weight"][0][0]
    assert steepness(plot, ends(plot, "second")) == pytest.approx(expected[0, 0].item(), rel=0.05)
    (plot,) = figures["mse"][0]
    assert steepness(plot, ends(plot, "second")) == pytest.approx(1, rel=0.05)


def test_the_steps_go_down_and_the_dead_start_stays(figures):
    second = figures["weight"][0][1]
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in second.element().iter("circle")]
    heights = [y for _, y in dots[:-1]]
    assert heights == sorted(heights) and len(set(heights)) == 7
    assert curves.OneWeight().slope(min(curves.OneWeight().kinks) - 0.2) == 0


def test_the_steps_are_those_of_the_caption(figures):
    plots, caption = figures["weight"]
    plot, one = plots[1], curves.OneWeight()
    rate = float(re.search(r"W\[0, 0\] -= ([\d.]+) \*", caption)[1])
    places = [float(c.get("cx")) for c in plot.element().iter("circle")][:-1]
    assert f"{len(places) - 1} steps" in caption
    left, unit = plot.at(0, 0)[0], plot.at(1, 0)[0] - plot.at(0, 0)[0]
    weights = [(place - left) / unit for place in places]
    for before, after in itertools.pairwise(weights):
        assert after == pytest.approx(before - rate * one.slope(before), abs=0.2 / unit)


def test_training_again_by_autograd_gives_the_losses_and_the_dead_neurons(figures):
    (plot,), caption = figures["digits"]
    pixels, labels = load_digits(return_X_y=True)
    X = torch.tensor(pixels) / pixels.max()
    Y = torch.nn.functional.one_hot(torch.tensor(labels)).to(X)
    rate = Y.shape[1] / (X.square().sum(1).mean().item() + 1)
    unit = plot.at(1, 0)[0] - plot.at(0, 0)[0]
    start = plot.at(0, 0)[0] / unit
    drawn = {kind: ends(plot, kind) for kind in ("faint", "first", "second")}
    for share, kind in ((0.1, "faint"), (1, "first"), (3, "second")):
        W = 0.01 * torch.randn(64, 10, generator=torch.Generator().manual_seed(1)).to(X)
        W, b = W.requires_grad_(), X.new_full((10,), 0.1).requires_grad_()
        optimizer = torch.optim.SGD([W, b], lr=share * rate)
        heights = {round(across / unit - start): height for across, height in drawn[kind]}
        assert {0, 100} <= heights.keys()
        for step in range(101):
            A = torch.relu(X @ W + b)
            J = (A - Y).square().mean()
            height = plot.at(step, J.item())[1]
            assert heights.get(step, height) == pytest.approx(height, abs=0.1), (share, step)
            optimizer.zero_grad()
            J.backward()
            optimizer.step()
        text = next(t for t in plot.element().iter("text") if t.text == f"{share:g} × the rate")
        assert kind in text.get("class")
    dead = int((A == 0).all(0).sum())
    assert 0 < dead and f"Three times the rate leaves {dead} of 10 neurons" in caption


def test_at_zero_the_slope_of_relu_is_closed_below_and_open_above(figures):
    slopes = figures["relu"][0][1]
    hollow, full = slopes.element().iter("circle")
    assert "hollow" in hollow.get("class") and "hollow" not in full.get("class")
    assert (float(full.get("cx")), float(full.get("cy"))) == pytest.approx(slopes.at(0, 0), abs=0.1)
    assert float(hollow.get("cy")) == pytest.approx(slopes.at(0, 1)[1], abs=0.1)


def test_a_figure_follows_the_code(monkeypatch):
    """With another convention at 0 the filled dot moves."""
    load = curves.load

    def with_ties(layer):
        module = load(layer)
        monkeypatch.setattr(module, "grad_Z", lambda Z, dJ_dA: dJ_dA * (Z >= 0))
        return module

    monkeypatch.setattr(curves, "load", with_ties)
    slopes = curves.relu()[0][1]
    *_, full = slopes.element().iter("circle")
    assert float(full.get("cy")) == pytest.approx(slopes.at(0, 1)[1], abs=0.1)


def test_the_numbers_are_those_of_the_doctest():
    module = curves.load("mse")
    data = curves.data_of(module.grad_A)
    assert list(data) == ["A", "Y"]
    assert str(data["A"][0, 0].int().item()) in inspect.getdoc(module.grad_A)
