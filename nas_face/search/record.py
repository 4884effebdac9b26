"""What a search notes down with each trial: names of user attributes in Optuna's storage."""

ARCH_ID = "arch_id"
"""Identity of the trial's architecture; a trial without it never got as far as a design."""

METRICS = "metrics"
"""Of a trial that ended with values: everything that was measured, by name."""

TIMED = "timed"
"""Objectives that were measured on the untrained network, by name; kept for when the trial is
resumed, since a second measurement would differ."""

RUNG = "rung"
"""Prefix of the attributes that hold the objective values at a rung, each to be small."""

PROMOTED = "promoted"
"""Of a trial that went on from a rung: the last such rung, in epochs."""

STOPPED = "stopped"
"""Of a trial that a rung stopped: after how many epochs."""

AUDITED = "audited"
"""Of a trial that a rung would have stopped, but which was trained on so that what rungs cost in
quality is known: the rung, in epochs."""

FAILURE = "failure"
"""Of a failed trial: why, in one line."""

WORKER = "worker"
"""Who is at the trial, or was last."""

LEDGER = "ledger"
"""Seconds by phase and counts that went into the trial (`nas_face.search.ledger`)."""

SLOT = "slot"
"""Which of the search's `n_trials` places the trial fills; the seed of its proposal derives from
it."""

REFUSED = "refused"
"""Of a trial that broke a wall on what was measured: why, in one line. A search for networks finds
out on the untrained one, and the trial's slot stays open."""

RETRIED = "retried"
"""Of a trial whose worker died, and which another one took up: the worker that died."""
