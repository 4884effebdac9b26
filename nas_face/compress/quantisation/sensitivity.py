"""What each layer loses by quantisation, and which layers to leave in float for it."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_face.compress.quantisation.fake import (
    crop_batches,
    evaluated,
    fake_quantised,
    grids_of,
    observed_ranges,
)
from nas_face.compress.quantisation.layers import Kind, WeightedLayer, weighted_layers
from nas_face.compress.quantisation.rounded_layers import layer_bits
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What a layer loses when it alone is quantised, or a block when its layers are.

    Attributes:
        path: of the layer or the block.
        kind: of the layer, or `block`.
        layers: paths of the layers: its own, or those of the block.
        position: in running order, from 0.
        gates: whether all its layers lie in gates.
        madds: multiply-adds an image.
        weights: number of them, without biases.
        mean_loss: mean over the crops of 1 - cosine between the embeddings of the network in
            float and of the one with this part quantised.
    """

    path: str
    kind: Kind | Literal["block"]
    layers: tuple[str, ...]
    position: int
    gates: bool
    madds: int
    weights: int
    mean_loss: float


def sensitivities(
    model: FaceModel,
    crops: NDArray[np.uint8],
    *,
    weight_bits: int = 8,
    activation_bits: int | None = 8,
    outputs: bool = False,
    narrow_bits: int | None = None,
    by: Literal["layer", "block"] = "layer",
    percentile: float = 100.0,
    batch_size: int = 32,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Sensitivity, ...]:
    """What each part of a network loses when its weights (a scale for each output channel) and
    the inputs of its layers (a range for each tensor) are quantised, and nothing else.

    A part is measured from its own input on, what lies before it being the same for all that come
    after: a network of n layers takes about n / 2 passes over the crops.

    Args:
        model: with folded norms, since that is what a runtime quantises; left as it was.
        crops: `(N, H, W, 3)` RGB of the model's size; ranges and losses are those of these.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8; None for what the weights lose by themselves.
        outputs: whether what a layer writes is rounded as well, as by ONNX Runtime.
        narrow_bits: of layers whose rows have few weights (`rounded_layers.NARROW`); None for 8
            where `weight_bits` is 6 or less, and for `weight_bits` otherwise.
        by: parts: `layer`, or `block` with all layers of a block at once.
        percentile: per cent of the values of each tensor that its range holds.
        batch_size: crops in one pass.
        on_row: called after each part of each batch with the number done and of all to do.

    Returns:
        The greatest loss first; equal ones in running order.

    Raises:
        CompressionError: there are no crops, or of another size; bits are out of range; values or
            embeddings are not finite.
    """
    ranges = observed_ranges(model, crops, percentile=percentile, batch_size=batch_size)
    bits = layer_bits(
        model, weight_bits=weight_bits, keep_float=frozenset(), narrow_bits=narrow_bits
    )
    grids = grids_of(ranges, bits, activation_bits=activation_bits, outputs=outputs)
    parts = _parts(weighted_layers(model.description), by)
    chain = _chain(model.module, "")
    starts: dict[int, list[str]] = defaultdict(list)
    for name, layers in parts.items():
        at = next(at for at, (path, _) in enumerate(chain) if _holds(path, layers[0].path))
        starts[at].append(name)
    losses = dict.fromkeys(parts, 0.0)
    done, total = 0, len(parts) * -(-len(crops) // batch_size)
    for images in crop_batches(model, crops, batch_size=batch_size):
        with evaluated(model.module):
            x = images
            expected = _unit(model.module(images))
            for at, (_, module) in enumerate(chain):
                for name in starts[at]:
                    own = {each.path: grids[each.path] for each in parts[name]}
                    with fake_quantised(model.module, own):
                        y = x
                        for _, later in chain[at:]:
                            y = later(y)
                    # 1 - cos as half of the squared distance, which loses no digits near 0.
                    losses[name] += float((_unit(y) - expected).square().sum()) / 2
                    done += 1
                    on_row(done, total)
                x = module(x)
    if broken := next((name for name, loss in losses.items() if not np.isfinite(loss)), None):
        raise CompressionError(f"{broken}: embeddings are not finite with it quantised")
    rows = [
        Sensitivity(
            path=name,
            kind=layers[0].kind if by == "layer" else "block",
            layers=tuple(each.path for each in layers),
            position=position,
            gates=all(each.gates for each in layers),
            madds=sum(each.madds for each in layers),
            weights=sum(each.weights for each in layers),
            mean_loss=losses[name] / len(crops),
        )
        for position, (name, layers) in enumerate(parts.items())
    ]
    rows.sort(key=lambda row: (-row.mean_loss, row.position))
    if rows:
        logger.info("most sensitive: %s, 1 - cos = %.2g", rows[0].path, rows[0].mean_loss)
    return tuple(rows)


def keep_float_by(
    rows: Iterable[Sensitivity],
    *,
    count: int = 0,
    madds_share: float = 0.0,
    first: bool = False,
    last: bool = False,
    gates: bool = False,
) -> frozenset[str]:
    """Layers to leave in float: those that the rules name, and the most sensitive of the others.

    Args:
        rows: of `sensitivities`, in any order.
        count: number of further rows, the greatest losses first.
        madds_share: 0 to 1, share of the multiply-adds of all rows that further rows may have
            together, the greatest losses for each multiply-add first; those too large for what is
            left are passed over.
        first: the row that comes first in running order.
        last: the row that comes last.
        gates: rows in gates.

    Returns:
        Paths of layers.

    Raises:
        CompressionError: `count` or `madds_share` is out of range.
    """
    given = sorted(rows, key=lambda row: row.position)
    if not 0 <= count <= len(given):
        raise CompressionError(f"count must be 0 to the {len(given)} rows there are, got {count}")
    if not 0 <= madds_share <= 1:
        raise CompressionError(f"madds_share must be 0 to 1, got {madds_share}")
    ends = [*given[: int(first)], *given[len(given) - int(last) :]]
    kept = [row for row in given if row in ends or (gates and row.gates)]
    others = [row for row in given if row not in kept]
    chosen = sorted(others, key=lambda row: -row.mean_loss)[:count]
    left = madds_share * sum(row.madds for row in given)
    for row in sorted(others, key=lambda row: -row.mean_loss / max(1, row.madds)):
        if row not in chosen and row.madds <= left:
            chosen.append(row)
            left -= row.madds
    return frozenset(path for row in (*kept, *chosen) for path in row.layers)


def _parts(
    layers: Sequence[WeightedLayer], by: Literal["layer", "block"]
) -> dict[str, list[WeightedLayer]]:
    """Layers of each part, in running order."""
    parts: dict[str, list[WeightedLayer]] = {}
    for each in layers:
        parts.setdefault(each.path if by == "layer" else each.block, []).append(each)
    return parts


def _chain(module: nn.Module, path: str) -> list[tuple[str, nn.Module]]:
    """A module as the longest row of modules that run one after another, with their paths."""
    if not isinstance(module, nn.Sequential):
        return [(path, module)]
    return [
        link
        for name, child in module.named_children()
        for link in _chain(child, f"{path}.{name}" if path else name)
    ]


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.") or not outer


def _unit(embeddings: Tensor) -> Tensor:
    return nn.functional.normalize(embeddings.double(), dim=1)
