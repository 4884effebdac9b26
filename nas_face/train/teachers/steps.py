"""A teacher of many steps: a network after each epoch of its own training."""

import hashlib
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.errors import ConfigError
from nas_face.train.teachers.targets import TeacherTargets


@final
class SteppedTargets:
    """The student's epoch e is taught by step e, and by the last one when there are no more.

    A student that begins beside a teacher that is as far as itself has a small gap to close.

    Args:
        steps: at least one, in order; each is asked only when its epoch comes.

    Source: Boutros et al., PocketNet, arXiv 2108.10710 (multi-step knowledge distillation).
    """

    def __init__(self, steps: Sequence[TeacherTargets]) -> None:
        if not steps:
            raise ValueError("a teacher of steps needs at least one")
        self._steps = tuple(steps)
        identities = " ".join(step.identity for step in self._steps)
        self.identity = hashlib.sha256(identities.encode()).hexdigest()

    @property
    def embedding_size(self) -> int:
        """Length D of an embedding, of every step."""
        return self._steps[0].embedding_size

    def rows(
        self, indices: NDArray[np.int64], mirrored: NDArray[np.bool_], *, epoch: int
    ) -> NDArray[np.float32]:
        """Embeddings `(B, D)` of some images by the step of an epoch; see `TeacherTargets`.

        Raises:
            ConfigError: the step's embeddings have another length than those of the first.
        """
        return self._step(epoch).rows(indices, mirrored, epoch=epoch)

    def prepare(self, *, epoch: int, mirrored: bool) -> None:
        """Have what the step of an epoch is asked for."""
        self._step(epoch).prepare(epoch=epoch, mirrored=mirrored)

    def sample(self, n: int) -> NDArray[np.float32]:
        """Embeddings `(m, D)` of up to `n` images by the last step, which knows most."""
        return self._steps[-1].sample(n)

    def _step(self, epoch: int) -> TeacherTargets:
        step = self._steps[min(epoch, len(self._steps) - 1)]
        if step.embedding_size != self.embedding_size:
            raise ConfigError(
                f"teacher.steps: the step of epoch {epoch + 1} has embeddings of "
                f"{step.embedding_size} values and the first of {self.embedding_size}; steps are "
                "of one training"
            )
        return step
