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
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau

from nas_face.errors import NasFaceError
from nas_face.nn import FaceModel
from nas_face.search import derive_seed
from nas_face.space import load_space
from nas_face.study.config import StudyConfig, load_study
from nas_face.study.evaluate import figures_of, verify_on
from nas_face.study.faces import StudyFaces, load_faces
from nas_face.train import EpochReport, TrainSettings, train

STUDY = Path("studies/faces_48.yaml")
TABLE = Path("studies/faces_48_networks.csv")
N_NETWORKS = 24
FULL = "full"

# What each recipe changes of the study's short training, and the side of its images.
RECIPES: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    FULL: (48, {"epochs": 16, "batch_size": 64, "margin": 0.35, "scale": 32.0}),
    "four": (48, {}),
}


def main() -> None:
    """Parse, train or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["train", "compare"])
    parser.add_argument("recipes", nargs="*", choices=[*RECIPES, []], metavar="RECIPE")
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
    side, changes = RECIPES[recipe]
    settings = dataclasses.replace(config.training, **changes)
    faces = load_faces(config.data, height=side, width=side, seed=config.seed)
    work.mkdir(parents=True, exist_ok=True)
    space = load_space(Path(config.space)).with_input_size(side, side)
    for row in networks().itertuples():
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
            found = trained(model, settings, faces, seed, work / f"{stem}.pt")
            found |= {"recipe": recipe, "index": int(row.index), "seed": seed}
            partial = work / f"{stem}.partial"
            partial.write_text(json.dumps(found))
            os.replace(partial, done)
            print(stem, found.get("failure") or found["epochs"][-1], flush=True)


def trained(
    model: FaceModel, settings: TrainSettings, faces: StudyFaces, seed: int, checkpoint: Path
) -> dict[str, Any]:
    """Figures and processor seconds of one training, epoch by epoch."""
    epochs: list[dict[str, float]] = []
    kept = checkpoint.with_suffix(".epochs")
    if checkpoint.exists() and kept.exists():
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
            faces.split.train,
            settings,
            seed=derive_seed(seed, "short", model.description.arch_id),
            on_epoch=after,
            checkpoint=checkpoint,
        )
    except NasFaceError as failure:
        return {"failure": str(failure), "epochs": epochs}
    checkpoint.unlink(missing_ok=True)
    kept.unlink(missing_ok=True)
    return {"epochs": epochs}


def compare(work: Path) -> None:
    """Tau of every recipe, at each of its epochs, with the end of the full training."""
    rows = [json.loads(path.read_text()) for path in sorted(work.glob("*.json"))]
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
        for epoch in range(1, 1 + len(own[0]["epochs"])):
            line: dict[str, Any] = {"recipe": recipe, "seed": seed, "epoch": epoch, "n": len(own)}
            for figure in ("log_tar", "auc"):
                short = [row["epochs"][epoch - 1][f"search_{figure}"] for row in own]
                for part in ("search", "test"):
                    full = [judge[row["index"]][f"{part}_{figure}"] for row in own]
                    line[f"tau_{figure}_{part}"] = kendalltau(short, full).statistic
            line["cpu_s"] = np.mean(
                [sum(each["cpu_s"] for each in row["epochs"][:epoch]) for row in own]
            )
            lines.append(line)
    print(pd.DataFrame(lines).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
