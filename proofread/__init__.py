"""Run the equations of a derivation, and name the mistake in a wrong gradient."""

import importlib

_LAZY = {
    "diagnose": "proofread.gradients",
    "Diagnosis": "proofread.gradients",
    "Mistake": "proofread.gradients",
    "check": "proofread.practice",
}

__all__ = ["Diagnosis", "Mistake", "check", "diagnose"]


def __getattr__(name: str):
    """Import a part, and PyTorch with it, only when something of it is asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
