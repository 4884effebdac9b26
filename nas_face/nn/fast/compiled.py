"""The functions of `kernels.c`, compiled by the machine's own C compiler when first needed.

That takes a second or two in each process that trains, and leaves nothing on the disk. Where there
is no compiler there are no such functions, and their users do the same with torch's operators.
"""

import ctypes
import functools
import logging
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import final

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-fPIC",
)

# What each function takes: i a number, l a size, p a tensor; the number of threads comes last.
ARGUMENTS = {
    "mean_and_variance": "ppppll",
    "norm_act": "ippppp" + "lll",
    "norm_act_backward": "ippppppp" + "ppp" + "lll",
    "prelu_backward": "pppppp" + "ll",
    "gate": "ppp" + "lll",
    "gate_backward": "ppppp" + "lll",
    "shuffle": "pp" + "lll",
}

_log = logging.getLogger(__name__)
_TYPES = {"i": ctypes.c_int, "l": ctypes.c_int64, "p": ctypes.c_void_p}


@final
class Kernels:
    """The compiled functions, on tensors: float32, on the CPU, channels together in memory."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.room.argtypes = [ctypes.c_int64] * 2
        library.room.restype = ctypes.c_int64
        for name, arguments in ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes = [*(_TYPES[each] for each in arguments), ctypes.c_int]
            function.restype = None

    def run(self, name: str, *arguments: Tensor | int) -> None:
        """Call a function by its name in `kernels.c`, with as many threads as torch has."""
        passed = (each.data_ptr() if isinstance(each, Tensor) else each for each in arguments)
        getattr(self._library, name)(*passed, torch.get_num_threads())

    def parts(self, rows: int, channels: int, n_sums: int) -> Tensor:
        """Room for the parts of sums over rows."""
        return torch.empty(int(self._library.room(rows, channels)) * n_sums * channels)


@functools.cache
def kernels() -> Kernels | None:
    """The compiled functions, or None on a machine without a C compiler.

    The compiler is the command `cc`, or what the environment variable CC says; an empty CC stands
    for none.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if os.name != "posix" or not compiler:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "kernels.so"
        try:
            _compile(compiler, library)
            return Kernels(ctypes.CDLL(str(library)))
        except (OSError, subprocess.CalledProcessError) as failure:
            _log.info("training without compiled kernels: %s", failure)
            return None


def _compile(compiler: list[str], library: Path) -> None:
    # Torch's own OpenMP: the threads of a second one would spin while those of torch work.
    openmp = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))[:1]
    threads = ["-fopenmp"] if openmp else []
    step = library.with_suffix(".o")
    for command in (
        [*compiler, *FLAGS, *threads, "-c", str(SOURCE), "-o", str(step)],
        [*compiler, "-shared", str(step), *map(str, openmp), "-lm", "-o", str(library)],
    ):
        subprocess.run(command, check=True, capture_output=True)
