"""What a network costs, and the one policy of what is counted.

`madds` are the multiply-accumulates of convolutions, linear layers and the two matrix products of
attention in the deployed network, from one image to one embedding. Normalisation, activations,
additions, element-wise products, pooling, interpolation, channel shuffles and the training
classifier are not counted. The figure equals half of what `torch.utils.flop_counter` reports,
except that torch sees no convolution in one whose filter differs by position. "FLOPs" means twice
that and appears only where a user states a budget in FLOPs.

`params` is what torch counts as parameters, the affine pair of batch normalisation included (also
where its scale is fixed) and the training classifier excluded; `folded_params` is what remains
after batch normalisation is folded: every weight, bias and slope, and one bias for each normalised
channel.

`peak_activations` is the largest number of activation values alive at once when layers run one
after another, each result is freed after its last use, and element-wise layers work in place. A
sum or a product is written over a value that nobody needs afterwards, and beside its operands if
there is none. What a layer reads or writes by moving values (slices, crops, shuffles) counts as a
new value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nas_face.arch.sizes import largest

Precision = Literal["fp32", "fp16", "int8"]
BYTES_PER_WEIGHT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}


class Shape(NamedTuple):
    """Shape of one feature map, batch excluded; a flat vector of `n` features is `(n, 1, 1)`."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        """Number of values."""
        return self.channels * (self.height * self.width)

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a layer or of a network; integers throughout.

    Attributes:
        madds: multiply-accumulates of one forward pass on one image.
        params: parameters as torch counts them.
        folded_params: parameters once batch normalisation is folded away.
        peak_activations: most activation values alive at once, the input counted until its last
            use.
        peak_keeping_input: the same, when somebody else (another branch) still needs the input
            afterwards.
    """

    madds: int = 0
    params: int = 0
    folded_params: int = 0
    peak_activations: int = 0
    peak_keeping_input: int = 0

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-accumulate."""
        return 2 * self.madds

    def size_bytes(self, precision: Precision = "fp32") -> int:
        """Bytes of the deployed weights (batch normalisation folded), file headers excluded.

        Quantised networks keep biases in 32 bit; this bound counts them at the weight's width,
        which is low by under 2 % on the networks of the zoo.
        """
        return self.folded_params * BYTES_PER_WEIGHT[precision]


def free(elements: int) -> Cost:
    """Cost of a layer that works in place on `elements` values and has no weights."""
    return Cost(peak_activations=elements, peak_keeping_input=2 * elements)


def in_sequence(steps: Sequence[tuple[Shape, Cost]], x: Shape) -> Cost:
    """Cost of layers that run one after another.

    Args:
        steps: output shape and cost of each, in order.
        x: shape of the input of the first.
    """
    steps = [step for step in steps if not _is_identity(step)]
    if not steps:
        return Cost(peak_activations=x.elements, peak_keeping_input=x.elements)
    first = steps[0][1]
    later = largest(0, *(cost.peak_activations for _, cost in steps[1:]))
    return Cost(
        madds=sum(cost.madds for _, cost in steps),
        params=sum(cost.params for _, cost in steps),
        folded_params=sum(cost.folded_params for _, cost in steps),
        peak_activations=largest(first.peak_activations, later),
        peak_keeping_input=largest(
            first.peak_keeping_input, x.elements + later if steps[1:] else 0
        ),
    )


def in_parallel(
    branches: Sequence[tuple[Shape, Cost]], x: Shape, joined: Shape | None = None
) -> Cost:
    """Cost of branches that all read `x`, run one after another, and are then joined.

    The input stays alive until the last branch has started, or until the join if a branch passes
    it on untouched; results of earlier branches stay alive until the join.

    Args:
        branches: output shape and cost of each, in running order.
        x: shape that every branch reads.
        joined: shape after the join, which is written beside the branch results; `None` where it
            is written over one of them.
    """
    passed_on = any(_is_identity(branch) for branch in branches)
    peak = peak_keeping = x.elements
    waiting = 0
    for position, (shape, cost) in enumerate(branches):
        last_use = position == len(branches) - 1 and not passed_on
        running = cost.peak_activations if last_use else cost.peak_keeping_input
        peak = largest(peak, waiting + running)
        peak_keeping = largest(peak_keeping, waiting + cost.peak_keeping_input)
        waiting += 0 if _is_identity((shape, cost)) else shape.elements
    beside = beside_keeping = joined.elements if joined else 0
    if joined is None and len(branches) > 1 and all(map(_is_identity, branches)):
        beside_keeping = x.elements  # there is no result but the input itself to write over
    at_join = waiting + beside + (x.elements if passed_on else 0)
    keeping_join = x.elements + waiting + beside_keeping
    return _joint(branches, largest(peak, at_join), largest(peak_keeping, keeping_join))


def in_gate(body: tuple[Shape, Cost], x: Shape) -> Cost:
    """Cost of multiplying a value by what a body makes of it.

    The product is written over the value if nobody else needs it, otherwise over the factors if
    they are as large, otherwise beside both.

    Args:
        body: output shape and cost of what makes the factors.
        x: shape of the value.
    """
    factors, cost = body
    passed_on = _is_identity(body)
    alive = x.elements if passed_on else x.elements + factors.elements
    written_over = factors == x and not passed_on
    return _joint(
        [body],
        largest(cost.peak_keeping_input, alive),
        largest(cost.peak_keeping_input, alive if written_over else alive + x.elements),
    )


def in_parts(
    branches: Sequence[tuple[Shape, Cost]], parts: Sequence[Shape], joined: Shape
) -> Cost:
    """Cost of branches that read one part of the input each, run in turn, and are then joined.

    Each part stays alive until its own branch has started, or until the join if that branch passes
    it on untouched; results stay alive until the join.

    Args:
        branches: output shape and cost of each, in running order.
        parts: what each branch reads; together, the input.
        joined: shape after the join, which is written beside the branch results.
    """
    whole = unread = sum(part.elements for part in parts)
    peak = peak_keeping = whole
    waiting = waiting_beside = 0  # the second: without parts that are passed on
    for part, (shape, cost) in zip(parts, branches, strict=True):
        unread -= part.elements
        peak = largest(peak, waiting + cost.peak_activations + unread)
        others = whole - part.elements
        peak_keeping = largest(peak_keeping, waiting_beside + cost.peak_keeping_input + others)
        waiting += shape.elements
        waiting_beside += 0 if _is_identity((shape, cost)) else shape.elements
    return _joint(
        branches,
        largest(peak, waiting + joined.elements),
        largest(peak_keeping, whole + waiting_beside + joined.elements),
    )


def in_graph(
    results: Sequence[tuple[Shape, Shape, Cost]],
    reads: Sequence[tuple[tuple[int, ...], Literal["sum", "concat"]]],
    x: Shape,
) -> Cost:
    """Cost of steps that run one after another, each of which reads some of the values before it.

    A value stays alive until its last reader has started. A sum is written over a source that
    nobody reads afterwards, if there is one; a concatenation is written beside its sources.

    Args:
        results: of each step, the shape of its joined sources, its output shape and its cost.
        reads: of each step, the values that it reads (0 is the input, n the result of step n,
            counted from one) and how they are joined.
        x: shape of the input.
    """
    own = list(range(len(results) + 1))  # value -> the one in whose place it lies
    for number, ((sources, _), (_, shape, cost)) in enumerate(
        zip(reads, results, strict=True), start=1
    ):
        if len(sources) == 1 and _is_identity((shape, cost)):
            own[number] = own[sources[0]]
    last_reader = {
        own[source]: number
        for number, (sources, _) in enumerate(reads, start=1)
        for source in sources
    }
    last_reader[own[-1]] = len(reads) + 1
    return _joint(
        [(shape, cost) for _, shape, cost in results],
        _peak_of_graph(results, reads, x, own, last_reader),
        _peak_of_graph(results, reads, x, own, {**last_reader, 0: len(reads) + 1}),
    )


def _peak_of_graph(
    results: Sequence[tuple[Shape, Shape, Cost]],
    reads: Sequence[tuple[tuple[int, ...], Literal["sum", "concat"]]],
    x: Shape,
    own: Sequence[int],
    last_reader: Mapping[int, int],
) -> int:
    alive = {0: x.elements}
    peak = x.elements
    for number, ((sources, join), (joined, shape, cost)) in enumerate(
        zip(reads, results, strict=True), start=1
    ):
        if own[number] != number:
            continue
        ending = {own[source] for source in sources if last_reader[own[source]] == number}
        running = cost.peak_activations
        if len(sources) > 1:
            over_a_source = join == "sum" and ending
            peak = largest(peak, sum(alive.values()) + (0 if over_a_source else joined.elements))
        elif not ending:
            running = cost.peak_keeping_input - joined.elements  # the source itself is in `alive`
        for value in ending:
            del alive[value]
        peak = largest(peak, sum(alive.values()) + running)
        alive[number] = shape.elements
    return peak


def _is_identity(step: tuple[Shape, Cost]) -> bool:
    """Whether a step passes its input on: only then is there no result beside a kept input."""
    shape, cost = step
    return cost.peak_keeping_input == shape.elements


def _joint(branches: Sequence[tuple[Shape, Cost]], peak: int, peak_keeping: int) -> Cost:
    return Cost(
        madds=sum(cost.madds for _, cost in branches),
        params=sum(cost.params for _, cost in branches),
        folded_params=sum(cost.folded_params for _, cost in branches),
        peak_activations=peak,
        peak_keeping_input=peak_keeping,
    )
