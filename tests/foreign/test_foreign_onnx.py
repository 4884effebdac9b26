"""ONNX files of our own exporter, of torch's making and as others write them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from strangers import EMBEDDING, SIZE, folded, leaves, stranger, write_spec
from torch import nn

from nas_face.arch.zoo import network
from nas_face.data import load_orl
from nas_face.deploy import export_onnx
from nas_face.errors import BuildError, DeployError
from nas_face.nn import FaceModel, Preprocessing
from nas_face.nn.model import Description
from nas_face.study.importing.job import ImportOptions, import_weights


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return str(write_spec(tmp_path_factory.mktemp("spec")))


class Writer:
    """The stranger's network as an ONNX file, node by node.

    Args:
        norms: BatchNormalization nodes instead of folded ones.
        gemm: how the last layer is written.
        slope: how PReLU slopes are stored.
        prelu: which operators PReLU is made of.
        preprocessing: whether the graph takes pixels 0 to 255.
    """

    def __init__(
        self,
        *,
        norms: bool,
        gemm: str = "transB",
        slope: str = "map",
        prelu: str = "node",
        preprocessing: bool = False,
    ) -> None:
        self.net = stranger()
        self.state = self.net.state_dict() if norms else folded(self.net)
        self.norms, self.gemm, self.slope, self.prelu = norms, gemm, slope, prelu
        self.preprocessing = preprocessing
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: list[onnx.TensorProto] = []

    def array(self, name: str, values: np.ndarray) -> str:
        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, inputs: list[str], **attributes: object) -> str:
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [out], **attributes))
        return out

    def floats(self, key: str) -> np.ndarray:
        return self.state[key].numpy().astype(np.float32)

    def layer(self, name: str, module: nn.Module, x: str) -> str:
        match module:
            case nn.Conv2d():
                inputs = [x, self.array(f"{name}.w", self.floats(f"{name}.weight"))]
                if not self.norms:
                    inputs.append(self.array(f"{name}.b", self.floats(f"{name}.bias")))
                return self.node(
                    "Conv",
                    inputs,
                    kernel_shape=module.kernel_size,
                    strides=module.stride,
                    pads=[*module.padding, *module.padding],
                    group=module.groups,
                )
            case nn.PReLU():
                return self.activation(name, x)
            case nn.BatchNorm2d() | nn.BatchNorm1d() if self.norms:
                keys = ("weight", "bias", "running_mean", "running_var")
                arrays = [
                    self.array(f"{name}.{key}", self.floats(f"{name}.{key}")) for key in keys
                ]
                return self.node("BatchNormalization", [x, *arrays], epsilon=module.eps)
            case nn.Linear():
                return self.linear(name, x)
        return x

    def linear(self, name: str, x: str) -> str:
        weight = self.floats(f"{name}.weight")
        bias = [] if self.norms else [self.array("fc.b", self.floats(f"{name}.bias"))]
        if self.gemm == "conv":
            weight = weight.reshape(*weight.shape, 1, 1)
            y = self.node("Conv", [x, self.array("fc.w", weight), *bias], kernel_shape=[1, 1])
            return self.node("Flatten", [y])
        x = self.node("Flatten", [x])
        if self.gemm == "matmul":
            y = self.node("MatMul", [x, self.array("fc.w", weight.T)])
            return self.node("Add", [y, *bias]) if bias else y
        turned = self.gemm == "transB"
        array = self.array("fc.w", weight if turned else weight.T)
        return self.node("Gemm", [x, array, *bias], transB=int(turned))

    def activation(self, name: str, x: str) -> str:
        slopes = self.floats(f"{name}.weight")
        if self.prelu == "halves":  # relu(x) + (-a) * relu(-x)
            negative = self.node("Relu", [self.node("Neg", [x])])
            scaled = self.array(f"{name}.a", -slopes.reshape(-1, 1, 1))
            return self.node("Add", [self.node("Relu", [x]), self.node("Mul", [scaled, negative])])
        if self.slope == "unsqueezed":
            axes = self.array(f"{name}.axes", np.array([1, 2], np.int64))
            constant = self.node("Constant", [], value=numpy_helper.from_array(slopes))
            shaped = self.node("Unsqueeze", [constant, axes])
        else:
            shaped = self.array(f"{name}.a", slopes.reshape(-1, 1, 1))
        return self.node("PRelu", [x, shaped])

    def write(self, path: Path) -> None:
        x = "data"
        if self.preprocessing:
            scale = self.array("scale", np.array(1 / 128, np.float32))
            mean = self.array("mean", np.array([[[[127.5]]]], np.float32))
            x = self.node("Mul", [self.node("Sub", [x, mean]), scale])
        values: dict[str, str] = {}
        last: dict[str, str] = {}
        for name, module in leaves(self.net):
            block = next((each for each in values if name.startswith(f"{each}.")), None)
            if block is None and (name.endswith("conv.conv") and name.count(".") > 1):
                block = name.removesuffix(".conv.conv")
                values[block] = x
            x = self.layer(name, module, x)
            residual = block is not None and ".model." in block
            if residual and name == f"{block}.project.bn":
                x = self.node("Add", [values[block], x])
            last[name] = x
        graph = helper.make_graph(
            self.nodes,
            "stranger",
            [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, EMBEDDING])],
            self.arrays,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def difference(model: nn.Module) -> float:
    """Largest difference to the stranger's own outputs, both of unit length."""
    x = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        theirs, ours = (nn.functional.normalize(net(x)) for net in (stranger(), model.eval()))
    return float((theirs - ours).abs().max())


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("gemm", ["transB", "plain", "matmul", "conv"])
@pytest.mark.parametrize(
    ("slope", "prelu"), [("map", "node"), ("unsqueezed", "node"), ("map", "halves")]
)
def test_files_as_others_write_them(spec, tmp_path, norms, gemm, slope, prelu):
    path = tmp_path / "a.onnx"
    Writer(norms=norms, gemm=gemm, slope=slope, prelu=prelu).write(path)
    imported = import_weights(path, spec, ImportOptions())
    assert difference(imported.model.module) < 1e-5
    assert imported.proof.unit_difference < 1e-4
    assert imported.assumed


def test_preprocessing_in_the_graph_is_found(spec, tmp_path):
    path = tmp_path / "a.onnx"
    Writer(norms=True, preprocessing=True).write(path)
    imported = import_weights(path, spec, ImportOptions())
    how = imported.model.description.preprocessing
    assert (how.mean, how.scale, how.channel_order) == (127.5, 128.0, "RGB")
    assert not imported.assumed
    outside = import_weights(path, spec, ImportOptions(mean=10.0, scale=2.0, bgr=True))
    how = outside.model.description.preprocessing
    assert (how.mean, how.scale, how.channel_order) == (10 + 2 * 127.5, 256.0, "BGR")


def test_another_stride_is_another_network(spec, tmp_path):
    path = tmp_path / "a.onnx"
    writer = Writer(norms=True)
    writer.net.conv2_dw.conv.stride = (2, 2)
    writer.net.conv_23.conv_dw.conv.stride = (1, 1)
    writer.write(path)
    with pytest.raises(BuildError, match=r"stem.1.conv needs weight \(8, 1, 3, 3\)"):
        import_weights(path, spec, ImportOptions())


def test_equal_weights_in_another_function_fail_the_proof(spec, tmp_path):
    path = tmp_path / "a.onnx"
    Writer(norms=False).write(path)
    model = onnx.load(path)
    last = model.graph.node[-1]
    model.graph.node.append(helper.make_node("Abs", [last.output[0]], ["positive"]))
    model.graph.output[0].name = "positive"
    onnx.save(model, path)
    with pytest.raises(DeployError, match="must agree to 0.0001 on real crops"):
        import_weights(path, spec, ImportOptions())


def test_int8_and_looping_files_are_refused(spec, tmp_path):
    path = tmp_path / "a.onnx"
    Writer(norms=False).write(path)
    model = onnx.load(path)
    first = model.graph.node[0]
    rounded = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.int8), "q")
    model.graph.initializer.extend(
        [rounded, numpy_helper.from_array(np.array(0.1, np.float32), "s")]
    )
    first.input[1] = "restored"
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["q", "s"], ["restored"]))
    onnx.save(model, path)
    with pytest.raises(BuildError, match="its weights are not plain floating-point numbers"):
        import_weights(path, spec, ImportOptions())


def test_an_image_size_that_differs_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "a.onnx"
    Writer(norms=False).write(path)
    with pytest.raises(BuildError, match="give --input-size 32x32"):
        import_weights(path, "mobilefacenet_128", ImportOptions())


def settled(name: str, size: int) -> FaceModel:
    """A zoo network with random scales and slopes, and the statistics of real crops: others make
    values explode, and rounding with them."""
    entry = network(name)
    model = FaceModel.fresh(entry.variant(input_size=(size, size)), seed=0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.module.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None  # the plain mean over batches
            for key, value in module.named_parameters(recurse=False):
                if value.ndim == 1 and value.requires_grad:
                    start = 0.7 if key == "weight" else -0.3
                    value.copy_(start + 0.6 * torch.rand(value.shape, generator=generator))
        crops = load_orl(size, size).batch(np.arange(0, 400, 13))
        model.module.train()
        model.module(model.description.preprocessing.apply(crops))
    model.module.eval()
    return model


@pytest.mark.parametrize("prelu", ["native", "rewrite"])
@pytest.mark.parametrize(
    "name",
    ["mobilefacenet_128", "seesaw_share", "vargfacenet", "ghostfacenet_v2_2", "edgeface_xxs"],
)
def test_files_of_our_own_exporter(tmp_path, name, prelu):
    model = settled(name, 64)
    path = tmp_path / "a.onnx"
    export_onnx(model, path, prelu=prelu)
    imported = import_weights(path, name, ImportOptions(input_size=(64, 64)))
    assert imported.proof.unit_difference < 1e-4
    assert imported.model.description.preprocessing == model.description.preprocessing
    assert imported.model.description.arch_id == model.description.arch_id


def test_channels_in_reverse_order_are_found(tmp_path):
    model = settled("mobilefacenet_128", 32)
    turned = Description(
        network=model.description.network,
        input_shape=model.description.input_shape,
        preprocessing=Preprocessing(mean=100.0, scale=60.0, channel_order="BGR"),
        arch_id=model.description.arch_id,
    )
    path = tmp_path / "a.onnx"
    export_onnx(FaceModel(description=turned, module=model.module), path)
    imported = import_weights(path, "mobilefacenet_128", ImportOptions(input_size=(32, 32)))
    assert imported.model.description.preprocessing == turned.preprocessing


def test_the_teacher_of_the_data_folder(teacher):
    options = ImportOptions(mean=127.0, scale=128.0)
    imported = import_weights(teacher, "mobilefacenet_512", options)
    assert imported.proof.unit_difference < 1e-5
    assert imported.proof.same > 0.5 > imported.proof.different + 0.2
    crop = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(teacher)
    x = (crop.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128
    theirs = session.run(None, {session.get_inputs()[0].name: x})[0]
    np.testing.assert_allclose(imported.model.embed(crop, flip=False), theirs, atol=1e-4)
    assert EMBEDDING != theirs.shape[1] == 512
