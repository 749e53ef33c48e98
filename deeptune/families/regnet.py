"""RegNet (Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from deeptune.families.family import Family, table

if TYPE_CHECKING:
    from torch import Tensor


class RegNet(Family):
    """RegNet: residual networks of a searched design."""

    name = "regnet"
    kind = "cnn"
    classifier = "fc"
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("regnet_x_400mf", 5_094_976, 400, 224, 24_955, 12_848, 25, "regnet_x_400mf-62229a5f.pth"),
        ("regnet_x_800mf", 6_586_656, 672, 224, 24_379, 12_832, 40, "regnet_x_800mf-94a99ebd.pth"),
        ("regnet_x_1_6gf", 8_277_136, 912, 224, 28_299, 15_032, 62, "regnet_x_1_6gf-a12f2b72.pth"),
        ("regnet_x_3_2gf", 14_287_552, 1008, 224, 40_923, 21_440, 89, "regnet_x_3_2gf-7071aa85.pth"),
        ("regnet_x_8gf", 37_651_648, 1920, 224, 60_123, 31_312, 111, "regnet_x_8gf-2b70d774.pth"),
        ("regnet_x_16gf", 52_229_536, 2048, 224, 72_571, 38_304, 199, "regnet_x_16gf-ba3796d7.pth"),
        ("regnet_x_32gf", 105_290_560, 2520, 224, 106_299, 55_640, 284, "regnet_x_32gf-6eb8fdc6.pth"),
        ("regnet_y_400mf", 3_903_144, 440, 224, 28_251, 14_536, 34, "regnet_y_400mf-e6988f5f.pth"),
        ("regnet_y_800mf", 5_647_512, 784, 224, 30_859, 16_184, 47, "regnet_y_800mf-58fc7688.pth"),
        ("regnet_y_1_6gf", 10_313_430, 888, 224, 54_679, 28_198, 72, "regnet_y_1_6gf-0d7bc02a.pth"),
        ("regnet_y_3_2gf", 17_923_338, 1512, 224, 67_567, 35_266, 100, "regnet_y_3_2gf-9180c971.pth"),
        ("regnet_y_8gf", 37_364_472, 2016, 224, 88_171, 46_072, 172, "regnet_y_8gf-dc2b1b54.pth"),
        ("regnet_y_16gf", 80_565_140, 3024, 224, 124_739, 65_364, 202, "regnet_y_16gf-3e4a00f9.pth"),
        ("regnet_y_32gf", 141_333_770, 3712, 224, 165_903, 84_778, 267, "regnet_y_32gf-8db6d4b5.pth"),
        ("regnet_y_128gf", 637_419_894, 7392, 384, 429_271, 221_998, 1_870, "regnet_y_128gf_swag-c8ce3e52.pth"),
    )  # fmt: skip

    def build(self, name: str, options: dict[str, Any]) -> Any:
        """Build the network on the default device.

        torchvision computes the widths of the stages with tensors, which need memory on any device. So with `meta` as
        default the network is built on the CPU, and only what `torch.empty`, `zeros` and `ones` make is on `meta`: the
        weights.
        """
        import torch
        from torch.overrides import TorchFunctionMode

        class WeightsOnMeta(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                kwargs = dict(kwargs or {})
                if func in (torch.empty, torch.zeros, torch.ones):
                    kwargs["device"] = "meta"
                return func(*args, **kwargs)

        on_meta = torch.get_default_device().type == "meta"
        with torch.device("cpu") if on_meta else nullcontext(), WeightsOnMeta() if on_meta else nullcontext():
            return super().build(name, options)

    def blocks(self, net: Any) -> list[str]:
        """Name the residual blocks."""
        from torchvision.models.regnet import ResBottleneckBlock

        return [name for name, module in net.named_modules() if isinstance(module, ResBottleneckBlock)]

    def features(self, net: Any, x: Tensor) -> Tensor:
        features: Tensor = net.trunk_output(net.stem(x))
        return features


FAMILY = RegNet()
