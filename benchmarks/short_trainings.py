"""Which short training ranks networks as a full one does, for the fewest seconds?

24 networks of a table, spread over its multiply-adds, are trained by each recipe. Kendall's tau of
a recipe's `log_tar` on the search pairs with that of the full training says what it is worth; the
processor seconds of a network say what it costs. A training that is done is a file, so the work
goes on where it was stopped, and several processes share it out:

    python benchmarks/short_trainings.py train full --data FACES --exclude LIST --work WORK
    python benchmarks/short_trainings.py train four --data FACES --exclude LIST --work WORK
    python benchmarks/short_trainings.py compare --work WORK
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau

from nas_face.data import FaceImages
from nas_face.errors import NasFaceError
from nas_face.losses.distillation import Angular
from nas_face.losses.margins import CosFace
from nas_face.nn import FaceModel
from nas_face.search import derive_seed
from nas_face.space import load_space
from nas_face.study.config import StudyConfig, load_study
from nas_face.study.evaluate import figures_of, verify_on
from nas_face.study.faces import StudyFaces, load_faces
from nas_face.study.teachers import teacher_targets
from nas_face.train import Checkpoints, EpochReport, TrainSettings, train
from nas_face.train.teachers import SFACE, TeacherSettings, TeacherTargets

STUDY = Path("studies/faces_48.yaml")
TABLE = Path("studies/faces_48_networks.csv")
N_NETWORKS = 24
FULL = "full"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training: what it changes of the study's short one.

    Attributes:
        changes: settings.
        side: of the images, in pixels.
        people: share of the identities that are trained on.
        rate_exponent: the learning rate is multiplied by (median parameters / parameters) to this
            power.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    side: int = 48
    people: float = 1.0
    rate_exponent: float = 0.0


TAUGHT = {"teacher": TeacherSettings(model=SFACE), "distil": (Angular(),)}
RECIPES: Mapping[str, Recipe] = {
    FULL: Recipe(
        changes={"epochs": 10, "batch_size": 64, "loss": CosFace(margin=0.35, scale=32.0)}
    ),
    "four": Recipe(),
    "two": Recipe(changes={"epochs": 2}),
    "eight": Recipe(changes={"epochs": 8}),
    "small images": Recipe(side=32),
    "small images, eight": Recipe(side=32, changes={"epochs": 8}),
    "half the people": Recipe(people=0.5),
    "rate by size": Recipe(rate_exponent=0.25),
    "low rate": Recipe(changes={"learning_rate": 0.03}),
    "average": Recipe(changes={"ema": 0.99}),
    "teacher": Recipe(changes={**TAUGHT, "loss": None}),
    "teacher, two": Recipe(changes={**TAUGHT, "loss": None, "epochs": 2}),
    "teacher beside": Recipe(changes=TAUGHT),
}


def main() -> None:
    """Parse, train or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["train", "compare"])
    parser.add_argument("recipes", nargs="*", help=", ".join(RECIPES))
    parser.add_argument("--data", help="folder with one folder for each identity")
    parser.add_argument("--exclude", help="text file of identities to leave out")
    parser.add_argument("--work", type=Path, required=True, help="folder of finished trainings")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    arguments = parser.parse_args()
    if arguments.action == "compare":
        compare(arguments.work)
        return
    given = {"data.source": arguments.data, "data.exclude": arguments.exclude}
    config = load_study(STUDY, {k: v for k, v in given.items() if v is not None})
    for recipe in arguments.recipes or RECIPES:
        for seed in arguments.seeds:
            train_all(config, recipe, seed, arguments.work)


def networks() -> pd.DataFrame:
    """The networks: rows of the table, evenly spread over the order of their multiply-adds."""
    table = pd.read_csv(TABLE)
    first = table[table.seed == 0].sort_values("madds")
    places = np.linspace(0, len(first) - 1, N_NETWORKS).round().astype(int)
    return first.iloc[places]


def train_all(config: StudyConfig, recipe: str, seed: int, work: Path) -> None:
    """Train by one recipe what is not done yet and what no other process is at."""
    torch.set_num_threads(config.threads)
    changed = RECIPES[recipe]
    settings = dataclasses.replace(config.training, **changed.changes)
    side = changed.side
    faces = load_faces(config.data, height=side, width=side, seed=config.seed)
    people = faces.split.train.identities
    images = faces.split.train.subset(people[: round(changed.people * len(people))])
    work.mkdir(parents=True, exist_ok=True)
    teacher = None
    if settings.teacher is not None:
        cache = work / "teachers"
        teacher = teacher_targets(settings.teacher, images, config.data, cache=cache, note=print)
    space = load_space(Path(config.space)).with_input_size(side, side)
    chosen = networks()
    for row in chosen.itertuples():
        stem = f"{recipe}-{row.index:03d}-{seed}"
        done = work / f"{stem}.json"
        lock = filelock.FileLock(work / f"{stem}.lock")
        if done.exists():
            continue
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue
        with lock:
            if done.exists():
                continue
            spec = space.decode(json.loads(str(row.choices)))
            model = FaceModel.fresh(spec, seed=derive_seed(seed, spec.arch_id))
            size = float(chosen.params.median()) / spec.cost().params
            own = dataclasses.replace(
                settings, learning_rate=settings.learning_rate * size**changed.rate_exponent
            )
            found = trained(model, images, own, faces, seed, teacher, work / stem)
            found |= {"recipe": recipe, "index": int(row.index), "seed": seed}
            partial = work / f"{stem}.partial"
            partial.write_text(json.dumps(found))
            os.replace(partial, done)
            print(stem, found.get("failure") or found["epochs"][-1], flush=True)


def trained(
    model: FaceModel,
    images: FaceImages,
    settings: TrainSettings,
    faces: StudyFaces,
    seed: int,
    teacher: TeacherTargets | None,
    folder: Path,
) -> dict[str, Any]:
    """Figures and processor seconds of one training, epoch by epoch."""
    epochs: list[dict[str, float]] = []
    kept = folder.with_suffix(".epochs")
    if kept.exists():
        epochs = json.loads(kept.read_text())
    clock = time.process_time()

    def after(report: EpochReport) -> None:
        nonlocal clock
        spent = time.process_time() - clock
        row: dict[str, float] = {"epoch": report.epoch, "cpu_s": round(spent, 2)}
        for part, pairs in (("search", faces.search_pairs), ("test", faces.test_pairs)):
            figures = figures_of(verify_on(model, pairs))
            row |= {f"{part}_{name}": round(figures[name], 6) for name in ("log_tar", "auc")}
        del epochs[report.epoch - 1 :]
        epochs.append(row)
        kept.write_text(json.dumps(epochs))
        clock = time.process_time()

    try:
        train(
            model,
            images,
            settings,
            seed=derive_seed(seed, "short", model.description.arch_id),
            on_epoch=after,
            checkpoints=Checkpoints(folder, keep=1),
            teacher=teacher,
        )
    except NasFaceError as failure:
        return {"failure": str(failure), "epochs": epochs}
    Checkpoints(folder).clear()
    kept.unlink(missing_ok=True)
    return {"epochs": epochs}


def of_the_table() -> list[dict[str, Any]]:
    """The study's own short training, as the table has it."""
    rows = []
    for row in networks().to_dict("records"):
        epochs, before = [], 0
        for epoch in (1, 2, 4):
            spent = row["cpu_s"] * (epoch - before) / 4
            figures = {f"search_{name}": row[f"{name}_{epoch}"] for name in ("log_tar", "auc")}
            epochs.append({"epoch": epoch, "cpu_s": spent, **figures})
            before = epoch
        rows.append({"recipe": "study", "index": row["index"], "seed": 0, "epochs": epochs})
    return rows


def compare(work: Path) -> None:
    """Tau of every recipe, at each of its epochs, with the end of the full training."""
    rows = [json.loads(path.read_text()) for path in sorted(work.glob("*.json"))]
    rows += of_the_table()
    judge = {
        row["index"]: row["epochs"][-1]
        for row in rows
        if row["recipe"] == FULL and row["seed"] == 0 and "failure" not in row
    }
    print(f"{len(judge)} networks trained in full")
    lines = []
    for recipe, seed in sorted({(row["recipe"], row["seed"]) for row in rows}):
        own = [
            row
            for row in rows
            if (row["recipe"], row["seed"]) == (recipe, seed)
            and row["index"] in judge
            and "failure" not in row
        ]
        if len(own) < 3:
            continue
        for at, epoch in enumerate(each["epoch"] for each in own[0]["epochs"]):
            line: dict[str, Any] = {"recipe": recipe, "seed": seed, "epoch": epoch, "n": len(own)}
            for figure in ("log_tar", "auc"):
                short = [row["epochs"][at][f"search_{figure}"] for row in own]
                for part in ("search", "test"):
                    full = [judge[row["index"]][f"{part}_{figure}"] for row in own]
                    line[f"tau_{figure}_{part}"] = kendalltau(short, full).statistic
            line["cpu_s"] = np.mean(
                [sum(each["cpu_s"] for each in row["epochs"][: at + 1]) for row in own]
            )
            lines.append(line)
    print(pd.DataFrame(lines).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
