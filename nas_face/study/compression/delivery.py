"""The end of a compression: which weights and files ship, and what is missing of the goal."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from nas_face.arch.codec import to_data
from nas_face.arch.spec import ArchSpec
from nas_face.errors import ArchError
from nas_face.nn import FaceModel
from nas_face.study.compression.artefact import write_artefact
from nas_face.study.compression.cards import NamedPairs
from nas_face.study.compression.floors import Floors
from nas_face.study.compression.grouping import with_groups
from nas_face.study.compression.lineage import Origin
from nas_face.study.compression.record import known_result, save_result
from nas_face.study.compression.results import Compression, StepResult, Try
from nas_face.study.compression.runtimes import runtimes_of, write_float
from nas_face.study.compression.state import PlacedFile, State, Work
from nas_face.study.config import BUILT_IN_DATA
from nas_face.study.evaluate import SPEC_FILE
from nas_face.study.verification.trained_on import write_trained_on

DELIVERED = "delivered"
JUDGE_PAIRS = "pairs that decided"
REPORT_PAIRS = "pairs that are reported"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model came from.

    Attributes:
        folder: of the model; None where it never was in one.
        trial: of the run that the folder is in.
    """

    folder: Path | None
    trial: int | None


def deliver(
    out: Path,
    results: Sequence[StepResult],
    states: Sequence[State],
    tries: Sequence[Try],
    work: Work,
    floors: Floors,
    source: Source,
) -> Compression:
    """Put the artefact together, of the last weights whose float file keeps the recipe's floor.

    Args:
        out: folder of the compression, and of the artefact.
        results: of the original and of all steps.
        states: likewise.
        tries: of all steps.
        work: what all steps share.
        floors: of the recipe.
        source: of the model.

    Raises:
        DeployError: a file cannot be written, or does not agree with torch.
    """
    state, shortfalls = _best(results, states, floors)
    folder = out / "steps" / f"{len(results)}-deliver"
    result, files = _delivered(folder, state, work, floors)
    result = with_groups(result, folder, files[0].path, work.bench.faces)
    rows = (*results, result)
    faces = work.bench.faces
    model = state.model.noting(f"compressed by recipe {work.recipe.name}")
    write_trained_on(out, faces.train.identities, source.folder)
    write_artefact(
        out,
        model,
        files,
        title=f"{work.recipe.name}: {work.original.model.description.arch_id}",
        origin=Origin(
            path="" if source.folder is None else str(source.folder),
            trial=source.trial,
            model=work.original.model,
            recipe=to_data(work.recipe),
            training=to_data(work.training),
            seed=work.seed,
            train=faces.train,
        ),
        results=rows,
        judge=NamedPairs(name=JUDGE_PAIRS, pairs=faces.judge),
        report=NamedPairs(name=REPORT_PAIRS, pairs=faces.pairs),
        spec=_spec_of(model, work.original.model, source.folder),
        aligned=BUILT_IN_DATA not in work.data.sources,
        recommended=files[0].result.precision,
        tries=tries,
        layers=state.layers,
        shortfalls=shortfalls,
    )
    return Compression(
        results=rows,
        tries=tuple(tries),
        reached=not shortfalls,
        shortfalls=tuple(shortfalls),
        delivered=tuple(each.result for each in files),
    )


def _best(
    results: Sequence[StepResult], states: Sequence[State], floors: Floors
) -> tuple[State, list[str]]:
    """The state that ships, and what is missing of the goal, a line each."""
    short = [
        f"{each.step}: {each.verdict}" for each in results if not each.verdict.startswith("kept")
    ]
    last = states[-1]
    short += [
        f"int8 is not faster than float: {each.result.latency_ms:.2f} ms on {each.result.runtime} "
        f"beside {last.file.result.latency_ms:.2f} ms"
        for each in last.few_bits
        if each.result.precision == "int8"
        and each.result.runtime == last.file.result.runtime
        and each.result.speedup <= last.file.result.speedup
    ]
    if floors.whole is None or last.judged >= floors.whole:
        dropped = [
            f"{each.result.precision} file on {each.result.runtime}"
            for each in last.few_bits
            if floors.whole is not None and each.result.judged < floors.whole
        ]
        short += [
            f"the {each} breaks the recipe's floor of {floors.whole:.2%}, and does not ship"
            for each in dict.fromkeys(dropped)
        ]
        return last, short
    good = [each for each in states if each.judged >= floors.whole]
    chosen = max(good, key=_speedup)
    number = next(number for number, each in enumerate(states) if each is chosen)
    short.append(
        f"the last weights are judged {last.judged:.2%}, and the recipe's floor is "
        f"{floors.whole:.2%}: what ships is from '{results[number].step}', the fastest that "
        "keeps it"
    )
    return chosen, short


def _speedup(state: State) -> float:
    return max(each.result.speedup for each in (state.file, *state.few_bits))


def _delivered(
    folder: Path, state: State, work: Work, floors: Floors
) -> tuple[StepResult, list[PlacedFile]]:
    """Every file that ships, the one to use first; float files for other runtimes are made now."""
    known = known_result(folder)
    began = time.perf_counter()
    made = (
        []
        if known is None
        else [
            PlacedFile(path=folder / each.file, result=each)
            for each in known.files
            if (folder / each.file).exists()
        ]
    )
    files = [
        each
        for each in state.few_bits
        if each.result.runtime in runtimes_of(work.recipe, each.result.precision)
        and (floors.whole is None or each.result.judged >= floors.whole)
    ]
    for runtime in runtimes_of(work.recipe, "fp32"):
        if runtime == work.runtime:
            files.append(state.file)
            continue
        again = [each for each in made if each.result.runtime == runtime]
        if not again:
            folder.mkdir(parents=True, exist_ok=True)
            path = write_float(state.model, folder, runtime)
            file = work.bench.measure(path, runtime, "fp32", state.model)
            again = [PlacedFile(path=path, result=file)]
        files += again
    files = sorted(files or [state.file], key=lambda each: _rank(each, state, work))
    if known is None:
        cost = state.model.description.cost
        known = StepResult(
            step=DELIVERED,
            kind="deliver",
            verdict="kept",
            madds=cost.madds,
            params=cost.params,
            files=tuple(each.result for each in files),
            seconds=time.perf_counter() - began,
        )
        folder.mkdir(parents=True, exist_ok=True)
        save_result(known, folder)
    return known, files


def _rank(file: PlacedFile, state: State, work: Work) -> tuple[bool, bool, float]:
    """Small for what is to be used: on the runtime that decides the fastest; weights in few bits,
    whose aim is size, before all others where they were the last to be made."""
    result = file.result
    smallest = bool(state.few_bits) and state.few_bits[-1] is file and result.precision != "int8"
    return not smallest, result.runtime != work.runtime, -result.speedup


def _spec_of(model: FaceModel, original: FaceModel, source: Path | None) -> ArchSpec | None:
    """The architecture as it was given, where nothing was cut; else as plain layers, where these
    have the form of one."""
    network = model.description.network
    if source is not None and (source / SPEC_FILE).is_file():
        spec = ArchSpec.load(source / SPEC_FILE)
        if network == original.description.network and spec.lower() == network:
            return spec
    try:
        return ArchSpec.of_tree(network, model.description.input)
    except ArchError:
        return None
