"""The gradients of a convolution, with the orientations and loops that go wrong in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.program import Alternative, Program, Ref, Step

LACKING = "the upstream gradient is not multiplied in at all"
ORIENTATION = (
    "Slid over the padded upstream gradient, the kernel must be flipped along every spatial axis; "
    "added up window by window, dx[window] += g * w, or passed to conv_transpose, it must not."
)


def _spatial(w: Tensor) -> list[int]:
    return list(range(2, w.dim()))


class _Convolution:
    """One convolution's settings, and its two gradients as functions of tensors."""

    def __init__(self, details: dict, x_shape, w_shape) -> None:
        self.stride, self.padding = details["stride"], details["padding"]
        self.dilation, self.groups = details["dilation"], details.get("groups", 1)
        self.x_shape, self.w_shape = x_shape, w_shape

    def to_signal(self, g: Tensor, w: Tensor) -> Tensor:
        empty = g.new_zeros(self.x_shape)
        return self._backward(g, empty, w, (True, False, False))[0]

    def to_kernel(self, g: Tensor, x: Tensor) -> Tensor:
        empty = g.new_zeros(self.w_shape)
        return self._backward(g, x, empty, (False, True, False))[1]

    def _backward(self, g, x, w, wanted):
        return torch.ops.aten.convolution_backward(
            g.contiguous(),
            x.contiguous(),
            w.contiguous(),
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0] * len(self.stride),
            self.groups,
            wanted,
        )

    def windows(self):
        """Yield each output position with the slices of the padded input that it sees."""
        kernel = self.w_shape[2:]
        reach = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                self.x_shape[2:], kernel, self.stride, self.padding, self.dilation, strict=True
            )
        ]
        for position in torch.cartesian_prod(*[torch.arange(r) for r in reach]).tolist():
            position = position if isinstance(position, list) else [position]
            yield (
                position,
                [
                    slice(i * s, i * s + d * (k - 1) + 1, d)
                    for i, s, k, d in zip(position, self.stride, kernel, self.dilation, strict=True)
                ],
            )

    def signal_overwritten(self, g: Tensor, w: Tensor) -> Tensor:
        """The windows of a loop, each written over the earlier ones."""
        return self._written(
            g,
            (
                (window, torch.tensordot(g[(slice(None), slice(None), *position)], w, 1))
                for position, window in self.windows()
            ),
        )

    def offsets_overwritten(self, g: Tensor, w: Tensor) -> Tensor:
        """A loop over the places of the kernel, each written over the earlier ones."""
        return self._written(g, self._by_place(g, w))

    def _by_place(self, g: Tensor, w: Tensor) -> Iterator[tuple[list[slice], Tensor]]:
        for place in itertools.product(*map(range, self.w_shape[2:])):
            window = [
                slice(k * d, k * d + s * (n - 1) + 1, s)
                for k, d, s, n in zip(place, self.dilation, self.stride, g.shape[2:], strict=True)
            ]
            kernel = w[(slice(None), slice(None), *place)]
            yield window, torch.einsum("nm...,mc->nc...", g, kernel)

    def _written(self, g: Tensor, parts: Iterable[tuple[list[slice], Tensor]]) -> Tensor:
        """Write parts of the padded signal one over the other, and take the padding off."""
        if self.groups > 1:
            raise ValueError("written for one group")
        padded = g.new_zeros(
            *self.x_shape[:2],
            *[n + 2 * p for n, p in zip(self.x_shape[2:], self.padding, strict=True)],
        )
        for window, part in parts:
            padded[(slice(None), slice(None), *window)] = part
        inner = [slice(p, p + n) for n, p in zip(self.x_shape[2:], self.padding, strict=True)]
        return padded[(slice(None), slice(None), *inner)]

    def only_last_position(self, g: Tensor) -> Tensor:
        kept = torch.zeros_like(g)
        last = (slice(None), slice(None), *[-1] * (g.dim() - 2))
        kept[last] = g[last]
        return kept


def _of(p: Program, step: Step) -> _Convolution:
    x, w = step.arguments
    return _Convolution(step.details, p.shape(x), p.shape(w))


def _last_row(t: Tensor) -> Tensor:
    kept = torch.zeros_like(t)
    kept[-1] = t[-1]
    return kept


def _turned(w: Tensor) -> Tensor:
    return w.flip(_spatial(w))


def _ones_upstream(f):
    return lambda g, t: f(torch.ones_like(g), t)


def signal_gradient(p: Program, step: Step, g: Ref) -> Ref:
    """dJ/dx, of x's shape: the windows' contributions, accumulated."""
    c = _of(p, step)
    kernel = p.describe(step.arguments[1])
    alternatives = [
        Alternative(
            "conv_flip",
            f"the kernel {kernel} has the wrong orientation in the gradient of {{site}}",
            lambda g, w: c.to_signal(g, w.flip(_spatial(w))),
            hint=ORIENTATION,
        ),
        *[
            Alternative(
                "conv_flip",
                f"the kernel {kernel} has the wrong orientation along one of its axes",
                lambda g, w, a=a: c.to_signal(g, w.flip(a)),
                hint=ORIENTATION,
            )
            for a in _spatial(p[step.arguments[1]])
            if p[step.arguments[1]].dim() > 3
        ],
        Alternative(
            "transposed_operand",
            f"the two channel axes of the kernel {kernel} are exchanged",
            lambda g, w: c.to_signal(g, w.transpose(0, 1)),
        ),
        Alternative(
            "transposed_operand",
            f"the two channel axes of the kernel {kernel} are exchanged, and it is flipped",
            lambda g, w: c.to_signal(g, w.transpose(0, 1).flip(_spatial(w))),
        ),
        Alternative(
            "transposed_operand",
            f"the two spatial axes of the kernel {kernel} are exchanged",
            lambda g, w: c.to_signal(g, w.transpose(-1, -2)),
        ),
        Alternative(
            "overwrite_not_accumulate",
            "the windows of {site} overlap, and each is written over those before",
            c.signal_overwritten,
        ),
        Alternative(
            "overwrite_not_accumulate",
            "what comes back through one place of the kernel is written over what came before",
            c.offsets_overwritten,
            "Going back from columns to the signal, each place of the kernel adds its part.",
        ),
        Alternative("missing_upstream", LACKING, _ones_upstream(c.to_signal)),
        Alternative(
            "overwrite_not_accumulate",
            "only the last output channel of {site} counts",
            lambda g, w: c.to_signal(g[:, -1:], w[-1:]),
        ),
    ]
    if c.w_shape[:2] == (1, 1):  # one channel has no axes to swap
        alternatives = [a for a in alternatives if "channel axes" not in a.what]
    return p.emit(
        "conv_backward",
        c.to_signal,
        g,
        step.arguments[1],
        role="operand",
        alternatives=tuple(alternatives),
        called="conv",
    )


def kernel_gradient(p: Program, step: Step, g: Ref) -> Ref:
    """dJ/dw, of w's shape: a sum over the batch and over every position."""
    c = _of(p, step)
    alternatives = [
        Alternative(
            "conv_flip",
            "your gradient comes out flipped, and must not be",
            lambda g, x: _turned(c.to_kernel(g, x)),
        ),
        Alternative(
            "transposed_operand",
            "the two channel axes of your gradient are exchanged",
            lambda g, x: c.to_kernel(g, x).transpose(0, 1),
        ),
        Alternative(
            "transposed_operand",
            "the two spatial axes of your gradient are exchanged",
            lambda g, x: c.to_kernel(g, x).transpose(-1, -2),
        ),
        Alternative(
            "overwrite_not_accumulate",
            "only the last sample of the batch counts",
            lambda g, x: c.to_kernel(_last_row(g), x),
        ),
        Alternative(
            "overwrite_not_accumulate",
            "only the last position of the output of {site} counts",
            lambda g, x: c.to_kernel(c.only_last_position(g), x),
        ),
        Alternative(
            "overwrite_not_accumulate",
            "only the last sample and position of the output of {site} count",
            lambda g, x: c.to_kernel(_last_row(c.only_last_position(g)), x),
        ),
        Alternative("missing_upstream", LACKING, _ones_upstream(c.to_kernel)),
        Alternative(
            "wrong_axis",
            "the sum over the batch is taken before the product, and must come after it",
            lambda g, x: (
                c.to_kernel(
                    g.sum(0, keepdim=True).expand_as(g), x.sum(0, keepdim=True).expand_as(x)
                )
                / g.shape[0]
            ),
        ),
    ]
    if c.w_shape[:2] == (1, 1):
        alternatives = [a for a in alternatives if "channel axes" not in a.what]
    return p.emit(
        "conv_backward",
        c.to_kernel,
        g,
        step.arguments[0],
        role="operand",
        alternatives=tuple(alternatives),
        called="conv",
    )


def transposed_signal_gradient(p: Program, step: Step, g: Ref) -> Ref:
    """dJ/dx of a transposed convolution, of x's shape: a plain convolution of the gradient."""
    d = step.details
    kernel = p.describe(step.arguments[1])

    def convolve(g, w):
        zero = [0] * len(d["stride"])
        return torch.convolution(
            g, w, None, d["stride"], d["padding"], d["dilation"], False, zero, d["groups"]
        )

    alternatives = [
        Alternative(
            "conv_flip",
            f"the kernel {kernel} is flipped, and must not be",
            lambda g, w: convolve(g, _turned(w)),
        ),
        Alternative(
            "transposed_operand",
            f"the two channel axes of the kernel {kernel} are exchanged",
            lambda g, w: convolve(g, w.transpose(0, 1)),
        ),
        Alternative(
            "transposed_operand",
            f"the two spatial axes of the kernel {kernel} are exchanged",
            lambda g, w: convolve(g, w.transpose(-1, -2)),
        ),
        Alternative("missing_upstream", LACKING, _ones_upstream(convolve)),
    ]
    return p.emit(
        "conv_backward",
        convolve,
        *(g, step.arguments[1]),
        role="operand",
        alternatives=tuple(alternatives),
        called="conv_transpose",
    )


def transposed_kernel_gradient(p: Program, step: Step, g: Ref) -> Ref:
    """dJ/dw of a transposed convolution, of w's shape: x takes the place of the gradient."""
    x, w = step.arguments
    c = _Convolution(step.details, p.shape(g), p.shape(w))

    def to_kernel(g, x):
        return c.to_kernel(x, g)

    alternatives = [
        Alternative(
            "conv_flip",
            "your gradient comes out flipped, and must not be",
            lambda g, x: _turned(to_kernel(g, x)),
        ),
        Alternative(
            "transposed_operand",
            "the two channel axes of your gradient are exchanged",
            lambda g, x: to_kernel(g, x).transpose(0, 1),
        ),
        Alternative(
            "transposed_operand",
            "the two spatial axes of your gradient are exchanged",
            lambda g, x: to_kernel(g, x).transpose(-1, -2),
        ),
        Alternative(
            "overwrite_not_accumulate",
            "only the last sample of the batch counts",
            lambda g, x: to_kernel(_last_row(g), x),
        ),
        Alternative("missing_upstream", LACKING, _ones_upstream(to_kernel)),
    ]
    return p.emit(
        "conv_backward",
        to_kernel,
        *(g, x),
        role="operand",
        alternatives=tuple(alternatives),
        called="conv_transpose",
    )
