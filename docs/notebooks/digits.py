# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train on digits
#
# Formulas that agree on random numbers are one thing. This notebook trains the linear layer, the ReLU and
# the mean squared error of the derivation pages on real handwriting, with nothing but the hand-written gradients, and lets
# PyTorch's autograd do the same from the same start. The two runs must agree at every step.
#
# The task is a classifier by regression: ten outputs, one for each digit, and the target is 1 for the right one and 0 for the
# others. The largest output wins. There are better losses for this, but this one you have derived.

# %%
import os

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import fetch_openml, load_digits
from tqdm import tqdm

from snippets.layers import Linear, Model, Mse, Relu

# %% [markdown]
# ## The data
#
# scikit-learn ships 1,797 digits of 8 × 8 pixels, so this runs offline. Set `DIGITS=mnist` to take the 70,000 of MNIST
# instead; they are downloaded once, and a bar shows how far the training is.


# %%
def load(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pixels (N, D), from 0 to 1, and the digits (N,)."""
    if name == "mnist":
        pixels, digits = fetch_openml("mnist_784", return_X_y=True, as_frame=False)
    elif name == "digits":
        pixels, digits = load_digits(return_X_y=True)
    else:
        raise ValueError(f"DIGITS must be 'digits' or 'mnist', got {name!r}")
    X = torch.tensor(pixels, dtype=torch.float64)
    return X / X.max(), torch.tensor(digits.astype(int))


X, digits = load(os.environ.get("DIGITS", "digits"))
Y = torch.nn.functional.one_hot(digits, 10).to(X.dtype)
N, D, M = len(X), X.shape[1], Y.shape[1]
side = int(D**0.5)

order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
train, test = order[: N * 4 // 5], order[N * 4 // 5 :]
print(f"{len(train)} rows to train on, {len(test)} to test on, {D} pixels each")

# %%
figure, axes = plt.subplots(2, 8, figsize=(8, 2.4), layout="constrained")
for axis, i in zip(axes.flat, train[:16], strict=True):
    axis.imshow(X[i].reshape(side, side).numpy(), cmap="gray_r")
    axis.set_title(digits[i].item(), fontsize=9)
    axis.axis("off")

# %% [markdown]
# ## One start, two ways
#
# Both runs begin with the same weights, and both take the same steps: `W -= RATE * dJ_dW`. They differ in one thing only: who
# computes the gradient.
#
# How large may a step be? Too large, and the loss goes up. The curvature of this loss is at most twice the mean squared length of
# a row (with a 1 for the bias), divided by the number of outputs. The rate is 2 over that bound: as long as no row crosses the kink
# of its ReLU, the loss can't rise.

# %%
RATE = (M / (X[train].square().sum(1).mean() + 1)).item()
STEPS = 300


def start() -> tuple[torch.Tensor, torch.Tensor]:
    """Return small random weights (D, M), the same each time, and a bias (M,)."""
    generator = torch.Generator().manual_seed(1)
    W = 0.01 * torch.randn(D, M, dtype=X.dtype, generator=generator)
    return W, torch.full((M,), 0.1, dtype=X.dtype)


# %% [markdown]
# By hand, with the [layers](../../derivations/layers/) of this site:

# %%
linear = Linear(*start())
model = Model([linear, Relu()], Mse())

by_hand = []
for _ in tqdm(range(STEPS), desc="by hand", disable=N < 10_000):
    by_hand.append(model(X[train], Y[train]).item())
    model.backward()
    linear.W -= RATE * linear.dJ_dW
    linear.b -= RATE * linear.dJ_db

# %% [markdown]
# By autograd:

# %%
W, b = (parameter.requires_grad_() for parameter in start())

by_autograd = []
for _ in tqdm(range(STEPS), desc="autograd", disable=N < 10_000):
    J = (torch.relu(X[train] @ W + b) - Y[train]).square().mean()
    by_autograd.append(J.item())
    dJ_dW, dJ_db = torch.autograd.grad(J, (W, b))
    with torch.no_grad():
        W -= RATE * dJ_dW
        b -= RATE * dJ_db

# %% [markdown]
# ## The same curve
#
# Not a similar curve: the same loss at each of the 300 steps, and the same weights at the end. If one of the gradients were off
# by a factor or a sign, this cell would raise, and the site would not build.

# %%
torch.testing.assert_close(torch.tensor(by_hand), torch.tensor(by_autograd), rtol=1e-9, atol=0)
torch.testing.assert_close(linear.W, W.detach(), rtol=1e-9, atol=1e-12)
assert by_hand[-1] < by_hand[0] / 2, "the loss should have halved"

figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
axis.plot(by_hand, linewidth=5, alpha=0.35, label="by hand")
axis.plot(by_autograd, linewidth=1.2, color="black", label="autograd")
axis.set(xlabel="step", ylabel="J", yscale="log")
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# ## What it learned
#
# Each neuron has one weight for each pixel, so its weights are a picture. Blue pixels speak for the digit, red ones against it.

# %%
figure, axes = plt.subplots(2, 5, figsize=(8, 3.4), layout="constrained")
limit = linear.W.abs().max()
for digit, axis in enumerate(axes.flat):
    picture = linear.W[:, digit].reshape(side, side).numpy()
    axis.imshow(picture, cmap="RdBu", vmin=-limit, vmax=limit)
    axis.set_title(digit, fontsize=9)
    axis.axis("off")

# %%
outputs = torch.relu(X[test] @ linear.W + linear.b)
accuracy = (outputs.argmax(1) == digits[test]).double().mean().item()
print(f"right on {accuracy:.1%} of {len(test)} digits it has never seen")
assert accuracy > 0.85
