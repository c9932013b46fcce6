"""Take in what the user gives: check it, and compute the right gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.fx.experimental.symbolic_shapes
from torch import Tensor

from proofread.gradients.compare import relative_error, rounding_of, tolerance_for
from proofread.gradients.experiments import Trial
from proofread.gradients.report import Note, note
from proofread.gradients.search import Problem
from proofread.signatures import brief

NOISE = 32  # units in the last place that rounding may leave of terms that cancel
# One that nobody draws data with: an upstream that equals an input could stand in for it unseen.
UPSTREAM_SEED = 4_190_237_561
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class CannotJudge(ValueError):
    """There is nothing to judge, for the reason that its one sentence gives."""


@dataclass
class Case:
    """What was given, checked; `trial` judges the backward on one set of data."""

    backward: Any
    forward: Callable
    inputs: dict[str, Any]
    wrt: str
    upstream: Tensor
    dtype: torch.dtype
    fixed_upstream: bool
    state: Tensor
    random: bool
    notes: list[Note] = field(default_factory=list)

    @property
    def is_function(self) -> bool:
        return callable(self.backward)

    def trial(self, inputs: dict[str, Any], upstream: Tensor) -> Trial:
        """Run forward and backward on one set of data."""
        exact_inputs = {k: _wide(v) for k, v in inputs.items()}
        exact_upstream = _wide(upstream)
        rounded = self._right(inputs, upstream)
        forward = self.seeded(self.forward)
        try:
            right = self._right(exact_inputs, exact_upstream)
            nothing = right.abs().max() < 1e-9 * exact_upstream.abs().max()  # is left but rounding
            sound = bool(nothing) or relative_error(rounded.to(torch.float64), right) < 0.1
            # Terms that nearly cancel lose all digits in 16 bits; a function is judged in 64.
            eps = torch.finfo(rounded.dtype).eps
            lost = (rounded.to(torch.float64) - right).abs().max() / exact_upstream.abs().max()
            sound |= self.is_function and bool(lost < NOISE * eps)
        except Exception:  # noqa: BLE001 - a forward that insists on its dtype
            sound = False
        if not sound:
            exact_inputs, exact_upstream, right = inputs, upstream, rounded
        yours, changed = self.run_backward(inputs, upstream)
        given = inputs[self.wrt].dtype
        coarse = yours.dtype if yours.is_floating_point() else given
        coarsest = max((coarse, given), key=lambda d: torch.finfo(d).eps)
        return Trial(
            problem=Problem(forward, exact_inputs, self.wrt, exact_upstream, right),
            inputs=inputs,
            upstream=upstream,
            yours=yours.to(right.dtype),
            right=right,
            tolerance=tolerance_for(coarsest, right, rounded),
            changed=changed,
            rounding=rounding_of(coarsest),
        )

    def seeded(self, function: Callable) -> Callable:
        """Give a function that draws random numbers the same ones at each call."""

        def run(*args, **kwargs):
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(self.state)
                try:
                    return function(*args, **kwargs)
                except SystemExit as error:  # the caller's program goes on
                    raise RuntimeError(brief(error)) from error

        return run

    def _right(self, inputs: dict[str, Any], upstream: Tensor) -> Tensor:
        return right_gradient(self.seeded(self.forward), inputs, self.wrt, upstream)

    def is_finite_in_its_dtype(self) -> bool:
        """Tell whether autograd's gradient overflows nowhere, in the dtype of the data."""
        return bool(self._right(self.inputs, self.upstream).isfinite().all())

    def run_backward(
        self, inputs: dict[str, Any], upstream: Tensor
    ) -> tuple[Tensor, tuple[str, ...]]:
        """Return the user's gradient and the names of the inputs that the call changed."""
        if not self.is_function:
            return self.backward, ()
        given = {k: v.clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}
        gradient = upstream.clone()
        # A forward that draws numbers and its backward must draw the same ones.
        backward = self.seeded(self.backward) if self.random else self.backward
        try:
            result = backward(given, gradient)
        except (Exception, SystemExit) as error:
            raise CannotJudge(f"backward raises {brief(error)}") from error
        result = checked_gradient(result, self.wrt, tuple(inputs[self.wrt].shape))
        everything = {**inputs, "upstream": upstream}
        changed = tuple(
            name
            for name, now in {**given, "upstream": gradient}.items()
            if isinstance(now, Tensor) and not _unchanged(now, everything[name])
        )
        return result.detach().clone(), changed


def _unchanged(now: Tensor, before: Tensor) -> bool:
    return now.shape == before.shape and torch.equal(
        now.nan_to_num() if now.is_floating_point() else now,
        before.nan_to_num() if before.is_floating_point() else before,
    )


def _wide(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(torch.float64)
    return value


def right_gradient(
    forward: Callable, inputs: Mapping[str, Any], wrt: str, upstream: Tensor | None
) -> Tensor:
    """Return autograd's gradient, of the shape of `inputs[wrt]`."""
    with torch.enable_grad():
        leaf = inputs[wrt].detach().clone().requires_grad_()
        given = {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}
        output = _last(forward(**{**given, wrt: leaf}))
        (gradient,) = torch.autograd.grad(
            output, leaf, upstream.to(output.dtype), allow_unused=True
        )
    if gradient is None:
        raise CannotJudge(f"the forward's output does not depend on {wrt!r}")
    return gradient.to_dense()  # an embedding may give a sparse one


def case_of(backward: Any, forward: Any, inputs: Any, wrt: str, upstream: Any) -> Case:
    """Check the arguments of `diagnose`, and draw an upstream gradient where none is given.

    Raises TypeError or ValueError with one sentence.
    """
    if not callable(forward):
        raise TypeError(f"forward must be a function, got {type(forward).__name__}")
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs must be a dict of tensors, got {type(inputs).__name__}")
    if not isinstance(wrt, str):
        raise TypeError(f"wrt must be the name of one argument, got {type(wrt).__name__}")
    inputs = _checked_inputs(inputs, wrt)
    if not callable(backward):
        backward = checked_gradient(backward, wrt, tuple(inputs[wrt].shape)).detach().clone()
    state = torch.get_rng_state()
    output, random, count = _checked_output(forward, inputs, wrt)
    if random and not callable(backward):
        raise CannotJudge(
            "forward draws random numbers, so that no one tensor is its gradient: pass what it "
            "draws as an input, or give backward as a function"
        )
    notes = [note("last_output", str(count))] if count > 1 else []
    if upstream is not None:
        upstream = _checked_upstream(upstream, output)
    elif output.numel() == 1:
        upstream = torch.ones_like(output)
    elif callable(backward):
        drawn = torch.randn(output.shape, generator=torch.Generator().manual_seed(UPSTREAM_SEED))
        upstream = drawn.to(output)
    else:
        upstream = torch.ones_like(output)
        notes.append(note("upstream_ones"))
    if not random:
        notes += _notes_on_own_backwards(forward, inputs, wrt, upstream)
    fixed = output.numel() == 1 and bool((upstream == 1).all())
    return Case(
        backward=backward,
        forward=forward,
        inputs=inputs,
        wrt=wrt,
        upstream=upstream,
        dtype=inputs[wrt].dtype,
        fixed_upstream=fixed,
        state=state,
        random=random,
        notes=notes,
    )


def _notes_on_own_backwards(forward, inputs, wrt: str, upstream: Tensor) -> list[Note]:
    own = sorted(_own_backwards(_run(forward, inputs, wrt, inputs[wrt].clone())))
    if own and not _agrees_with_differences(forward, inputs, wrt, upstream):
        return [note("own_backward", " and ".join(own))]
    return []


def _run(forward: Callable, inputs: dict[str, Any], wrt: str, value: Tensor) -> Tensor:
    given = {k: v.clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        return _last(forward(**{**given, wrt: value.requires_grad_()}))


def _own_backwards(output: Tensor) -> set[str]:
    """Return the names of the `torch.autograd.Function`s in the graph of an output."""
    found, seen, stack = set(), set(), [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            found.add(node.name().removesuffix("Backward"))
        stack += [following for following, _ in node.next_functions]
    return found


def _agrees_with_differences(forward, inputs, wrt: str, upstream: Tensor) -> bool:
    """Compare autograd's gradient with a difference quotient, along one random direction."""
    wide = {k: _wide(v) for k, v in inputs.items()}
    x, generator = wide[wrt], torch.Generator().manual_seed(5)
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    step = 1e-6 * float(x.abs().max().clamp_min(1))
    try:
        right = right_gradient(forward, wide, wrt, upstream)
        up, down = (_run(forward, wide, wrt, x + sign * step * direction) for sign in (1, -1))
    except Exception:  # noqa: BLE001 - a forward that insists on its dtype
        return True
    slope = float(((up - down).detach() * upstream).sum()) / (2 * step)
    return abs(slope - float((right * direction).sum())) <= 1e-4 * max(abs(slope), 1e-3)


def _checked_inputs(inputs: Mapping[str, Any], wrt: str) -> dict[str, Any]:
    if wrt not in inputs:
        names = ", ".join(repr(k) for k in inputs) or "none"
        raise ValueError(f"there is no argument {wrt!r} in inputs, only {names}")
    value = inputs[wrt]
    if not isinstance(value, Tensor):
        raise TypeError(f"{wrt} must be a tensor, got {type(value).__name__}")
    if value.is_complex():
        raise TypeError(f"{wrt} is complex ({value.dtype}): only real gradients are judged")
    if not value.is_floating_point():
        raise TypeError(f"{wrt} has dtype {value.dtype}: only floating point has a gradient")
    for name, tensor in inputs.items():
        if not isinstance(tensor, Tensor):
            continue
        _check_kind(name, tensor)
        if tensor.numel() == 0:
            raise ValueError(f"{name} is empty, of shape {tuple(tensor.shape)}: nothing to judge")
        if tensor.is_floating_point() and tensor.isnan().any():
            raise ValueError(f"{name} holds NaN: no gradient can be judged on it")
        if tensor.is_floating_point() and name == wrt and tensor.isinf().any():
            raise ValueError(f"{name} holds infinite values: no gradient can be judged on it")
    return {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}


def _check_kind(name: str, tensor: Tensor) -> None:
    """Refuse what holds no plain numbers: sparse, nested and quantized tensors, `meta`, float8."""
    if tensor.is_nested or tensor.layout is not torch.strided:
        kind = "nested" if tensor.is_nested else f"sparse ({tensor.layout})"
        raise TypeError(f"{name} is {kind}: a dense tensor is needed")
    if tensor.is_meta:
        raise ValueError(f"{name} is on the device meta, without values: nothing to judge")
    if tensor.is_quantized or (tensor.is_floating_point() and tensor.dtype not in DTYPES):
        known = ", ".join(str(dtype) for dtype in DTYPES)
        raise TypeError(f"{name} has dtype {tensor.dtype}: one of {known} is needed")


def checked_gradient(result: Any, wrt: str, shape: tuple[int, ...]) -> Tensor:
    """Return the user's gradient as a tensor, or raise TypeError with one sentence.

    `shape` is the argument's.
    """
    if isinstance(result, bool | int | float):
        return torch.tensor(float(result), dtype=torch.float64)
    if result is None:
        raise TypeError(f"backward returns None, not the gradient of {wrt}: is a return missing?")
    if isinstance(result, list) and result and all(map(_is_number, result)):
        raise TypeError(
            f"backward returns a list of {len(result)} numbers, not a tensor: use torch.stack or "
            "torch.tensor"
        )
    if isinstance(result, tuple | list):
        raise TypeError(
            f"backward returns a {type(result).__name__} of {len(result)}: "
            f"{_of_many(result, wrt, shape)}"
        )
    if not isinstance(result, Tensor):
        kind = f"{type(result).__module__}.{type(result).__qualname__}"
        raise TypeError(
            f"backward gives a {kind.removeprefix('builtins.')}, not a tensor{_made_tensor(result)}"
        )
    if result.is_complex():
        raise TypeError(f"backward gives a complex gradient ({result.dtype})")
    _check_kind("the gradient that backward gives", result)
    if not result.numel():
        raise ValueError(f"backward gives an empty gradient, of shape {tuple(result.shape)}")
    return result


def _of_many(result: tuple | list, wrt: str, shape: tuple[int, ...]) -> str:
    """Say how the gradient is made of a tuple or a list."""
    if len(result) == (*shape, 0)[0]:
        if all(isinstance(part, Tensor) and part.shape == shape[1:] for part in result):
            return "use torch.stack"
        if all(isinstance(part, list) for part in result):
            return "use torch.tensor"
    comma = "; is there a comma at the end of its line?" if result[1:] == () else ""
    return f"return the gradient of {wrt} alone{comma}"


def _made_tensor(result: Any) -> str:
    """Say how a tensor is made of something else, where it can be."""
    if hasattr(result, "__array__") or hasattr(result, "__dlpack__"):
        return ": convert it with torch.as_tensor"
    return ": are brackets missing behind its name?" if callable(result) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and not value.dim())


def _checked_output(
    forward: Callable, inputs: dict[str, Any], wrt: str
) -> tuple[Tensor, bool, int]:
    """Return the forward's output, whether another call gives another, and the number of outputs."""
    given = {k: v.clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}
    leaf = given[wrt].requires_grad_()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            outputs = forward(**given)
            output, again = _last(outputs), _last(forward(**given))
    except (Exception, SystemExit) as error:
        raise CannotJudge(f"forward raises {brief(error)}") from error
    if not isinstance(output, Tensor):
        raise TypeError(f"forward must return a tensor, got {type(output).__name__}")
    if output.is_complex():
        raise TypeError(f"forward returns a complex tensor ({output.dtype})")
    _check_kind("the output of forward", output)
    if not output.numel():
        raise CannotJudge(f"forward returns an empty tensor, of shape {tuple(output.shape)}")
    if not output.requires_grad or not _reaches(output, leaf):
        raise CannotJudge(
            f"forward is not differentiable in {wrt!r}: its output does not depend on it"
        )
    if not output.isfinite().all():
        raise CannotJudge("forward returns values that are not finite: no gradient can be judged")
    count = len(outputs) if isinstance(outputs, tuple | list) else 1
    return output.detach(), not torch.equal(output, again), count


def _last(output: Any) -> Any:
    """Of several outputs the last counts, as J does in (Z, A, J)."""
    return output[-1] if isinstance(output, tuple | list) and output else output


def _reaches(output: Tensor, leaf: Tensor) -> bool:
    try:
        (gradient,) = torch.autograd.grad(output, leaf, torch.ones_like(output), allow_unused=True)
    except (Exception, SystemExit) as error:  # a backward of the user's own may be a step of it
        raise CannotJudge(f"forward cannot be differentiated: {brief(error)}") from error
    return gradient is not None


def _checked_upstream(upstream: Any, output: Tensor) -> Tensor:
    if isinstance(upstream, int | float):
        upstream = torch.tensor(float(upstream))
    if not isinstance(upstream, Tensor):
        raise TypeError(f"upstream must be a tensor, got {type(upstream).__name__}")
    if upstream.is_complex():
        raise TypeError(f"upstream is complex ({upstream.dtype})")
    _check_kind("upstream", upstream)
    if upstream.shape != output.shape:
        if upstream.numel() == output.numel() == 1:
            upstream = upstream.reshape(output.shape)
        else:
            raise ValueError(
                f"upstream has shape {tuple(upstream.shape)}, the output of forward "
                f"{tuple(output.shape)}: they must be equal"
            )
    if not upstream.isfinite().all():
        raise ValueError("upstream holds values that are not finite")
    return upstream.detach().clone().to(output)
