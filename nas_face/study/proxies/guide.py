"""Proxies in a search: as a head start, and as features for a predictor. They judge nothing."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.spec import ArchSpec
from nas_face.proxies import ProxyScores, log_rank_sum, proxy, proxy_values
from nas_face.search import Budget, derive_seed
from nas_face.search.designs import Candidate
from nas_face.space import Label, SearchSpace, screener_of
from nas_face.study.proxies.scorer import ProxyScorer
from nas_face.study.proxies.settings import ProxySettings

N_SCREENED = 2000


class Costed(Protocol):
    """A design whose cost is known, such as a screened one."""

    @property
    def madds(self) -> int:
        """Multiply-adds."""


CostedT = TypeVar("CostedT", bound=Costed)


def warm_start(
    candidates: Sequence[CostedT],
    score: Callable[[CostedT], Mapping[str, float]],
    n: int,
    *,
    names: Sequence[str],
    shortlist: int,
) -> list[CostedT]:
    """Start-up designs: at each of `n` points, spread evenly over the logarithm of multiply-adds,
    the best by proxies of the `shortlist` candidates that lie nearest to it.

    Compared are designs of about equal multiply-adds only, because most proxies prefer large
    networks, which needs no proxy to know. Several proxies are joined by `log_rank_sum`; a design
    for which a proxy is not defined is the last in it.

    Args:
        candidates: different designs within the budget; a thousand make the points dense.
        score: figures of one, as `proxy_scores` gives them; called `n` x `shortlist` times.
        n: how many are wanted.
        names: proxies.
        shortlist: candidates a point.

    Returns:
        Up to `n` designs, fewer where the candidates run out, smallest first.
    """
    left = sorted(candidates, key=lambda each: each.madds)
    if not left:
        return []
    low, high = math.log(left[0].madds), math.log(left[-1].madds)
    found: list[CostedT] = []
    for turn in range(min(n, len(left))):
        wanted = low + (turn + 0.5) / n * (high - low)
        left.sort(key=lambda each: abs(math.log(each.madds) - wanted))
        # Of a point that has all that is left of the candidates, the later points get theirs.
        size = max(1, min(shortlist, len(left) - (n - turn - 1)))
        figures = [score(each) for each in left[:size]]
        totals = log_rank_sum([proxy_values(name, figures) for name in names])
        found.append(left.pop(int(np.argmax(totals))))
    return sorted(found, key=lambda each: each.madds)


def chosen_by_proxies(
    space: SearchSpace,
    budget: Budget,
    settings: ProxySettings,
    scorer: Callable[[ArchSpec, Sequence[str]], ProxyScores],
    *,
    seed: int,
) -> list[dict[str, Label]]:
    """Labels of the designs that proxies choose to begin with.

    Args:
        space: what is searched.
        budget: what lies outside it is not looked at.
        settings: which proxies, and how many designs.
        scorer: measures them.
        seed: of the draws.
    """
    drawn = itertools.islice(
        screener_of(space).draws(derive_seed(seed, "proxy start")), N_SCREENED
    )
    fitting = {each.picks: each for each in drawn if budget.fits(each.cost)}
    chosen = warm_start(
        list(fitting.values()),
        lambda each: scorer(each.spec, settings.names).figures,
        settings.start,
        names=settings.names,
        shortlist=settings.shortlist,
    )
    return [each.choices for each in chosen]


@final
class ProxyFeatures:
    """Figures of proxies as further inputs of a predictor: a candidate to a vector.

    A figure takes a training step's time, a fraction of a second to seconds, so this is for the
    designs that were trained and for a few hundred that might be, not for all that an evolution
    meets.

    Args:
        decode: labels to architecture.
        scorer: measures and remembers.
        names: proxies; multiply-adds and params go in as logarithms.
    """

    def __init__(
        self,
        decode: Callable[[Mapping[str, Label]], ArchSpec],
        scorer: ProxyScorer,
        names: Sequence[str],
    ) -> None:
        self._decode = decode
        self._scorer = scorer
        self._names = tuple(names)
        self.figures = tuple(dict.fromkeys(one for name in names for one in proxy(name).figures))
        """What the numbers of the vector are."""

    def __call__(self, candidate: Candidate) -> NDArray[np.float32]:
        """`(n_figures,)`; 0 for what is not defined for this network."""
        scores = self._scorer(self._decode(candidate.params), self._names).figures
        values = [
            math.log(scores[name]) if name in ("madds", "params") else scores[name]
            for name in self.figures
        ]
        return np.nan_to_num(np.asarray(values, dtype=np.float32), nan=0.0)
