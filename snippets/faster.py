"""One forward and one backward pass of the network, in forms that save memory traffic.

X is (N, D), W (D, M), b (M,), Y (N, M), as in `network`. The two fused forms are for one
neuron, M = 1.
"""

# --8<-- [start:imports_for_compilers]
import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# --8<-- [end:imports_for_compilers]
# --8<-- [start:imports]
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:first_layer]
def backward_of_first_layer(
    X: Float[Tensor, "N D"],
    Z: Float[Tensor, "N M"],
    A: Float[Tensor, "N M"],
    Y: Float[Tensor, "N M"],
) -> tuple[Float[Tensor, "D M"], Float[Tensor, "M"]]:
    """dJ/dW and dJ/db: nobody asks the data for dJ/dX.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> Z = X @ W + torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> backward_of_first_layer(X, Z, torch.relu(Z), Y)
    (tensor([[-1.2500,  6.5000],
            [-1.5000,  7.5000]]), tensor([-0.2500,  1.0000]))
    """
    dJ_dA = 2 * (A - Y) / A.numel()
    dJ_dZ = dJ_dA * (Z > 0)
    return X.T @ dJ_dZ, dJ_dZ.sum(0)


# --8<-- [end:first_layer]


# --8<-- [start:buffers]
class Buffers(NamedTuple):
    """Memory that every pass writes anew."""

    dJ_dZ: Tensor  # (rows, M): Z, then A, then dJ/dZ
    active: Tensor  # (rows, M), bool: where Z > 0
    dJ_dW: Tensor  # (D, M)
    dJ_db: Tensor  # (M,)
    dJ_dX: Tensor  # (N, D)


def buffers(X: Tensor, W: Tensor, rows: int) -> Buffers:
    """Room for passes over X that take `rows` rows at a time.

    ValueError where rows is less than 1.

    >>> made = buffers(torch.ones(4, 2), torch.ones(2, 3), rows=1)
    >>> [tuple(buffer.shape) for buffer in made]
    [(1, 3), (1, 3), (2, 3), (3,), (4, 2)]
    """
    if rows < 1:
        raise ValueError(
            f"rows needs to be 1 or more: {rows}"
        )
    M = W.shape[1]
    dJ_dZ = X.new_empty(rows, M)
    active = torch.empty_like(dJ_dZ, dtype=torch.bool)
    return Buffers(
        dJ_dZ,
        active,
        torch.empty_like(W),
        W.new_empty(M),
        torch.empty_like(X),
    )


def check_shape(
    name: str, tensor: Tensor, shape: tuple
):
    """ValueError with the name where the shape differs."""
    if tensor.shape != shape:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)},"
            f" needed is {shape}"
        )


def check_room(
    out: Buffers, X: Tensor, W: Tensor, rows: int
):
    """ValueError where out is not room for X and W.

    PyTorch itself would resize it, in new memory.
    """
    (N, D), M = X.shape, W.shape[1]
    Z = (rows, M)
    needed = Buffers(Z, Z, (D, M), (M,), (N, D))
    for name, shape in needed._asdict().items():
        check_shape(
            f"out.{name}", getattr(out, name), shape
        )


# --8<-- [end:buffers]


# --8<-- [start:pass_into]
def pass_into(
    out: "Buffers",
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> Float[Tensor, ""]:
    """Return J; the gradients are in out, not in new memory.

    out: buffers(X, W, rows=N), for the N rows of X.
    ValueError for another out, and where Y is empty.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> out = buffers(X, W, rows=4)
    >>> pass_into(out, X, W, b, Y)
    tensor(3.7500)
    >>> out.dJ_dW, out.dJ_db
    (tensor([[-1.2500,  6.5000],
            [-1.5000,  7.5000]]), tensor([-0.2500,  1.0000]))
    >>> out.dJ_dX[3]
    tensor([-0.2500,  0.5000])
    """
    if Y.numel() == 0:
        raise ValueError(f"Y needs entries: {Y.shape}")
    check_room(out, X, W, rows=len(X))
    torch.addmm(b, X, W, out=out.dJ_dZ)  # Z
    torch.gt(out.dJ_dZ, 0, out=out.active)
    out.dJ_dZ.relu_()  # A
    errors = out.dJ_dZ.sub_(Y).view(-1)  # A - Y
    J = torch.dot(errors, errors) / Y.numel()
    out.dJ_dZ.mul_(2 / Y.numel()).mul_(out.active)
    torch.mm(X.T, out.dJ_dZ, out=out.dJ_dW)
    torch.sum(out.dJ_dZ, 0, out=out.dJ_db)
    torch.mm(out.dJ_dZ, W.T, out=out.dJ_dX)
    return J


# --8<-- [end:pass_into]


# --8<-- [start:pass_in_blocks]
def pass_in_blocks(
    out: "Buffers",
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> Float[Tensor, ""]:
    """The same, as many rows at a time as out has room for.

    out: buffers(X, W, rows), with rows of your choice.
    ValueError for another out, and where Y is empty.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> out = buffers(X, W, rows=3)  # 3 rows, then 1
    >>> pass_in_blocks(out, X, W, b, Y)
    tensor(3.7500)
    >>> out.dJ_dW, out.dJ_db
    (tensor([[-1.2500,  6.5000],
            [-1.5000,  7.5000]]), tensor([-0.2500,  1.0000]))
    >>> out.dJ_dX[3]
    tensor([-0.2500,  0.5000])
    """
    if Y.numel() == 0:
        raise ValueError(f"Y needs entries: {Y.shape}")
    rows = len(out.dJ_dZ)
    check_room(out, X, W, rows)
    J = X.new_zeros(())
    out.dJ_dW.zero_()
    out.dJ_db.zero_()
    blocks = zip(
        X.split(rows),
        Y.split(rows),
        out.dJ_dX.split(rows),
        strict=True,
    )
    for x, y, dJ_dx in blocks:
        # The last block may have fewer rows.
        dJ_dz = out.dJ_dZ[: len(x)]
        active = out.active[: len(x)]
        torch.addmm(b, x, W, out=dJ_dz)  # z
        torch.gt(dJ_dz, 0, out=active)
        dJ_dz.relu_()  # a
        errors = dJ_dz.sub_(y).view(-1)  # a - y
        J += torch.dot(errors, errors)
        dJ_dz.mul_(2 / Y.numel()).mul_(active)
        # x is in the cache now.
        out.dJ_dW.addmm_(x.T, dJ_dz)
        out.dJ_db.add_(dJ_dz.sum(0))
        torch.mm(dJ_dz, W.T, out=dJ_dx)
    return J / Y.numel()


# --8<-- [end:pass_in_blocks]


# --8<-- [start:fused]
def fused(
    dJ_dX: Float[Tensor, "N D"],
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D 1"],
    b: Float[Tensor, "1"],
    Y: Float[Tensor, "N 1"],
) -> tuple[
    Float[Tensor, ""],
    Float[Tensor, "D 1"],
    Float[Tensor, "1"],
]:
    """J, dJ/dW and dJ/db; fills dJ_dX. To be compiled.

    ValueError where Y is empty.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W, b = torch.tensor([[2.], [-1.]]), torch.tensor([-1.])
    >>> Y = torch.tensor([[1.], [3.], [0.], [7.]])
    >>> dJ_dX = torch.empty_like(X)
    >>> fused(dJ_dX, X, W, b, Y)
    (tensor(4.5000), tensor([[-2.5000],
            [-3.0000]]), tensor([-0.5000]))
    >>> dJ_dX[2:]
    tensor([[ 3.0000, -1.5000],
            [-2.0000,  1.0000]])
    """
    if Y.numel() == 0:
        raise ValueError(f"Y needs entries: {Y.shape}")
    w = W.squeeze(1)
    # Products and sums, not `@`: the compiler has no
    # loop of its own for a call into a library.
    z = (X * w).sum(1, keepdim=True) + b
    errors = torch.relu(z) - Y
    dJ_dz = torch.where(
        z > 0, errors * (2 / len(X)), 0.0
    )
    torch.mul(dJ_dz, w, out=dJ_dX)
    # Sixteen rows at a time, so that dJ/dW reads X in
    # the order in which it lies in memory.
    rows = 16 if len(X) % 16 == 0 else 1
    parts = (dJ_dz * X).unflatten(0, (-1, rows)).sum(1)
    dJ_dW = parts.sum(0).unsqueeze(1)
    return errors.square().mean(), dJ_dW, dJ_dz.sum(0)


# --8<-- [end:fused]


# --8<-- [start:compiled]
def cpp_compiler() -> str:
    """The path of the C++ compiler.

    RuntimeError where there is none.
    """
    given = os.environ.get("CXX")
    names = (given, "g++", "clang++", "c++")
    paths = (
        shutil.which(name) for name in names if name
    )
    if compiler := next(filter(None, paths), None):
        return compiler
    raise RuntimeError(
        "this form needs a C++ compiler, and none is here:"
        " install g++ or clang++, or set CXX to its path"
    )


def compiled_pass():
    """`fused` as one piece of machine code.

    The first call compiles it, which takes seconds.
    RuntimeError where there is no C++ compiler.
    """
    cpp_compiler()
    return torch.compile(
        fused, fullgraph=True, dynamic=False
    )


# --8<-- [end:compiled]


# --8<-- [start:loop]
ONE_PASS = """
#include <algorithm>
#include <vector>
#include <omp.h>

template <typename T>
void one_pass(long N, long D, const T *X, const T *w,
              const T *b, const T *Y,
              T *J, T *dw, T *db, T *dX) {
  T loss = 0, bias = 0;
  std::fill(dw, dw + D, T(0));
  #pragma omp parallel reduction(+ : loss, bias)
  {
    std::vector<T> part(D); // this thread's part of dw
    #pragma omp for schedule(static)
    for (long i = 0; i < N; ++i) {
      const T *x = X + i * D;
      T z = *b;
      #pragma omp simd reduction(+ : z)
      for (long j = 0; j < D; ++j)
        z += x[j] * w[j]; // x comes from the memory
      const T error = std::max(z, T(0)) - Y[i];
      const T g = z > 0 ? error * 2 / N : T(0);
      loss += error * error;
      bias += g;
      T *dx = dX + i * D;
      #pragma omp simd
      for (long j = 0; j < D; ++j) {
        part[j] += g * x[j]; // x comes from the cache
        dx[j] = g * w[j];
      }
    }
    // In the order of the threads, every time the same.
    #pragma omp for ordered schedule(static, 1)
    for (int t = 0; t < omp_get_num_threads(); ++t)
      #pragma omp ordered
      for (long j = 0; j < D; ++j)
        dw[j] += part[j];
  }
  *J = loss / N;
  *db = bias;
}

#define EXPORT(name, T) \\
  extern "C" void name(long N, long D, const T *X, \\
      const T *w, const T *b, const T *Y, \\
      T *J, T *dw, T *db, T *dX) { \\
    one_pass<T>(N, D, X, w, b, Y, J, dw, db, dX); \\
  }
EXPORT(float32, float)
EXPORT(float64, double)
"""


# --8<-- [end:loop]


# --8<-- [start:check_pass]
def check_pass(
    dJ_dX: Tensor,
    X: Tensor,
    W: Tensor,
    b: Tensor,
    Y: Tensor,
):
    """ValueError where addresses alone would mislead."""
    N, D = X.shape
    if N == 0:
        raise ValueError(f"Y needs entries: {Y.shape}")
    if X.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"X is {X.dtype}, needed is one of"
            " torch.float32 and torch.float64"
        )
    names = ("X", "W", "b", "Y", "dJ_dX")
    given = (X, W, b, Y, dJ_dX)
    shapes = ((N, D), (D, 1), (1,), (N, 1), (N, D))
    rest = zip(names, given, shapes, strict=True)
    for name, tensor, shape in rest:
        check_shape(name, tensor, shape)
        found = f"{tensor.dtype} on {tensor.device}"
        needed = f"{X.dtype} on {X.device}"
        if found != needed:
            raise ValueError(
                f"{name} is {found},"
                f" needed is {needed}, as X"
            )
        if not tensor.is_contiguous():
            raise ValueError(
                f"{name} needs contiguous rows"
            )


# --8<-- [end:check_pass]


# --8<-- [start:one_pass]
@functools.cache
def library() -> ctypes.CDLL:
    """Compile the code above, once for each process.

    RuntimeError where there is no compiler, or it fails.
    """
    folder = tempfile.TemporaryDirectory(
        ignore_cleanup_errors=True
    )
    path = Path(folder.name) / "one_pass.so"
    command = [cpp_compiler(), "-O3", "-fopenmp"]
    command += ["-shared", "-fPIC", "-x", "c++", "-"]
    command += ["-o", str(path)]
    with folder:
        done = subprocess.run(
            command,
            input=ONE_PASS,
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"the C++ compiler failed:\n{done.stderr}"
            )
        return ctypes.CDLL(str(path))


def one_pass(
    dJ_dX: Float[Tensor, "N D"],
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D 1"],
    b: Float[Tensor, "1"],
    Y: Float[Tensor, "N 1"],
) -> tuple[
    Float[Tensor, ""],
    Float[Tensor, "D 1"],
    Float[Tensor, "1"],
]:
    """J, dJ/dW and dJ/db; fills dJ_dX. Reads X once.

    All are float32, or all float64, contiguous, on the CPU.
    ValueError where not, where shapes differ or Y is empty;
    RuntimeError where the C++ can't be compiled.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W, b = torch.tensor([[2.], [-1.]]), torch.tensor([-1.])
    >>> Y = torch.tensor([[1.], [3.], [0.], [7.]])
    >>> dJ_dX = torch.empty_like(X)
    >>> one_pass(dJ_dX, X, W, b, Y)
    (tensor(4.5000), tensor([[-2.5000],
            [-3.0000]]), tensor([-0.5000]))
    >>> dJ_dX[2:]
    tensor([[ 3.0000, -1.5000],
            [-2.0000,  1.0000]])
    """
    check_pass(dJ_dX, X, W, b, Y)
    if X.device.type != "cpu":
        raise ValueError(
            f"X is on {X.device}, needed is cpu"
        )
    N, D = X.shape
    J, dJ_dW, dJ_db = (
        X.new_empty(s) for s in ((), (D, 1), (1,))
    )
    tensors = (X, W, b, Y, J, dJ_dW, dJ_db, dJ_dX)
    name = str(X.dtype).removeprefix("torch.")
    addresses = [
        ctypes.c_void_p(t.data_ptr()) for t in tensors
    ]
    library()[name](
        ctypes.c_long(N), ctypes.c_long(D), *addresses
    )
    return J, dJ_dW, dJ_db


# --8<-- [end:one_pass]
