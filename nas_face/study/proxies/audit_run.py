"""The proxies of a run: measured, and compared with what its trainings came to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from optuna.trial import FrozenTrial, TrialState

from nas_face.data import FaceImages
from nas_face.errors import ConfigError
from nas_face.proxies import proxy
from nas_face.search import objective
from nas_face.search.record import ARCH_ID
from nas_face.study.proxies.audit import MIN_NETWORKS, YARDSTICK, Worth, audit
from nas_face.study.proxies.scorer import PROXIES_FILE, ProxyScorer
from nas_face.study.run import Run


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyReport:
    """What the proxies of a run are worth.

    Attributes:
        n_networks: networks that the run trained to the end.
        n_images: faces that the proxies looked at.
        worth: one for each trained objective and proxy.
    """

    n_networks: int
    n_images: int
    worth: tuple[Worth, ...]


def scorer_of(run: Run, *, n_images: int, seed: int) -> ProxyScorer:
    """Proxies on the training faces of a run, remembered in `RUN/proxies.json`.

    Raises:
        ConfigError: that file is broken.
    """
    loaded: dict[tuple[int, int], FaceImages] = {}

    def faces_of(size: tuple[int, int]) -> FaceImages:
        if size not in loaded:
            loaded[size] = run.faces(size).split.train
        return loaded[size]

    return ProxyScorer(
        faces_of,
        run.config.training,
        n_images=n_images,
        seed=seed,
        path=run.folder / PROXIES_FILE,
    )


def audit_run(
    run: Run,
    names: Sequence[str],
    *,
    n_images: int,
    seed: int,
    on_network: Callable[[int, int], None] = lambda done, n: None,
) -> ProxyReport:
    """Measure proxies of every network that the run trained to the end, and compare ranks.

    Interrupted, it goes on where it was: figures are kept in the run folder.

    Args:
        run: at least 4 of its trials are complete.
        names: proxies; `params` and `madds` are compared in any case.
        n_images: training faces that they look at.
        seed: of weights, random vectors and the choice of faces.
        on_network: told after each network how many are done, and of how many.

    Raises:
        ConfigError: a name is unknown, or fewer than 4 networks are trained.
        DataError: faces are missing, broken or too few.
    """
    wanted = tuple(dict.fromkeys((YARDSTICK, "params", *(proxy(name).name for name in names))))
    trials = trained_networks(run)
    if len(trials) < MIN_NETWORKS:
        raise ConfigError(
            f"{run.folder}: at least {MIN_NETWORKS} trained networks are needed to compare ranks, "
            f"there are {len(trials)}; search on, with more --trials"
        )
    torch.set_num_threads(run.config.threads)
    scorer = scorer_of(run, n_images=n_images, seed=seed)
    scores = []
    for done, trial in enumerate(trials, start=1):
        scores.append(scorer(run.spec(trial), wanted))
        on_network(done, len(trials))
    seconds = {name: float(np.mean([each.seconds[name] for each in scores])) for name in wanted}
    worth: list[Worth] = []
    for place, name in enumerate(run.config.objectives):
        if objective(name).origin == "trained":
            values = np.array([trial.values[place] for trial in trials])
            figures = [each.figures for each in scores]
            worth += audit(wanted, figures, objective(name), values, seconds=seconds)
    return ProxyReport(n_networks=len(trials), n_images=n_images, worth=tuple(worth))


def trained_networks(run: Run) -> list[FrozenTrial]:
    """One complete trial of each architecture, in their order."""
    found: dict[str, FrozenTrial] = {}
    for trial in run.trials():
        if trial.state == TrialState.COMPLETE and ARCH_ID in trial.user_attrs:
            found.setdefault(trial.user_attrs[ARCH_ID], trial)
    return list(found.values())
