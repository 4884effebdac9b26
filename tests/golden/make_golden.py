"""Writes `arch_ids.json`. Run it only where an identity or a cost is meant to change: identities
in finished studies, and models on disk, are found by what stands there."""

import json
from pathlib import Path
from typing import Any

from nas_face.arch.zoo import NETWORKS

FILE = Path(__file__).with_name("arch_ids.json")


def golden() -> dict[str, dict[str, Any]]:
    """Identity and cost of every network of the zoo."""
    table = {}
    for name, entry in sorted(NETWORKS.items()):
        cost = entry.spec.cost()
        table[name] = {
            "arch_id": entry.spec.arch_id,
            "madds": cost.madds,
            "params": cost.params,
            "folded_params": cost.folded_params,
            "peak_activations": cost.peak_activations,
        }
    return table


if __name__ == "__main__":
    FILE.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
