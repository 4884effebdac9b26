"""PocketNet against its paper: printed figures, where cells reduce, and what a cell must be."""

from dataclasses import replace

import pytest

from nas_face.arch.blocks.cells import Cells, Edge, genotype
from nas_face.arch.conventions import convention, operations
from nas_face.arch.cost import Shape
from nas_face.arch.zoo import network
from nas_face.errors import ArchError

# As printed in the paper, whose figures are cut and not rounded: 10 thousand parameters and FLOPs.
PRINTED = {
    "pocketnet_s_128": (92, 58711),
    "pocketnet_s_256": (99, 58724),
    "pocketnet_m_128": (168, 109902),
    "pocketnet_m_256": (175, 109915),
}


@pytest.mark.parametrize("name", PRINTED)
def test_printed_figures(name):
    spec = network(name).spec
    flops = operations(spec.lower(), spec.input, convention("C"))
    assert (spec.cost().params // 10**4, flops // 10**4) == PRINTED[name]


@pytest.mark.parametrize(
    ("name", "widths"), [("pocketnet_s_128", (64, 512)), ("pocketnet_m_128", (128, 1024))]
)
def test_three_reductions_double_the_width_and_halve_the_map(name, widths):
    spec = network(name).spec
    x = spec.stem[0].lower(spec.input).output_shape(spec.input)
    ((cells,),) = spec.stages
    assert x == Shape(widths[0], 56, 56)
    shapes, cell_shapes = [x], {}
    graph = cells.lower(x)
    for step_name, step in graph.named_steps():
        channels = [shapes[source].channels for source in step.sources]
        read = shapes[step.sources[0]]
        if step.join == "concat":
            read = read._replace(channels=sum(channels))
        shapes.append(step.layer.output_shape(read))
        cell_shapes[step_name] = shapes[-1]
    last = cells.repeats - 1
    thirds = (cells.repeats // 3, 2 * cells.repeats // 3, last)
    width, side = widths[0], 56
    for position in range(cells.repeats):
        if position in thirds:
            width, side = 2 * width, side // 2
        assert cell_shapes[f"cell{position}"] == Shape(width, side, side)
    assert cell_shapes[f"cell{last}"] == Shape(widths[1], 7, 7)


def test_weights_are_found_under_cell_node_and_edge():
    names = Cells(out_channels=16).lower(Shape(8, 6, 6)).names
    assert names[:5] == (
        "cell0_input0",
        "cell0_input1",
        "cell0_node0_edge0",
        "cell0_node0_edge1",
        "cell0_node0",
    )
    assert names[-1] == "cell0"
    assert "cell0_node3_edge0" not in names  # a skip that only passes on


NODE = (("skip", 0), ("skip", 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": genotype((("skip", 0), ("skip", 2)))}, "node 0 of normal can read 0 to 1.*2"),
        ({"normal": genotype((("skip", 0), ("skip", 0)))}, "some node of normal must read 0, and"),
        (
            {"reduction": genotype((("skip", -1), ("skip", 1)))},
            "node 0 of reduction can .* got -1",
        ),
        ({"normal": genotype(NODE)}, "equally many nodes, got 1 and 4"),
        ({"stride": 4}, r"stride 4 needs 2 reductions in rising order, got \(\)"),
        ({"stride": 4, "reductions": (1, 0)}, r"rising order, got \(1, 0\)"),
        ({"stride": 4, "reductions": (1, 1)}, r"rising order, got \(1, 1\)"),
        ({"stride": 2, "reductions": ()}, r"stride 2 needs 1 reductions .* got \(\)"),
        ({"stride": 1, "reductions": (0,)}, r"stride 1 needs 0 reductions .* got \(0,\)"),
        ({"stride": 2, "reductions": (3,)}, r"\(3,\) must be positions of 3 cells"),
        ({"repeats": 0}, "must be positions of 0 cells"),
    ],
)
def test_cells_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ArchError, match=f"^cells: .*{message}"):
        replace(Cells(out_channels=16, repeats=3), **change)


def test_genotype_is_short_for_edges():
    assert genotype(NODE) == (
        (Edge(operation="skip", source=0), Edge(operation="skip", source=1)),
    )
