"""Train on digits with one process or several, by hand-written gradients.

    torchrun --standalone --nproc-per-node 2 examples/digits.py --checkpoint digits.pt

Each process keeps its own rows; all have the same weights. A run that is started again goes
on from its checkpoint.
"""

# --8<-- [start:imports]
import argparse
import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor
from torch.distributed.elastic.multiprocessing import errors

from snippets.machines import accumulate, all_reduce, mean

# --8<-- [end:imports]


# --8<-- [start:data]
def load() -> tuple[Tensor, Tensor]:
    """Return the pixels (N, 64) to train on, from 0 to 1, and one-hot targets (N, 10)."""
    pixels, digits = load_digits(return_X_y=True)
    X = torch.tensor(pixels, dtype=torch.float64)
    Y = torch.nn.functional.one_hot(torch.tensor(digits), 10).to(X)
    generator = torch.Generator().manual_seed(0)
    train = torch.randperm(len(X), generator=generator)[: len(X) * 4 // 5]
    return X[train] / X.max(), Y[train]


def start(D: int, M: int) -> dict:
    """Return the state before the first step: the same weights in every process."""
    generator = torch.Generator().manual_seed(1)
    W = 0.01 * torch.randn(D, M, dtype=torch.float64, generator=generator)
    return {"W": W, "b": torch.full((M,), 0.1, dtype=W.dtype), "curve": []}


# --8<-- [end:data]


# --8<-- [start:save]
def save(state: dict, path: Path) -> None:
    """Write a new file, then put it in the old one's place: there is always a whole one."""
    new = path.with_name(path.name + ".new")
    torch.save(state, new)
    new.replace(path)


def resume(path: Path, D: int, M: int) -> dict:
    """Return the state of the last checkpoint, or the first state where there is none."""
    return torch.load(path, map_location="cpu") if path.exists() else start(D, M)


# --8<-- [end:save]


# --8<-- [start:train]
def train(options: argparse.Namespace, device: torch.device) -> None:
    X, Y = load()
    rank, processes = dist.get_rank(), dist.get_world_size()
    if processes > len(X):
        raise ValueError(f"{processes} processes for {len(X)} rows: each needs a row at least")
    rate = Y.shape[1] / (X.square().sum(1).mean() + 1).item()
    # Its own shard; the sizes differ by one where the rows don't divide evenly.
    X, Y = (T.tensor_split(processes)[rank].to(device) for T in (X, Y))
    batches = list(zip(X.split(options.rows), Y.split(options.rows), strict=True))

    # One process reads, and all start from what it read.
    states = [resume(options.checkpoint, X.shape[1], Y.shape[1])] if rank == 0 else [None]
    dist.broadcast_object_list(states, src=0, device=device)
    W, b, curve = (states[0][name] for name in ("W", "b", "curve"))
    W, b = W.to(device), b.to(device)
    if rank == 0:
        print(f"processes: {processes}, first step: {len(curve)}", flush=True)

    while len(curve) < options.steps:
        sums = all_reduce(*accumulate(batches, W, b))
        J, dJ_dW, dJ_db = mean(*sums)
        curve.append(J.item())
        W -= rate * dJ_dW
        b -= rate * dJ_db
        if rank == 0 and (len(curve) % options.every == 0 or len(curve) == options.steps):
            save({"W": W, "b": b, "curve": curve}, options.checkpoint)
    if rank == 0:
        print(f"step {len(curve)}: J = {curve[-1]:.6f}", flush=True)


# --8<-- [end:train]


# --8<-- [start:main]
def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


@errors.record  # a worker's error is part of what torchrun reports
def main() -> None:
    parser = argparse.ArgumentParser(description="Train on digits; start it with torchrun.")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="file; a run goes on from it"
    )
    parser.add_argument("--steps", type=positive, default=300)
    parser.add_argument("--every", type=positive, default=50, help="steps between checkpoints")
    parser.add_argument("--rows", type=positive, default=1024, help="of a micro-batch, at most")
    parser.add_argument("--timeout", type=positive, default=60, help="seconds to wait for others")
    options = parser.parse_args()
    if not options.checkpoint.parent.is_dir():
        parser.error(f"--checkpoint: there is no folder {options.checkpoint.parent}")
    if not dist.is_torchelastic_launched():
        parser.error("start it with torchrun: torchrun --standalone --nproc-per-node 2 ...")

    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # gloo on CPU, nccl on GPUs.
    backend = dist.get_default_backend_for_device(device)
    dist.init_process_group(backend, timeout=timedelta(seconds=options.timeout))
    train(options, device)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
# --8<-- [end:main]
