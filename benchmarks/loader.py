"""How fast do images reach the network, next to the usual loop of Pillow and a DataLoader?

Both go through a folder with one sub-folder for each identity, in a new random order every epoch,
mirror half of the images, and end with float32 batches `(B, 3, height, width)`, normalised. They
take turns in one process on the same cores; the first epoch of each is not counted. Our batches
lie channels last in memory, as training takes them. The faces are the built-in ORL ones, written
as JPEG, unless a folder is given.

Then a network is trained on images that are decoded on demand, and the time that it waited for
them is shown.

    python benchmarks/loader.py --data FOLDER
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nas_face.arch.cost import Shape
from nas_face.arch.zoo.mobilefacenet import mobilefacenet
from nas_face.data import FaceImages, load_folder, load_orl
from nas_face.data.augment import AugmentSettings
from nas_face.data.pipeline import training_batches
from nas_face.data.sampling import BatchPlan
from nas_face.nn import FaceModel, Preprocessing
from nas_face.train import EpochReport, TrainSettings, train

PREPROCESSING = Preprocessing()


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="FOLDER/IDENTITY/IMAGE; built-in faces if unset")
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument(
        "--cores", type=int, default=2, help="cores, and workers of the DataLoader"
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--train-images", type=int, default=512, help="0: no training")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    torch.set_num_threads(arguments.cores)
    with tree(arguments.data, arguments.size) as root:
        compare(root, arguments)
        if arguments.train_images:
            show_waiting(root, arguments)


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


def compare(root: Path, arguments: argparse.Namespace) -> None:
    """Print images a second of the three loaders, and the ratios to the usual one."""
    size, batch_size = arguments.size, arguments.batch_size
    on_demand = load_folder(root, height=size, width=size, cache_bytes=0)
    cached = load_folder(root, height=size, width=size)
    paths = [root / name for name in on_demand.names]
    usual = DataLoader(
        UsualFaces(paths, on_demand.labels.tolist(), size),
        batch_size=batch_size,
        shuffle=True,
        num_workers=arguments.cores,
        persistent_workers=True,
    )
    loaders: dict[str, Callable[[int], Iterator[tuple[Tensor, Any]]]] = {
        "Pillow, DataLoader": lambda epoch: iter(usual),
        "ours, decoded on demand": lambda epoch: ours(on_demand, batch_size, epoch),
        "ours, decoded once": lambda epoch: ours(cached, batch_size, epoch),
    }
    speeds: dict[str, list[float]] = {name: [] for name in loaders}
    for epoch in range(arguments.rounds + 1):
        for name, batches in loaders.items():
            speed = images_per_second(batches(epoch), size)
            if epoch > 0:
                speeds[name].append(speed)
    base = speeds["Pillow, DataLoader"]
    print(
        f"{len(paths)} images to {size}x{size}, batches of {batch_size}, "
        f"{arguments.cores} cores, {arguments.rounds} rounds in turns\n"
    )
    print("| loader | images/s, median | lowest | highest | times the usual, median of rounds |")
    print("|---|---|---|---|---|")
    for name, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(found, base, strict=True))
        print(
            f"| {name} | {statistics.median(found):.0f} | {min(found):.0f} | {max(found):.0f} | "
            f"{ratio:.2f} |"
        )


class UsualFaces(Dataset[tuple[Tensor, int]]):
    """What most training scripts do, with the arithmetic of torchvision's ImageFolder,
    RandomHorizontalFlip, ToTensor and Normalize."""

    def __init__(self, paths: list[Path], labels: list[int], size: int) -> None:
        self.paths, self.labels, self.size = [str(path) for path in paths], labels, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with open(self.paths[index], "rb") as file:
            image = Image.open(file).convert("RGB")
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        x = x.to(torch.float32).div(255).clone()
        mean, std = torch.as_tensor([0.5] * 3), torch.as_tensor([0.5] * 3)
        return x.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1)), self.labels[index]


def ours(images: FaceImages, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, Any]]:
    """What `nas_face.train` does."""
    batches = training_batches(
        images,
        PREPROCESSING.write,
        channels=3,
        plan=BatchPlan(labels=images.labels, batch_size=batch_size, seed=0),
        augment=AugmentSettings(),
        epoch=epoch,
    )
    for batch in batches:
        x = torch.from_numpy(batch.values).permute(0, 3, 1, 2)
        yield x, torch.from_numpy(batch.labels)


def images_per_second(batches: Iterator[tuple[Tensor, Any]], size: int) -> float:
    """Of one epoch."""
    started = time.perf_counter()
    n_images = 0
    for x, labels in batches:
        if x.shape != (len(labels), 3, size, size) or x.dtype != torch.float32:
            raise AssertionError(f"a batch of shape {tuple(x.shape)} and type {x.dtype}")
        n_images += len(labels)
    return n_images / (time.perf_counter() - started)


def show_waiting(root: Path, arguments: argparse.Namespace) -> None:
    """Train MobileFaceNet on images decoded on demand, and print how long it waited for them."""
    size = arguments.size
    faces = load_folder(root, height=size, width=size, cache_bytes=0)
    kept = faces.labels[: arguments.train_images + 1].max()
    model = FaceModel.fresh(mobilefacenet(Shape(3, size, size), 128), seed=0)
    settings = dataclasses.replace(
        TrainSettings(), epochs=2, batch_size=min(arguments.batch_size, 64)
    )

    def show(report: EpochReport) -> None:
        print(f"| {report.epoch} | {report.images} | {report.seconds:.2f} | {report.wait_s:.4f} |")

    print(f"\nTraining MobileFaceNet at {size}x{size}, images decoded on demand\n")
    print("| epoch | images | seconds | of these waiting for images |\n|---|---|---|---|")
    train(model, faces.subset(faces.identities[: kept + 1]), settings, seed=0, on_epoch=show)


if __name__ == "__main__":
    main()
