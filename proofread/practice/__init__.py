"""Check a learner's module: each `grad_*` against the snippet of the same name, or what the module itself runs."""

from proofread.practice.check import check
from proofread.practice.results import Report

__all__ = ["Report", "check"]
