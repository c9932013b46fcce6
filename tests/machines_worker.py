"""One process of tests/test_machines.py, started by torchrun: the gradients of its shard."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from snippets.machines import accumulate, all_reduce, mean, part


def whole(X, W, b, Y):
    return mean(*all_reduce(*part(X, W, b, Y)))


def in_micro_batches(X, W, b, Y):
    return mean(*all_reduce(*accumulate(zip(X.split(2), Y.split(2), strict=True), W, b)))


# Three mistakes, to see that the comparison would find them.


def mean_of_means(X, W, b, Y):
    NM, *sums = part(X, W, b, Y)
    means = [total / max(NM, 1) for total in sums]
    return [total / dist.get_world_size() for total in all_reduce(*means)]


def lost_row(X, W, b, Y):
    return whole(X[:-1], W, b, Y[:-1])


def added_twice(X, W, b, Y):
    NM, *sums = all_reduce(*part(X, W, b, Y))
    return mean(NM, *all_reduce(*sums))


FORMS = {f.__name__: f for f in (whole, in_micro_batches, mean_of_means, lost_row, added_twice)}


def main(folder: Path) -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    found = []
    for (X, W, b, Y), sizes in torch.load(folder / "cases.pt"):
        shard = X.split(sizes)[dist.get_rank()], W, b, Y.split(sizes)[dist.get_rank()]
        found.append({name: list(form(*shard)) for name, form in FORMS.items()})
    torch.save(found, folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
