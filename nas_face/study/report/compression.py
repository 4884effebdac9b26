"""What a compression came to, as a page: before and after, step by step, and what was tried."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.table import Table

from nas_face.deploy.files import write_atomically
from nas_face.errors import DeployError
from nas_face.study.compression.cards import FileCard
from nas_face.study.compression.results import StepResult, Try
from nas_face.study.compression.state import LayerLossRow
from nas_face.study.report.compression_plots import (
    original_of,
    plot_layers,
    plot_steps,
    plot_trade,
    way_of,
)
from nas_face.study.report.html import STYLE, section
from nas_face.study.verification.tables import card_table
from nas_face.verify import wilson_interval

REPORT_FILE: Final = "report.html"
PICTURES_FOLDER: Final = "report"
# A light page wherever it is shown: the pictures are light.
_STYLE: Final = f"""{STYLE}
body {{ background: #fff; max-width: 86rem; }} .wide td {{ white-space: nowrap; }}
img {{ max-width: min(100%, 66rem); height: auto; }}
"""


def write_compression_report(
    folder: Path,
    results: Sequence[StepResult],
    *,
    title: str,
    n_pairs: int,
    cards: Mapping[tuple[str, str], FileCard],
    tries: Sequence[Try] = (),
    layers: Sequence[LayerLossRow] = (),
    shortfalls: Sequence[str] = (),
) -> Path:
    """Write `report.html`, which needs nothing else, and its pictures into `report`.

    Args:
        folder: of the artefact.
        results: of every step, the original first, what ships last.
        title: of the page.
        n_pairs: on which accuracy was measured, for its interval.
        cards: of the files that ship, by precision and runtime.
        tries: what was tried on the way.
        layers: what each layer loses by int8.
        shortfalls: what was asked for and not reached, a line each.

    Returns:
        Path of the page.

    Raises:
        DeployError: something cannot be written.
    """
    pictures = folder / PICTURES_FOLDER
    drawn = {"Step by step": pictures / "steps.png", "Accuracy by latency": pictures / "trade.png"}
    try:
        plot_steps(results, drawn["Step by step"], n_pairs=n_pairs)
        plot_trade(results, tries, drawn["Accuracy by latency"])
        if layers:
            drawn["What each layer loses"] = pictures / "layers.png"
            plot_layers(layers, drawn["What each layer loses"])
        shown = "".join(_picture(name, path) for name, path in drawn.items())
    except OSError as failure:
        raise DeployError(f"{pictures}: cannot be written ({failure.strerror})") from failure
    tables = [files_table(results, n_pairs=n_pairs), steps_table(results)]
    tables += [card_table(each.card, each.check) for each in cards.values()]
    if tries:
        tables.append(tries_table(tries))
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(headline(results))}</p>"
        f"{_shortfalls(shortfalls)}"
        f"{section(tables[0])}{shown}{''.join(map(section, tables[1:]))}"
        f"{_layers_in_float(layers)}</body></html>"
    )
    path = folder / REPORT_FILE
    write_atomically(path, page.encode())
    return path


def headline(results: Sequence[StepResult]) -> str:
    """Before and after in one sentence: the plain original, and the first file of the last row."""
    before, after = original_of(results), results[-1].first
    points = 100 * (after.accuracy - before.accuracy)
    return (
        f"From {before.latency_ms:.2f} ms, {before.size_bytes / 1e6:.2f} MB and "
        f"{before.accuracy:.2%} ({way_of(before, before)}) to {after.latency_ms:.2f} ms "
        f"({after.speedup:.2f} times faster), {after.size_bytes / 1e6:.2f} MB "
        f"({before.size_bytes / after.size_bytes:.2f} times smaller) and {after.accuracy:.2%} "
        f"({points:+.2f} points; {way_of(after, before)})."
    )


def files_table(results: Sequence[StepResult], *, n_pairs: int) -> Table:
    """Every file of every step in the same units.

    Args:
        results: of every step, the original first.
        n_pairs: on which accuracy was measured.
    """
    before = original_of(results)
    table = Table(
        title="Files, step by step",
        caption="plain: as it was given, with PReLU as one node; it is what all others are "
        f"compared with; accuracy: on {n_pairs:,} pairs that decided nothing, with Wilson's "
        "interval of "
        "95 % as if they were independent; points: of accuracy, to the plain file; ms: one image, "
        "one thread; faster, smaller: times the plain file; cosine: of embeddings of real crops "
        "to "
        "the float network of the same step in torch, mean and worst",
        caption_justify="left",
    )
    table.add_column("step")
    table.add_column("file")
    for name in ("accuracy", "95 %", "points", "EER", "ms", "faster"):
        table.add_column(name, justify="right")
    for name in ("bytes", "smaller", "MAdds", "params", "cosine\nmean", "cosine\nworst"):
        table.add_column(name, justify="right")
    for step in results:
        for each in step.files:
            interval = wilson_interval(round(each.accuracy * n_pairs), n_pairs)
            table.add_row(
                step.step,
                way_of(each, before),
                f"{each.accuracy:.4f}",
                f"{interval.low:.4f} to {interval.high:.4f}",
                f"{100 * (each.accuracy - before.accuracy):+.2f}",
                f"{each.eer:.4f}",
                f"{each.latency_ms:.2f}",
                f"{each.speedup:.2f}",
                f"{each.size_bytes:,}",
                f"{before.size_bytes / each.size_bytes:.2f}",
                f"{step.madds:,}",
                f"{step.params:,}",
                f"{each.mean_cosine:.5f}",
                f"{each.min_cosine:.5f}",
            )
    return table


def steps_table(results: Sequence[StepResult]) -> Table:
    """What became of every step."""
    table = Table(title="What was decided")
    table.add_column("step")
    table.add_column("verdict")
    table.add_column("seconds", justify="right")
    for each in results:
        table.add_row(each.step, each.verdict, f"{each.seconds:,.1f}")
    return table


def tries_table(tries: Sequence[Try]) -> Table:
    """What was tried on the way, in order."""
    table = Table(
        title="What was tried",
        caption="judged: accuracy on the pairs that decide, balanced between both kinds; least: "
        "what the floor asks for; keeps: whether that is reached",
        caption_justify="left",
    )
    table.add_column("step")
    table.add_column("setting")
    for name in ("judged", "least", "keeps", "accuracy", "ms", "bytes", "MAdds", "seconds"):
        table.add_column(name, justify="right")
    for each in tries:
        table.add_row(
            each.step,
            each.setting,
            f"{each.file.judged:.4f}",
            "" if each.least is None else f"{each.least:.4f}",
            "" if each.least is None else "yes" if each.keeps else "no",
            f"{each.file.accuracy:.4f}",
            f"{each.file.latency_ms:.2f}",
            f"{each.file.size_bytes:,}",
            f"{each.madds:,}",
            f"{each.seconds:,.1f}",
        )
    return table


def _shortfalls(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<p>Not reached:</p><ul>{listed}</ul>"


def _picture(title: str, path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<h2>{html.escape(title)}</h2>"
        f"<img alt='{html.escape(title)}' src='data:image/png;base64,{content}'>"
    )


def _layers_in_float(layers: Sequence[LayerLossRow]) -> str:
    kept = [each.path for each in layers if each.in_float]
    if not layers:
        return ""
    listed = ", ".join(f"<code>{html.escape(path)}</code>" for path in kept) or "none"
    return f"<h2>Layers left in float</h2><p>{listed}</p>"
