"""The page of a compression: the figures it shows are those it was given, and it is
well-formed."""

from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread

from nas_face.study.compression.results import FileResult, StepResult, Try
from nas_face.study.compression.state import LayerLossRow
from nas_face.study.report.compression import (
    files_table,
    headline,
    steps_table,
    tries_table,
    write_compression_report,
)
from nas_face.study.report.compression_plots import plot_layers, plot_steps, plot_trade

N_PAIRS = 1000


def file(precision="fp32", runtime="onnxruntime", *, ms=10.0, size=8_000_000, accuracy=0.99):
    return FileResult(
        runtime=runtime,
        precision=precision,
        file=f"model.{precision}",
        size_bytes=size,
        latency_ms=ms,
        speedup=10.0 / ms,
        accuracy=accuracy,
        accuracy_std=0.01,
        auc=0.99,
        eer=0.01,
        judged=accuracy,
        min_cosine=0.98,
        p01_cosine=0.99,
        mean_cosine=0.999,
        max_abs_difference=0.1,
    )


def step(name, *files, verdict="kept"):
    return StepResult(
        step=name,
        kind=name,
        verdict=verdict,
        madds=220_000_000,
        params=1_000_000,
        files=files,
        seconds=1234.5,
    )


RESULTS = (
    step("original", file(runtime="openvino", ms=4.0), file()),
    step("1 <prune>", file(runtime="openvino", ms=3.0), verdict="rolled back: too much is lost"),
    step("delivered", file("int8", "openvino", ms=2.0, size=2_000_000, accuracy=0.985), file()),
)
TRIES = (
    Try(
        step="1 <prune>",
        setting="to 50 %",
        position=0,
        madds=110_000_000,
        params=500_000,
        file=file(runtime="openvino", ms=2.5, accuracy=0.9),
        least=0.95,
        keeps=False,
        seconds=3.0,
    ),
)
LAYERS = tuple(
    LayerLossRow(path=f"stages.{number}.conv", mean_loss=10.0**-number, in_float=number == 0)
    for number in range(60)
)


class Outline(HTMLParser):
    """Headings and tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.tags, self.sources = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def columns(table):
    return {str(each.header): list(each.cells) for each in table.columns}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    path = write_compression_report(
        folder,
        RESULTS,
        title="a & b",
        n_pairs=N_PAIRS,
        cards={},
        tries=TRIES,
        layers=LAYERS,
        shortfalls=["1 <prune>: not reached"],
    )
    return folder, path.read_text(encoding="utf-8")


def test_the_headline_compares_the_first_file_that_ships_with_the_plain_original():
    text = headline(RESULTS)
    assert "From 10.00 ms, 8.00 MB and 99.00% (plain fp32 ONNX Runtime)" in text
    assert "2.00 ms (5.00 times faster), 2.00 MB (4.00 times smaller) and 98.50%" in text
    assert "(-0.50 points; int8 OpenVINO)" in text


def test_every_file_of_every_step_has_a_row():
    found = columns(files_table(RESULTS, n_pairs=N_PAIRS))
    assert found["step"] == ["original", "original", "1 <prune>", "delivered", "delivered"]
    assert found["file"][:2] == ["fp32 OpenVINO", "plain fp32 ONNX Runtime"]
    assert found["points"] == ["+0.00", "+0.00", "+0.00", "-0.50", "+0.00"]
    assert found["smaller"][3] == "4.00"


def test_the_interval_of_accuracy_is_wilsons():
    z, n, p = 1.959963984540054, N_PAIRS, 0.985
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = columns(files_table(RESULTS, n_pairs=N_PAIRS))
    assert found["95 %"][3] == f"{middle - half:.4f} to {middle + half:.4f}"


def test_verdicts_and_tries_are_listed():
    assert columns(steps_table(RESULTS))["verdict"][1] == "rolled back: too much is lost"
    found = columns(tries_table(TRIES))
    assert (found["setting"], found["keeps"], found["least"]) == (["to 50 %"], ["no"], ["0.9500"])


def test_the_page_is_well_formed_escaped_and_needs_nothing_else(page):
    _, text = page
    outline = Outline(text)
    assert outline.open == []
    assert outline.headings[0] == "a & b"
    assert "prune" not in outline.tags
    assert outline.tags.count("img") == 3
    assert all(each.startswith("data:image/png;base64,") for each in outline.sources)
    assert "Not reached" in text and "1 &lt;prune&gt;: not reached" in text
    assert len(text) < 1_500_000


def test_layers_in_float_are_named(page):
    assert "<h2>Layers left in float</h2><p><code>stages.0.conv</code></p>" in page[1]


def test_pictures_lie_beside_the_page(page):
    folder, _ = page
    assert {each.name for each in (folder / "report").iterdir()} == {
        "steps.png",
        "trade.png",
        "layers.png",
    }


def test_without_tries_and_layers_there_is_nothing_about_them(tmp_path):
    path = write_compression_report(tmp_path, RESULTS, title="t", n_pairs=N_PAIRS, cards={})
    text = path.read_text(encoding="utf-8")
    assert "Not reached" not in text and "What was tried" not in text
    assert "Layers left in float" not in text
    assert not (tmp_path / "report" / "layers.png").exists()


def margins_are_empty(path):
    """Whether no ink touches the border of a picture, as cut-off text would."""
    picture = imread(path)[..., :3]
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return bool((border > 0.99).all())


@pytest.mark.parametrize("n_steps", [1, 12])
def test_nothing_is_cut_off(tmp_path, n_steps):
    results = (RESULTS[0], *(step(f"{n} quantise", *RESULTS[2].files) for n in range(n_steps)))
    plot_steps(results, tmp_path / "steps.png", n_pairs=N_PAIRS)
    plot_trade(results, TRIES, tmp_path / "trade.png")
    plot_layers(LAYERS[: 5 * n_steps], tmp_path / "layers.png")
    for name in ("steps", "trade", "layers"):
        assert margins_are_empty(tmp_path / f"{name}.png"), name


def test_equal_results_give_equal_pictures(tmp_path):
    for name in ("a.png", "b.png"):
        plot_trade(RESULTS, TRIES, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
