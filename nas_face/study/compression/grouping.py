"""Figures of groups of people behind a step, kept beside its result."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from nas_face.deploy import open_model_file
from nas_face.study.compression.record import (
    GROUPS_FILE,
    CompressionFaces,
    StepGroups,
    known_groups,
)
from nas_face.study.compression.results import StepResult
from nas_face.study.evaluate import embed_pairs
from nas_face.study.files import write_text
from nas_face.verify import cosine_scores


def with_groups(
    result: StepResult, folder: Path, file: Path, faces: CompressionFaces
) -> StepResult:
    """A result with the figures of groups, found anew where the folder has none of these groups.

    Args:
        result: of the step.
        folder: of the step.
        file: that the figures are of.
        faces: with the groups, or without.
    """
    if faces.groups is None:
        return result
    reports = known_groups(folder, faces.groups)
    if reports is None:
        embeddings = embed_pairs(open_model_file(file), faces.pairs)
        scores = cosine_scores(embeddings, faces.pairs.first, faces.pairs.second)
        reports = faces.groups.reports(scores)
        kept = StepGroups(digest=faces.groups.digest, reports=reports)
        write_text(folder / GROUPS_FILE, json.dumps(asdict(kept), indent=1) + "\n")
    return replace(result, groups=reports)
