"""Tables of `nas-face verify` beside that of one model on pairs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from nas_face.study.tables import far_name, verification_intervals, verification_rows

if TYPE_CHECKING:
    from nas_face.verify import Interval, ThresholdCard, ThresholdCheck, VerificationResult
    from nas_face.verify.gallery import GalleryResult
    from nas_face.verify.groups import GroupReport
    from nas_face.verify.templates import TemplateResult


def comparison_table(results: "Mapping[str, VerificationResult]") -> Table:
    """Several models on the same pairs, a column each."""
    one = next(iter(results.values()))
    caption = "accuracy: ± its spread over the folds; TAR at FAR: with its interval of 95 %"
    if one.refused_fars:
        caption += "; refused: too few impostor pairs for one of them to be accepted"
    table = Table(caption=caption, caption_justify="left")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    columns = []
    for result in results.values():
        intervals = verification_intervals(result)
        column = verification_rows(result)
        for point in result.operating_points:
            name = far_name(point.far)
            column[name] = f"{point.tar:.4f}  {intervals[name]}"
        columns.append(column)
    for name in columns[0]:
        table.add_row(name, *(column.get(name, "") for column in columns))
    for refused in one.refused_fars:
        table.add_row(far_name(refused.far), *["refused"] * len(results))
    table.add_row("pairs", f"{one.n_same} same, {one.n_different} different")
    return table


def card_table(card: "ThresholdCard", check: "ThresholdCheck | None") -> Table:
    """Thresholds of a model, and what they did on other pairs."""
    table = Table(
        title=f"Thresholds of {card.model} ({card.precision}) by {card.pairs}: "
        f"{card.n_same:,} same, {card.n_different:,} different",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("FMR", "cosine from", "95 %", "distance to", "TMR", "95 %"):
        table.add_column(name, justify="right")
    if check is not None:
        table.caption = (
            f"checked on {check.pairs}: {check.n_same:,} same, {check.n_different:,} different"
        )
        for name in ("FMR\nchecked", "95 %", "holds", "TMR\nchecked"):
            table.add_column(name, justify="right")
    checked = {each.fmr: each for each in check.thresholds} if check is not None else {}
    for each in card.thresholds:
        cells = [
            f"{each.fmr:g}",
            f"{each.cosine:.4f}",
            _interval(each.cosine_interval),
            f"{each.distance:.4f}",
            f"{each.tmr:.4f}",
            _interval(each.tmr_interval),
        ]
        if each.fmr in checked:
            found = checked[each.fmr]
            cells += [
                f"{found.observed_fmr:.2g}",
                f"{found.fmr_interval.low:.2g} to {found.fmr_interval.high:.2g}",
                "yes" if found.holds else "too many" if found.too_many else "fewer",
                f"{1 - found.observed_fnmr:.4f}",
            ]
        table.add_row(*cells)
    for refused in card.refused:
        table.add_row(f"{refused.fmr:g}", "refused")
    return table


def card_remarks(card: "ThresholdCard") -> list[str]:
    """Why rates have no threshold."""
    return [f"no threshold: {each.reason}" for each in card.refused]


def group_table(report: "GroupReport", model: str) -> Table:
    """Groups of people at the threshold of all pairs."""
    threshold = (
        "of the best accuracy" if report.far is None else f"of FAR {report.far:g} over all pairs"
    )
    table = Table(
        title=f"Groups by {report.attribute}, {model}: at cosine {report.threshold:.4f}, the "
        f"threshold {threshold}",
        title_justify="left",
        caption=_gaps(report),
        caption_justify="left",
    )
    table.add_column(report.attribute)
    for name in ("same", "TAR", "95 %", "different", "FMR", "95 %", "accuracy"):
        table.add_column(name, justify="right")
    for each in (*report.groups, report.cross_group, report.overall):
        table.add_row(
            each.name,
            f"{each.n_same:,}",
            "" if each.tar is None else f"{each.tar:.4f}",
            "" if each.tar_interval is None else _interval(each.tar_interval),
            f"{each.n_different:,}",
            "" if each.fmr is None else f"{each.fmr:.4f}",
            "" if each.fmr_interval is None else _interval(each.fmr_interval),
            "" if each.accuracy is None else f"{each.accuracy:.4f}",
        )
    return table


def _gaps(report: "GroupReport") -> str:
    parts = []
    if report.worst_tar is not None and report.tar_gap is not None:
        parts.append(f"worst TAR: {report.worst_tar.name}, {report.tar_gap:.4f} below the best")
    if report.worst_fmr is not None and report.fmr_ratio is not None:
        parts.append(f"worst FMR: {report.worst_fmr.name}, {report.fmr_ratio:.3g} times the best")
    for figure, small in (("TAR", report.too_small_for_tar), ("FMR", report.too_small_for_fmr)):
        if small:
            parts.append(f"too few pairs to compare {figure}: {', '.join(small)}")
    return "; ".join(parts)


def gallery_table(results: "Mapping[str, GalleryResult]") -> Table:
    """All faces against all others, a column a model."""
    table = Table(title="All against all", title_justify="left")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    first = next(iter(results.values()))
    for far in first.fars:
        cells = (
            f"{each.tar_at(far):.4f}  from {each.threshold_at(far):.4f}"
            for each in results.values()
        )
        table.add_row(far_name(far), *cells)
    found = [each.identification for each in results.values() if each.identification is not None]
    if found:
        table.add_row("rank 1", *(f"{each.rank_1:.4f}" for each in found))
        table.add_row(
            "rank 1, a mate at a time", *(f"{each.rank_1_by_mate:.4f}" for each in found)
        )
    table.add_row("pairs", f"{first.n_genuine:,} same, {first.n_impostor:,} different")
    return table


def template_table(results: "Mapping[str, TemplateResult]") -> Table:
    """Pairs of templates, a column a model."""
    table = Table(
        title="Templates",
        title_justify="left",
        caption="in brackets: as InsightFace reads it, at the nearest point of the ROC, which no "
        "number of impostor pairs stops",
        caption_justify="left",
    )
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    first = next(iter(results.values()))
    for far, _ in first.insightface_tar_at_far:
        cells = []
        for each in results.values():
            own = dict(each.tar_at_far)
            mine = f"{own[far]:.4f}" if far in own else "refused"
            cells.append(f"{mine} ({dict(each.insightface_tar_at_far)[far]:.4f})")
        table.add_row(far_name(far), *cells)
    table.add_row("templates", f"{first.n_templates:,} of {first.n_images:,} images")
    table.add_row("pairs", f"{first.n_same:,} same, {first.n_different:,} different")
    return table


def _interval(interval: "Interval") -> str:
    return f"{interval.low:.4f} to {interval.high:.4f}"
