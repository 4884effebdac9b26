"""The training loop: images, a margin loss, SGD."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_face.arch.codec import canonical_json
from nas_face.data import FaceImages
from nas_face.data.pipeline import NetworkBatch, network_batches
from nas_face.errors import DataError, TrainingDiverged
from nas_face.nn.margins import MarginClassifier
from nas_face.nn.model import FaceModel
from nas_face.train.checkpoint import load_checkpoint, save_checkpoint
from nas_face.train.schedule import learning_rate
from nas_face.train.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """What one epoch came to.

    Attributes:
        epoch: finished epochs, from 1.
        n_epochs: epochs in all.
        loss: mean over the images of the epoch.
        images: images seen in this epoch.
        seconds: that the epoch took.
        wait_s: seconds of these in which the training waited for images to be read and decoded.
    """

    epoch: int
    n_epochs: int
    loss: float
    images: int
    # Two runs of one training report the same, however long they took.
    seconds: float = field(default=0.0, compare=False)
    wait_s: float = field(default=0.0, compare=False)

    @property
    def pace(self) -> str:
        """For people: images a second, and the share of the time spent waiting for them."""
        if self.seconds <= 0:
            return ""
        return (
            f"{self.images / self.seconds:.0f} images/s, "
            f"{self.wait_s / self.seconds:.0%} waiting for data"
        )


ExtraLoss = Callable[[Any, Tensor], Tensor]
"""Loss on a batch beside the margin loss: images `(B, H, W, 3)` uint8, embeddings `(B, D)`."""


def train(
    model: FaceModel,
    images: FaceImages,
    settings: TrainSettings,
    *,
    seed: int,
    on_epoch: Callable[[EpochReport], bool | None] = lambda report: None,
    checkpoint: Path | None = None,
    extra_loss: ExtraLoss | None = None,
) -> FaceModel:
    """Train a model in place.

    The same model, images, settings and seed give the same weights on one CPU, whether or not the
    training was interrupted and resumed from its checkpoint in between.

    Args:
        model: starting weights; they change.
        images: crops of the model's input size, with labels.
        settings: the recipe.
        seed: of class centres, order and flips.
        on_epoch: called after every epoch; returning False ends the training there. An epoch
            counts as done when this has returned: one that was interrupted before is trained and
            reported again, alike.
        checkpoint: file that holds the state after every epoch and from which it goes on. It stays
            when the training ends, for the caller to remove once the model is put away.
        extra_loss: added to the margin loss, for distillation.

    Returns:
        The same model.

    Raises:
        DataError: fewer than two identities.
        TrainingDiverged: the loss or the weights stopped being finite.
    """
    if images.n_identities < 2:
        raise DataError(f"training needs at least 2 identities, got {images.n_identities}")
    run = _Run(model, images, settings, seed)
    first = run.resume(checkpoint) if checkpoint is not None and checkpoint.exists() else 0
    # Channels last trains 1.1 to 1.4 times as fast on a processor (measured on four networks of
    # 5M to 72M multiply-adds, forward and backward, one thread).
    lay_out_(model.module, torch.channels_last)
    model.module.train()
    for epoch in range(first, settings.epochs):
        report = _epoch(run, epoch, extra_loss)
        if on_epoch(report) is False:
            break
        if checkpoint is not None:
            save_checkpoint(checkpoint, run.state(epoch + 1))
    model.module.eval()
    lay_out_(model.module, torch.contiguous_format)
    return model


def lay_out_(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Put the filters of a module into a memory format; values stay the same."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


class _Run:
    """Everything that changes during a training, and how to write it down."""

    def __init__(
        self, model: FaceModel, images: FaceImages, settings: TrainSettings, seed: int
    ) -> None:
        self.model = model
        self.images = images
        self.settings = settings
        self.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.classifier = MarginClassifier(
                model.description.embedding_size,
                images.n_identities,
                kind=settings.loss,
                margin=settings.margin,
                scale=settings.scale,
            )
        self.device = next(model.module.parameters()).device
        self.classifier.to(self.device)
        self.parameters = [*model.module.parameters(), *self.classifier.parameters()]
        self.optimizer = torch.optim.SGD(
            _groups(model.module, self.classifier, settings.weight_decay),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=True,
        )
        self.steps_per_epoch = max(1, math.ceil(len(images) / settings.batch_size))

    def identity(self) -> str:
        """Digest of what must be equal for a checkpoint to be resumed."""
        names = hashlib.sha256("\n".join(self.images.names).encode()).hexdigest()
        network = canonical_json(self.model.description)  # a pruned one keeps its arch_id
        parts = (network, names, self.seed, canonical_json(self.settings))
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def state(self, epochs_done: int) -> dict[str, Any]:
        return {
            "identity": self.identity(),
            "epochs_done": epochs_done,
            "model": self.model.module.state_dict(),
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def resume(self, checkpoint: Path) -> int:
        """Take up a checkpoint of the same training; any other is ignored."""
        state = load_checkpoint(checkpoint)
        if state.get("identity") != self.identity():
            return 0
        self.model.module.load_state_dict(state["model"])
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        return int(state["epochs_done"])


def _epoch(run: _Run, epoch: int, extra_loss: ExtraLoss | None) -> EpochReport:
    settings = run.settings
    total, seen = 0.0, 0
    started = time.perf_counter()
    preprocessing = run.model.description.preprocessing
    batches = _Timed(
        network_batches(
            run.images,
            preprocessing.write,
            channels=preprocessing.channels,
            batch_size=settings.batch_size,
            seed=run.seed,
            epoch=epoch,
            flip=settings.flip,
            shift=settings.shift,
        )
    )
    for position, (values, batch, labels) in enumerate(batches):
        step = epoch * run.steps_per_epoch + position
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate(step, settings.epochs * run.steps_per_epoch, settings)
        x = torch.from_numpy(values).permute(0, 3, 1, 2)  # (B, C, H, W)
        x = x.to(run.device, memory_format=torch.channels_last)
        embeddings = run.model.module(x)  # (B, D)
        loss: Tensor = run.classifier(embeddings, torch.from_numpy(labels).to(run.device))
        if extra_loss is not None:
            loss = loss + extra_loss(batch, embeddings)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"loss is {value} at epoch {epoch + 1}, step {position + 1}; "
                f"lower training.learning_rate (now {settings.learning_rate:g}) or lengthen "
                "training.warmup"
            )
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(run.parameters, settings.clip_norm)
        run.optimizer.step()
        total += value * len(labels)
        seen += len(labels)
    if not all(bool(torch.isfinite(each).all()) for each in run.parameters):
        raise TrainingDiverged(
            f"weights are not finite after epoch {epoch + 1}; lower training.learning_rate (now "
            f"{settings.learning_rate:g}) or lengthen training.warmup"
        )
    return EpochReport(
        epoch=epoch + 1,
        n_epochs=settings.epochs,
        loss=total / max(1, seen),
        images=seen,
        seconds=time.perf_counter() - started,
        wait_s=batches.wait_s,
    )


class _Timed:
    """Batches, and how long they were waited for."""

    def __init__(self, batches: Iterator[NetworkBatch]) -> None:
        self.batches = batches
        self.wait_s = 0.0

    def __iter__(self) -> Iterator[NetworkBatch]:
        while True:
            started = time.perf_counter()
            batch = next(self.batches, None)
            self.wait_s += time.perf_counter() - started
            if batch is None:
                return
            yield batch


def _groups(module: nn.Module, classifier: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with decay (matrices and filters) and without (norms, slopes, biases)."""
    parameters = [*module.parameters(), *classifier.parameters()]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
