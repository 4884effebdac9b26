"""Every layer as ONNX operators: values of torch, and nothing written that could be folded."""

import numpy as np
import onnx
import onnxruntime
import pytest
from export_checks import agree, of_layers

from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Product,
    Sequence,
    Split,
    Step,
    Sum,
)
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelPool,
    ChannelScale,
    ChannelShuffle,
    ChannelSlice,
    Conv,
    Flatten,
    FourierFeatures,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    NormAwarePool,
    Pool,
    PReLU,
    Resize,
    TranslationVariantConv,
)
from nas_face.deploy import OnnxSession, export_onnx
from nas_face.deploy.onnx_export import to_onnx
from nas_face.errors import DeployError
from nas_face.nn import FaceModel, Preprocessing
from nas_face.nn.build import build
from nas_face.nn.model import Description

FUNCTIONS = ["relu", "relu6", "silu", "hard_swish", "gelu", "sigmoid", "hard_sigmoid"]
WAVES = Sequence(layers=(FourierFeatures(width=4), Conv(out_channels=6, bias=True)))
PARTS = {
    **{name: (BatchNorm(), Activation(function=name), Flatten()) for name in FUNCTIONS},
    "shared slope": (PReLU(shared=True), Flatten()),
    "flat prelu and norm": (Flatten(), Linear(out_features=7, bias=True), PReLU(), BatchNorm()),
    "shared flat slope": (Flatten(), PReLU(shared=True), BatchNorm(), Linear(out_features=4)),
    "bias under norm": (
        Conv(out_channels=6, kernel=(3, 2), padding=(1, 0), stride=2, groups=3, bias=True),
        BatchNorm(eps=0.1),
        Flatten(),
    ),
    "norm across sequences": (
        Sequence(layers=(Conv(out_channels=5),)),
        Sequence(),
        Sequence(layers=(Sequence(layers=(BatchNorm(), PReLU())), Flatten())),
    ),
    "two norms": (Conv(out_channels=5), BatchNorm(), BatchNorm(), Flatten()),
    "shuffle": (Conv(out_channels=12), ChannelShuffle(groups=3), BatchNorm(), Flatten()),
    "uneven split": (
        Conv(out_channels=7),
        Split(
            sizes=(2, 4, 1),
            branches=(Sequence(), Sequence(layers=(Conv(out_channels=3), BatchNorm())), PReLU()),
        ),
        Flatten(),
    ),
    "one part": (Split(sizes=(3,), branches=(Conv(out_channels=2),)), Flatten()),
    "sum of three": (
        Sum(branches=(Sequence(), PReLU(), Sequence(layers=(Conv(out_channels=3), BatchNorm())))),
        BatchNorm(),
        Flatten(),
    ),
    "sum of the same": (BatchNorm(), Sum(branches=(Sequence(), Sequence())), Flatten()),
    "concat": (Concat(branches=(Conv(out_channels=2), Sequence())), Flatten()),
    "flat concat": (
        Flatten(),
        Concat(branches=(Linear(out_features=4), Linear(out_features=3, bias=True))),
        BatchNorm(),
    ),
    "gate": (
        Conv(out_channels=6),
        Gate(
            body=Sequence(
                layers=(
                    GlobalAveragePool(),
                    Conv(out_channels=6, bias=True),
                    Activation(function="sigmoid"),
                )
            )
        ),
        Flatten(),
    ),
    "norm-aware pool": (Conv(out_channels=5), NormAwarePool(), BatchNorm(), Flatten()),
    "scale and norms under one convolution": (
        Conv(out_channels=5, kernel=(3, 3), bias=True),
        ChannelScale(),
        BatchNorm(fixed_scale=True),
        ChannelScale(),
        Flatten(),
    ),
    "scale alone": (Conv(out_channels=5), ChannelScale(), PReLU(), ChannelScale(), Flatten()),
    "flat scale": (
        Flatten(),
        Linear(out_features=6, bias=True),
        ChannelScale(),
        Activation(function="relu"),
        ChannelScale(),
    ),
    "norm under filters of each position": (
        TranslationVariantConv(kernel=(3, 2), stride=2, padding=(1, 0)),
        BatchNorm(),
        TranslationVariantConv(kernel=(2, 3), padding=(0, 1)),
        ChannelScale(),
        Flatten(),
    ),
    "flat layer norm": (Flatten(), Linear(out_features=7), LayerNorm(), BatchNorm()),
    "flat maxima and slices": (
        Flatten(),
        Linear(out_features=12),
        MaxFeatureMap(),
        ChannelSlice(start=1, stop=6),
    ),
    "waves in a sum": (
        Conv(out_channels=6),
        Sum(branches=(WAVES, Sequence(), WAVES)),
        Flatten(),
    ),
    "waves times a map": (Conv(out_channels=6), Product(branches=(Sequence(), WAVES)), Flatten()),
    "waves in a concatenation": (Concat(branches=(WAVES, Sequence(), WAVES)), Flatten()),
    "waves cut in parts": (
        WAVES,
        Split(sizes=(2, 4), branches=(Sequence(), Conv(out_channels=3))),
        Flatten(),
    ),
    "waves as factors": (Conv(out_channels=6), Gate(body=WAVES), Flatten()),
    "waves that are gated": (WAVES, Gate(body=GlobalAveragePool()), Flatten()),
    "only waves": (Sum(branches=(WAVES, WAVES)), Product(branches=(WAVES, WAVES)), Flatten()),
    "waves under a padded convolution and norms": (
        WAVES,
        Conv(out_channels=4, kernel=(3, 3), padding=(1, 1), stride=2, groups=2),
        BatchNorm(),
        ChannelScale(),
        PReLU(),
        Flatten(),
    ),
    "factor of each position": (
        Conv(out_channels=6),
        Gate(
            body=Sequence(
                layers=(
                    ChannelPool(),
                    Conv(out_channels=1, kernel=(7, 7), padding=(3, 3)),
                    BatchNorm(),
                    Activation(function="sigmoid"),
                )
            )
        ),
        Flatten(),
    ),
    "factor of each value": (Gate(body=Conv(out_channels=3)), Flatten()),
    "graph": (
        Conv(out_channels=4),
        Graph(
            steps=(
                Step(layer=Conv(out_channels=4), sources=(0,)),
                Step(layer=Sequence(layers=(BatchNorm(), PReLU())), sources=(0, 1, 0)),
                Step(layer=Sum(branches=(Sequence(), PReLU())), sources=(1, 2)),
                Step(layer=Sequence(), sources=(3, 0, 2), join="concat"),
                Step(layer=FourierFeatures(width=6), sources=(4,)),
                Step(layer=Sequence(), sources=(5, 4)),
            ),
            names=("a", "b", "c", "d", "e", "f"),
        ),
        Flatten(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("prelu", ["native", "rewrite"])
@pytest.mark.parametrize("part", PARTS)
def test_layers_give_the_values_of_torch(part, prelu, small, tmp_path):
    agree(of_layers(*PARTS[part], images=small), tmp_path / "m.onnx", small, prelu=prelu)


def test_norms_and_scales_behind_weights_leave_no_trace(small):
    part = "scale and norms under one convolution"
    operators = [
        node.op_type for node in to_onnx(of_layers(*PARTS[part], images=small)).graph.node
    ]
    assert operators == ["Sub", "Div", "Conv", "Flatten"]


def test_waves_and_the_convolution_on_them_are_one_constant(small):
    graph = to_onnx(of_layers(*PARTS["waves in a sum"], images=small)).graph
    assert [node.op_type for node in graph.node] == ["Sub", "Div", "Conv", "Add", "Add", "Flatten"]
    read = {name for node in graph.node for name in node.input}
    assert {array.name for array in graph.initializer} <= read


@pytest.mark.parametrize(("function", "operator"), [("gelu", "Gelu"), ("silu", "QuickGelu")])
def test_onnx_runtime_knows_the_written_out_activations(function, operator, small, tmp_path):
    layers = (Conv(out_channels=4), Activation(function=function), Flatten())
    export_onnx(of_layers(*layers, images=small), tmp_path / "m.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    assert operator in {node.op_type for node in graph.node}


# Naive pooling: each window by itself, cells outside the map left out.
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("function", ["max", "average"])
@pytest.mark.parametrize("size", [(7, 10), (8, 9), (2, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (2, 3, 1), (5, 4, 2)]
)
def test_pool_leaves_out_what_lies_outside(
    kernel, stride, padding, size, function, ceil, tmp_path
):
    layer = Pool(
        function=function,
        kernel=(kernel, kernel),
        stride=stride,
        padding=(padding, padding),
        ceil=ceil,
    )
    model = of_layers(
        layer,
        Flatten(),
        preprocessing=Preprocessing(mean=200.0, scale=1.0),  # mostly negative: zeros would show
        input_shape=(3, *size),
        images=np.zeros((2, *size, 3), np.uint8),
    )
    export_onnx(model, tmp_path / "m.onnx")
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    y = layer.output_shape(Shape(3, *size))
    expected = np.empty(y)
    reduce = np.max if function == "max" else np.mean
    for row in range(y.height):
        for column in range(y.width):
            top, left = row * stride - padding, column * stride - padding
            window = image[0, max(0, top) : top + kernel, max(0, left) : left + kernel].astype(
                np.float64
            )
            expected[:, row, column] = reduce(window - 200, axis=(0, 1))
    got = OnnxSession(tmp_path / "m.onnx").embed(image, flip=False)
    np.testing.assert_allclose(got[0], expected.ravel(), rtol=1e-5)


@pytest.mark.parametrize("size", [(3, 5), (7, 7), (10, 8), (9, 16), (49, 3), (1, 1), (31, 113)])
def test_resizing_gives_exactly_the_size(size, tmp_path):
    rng = np.random.default_rng(0)
    for height, width in [(10, 8), (7, 11)]:
        images = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        layers = (Conv(out_channels=2), Resize(height=size[0], width=size[1]), Flatten())
        model = of_layers(*layers, input_shape=(3, height, width), images=images)
        agree(model, tmp_path / "m.onnx", images)
        assert OnnxSession(tmp_path / "m.onnx").embedding_size == 2 * size[0] * size[1]


def test_linear_layer_on_a_map_is_refused(tmp_path):
    network = Sequence(layers=(GlobalAveragePool(), Linear(out_features=4)))
    description = Description(network=network, input_shape=(3, 8, 8), arch_id="test")
    model = FaceModel(description=description, module=build(network, description.input))
    with pytest.raises(DeployError, match="1: a linear layer needs a flatten layer"):
        export_onnx(model, tmp_path / "m.onnx")


def test_pool_on_a_flat_vector_is_refused(tmp_path):
    description = Description(
        network=Sequence(layers=(Flatten(), Pool(function="max", kernel=(1, 1), stride=1))),
        input_shape=(3, 8, 8),
        arch_id="test",
    )
    module = build(description.network, description.input)
    model = FaceModel(description=description, module=module)
    with pytest.raises(DeployError, match="1: pool needs a feature map; put it before flatten"):
        export_onnx(model, tmp_path / "m.onnx")
