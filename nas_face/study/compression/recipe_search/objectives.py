"""What a search for a recipe looks for, and the names under which trials keep it."""

from typing import Final

from nas_face.search import Objective

JUDGED: Final = "judged"
LATENCY: Final = "latency_ms"
SIZE: Final = "size_bytes"

OBJECTIVES: Final = (
    Objective(
        name=JUDGED,
        direction="maximize",
        origin="trained",
        title="accuracy on the pairs that decide",
    ),
    Objective(
        name=LATENCY, direction="minimize", origin="timed", title="latency, ms (one thread)"
    ),
    Objective(name=SIZE, direction="minimize", origin="timed", title="file, bytes"),
)
"""Axes of the front of recipes."""
