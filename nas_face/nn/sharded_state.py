"""State of a module whose parameters lie in part on one rank and in part on another.

A checkpoint holds whole tensors, so that it can be read by any number of ranks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from nas_face.nn.ranks import Ranks


def full_state(
    module: nn.Module, optimizer: Optimizer, sharded: Sequence[nn.Parameter], ranks: Ranks
) -> dict[str, Any]:
    """Module and optimiser as if one process had trained alone. All ranks call it.

    Args:
        module: holds the parameters in `sharded`.
        optimizer: of these and any other parameters.
        sharded: parameters of which each rank holds some rows; all else is replicated.
        ranks: processes that train together.

    Returns:
        ``module``: a state dict. ``optimizer``: the state dict of the whole optimiser. Sharded
        tensors are whole on rank 0, in main memory, and None elsewhere.
    """
    module_state = dict(module.state_dict())
    optimizer_state = optimizer.state_dict()
    for name in _names(module, sharded):
        module_state[name] = ranks.gather_rows(module_state[name])
    of_parameters = dict(optimizer_state["state"])
    for number, parameter in _numbers(optimizer, sharded).items():
        if number in of_parameters:
            of_parameters[number] = {
                key: ranks.gather_rows(value) if _is_like(value, parameter) else value
                for key, value in of_parameters[number].items()
            }
    return {"module": module_state, "optimizer": {**optimizer_state, "state": of_parameters}}


def load_full_state_(
    module: nn.Module,
    optimizer: Optimizer,
    sharded: Sequence[nn.Parameter],
    state: Mapping[str, Any] | None,
    ranks: Ranks,
) -> None:
    """Undo `full_state`, also among another number of ranks. All ranks call it.

    Args:
        module: as for `full_state`.
        optimizer: as for `full_state`, with the same parameters in the same order.
        sharded: as for `full_state`.
        state: what `full_state` gave on rank 0; read on rank 0 only.
        ranks: processes that train together.
    """
    names = _names(module, sharded)
    numbers = _numbers(optimizer, sharded)
    wholes = _wholes(state, names, numbers) if ranks.leads and state is not None else {}
    replicated = ranks.tell(None if state is None else _without(state, wholes))
    if replicated is None:
        raise ValueError("rank 0 has no state to load")
    own_module = dict(replicated["module"])
    own_optimizer = {**replicated["optimizer"], "state": dict(replicated["optimizer"]["state"])}
    for place in ranks.tell(list(wholes)):
        part, number, key = place
        like = numbers[number] if part == "optimizer" else module.state_dict()[key]
        own = like.detach().clone()
        ranks.scatter_rows_(own, wholes.get(place))
        if part == "module":
            own_module[key] = own
        else:
            own_optimizer["state"][number] = {**own_optimizer["state"].get(number, {}), key: own}
    module.load_state_dict(own_module)
    optimizer.load_state_dict(own_optimizer)


_Place = tuple[str, int, str]
"""``module``, 0 and a name, or ``optimizer``, the number of a parameter and a key."""


def _wholes(
    state: Mapping[str, Any], names: Sequence[str], numbers: Mapping[int, nn.Parameter]
) -> dict[_Place, Tensor]:
    """The tensors in a full state that are to be cut up."""
    wholes: dict[_Place, Tensor] = {("module", 0, name): state["module"][name] for name in names}
    shapes = {value.shape for value in wholes.values()}
    for number in numbers:
        for key, value in state["optimizer"]["state"].get(number, {}).items():
            if isinstance(value, Tensor) and value.shape in shapes:
                wholes["optimizer", number, key] = value
    return wholes


def _without(state: Mapping[str, Any], wholes: Mapping[_Place, Tensor]) -> dict[str, Any]:
    """A full state less the tensors that are to be cut up."""
    of_parameters = {
        number: {
            key: value for key, value in values.items() if ("optimizer", number, key) not in wholes
        }
        for number, values in state["optimizer"]["state"].items()
    }
    return {
        "module": {
            name: value
            for name, value in state["module"].items()
            if ("module", 0, name) not in wholes
        },
        "optimizer": {**state["optimizer"], "state": of_parameters},
    }


def _names(module: nn.Module, sharded: Sequence[nn.Parameter]) -> list[str]:
    wanted = {id(each) for each in sharded}
    return [name for name, each in module.named_parameters() if id(each) in wanted]


def _numbers(optimizer: Optimizer, sharded: Sequence[nn.Parameter]) -> dict[int, nn.Parameter]:
    """Sharded parameters by their number in the optimiser's state dict."""
    wanted = {id(each) for each in sharded}
    everything = [each for group in optimizer.param_groups for each in group["params"]]
    return {number: each for number, each in enumerate(everything) if id(each) in wanted}


def _is_like(value: Any, parameter: nn.Parameter) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape
