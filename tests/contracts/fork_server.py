"""Where processes of tests come from: one that has imported everything forks them, so that not
every one of them does."""

import multiprocessing
from multiprocessing.context import ForkServerContext

PRELOADED = [
    "pytest",
    "nas_face.cli.progress",
    "nas_face.cli.stopping",
    "nas_face.losses.classifier",
    "nas_face.study.compression.job",
    "nas_face.study.compression.steps",
    "nas_face.study.report.html",
    "nas_face.study.run",
    "nas_face.study.supervisor",
    "nas_face.study.tables",
    "nas_face.study.training",
    "torch._dynamo",  # which torch imports with the first optimiser
]


def fork_server() -> ForkServerContext:
    """The one of this process; it begins with the first process that it is asked for."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context
