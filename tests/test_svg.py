"""Plots say what they show, lie inside of their boxes, and put each value where it belongs."""

import itertools
import re
from xml.etree.ElementTree import Element, fromstring

import markdown
import pytest

from extensions import curves, measured, svg
from extensions.svg import Axis, Plot
from tests.checks import ROOT

EXTENSIONS = ["extensions.curves", "extensions.measured", "extensions.machines"]


def html(block):
    return markdown.markdown(f"/// {block}\n///\n", extensions=EXTENSIONS)


def drawn(block):
    """Return the plots of a block, as a browser gets them."""
    return [fromstring(text) for text in re.findall("<svg.*?</svg>", html(block), re.DOTALL)]


BLOCKS = [
    *(f"curve | {name}" for name in curves.FIGURES),
    "roofline",
    *(f"growth | {axis}" for axis in measured.AXES),
    "machines | speedup",
]


@pytest.fixture(scope="module")
def plots():
    found = {block: drawn(block) for block in BLOCKS}
    assert all(found.values()) and sum(map(len, found.values())) == 14
    return [plot for plots in found.values() for plot in plots]


def test_every_block_with_a_plot_is_known_here():
    pages = "\n".join(p.read_text() for p in (ROOT / "docs").rglob("*.md"))
    shown = re.findall(r"^/// ((?:curve|roofline|growth|machines).*)$", pages, re.MULTILINE)
    assert set(BLOCKS) == {block for block in shown if "<svg" in html(block)}


def test_plots_have_names_of_their_own_and_say_what_there_is_to_see(plots):
    ids = []
    for plot in plots:
        assert plot.get("role") == "img"
        title, text = plot.find("title"), plot.find("desc")
        assert (title.get("id"), text.get("id")) == (
            plot.get("aria-labelledby"),
            plot.get("aria-describedby"),
        )
        assert title.text and len(text.text) > 30 and text.text.endswith(".")
        ids += [title.get("id"), text.get("id")]
    assert len(set(ids)) == len(ids) == 28


def runs(plot, kinds=("grid", "line", "bar", "lead")):
    """Yield each line of these kinds as the points that it joins."""
    for line in plot.iter("polyline"):
        if line.get("class").split()[0] in kinds:
            yield [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def dots(plot):
    return [(float(dot.get("cx")), float(dot.get("cy"))) for dot in plot.iter("circle")]


def test_everything_is_drawn_inside_of_its_box(plots):
    for plot in plots:
        _, _, width, height = map(float, plot.get("viewBox").split())
        assert all(0 <= x <= width and 0 <= y <= height for x, y in sum(runs(plot), dots(plot)))
        for text in plot.iter("text"):
            kinds = text.get("class").split()
            wide = svg.wide(text.text)
            left = float(text.get("x")) - wide * ("end" in kinds) - wide / 2 * ("middle" in kinds)
            assert -3 <= left and left + wide <= width + 3, text.text
            assert 0 < float(text.get("y")) < height


def test_what_is_drawn_has_a_colour_and_a_stroke(plots):
    style = (ROOT / "docs/assets/site.css").read_text()
    kinds = {kind for plot in plots for e in plot.iter() for kind in e.get("class", "").split()}
    assert {"line", "dot", "bar", "lead", "first", "second", "third", "faint", "rule"} <= kinds
    # A tick is as any text.
    known = {
        "tick",
        *re.findall(r"\.([a-z]+)", "".join(re.findall(r"^\.plot .*\{$", style, re.MULTILINE))),
    }
    assert kinds - known == {"plot"} - known


@pytest.mark.parametrize("axis", ["N", "D", "M"])
def test_growth_draws_each_form_in_time_and_memory(axis):
    text = html(f"growth | {axis}")
    time, memory = drawn(f"growth | {axis}")
    for plot, forms in ((time, 4), (memory, 3)):
        lines = [
            line.get("class") for line in plot.iter("polyline") if "line " in line.get("class")
        ]
        assert len(lines) == 2 * len(set(lines)) == 2 * forms  # a line and its key
    copies = [dot for dot in time.iter("circle") if dot.get("class") == "dot faint"]
    assert len(copies) == 11  # the copy: in time alone
    assert "two matmuls" in text and "copy of X" in text and "nan" not in text.lower()


def test_the_roofline_names_its_points_inside_the_picture():
    (plot,) = drawn("roofline")
    names = [text.text for text in plot.iter("text") if "name" in text.get("class")]
    assert "one pass, C++" in names and "autograd, M = 512" in names
    assert len(list(plot.iter("circle"))) == len(names) == 12
    assert [line for line in plot.iter("polyline") if line.get("class") == "line rule"]
    boxes = list(name_boxes(plot))
    assert not any(svg.overlap(a, b) for a, b in itertools.combinations(boxes, 2))
    taken = sum((svg.along(run) for run in runs(plot, ("line", "lead"))), dots(plot))
    assert not any(svg.inside(place, box, room=0) for place in taken for box in boxes)


def name_boxes(plot):
    for text in plot.iter("text"):
        kinds = text.get("class").split()
        if "name" in kinds:
            wide = svg.wide(text.text)
            left, foot = float(text.get("x")) - wide * ("end" in kinds), float(text.get("y"))
            yield left, foot - 10, left + wide, foot + 2


def powers(**more):
    x, y = (Axis(1, 100, label, log=True) for label in ("x", "y"))
    return Plot(x, y, title="test", description="None.", **more)


def test_points_of_a_plot_lie_where_their_numbers_say():
    for plot in (powers(), powers(series={"one": "first", "two": "second", "three": "third"})):
        left, low = plot.at(1, 1)
        right, high = plot.at(100, 100)
        assert plot.at(10, 10) == pytest.approx(((left + right) / 2, (low + high) / 2))
        assert 0 < left < right < svg.WIDTH and 0 < high < low < plot.height


def test_names_in_a_plot_do_not_lie_on_each_other():
    plot = powers()
    plot.named([(name, (10, 10), "first") for name in ("one", "two", "three")])
    boxes = list(name_boxes(plot.element()))
    assert len(boxes) == 3
    assert not any(svg.overlap(a, b) for a, b in itertools.combinations(boxes, 2))


def test_a_name_keeps_off_a_line_and_is_led_to():
    plot = powers()
    plot.line([(10, 10), (100, 10)], "rule")
    plot.named([("on a line", (20, 10), "first")])
    (box,) = name_boxes(plot.element())
    _, height = plot.at(20, 10)
    assert not box[1] < height < box[3]
    (lead,) = [line for line in plot.element().iter("polyline") if line.get("class") == "lead"]
    assert lead.get("points").startswith(",".join(map(svg.place, plot.at(20, 10))))


def test_a_series_outside_of_the_legend_is_refused():
    with pytest.raises(KeyError, match="four"):
        powers(series={"one": "first"}).measured("four", [(1, 1), (2, 2)])


def test_a_plot_is_text_and_no_markdown():
    root = Element("div")
    plot = powers()
    plot.text(10, 10, "W_0_ *b*")
    svg.figure(root, [plot], "One.")
    assert (
        root.find("figure/svg") is plot.element() and root.find("figure/figcaption").text == "One."
    )
    assert plot.element().findall("text")[-1].text == "W_0_ *b*"


@pytest.mark.parametrize("axis", [(1, 1, False), (2, 1, False), (0, 1, True)])
def test_an_axis_without_a_range_is_refused(axis):
    low, high, log = axis
    with pytest.raises(ValueError, match="axis"):
        Axis(low, high, "J", log=log)


def test_a_logarithmic_axis_spaces_powers_evenly():
    plot = Plot(Axis(1, 1000, "N", log=True), Axis(0, 1, "J"), title="Powers", description="None.")
    places = [plot.at(10.0**power, 0)[0] for power in range(4)]
    assert places[1] - places[0] == pytest.approx(places[3] - places[2])
