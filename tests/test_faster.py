"""Every form of a whole pass gives the numbers of autograd."""

import os
import re
import subprocess
import sys

import pytest
import torch

from snippets import faster
from tests import checks

SIZES = [(1, 3, 1), (5, 1, 1), (33, 7, 1), (64, 20, 1), (5, 3, 4), (1, 2, 3), (40, 6, 5)]
NEURON = [size for size in SIZES if size[2] == 1]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
each_type = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def draw(N, D, M, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((N, D), (D, M), (M,), (N, M))
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def by_autograd(X, W, b, Y):
    leaves = [t.detach().requires_grad_() for t in (X, W, b)]
    J = (torch.relu(leaves[0] @ leaves[1] + leaves[2]) - Y).square().mean()
    J.backward()
    X, W, b = leaves
    return J.detach(), W.grad, b.grad, X.grad


def assert_same(actual, expected, dtype):
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        scale = other.abs().max().clamp_min(1e-3)
        assert (one - other).abs().max() <= TOLERANCE[dtype] * scale


def into_buffers(rows):
    def run(X, W, b, Y):
        out = faster.buffers(X, W, rows or len(X))
        for buffer in out:  # what an earlier pass left behind must not matter
            buffer.fill_(float("nan") if buffer.is_floating_point() else True)
        form = faster.pass_in_blocks if rows else faster.pass_into
        return form(out, X, W, b, Y), out.dJ_dW, out.dJ_db, out.dJ_dX

    return run


def into_dJ_dX(form):
    def run(X, W, b, Y):
        dJ_dX = torch.full_like(X, float("nan"))
        return *form(dJ_dX, X, W, b, Y), dJ_dX

    return run


@each_type
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("rows", [None, 1, 4, 16, 1000])
def test_buffers_and_blocks(size, rows, dtype):
    data = draw(*size, dtype)
    assert_same(into_buffers(rows)(*data), by_autograd(*data), dtype)


@each_type
@pytest.mark.parametrize("size", NEURON, ids=str)
def test_fused(size, dtype):
    data = draw(*size, dtype)
    assert_same(into_dJ_dX(faster.fused)(*data), by_autograd(*data), dtype)


@each_type
@pytest.mark.parametrize("size", [*NEURON, (1000, 33, 1)], ids=str)
def test_one_pass(size, dtype):
    checks.need_compiler()
    data = draw(*size, dtype)
    assert_same(into_dJ_dX(faster.one_pass)(*data), by_autograd(*data), dtype)


def test_one_pass_gives_the_same_bits_again_and_with_more_threads_the_same_gradient():
    checks.need_compiler()
    data = draw(1000, 33, 1, torch.float64)
    run = into_dJ_dX(faster.one_pass)
    for one, other in zip(run(*data), run(*data), strict=True):
        assert torch.equal(one, other)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert_same(run(*data), by_autograd(*data), torch.float64)
    finally:
        torch.set_num_threads(before)


@each_type
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_first_layer(size, dtype):
    X, W, b, Y = draw(*size, dtype)
    Z = X @ W + b
    actual = faster.backward_of_first_layer(X, Z, torch.relu(Z), Y)
    assert_same(actual, by_autograd(X, W, b, Y)[1:3], dtype)


@pytest.mark.parametrize("form", ["buffers", "blocks", "fused", "one_pass"])
def test_at_a_tie_nothing_passes(form):
    """Where every Z is 0, relu has its corner, and PyTorch's slope there is 0."""
    if form == "one_pass":
        checks.need_compiler()
    forms = {
        "buffers": into_buffers(None),
        "blocks": into_buffers(2),
        "fused": into_dJ_dX(faster.fused),
        "one_pass": into_dJ_dX(faster.one_pass),
    }
    X, _, _, Y = draw(5, 3, 1, torch.float64)
    W, b = torch.zeros(3, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    J, *gradients = forms[form](X, W, b, Y)
    torch.testing.assert_close(J, Y.square().mean())
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


def test_buffers_are_used_again():
    """Other data in the same buffers: the memory stays, the numbers change."""
    first, second = (draw(9, 3, 2, torch.float64, seed) for seed in range(2))
    out = faster.buffers(first[0], first[1], rows=4)
    addresses = [buffer.data_ptr() for buffer in out]
    for data in (first, second):
        J = faster.pass_in_blocks(out, *data)
        assert_same((J, out.dJ_dW, out.dJ_db, out.dJ_dX), by_autograd(*data), torch.float64)
    assert [buffer.data_ptr() for buffer in out] == addresses


def plain(function):
    """The function without the check of its shapes, as it is where it was copied to."""
    return getattr(function, "__wrapped__", function)


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "copied"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": torch.ones(4, 3)}, r"out.dJ_dX is \(4, 3\), needed is \(5, 3\)"),
        ({"X": torch.ones(8, 3)}, r"out.dJ_dX is \(8, 3\), needed is \(5, 3\)"),
        ({"W": torch.ones(3, 1)}, r"out.dJ_dZ is \(ROWS, 1\), needed is \(ROWS, 2\)"),
        ({"X": torch.ones(5, 4)}, r"out.dJ_dX is \(5, 4\), needed is \(5, 3\)"),
        ({"W": torch.ones(4, 2)}, r"out.dJ_dW is \(4, 2\), needed is \(3, 2\)"),
    ],
)
@pytest.mark.parametrize(
    ("form", "rows"), [(faster.pass_into, 5), (faster.pass_in_blocks, 2)], ids=["into", "blocks"]
)
def test_buffers_of_another_size_are_refused(form, rows, change, message, checked):
    """PyTorch resizes them, in new memory; in blocks, rows of dJ/dX were lost."""
    X, W, b, Y = draw(5, 3, 2, torch.float32)
    out = faster.buffers(**{"X": X, "W": W, "rows": rows} | change)
    with pytest.raises(ValueError, match=message.replace("ROWS", str(rows))):
        (form if checked else plain(form))(out, X, W, b, Y)


def test_a_pass_at_once_needs_room_for_all_rows():
    X, W, b, Y = draw(5, 3, 2, torch.float32)
    with pytest.raises(ValueError, match=r"out.dJ_dZ is \(2, 2\), needed is \(5, 2\)"):
        faster.pass_into(faster.buffers(X, W, rows=2), X, W, b, Y)


MISFITS = pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": torch.ones(3, 2)}, r"W is \(3, 2\), needed is \(3, 1\)"),
        ({"Y": torch.ones(4, 1)}, r"Y is \(4, 1\), needed is \(5, 1\)"),
        ({"dJ_dX": torch.ones(5, 4)}, r"dJ_dX is \(5, 4\), needed is \(5, 3\)"),
        (
            {"b": torch.ones(1, dtype=torch.float64)},
            "b is torch.float64 .* needed is torch.float32",
        ),
        ({"X": torch.ones(3, 5).T}, "X needs contiguous rows"),
        ({"b": torch.ones(1, device="meta")}, "b is torch.float32 on meta, needed is .* on cpu"),
        ({"X": torch.ones(0, 3)}, "Y needs entries"),
        ({"X": torch.ones(5, 3).half()}, "X is torch.float16, needed is one of"),
        ({"X": torch.ones(5, 3).long()}, "X is torch.int64, needed is one of"),
    ],
)


def ones_for_a_neuron():
    shapes = {"dJ_dX": (5, 3), "X": (5, 3), "W": (3, 1), "b": (1,), "Y": (5, 1)}
    return {name: torch.ones(shape) for name, shape in shapes.items()}


@MISFITS
def test_one_pass_refuses_what_would_be_read_past_its_end(change, message):
    with pytest.raises(ValueError, match=message):
        plain(faster.one_pass)(**ones_for_a_neuron() | change)


def test_one_pass_in_cpp_is_for_the_processor():
    given = {name: tensor.to("meta") for name, tensor in ones_for_a_neuron().items()}
    with pytest.raises(ValueError, match="X is on meta, needed is cpu"):
        plain(faster.one_pass)(**given)


@pytest.mark.parametrize("rows", [0, -1])
def test_buffers_need_a_row(rows):
    with pytest.raises(ValueError, match=f"rows needs to be 1 or more: {rows}"):
        faster.buffers(torch.ones(2, 2), torch.ones(2, 1), rows)


@pytest.mark.parametrize("form", [faster.pass_into, faster.pass_in_blocks])
def test_an_empty_batch_is_refused(form):
    X, W, b, Y = draw(0, 3, 2, torch.float32)
    with pytest.raises(ValueError, match="Y needs entries"):
        form(faster.buffers(X, W, rows=1), X, W, b, Y)


def test_without_a_compiler_a_sentence_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(
        RuntimeError, match=r"needs a C\+\+ compiler, and none is here: install g\+\+"
    ):
        faster.compiled_pass()


def test_a_compiler_that_fails_is_quoted(monkeypatch):
    monkeypatch.setenv("CXX", sys.executable)
    with pytest.raises(RuntimeError, match=r"the C\+\+ compiler failed:\n.*Unknown option"):
        plain(faster.library).__wrapped__()


COMPILED = """
import torch
from snippets import faster
from tests.test_faster import NEURON, assert_same, by_autograd, draw, into_dJ_dX
run = into_dJ_dX(faster.compiled_pass())
for size in [(64, 20, 1), (33, 7, 1), (1, 3, 1)]:
    for dtype in (torch.float64, torch.float32):
        data = draw(*size, dtype)
        assert_same(run(*data), by_autograd(*data), dtype)
print("equal")
"""


def in_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=checks.ROOT,
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_compiled_pass():
    checks.need_compiler()
    # Without the check of shapes: that is no code for torch.compile.
    assert "equal" in in_python(COMPILED, JAXTYPING_DISABLE="1")


# The Triton kernel: its numbers by the interpreter or on a GPU, its machine code by the compiler.

needs_triton = pytest.mark.skipif(not checks.TRITON, reason="Triton is for Linux")


@needs_triton
@each_type
@pytest.mark.parametrize("size", [*NEURON, (70, 20, 1)], ids=str)
@pytest.mark.parametrize(("rows", "programs"), [(1, 2), (4, 0), (8, 3)])
def test_triton_kernel(size, rows, programs, dtype):
    from snippets import gpu

    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = [tensor.to(device) for tensor in draw(*size, dtype)]
    dJ_dX = torch.full_like(data[0], float("nan"))
    actual = (*gpu.one_pass(dJ_dX, *data, rows=rows, programs=programs), dJ_dX)
    assert_same(actual, by_autograd(*data), dtype)


@needs_triton
@MISFITS
def test_triton_kernel_refuses_what_would_be_read_past_its_end(change, message):
    from snippets import gpu

    with pytest.raises(ValueError, match=message):
        plain(gpu.one_pass)(**ones_for_a_neuron() | change)


@needs_triton
@pytest.mark.parametrize("rows", [-2, 0, 3, 6])
def test_triton_kernel_refuses_tiles_that_are_no_power_of_2(rows):
    from snippets import gpu

    with pytest.raises(ValueError, match=f"rows needs to be a power of 2: {rows}"):
        plain(gpu.one_pass)(**ones_for_a_neuron(), rows=rows)


AHEAD = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from snippets import gpu

names = gpu.kernel.arg_names
constants = {"D": 784, "COLUMNS": 1024, "ROWS": 4}
types = {n: "constexpr" if n in constants else "*fp32" for n in names} | {"N": "i32"}
aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if types[n] == "*fp32"}
source = ASTSource(gpu.kernel, types, constants, aligned)
built = triton.compile(source, target=GPUTarget("cuda", 90, 32))
assert len(built.asm["cubin"]) > 1000
print(built.asm["ptx"])
"""


@pytest.mark.slow
@needs_triton
def test_triton_kernel_compiles_for_a_gpu_and_moves_16_bytes_at_a_time():
    ptx = in_python(AHEAD)
    assert len(re.findall(r"ld\.global\.v4\.b32", ptx)) >= 8
    assert len(re.findall(r"st\.global\.v4\.b32", ptx)) >= 8
    assert ".local" not in ptx, "registers spilled to memory"
