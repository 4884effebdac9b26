"""Latency in turns. What is checked is bookkeeping, never how fast the machine is."""

import itertools

import numpy as np
import pytest

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.spec import ArchSpec
from nas_face.deploy import Latency, LatencyMeter, OnnxSession, latency, measure_in_turns
from nas_face.deploy.onnx_export import export_onnx
from nas_face.nn import FaceModel


@pytest.fixture(scope="module")
def model():
    spec = ArchSpec(
        input_shape=(3, 32, 24),
        stem=(ConvUnit(out_channels=8, stride=2),),
        stages=(),
        head=PooledLinearHead(embedding_size=16, tail_channels=16),
    )
    return FaceModel.fresh(spec, seed=0)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("latency") / "m.onnx"
    export_onnx(model, path)
    return path


def positive(result):
    times = (result.latency_ms, result.latency_p90_ms, result.reference_ms, result.ratio)
    return all(np.isfinite(each) and each > 0 for each in times)


def test_files_and_open_sessions_can_be_measured(path):
    for candidate, reference in itertools.product((path, OnnxSession(path)), repeat=2):
        result = measure_in_turns(candidate, reference, rounds=4, warmup=1)
        assert positive(result)
        assert result.latency_p90_ms >= result.latency_ms
        assert result.rounds == 4


def test_runs_alternate_and_warm_up_does_not_count(path, monkeypatch):
    """A clock that says how long each run took: warm-up 50 s, then 2 and 1, 6 and 2, 4 and 4 s."""
    spans = [50, 50, 2, 1, 6, 2, 4, 4]
    ends = np.cumsum(spans)
    ticks = iter(
        [tick for span, end in zip(spans, ends, strict=True) for tick in (end - span, end)]
    )
    monkeypatch.setattr(latency.time, "thread_time", lambda: float(next(ticks)))
    order = []
    run = OnnxSession.run
    monkeypatch.setattr(OnnxSession, "run", lambda self, x: (order.append(self), run(self, x))[1])
    a, b = OnnxSession(path), OnnxSession(path)
    result = measure_in_turns(a, b, rounds=3, warmup=1)
    assert order == [a, b] * 4
    assert result == Latency(
        latency_ms=4000, latency_p90_ms=5600, reference_ms=2000, ratio=2, rounds=3
    )


def test_meter_leaves_nothing_behind_and_normalises(model, tmp_path):
    meter = LatencyMeter(model, tmp_path / "new")
    result = meter.measure(model, rounds=3, warmup=1)
    assert positive(result)
    assert meter.reference_ms > 0
    assert not list((tmp_path / "new").iterdir())


def test_reference_time_is_fixed_when_the_meter_is_made(model, tmp_path):
    meter = LatencyMeter(model, tmp_path)
    before = meter.reference_ms
    meter.measure(model, rounds=2, warmup=0)
    assert meter.reference_ms == before


@pytest.mark.parametrize("numbers", [{"rounds": 0}, {"warmup": -1}])
def test_impossible_numbers_are_refused(numbers, path):
    with pytest.raises(ValueError, match="rounds >= 1 and warmup >= 0"):
        measure_in_turns(path, path, **numbers)
