"""What is a teacher worth to a small network that has little data?

MobileFaceNet is trained on FACES, less the people of the pairs, by 1. ArcFace alone, 2.
distillation from SFace alone, without labels, 3. both: the same images, epochs, batches, schedule
and seeds. It is judged on LFW's pairs, mirrored crops added. Trainings that are done are model
folders, and those under way have checkpoints, so the work goes on where it was stopped:

    python benchmarks/distillation.py --data FACES --data LFW --exclude LIST --pairs PAIRS \
        --images LFW --work WORK
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nas_face.study.devices import device_kind, device_of
from nas_face.study.training import TrainingJob, train_network, training_job
from nas_face.study.verification.verify import PairSource
from nas_face.train import EpochReport

STUDY = "studies/faces_48.yaml"
ANGULAR = {"full_training.teacher": "sface", "full_training.distil": ["angular"]}
ARMS: Mapping[str, Mapping[str, Any]] = {
    "arcface": {},
    "sface": {**ANGULAR, "full_training.loss": None},
    "both": ANGULAR,
}
# Found better than mirroring alone for the label-free arm, on people held out of the training
# faces: 14 epochs at 48 x 48, accuracy 0.791 against 0.777, AUC 0.869 against 0.855, one seed.
AUGMENT = {
    "shift": 2,
    "rotate": 6.0,
    "zoom": 0.06,
    "brightness": 0.25,
    "contrast": 0.25,
    "saturation": 0.25,
    "grey": 0.1,
    "erase": 0.3,
}


def main() -> None:
    """Parse, train what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="faces; may be repeated")
    parser.add_argument("--exclude", help="text file of identities to leave out")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="root of the images that the pairs name")
    parser.add_argument("--work", type=Path, required=True, help="folder of trainings")
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--network", default="mobilefacenet_128")
    parser.add_argument("--input-size", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--margin", type=float, default=0.5)
    parser.add_argument("--scale", type=float, default=64.0)
    parser.add_argument("--augment", action="store_true", help="alter images, see AUGMENT")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        for arm in arguments.arms:
            rows.append({"arm": arm, "seed": seed, **figures(arguments, arm, seed)})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).groupby("arm", sort=False)[["accuracy", "auc", "eer"]]
    print(table.agg(["mean", "std", "count"]).round(4).to_string())


def figures(arguments: argparse.Namespace, arm: str, seed: int) -> dict[str, float]:
    """Figures of one training, from its folder where it is done."""
    size, epochs = arguments.input_size, arguments.epochs
    name = f"{arguments.network}-{size}-{epochs}-{arm}-{seed}"
    folder = arguments.work / (f"{name}-altered" if arguments.augment else name)
    done = folder / "figures.json"
    if done.exists():
        found: dict[str, float] = json.loads(done.read_text())
        return found

    def told(report: EpochReport) -> None:
        print(
            f"{folder.name} epoch {report.epoch} loss {report.loss:.3f} {report.pace}", flush=True
        )

    job = job_of(arguments, arm, seed, folder)
    result = train_network(job, told, note=lambda line: print(line, flush=True))
    found = {
        "accuracy": result.accuracy,
        "auc": result.auc,
        "eer": result.eer,
        "images": len(job.faces.train),
        "people": job.faces.train.n_identities,
    }
    done.write_text(json.dumps({key: float(np.round(found[key], 6)) for key in found}))
    return found


def job_of(arguments: argparse.Namespace, arm: str, seed: int, folder: Path) -> TrainingJob:
    """The training of an arm."""
    overrides = {
        "data.source": arguments.data,
        "data.exclude": arguments.exclude,
        "input_size": arguments.input_size,
        "seed": seed,
        "threads": arguments.threads,
        "full_training.epochs": arguments.epochs,
        "full_training.batch_size": arguments.batch_size,
        "full_training.learning_rate": arguments.learning_rate,
        "full_training.loss": {
            "kind": "arcface",
            "margin": arguments.margin,
            "scale": arguments.scale,
        },
        **ARMS[arm],
        **({"full_training.augment": AUGMENT} if arguments.augment else {}),
    }
    pairs = PairSource(name=str(arguments.pairs), root=arguments.images)
    job = training_job(arguments.network, None, STUDY, overrides, folder, pairs=pairs)
    return replace(
        job,
        teachers=arguments.work / "teachers",
        device=device_of(device_kind(arguments.device), local_rank=0),
    )


if __name__ == "__main__":
    main()
