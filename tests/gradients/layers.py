"""Forwards of textbook size, with data, for the tables of right and wrong gradients."""

import math

import torch
import torch.nn.functional as F

DTYPE = torch.float64


def draws(seed):
    """Return functions that draw normal numbers, and numbers from 0.5 to 1.5, of a shape."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=DTYPE)

    def positive(*shape):
        return torch.rand(*shape, generator=generator, dtype=DTYPE) + 0.5

    return normal, positive


normal, positive = draws(11)


def by_autograd(forward, i, wrt, g):
    leaf = i[wrt].detach().clone().requires_grad_()
    return torch.autograd.grad(forward(**{**i, wrt: leaf}), leaf, g)[0]


def linear(X, W, b):
    return X @ W + b


def nn_linear(x, weight, bias):
    return F.linear(x, weight, bias)


def mse(pred, target):
    return ((pred - target) ** 2).mean()


def half_mse(pred, target):
    return 0.5 * ((pred - target) ** 2).sum() / pred.shape[0]


def sum_squares(pred, target):
    return ((pred - target) ** 2).sum()


def relu(Z):
    return torch.relu(Z)


def clamp_relu(Z):
    return Z.clamp_min(0.0)


def leaky_relu(z):
    return torch.where(z > 0, z, 0.1 * z)


def sigmoid(z):
    return torch.sigmoid(z)


def sigmoid_by_hand(z):
    return 1 / (1 + torch.exp(-z))


def tanh(z):
    return torch.tanh(z)


def silu(z):
    return z * torch.sigmoid(z)


def gelu(z):
    return F.gelu(z)


def gelu_tanh(z):
    return 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def softplus(z):
    return F.softplus(z)


def elu(z):
    return F.elu(z)


def exponential(z):
    return torch.exp(z)


def square(z):
    return z**2


def softmax(z):
    return torch.softmax(z, dim=-1)


def softmax_by_hand(z):
    e = torch.exp(z - z.max(dim=-1, keepdim=True).values)
    return e / e.sum(dim=-1, keepdim=True)


def log_softmax(z):
    return F.log_softmax(z, dim=-1)


def cross_entropy(logits, targets):
    return F.cross_entropy(logits, targets)


def cross_entropy_by_hand(logits, targets):
    logp = logits - logits.logsumexp(1, keepdim=True)
    return -logp[torch.arange(len(targets)), targets].mean()


def soft_cross_entropy(logits, onehot):
    return -(onehot * F.log_softmax(logits, -1)).sum(1).mean()


def bce_logits(z, y):
    return F.binary_cross_entropy_with_logits(z, y)


def bce_by_hand(z, y):
    p = torch.sigmoid(z)
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


def bce(p, y):
    return F.binary_cross_entropy(p, y)


def nll(logp, targets):
    return F.nll_loss(logp, targets)


def layer_norm(x, gamma, beta, eps=1e-5):
    mu = x.mean(-1, keepdim=True)
    var = x.var(-1, keepdim=True, unbiased=False)
    return (x - mu) / torch.sqrt(var + eps) * gamma + beta


def torch_layer_norm(x, weight, bias):
    return F.layer_norm(x, (x.shape[-1],), weight, bias)


def batch_norm(x, gamma, beta, eps=1e-5):
    mu = x.mean(0)
    var = ((x - mu) ** 2).mean(0)
    return gamma * ((x - mu) / torch.sqrt(var + eps)) + beta


def torch_batch_norm(x, gamma, beta):
    return F.batch_norm(x, None, None, gamma, beta, training=True)


def batch_norm_eval(x, gamma, beta, mean, var):
    return F.batch_norm(x, mean, var, gamma, beta, training=False)


def rms_norm(x, gamma, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * gamma


def unit_norm(x):
    return x / x.norm(dim=-1, keepdim=True)


def standardise(x):
    return (x - x.mean(0)) / x.std(0)


def embedding(E, ids):
    return E[ids]


def torch_embedding(weight, ids):
    return F.embedding(ids, weight)


def embedding_sum(E, ids):
    return E[ids].sum(1)


def embedding_bag(E, ids):
    return E[ids].mean(1)


def dropout(x, mask, p):
    return x * mask / (1 - p)


def dropout_scaled(x, mask):
    return x * mask


def conv1d(x, w, b):
    return F.conv1d(x, w, b)


def conv1d_by_hand(x, w):
    k = w.shape[0]
    return torch.stack([(x[i : i + k] * w).sum() for i in range(len(x) - k + 1)])


def conv2d(x, w, b):
    return F.conv2d(x, w, b, padding=1)


def conv2d_plain(x, w):
    return F.conv2d(x, w)


def max_pool(x):
    return F.max_pool2d(x, 2)


def avg_pool(x):
    return F.avg_pool2d(x, 2)


def residual(x, W):
    return x + torch.relu(x @ W)


def residual_tanh(x, W1, W2):
    return x + torch.tanh(x @ W1) @ W2


def residual_scaled(x, W, alpha):
    return x + alpha * torch.tanh(x @ W)


def pre_norm_residual(x, gamma, W):
    h = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * gamma
    return x + torch.relu(h @ W)


def attention(Q, K, V):
    S = Q @ K.transpose(-2, -1) / math.sqrt(Q.shape[-1])
    return torch.softmax(S, dim=-1) @ V


def sdpa(Q, K, V):
    return F.scaled_dot_product_attention(Q, K, V)


def causal_attention(Q, K, V, mask):
    S = Q @ K.transpose(-2, -1) / math.sqrt(Q.shape[-1])
    return torch.softmax(S.masked_fill(~mask, float("-inf")), dim=-1) @ V


def self_attention(x, Wq, Wk, Wv):
    Q, K, V = x @ Wq, x @ Wk, x @ Wv
    return torch.softmax(Q @ K.T / math.sqrt(Q.shape[-1]), -1) @ V


def mlp(X, W1, b1, W2, b2, Y):
    H = torch.relu(X @ W1 + b1)
    return ((H @ W2 + b2 - Y) ** 2).mean()


def mlp_tanh(X, W1, W2):
    return torch.tanh(X @ W1) @ W2


def mlp_ce(X, W1, b1, W2, b2, y):
    return F.cross_entropy(torch.tanh(X @ W1 + b1) @ W2 + b2, y)


def logistic(X, w, b, y):
    return F.binary_cross_entropy_with_logits(X @ w + b, y)


def tied(E, ids):
    return torch.tanh(E[ids]) @ E.T


def shift(x, b):
    return x + b


def scale(x, s):
    return x * s


def outer_product(u, v):
    return u[:, None] * v[None, :]


def gate(x, W, V):
    return torch.sigmoid(x @ W) * (x @ V)


def rnn(x, h, Wx, Wh):
    return torch.tanh(x @ Wx + torch.tanh(x @ Wx + h @ Wh) @ Wh)


def glu(x):
    a, b = x.chunk(2, -1)
    return a * torch.sigmoid(b)


def cumulative(x):
    return x.cumsum(-1)


def quadratic(x, A):
    return (x @ A * x).sum(-1)


def mean_rows(X):
    return X.mean(0)


def logsumexp(z):
    return z.logsumexp(-1)


def cosine(a, b):
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def l2_loss(W, lam):
    return 0.5 * lam * (W**2).sum()


def ridge(X, w, y, lam):
    return ((X @ w - y) ** 2).mean() + lam * (w**2).sum()


def instance_scale(x, gamma):
    return F.group_norm(x, 2) * gamma[:, None, None]


CLASSES = torch.tensor([0, 2, 3, 1, 2])
BINARY = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0], dtype=DTYPE)
IDS = torch.tensor([[1, 2, 1], [0, 1, 5]])
MASK = (torch.arange(15).reshape(5, 3) % 3 != 1).to(DTYPE)
CAUSAL = torch.ones(5, 5).tril().bool()

DATA = {
    linear: {"X": normal(5, 3), "W": normal(3, 4), "b": normal(4)},
    nn_linear: {"x": normal(5, 3), "weight": normal(4, 3), "bias": normal(4)},
    mse: {"pred": normal(5, 3), "target": normal(5, 3)},
    half_mse: {"pred": normal(5, 3), "target": normal(5, 3)},
    sum_squares: {"pred": normal(5), "target": normal(5)},
    softmax: {"z": normal(5, 4)},
    softmax_by_hand: {"z": normal(5, 4)},
    log_softmax: {"z": normal(5, 4)},
    cross_entropy: {"logits": normal(5, 4), "targets": CLASSES},
    cross_entropy_by_hand: {"logits": normal(5, 4), "targets": CLASSES},
    soft_cross_entropy: {
        "logits": normal(5, 4), "onehot": F.one_hot(CLASSES, 4).to(DTYPE)
    },
    bce_logits: {"z": normal(5), "y": BINARY},
    bce_by_hand: {"z": normal(5), "y": BINARY},
    bce: {"p": torch.sigmoid(normal(5)), "y": BINARY},
    nll: {"logp": torch.log_softmax(normal(5, 4), 1), "targets": CLASSES},
    layer_norm: {"x": normal(5, 4), "gamma": positive(4), "beta": normal(4)},
    torch_layer_norm: {"x": normal(5, 4), "weight": normal(4), "bias": normal(4)},
    batch_norm: {"x": normal(6, 4), "gamma": positive(4), "beta": normal(4)},
    torch_batch_norm: {"x": normal(6, 4), "gamma": normal(4), "beta": normal(4)},
    batch_norm_eval: {
        "x": normal(6, 4), "gamma": normal(4), "beta": normal(4),
        "mean": normal(4), "var": positive(4),
    },
    rms_norm: {"x": normal(5, 4), "gamma": normal(4)},
    unit_norm: {"x": normal(5, 4)},
    standardise: {"x": normal(6, 4)},
    embedding: {"E": normal(6, 3), "ids": IDS},
    torch_embedding: {"weight": normal(6, 3), "ids": IDS},
    embedding_sum: {"E": normal(6, 4), "ids": IDS},
    embedding_bag: {"E": normal(6, 4), "ids": IDS},
    dropout: {"x": normal(5, 3), "mask": MASK, "p": 0.3},
    dropout_scaled: {"x": normal(5, 3), "mask": MASK / 0.6},
    conv1d: {"x": normal(2, 3, 7), "w": normal(4, 3, 3), "b": normal(4)},
    conv1d_by_hand: {"x": normal(9), "w": normal(3)},
    conv2d: {"x": normal(2, 3, 5, 6), "w": normal(4, 3, 3, 3), "b": normal(4)},
    conv2d_plain: {"x": normal(2, 3, 5, 6), "w": normal(3, 3, 3, 3)},
    max_pool: {"x": normal(2, 3, 4, 6)},
    avg_pool: {"x": normal(2, 3, 4, 6)},
    residual: {"x": normal(5, 4), "W": normal(4, 4)},
    residual_tanh: {"x": normal(5, 3), "W1": normal(3, 4), "W2": normal(4, 3)},
    residual_scaled: {"x": normal(5, 4), "W": normal(4, 4), "alpha": 0.3},
    pre_norm_residual: {"x": normal(5, 4), "gamma": normal(4), "W": normal(4, 4)},
    attention: {"Q": normal(2, 5, 3), "K": normal(2, 5, 3), "V": normal(2, 5, 3)},
    sdpa: {"Q": normal(2, 5, 3), "K": normal(2, 6, 3), "V": normal(2, 6, 4)},
    causal_attention: {
        "Q": normal(5, 3), "K": normal(5, 3), "V": normal(5, 4), "mask": CAUSAL
    },
    self_attention: {"x": normal(5, 4), "Wq": normal(4, 3), "Wk": normal(4, 3),
                     "Wv": normal(4, 3)},
    mlp: {"X": normal(5, 3), "W1": normal(3, 6), "b1": normal(6), "W2": normal(6, 4),
          "b2": normal(4), "Y": normal(5, 4)},
    mlp_tanh: {"X": normal(5, 3), "W1": normal(3, 6), "W2": normal(6, 4)},
    mlp_ce: {"X": normal(5, 3), "W1": normal(3, 6), "b1": normal(6), "W2": normal(6, 4),
             "b2": normal(4), "y": CLASSES},
    logistic: {"X": normal(5, 3), "w": normal(3), "b": normal(1), "y": BINARY},
    tied: {"E": normal(6, 3), "ids": torch.tensor([1, 2, 1, 4])},
    shift: {"x": normal(5, 4, 3), "b": normal(4, 1)},
    scale: {"x": normal(5, 4), "s": normal(4)},
    outer_product: {"u": normal(5), "v": normal(4)},
    gate: {"x": normal(5, 3), "W": normal(3, 4), "V": normal(3, 4)},
    rnn: {"x": normal(5, 3), "h": normal(5, 4), "Wx": normal(3, 4), "Wh": normal(4, 4)},
    glu: {"x": normal(5, 6)},
    cumulative: {"x": normal(5, 4)},
    quadratic: {"x": normal(5, 4), "A": normal(4, 4)},
    mean_rows: {"X": normal(5, 4)},
    logsumexp: {"z": normal(5, 4)},
    cosine: {"a": normal(5, 4), "b": normal(5, 4)},
    l2_loss: {"W": normal(3, 4), "lam": 0.1},
    ridge: {"X": normal(7, 3), "w": normal(3), "y": normal(7), "lam": 0.1},
    instance_scale: {"x": normal(2, 4, 3, 5), "gamma": normal(4)},
}  # fmt: skip
for function in (leaky_relu, sigmoid, sigmoid_by_hand, tanh, silu, gelu, gelu_tanh, softplus, elu,
                 exponential, square):  # fmt: skip
    DATA[function] = {"z": normal(5, 4)}
for function in (relu, clamp_relu):
    DATA[function] = {"Z": normal(5, 4)}


def inputs_of(forward):
    return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in DATA[forward].items()}
