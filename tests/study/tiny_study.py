"""A study small enough for tests: 96 designs, 32 x 32 images, two epochs, the built-in faces."""

from pathlib import Path
from typing import Any

import yaml

SPACE: dict[str, Any] = {
    "name": "tiny",
    "input_shape": [3, 112, 112],
    "stem": [{"kind": "conv_unit", "out_channels": {"choice": [8, 16]}, "stride": 2}],
    "stages": [
        {
            "out_channels": {"choice": [8, 16, 24]},
            "stride": 2,
            "repeats": {"choice": [1, 2]},
            "block": {
                "kind": "inverted_residual",
                "expansion": {"choice": [1, 2]},
            },
        },
    ],
    "head": {
        "kind": "pooled_linear",
        "embedding_size": {"choice": [32, 64]},
        "tail_channels": {"choice": [32, 64]},
    },
}

TRAINING = {
    "epochs": 2,
    "batch_size": 25,
    "learning_rate": 0.1,
    "loss": {"kind": "cosface", "margin": 0.2, "scale": 16.0},
}

STUDY: dict[str, Any] = {
    "name": "tiny",
    "space": "space.yaml",
    "input_size": 32,
    "objectives": ["log_tar", "madds"],
    "budget": {"max_madds": "300k"},
    "trials": 5,
    "rungs": {"epochs": [1], "keep": 0.5, "n_warmup": 2},
    "training": TRAINING,
    "full_training": TRAINING,
}


def write_study(folder: Path, changes: dict[str, Any] | None = None, space: Any = SPACE) -> Path:
    """Write `study.yaml` and `space.yaml`; a change to none takes the key out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    whole = {**STUDY, **(changes or {})}
    study = {key: value for key, value in whole.items() if value is not None}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path
