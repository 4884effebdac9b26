"""Tables for the terminal. Only types come from the heavy packages, so that listings are quick."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from nas_face.study.compress_record import StepResult
    from nas_face.study.report import Front
    from nas_face.study.report.cost import SearchCost
    from nas_face.verify import VerificationResult


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
    for name in ("test\naccuracy", "test\nEER"):
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
    table = Table(show_header=False)
    folds = len(result.fold_accuracies)
    rows = [
        (f"accuracy, {folds} folds", f"{result.accuracy:.4f} ± {result.accuracy_std:.4f}"),
        ("threshold (cosine)", f"{result.threshold:.4f}"),
        ("AUC", f"{result.auc:.5f}"),
        ("EER", f"{result.eer:.4f}"),
        *((f"TAR at FAR {far:g}", f"{tar:.4f}") for far, tar in result.tar_at_far),
        ("pairs", f"{result.n_same} same, {result.n_different} different"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def compression_table(results: "Sequence[StepResult]") -> Table:
    """What every step of a recipe did, all verified on the same pairs."""
    table = Table(title="Compression, step by step")
    table.add_column("step")
    for name in ("MAdds", "params", "bytes", "accuracy", "AUC", "EER", "ms", "x", "cosine"):
        table.add_column(name, justify="right")
    for each in results:
        table.add_row(
            each.step,
            f"{each.madds:,}",
            f"{each.params:,}",
            f"{each.size_bytes:,}",
            f"{each.accuracy:.4f} ± {each.accuracy_std:.4f}",
            f"{each.auc:.4f}",
            f"{each.eer:.4f}",
            f"{each.latency_ms:.2f}",
            f"{each.speedup:.2f}",
            "" if each.cosine is None else f"{each.cosine:.5f}",
        )
    table.caption = (
        "bytes: of the ONNX file; ms: one image, one thread, ONNX Runtime, in turns with the "
        "original; x: times faster than the original; cosine: smallest between the embeddings of "
        "this row's file and of the torch network it came from, on real crops"
    )
    table.caption_justify = "left"
    return table


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
