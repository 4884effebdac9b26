"""What the zoo records of a published network."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from nas_face.arch.cost import Shape
from nas_face.arch.spec import ArchSpec
from nas_face.errors import ArchError


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedNetwork:
    """A published network as a spec, with what its authors say of it.

    Attributes:
        name: how nas-face calls it.
        family: the search space that contains it, or the kind of network where none does.
        make: the spec for an input shape and an embedding size.
        input_shape: channels, height and width of the published input.
        embedding_size: of the published embedding.
        embedding_sizes: whether other embeddings are possible: some networks end in a map whose
            width is the embedding.
        source: authors, venue or arXiv id, and the table that the spec was written from.
        published_params: parameters as printed by the authors, in words and unit of theirs.
        published_compute: multiply-adds or FLOPs as printed, with the meaning of the unit.
        published_accuracy: benchmark and per cent, as printed, with the training data.
    """

    name: str
    family: str
    make: Callable[[Shape, int], ArchSpec]
    input_shape: Shape = Shape(3, 112, 112)
    embedding_size: int
    embedding_sizes: bool = True
    source: str
    published_params: str
    published_compute: str
    published_accuracy: str

    @property
    def spec(self) -> ArchSpec:
        """The architecture as published."""
        return _made(self, self.input_shape, self.embedding_size)

    def variant(
        self, *, input_size: tuple[int, int] | None = None, embedding_size: int | None = None
    ) -> ArchSpec:
        """The architecture for another image or embedding; what is not given stays as published.

        Args:
            input_size: height and width of the image, in pixels.
            embedding_size: length of the embedding.

        Raises:
            ArchError: the network's embedding size is fixed, or the image is too small.
        """
        size = self.embedding_size if embedding_size is None else embedding_size
        if size != self.embedding_size and not self.embedding_sizes:
            raise ArchError(
                f"{self.name}: its embedding is as long as its last map is wide, "
                f"{self.embedding_size}; got embedding size {size}"
            )
        shape = self.input_shape
        if input_size is not None:
            shape = Shape(shape.channels, *input_size)
        spec = _made(self, shape, size)
        try:
            spec.cost()
        except ArchError as failure:
            raise ArchError(f"{self.name} for {shape} images: {failure}") from failure
        return spec


@functools.lru_cache(maxsize=256)
def _made(entry: PublishedNetwork, shape: Shape, embedding_size: int) -> ArchSpec:
    return entry.make(shape, embedding_size)
