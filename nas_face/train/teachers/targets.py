"""What a student is taught by, as the loop sees it."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TeacherTargets(Protocol):
    """Embeddings of the training images by a teacher, of unit length."""

    @property
    def embedding_size(self) -> int:
        """Length D of an embedding."""

    @property
    def identity(self) -> str:
        """Digest of the teacher, the images and what it is shown of them; equal targets have
        equal ones."""

    def rows(
        self, indices: NDArray[np.int64], mirrored: NDArray[np.bool_], *, epoch: int
    ) -> NDArray[np.float32]:
        """Embeddings `(B, D)` of some images.

        Args:
            indices: `(B,)`, into the training images.
            mirrored: `(B,)`, which of them are mirrored left to right.
            epoch: of the student, from 0; a teacher of several steps changes with it.
        """

    def prepare(self, *, epoch: int, mirrored: bool) -> None:
        """Make now what `rows` would make when it is first asked for.

        To be called by all processes that train together, which would wait for one another in
        vain while one of them embeds.

        Args:
            epoch: of the student, from 0.
            mirrored: whether mirrored images will be asked for, too.
        """

    def sample(self, n: int) -> NDArray[np.float32]:
        """Embeddings `(m, D)` of up to `n` images, spread evenly over the set."""
