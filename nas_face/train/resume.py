"""From a run to its checkpoint and back, among any number of processes."""

from nas_face.nn.sharded_state import full_state, load_full_state_
from nas_face.train.checkpoint import Checkpoints, State
from nas_face.train.run import Run
from nas_face.train.task import Task

_PARTED = ("module", "optimizer")
"""Keys of a checkpoint whose tensors may lie in part on one rank and in part on another."""

_PROGRESS = ("epoch", "position", "loss_sum", "n_seen", "seconds", "wait_s")


def save_run(run: Run, checkpoints: Checkpoints) -> None:
    """Write a checkpoint; every rank takes part, the first one writes.

    Raises:
        TrainingDiverged: the weights are not worth keeping; earlier checkpoints stay.
        OSError: the disk is full; likewise.
    """
    run.watch.see_weights(where=run.where, now=True)
    full = full_state(run.objective, run.optimizer, run.objective.sharded, run.ranks)
    state: State = {
        "identity": run.task.identity,
        "generation": run.generation,
        **{name: getattr(run, name) for name in _PROGRESS},
        "model": run.task.model.module.state_dict(),
        "average": None if run.average is None else run.average.state_dict(),
        "scaler": run.scaler.state_dict(),
        "watch": run.watch.state_dict(),
        **full,
    }
    if run.ranks.leads:
        checkpoints.save(run.epochs_before * run.plan.n_batches + run.done, state)


def begun_run(task: Task, checkpoints: Checkpoints | None) -> Run:
    """The run at the last checkpoint of this very training, or at its start where there is none;
    the first rank reads."""
    found = None
    if checkpoints is not None and task.ranks.leads:
        found = checkpoints.latest(task.identity)
    shared = None if found is None else {k: found[k] for k in found if k not in _PARTED}
    state = task.ranks.tell(shared)
    if state is None:
        return Run(task)
    run = Run(task, state["generation"])
    for name in _PROGRESS:
        setattr(run, name, state[name])
    task.model.module.load_state_dict(state["model"])
    if run.average is not None:
        run.average.load_state_dict(state["average"])
    run.scaler.load_state_dict(state["scaler"])
    run.watch.load_state_dict(state["watch"])
    load_full_state_(run.objective, run.optimizer, run.objective.sharded, found, run.ranks)
    return run
