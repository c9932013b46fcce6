"""Whatever a forward calls, the verdict is right, and the search for a name ends and breaks nowhere."""

import pytest
import torch
import torch.nn.functional as F

from proofread import diagnose
from tests.gradients.layers import by_autograd, normal

X = normal(6, 4)
IDS, GROUPS = torch.tensor([2, 0, 2, 1]), torch.tensor([0, 1, 1, 0, 2, 2])
TARGETS = torch.tensor([0, 1, 2, 3, 0, 1])
ONES, THIRDS = torch.ones(6, 4).double(), torch.full((6, 4), 0.3).double()


def halves(x):
    return x.view(2, 3, 4)


def places():
    return GROUPS[:, None].expand(6, 4)


def empty():
    return torch.zeros(3, 4).double()


def written(x, change):
    y = x.clone()
    change(y)
    return y


FORWARDS = {
    # Views and parts.
    "stack, pairs turned": lambda x: torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2),
    "cat of halves": lambda x: torch.cat((-x[..., 2:], x[..., :2]), -1),
    "cat, transposed": lambda x: torch.cat([x.T, torch.tanh(x).T], 0).T,
    "cat, flattened": lambda x: torch.cat([x[None], torch.tanh(x)[None]], 0).reshape(-1),
    "cat in a loop": lambda x: torch.cat([x[k : k + 1] * k for k in range(6)]),
    "all pairs": lambda x: torch.cat([x[:, None].expand(6, 6, 4), x[None].expand(6, 6, 4)], -1),
    "shuffled channels": lambda x: (x.view(6, 2, 2).mT * x.view(6, 2, 2)).reshape(6, 4),
    "squeezed lerp": lambda x: torch.lerp(x[:1], x[1:2], 0.3).squeeze(0),
    "addcmul": lambda x: torch.addcmul(x[:3].T, x[3:].T, x[3:].T).T,
    "index": lambda x: x[:, IDS],
    "index and slice": lambda x: x[IDS, :2],
    "index by truth": lambda x: x[:, torch.tensor([True, False, True, True])],
    "differences": lambda x: x[..., 1:] - x[..., :-1],
    "unfold": lambda x: x.unfold(1, 2, 1) * 2,
    "im2col": lambda x: F.unfold(x[None, None], 2),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.reshape(1, 4, 3, 2), 2),
    "flip and roll": lambda x: x.flip(1) * x.roll(1, 0),
    "diagonal": lambda x: torch.diag(x[:4]) + torch.trace(x[:4]),
    "diag_embed": torch.diag_embed,
    "repeat": lambda x: x.repeat(2, 3),
    "repeat_interleave": lambda x: torch.repeat_interleave(x, GROUPS, dim=0),
    "movedim": lambda x: halves(x).movedim(0, 2) * 2,
    "written in place": lambda x: written(x, lambda y: y[:, 0].mul_(3)),
    "a column written": lambda x: written(x, lambda y: y.__setitem__((slice(None), 0), x[:, 1])),
    # Reductions and order.
    "bincount": lambda x: x / torch.bincount(GROUPS, minlength=6)[:, None].clamp(min=1),
    "norms": lambda x: x.norm(p=1, dim=1) + torch.linalg.vector_norm(x, ord=torch.inf, dim=1),
    "var_mean": lambda x: sum(torch.var_mean(x, 1)),
    "std, corrected": lambda x: x.std(dim=1, correction=2),
    "cumsum": lambda x: x.cumsum(1),
    "cumprod": lambda x: x.cumprod(1),
    "logcumsumexp": lambda x: torch.logcumsumexp(x, 1),
    "sort": lambda x: x.sort(1).values * torch.arange(4),
    "topk": lambda x: x.topk(2, 1)[0],
    "median": lambda x: x.median(1)[0],
    "quantile": lambda x: x.quantile(0.3, dim=1),
    "prod": lambda x: x.prod(1),
    "logsumexp over all": lambda x: x.logsumexp((0, 1)),
    "logaddexp": lambda x: torch.logaddexp(x, 2 * x),
    "cov": torch.cov,
    # Products.
    "bmm": lambda x: torch.bmm(halves(x), halves(x).mT).flatten(1),
    "baddbmm": lambda x: torch.baddbmm(torch.ones(2, 3, 3).double(), halves(x), halves(x).mT, beta=0.5),
    "addcdiv": lambda x: torch.addcdiv(x, x, x + 5, value=0.5),
    "outer": lambda x: torch.outer(x[0], x[1]),
    "cdist": lambda x: torch.cdist(x, x + 1),
    "tensordot": lambda x: torch.tensordot(x, x, dims=([1], [1])),
    "kron": lambda x: torch.kron(x[:2], x[:2]),
    "cross": lambda x: torch.linalg.cross(x[:, :3], x[:, 1:]),
    "einsum, diagonal": lambda x: torch.einsum("ii->i", x[:4]),
    "einsum, dots": lambda x: torch.einsum("...i,i->...", x, x[0]),
    "bilinear": lambda x: F.bilinear(x, x, torch.ones(2, 4, 4).double()),
    "solve": lambda x: torch.linalg.solve(x[:4] + 3 * torch.eye(4), x[:4]),
    "slogdet": lambda x: torch.linalg.slogdet(x[:4])[1],
    "cholesky": lambda x: torch.linalg.cholesky(x[:4] @ x[:4].T + torch.eye(4)),
    "singular values": torch.linalg.svdvals,
    "matrix_exp": lambda x: torch.matrix_exp(x[:4]),
    "fft": lambda x: torch.fft.rfft(x).abs(),
    "complex": lambda x: torch.view_as_real(torch.complex(x, x * x)),
    # Gather and scatter.
    "gather": lambda x: x.gather(1, IDS[None].expand(6, 4)),
    "take_along_dim": lambda x: torch.take_along_dim(x, x.argsort(1), 1),
    "scatter_add": lambda x: empty().scatter_add(0, places(), x),
    "scatter_reduce": lambda x: empty().scatter_reduce(0, places(), x, "mean", include_self=False),
    "index_add": lambda x: empty().index_add(0, GROUPS, x, alpha=2),
    "index_put": lambda x: empty().index_put((GROUPS,), x, accumulate=True),
    "masked_select": lambda x: torch.masked_select(x, torch.arange(4) > 1),
    "embedding": lambda x: F.embedding(IDS, x, padding_idx=0),
    "embedding_bag": lambda x: F.embedding_bag(IDS, x, torch.tensor([0, 2]), mode="mean"),
    # Layers.
    "pad, reflected": lambda x: F.pad(x[None], (1, 1), mode="reflect"),
    "interpolate": lambda x: F.interpolate(x[None], scale_factor=2, mode="linear"),
    "adaptive pooling": lambda x: F.adaptive_avg_pool1d(x[None], 2),
    "max pooling, padded": lambda x: F.max_pool1d(x[None], 3, stride=1, padding=1),
    "conv1d, grouped": lambda x: F.conv1d(x[None], torch.ones(6, 1, 2).double(), groups=6),
    "conv_transpose1d": lambda x: F.conv_transpose1d(
        x[None], torch.ones(6, 2, 3).double(), stride=2, output_padding=1),
    "group_norm": lambda x: F.group_norm(x[..., None], 2),
    "instance_norm": lambda x: F.instance_norm(halves(x)),
    "batch_norm, eval": lambda x: F.batch_norm(x, ONES[0] * 0, ONES[0]),
    "local_response_norm": lambda x: F.local_response_norm(x.view(1, 2, 3, 4), 2),
    "attention": lambda x: F.scaled_dot_product_attention(
        *[x.view(1, 2, 3, 4)] * 3, is_causal=True),
    "multi-head attention": lambda x: F.multi_head_attention_forward(
        *[x.view(6, 1, 4)] * 3, 4, 2, torch.ones(12, 4).double(), torch.zeros(12).double(), None,
        None, False, 0.0, torch.eye(4).double(), torch.zeros(4).double(), need_weights=False)[0],
    # Functions of one variable.
    "rrelu": lambda x: F.rrelu(x, training=False),
    "hardsigmoid": F.hardsigmoid,
    "threshold": lambda x: F.threshold(x, 0.1, 0),
    "softshrink": F.softshrink,
    "powers": lambda x: (x.abs() + 0.1) ** x + 2**x,
    "atan2 and hypot": lambda x: torch.atan2(x, x + 3) + torch.hypot(x, x + 1),
    "remainder": lambda x: x % 0.7,
    "rounded": lambda x: x - x.round(),
    "sign": lambda x: x.sign() * x * x,
    "lgamma": lambda x: torch.lgamma(x.abs() + 1),
    "sinc": torch.sinc,
    "xlogy": lambda x: torch.xlogy(x, x.abs() + 1),
    "factor 0": lambda x: torch.tanh(x) * 0.0 + x,
    "order as numbers": lambda x: torch.tanh(x)
    * torch.cat([x[:, 2:].argsort(1), x[:, :2].argsort(1)], 1),
    "norm held": lambda x: x * x.detach().norm(),
    "by the data": lambda x: x * 2 if x.sum() > 0 else x * 3,
    "largest as a number": lambda x: x * x.max().item(),
    # Losses.
    "weighted cross entropy": lambda x: F.cross_entropy(x, TARGETS, weight=torch.arange(1.0, 5).double()),
    "soft cross entropy": lambda x: F.cross_entropy(x, THIRDS),
    "kl_div": lambda x: F.kl_div(x.log_softmax(1), THIRDS, reduction="batchmean"),
    "bce, weighted": lambda x: F.binary_cross_entropy_with_logits(x, THIRDS, pos_weight=2 * ONES[0]),
    "triplet": lambda x: F.triplet_margin_loss(x[:2], x[2:4], x[4:]),
    "cosine embedding": lambda x: F.cosine_embedding_loss(x[:3], x[3:], torch.tensor([1, -1, 1])),
    "multi-margin": lambda x: F.multi_margin_loss(x, TARGETS),
    "gaussian nll": lambda x: F.gaussian_nll_loss(x, 0 * ONES, x * x + 1),
    "poisson nll": lambda x: F.poisson_nll_loss(x, ONES),
    "ctc": lambda x: F.ctc_loss(x.log_softmax(1)[:, None], torch.tensor([[1, 2]]), (6,), (2,)),
}  # fmt: skip

WRONG = {
    "another factor": lambda x, gradient: gradient * torch.cos(x) + 0.1,
    "a little of another row": lambda x, gradient: gradient + 1e-3 * gradient.flip(0),
    "twice": lambda x, gradient: 2 * gradient,
}


def inside_of_a_function(forward):
    return lambda x: 1.5 * torch.tanh(0.5 * forward(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORWARDS)
@pytest.mark.parametrize("around", [lambda f: f, inside_of_a_function], ids=["alone", "inside"])
def test_the_verdict_is_right_and_the_search_ends(name, around):
    plain = around(FORWARDS[name])

    def forward(x):
        return plain(x)

    def right(i, g):
        return by_autograd(forward, i, "x", g)

    assert diagnose(right, forward, {"x": X}, wrt="x").ok
    for what, change in WRONG.items():
        diagnosis = diagnose(
            lambda i, g, c=change: c(i["x"], right(i, g)), forward, {"x": X}, wrt="x"
        )
        assert not diagnosis.ok, what
        assert "search_failed" not in [n.label for n in diagnosis.notes], str(diagnosis)
