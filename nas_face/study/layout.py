"""Names of the files in run folders and model folders; a module of its own, because it is
light."""

STUDY_FILE = "study.json"
"""Of a run folder: the resolved study. A folder that has it is a run folder."""

SPACE_FILE = "space.yaml"
TARGET_FILE = "target.yaml"
"""Of a run folder: the search space as it was."""

STORAGE_FILE = "study.db"
"""Of a run folder: Optuna's storage."""

LOCK_FILE = "lock"
"""Of a run folder: held by the process that searches in it."""

MODEL_FILE = "model.json"
"""Of a model folder: everything but the weights. A folder that has it is a model folder."""
