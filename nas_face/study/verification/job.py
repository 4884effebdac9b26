"""All that one call of `nas-face verify` asks for, and what it came to."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from rich.table import Table

from nas_face.data import PairList
from nas_face.data.formats.attributes import read_attributes
from nas_face.data.formats.opening import format_of
from nas_face.errors import ConfigError
from nas_face.study.files import write_text
from nas_face.study.opening import OpenedModel
from nas_face.study.tables import verification_table
from nas_face.study.verification.embedding import OnImages
from nas_face.study.verification.tables import (
    card_remarks,
    card_table,
    comparison_table,
    gallery_table,
    group_table,
    template_table,
)
from nas_face.study.verification.trained_on import require_strangers
from nas_face.study.verification.verify import (
    PairSource,
    Verified,
    card_of,
    check_card,
    groups_of,
    verify_gallery,
    verify_model,
    verify_template_folder,
)
from nas_face.verify import ThresholdCard, ThresholdCheck
from nas_face.verify.gallery import GalleryResult
from nas_face.verify.groups import GroupReport
from nas_face.verify.templates import TemplateResult


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationJob:
    """What to do with each model.

    Attributes:
        models: at least one; with `card` or `keep`, one.
        pairs: to verify on, if any.
        gallery: faces to compare all against all, if any.
        templates: folder of an IJB-style set, if any.
        groups: CSV of attributes, for figures by group on the pairs.
        group_far: FAR over all pairs that sets the one threshold of all groups, in (0, 1].
        card: file to write thresholds by the pairs to.
        card_check: other pairs, to check them on.
        flip: add the embeddings of mirrored crops.
        resample: find intervals by bootstrap.
        keep: `.npy` file for the embeddings of the pairs, or of the gallery where there are none.
        threads: of the gallery's comparison; all processors by default.
        allow_overlap: whether people that a model was trained on may judge it.
    """

    models: tuple[OpenedModel, ...]
    pairs: PairSource | None = None
    gallery: Path | None = None
    templates: Path | None = None
    groups: Path | None = None
    group_far: float = 0.01
    card: Path | None = None
    card_check: PairSource | None = None
    flip: bool = True
    resample: bool = False
    keep: Path | None = None
    threads: int | None = None
    allow_overlap: bool = False


@final
@dataclass(slots=True, kw_only=True)
class VerificationReport:
    """What was found, by the names of models.

    Attributes:
        verified: on the pairs, in the order of the models.
        galleries: all against all.
        templates: pairs of templates.
        groups: reports by attribute.
        card: thresholds.
        card_file: where they were written.
        check: the thresholds on other pairs.
        n_shared: identities that the other pairs share with the first, by name.
    """

    verified: list[Verified] = field(default_factory=list)
    galleries: dict[str, GalleryResult] = field(default_factory=dict)
    templates: dict[str, TemplateResult] = field(default_factory=dict)
    groups: dict[str, tuple[GroupReport, ...]] = field(default_factory=dict)
    card: ThresholdCard | None = None
    card_file: Path | None = None
    check: ThresholdCheck | None = None
    n_shared: int = 0

    def tables(self) -> list[Table]:
        """For the terminal."""
        found = []
        if len(self.verified) == 1:
            found.append(verification_table(self.verified[0].result))
        elif self.verified:
            results = {each.model.name: each.result for each in self.verified}
            found.append(comparison_table(results))
        if self.card is not None:
            found.append(card_table(self.card, self.check))
        for name, reports in self.groups.items():
            found += [group_table(each, name) for each in reports]
        if self.galleries:
            found.append(gallery_table(self.galleries))
        if self.templates:
            found.append(template_table(self.templates))
        return found

    def remarks(self) -> list[str]:
        """Lines of talk: what it took, and what is missing."""
        lines = []
        for each in self.verified:
            n, seconds = each.n_embedded, each.seconds
            if n:
                speed = f"{n:,} images in {seconds:.1f} s, {n / max(seconds, 1e-9):,.0f} a second"
                lines.append(f"{each.model.name}: embedded {speed}")
            else:
                lines.append(f"{each.model.name}: embeddings were kept, none computed")
        if self.card is not None:
            lines += card_remarks(self.card)
            lines.append(f"written: {self.card_file}")
        if self.check is not None and self.n_shared:
            lines.append(
                f"{self.check.pairs}: {self.n_shared} identities of the check are also in "
                "those that made the thresholds; other people would be a stricter check"
            )
        return lines

    def as_dict(self) -> dict[str, object]:
        """For JSON: of one model its figures, of several one entry each."""
        by_name: dict[str, dict[str, object]] = {}
        for each in self.verified:
            by_name.setdefault(each.model.name, {}).update(each.result.as_dict())
        for name, groups in self.groups.items():
            by_name[name]["groups"] = [each.as_dict() for each in groups]
        for name, gallery in self.galleries.items():
            by_name.setdefault(name, {})["gallery"] = gallery.as_dict()
        for name, templates in self.templates.items():
            by_name.setdefault(name, {})["templates"] = templates.as_dict()
        if len(by_name) != 1:
            return {"models": by_name}
        (data,) = by_name.values()
        if self.card is not None:
            data["card"] = json.loads(self.card.to_json())
        if self.check is not None:
            data["card_check"] = self.check.as_dict()
        return data


def run_job(job: VerificationJob, on_images: OnImages | None = None) -> VerificationReport:
    """Verify all models on all that is asked for; a card is written.

    Raises:
        DataError: faces or lists are missing or broken, or people known to a model.
        MetricError: embeddings are zero or not finite.
        ConfigError: an option does not fit.
    """
    if job.card_check is not None and job.card_check == job.pairs:
        raise ConfigError(
            f"--card-check: {job.card_check.title} made the thresholds; give other pairs"
        )
    report = VerificationReport()
    table = None if job.groups is None else read_attributes(job.groups)
    if job.gallery is not None:
        format_of(job.gallery)  # what is missing shows before any work
    loaded: dict[tuple[int, int], PairList] = {}
    for model in job.models:
        size = (model.embedder.height, model.embedder.width)
        if job.pairs is not None:
            if size not in loaded:
                loaded[size] = job.pairs.load(*size)
            if not job.allow_overlap:
                images = loaded[size].images
                require_strangers(images, where=job.pairs.name, folder=model.folder)
            verified = verify_model(
                model,
                loaded[size],
                flip=job.flip,
                resample=job.resample,
                keep=job.keep,
                on_images=on_images,
            )
            report.verified.append(verified)
            if table is not None:
                report.groups[model.name] = groups_of(verified, table, far=job.group_far)
            if job.card is not None:
                _make_card(job, job.card, verified, report, on_images)
        if job.gallery is not None:
            report.galleries[model.name] = verify_gallery(
                model,
                job.gallery,
                flip=job.flip,
                threads=job.threads,
                keep=job.keep if job.pairs is None else None,
                on_images=on_images,
                allow_overlap=job.allow_overlap,
            )
        if job.templates is not None:
            report.templates[model.name] = verify_template_folder(
                model, job.templates, flip=job.flip, on_images=on_images
            )
    return report


def _make_card(
    job: VerificationJob,
    path: Path,
    verified: Verified,
    report: VerificationReport,
    on_images: OnImages | None,
) -> None:
    assert job.pairs is not None
    card = card_of(verified, job.pairs.title)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, card.to_json())
    report.card, report.card_file = card, path
    if job.card_check is not None:
        model = verified.model
        others = job.card_check.load(model.embedder.height, model.embedder.width)
        check = check_card(
            card, model, others, job.card_check.title, flip=job.flip, on_images=on_images
        )
        write_text(path.with_suffix(".check.json"), json.dumps(check.as_dict(), indent=1) + "\n")
        report.check = check
        known = set(verified.pairs.images.identities)
        report.n_shared = len(known.intersection(others.images.identities))
