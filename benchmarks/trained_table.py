"""Trains a table of networks, to try search methods on without training again.

Designs of a study's space that fit its budget, spread evenly over the logarithm of their
multiply-adds, are trained with the study's short recipe and verified on its search pairs after
each rung and at the end; some of them from several seeds, so that the noise is known. A network
that is done is a file, so the work goes on where it was stopped, and several processes share it
out:

    python benchmarks/trained_table.py train studies/faces_48.yaml --data FACES --work WORK
    python benchmarks/trained_table.py join studies/faces_48.yaml --work WORK --out table.csv

`join` times all networks anew, one after another: what is timed beside trainings is timed badly.
"""

import argparse
import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import torch

from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import network
from nas_face.deploy import LatencyMeter
from nas_face.errors import NasFaceError
from nas_face.nn import FaceModel
from nas_face.search import derive_seed
from nas_face.space import Design, Screener, SearchSpace, load_space
from nas_face.study.config import StudyConfig, load_study
from nas_face.study.evaluate import figures_of, verify_on
from nas_face.study.faces import StudyFaces, load_faces
from nas_face.train import EpochReport, train

N_SCREENED = 60_000
N_FIRST = 100
REPEATED_EVERY = 8
SEEDS_OF_REPEATED = (1, 2)


def main() -> None:
    """Parse, train or join."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["train", "join"])
    parser.add_argument("study", type=Path)
    parser.add_argument("--data", help="folder with one folder for each identity")
    parser.add_argument("--exclude", help="text file of identities to leave out")
    parser.add_argument("--work", type=Path, required=True, help="folder of finished networks")
    parser.add_argument("--networks", type=int, default=160)
    parser.add_argument("--out", type=Path, help="CSV to write")
    arguments = parser.parse_args()
    if arguments.action == "join":
        join(load_study(arguments.study), arguments.work, arguments.out)
        return
    given = {"data.source": arguments.data, "data.exclude": arguments.exclude}
    config = load_study(arguments.study, {k: v for k, v in given.items() if v is not None})
    train_all(config, arguments.work, arguments.networks)


def train_all(config: StudyConfig, work: Path, n_networks: int) -> None:
    """Train what is not done yet and what no other process is at."""
    torch.set_num_threads(config.threads)
    designs = spread_designs(config, n_networks)
    _, height, width = designs[0].spec.input_shape
    faces = load_faces(config.data, height=height, width=width, seed=config.seed)
    work.mkdir(parents=True, exist_ok=True)
    meter = LatencyMeter(FaceModel.fresh(reference(designs[0].spec.input_shape), seed=0), work)
    for index, seed in jobs(n_networks):
        name = f"{index:04d}-{seed}"
        if (work / f"{name}.json").exists():
            continue
        lock = filelock.FileLock(work / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue
        with lock:
            if not (work / f"{name}.json").exists():
                row = measure(config, faces, designs[index], seed, meter, work / f"{name}.pt")
                partial = work / f"{name}.partial"
                partial.write_text(json.dumps({"index": index, **row}))
                os.replace(partial, work / f"{name}.json")
                print(name, *(f"{key}={value}" for key, value in row.items() if key != "choices"))


def jobs(n_networks: int) -> Iterator[tuple[int, int]]:
    """Network and seed, in the order of their worth: a first table, its noise, more networks."""
    first = min(N_FIRST, n_networks)
    yield from ((index, 0) for index in range(first))
    for seed in SEEDS_OF_REPEATED:
        yield from ((index, seed) for index in range(0, first, REPEATED_EVERY))
    yield from ((index, 0) for index in range(first, n_networks))


def spread_designs(config: StudyConfig, n: int) -> list[Design]:
    """`n` designs within the budget, spread evenly over log multiply-adds.

    The first ones of any number are spread as well (digits of the turn mirrored at the point).
    """
    space = space_of(config)
    drawn = itertools.islice(Screener(space).draws(config.seed), N_SCREENED)
    fitting = sorted(
        (each for each in drawn if config.budget.fits(each.cost)), key=lambda each: each.madds
    )
    logs = [math.log(each.madds) for each in fitting]
    found: dict[str, Design] = {}
    for turn in itertools.count(1):
        digits = bin(turn)[2:][::-1]
        wanted = logs[0] + int(digits, 2) / 2 ** len(digits) * (logs[-1] - logs[0])
        at = min(range(len(logs)), key=lambda place: abs(logs[place] - wanted))
        design = space.design(fitting[at].choices)
        found.setdefault(design.spec.arch_id, design)
        del logs[at], fitting[at]
        if len(found) == n:
            return list(found.values())
    raise AssertionError("unreachable")


def space_of(config: StudyConfig) -> SearchSpace:
    """The space of a study at its input size."""
    space = load_space(Path(config.space))
    return space if config.image_size is None else space.with_input_size(*config.image_size)


def reference(input_shape: tuple[int, int, int]) -> ArchSpec:
    """MobileFaceNet at an input size."""
    spec = network("mobilefacenet_128").spec
    return ArchSpec(input_shape=input_shape, stem=spec.stem, stages=spec.stages, head=spec.head)


def measure(
    config: StudyConfig,
    faces: StudyFaces,
    design: Design,
    seed: int,
    meter: LatencyMeter,
    checkpoint: Path,
) -> dict[str, Any]:
    """Everything about one training of one network."""
    spec = design.spec
    cost = spec.cost()
    row: dict[str, Any] = {
        "arch_id": spec.arch_id,
        "seed": seed,
        "madds": cost.madds,
        "params": cost.params,
        "size_bytes": cost.size_bytes("fp32"),
        "peak_activations": cost.peak_activations,
        "choices": design.choices,
    }
    began = time.process_time()
    model = FaceModel.fresh(spec, seed=derive_seed(seed, spec.arch_id))
    try:
        row["latency_ratio"] = meter.measure(model).ratio
        figures: dict[str, float] = {}

        def at_rung(report: EpochReport) -> None:
            if report.epoch in (*config.rungs.epochs, config.training.epochs):
                found = figures_of(verify_on(model, faces.search_pairs))
                figures.update(_named(found, report.epoch))

        train(
            model,
            faces.split.train,
            config.training,
            seed=derive_seed(seed, spec.arch_id),
            on_epoch=at_rung,
            checkpoint=checkpoint,
        )
        checkpoint.unlink(missing_ok=True)
        row.update(figures)
    except NasFaceError as failure:
        row["failure"] = str(failure)
    row["cpu_s"] = round(time.process_time() - began, 2)
    return row


def _named(figures: Mapping[str, float], epoch: int) -> dict[str, float]:
    return {
        f"{name}_{epoch}": round(figures[name], 6)
        for name in ("log_tar", "auc", "eer", "accuracy")
    }


def join(config: StudyConfig, work: Path, out: Path) -> None:
    """All finished networks as one table."""
    torch.set_num_threads(1)
    rows = [json.loads(path.read_text()) for path in sorted(work.glob("*.json"))]
    space = space_of(config)
    meter = LatencyMeter(FaceModel.fresh(reference(space.input_shape), seed=0), work)
    ratios: dict[str, float] = {}
    for row in rows:
        if row["arch_id"] not in ratios:
            model = FaceModel.fresh(space.decode(row["choices"]), seed=0)
            ratios[row["arch_id"]] = round(meter.measure(model).ratio, 4)
        row["latency_ratio"] = ratios[row["arch_id"]]
        row["choices"] = json.dumps(row.pop("choices"), separators=(",", ":"))
    pd.DataFrame(rows).to_csv(out, index=False)


if __name__ == "__main__":
    main()
