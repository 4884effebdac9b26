"""Layers computed together in training, against torch's own layers in double precision."""

import contextlib
import copy
import resource
import shutil
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_face.arch.zoo import network
from nas_face.nn import FaceModel, build
from nas_face.nn.combinators import GateModule, SplitModule
from nas_face.nn.fast import accelerate_, fast_training, restore_
from nas_face.nn.fast.compiled import kernels
from nas_face.nn.fast.memory import freed_memory_kept
from nas_face.nn.fast.sequential import FastSequential
from nas_face.nn.fast.subnormals import subnormals_flushed
from nas_face.nn.modules import AnyRankBatchNorm, FixedScaleBatchNorm, GlobalAveragePoolModule

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(params=[pytest.param("compiled", marks=needs_compiler), "torch's operators"])
def operators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways to compute: with a compiler and on a machine without one."""
    with contextlib.ExitStack() as stack:
        if request.param != "compiled":
            monkeypatch.setenv("CC", "")
            kernels.cache_clear()
            stack.callback(kernels.cache_clear)
        assert (kernels() is not None) == (request.param == "compiled")
        yield request.param


def norm(channels: int) -> AnyRankBatchNorm:
    layer = AnyRankBatchNorm(channels, eps=1e-5, momentum=0.1)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def prelu(channels: int) -> nn.PReLU:
    """With slopes on both sides of 0 and of 1, as training may give them."""
    layer = nn.PReLU(channels)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-0.5, 1.5, channels))
    return layer


def pointwise(*layers: nn.Module, into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 1, bias=False), norm(out), *layers)


def silu(channels: int) -> nn.SiLU:
    return nn.SiLU()


def split(act: Callable[[int], nn.Module]) -> SplitModule:
    """Eight channels to twelve."""
    return SplitModule(
        (3, 5), [pointwise(act(4), into=3, out=4), pointwise(act(8), into=5, out=8)]
    )


SEQUENCES = {
    "norm": (lambda: [norm(5)], (4, 5, 6, 3)),
    "norm of vectors": (lambda: [norm(7)], (9, 7)),
    "norm of fixed scale": (lambda: [FixedScaleBatchNorm(6, 2e-5, 0.1)], (3, 6, 4, 4)),
    "norm, ReLU": (lambda: [norm(8), nn.ReLU()], (2, 8, 5, 5)),
    "norm, PReLU": (lambda: [norm(40), prelu(40)], (4, 40, 8, 8)),
    "norm, one slope": (lambda: [norm(3), prelu(1)], (4, 3, 5, 7)),
    "norm, PReLU, many rows": (lambda: [norm(3), prelu(3)], (9, 3, 41, 37)),
    "norm, PReLU, many channels": (lambda: [norm(600), prelu(600)], (3, 600, 3, 3)),
    "norm, SiLU": (lambda: [norm(16), nn.SiLU()], (4, 16, 6, 6)),
    "norm, activation of its own": (lambda: [norm(4), nn.Hardswish()], (4, 4, 6, 6)),
    "two norms": (lambda: [norm(4), prelu(4), norm(4)], (4, 4, 6, 6)),
    "PReLU": (lambda: [prelu(12)], (3, 12, 7, 5)),
    "PReLU of vectors": (lambda: [prelu(6)], (5, 6)),
    "shuffle": (lambda: [nn.ChannelShuffle(2)], (2, 10, 4, 3)),
    "shuffle back": (lambda: [nn.ChannelShuffle(5)], (2, 10, 4, 3)),
    "shuffle of threes": (lambda: [nn.ChannelShuffle(3)], (2, 12, 4, 3)),
    "depthwise": (lambda: [nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)], (2, 6, 7, 5)),
    "grouped": (lambda: [nn.Conv2d(6, 8, (5, 3), 1, (2, 1), groups=2, bias=False)], (2, 6, 7, 5)),
    "strided": (lambda: [nn.Conv2d(6, 6, 3, 2, 1, groups=3, bias=False)], (2, 6, 7, 5)),
    "global depthwise": (lambda: [nn.Conv2d(6, 6, (4, 3), groups=6, bias=False)], (2, 6, 4, 3)),
    "pool": (lambda: [GlobalAveragePoolModule()], (3, 4, 5, 6)),
    "gate": (
        lambda: [
            GateModule(nn.Sequential(GlobalAveragePoolModule(), nn.Conv2d(9, 9, 1), nn.Sigmoid()))
        ],
        (3, 9, 5, 4),
    ),
    "gate of positions": (
        lambda: [GateModule(nn.Sequential(nn.Conv2d(4, 1, 1), nn.Sigmoid()))],
        (2, 4, 5, 4),
    ),
    "split, shuffle of two": (lambda: [split(prelu), nn.ChannelShuffle(2)], (3, 8, 6, 5)),
    "split, shuffle of halves": (lambda: [split(prelu), nn.ChannelShuffle(6)], (3, 8, 6, 5)),
    "split, shuffle of fours": (lambda: [split(silu), nn.ChannelShuffle(4)], (3, 8, 8, 8)),
    "split without activation": (
        lambda: [SplitModule((2, 3), [pointwise(into=2, out=2), pointwise(into=3, out=2)])],
        (3, 5, 6, 5),
    ),
    "split, branches unlike": (
        lambda: [
            SplitModule((2, 3), [pointwise(nn.SiLU(), into=2, out=2), pointwise(into=3, out=2)])
        ],
        (3, 5, 6, 5),
    ),
}


def trained(module: nn.Module, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Output, gradients and buffers after one forward and backward pass."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = module.train()(x)
    (y * weight).sum().backward()
    found = {"output": y.detach(), "input": x.grad}
    found |= {name: each.grad for name, each in module.named_parameters() if each.requires_grad}
    return found | {name: each.clone() for name, each in module.named_buffers()}


def check_against_double(module: nn.Module, x: Tensor) -> None:
    """A fast module gives what torch's layers give in double precision, to rounding."""
    weight = torch.randn(copy.deepcopy(module).double().train()(x.double()).shape)
    expected = trained(copy.deepcopy(module).double(), x.double(), weight.double())
    accelerate_(module)
    found = trained(module, x, weight)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        scale = float(expected[name].abs().max()) + 1e-30
        torch.testing.assert_close(
            value.double() / scale, expected[name].double() / scale, rtol=0, atol=1e-5, msg=name
        )


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("channels_last", [True, False])
def test_values_gradients_and_statistics_are_those_of_torch(
    name: str, channels_last: bool, operators: str
) -> None:
    torch.manual_seed(0)
    layers, shape = SEQUENCES[name]
    x = torch.randn(shape) * 2 + 1
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    check_against_double(nn.Sequential(*layers()), x)


@pytest.mark.parametrize(
    "name", ["mobilefacenet_128", "vargfacenet", "seesaw_shuffle", "mixfacenet_xs"]
)
def test_gradients_of_a_network_are_as_exact_as_those_of_torch(name: str, operators: str) -> None:
    torch.manual_seed(0)
    spec = network(name).variant(input_size=(48, 48))
    plain = build(spec.lower(), spec.input)
    x, weight = torch.randn(4, 3, 48, 48), torch.randn(4, spec.embedding_size)
    exact = trained(copy.deepcopy(plain).double(), x.double(), weight.double())
    fast = copy.deepcopy(plain)
    with fast_training(fast):
        found = trained(fast, x, weight)
    usual = trained(plain, x, weight)
    assert found.keys() == usual.keys()

    def error(values: dict[str, Tensor]) -> float:
        names = [name for name in values if values[name].is_floating_point()]
        return max(float((values[n] - exact[n]).norm() / (exact[n].norm() + 1e-6)) for n in names)

    assert error(found) < 3 * error(usual) + 1e-5


def test_variance_is_exact_far_from_zero(operators: str) -> None:
    torch.manual_seed(0)
    x = 1000 + torch.randn(16, 3, 32, 32)
    fast = nn.Sequential(norm(3))
    accelerate_(fast)
    fast.train()(x)
    expected = 0.9 + 0.1 * x.double().var(dim=(0, 2, 3))
    torch.testing.assert_close(fast[0].running_var.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("act", [nn.ReLU, nn.PReLU, nn.SiLU])
def test_nan_goes_through(act: type[nn.Module], operators: str) -> None:
    fast = nn.Sequential(norm(4), act())
    accelerate_(fast)
    x = torch.randn(2, 4, 3, 3)
    x[0, 2, 1, 1] = torch.nan
    y = fast.train()(x)
    assert y[:, 2].isnan().all()
    assert y[:, [0, 1, 3]].isfinite().all()


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(norm(24), prelu(24), norm(24), nn.SiLU(), prelu(24))
    accelerate_(module)
    x, weight = torch.randn(8, 24, 33, 31), torch.randn(8, 24, 33, 31)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            found.append(trained(copy.deepcopy(module), x, weight))
        finally:
            torch.set_num_threads(before)
    one, three = found
    assert all(torch.equal(one[name], three[name]) for name in one)


def test_evaluation_and_norms_out_of_training_are_left_to_torch() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(norm(6), prelu(6))
    fast = copy.deepcopy(module)
    accelerate_(fast)
    x = torch.randn(4, 6, 5, 5)
    assert torch.equal(fast.eval()(x), module.eval()(x))
    for each in (fast, module):
        each.train()
        each[0].eval()
    assert torch.equal(fast(x), module(x))
    assert torch.equal(fast[0].running_mean, torch.zeros(6))


def test_autocast_is_left_to_torch() -> None:
    fast = nn.Sequential(nn.Conv2d(3, 6, 1), norm(6), nn.PReLU())
    plain = copy.deepcopy(fast)
    accelerate_(fast)
    x = torch.randn(4, 3, 5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fast.train()(x), plain.train()(x))


def test_one_value_a_channel_is_refused_as_torch_refuses_it(operators: str) -> None:
    fast = nn.Sequential(norm(6), prelu(6))
    accelerate_(fast)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fast.train()(torch.randn(1, 6, 1, 1))


def test_a_module_is_the_same_afterwards() -> None:
    spec = network("mobilefacenet_128").variant(input_size=(48, 48))
    module = build(spec.lower(), spec.input)
    before = {name: each.clone() for name, each in module.state_dict().items()}
    kinds = [type(each) for each in module.modules()]
    with fast_training(module):
        assert list(module.state_dict()) == list(before)
        assert any(type(each) is FastSequential for each in module.modules())
    assert [type(each) for each in module.modules()] == kinds
    for name, each in module.state_dict().items():
        assert torch.equal(each, before[name])
        assert each.is_contiguous()


def test_nothing_is_fused_where_it_must_not_be() -> None:
    module = nn.Sequential(norm(6), prelu(6))
    with fast_training(module, fuse=False):
        assert type(module) is nn.Sequential
    accelerate_(module)
    restore_(module)
    assert type(module) is nn.Sequential


@pytest.mark.parametrize("compiler", ["cc-that-is-not-there", "false"])
def test_a_compiler_that_fails_is_none(compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", compiler)
    kernels.cache_clear()
    try:
        assert kernels() is None
    finally:
        kernels.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults")
def test_freed_memory_is_not_fetched_again() -> None:
    with freed_memory_kept():
        torch.ones(12_000_000)  # 48 MB: glibc by itself would give it back
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10_000_000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults")
def test_a_block_within_a_block_does_not_end_it() -> None:
    with freed_memory_kept():
        with freed_memory_kept():
            torch.ones(12_000_000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10_000_000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000


def half_of_the_least() -> float:
    return float(torch.full((1,), torch.finfo(torch.float32).tiny) * 0.5)


def test_subnormal_numbers_are_zero_in_the_outermost_block_only() -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush them")
    assert half_of_the_least() > 0
    with subnormals_flushed():
        assert half_of_the_least() == 0
        with subnormals_flushed():
            assert half_of_the_least() == 0
        assert half_of_the_least() == 0
    assert half_of_the_least() > 0


def test_subnormal_numbers_come_back_behind_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), subnormals_flushed():
        raise ZeroDivisionError
    assert half_of_the_least() > 0


def test_embedding_does_not_depend_on_how_many_at_once() -> None:
    model = FaceModel.fresh(network("mobilefacenet_128").spec, seed=0)
    crops = np.random.default_rng(0).integers(0, 256, (9, 112, 112, 3), dtype=np.uint8)
    one = model.embed(crops, batch_size=1)
    np.testing.assert_allclose(model.embed(crops), one, rtol=1e-4, atol=1e-5)
