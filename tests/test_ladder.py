"""The measurements on the page belong to the code on the page."""

import json

from benchmarks import ladder


def test_measured_code_is_the_code_of_today():
    result = json.loads(ladder.RESULTS.read_text())
    assert result["code"] == ladder.fingerprint(), (
        "the ladder's code has changed: run `python -m benchmarks.ladder` again"
    )


def test_it_was_measured_at_the_size_that_the_page_names():
    result = json.loads(ladder.RESULTS.read_text())
    assert (result["rows"], result["features"], result["outputs"]) == (50_000, 784, 1)
    assert list(result["steps"]) == list(ladder.STEPS)


def test_every_step_gives_the_gradients_of_autograd():
    assert ladder.largest_difference(ladder.draw(50, 7, 3)) < 1e-4
