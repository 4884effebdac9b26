"""What this processor can do for int8."""

import functools
from collections.abc import Mapping
from typing import Any, Final

import cpuinfo

# Instructions that multiply 8-bit values and add the products in 32 bits. Without them, x86 adds
# pairs of products in 16 bits first, which saturates when both factors use their full range.
DOT_PRODUCT_FLAGS: Final = ("avx512_vnni", "avx512vnni", "avx_vnni", "avxvnni", "asimddp")


@functools.cache
def has_vnni() -> bool:
    """Whether 8-bit dot products are exact here: VNNI on x86, the dot product extension on Arm.

    Unknown counts as no, which costs one bit of weight precision and no wrong result. The first
    call takes about a second.
    """
    flags = _cpu().get("flags", ())
    return any(flag in flags for flag in DOT_PRODUCT_FLAGS)


def cpu_name() -> str:
    """Name of the processor as its maker gives it, for reports; the architecture if it has
    none."""
    info = _cpu()
    return str(info.get("brand_raw") or info.get("arch_string_raw") or "unknown processor")


@functools.cache
def _cpu() -> Mapping[str, Any]:
    info: Mapping[str, Any] = cpuinfo.get_cpu_info()
    return info
