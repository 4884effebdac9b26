"""One generation of a training: its state, and one optimiser step."""

import contextlib
import hashlib
import math
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nas_face.data.pipeline import NetworkBatch, training_batches
from nas_face.data.sampling import BatchPlan
from nas_face.nn.ranks import Ranks
from nas_face.train.averaging import WeightAverage
from nas_face.train.objective import Objective
from nas_face.train.optimiser import build_optimiser
from nas_face.train.reports import EpochReport, StepReport
from nas_face.train.schedule import learning_rate
from nas_face.train.settings import TrainSettings
from nas_face.train.task import Task
from nas_face.train.verdicts import Watch


@final
class Run:
    """Everything that changes in one generation of a training, and how a step changes it.

    Args:
        task: what is trained, and how.
        generation: from 0.

    Attributes:
        epoch: of the generation, from 0.
        position: batches of the epoch that are done.
    """

    def __init__(self, task: Task, generation: int = 0) -> None:
        model, images, settings, ranks = task.model, task.images, task.settings, task.ranks
        self.task = task
        self.settings = settings
        self.ranks = ranks
        self.generation = generation
        self.device = next(model.module.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed + generation)
            self.objective = Objective(
                settings,
                embedding_size=model.description.embedding_size,
                n_classes=images.n_identities,
                teacher=task.teacher,
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
            seed=task.seed,
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
    def where(self) -> str:
        """The step that is under way, for messages."""
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
        preprocessing = self.task.model.description.preprocessing
        batches = training_batches(
            self.task.images,
            preprocessing.write,
            channels=preprocessing.channels,
            plan=self.plan,
            augment=self.settings.augment,
            epoch=self.epochs_before + self.epoch,
            first=self.position,
            share=self.ranks.share,
        )
        if self.task.teacher is not None:  # long work, during which no rank waits for another
            self.task.teacher.prepare(
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
        torch.manual_seed(_step_seed(self.task.seed, self.generation, done))
        n_images = self.plan.size(self.position)
        labels = torch.from_numpy(batch.labels).to(self.device)
        with self.objective.drawn(self.ranks.gather(labels, total=n_images), self.optimizer):
            loss = self._backward(batch, n_images)
            norm = self._clip()
            self.watch.see_gradient(norm, where=self.where)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.watch.see_weights(where=self.where)
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
        if self.task.teacher is not None:
            rows = self.task.teacher.rows(
                batch.indices[part], batch.mirrored[part], epoch=self.epochs_before + self.epoch
            )
            targets = self.ranks.gather(torch.from_numpy(rows).to(self.device))
        # Random margins are the same on every rank, however many images each has had.
        torch.manual_seed(_step_seed(self.task.seed, self.generation, self.done, number, "loss"))
        loss: Tensor = self.objective(
            self.ranks.gather(embeddings.float()), self.ranks.gather(labels), targets
        )
        self.watch.see_loss(
            float(loss.detach()), embeddings, batch.indices[part], where=self.where
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
        own = [*self.task.model.module.parameters(), *self.objective.parameters()]
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
