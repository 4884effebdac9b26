"""What all tests share: one torch thread, kernels that are compiled once, and torch's own counters
as the oracle of costs."""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_face.arch.combinators import Layer
from nas_face.arch.cost import Cost, Shape
from nas_face.nn.build import build
from nas_face.nn.modules import TranslationVariantConvModule

# On a busy machine a slow example says nothing about the code.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more threads, and lose much where other processes
    share the processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The last word names what to write; a step that was done before is a copy.
COMPILER = """#!/bin/sh
for out in "$@"; do :; done
kept="{folder}/${{out##*/}}"
[ -f "$kept" ] || {{ {compiler} "$@" && cp "$out" "$kept.$$" && mv "$kept.$$" "$kept"; }} || exit
cp "$kept" "$out"
"""


@pytest.fixture(autouse=True, scope="session")
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every process that trains compiles the kernels, which takes a second: the many of the tests
    share what the compiler wrote."""
    compiler = shutil.which("cc")
    if compiler is None or "CC" in os.environ:
        yield
        return
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "cc").write_text(COMPILER.format(folder=folder, compiler=compiler), encoding="utf-8")
    (folder / "cc").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", shlex.quote(str(folder / "cc")))
        yield


@pytest.fixture(scope="session")
def torch_cost() -> Callable[[Layer, Shape], tuple[Shape, Cost]]:
    """A function that builds a layer tree and has torch say its output shape, multiply-adds and
    parameters; nothing is computed, so that any size is free.

    Torch's counter knows convolutions and matrix products by their operators. A convolution whose
    filter differs by position has none, so its weights are counted instead: each is one tap at one
    position of the output, used once an image.
    """

    def measure(layer: Layer, x: Shape) -> tuple[Shape, Cost]:
        with torch.device("meta"):
            module = build(layer, x)
            image = torch.empty(1, *x)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            y = module.eval()(image)
        unseen = sum(
            each.weight.numel()
            for each in module.modules()
            if isinstance(each, TranslationVariantConvModule)
        )
        madds = counter.get_total_flops() // 2 + unseen
        shape = Shape(*y.shape[1:], *(1,) * (4 - y.ndim))
        return shape, Cost(madds=madds, params=_numbers(module), folded_params=_folded(module))

    return measure


def _numbers(module: nn.Module) -> int:
    """Parameters, those that are never trained included."""
    return sum(each.numel() for each in module.parameters())


def _folded(module: nn.Module) -> int:
    """Parameters left when every batch normalisation is one bias a channel."""
    norms = [
        each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)
    ]
    return _numbers(module) - sum(_numbers(each) - each.num_features for each in norms)
