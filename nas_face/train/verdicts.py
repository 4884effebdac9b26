"""Verdicts on a training that cannot come to anything, within a few steps and in one line."""

import math
from collections import deque
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Final, NamedTuple, final

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_face.errors import TrainingDiverged
from nas_face.train.settings import TrainSettings

# How much longer the weights may become within the window, while the loss does not fall. Measured
# in the first 16 to 45 steps on 48 x 48 portraits, with five networks of 5M to 27M multiply-adds
# (MobileNetV2 x0.1, ShuffleFaceNet x0.5, EdgeFace-XXS, MixFaceNet-XS, SeesawFaceNet), CosFace and
# ArcFace at scales of 16 to 64:
#
#   0.1 (AdamW 0.001), times   1        4          10         100
#   SGD, gradient clipped      1.0      1.0-1.3    1.1-2.1    2.6-14
#   SGD, any gradient          1.0-2.2  1.1-8.1    1.4-16     3.3-422
#   AdamW                      1.0      1.0        1.0-1.1    1.9-2.7
GROWTH_CLIPPED: Final = 2.0
GROWTH_UNCLIPPED: Final = 10.0  # a good training lengthens its weights, too, and then settles
GROWTH_ADAMW: Final = 1.5

LONG_GRADIENT: Final = 10.0
"""Clipping to more than this lets the weights grow as if there were none."""

WINDOW_STEPS: Final = 100
LOOK_EVERY: Final = 4
"""Steps from one look at the weights to the next: on a GPU each look waits for the step."""

N_RECENT: Final = 5
"""Losses whose mean is held against that of earlier steps."""

N_SKIPPED: Final = 32
"""Steps in a row that fp16 may skip; its scale has then fallen from 65536 to below 1e-4."""

_MAX_NAMED = 3


class _Look(NamedTuple):
    """What a look at the weights saw.

    Attributes:
        step: optimiser steps that were done.
        length: of the weights.
        loss: mean of the last `N_RECENT`.
    """

    step: int
    length: float
    loss: float


@final
class Watch:
    """Told of every step of a training, it raises once there is no sense in going on.

    - The loss, the gradient or the weights are not finite. In fp16 a gradient may be so for a
      while, since the scale of the loss is found by trial.
    - The learning rate is far too high: within 100 steps the weights have doubled their length
      (see `GROWTH_CLIPPED` and the others), and the loss is no lower than it was. The loss alone
      does not tell: behind batch normalisation the length of the weights does not count, so it
      stays finite, and in its first steps a good training may raise it as much. 100 times the
      rate of the shipped studies showed within 12 steps (35 where the warm-up took 300), 4 times
      never, from scratch and from trained weights. Without clipping less is seen.

    It looks at what is the same on all ranks of a training, so that all end with one verdict.

    Args:
        module: the network; class centres are not looked at, which start short and grow.
        settings: to judge by, and to say what to change.
        names: of all images, for those whose embeddings are not finite.
    """

    def __init__(self, module: nn.Module, settings: TrainSettings, names: Sequence[str]) -> None:
        self._parameters: list[Tensor] = list(module.parameters())
        self._settings = settings
        self._names = names
        self._growth = _growth_allowed(settings)
        self._recent: deque[float] = deque(maxlen=N_RECENT)
        self._looks: deque[_Look] = deque(maxlen=WINDOW_STEPS // LOOK_EVERY)
        self._steps = 0
        self._skipped = 0

    def see_loss(
        self, loss: float, embeddings: Tensor, indices: NDArray[Any], *, where: str
    ) -> None:
        """Before the optimiser's step, so that the weights are still those before it.

        Args:
            loss: of the batch.
            embeddings: `(B, D)` of the batch; looked at only if the loss is not finite.
            indices: `(B,)`, numbers of its images.
            where: such as ``epoch 1, step 3``.

        Raises:
            TrainingDiverged: the loss is not finite.
        """
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"loss is {loss} at {where}; {self._cause(embeddings, indices)}"
            )
        self._recent.append(loss)
        if not self._looks:  # before the first step
            self._looks.append(_Look(step=0, length=self._length(), loss=loss))

    def see_gradient(self, length: float, *, where: str) -> None:
        """After the gradient is computed, and unscaled, and before the optimiser's step.

        Args:
            length: of the gradient before it is clipped.
            where: such as ``epoch 1, step 3``.

        Raises:
            TrainingDiverged: it is not finite; in fp16, for the 32nd step in a row.
        """
        if math.isfinite(length):
            self._skipped = 0
            return
        self._skipped += 1
        if self._settings.precision != "fp16":
            raise TrainingDiverged(
                f"the gradient is not finite at {where}, though the loss is; {self._lower_rate()}"
            )
        if self._skipped >= N_SKIPPED:
            raise TrainingDiverged(
                f"no gradient was finite in the {N_SKIPPED} steps up to {where}, however small "
                "the scale of fp16; set training.precision to bf16 or fp32"
            )

    def see_weights(self, *, where: str, now: bool = False) -> None:
        """After the optimiser's step; looks at every fourth only.

        Args:
            where: such as ``epoch 1, step 3``.
            now: look in any case, because the weights are about to be kept.

        Raises:
            TrainingDiverged: they are not finite, or the learning rate is far too high.
        """
        if not now:
            self._steps += 1
            if self._steps % LOOK_EVERY:
                return
        length = self._length()
        if not math.isfinite(length):
            raise TrainingDiverged(f"weights are not finite after {where}; {self._lower_rate()}")
        look = _Look(step=self._steps, length=length, loss=fmean(self._recent or (math.inf,)))
        if len(self._recent) == N_RECENT:
            self._judge(look, where)
        if not now:
            self._looks.append(look)

    def _judge(self, look: _Look, where: str) -> None:
        for old in self._looks:
            if look.length >= self._growth * old.length and look.loss >= old.loss:
                raise TrainingDiverged(
                    f"the learning rate is far too high: after {where} the weights are "
                    f"{look.length / old.length:.1f} times as long as {look.step - old.step} "
                    f"steps before, and the loss went from {old.loss:.3g} to {look.loss:.3g}; set "
                    "training.learning_rate to a tenth or less (now "
                    f"{self._settings.learning_rate:g})"
                )

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, to go on from."""
        return {
            "recent": list(self._recent),
            "looks": [list(look) for look in self._looks],
            "steps": self._steps,
            "skipped": self._skipped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._recent = deque(state["recent"], maxlen=N_RECENT)
        self._looks = deque((_Look(*look) for look in state["looks"]), self._looks.maxlen)
        self._steps = int(state["steps"])
        self._skipped = int(state["skipped"])

    @torch.no_grad()
    def _length(self) -> float:
        """Of all weights as one vector; infinite if one of them is too large for fp32."""
        norms = torch._foreach_norm(self._parameters)
        return float(torch.linalg.vector_norm(torch.stack([each.float() for each in norms])))

    def _cause(self, embeddings: Tensor, indices: NDArray[Any]) -> str:
        if not math.isfinite(self._length()):
            return f"the weights are not finite; {self._lower_rate()}"
        finite = torch.isfinite(embeddings.detach()).all(dim=1).cpu().numpy()  # (B,)
        if finite.all():
            return self._lower_rate()
        if not finite.any() and self._settings.precision == "fp16":
            return (
                "all embeddings left the range of fp16; set training.precision to bf16 or fp32, "
                f"or {self._lower_rate()}"
            )
        if not finite.any():  # batch normalisation spreads one image over the batch
            return f"no embedding of the batch is finite; {self._lower_rate()}"
        bad = [self._names[index] for index in indices[~finite][:_MAX_NAMED].tolist()]
        return (
            f"{(~finite).sum()} of the {len(finite)} embeddings are not finite, those of "
            f"{', '.join(bad)}; look at these images, or {self._lower_rate()}"
        )

    def _lower_rate(self) -> str:
        return (
            f"lower training.learning_rate (now {self._settings.learning_rate:g}) or lengthen "
            "training.warmup"
        )


def _growth_allowed(settings: TrainSettings) -> float:
    if settings.optimizer == "adamw":
        return GROWTH_ADAMW
    clipped = settings.clip_norm is not None and settings.clip_norm <= LONG_GRADIENT
    return GROWTH_CLIPPED if clipped else GROWTH_UNCLIPPED
