"""Tables for the terminal. Only types come from the heavy packages, so that listings are quick."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from nas_face.study.compression.front import CompressedFront
    from nas_face.study.compression.results import Compression, FileResult, StepResult
    from nas_face.study.report import Front
    from nas_face.study.report.cost import SearchCost
    from nas_face.verify import VerificationResult
    from nas_face.verify.groups import GroupReport

GROUP_COLUMNS = {
    "worst_group_tar": "worst\ngroup TAR",
    "test_worst_group_tar": "test worst\ngroup TAR",
}
"""Of a front whose study has attributes."""


def front_table(front: "Front") -> Table:
    """Front members, cheapest first; test figures are of identities that chose nothing."""
    table = Table(title="Pareto front", caption=_counts(front), caption_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("architecture")
    for each in front.objectives:
        table.add_column(f"{each.name}\n{each.direction[:3]}", justify="right")
    names = [each.name for each in front.objectives]
    if "params" not in names:
        table.add_column("params", justify="right")
    of_groups = {
        name: title
        for name, title in GROUP_COLUMNS.items()
        if name not in names and name in front.trials
    }
    for name in ("test\naccuracy", "test\nEER", *of_groups.values()):
        table.add_column(name, justify="right")
    for _, row in front.members.iterrows():
        mark = " *" if row["trial"] == front.knee else ""
        table.add_row(
            f"{row['trial']}{mark}",
            str(row["arch_id"]),
            *(_figure(name, row[name]) for name in names),
            *([] if "params" in names else [_figure("params", row["params"])]),
            f"{row['test_accuracy']:.4f} ± {row['test_accuracy_std']:.4f}",
            f"{row['test_eer']:.4f}",
            *(_figure(name, row[name]) for name in of_groups),
        )
    return table


def hypervolume_line(front: "Front") -> str:
    """What the front dominates, and of what."""
    reference, ideal = front.reference, front.ideal
    box = ", ".join(
        f"{name} {_figure(name, reference[name])} to {_figure(name, ideal[name])}"
        for name in reference
    )
    if not box:
        return "hypervolume: no complete trial yet"
    return (
        f"hypervolume: the front dominates {front.hypervolume:.1%} of the box from the worst "
        "value "
        f"of each objective among complete trials (the reference point) to the best: {box}"
    )


def seconds_table(cost: "SearchCost") -> Table:
    """Seconds of a search by phase, over all its sittings and workers."""
    table = Table(title="Cost: seconds by phase")
    table.add_column("phase")
    for name in ("wall s", "CPU s", "GPU s", "of wall"):
        table.add_column(name, justify="right")
    wall_s = cost.total.wall_s

    def share(part_s: float) -> str:
        return f"{part_s / wall_s:.1%}" if wall_s else ""

    for name, spent in cost.phases.items():
        own = (spent.wall_s, spent.cpu_s, spent.gpu_s)
        table.add_row(name, *(f"{each:,.1f}" for each in own), share(spent.wall_s))
    known = not cost.undivided_wall_s  # of the processors' seconds: all of them
    if not known:
        undivided_s = cost.undivided_wall_s
        table.add_row("not by phase", f"{undivided_s:,.1f}", "", "", share(undivided_s))
    total = cost.total
    others = [f"{each:,.1f}" if known else "" for each in (total.cpu_s, total.gpu_s)]
    table.add_row("total", f"{wall_s:,.1f}", *others, share(wall_s))
    return table


def networks_table(cost: "SearchCost") -> Table:
    """What became of the networks that a search looked at, and how much was trained."""
    table = Table(
        title="Cost: networks",
        caption="outside: of the budget or the rules of the space; refused: over a wall on "
        "latency when timed; trained: to the end; stopped: at a rung; open: under way, or "
        "interrupted; epochs: those trained, of those that the same networks take to the end",
        caption_justify="left",
    )
    share = "" if cost.epoch_share is None else f"\n{cost.epoch_share:.1%}"
    cells = {
        "screened": "?" if cost.n_screened is None else f"{cost.n_screened:,}",
        "proposed": f"{cost.n_proposed:,}",
        "outside": f"{cost.n_outside:,}",
        "repeats": f"{cost.n_repeated:,}",
        "refused": f"{cost.n_refused:,}",
        "trained": f"{cost.n_trained:,}",
        "stopped": f"{cost.n_stopped:,}",
        "failed": f"{cost.n_failed:,}",
        "open": f"{cost.n_open:,}",
        "epochs": f"{cost.epochs:,}\nof {cost.full_epochs:,}{share}",
    }
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    return table


def trial_line(trial: "FrozenTrial", objectives: Sequence[str]) -> str:
    """One line for a trial that has just ended."""
    record = trial.user_attrs
    head = f"trial {trial.number} {record.get('arch_id', '')}"
    if "failure" in record:
        return f"{head} failed: {record['failure']}"
    if "refused" in record:
        return f"{head} not trained: {record['refused']}"
    metrics = record.get("metrics", {})
    figures = ", ".join(
        f"{name} {_figure(name, metrics[name])}" for name in objectives if name in metrics
    )
    stopped = f" stopped after epoch {record['stopped']}:" if "stopped" in record else ":"
    return f"{head}{stopped} {figures} ({metrics.get('wall_s', 0):.1f} s)"


def verification_table(result: "VerificationResult") -> Table:
    """Everything that verification measured."""
    intervals = verification_intervals(result)
    by = "Wilson" if result.bootstrap is None else f"bootstrap by {result.bootstrap.by}"
    table = Table(
        caption=f"intervals of 95 %: {by}; TAR at FAR: share of the genuine pairs accepted at the "
        "lowest threshold that accepts no more than that share of the impostor pairs",
        caption_justify="left",
    )
    table.add_column("")
    table.add_column("")
    for name in ("95 %", "cosine from", "impostors accepted"):
        table.add_column(name, justify="right")
    for name, value in verification_rows(result).items():
        table.add_row(name, value, intervals.get(name, ""))
    for point in result.operating_points:
        table.add_row(
            far_name(point.far),
            f"{point.tar:.4f}",
            intervals.get(far_name(point.far), ""),
            "none" if point.threshold is None else f"{point.threshold:.4f}",
            f"{point.n_false_accepts:,}",
        )
    for refused in result.refused_fars:
        needed = round(1 / refused.far)
        table.add_row(far_name(refused.far), f"refused: takes {needed:,} impostors")
    table.add_row("pairs", f"{result.n_same} same, {result.n_different} different (impostors)")
    return table


def verification_rows(result: "VerificationResult") -> dict[str, str]:
    """The figures of a verification that hold at no certain FAR, by their names in tables."""
    rows = {
        f"accuracy, {len(result.fold_accuracies)} folds": _spread(
            result.accuracy, result.accuracy_std
        ),
        "threshold (cosine)": f"{result.threshold:.4f}",
        "accuracy, no grid": _spread(result.exact_accuracy, result.exact_accuracy_std),
        "AUC": f"{result.auc:.5f}",
        "EER": f"{result.eer:.4f}",
    }
    val = result.insightface_val
    if val is not None:
        rows["InsightFace's val"] = f"{_spread(val.val, val.val_std)} at FAR {val.far:.5f}"
    return rows


def verification_intervals(result: "VerificationResult") -> dict[str, str]:
    """Intervals of a verification's figures, by the names of its table.

    A bootstrap interval without width, where no resample has an error, gives way to Wilson's.
    """
    accuracy = f"accuracy, {len(result.fold_accuracies)} folds"
    found = {accuracy: result.accuracy_interval}
    found |= {far_name(point.far): point.interval for point in result.operating_points}
    if result.bootstrap is not None:
        drawn = {"AUC": result.bootstrap.auc, "EER": result.bootstrap.eer}
        drawn |= {far_name(far): each for far, each in result.bootstrap.tar_at_far}
        if result.bootstrap.accuracy is not None:
            drawn[accuracy] = result.bootstrap.accuracy
        found |= {name: each for name, each in drawn.items() if each.low < each.high}
    return {name: f"{each.low:.4f} to {each.high:.4f}" for name, each in found.items()}


def far_name(far: float) -> str:
    """Row of a table for the true accept rate at a false accept rate."""
    return f"TAR at FAR {far:g}"


def _spread(mean: float, std: float) -> str:
    return f"{mean:.4f} ± {std:.4f}"


def compression_tables(compression: "Compression") -> list[Table]:
    """What every step of a recipe did, what ships, and, where that is not all that was asked, what
    was tried."""
    tables = [_steps_table(compression), _delivered_table(compression)]
    if not compression.reached and compression.tries:
        tables.append(_tries_table(compression))
    return tables


_UNITS = (
    "ms: one image, one thread, in turns with the plain original; x: times faster than that, "
    "which "
    "is the original's fp32 ONNX in ONNX Runtime with PReLU as one node"
)


def _steps_table(compression: "Compression") -> Table:
    """One row a step, of its file on the runtime that decides."""
    rows = compression.results[:-1]
    table = Table(title="Compression, step by step")
    table.add_column("step")
    grouped = any(each.groups for each in rows)
    figures = ("accuracy", "EER", *(("worst\ngroup TAR",) if grouped else ()))
    for name in ("file", "MAdds", "params", "bytes", "judged", *figures, "ms", "x", "cosine"):
        table.add_column(name, justify="left" if name == "file" else "right")
    table.add_column("verdict")
    for each in rows:
        file, worst = each.first, each.worst_group_tar
        table.add_row(
            each.step,
            file_kind(file),
            f"{each.madds:,}",
            f"{each.params:,}",
            f"{file.size_bytes:,}",
            f"{file.judged:.4f}",
            f"{file.accuracy:.4f} ± {file.accuracy_std:.4f}",
            f"{file.eer:.4f}",
            *(["" if worst is None else f"{worst:.4f}"] if grouped else []),
            f"{file.latency_ms:.2f}",
            f"{file.speedup:.2f}",
            f"{file.p01_cosine:.5f}",
            each.verdict.partition(":")[0],
        )
    table.caption = (
        "judged: accuracy on the pairs that decide, which are not those of accuracy and EER; "
        f"{_UNITS}; cosine: first percentile of the cosines of this file's embeddings and those "
        "of the float network in torch, on real crops"
    )
    table.caption_justify = "left"
    return table


def _delivered_table(compression: "Compression") -> Table:
    """Every file that ships beside the plain original."""
    plain = compression.results[0].files[-1]
    table = Table(title="What ships; the first is the one to use")
    table.add_column("file")
    for name in ("bytes", "x smaller", "accuracy", "AUC", "EER", "ms", "x faster", "cosine"):
        table.add_column(name, justify="right")
    for name, file in (
        *((file_kind(each), each) for each in compression.delivered),
        ("plain original", plain),
    ):
        table.add_row(
            name,
            f"{file.size_bytes:,}",
            f"{plain.size_bytes / file.size_bytes:.2f}",
            f"{file.accuracy:.4f} ± {file.accuracy_std:.4f}",
            f"{file.auc:.4f}",
            f"{file.eer:.4f}",
            f"{file.latency_ms:.2f}",
            f"{file.speedup:.2f}",
            f"{file.p01_cosine:.5f}",
        )
    return table


def _tries_table(compression: "Compression") -> Table:
    """What was reached on the way, where the goal was not."""
    table = Table(
        title="What is within reach",
        caption="every setting that was tried; floor: accuracy on the pairs that decide which the "
        "step had to keep; spared: left in float32, beside those that a runtime never quantises",
        caption_justify="left",
    )
    table.add_column("step")
    table.add_column("setting")
    for name in ("MAdds", "bytes", "ms", "x", "judged", "floor"):
        table.add_column(name, justify="right")
    table.add_column("")
    for each in compression.tries:
        table.add_row(
            each.step,
            each.setting,
            f"{each.madds:,}",
            f"{each.file.size_bytes:,}",
            f"{each.file.latency_ms:.2f}",
            f"{each.file.speedup:.2f}",
            f"{each.file.judged:.4f}",
            "" if each.least is None else f"{each.least:.4f}",
            "" if each.least is None else "keeps it" if each.keeps else "breaks it",
        )
    return table


def file_kind(file: "FileResult") -> str:
    """Precision and runtime of a file, in words."""
    runtime = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[file.runtime]
    return f"{file.precision} {runtime}"


def front_change_table(front: "CompressedFront") -> Table:
    """Members of a front before and after compression, in the same units."""
    beaten = [str(row.trial) for row in front.rows if not row.after.on_front]
    wins = f"trial {front.best_after} wins after compression, trial {front.best_before} before"
    if beaten:
        wins += f"; beaten after compression: {', '.join(beaten)}"
    table = Table(
        title="The front before and after compression",
        caption=f"{wins}\njudged: accuracy on the pairs that decide; accuracy: on those that are "
        "reported; ms: one image, one thread, all timed in turns with one network; * is nearest "
        "to the "
        "ideal point of judged accuracy, ms and bytes; (x) is beaten in all three by another "
        "member; ! is short of what the recipe asks",
        caption_justify="left",
    )
    table.add_column("trial", justify="right")
    table.add_column("")
    for name in ("file", "MAdds", "bytes", "judged", "accuracy", "ms"):
        table.add_column(name, justify="right")
    for row in front.rows:
        sides = (("before", row.before, front.best_before), ("after", row.after, front.best_after))
        for side, standing, best in sides:
            mark = " *" if row.trial == best else "" if standing.on_front else " (x)"
            short = " !" if side == "after" and not row.reached else ""
            table.add_row(
                str(row.trial) if side == "before" else "",
                f"{side}{mark}{short}",
                standing.precision,
                f"{standing.madds:,}",
                f"{standing.size_bytes:,}",
                f"{standing.judged:.4f}",
                f"{standing.accuracy:.4f}",
                f"{standing.latency_ms:.2f}",
            )
        table.add_section()
    return table


def group_change_tables(before: "StepResult", after: "StepResult") -> list[Table]:
    """What a compression did to every group of people, a table for each attribute."""
    pairs = zip(before.groups, after.groups, strict=True)
    return [_group_change_table(one, other, after.step) for one, other in pairs]


def _group_change_table(before: "GroupReport", after: "GroupReport", step: str) -> Table:
    table = Table(
        title=f"Groups by {before.attribute}: original and {step}, each at its own threshold "
        f"of FAR {before.far:g} over all pairs (cosine {before.threshold:.4f} and "
        f"{after.threshold:.4f})",
        title_justify="left",
        caption=_group_remarks(before, after),
        caption_justify="left",
    )
    table.add_column(before.attribute)
    for name in ("same", "TAR\nbefore", "TAR\nafter", "TAR\nchange"):
        table.add_column(name, justify="right")
    for name in ("different", "FMR\nbefore", "FMR\nafter"):
        table.add_column(name, justify="right")
    rows = [(*before.groups, before.overall), (*after.groups, after.overall)]
    for one, other in zip(*rows, strict=True):
        change = "" if one.tar is None or other.tar is None else f"{other.tar - one.tar:+.4f}"
        table.add_row(
            one.name,
            f"{one.n_same:,}",
            _rate(one.tar),
            _rate(other.tar),
            change,
            f"{one.n_different:,}",
            _rate(one.fmr),
            _rate(other.fmr),
        )
    gaps = (before.tar_gap, after.tar_gap)
    widened = "" if gaps[0] is None or gaps[1] is None else f"{gaps[1] - gaps[0]:+.4f}"
    ratios = (
        "" if each is None else f"{each:.3g} x" for each in (before.fmr_ratio, after.fmr_ratio)
    )
    table.add_section()
    table.add_row("gap", "", *map(_rate, gaps), widened, "", *ratios)
    return table


def _group_remarks(before: "GroupReport", after: "GroupReport") -> str:
    parts = ["gap: best less worst TAR, worst FMR by best"]
    worst = [each.worst_tar for each in (before, after)]
    if worst[0] is not None and worst[1] is not None:
        parts.append(f"worst TAR: {worst[0].name} before, {worst[1].name} after")
    small_for_fmr = dict.fromkeys((*before.too_small_for_fmr, *after.too_small_for_fmr))
    for figure, names in (("TAR", before.too_small_for_tar), ("FMR", small_for_fmr)):
        if names:
            parts.append(f"too few pairs to compare {figure}: {', '.join(names)}")
    return "; ".join(parts)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.4f}"


def _figure(name: str, value: float) -> str:
    if name in ("madds", "params", "size_bytes", "peak_activations"):
        return f"{value:,.0f}"
    return f"{value:.3f}" if name == "latency_ms" else f"{value:.4f}"


def _counts(front: "Front") -> str:
    complete = len(front.trials)
    refused = f"{front.n_refused} refused for their latency, " if front.n_refused else ""
    return (
        f"{front.n_trials} trials: {complete} complete, {front.n_stopped} stopped at a rung, "
        f"{refused}{front.n_failed} failed; * is nearest to the ideal point; "
        "test figures are of identities that the search never saw\n" + hypervolume_line(front)
    )
