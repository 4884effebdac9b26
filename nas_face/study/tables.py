"""Tables for the terminal. Only types come from the heavy packages, so that listings are quick."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from nas_face.study.compress_record import StepResult
    from nas_face.study.report import Front
    from nas_face.verify import VerificationResult


def front_table(front: "Front") -> Table:
    """Front members, cheapest first; test figures are of identities that chose nothing."""
    table = Table(title="Pareto front", caption=_counts(front), caption_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("architecture")
    for each in front.objectives:
        arrow = "up" if each.direction == "maximize" else "down"
        table.add_column(f"{each.name} ({arrow})", justify="right")
    for name in ("params", "test accuracy", "test EER"):
        table.add_column(name, justify="right")
    for _, row in front.members.iterrows():
        mark = " *" if row["trial"] == front.knee else ""
        table.add_row(
            f"{row['trial']}{mark}",
            str(row["arch_id"]),
            *(_figure(each.name, row[each.name]) for each in front.objectives),
            f"{row['params']:,}",
            f"{row['test_accuracy']:.4f} ± {row['test_accuracy_std']:.4f}",
            f"{row['test_eer']:.4f}",
        )
    return table


def trial_line(trial: "FrozenTrial", objectives: Sequence[str]) -> str:
    """One line for a trial that has just ended."""
    record = trial.user_attrs
    head = f"trial {trial.number} {record.get('arch_id', '')}"
    if "failure" in record:
        return f"{head} failed: {record['failure']}"
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
    return (
        f"{front.n_trials} trials: {complete} complete, {front.n_stopped} stopped at a rung, "
        f"{front.n_failed} failed; * is nearest to the ideal point; "
        "test figures are of identities that the search never saw"
    )
