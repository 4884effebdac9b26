"""Batch normalisation whose mean and variance are those of the batch of all ranks."""

from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from nas_face.nn.ranks import Ranks


def synchronise_(module: nn.Module, ranks: Ranks) -> None:
    """Replace every batch normalisation inside a module by one over all ranks.

    Parameters and buffers go over as they are, under their old names. On a GPU torch's own
    SyncBatchNorm does the work; it has no form for the CPU.

    Args:
        module: changes in place.
        ranks: processes that train together; each calls this and then trains.
    """
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, _Synchronised | _OnGpu):
            on_gpu = any(each.is_cuda for each in child.buffers())
            setattr(module, name, _OnGpu(child) if on_gpu else _Synchronised(child, ranks))
        else:
            synchronise_(child, ranks)


def localise_(module: nn.Module) -> None:
    """Undo `synchronise_`: the modules that were there before, with what they have learned."""
    for name, child in module.named_children():
        if isinstance(child, _Synchronised | _OnGpu):
            (local,) = child.replaced
            _hand_over_(child, local)
            setattr(module, name, local)
        else:
            localise_(child)


@final
class _Synchronised(_BatchNorm):
    """On the CPU.

    Batches of the ranks may differ in size. The running variance is that of torch, unbiased over
    the batch of all ranks. The gradients of `weight` and `bias` are those of this rank's images.

    Source: Ioffe and Szegedy, arXiv 1502.03167, algorithm 1; means and squares of the ranks are
    put together as in Chan, Golub and LeVeque, Updating formulae, 1979.
    """

    def __init__(self, local: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(local.num_features, eps=local.eps, momentum=local.momentum)
        self.ranks = ranks
        self.replaced = (local,)  # in a tuple, where torch does not take it for a child
        _hand_over_(local, self)

    def _check_input_dim(self, input: Tensor) -> None:
        """`replaced` has taken whatever comes."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        y, mean, variance, count = _Normalise.apply(
            x, self.weight, self.bias, self.ranks, self.eps
        )
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                share = self._share()
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return cast(Tensor, y)

    def _share(self) -> float:
        """Of the new batch in the running statistics."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if self.momentum is not None:
            return self.momentum
        return 1 / max(1, int(cast(Tensor, self.num_batches_tracked)))


@final
class _OnGpu(nn.SyncBatchNorm):
    """On GPUs, over all ranks."""

    def __init__(self, local: _BatchNorm) -> None:
        super().__init__(local.num_features, eps=local.eps, momentum=local.momentum)
        self.replaced = (local,)
        _hand_over_(local, self)


class _Normalise(torch.autograd.Function):
    """Batch normalisation in training; also gives mean, biased variance and count, without
    gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, ranks: Ranks, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count = x.numel() // x.shape[1]
        own_variance, own_mean = torch.var_mean(_wide(x), _dimensions(x), correction=0)
        own = torch.cat([own_mean, own_variance]).double()
        gathered = ranks.gather(torch.cat([own, own.new_tensor([count])])[None], total=ranks.n)
        counts = gathered[:, -1:]  # (n, 1)
        means, variances = gathered[:, :-1].chunk(2, dim=1)  # (n, C) each
        total = counts.sum()
        if total <= 1:
            raise ValueError("batch normalisation needs more than one value per channel to train")
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean).square())).sum(0) / total
        mean, variance = mean.to(own_mean.dtype), variance.to(own_mean.dtype)
        ctx.ranks = ranks
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), total)
        y = functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, variance, total)
        return y, mean, variance, total

    @staticmethod
    def backward(
        ctx: Any, gradient: Tensor, *unused: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        x, weight, mean, scale, total = ctx.saved_tensors
        wide = _wide(gradient)
        normal = (_wide(x) - _along(mean, x)) * _along(scale, x)
        own = torch.stack([wide.sum(_dimensions(x)), (wide * normal).sum(_dimensions(x))])
        means = ctx.ranks.sum(own) / total.to(own.dtype)  # (2, C)
        to_x = wide - _along(means[0], x) - normal * _along(means[1], x)
        to_x = to_x * _along(scale if weight is None else scale * weight, x)
        of_weight = own[1].to(weight.dtype) if ctx.needs_input_grad[1] else None
        of_bias = own[0].to(mean.dtype) if ctx.needs_input_grad[2] else None
        return to_x.to(x.dtype), of_weight, of_bias, None, None


def _hand_over_(source: _BatchNorm, target: _BatchNorm) -> None:
    """Parameters, buffers and mode of one normalisation to another."""
    target.affine = source.affine
    target.track_running_stats = source.track_running_stats
    target.weight, target.bias = source.weight, source.bias
    target.running_mean, target.running_var = source.running_mean, source.running_var
    target.num_batches_tracked = source.num_batches_tracked
    target.train(source.training)


def _wide(x: Tensor) -> Tensor:
    """At least fp32, whatever autocast has made of it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _dimensions(x: Tensor) -> list[int]:
    """All but the channel's."""
    return [each for each in range(x.ndim) if each != 1]


def _along(values: Tensor, x: Tensor) -> Tensor:
    """`(C,)` as `(1, C, 1, ...)`."""
    return values.view(-1, *[1] * (x.ndim - 2))
