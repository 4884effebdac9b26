"""What the processor can do, against what the kernel says."""

from pathlib import Path

import pytest

from nas_face.deploy import cpu, cpu_name, has_vnni

CPUINFO = Path("/proc/cpuinfo")


@pytest.fixture
def forget():
    """Nothing cached before, nothing faked left behind."""
    has_vnni.cache_clear()
    yield
    has_vnni.cache_clear()


@pytest.mark.skipif(not CPUINFO.exists(), reason="no /proc/cpuinfo")
def test_flags_agree_with_the_kernel():
    lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    words = {
        word
        for line in lines
        if line.lower().startswith(("flags", "features"))
        for word in line.split()
    }
    assert has_vnni() is bool(words & {"avx512_vnni", "avx_vnni", "asimddp"})


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["avx2", "avx512_vnni"], True),
        (["avx_vnni"], True),
        (["fp", "asimddp"], True),
        (["avx2", "fma", "avx512f"], False),
        ([], False),
    ],
)
def test_either_instruction_set_will_do(flags, expected, monkeypatch, forget):
    monkeypatch.setattr(cpu, "_cpu", lambda: {"flags": flags})
    assert has_vnni() is expected


def test_unknown_processor_counts_as_without(monkeypatch, forget):
    monkeypatch.setattr(cpu, "_cpu", dict)
    assert has_vnni() is False
    assert cpu_name() == "unknown processor"


def test_name_is_one_line():
    assert cpu_name()
    assert "\n" not in cpu_name()
