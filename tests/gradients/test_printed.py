"""What is printed, word for word, of one case or more for each label: `printed.txt`.

`python -m tests.gradients.test_printed` writes the file anew; read the difference.
"""

import re
from pathlib import Path

import pytest
import torch

from proofread.gradients.sentences import SENTENCES
from tests.gradients import fifth, fourth, held_out, layers, seventh, sixth, third, wrong
from tests.gradients.tables import diagnosed, identify, unfit

FILE = Path(__file__).with_name("printed.txt")


def changes_its_input(i, g):
    return g.mul_(i["Z"] > 0)


def keeps_two_rows(gradient):
    return torch.cat([gradient[:2], torch.zeros_like(gradient[2:])])


TROUBLE = [
    ("wrong_shape", layers.linear, "b", lambda i, g: g.sum(0, keepdim=True)),
    ("not_finite", layers.sigmoid, "z", lambda i, g: g / torch.zeros_like(g)),
    ("all_zero", layers.linear, "W", lambda i, g: torch.zeros_like(i["W"])),
    ("all_zero", layers.linear, "X", lambda i, g: keeps_two_rows(g @ i["W"].T)),
    ("inputs_changed", layers.relu, "Z", changes_its_input),
    ("unexplained", layers.tanh, "z", lambda i, g: g * torch.cos(3 * i["z"])),
    ("sign_error", layers.sum_squares, "pred", lambda i, g: 2 * g * (i["target"] - i["pred"])),
]
ROWS = {
    identify(row): row
    for table in (seventh, sixth, fifth, fourth, third, held_out, wrong)
    for row in reversed(table.WRONG)
} | {identify(row): row for row in TROUBLE}


def printed():
    """Return the expected text of each case of the file."""
    parts = re.split(r"^=== (.+)\n", FILE.read_text(), flags=re.MULTILINE)[1:]
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize("name", printed())
def test_prints(name):
    assert str(diagnosed(ROWS[name])) == printed()[name]


def test_every_label_is_printed():
    first = {re.search(r"^  (\w+)$", text, re.MULTILINE)[1] for text in printed().values()}
    assert set(SENTENCES) - first == set()


@pytest.mark.parametrize(
    "text",
    [
        "The mask of pick(x) is",
        "the factor the sum",
        "at exp(… - 1)",
        "conv(x)",
        "a" * 81,
        "{site}",
    ],
)
def test_tells_what_is_not_fit_to_read(text):
    assert unfit(text)


def test_a_sentence_is_fit_to_read():
    assert (
        unfit("The factor 2 of x.permute(0, 2, 1) ** 2 in logsumexp(x[...]) is left out.") is None
    )


if __name__ == "__main__":
    FILE.write_text("\n".join(f"=== {name}\n{diagnosed(ROWS[name])}\n" for name in printed()))
