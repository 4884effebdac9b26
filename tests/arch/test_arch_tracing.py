"""Traced cost functions against the layers that they were traced from."""

import itertools
from typing import Any

import pytest

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.cost import Cost, Shape
from nas_face.arch.layers import Conv
from nas_face.arch.sizes import floor_share, largest
from nas_face.arch.tracing import NotTraceable, trace

NAMES = ("out_channels", "hidden_channels", "kernel", "squeeze")


def measured(numbers: Any, x: Shape) -> tuple[Shape, Cost]:
    block = InvertedResidual(
        out_channels=numbers["out_channels"],
        hidden_channels=numbers["hidden_channels"],
        kernel=numbers["kernel"],
        stride=2,
        attention=SqueezeExcite(channels=numbers["squeeze"]),
        shortcut="max_pool",
    )
    return block.lower(x).measure(x)


def plain(numbers: tuple[int, ...], x: Shape) -> tuple[int, ...]:
    shape, cost = measured(dict(zip(NAMES, numbers, strict=True)), x)
    counts = (cost.madds, cost.params, cost.folded_params, cost.peak_activations)
    return (*shape, *counts)


def test_code_traced_once_holds_for_other_numbers():
    function = trace(measured, NAMES, (64, 128, 3, 32), Shape(32, 28, 28))
    n_held = 0
    for out, hidden, kernel, squeeze, channels, side in itertools.product(
        (8, 64, 100), (16, 130), (1, 3, 5, 7), (1, 40), (7, 32), (8, 14, 32)
    ):
        x = Shape(channels, side, side + 4)
        found = function(*x, out, hidden, kernel, squeeze)
        if found is not None:
            assert found == plain((out, hidden, kernel, squeeze), x)
            n_held += 1
    assert n_held > 200


def test_code_gives_nothing_where_a_question_has_another_answer():
    def rule(numbers: Any, x: Shape) -> tuple[Shape, Cost]:
        if x.channels == numbers["width"]:
            return x, Cost(madds=x.elements)
        return Shape(numbers["width"], 1, 1), Cost(madds=1)

    same = trace(rule, ("width",), (8,), Shape(8, 4, 4))
    other = trace(rule, ("width",), (9,), Shape(8, 4, 4))
    assert same(6, 5, 5, 6) == (6, 5, 5, 150, 0, 0, 0)
    assert same(6, 5, 5, 7) is None
    assert other(6, 5, 5, 7) == (7, 1, 1, 1, 0, 0, 0)
    assert other(6, 5, 5, 6) is None


def test_a_refusal_is_traced_as_well():
    def rule(numbers: Any, x: Shape) -> tuple[Shape, Cost]:
        return Conv(out_channels=8, groups=numbers["groups"]).measure(x)

    refused = trace(rule, ("groups",), (3,), Shape(16, 4, 4))
    assert "input width 16" in str(refused(16, 4, 4, 3))
    assert refused(16, 4, 4, 4) is None
    taken = trace(rule, ("groups",), (4,), Shape(16, 4, 4))
    assert taken(16, 4, 4, 8) == (8, 4, 4, 256, 16, 16, 384)
    assert taken(16, 4, 4, 3) is None


def test_arithmetic_is_that_of_python():
    """Every operator that a rule may use, with plain numbers on either side."""

    def rule(numbers: Any, x: Shape) -> tuple[Shape, Cost]:
        a, b = numbers["a"], numbers["b"]
        terms = [a + 1 - 1 + b, a - b, 7 - a, -b, a * 3, 0 * a, 1 * a, a // b, 9 // b, a % b]
        terms += [11 % b, a + 2 + 3 - 1, (a + b) - b, a - a, a // a, a % a, a // 1, a % 1]
        terms += [largest(a, b, 4), largest(largest(a, 2), b), floor_share(0.6, a)]
        total = sum(term * weight for weight, term in enumerate(terms, start=1))
        return x, Cost(madds=total, params=largest(a, a), peak_activations=largest(0, b))

    function = trace(rule, ("a", "b"), (12, 5), Shape(1, 1, 1))
    for a, b in itertools.product((1, 7, 12, 100), (1, 3, 5, 50)):
        expected = rule({"a": a, "b": b}, Shape(1, 1, 1))[1]
        counts = (expected.madds, expected.params, 0, expected.peak_activations)
        assert function(1, 1, 1, a, b) == (1, 1, 1, *counts)


@pytest.mark.parametrize("x", [Shape(3, 1, 1), Shape(4, 2, 2), Shape(5, 3, 1)])
def test_comparisons_become_conditions(x):
    """Whatever a rule asks, the code for one point is never wrong at another."""

    def rule(numbers: Any, y: Shape) -> tuple[Shape, Cost]:
        n = numbers["n"]
        answers = (y.channels < n, y.channels <= n, n > 4, n >= 5, n != y.channels, n == 5)
        return y, Cost(madds=sum(2**at for at, each in enumerate(answers) if each))

    for start in range(1, 8):
        function = trace(rule, ("n",), (start,), x)
        for n in range(1, 8):
            found = function(*x, n)
            assert found is None or found[3] == rule({"n": n}, x)[1].madds
        assert function(*x, start) is not None


def test_the_length_of_a_loop_must_be_plain():
    def rule(numbers: Any, x: Shape) -> tuple[Shape, Cost]:
        return x, Cost(madds=sum(range(numbers["repeats"])))

    with pytest.raises(NotTraceable) as caught:
        trace(rule, ("repeats",), (3,), Shape(1, 1, 1))
    assert caught.value.name == "repeats"
