"""How long does our sampler think?

Fills a study with made-up trials and times proposals, in processor seconds of one thread: of plain
categorical parameters, and of a search space with conditional choices. The first proposal of a
process compiles the space and draws its pool, and is shown apart.

    OMP_NUM_THREADS=1 python benchmarks/proposal_time.py search_spaces/all_families.yaml
"""

import argparse
import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import create_trial

from nas_face.search import Budget
from nas_face.search.designs import Designs, ParameterDesigns, SpaceDesigns
from nas_face.search.front_gain import FrontGainSampler
from nas_face.space import load_space

N_PARAMETERS, N_OPTIONS = 30, 4


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spaces", type=Path, nargs="*")
    parser.add_argument("--trials", type=int, nargs="+", default=[50, 200, 500])
    parser.add_argument("--proposals", type=int, default=5)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    cases: dict[str, Designs] = {f"{N_PARAMETERS} categorical": plain()}
    cases |= {path.stem: SpaceDesigns(load_space(path), Budget()) for path in arguments.spaces}
    print(
        "| designs | finished trials | first, ms | later, ms | slowest, ms "
        "|\n|---|---|---|---|---|"
    )
    for name, designs in cases.items():
        for n_trials in arguments.trials:
            first, *later = proposals_ms(designs, n_trials, arguments.proposals)
            print(
                f"| {name} | {n_trials} | {first:.0f} | {np.mean(later):.0f} | {max(later):.0f} |",
                flush=True,
            )


def plain() -> ParameterDesigns:
    """Categorical parameters with a cost that all of them add to."""
    distributions = {
        f"p{at}": CategoricalDistribution([f"o{option}" for option in range(N_OPTIONS)])
        for at in range(N_PARAMETERS)
    }
    return ParameterDesigns(
        distributions,
        lambda params: {"madds": 1.0 + sum(int(label[1:]) for label in params.values())},
    )


def proposals_ms(designs: Designs, n_trials: int, n_proposals: int) -> Sequence[float]:
    """Times of proposals that follow one another, each answered by a finished trial."""
    rng = np.random.default_rng(0)
    study = optuna.create_study(directions=["minimize", "minimize"])
    for candidate in itertools.islice(designs.draws(1), n_trials):
        _finish(study, designs, dict(candidate.params), rng)
    taken = []
    for seed in range(n_proposals + 1):
        study.sampler = FrontGainSampler(designs, known=[None, "madds"], seed=seed)
        before = time.process_time()
        trial = study.ask()
        params = trial.relative_params
        taken.append(1e3 * (time.process_time() - before))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        _finish(study, designs, params, rng)
    return taken


def _finish(
    study: Study, designs: Designs, params: dict[str, object], rng: np.random.Generator
) -> None:
    candidate = designs.of(params)
    assert candidate is not None
    madds = candidate.known["madds"]
    error = 1.0 / math.log(10.0 + madds) + 0.1 * float(candidate.vector[::3].mean())
    study.add_trial(
        create_trial(
            params=params,
            distributions={name: designs.distributions[name] for name in params},
            values=[error + 0.01 * float(rng.normal()), madds],
        )
    )


if __name__ == "__main__":
    main()
