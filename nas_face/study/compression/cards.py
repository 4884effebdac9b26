"""Threshold cards of an artefact: made on the pairs that decide, checked on those reported."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.data import PairList
from nas_face.deploy.files import write_atomically
from nas_face.deploy.manifest import Threshold
from nas_face.verify import PairIdentities, ThresholdCard, ThresholdCheck, threshold_card


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedPairs:
    """Pairs with a name for cards and reports.

    Attributes:
        name: such as the name of the list's file.
        pairs: the pairs.
    """

    name: str
    pairs: PairList


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FileCard:
    """Thresholds of one file, and what they did on other pairs.

    Attributes:
        card: the thresholds.
        check: the same on pairs that had no say in them.
    """

    card: ThresholdCard
    check: ThresholdCheck

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """As the manifest lists them."""
        held = {each.fmr: each.holds for each in self.check.thresholds}
        return tuple(
            Threshold(
                fmr=each.fmr,
                cosine=each.cosine,
                low=each.cosine_interval.low,
                high=each.cosine_interval.high,
                holds=held.get(each.fmr),
            )
            for each in self.card.thresholds
        )

    def write(self, path: Path) -> None:
        """Write the card, and beside it `.check.json`.

        Raises:
            DeployError: they cannot be written.
        """
        write_atomically(path, self.card.to_json().encode())
        check = json.dumps(self.check.as_dict(), indent=1) + "\n"
        write_atomically(path.with_suffix(".check.json"), check.encode())


def card_name(precision: str, runtime: str) -> str:
    """File of a card in the folder of the artefact."""
    return f"card.{precision}.{runtime}.json"


def card_of_scores(
    scores: NDArray[np.floating],
    judge: NamedPairs,
    report_scores: NDArray[np.floating],
    report: NamedPairs,
    *,
    model: str,
    precision: str,
) -> FileCard:
    """Set the thresholds of one file on pairs, and try them on others.

    Args:
        scores: its cosines on the pairs of `judge`, `(P,)`.
        judge: pairs that set the thresholds.
        report_scores: its cosines on the pairs of `report`, `(Q,)`.
        report: pairs that check them.
        model: name of the file.
        precision: of the file.

    Raises:
        MetricError: scores are not finite.
    """
    pairs = judge.pairs
    labels = pairs.images.labels
    card = threshold_card(
        scores,
        pairs.same,
        model=model,
        precision=precision,
        pairs=judge.name,
        identities=PairIdentities(first=labels[pairs.first], second=labels[pairs.second]),
    )
    check = card.checked_on(report_scores, report.pairs.same, pairs=report.name)
    return FileCard(card=card, check=check)
