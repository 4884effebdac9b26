"""The weights of a built block, and steps in plain tensor code that use them."""

import torch
from torch import Tensor
from torch.nn import functional

from nas_face.arch.cost import Shape
from nas_face.nn.build import build

MAP = Shape(16, 6, 5)


class Weights:
    """The weights of a built module with random statistics, and the steps that use them."""

    def __init__(self, part, x: Shape = MAP) -> None:
        torch.manual_seed(0)
        self.module = build(part.lower(x), x).eval()
        for name, each in self.module.state_dict().items():
            if each.is_floating_point():
                each.copy_(
                    torch.rand_like(each) + 0.2 if "var" in name else torch.randn_like(each)
                )
        self.state = self.module.state_dict()
        self.unused = {key for key in self.state if not key.endswith("num_batches_tracked")}

    def __getitem__(self, key: str) -> Tensor:
        self.unused.discard(key)
        return self.state[key]

    def norm(self, x: Tensor, at: str, eps: float = 1e-5) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(self[f"{at}.{name}"] for name in names), eps=eps)

    def conv(self, x: Tensor, at: str, *, stride: int = 1, groups: int = 1, eps: float = 1e-5):
        """Convolution that keeps the map's size at stride 1, then normalisation."""
        weight = self[f"{at}.conv.weight"]
        y = functional.conv2d(
            x, weight, stride=stride, groups=groups, padding=weight.shape[-1] // 2
        )
        return self.norm(y, f"{at}.norm", eps)

    def prelu(self, x: Tensor, at: str) -> Tensor:
        return functional.prelu(x, self[f"{at}.weight"])

    def excite(self, x: Tensor, at: str) -> Tensor:
        """Squeeze-and-excitation."""
        y = x.mean((2, 3), keepdim=True)
        y = functional.conv2d(y, self[f"{at}.squeeze.weight"], self[f"{at}.squeeze.bias"])
        y = self.prelu(y, f"{at}.act")
        y = functional.conv2d(y, self[f"{at}.excite.weight"], self[f"{at}.excite.bias"])
        return x * y.sigmoid()

    def agree(self, x: Tensor, expected: Tensor) -> bool:
        """Whether the module gives what was expected, and every weight was needed for that."""
        with torch.no_grad():
            torch.testing.assert_close(self.module(x), expected, rtol=1e-3, atol=1e-3)
        return self.unused == set()


def image(shape: Shape = MAP) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
