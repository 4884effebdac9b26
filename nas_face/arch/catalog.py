"""The built-in blocks and heads: one line each, and being listed is being tested."""

import dataclasses
from typing import Annotated, get_args

from pydantic import Field

from nas_face.arch.blocks.cells import Cells
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.edge import ConvEncoder, SplitAttention
from nas_face.arch.blocks.fire import Fire
from nas_face.arch.blocks.ghost import Ghost
from nas_face.arch.blocks.improved_residual import ImprovedResidual
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.max_feature import MaxFeature
from nas_face.arch.blocks.parts import AbstractBlock
from nas_face.arch.blocks.seesaw import Seesaw
from nas_face.arch.blocks.shuffle import ShuffleUnit
from nas_face.arch.blocks.variable_group import VariableGroupDown, VariableGroupNormal
from nas_face.arch.heads import (
    AbstractHead,
    FlattenLinearHead,
    GlobalDepthwiseHead,
    NormAwareHead,
    PooledLinearHead,
    VariableGroupHead,
)
from nas_face.arch.plain import PlainBlock, PlainHead
from nas_face.errors import ArchError, near_names

_Blocks = (
    ConvUnit
    | InvertedResidual
    | Seesaw
    | VariableGroupNormal
    | VariableGroupDown
    | ShuffleUnit
    | Ghost
    | Cells
    | ConvEncoder
    | SplitAttention
    | ImprovedResidual
    | MaxFeature
    | Fire
)
_Heads = (
    GlobalDepthwiseHead | VariableGroupHead | NormAwareHead | PooledLinearHead | FlattenLinearHead
)

Block = Annotated[_Blocks | PlainBlock, Field(discriminator="kind")]
Head = Annotated[_Heads | PlainHead, Field(discriminator="kind")]


def kind_of(cls: type) -> str:
    """The word that names a layer, block or head class in files: the default of its `kind`."""
    (kind,) = (field.default for field in dataclasses.fields(cls) if field.name == "kind")
    return str(kind)


BLOCKS: dict[str, type[AbstractBlock]] = {kind_of(cls): cls for cls in get_args(_Blocks)}
"""Blocks that a search space may name; an ArchSpec may hold `PlainBlock` besides."""

HEADS: dict[str, type[AbstractHead]] = {kind_of(cls): cls for cls in get_args(_Heads)}
"""Heads that a search space may name; an ArchSpec may hold `PlainHead` besides."""


def block_class(kind: str) -> type[AbstractBlock]:
    """Class of the block of that kind.

    Raises:
        ArchError: there is none.
    """
    if kind not in BLOCKS:
        raise ArchError(f"unknown block kind {kind!r}; {near_names(kind, BLOCKS)}")
    return BLOCKS[kind]
