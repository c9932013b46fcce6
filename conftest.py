"""What holds for every test, also for the examples in the snippets."""

import os

import pytest
import torch

from tests import checks

# Without a GPU, Triton's interpreter runs the kernel on the processor. Triton reads this when it decorates.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Triton is for Linux alone.
collect_ignore = [] if checks.TRITON else ["snippets/gpu.py"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.name == "snippets.faster.one_pass":
        checks.need_compiler()
