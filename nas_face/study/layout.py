"""Names of the files in run folders and model folders; a module of its own, because it is
light."""

STUDY_FILE = "study.json"
"""Of a run folder: the resolved study. A folder that has it is a run folder."""

SPACE_FILE = "space.yaml"
TARGET_FILE = "target.yaml"
"""Of a run folder: the search space as it was."""

STORAGE_FILE = "study.db"
"""Of a run folder: Optuna's storage."""

STORAGE_URL_FILE = "storage.url"
"""Of a run folder whose storage is elsewhere: where, without the password."""

LOCK_FILE = "lock"
"""Of a run folder: held for the moment in which a process makes its files or writes the report."""

WORKERS_FOLDER = "workers"
"""Of a run folder: a file for each process that searches in it, held while it lives."""

MODEL_FILE = "model.json"
"""Of a model folder: everything but the weights. A folder that has it is a model folder."""

CHECKPOINTS_FOLDER = "checkpoints"
"""Of a folder in which a network is being trained: where it goes on from."""

EPOCHS_FOLDER = "epochs"
"""Of a model folder: the network after each epoch of its training, in model folders `001`, ..."""

TEACHERS_FOLDER = "teachers"
"""Beside run folders: embeddings of teachers, which all trainings share."""
