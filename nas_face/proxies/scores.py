"""Proxies by name, and the scores of a network."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.spec import ArchSpec
from nas_face.errors import ConfigError, near_names
from nas_face.losses.margins.settings import MarginSettings
from nas_face.proxies.az_nas import FIGURES as AZ_NAS_FIGURES
from nas_face.proxies.az_nas import az_nas
from nas_face.proxies.naswot import naswot
from nas_face.proxies.ranking import log_rank_sum
from nas_face.proxies.size import madds, params
from nas_face.proxies.subject import Subject
from nas_face.proxies.synflow import synflow
from nas_face.proxies.zico import zico


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One proxy.

    Attributes:
        name: as in tables and study files.
        figures: names of what it measures of one network: its own name, or several where only
            the ranks among many networks make a score of them.
        measure: these figures, large is good; NaN for what a network does not have.
        analytic: whether it needs the spec alone and no network.
    """

    name: str
    figures: tuple[str, ...]
    measure: Callable[[Subject], tuple[float, ...]]
    analytic: bool = False


PROXIES: dict[str, Proxy] = {
    each.name: each
    for each in (
        Proxy(name="params", figures=("params",), measure=params, analytic=True),
        Proxy(name="madds", figures=("madds",), measure=madds, analytic=True),
        Proxy(name="synflow", figures=("synflow",), measure=synflow),
        Proxy(name="naswot", figures=("naswot",), measure=naswot),
        Proxy(name="zico", figures=("zico",), measure=zico),
        Proxy(name="az_nas", figures=AZ_NAS_FIGURES, measure=az_nas),
    )
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyScores:
    """What was measured of one network.

    Attributes:
        figures: by name; NaN for what is not defined for this network.
        seconds: by proxy, building the network included where the proxy needs one.
    """

    figures: dict[str, float]
    seconds: dict[str, float]


def proxy(name: str) -> Proxy:
    """The proxy of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PROXIES:
        raise ConfigError(f"unknown proxy {name!r}; {near_names(name, PROXIES)}")
    return PROXIES[name]


def measure_proxies(
    spec: ArchSpec,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    loss: MarginSettings,
    seed: int,
    names: Sequence[str],
) -> ProxyScores:
    """Figures of one untrained network, and how long each took.

    The same arguments give the same figures on one computer with one number of threads.

    Args:
        spec: the architecture.
        images: `(N, H, W, 3)` uint8 RGB of its size, 4 or more.
        labels: `(N,)`, who each shows; at least two identities.
        loss: margin loss that the networks will be trained with.
        seed: of weights, class centres and random vectors.
        names: proxies to measure.

    Raises:
        ConfigError: a name is unknown.
        DataError: images or labels do not do.
    """
    proxies = [proxy(name) for name in names]
    subject = Subject.of(spec, images, labels, loss=loss, seed=seed)
    began = time.perf_counter()
    if not all(each.analytic for each in proxies):
        _ = subject.model
    building = time.perf_counter() - began
    figures: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for each in proxies:
        began = time.perf_counter()
        figures.update(zip(each.figures, each.measure(subject), strict=True))
        seconds[each.name] = time.perf_counter() - began + (0 if each.analytic else building)
    return ProxyScores(figures=figures, seconds=seconds)


def proxy_scores(
    spec: ArchSpec,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    loss: MarginSettings,
    seed: int,
    names: Sequence[str] = tuple(PROXIES),
) -> dict[str, float]:
    """Figures of one untrained network by name; see `measure_proxies`.

    Example:
        >>> from nas_face.arch.zoo import network
        >>> from nas_face.losses.margins.settings import CosFace
        >>> spec = network("mobilefacenet_128").spec
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), np.uint8)
        >>> labels = np.array([0, 0, 1, 1])
        >>> proxy_scores(spec, images, labels, loss=CosFace(), seed=0, names=["madds"])
        {'madds': 220965376.0}
    """
    return measure_proxies(spec, images, labels, loss=loss, seed=seed, names=names).figures


def proxy_values(name: str, networks: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """Values of a proxy over the networks that are compared, `(N,)`, large is good.

    Args:
        name: of the proxy; one of several figures is joined by the networks' ranks in each, so
            that its value says nothing outside this set.
        networks: figures of each network.

    Raises:
        ConfigError: the name is unknown.
    """
    columns = [[figures[one] for figures in networks] for one in proxy(name).figures]
    if len(columns) > 1:
        return log_rank_sum(columns)
    return np.asarray(columns[0], dtype=np.float64)
