"""Compare a gradient with the right one and name what went wrong."""

from proofread.gradients.check import check
from proofread.gradients.diagnose import diagnose
from proofread.gradients.report import Diagnosis, Mistake
from proofread.gradients.results import Report

__all__ = ["Diagnosis", "Mistake", "Report", "check", "diagnose"]
