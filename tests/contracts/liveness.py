"""A second opinion on peak activations: run a layer tree step by step and watch what is alive.

Written from the policy in words and without a formula of `nas_face.arch.cost`: layers run one
after another, a value is freed after its last use, element-wise layers, normalisations and scales
work in place where nobody else needs their input, and the parts of a split are freed one by one.
Sums and products of values are written over a value that nobody needs afterwards, and take new
memory where there is none. Cutting, cropping and shuffling makes a copy.
"""

from dataclasses import dataclass

from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Layer,
    Product,
    Sequence,
    Split,
    Sum,
)
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelScale,
    CrossCovarianceAttention,
    Flatten,
    GatedChannelTransform,
    LayerNorm,
    NormAwarePool,
    PReLU,
)


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
        case Sum() | Product() | Concat():
            return _joined(layer, value, memory, kept=kept)
        case Graph():
            return _graph(layer, value, memory, kept=kept)
        case Split():
            return _split(layer, value, memory, kept=kept)
        case Gate():
            return _gate(layer, value, memory, kept=kept)
        case Flatten():
            if kept:
                return memory.take(layer.output_shape(value.shape))
            return Value(layer.output_shape(value.shape))
        case BatchNorm() | LayerNorm() | ChannelScale() | PReLU() | Activation():
            return memory.take(value.shape) if kept else value
        case GatedChannelTransform():
            factors = memory.take(Shape(value.shape.channels, 1, 1))
            result = memory.take(value.shape) if kept else value
            memory.drop(factors)
            return result
        case CrossCovarianceAttention():
            result_shape = layer.output_shape(value.shape)
            width = result_shape.channels // layer.heads  # of each head
            mixing = memory.take(Shape(layer.heads, width, width))
            result = memory.take(result_shape)
            memory.drop(mixing)
        case NormAwarePool():
            scaled = memory.take(value.shape)
            result = memory.take(layer.output_shape(value.shape))
            memory.drop(scaled)
        case _:
            result = memory.take(layer.output_shape(value.shape))
    memory.drop(*[] if kept else [value])
    return result


def _gate(layer: Gate, value: Value, memory: Memory, *, kept: bool) -> Value:
    factors = _run(layer.body, value, memory, kept=True)
    if factors is value:
        return memory.take(value.shape) if kept else value
    if not kept:
        memory.drop(factors)
        return value
    if factors.shape == value.shape:
        return factors
    result = memory.take(value.shape)
    memory.drop(factors)
    return result


def _joined(layer: Sum | Product | Concat, value: Value, memory: Memory, *, kept: bool) -> Value:
    results: list[Value] = []
    for at, branch in enumerate(layer.branches):
        needed = kept or value in results or at < len(layer.branches) - 1
        results.append(_run(branch, value, memory, kept=needed))
    if len(results) == 1 and not isinstance(layer, Concat):
        return results[0]  # nothing is added, nothing multiplied
    owned = [each for each in dict.fromkeys(results) if each is not value or not kept]
    return _written(isinstance(layer, Concat), owned, layer.output_shape(value.shape), memory)


def _written(beside: bool, owned: list[Value], shape: Shape, memory: Memory) -> Value:
    """Joined values: over one of those that end here, unless it must be beside them."""
    if beside or not owned:
        result = memory.take(shape)
        memory.drop(*owned)
        return result
    memory.drop(*owned[1:])
    return owned[0]


def _graph(layer: Graph, value: Value, memory: Memory, *, kept: bool) -> Value:
    values = [value]
    for at, step in enumerate(layer.steps):
        read_later = {
            values[source]
            for later in layer.steps[at + 1 :]
            for source in later.sources
            if source < len(values)
        }
        needed = read_later | ({value} if kept else set())
        sources = [values[source] for source in step.sources]
        if len(sources) == 1:
            values.append(_run(step.layer, sources[0], memory, kept=sources[0] in needed))
            continue
        owned = [each for each in dict.fromkeys(sources) if each not in needed]
        height, width = sources[0].shape[1:]
        channels = [each.shape.channels for each in sources]
        beside = step.join == "concat"
        shape = Shape(sum(channels) if beside else channels[0], height, width)
        joined = _written(beside, owned, shape, memory)
        values.append(_run(step.layer, joined, memory, kept=False))
    return values[-1]


def _split(layer: Split, value: Value, memory: Memory, *, kept: bool) -> Value:
    parts = [Value(Shape(size, *value.shape[1:])) for size in layer.sizes]
    results = [
        _run(branch, part, memory, kept=kept)
        for branch, part in zip(layer.branches, parts, strict=True)
    ]
    joined = memory.take(layer.output_shape(value.shape))
    memory.drop(*[each for each in results if each not in parts or not kept])
    return joined
