"""Every layer, block and head of the contract cases: pruned equals masked."""

import pytest
from contract_cases import BLOCK_CASES, HEAD_CASES, LAYER_CASES, case_id
from pruning_checks import (
    assert_equals_masked,
    counted_madds,
    counted_params,
    random_choice,
    tree_model,
    without,
)

from nas_face.arch.blocks.parts import AbstractBlock
from nas_face.arch.combinators import Layer, Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.heads import AbstractHead
from nas_face.arch.layers import Conv, Flatten, Linear
from nas_face.compress.pruning.channels import couple

INPUT_CHANNELS = 3


@pytest.mark.parametrize(("part", "x"), [*LAYER_CASES, *BLOCK_CASES, *HEAD_CASES], ids=case_id)
def test_pruned_equals_masked(part: Layer | AbstractBlock | AbstractHead, x: Shape) -> None:
    layer = part.lower(x) if isinstance(part, AbstractBlock | AbstractHead) else part
    # A width in front that is always free, and one behind that reads everything.
    network = Sequence(
        layers=(
            Conv(out_channels=9, bias=True),
            Conv(out_channels=x.channels, bias=True),
            layer,
            Flatten(),
            Linear(out_features=5, bias=True),
        )
    )
    image = x._replace(channels=INPUT_CHANNELS)
    model = tree_model(network, image)
    removed = random_choice(couple(network, image), seed=3)
    assert removed

    pruned = without(model, removed)

    assert pruned.description.embedding_size == 5
    assert pruned.description.cost.madds == counted_madds(pruned)
    assert pruned.description.cost.params == counted_params(pruned)
    assert_equals_masked(model, pruned, removed, n_images=2)
