"""Compare a gradient with the right one and name what went wrong."""

from proofread.gradients.diagnose import diagnose
from proofread.gradients.report import Diagnosis, Mistake

__all__ = ["Diagnosis", "Mistake", "diagnose"]
