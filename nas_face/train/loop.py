"""The training loop: images in, a margin loss or a teacher, one optimiser step after another."""

import contextlib
import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nas_face.arch.codec import canonical_json
from nas_face.data import FaceImages
from nas_face.data.pipeline import NetworkBatch, training_batches
from nas_face.data.sampling import BatchPlan
from nas_face.errors import DataError
from nas_face.nn.fast import fast_training
from nas_face.nn.model import FaceModel
from nas_face.nn.ranks import ALONE, Ranks
from nas_face.nn.sharded_state import full_state, load_full_state_
from nas_face.nn.sync_norm import localise_, synchronise_
from nas_face.train.averaging import WeightAverage
from nas_face.train.checkpoint import Checkpoints, State
from nas_face.train.objective import Objective
from nas_face.train.optimiser import build_optimiser
from nas_face.train.reports import EpochReport, StepReport
from nas_face.train.schedule import learning_rate
from nas_face.train.settings import TrainSettings
from nas_face.train.teachers import TeacherTargets
from nas_face.train.verdicts import Watch

MIN_IDENTITIES = 3
"""Two teach one boundary: a network that tells these two apart, and nobody else."""

_PARTED = ("module", "optimizer")
"""Keys of a checkpoint whose tensors may lie in part on one rank and in part on another."""


def train(
    model: FaceModel,
    images: FaceImages,
    settings: TrainSettings,
    *,
    seed: int,
    on_epoch: Callable[[EpochReport], bool | None] = lambda report: None,
    on_step: Callable[[StepReport], bool | None] = lambda report: None,
    checkpoints: Checkpoints | None = None,
    teacher: TeacherTargets | None = None,
    ranks: Ranks = ALONE,
) -> FaceModel:
    """Train a model in place.

    The same model, images, settings, seed and teacher give the same weights on one CPU, whether or
    not the training was killed at some step and resumed from its checkpoints.

    Args:
        model: starting weights, on the device to train on; they change.
        images: crops of the model's input size, with labels.
        settings: the recipe.
        seed: of class centres, order and augmentation.
        on_epoch: called after every epoch, with the weights that would be saved; returning False
            ends the training there. An epoch counts as done when this has returned: one that was
            interrupted before is reported again, alike.
        on_step: called after every step; returning False writes a checkpoint and interrupts the
            training as Ctrl-C does.
        checkpoints: hold the state after every epoch, and now and then in between; the training
            goes on from the last. They stay when it ends, for the caller to clear once the model
            is put away.
        teacher: of the distillation in the settings.
        ranks: processes that train together, each with its own call of this function; every one
            has all the images and takes its share of each batch.

    Returns:
        The same model.

    Raises:
        DataError: fewer than three identities, where the loss needs them.
        TrainingDiverged: the loss, the weights or the embeddings went astray.
        RanksLost: another process is gone.
        KeyboardInterrupt: `on_step` returned False.
    """
    if settings.needs_labels and images.n_identities < MIN_IDENTITIES:
        raise DataError(
            f"training needs at least {MIN_IDENTITIES} identities, and hundreds to be of use, got "
            f"{images.n_identities}; add people, or learn from a teacher without labels"
        )
    if (teacher is None) == bool(settings.distil):
        raise ValueError("a teacher goes with settings.distil, and the other way round")
    device = next(model.module.parameters()).device
    with _ready(model, settings, ranks), torch.random.fork_rng(_cuda_of(device)), ranks.guard():
        first = _Run(model, images, settings, seed, teacher, ranks)
        run: _Run | None = first.resumed(checkpoints)
        while run is not None:
            run = _generation(run, on_epoch, on_step, checkpoints)
    return model


def _generation(
    run: "_Run",
    on_epoch: Callable[[EpochReport], bool | None],
    on_step: Callable[[StepReport], bool | None],
    checkpoints: Checkpoints | None,
) -> "_Run | None":
    """Train one generation to its end; gives the next, if there is one."""
    settings = run.settings
    while run.epoch < settings.epochs:
        for batch in run.batches():
            report = run.step(batch)
            if on_step(report) is False:
                run.save(checkpoints)
                raise KeyboardInterrupt
            if checkpoints is not None and run.ranks.agree(checkpoints.due):
                run.save(checkpoints)
        run.watch.see_weights(where=f"epoch {run.epochs_before + run.epoch + 1}", now=True)
        with run.average.applied() if run.average is not None else contextlib.nullcontext():
            if on_epoch(run.epoch_report()) is False:
                run.finish()
                return None
        run.next_epoch()
        run.save(checkpoints)
    run.finish()
    return run.successor()


@final
class _Run:
    """Everything that changes during a training, and how to write it down.

    Attributes:
        generation: from 0.
        epoch: of the generation, from 0.
        position: batches of the epoch that are done.
    """

    def __init__(
        self,
        model: FaceModel,
        images: FaceImages,
        settings: TrainSettings,
        seed: int,
        teacher: TeacherTargets | None,
        ranks: Ranks,
        generation: int = 0,
    ) -> None:
        self.model = model
        self.images = images
        self.settings = settings
        self.seed = seed
        self.teacher = teacher
        self.ranks = ranks
        self.generation = generation
        self.device = next(model.module.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + generation)
            self.objective = Objective(
                settings,
                embedding_size=model.description.embedding_size,
                n_classes=images.n_identities,
                teacher=teacher,
                ranks=ranks,
            ).to(self.device)
        self.optimizer = build_optimiser(settings, model.module, self.objective)
        self.average = (
            None if settings.ema is None else WeightAverage(model.module, decay=settings.ema)
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "fp16")
        self.plan = BatchPlan(
            labels=images.labels,
            batch_size=settings.batch_size,
            seed=seed,
            sampling=settings.sampling,
            n_ranks=ranks.n,
        )
        self.watch = Watch(model.module, settings, images.names)
        self.network = _wrapped(model.module, settings, ranks)
        self.epoch = 0
        self.position = 0
        self.loss_sum = 0.0
        self.n_seen = 0
        self.seconds = 0.0
        self.wait_s = 0.0

    @property
    def epochs_before(self) -> int:
        """Epochs of earlier generations."""
        return self.generation * self.settings.epochs

    @property
    def _where(self) -> str:
        return f"epoch {self.epochs_before + self.epoch + 1}, step {self.position + 1}"

    @property
    def done(self) -> int:
        """Steps of this generation that are done."""
        return self.epoch * self.plan.n_batches + self.position

    @property
    def n_steps(self) -> int:
        """Steps of one generation."""
        return self.settings.epochs * self.plan.n_batches

    def batches(self) -> Iterator[NetworkBatch]:
        """What is left of the epoch; the time spent waiting for it is noted."""
        preprocessing = self.model.description.preprocessing
        batches = training_batches(
            self.images,
            preprocessing.write,
            channels=preprocessing.channels,
            plan=self.plan,
            augment=self.settings.augment,
            epoch=self.epochs_before + self.epoch,
            first=self.position,
            share=self.ranks.share,
        )
        if self.teacher is not None:  # long work, during which no rank waits for another
            self.teacher.prepare(
                epoch=self.epochs_before + self.epoch, mirrored=self.settings.augment.flip
            )
        self.began = time.perf_counter()
        for batch in batches:
            self.waited_s = time.perf_counter() - self.began
            yield batch
            self.began = time.perf_counter()

    def step(self, batch: NetworkBatch) -> StepReport:
        """One optimiser step."""
        settings = self.settings
        done = self.done
        rate = learning_rate(done, self.n_steps, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(_step_seed(self.seed, self.generation, done))
        n_images = self.plan.size(self.position)
        labels = torch.from_numpy(batch.labels).to(self.device)
        with self.objective.drawn(self.ranks.gather(labels, total=n_images), self.optimizer):
            loss = self._backward(batch, n_images)
            norm = self._clip()
            self.watch.see_gradient(norm, where=self._where)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.watch.see_weights(where=self._where)
        if self.average is not None:
            self.average.update()
        self.position += 1
        self.loss_sum += loss * n_images
        self.n_seen += n_images
        seconds = time.perf_counter() - self.began + self.waited_s
        self.seconds += seconds
        self.wait_s += self.waited_s
        return StepReport(
            step=self.generation * self.n_steps + done + 1,
            n_steps=self.settings.generations * self.n_steps,
            epoch=self.epochs_before + self.epoch + 1,
            n_epochs=settings.n_epochs,
            loss=loss,
            images=n_images,
            learning_rate=rate,
            seconds=seconds,
            wait_s=self.waited_s,
        )

    def _backward(self, batch: NetworkBatch, n_images: int) -> float:
        """Gradients of the mean loss over the batch of all ranks; gives that mean."""
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        # Batch normalisation needs two images in each part of each rank's share.
        n_parts = min(self.settings.accumulate, max(1, n_images // self.ranks.n // 2))
        for number, part in enumerate(np.array_split(np.arange(len(batch.labels)), n_parts)):
            last = number == n_parts - 1
            with _no_sync(self.network, off=not last):
                loss = self._loss(batch, part, number)
                if n_parts > 1:
                    n_part = self.ranks.total(len(part))
                    loss = loss * (n_part / n_images)
                self.scaler.scale(loss).backward()
            total += float(loss.detach())
        return total

    def _loss(self, batch: NetworkBatch, part: Any, number: int) -> Tensor:
        x = torch.from_numpy(batch.values[part]).permute(0, 3, 1, 2)  # (B, C, H, W)
        x = x.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        labels = torch.from_numpy(batch.labels[part]).to(self.device)
        with self._autocast():
            embeddings = self.network(x)  # (B, D)
        targets = None
        if self.teacher is not None:
            rows = self.teacher.rows(
                batch.indices[part], batch.mirrored[part], epoch=self.epochs_before + self.epoch
            )
            targets = self.ranks.gather(torch.from_numpy(rows).to(self.device))
        # Random margins are the same on every rank, however many images each has had.
        torch.manual_seed(_step_seed(self.seed, self.generation, self.done, number, "loss"))
        loss: Tensor = self.objective(
            self.ranks.gather(embeddings.float()), self.ranks.gather(labels), targets
        )
        self.watch.see_loss(
            float(loss.detach()), embeddings, batch.indices[part], where=self._where
        )
        return loss

    def _clip(self) -> float:
        """Shorten the gradient if it is too long; gives the length that it had."""
        if self.scaler.is_enabled():
            for each in self.objective.sharded:  # a step is skipped by all ranks or by none
                assert each.grad is not None
                if self.ranks.max(each.grad.abs().max()).isinf():
                    each.grad.fill_(math.inf)
        self.scaler.unscale_(self.optimizer)
        limit = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        own = [*self.model.module.parameters(), *self.objective.parameters()]
        if self.ranks.n == 1:
            return float(nn.utils.clip_grad_norm_(own, limit))
        # Centres are shared out over the ranks; all else is the same on each of them.
        sharded = self.objective.sharded
        apart = {id(each) for each in sharded}
        common = [each for each in own if id(each) not in apart]
        squares = _squared_norm(common) + self.ranks.sum(_squared_norm(sharded))
        norm = squares.sqrt()
        nn.utils.clip_grads_with_norm_(own, limit, norm)
        return float(norm)

    def _autocast(self) -> torch.autocast:
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        precision = self.settings.precision
        return torch.autocast(self.device.type, dtype=kind[precision], enabled=precision != "fp32")

    def next_epoch(self) -> None:
        """Go on to the first batch of the next epoch."""
        self.epoch += 1
        self.position = 0
        self.loss_sum = self.seconds = self.wait_s = 0.0
        self.n_seen = 0

    def epoch_report(self) -> EpochReport:
        """Of the epoch whose batches are done."""
        return EpochReport(
            epoch=self.epochs_before + self.epoch + 1,
            n_epochs=self.settings.n_epochs,
            loss=self.loss_sum / max(1, self.n_seen),
            images=self.n_seen,
            seconds=self.seconds,
            wait_s=self.wait_s,
        )

    def finish(self) -> None:
        """Leave the weights that are to be kept in the model."""
        if self.average is not None:
            self.average.apply_()

    def successor(self) -> "_Run | None":
        """The next generation, from the weights of this one."""
        if self.generation + 1 >= self.settings.generations:
            return None
        return _Run(
            self.model,
            self.images,
            self.settings,
            self.seed,
            self.teacher,
            self.ranks,
            self.generation + 1,
        )

    def identity(self) -> str:
        """Digest of what must be equal for a checkpoint to be resumed."""
        names = hashlib.sha256("\n".join(self.images.names).encode("utf-8", "surrogatepass"))
        network = canonical_json(self.model.description)  # a pruned one keeps its arch_id
        teacher = None if self.teacher is None else self.teacher.identity
        parts = (network, names.hexdigest(), self.seed, canonical_json(self.settings), teacher)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def save(self, checkpoints: Checkpoints | None) -> None:
        """Write a checkpoint; every rank takes part, the first one writes."""
        if checkpoints is None:
            return
        self.watch.see_weights(where=self._where, now=True)
        full = full_state(self.objective, self.optimizer, self.objective.sharded, self.ranks)
        state: State = {
            "identity": self.identity(),
            "generation": self.generation,
            "epoch": self.epoch,
            "position": self.position,
            "loss_sum": self.loss_sum,
            "n_seen": self.n_seen,
            "seconds": self.seconds,
            "wait_s": self.wait_s,
            "model": self.model.module.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "scaler": self.scaler.state_dict(),
            "watch": self.watch.state_dict(),
            **full,
        }
        if self.ranks.leads:
            checkpoints.save(self.epochs_before * self.plan.n_batches + self.done, state)

    def resumed(self, checkpoints: Checkpoints | None) -> "_Run":
        """The run at the last checkpoint of this very training; this run where there is none."""
        found = None
        if checkpoints is not None and self.ranks.leads:
            found = checkpoints.latest(self.identity())
        shared = None if found is None else {k: found[k] for k in found if k not in _PARTED}
        state = self.ranks.tell(shared)
        if state is None:
            return self
        run = self
        if state["generation"] != self.generation:
            run = _Run(
                self.model,
                self.images,
                self.settings,
                self.seed,
                self.teacher,
                self.ranks,
                state["generation"],
            )
        for name in ("epoch", "position", "loss_sum", "n_seen", "seconds", "wait_s"):
            setattr(run, name, state[name])
        run.model.module.load_state_dict(state["model"])
        if run.average is not None:
            run.average.load_state_dict(state["average"])
        run.scaler.load_state_dict(state["scaler"])
        run.watch.load_state_dict(state["watch"])
        load_full_state_(run.objective, run.optimizer, run.objective.sharded, found, self.ranks)
        return run


@contextlib.contextmanager
def _ready(model: FaceModel, settings: TrainSettings, ranks: Ranks) -> Iterator[None]:
    """The module in the form that trains fastest, and afterwards as it was."""
    with fast_training(model.module, fuse=not settings.compile):
        if ranks.n > 1:
            synchronise_(model.module, ranks)
        model.module.train()
        try:
            yield
        finally:
            if ranks.n > 1:
                localise_(model.module)
            model.module.eval()


def _wrapped(module: nn.Module, settings: TrainSettings, ranks: Ranks) -> nn.Module:
    """The network as the loop calls it."""
    if settings.compile:
        module = cast(nn.Module, torch.compile(module))
    if ranks.n > 1:
        with warnings.catch_warnings():  # newer releases of torch would have another name
            warnings.simplefilter("ignore", FutureWarning)
            module = DistributedDataParallel(module, broadcast_buffers=False)
    return module


def _no_sync(network: nn.Module, *, off: bool) -> contextlib.AbstractContextManager[None]:
    """Gradients stay on this rank while `off`, to be added up with those of the next part."""
    if off and isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return contextlib.nullcontext()


def _squared_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    squares = [each.grad.square().sum() for each in parameters if each.grad is not None]
    return torch.stack(squares).sum() if squares else torch.zeros(())


def _step_seed(*parts: int | str) -> int:
    """A seed of its own for every step, so that no random state has to be kept."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7])


def _cuda_of(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
