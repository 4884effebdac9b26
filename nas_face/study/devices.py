"""Where a network is trained: on the processor, or on a GPU of this machine."""

from typing import Literal

import torch

from nas_face.errors import ConfigError, near_names

DEVICES = ("auto", "cpu", "cuda")


def device_kind(name: str) -> Literal["cpu", "cuda"]:
    """What a user's word for a device means here; `auto` is a GPU where there is one.

    Raises:
        ConfigError: it is no such word, or there is no GPU.
    """
    if name not in DEVICES:
        raise ConfigError(f"--device: there is no {name!r}; {near_names(name, DEVICES)}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("--device cuda: torch finds no GPU here; say cpu or auto")
    return "cuda" if there and name != "cpu" else "cpu"


def device_of(kind: Literal["cpu", "cuda"], local_rank: int) -> torch.device:
    """The device of one process; GPUs are dealt out by the number of the process on its machine.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """
    if kind == "cpu":
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU: there are "
            f"{torch.cuda.device_count()}; start as many processes (--nproc-per-node)"
        )
    return torch.device("cuda", local_rank)
