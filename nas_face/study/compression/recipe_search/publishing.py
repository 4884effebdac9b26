"""What a search leaves beside its artefact: the front, and the best recipe."""

import json
from pathlib import Path
from typing import Any, Final

import yaml

from nas_face.arch.codec import to_data
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.recipe_search.results import RecipeFront
from nas_face.study.files import write_text

FRONT_FILE: Final = "front.json"
BEST_FILE: Final = "best_recipe.yaml"


def write_front(out: Path, front: RecipeFront) -> None:
    """Write `front.json`."""
    write_text(out / FRONT_FILE, json.dumps(front.as_dict(), indent=1) + "\n")


def write_best(out: Path, recipe: Recipe, front: RecipeFront) -> None:
    """Write `best_recipe.yaml`, below a remark on what the recipe came to."""
    best, given = front.best, front.original
    assert best is not None
    raw: dict[str, Any] = to_data(recipe)
    raw["steps"] = [{"kind": each["kind"], **each} for each in raw["steps"]]
    remark = (
        f"# The best of {front.n_trials} recipes that nas-face compress --search tried: trial "
        f"{best.trial}.\n"
        f"# On the pairs that decide: {best.judged:.2%} ({given['judged']:.2%} before), "
        f"{best.latency_ms:.2f} ms ({given['latency_ms']:.2f}),\n"
        f"# {best.size_bytes:,} bytes ({given['size_bytes']:,.0f}).\n"
    )
    write_text(out / BEST_FILE, remark + yaml.safe_dump(raw, sort_keys=False))
