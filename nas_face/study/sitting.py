"""One process at work in a run: joins the storage, sets up the evaluation, searches."""

import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import network
from nas_face.deploy import LatencyMeter
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.search import SearchSettings, objective, run_search
from nas_face.search.claims import SqlClaims
from nas_face.search.workers import Worker
from nas_face.space import Label, SearchSpace
from nas_face.study import storage
from nas_face.study.config import load_run_study
from nas_face.study.evaluate import TrainAndVerify
from nas_face.study.faces import StudyFaces
from nas_face.study.layout import TEACHERS_FOLDER, WORKERS_FOLDER
from nas_face.study.preflight.latency import LatencySurvey, preflight_latency
from nas_face.study.proxies.guide import ProxyFeatures, chosen_by_proxies
from nas_face.study.proxies.scorer import PROXIES_FILE, ProxyScorer
from nas_face.study.same_study import require_same
from nas_face.study.seeding import kept_start
from nas_face.study.teachers import teacher_targets
from nas_face.train import EpochReport
from nas_face.train.teachers import TeacherTargets

if TYPE_CHECKING:
    from nas_face.study.run import Run

WAIT_S = 0.5
REFERENCE_NETWORK = "mobilefacenet_128"
REFERENCE_MS = "reference_ms"
"""User attribute of the study: latency of the reference network when the run began."""

LATENCY_SURVEY = "latency_survey"
"""User attribute of the study: `LatencySurvey` of before the first trial."""

PROXY_START = "proxy_start"
"""User attribute of the study: labels of the designs that proxies chose to begin with."""

FACES = "faces"
"""User attribute of the study: digest of the names of its faces, which all workers must have."""


def sit(
    run: "Run",
    faces: StudyFaces,
    *,
    on_epoch: Callable[[EpochReport], None],
    on_trial: Callable[[FrozenTrial], None],
    on_wait: Callable[[int], None],
    on_note: Callable[[str], None],
    sitting: float | None,
    grace_s: float,
) -> Study:
    """Search in a run; see `Run.search`."""
    config = run.config
    torch.set_num_threads(config.threads)
    objectives = tuple(objective(name) for name in config.objectives)
    with storage.naming(run.url):
        with run.locked():
            require_same(run.folder, load_run_study(run.folder), config)
            study = storage.join_study(run.url, config)
            _require_same_faces(run, study, faces)
        timed = config.budget.latency_limited or any(each.origin == "timed" for each in objectives)
        start = kept_start(study, config, run.space)
        for note in start.notes:
            on_note(note)
        faces_of = _faces_of(run, faces)
        scorer = _scorer(run, faces_of)
        with _claims(run, sitting, grace_s) as claims:
            settings = SearchSettings(
                objectives=objectives,
                budget=config.budget,
                n_trials=config.trials,
                seed=config.seed,
                sampler=config.sampler,
                rungs=config.rungs,
                start=(*start.choices, *_proxy_start(run, study, claims, scorer)),
                features=ProxyFeatures(run.space.decode, scorer, config.proxies.names)
                if config.proxies.features
                else None,
            )
            meter = _meter(run) if timed else None
            evaluate = TrainAndVerify(
                config=config,
                faces_of=faces_of,
                teacher_of=_teacher_of(run, faces_of, on_note),
                meter=meter,
                reference_ms=_once(study, claims, REFERENCE_MS, lambda: meter.reference_ms)
                if meter is not None
                else 0.0,
                folder=run.folder / "candidates",
                on_epoch=on_epoch,
            )
            if config.budget.latency_limited:
                made = _once(
                    study,
                    claims,
                    LATENCY_SURVEY,
                    lambda: _latency_survey(run, evaluate).to_data(),
                )
                on_note(str(LatencySurvey.of(made)))
            run_search(
                study,
                run.space,
                evaluate,
                settings,
                claims=claims,
                on_trial=on_trial,
                on_wait=on_wait,
            )
    return study


@contextmanager
def _claims(run: "Run", sitting: float | None, grace_s: float) -> Iterator[SqlClaims]:
    engine, name = storage.open_storage(run.url).engine, run.config.name
    folder = run.folder / WORKERS_FOLDER
    with Worker(engine, name, folder, sitting=sitting, grace_s=grace_s) as me:
        yield SqlClaims(engine, name, me)


def _once(study: Study, claims: SqlClaims, name: str, make: Callable[[], Any]) -> Any:
    """A user attribute of the study, made by one worker, once in a run."""
    while name not in study.user_attrs:
        if claims.take("once", name) is None:
            time.sleep(WAIT_S)
        else:
            study.set_user_attr(name, make())
    return study.user_attrs[name]


def _proxy_start(
    run: "Run", study: Study, claims: SqlClaims, scorer: ProxyScorer
) -> list[dict[str, Label]]:
    """Designs to begin with that proxies choose; all workers and sittings have the same."""
    settings, config = run.config.proxies, run.config
    if not settings.names or not settings.start:
        return []
    made: list[dict[str, Label]] = _once(
        study,
        claims,
        PROXY_START,
        lambda: chosen_by_proxies(run.space, config.budget, settings, scorer, seed=config.seed),
    )
    return made


def _latency_survey(run: "Run", evaluate: TrainAndVerify) -> LatencySurvey:
    """What timings of a few designs say about the space."""
    return preflight_latency(
        run.space,
        run.config.budget,
        lambda spec: evaluate.time(spec)["latency_ms"],
        seed=run.config.seed,
        name=run.config.space,
    )


def _require_same_faces(run: "Run", study: Study, faces: StudyFaces) -> None:
    """All machines of a run must have the same faces, wherever they lie."""
    parts = (faces.split.train, faces.split.search, faces.split.test)
    names = "\n\n".join("\n".join(part.names) for part in parts)
    digest = hashlib.sha256(names.encode()).hexdigest()[:16]
    if FACES not in study.user_attrs:
        study.set_user_attr(FACES, digest)
    elif study.user_attrs[FACES] != digest:
        raise ConfigError(
            f"{run.config.data.where}: not the faces with which the run {run.config.name} began; "
            "give every worker the same images and the same list of exclusions"
        )


def _teacher_of(
    run: "Run", faces_of: Callable[[tuple[int, int]], StudyFaces], on_note: Callable[[str], None]
) -> Callable[[tuple[int, int]], TeacherTargets | None]:
    """What the recipe's teacher makes of the faces, by the size of the student's crops; looked up
    once a size, and embedded at first use."""
    settings = run.config.training.teacher

    @functools.cache
    def teacher_of(input_size: tuple[int, int]) -> TeacherTargets | None:
        if settings is None:
            return None
        return teacher_targets(
            settings,
            faces_of(input_size).split.train,
            run.config.data,
            cache=run.folder.parent / TEACHERS_FOLDER,
            note=on_note,
            threads=run.config.threads,
        )

    return teacher_of


def _faces_of(run: "Run", faces: StudyFaces) -> Callable[[tuple[int, int]], StudyFaces]:
    loaded = {run.space.input_shape[1:]: faces}

    def faces_of(input_size: tuple[int, int]) -> StudyFaces:
        if input_size not in loaded:
            loaded[input_size] = run.faces(input_size)
        return loaded[input_size]

    return faces_of


def _scorer(run: "Run", faces_of: Callable[[tuple[int, int]], StudyFaces]) -> ProxyScorer:
    return ProxyScorer(
        lambda size: faces_of(size).split.train,
        run.config.training,
        n_images=run.config.proxies.images,
        seed=run.config.seed,
        path=run.folder / PROXIES_FILE,
    )


def _meter(run: "Run") -> LatencyMeter:
    space: SearchSpace = run.space
    reference = network(REFERENCE_NETWORK).spec
    at_size = ArchSpec(
        input_shape=(3, *space.input_shape[1:]),
        stem=reference.stem,
        stages=reference.stages,
        head=reference.head,
    )
    return LatencyMeter(FaceModel.fresh(at_size, seed=0), run.folder)
