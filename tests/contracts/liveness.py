"""A second opinion on peak activations: run a layer tree step by step and watch what is alive.

Written from the policy in words and without a formula of `nas_face.arch.cost`: layers run one
after another, a value is freed after its last use, element-wise layers and additions work in place
where nobody else needs their input, and the parts of a split are freed one by one.
"""

from dataclasses import dataclass

from nas_face.arch.combinators import Concat, Gate, Layer, Sequence, Split, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Activation, BatchNorm, Flatten, NormAwarePool, PReLU


@dataclass(eq=False)
class Value:
    """A map in memory; compared by being the same one."""

    shape: Shape


class Memory:
    """Counts values alive, and remembers the most."""

    def __init__(self) -> None:
        self.alive = 0
        self.peak = 0

    def take(self, shape: Shape) -> Value:
        self.alive += shape.elements
        self.peak = max(self.peak, self.alive)
        return Value(shape)

    def drop(self, *values: Value) -> None:
        self.alive -= sum(each.shape.elements for each in values)


def simulated_peak(layer: Layer, x: Shape, *, input_kept: bool) -> int:
    """Most values alive while `layer` runs; at its end only what is due must be alive."""
    memory = Memory()
    given = memory.take(x)
    result = _run(layer, given, memory, kept=input_kept)
    left = {given, result} if input_kept else {result}
    assert memory.alive == sum(each.shape.elements for each in left)
    return memory.peak


def _run(layer: Layer, value: Value, memory: Memory, *, kept: bool) -> Value:
    """The result; `value` survives if `kept`, and is freed or overwritten otherwise."""
    match layer:
        case Sequence():
            current = value
            for each in layer.layers:
                current = _run(each, current, memory, kept=kept and current is value)
            return current
        case Sum() | Concat():
            return _joined(layer, value, memory, kept=kept)
        case Split():
            return _split(layer, value, memory, kept=kept)
        case Gate():
            factors = _run(layer.body, value, memory, kept=True)
            product = memory.take(value.shape) if kept else value
            memory.drop(factors)
            return product
        case BatchNorm() | PReLU() | Activation() | Flatten():
            if kept:
                return memory.take(layer.output_shape(value.shape))
            return Value(layer.output_shape(value.shape))
        case NormAwarePool():
            scaled = memory.take(value.shape)
            result = memory.take(layer.output_shape(value.shape))
            memory.drop(scaled)
        case _:
            result = memory.take(layer.output_shape(value.shape))
    memory.drop(*[] if kept else [value])
    return result


def _joined(layer: Sum | Concat, value: Value, memory: Memory, *, kept: bool) -> Value:
    results: list[Value] = []
    for at, branch in enumerate(layer.branches):
        needed = kept or value in results or at < len(layer.branches) - 1
        results.append(_run(branch, value, memory, kept=needed))
    owned = [each for each in dict.fromkeys(results) if each is not value or not kept]
    if isinstance(layer, Sum):
        total, *others = owned
        memory.drop(*others)
        return total
    result = memory.take(layer.output_shape(value.shape))
    memory.drop(*owned)
    return result


def _split(layer: Split, value: Value, memory: Memory, *, kept: bool) -> Value:
    parts = [Value(Shape(size, *value.shape[1:])) for size in layer.sizes]
    results = [
        _run(branch, part, memory, kept=kept)
        for branch, part in zip(layer.branches, parts, strict=True)
    ]
    joined = memory.take(layer.output_shape(value.shape))
    memory.drop(*[each for each in results if each not in parts or not kept])
    return joined
