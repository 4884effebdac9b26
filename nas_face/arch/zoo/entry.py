"""What the zoo records of a published network."""

from dataclasses import dataclass

from nas_face.arch.spec import ArchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedNetwork:
    """A published network as a spec, with what its authors say of it.

    Attributes:
        name: how nas-face calls it.
        family: the search space that contains it.
        spec: the architecture.
        source: authors, venue or arXiv id, and the table that the spec was written from.
        published_params: parameters as printed by the authors, in words and unit of theirs.
        published_compute: multiply-adds or FLOPs as printed, with the meaning of the unit.
        published_accuracy: benchmark and per cent, as printed, with the training data.
    """

    name: str
    family: str
    spec: ArchSpec
    source: str
    published_params: str
    published_compute: str
    published_accuracy: str
