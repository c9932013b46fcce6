"""Which entries a gradient that nothing explains has wrong: those of a sign, or of a repeated index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SIGNS = {"<= 0": Tensor.le, "> 0": Tensor.gt, "< 0": Tensor.lt, ">= 0": Tensor.ge}
ENOUGH = 8  # entries of a set are no chance
SMALL = 1e-4
ROUNDED = "So small a difference points to a rounded constant or a left-out eps."


def pattern(wrong: Tensor, inputs: Mapping[str, Any]) -> tuple[str, str]:
    """Say in a few words which entries are wrong, with a hint; two empty texts where none fits."""
    if wrong.all() or int(wrong.sum()) < 2:
        return "", ""
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.shape == wrong.shape:
            found = {said: test(value, 0) for said, test in SIGNS.items()}
            exact = [said for said, where in found.items() if torch.equal(where, wrong)]
            within = [
                said
                for said, where in found.items()
                if int(wrong.sum()) >= ENOUGH and bool((where >= wrong).all()) and not where.all()
            ]
            if exact or within:
                where = f"{name} {(exact or within)[0]}"
                return f"all where {where}", f"Look at what your formula does where {where}."
        if said := _repeated(wrong, name, value):
            return said, "What is read more than once gets the sum of what comes back from each."
    return "", ""


def _repeated(wrong: Tensor, name: str, index: Any) -> str:
    """Tell whether all that is wrong stands in rows that an index reads more than once."""
    if not isinstance(index, Tensor) or index.dtype not in (torch.int32, torch.int64):
        return ""
    rows = wrong.reshape(wrong.shape[0], -1).any(1)
    if not index.numel() or index.min() < 0 or index.max() >= len(rows):
        return ""
    count = lambda read: torch.bincount(read, minlength=len(rows))
    often = {f"all read more than once by {name}": count(index.flatten()) > 1}
    if index.dim() == 2:  # a loop over its rows adds up what repeats in another row
        again = torch.stack([count(row) > 1 for row in index]).any(0)
        often = {f"all read more than once by one row of {name}": again, **often}
    return next((said for said, where in often.items() if torch.equal(where, rows)), "")
