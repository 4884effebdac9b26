"""How many images a second do we train, next to a plain loop?

The plain loop is written as arcface_torch's is: Pillow in a DataLoader, torch's modules as they
come, fp32, ArcFace, SGD. Ours is `nas_face.train`. Both get the same network, images, loss and
optimiser settings; they take turns on the same cores, each in a process of its own, which sleeps
while it is not its turn. The first turn of each is not counted. The faces are the built-in ORL
ones, written as JPEG, unless a folder is given.

    python benchmarks/training_speed.py --data FOLDER --threads 2
    python benchmarks/training_speed.py --data FOLDER --device cuda --precision bf16 \
        --batch-size 512 --compile
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from nas_face.arch.zoo import network
from nas_face.data import load_folder, load_orl
from nas_face.losses.margins.settings import ArcFace
from nas_face.nn import FaceModel
from nas_face.train import StepReport, TrainSettings, train

NETWORKS = ["mobilefacenet_512", "vargfacenet", "seesaw_shuffle"]
LEARNING_RATE = 0.02


@dataclass(frozen=True)
class Job:
    """What a process trains."""

    network: str
    root: Path
    arguments: argparse.Namespace


@dataclass(frozen=True)
class Turn:
    """What one turn came to."""

    images: int
    seconds: float
    wait_s: float
    cpu_s: float

    @property
    def pace(self) -> float:
        """Images a second."""
        return self.images / self.seconds


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="FOLDER/IDENTITY/IMAGE; built-in faces if unset")
    parser.add_argument("--network", nargs="+", default=NETWORKS, help="names in nas-face zoo")
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2, help="cores; also DataLoader workers")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--compile", action="store_true", help="torch.compile for ours")
    parser.add_argument("--steps", type=int, default=5, help="in one turn")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    print(
        f"{arguments.size}x{arguments.size}, batches of {arguments.batch_size}, "
        f"{arguments.threads} threads, {arguments.device}; plain fp32, ours "
        f"{arguments.precision}{', compiled' if arguments.compile else ''}; median of "
        f"{arguments.rounds} turns of {arguments.steps} steps\n"
    )
    print(
        "| network | plain, images/s | ours, images/s | times, by the clock (lowest to highest) | "
        "times, by processor time | plain waited | ours waited |"
    )
    print("|---|---|---|---|---|---|---|")
    with tree(arguments.data, arguments.size) as root:
        for name in arguments.network:
            print(row(name, *measured(Job(name, root, arguments))), flush=True)


@contextmanager
def tree(given: Path | None, size: int) -> Iterator[Path]:
    """The folder that was given, or one of the built-in faces."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as name:
        faces = load_orl(size, size)
        for at, face in enumerate(faces.names):
            path = (Path(name) / face).with_suffix(".jpg")
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(faces.batch(np.array([at]))[0]).save(path, quality=95)
        yield Path(name)


def row(name: str, plain: list[Turn], ours: list[Turn]) -> str:
    """One line of the table."""
    ratios = [b.pace / a.pace for a, b in zip(plain, ours, strict=True)]
    work = [b.images / b.cpu_s * a.cpu_s / a.images for a, b in zip(plain, ours, strict=True)]
    pace = [statistics.median(turn.pace for turn in turns) for turns in (plain, ours)]
    waits = [
        sum(t.wait_s for t in turns) / sum(t.seconds for t in turns) for turns in (plain, ours)
    ]
    return (
        f"| {name} | {pace[0]:.1f} | {pace[1]:.1f} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) | {statistics.median(work):.2f} | "
        f"{waits[0]:.0%} | {waits[1]:.0%} |"
    )


def measured(job: Job) -> tuple[list[Turn], list[Turn]]:
    """Turns of the plain loop and of ours, one after another."""
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    for loop in (plain_loop, our_loop):
        here, there = context.Pipe()
        process = context.Process(target=in_turns, args=(loop, job, there))
        process.start()
        connections.append(here)
        processes.append(process)
    found: tuple[list[Turn], list[Turn]] = ([], [])
    for number in range(job.arguments.rounds + 1):
        for turns, connection in zip(found, connections, strict=True):
            connection.send("go")
            turn = connection.recv()
            if number > 0:
                turns.append(turn)
    for connection, process in zip(connections, processes, strict=True):
        connection.send("end")
        process.join()
    return found


Step = Callable[[int, float], bool]
"""To be called after each step, with its images and the seconds waited for them; False: end."""


def in_turns(loop: Callable[[Job, Step], None], job: Job, connection: Connection) -> None:
    """Train when told to, and say what a turn came to."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: job.arguments.threads])
    torch.set_num_threads(job.arguments.threads)
    torch.manual_seed(0)
    state: dict[str, Any] = {"left": 0}

    def started() -> bool:
        if connection.recv() == "end":
            return False
        state.update(left=job.arguments.steps, images=0, wait_s=0.0)
        state.update(clock=time.perf_counter(), cpu=time.process_time())
        return True

    def step(images: int, wait_s: float) -> bool:
        state["images"] += images
        state["wait_s"] += wait_s
        state["left"] -= 1
        if state["left"] > 0:
            return True
        if job.arguments.device != "cpu":
            torch.cuda.synchronize()
        seconds, cpu_s = time.perf_counter() - state["clock"], time.process_time() - state["cpu"]
        connection.send(Turn(state["images"], seconds, state["wait_s"], cpu_s))
        return started()

    if started():
        loop(job, step)


class PlainFaces(Dataset[tuple[Tensor, int]]):
    """Images of a folder, mirrored half of the time, as floats from -1 to 1."""

    def __init__(self, root: Path, size: int) -> None:
        self.size = size
        people = sorted(path for path in root.iterdir() if path.is_dir())
        self.items = [
            (path, at) for at, who in enumerate(people) for path in sorted(who.iterdir())
        ]
        self.n_classes = len(people)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        image = Image.open(path).convert("RGB")
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float()
        return x.div(255).sub(0.5).div(0.5), label


class PlainArcFace(nn.Module):
    """The margin is put on the angles outside of the graph, so gradients are those of cosines."""

    def __init__(self, embedding_size: int, n_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.normal(0, 0.01, (n_classes, embedding_size)))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = functional.linear(
            functional.normalize(embeddings), functional.normalize(self.weight)
        ).clamp(-1, 1)
        rows = torch.arange(len(labels), device=labels.device)
        with torch.no_grad():
            angles = cosines.arccos()
            angles[rows, labels] += 0.5
            change = angles.cos_() - cosines
        return functional.cross_entropy((cosines + change) * 64, labels)


def plain_loop(job: Job, step: Step) -> None:
    """A training as most scripts write it."""
    arguments = job.arguments
    faces = PlainFaces(job.root, arguments.size)
    loader = DataLoader(
        faces,
        batch_size=arguments.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=arguments.threads,
        pin_memory=arguments.device != "cpu",
        persistent_workers=True,
    )
    spec = network(job.network).variant(input_size=(arguments.size, arguments.size))
    backbone = FaceModel.fresh(spec, seed=0).module.to(arguments.device).train()
    head = PlainArcFace(spec.embedding_size, faces.n_classes).to(arguments.device)
    optimizer = torch.optim.SGD(
        [*backbone.parameters(), *head.parameters()],
        lr=LEARNING_RATE,
        momentum=0.9,
        weight_decay=5e-4,
    )
    while True:
        batches = iter(loader)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            wait_s = time.perf_counter() - began
            x, labels = (each.to(arguments.device, non_blocking=True) for each in batch)
            loss = head(backbone(x), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(backbone.parameters(), 5)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            if not step(len(labels), wait_s):
                return


def our_loop(job: Job, step: Step) -> None:
    """The same training by this project."""
    arguments = job.arguments
    size = (arguments.size, arguments.size)
    faces = load_folder(job.root, height=size[0], width=size[1], cache_bytes=0)
    spec = network(job.network).variant(input_size=size)
    model = FaceModel.fresh(spec, seed=0)
    model.module.to(arguments.device)
    settings = TrainSettings(
        epochs=1_000_000,
        batch_size=arguments.batch_size,
        learning_rate=LEARNING_RATE,
        warmup=0.0,
        loss=ArcFace(gradient="straight_through"),
        precision=arguments.precision,
        compile=arguments.compile,
    )

    def on_step(report: StepReport) -> bool:
        return step(report.images, report.wait_s)

    try:
        train(model, faces, settings, seed=0, on_step=on_step)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
