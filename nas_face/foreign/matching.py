"""Operators of a file and sites of a network, brought together one to one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

from nas_face.arch.layers import BatchNorm
from nas_face.errors import BuildError
from nas_face.foreign.fitting import Weights, fitted, identity_norm
from nas_face.foreign.names import NameOrder, place, says_classifier, says_shortcut, tokens
from nas_face.foreign.operators import Operator, Source
from nas_face.foreign.sites import Site

_MOST_STATES = 200_000


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Match:
    """Which operator is which site.

    Attributes:
        assigned: for each site the position of its operator; none for a normalisation or scale
            that the file has folded into the layer before it.
        dropped: positions of operators that are no part of the network: a classifier.
    """

    assigned: tuple[int | None, ...]
    dropped: tuple[int, ...]


class _Frame(NamedTuple):
    """A module of the file that is being matched, and what is left of it."""

    node: int
    left: frozenset[int]


class _State(NamedTuple):
    assigned: tuple[int | None, ...]
    frames: tuple[_Frame, ...]
    doubt: str | None


class _Node(NamedTuple):
    """A module or, with an operator, a layer of the file."""

    name: str
    children: tuple[int, ...]
    operator: int | None
    first: int
    signature: int


def match(source: Source, sites: tuple[Site, ...], embedding_size: int) -> Match:
    """Find the one way in which a file's weights are those of a network.

    The file's modules are taken for what they are: a module is finished before the next begins.
    Within a module, layers come in any order that the shapes allow; where shapes allow several,
    the order of the file or its names decide, and if they disagree nobody does.

    Args:
        source: the file.
        sites: the network.
        embedding_size: of the network.

    Raises:
        BuildError: it does not fit, or more than one way is left; the message names the first
            place.
    """
    graph = any(each.before is not None for each in source.operators)
    tries = [_Matcher(source, sites, embedding_size, nested=not graph, joined=graph)]
    tries.append(_Matcher(source, sites, embedding_size, nested=False, joined=False))
    for each in tries:
        state = each.search()
        if state is None:
            continue
        if state.doubt is not None:
            raise BuildError(f"doubtful: {state.doubt}")
        used = {at for at in state.assigned if at is not None}
        dropped = tuple(at for at in range(len(source.operators)) if at not in used)
        found = Match(assigned=state.assigned, dropped=dropped)
        _require_outside(found, source, sites)
        return found
    raise BuildError(tries[0].mismatch())


@final
class _Matcher:
    """One search through the ways to match.

    Args:
        source: see `match`.
        sites: see `match`.
        embedding_size: see `match`.
        nested: whether the modules that the names speak of are kept together.
        joined: whether an operator must read what the site reads.
    """

    def __init__(
        self,
        source: Source,
        sites: tuple[Site, ...],
        embedding_size: int,
        *,
        nested: bool,
        joined: bool,
    ) -> None:
        self._source = source
        self._operators = source.operators
        self._names = [operator.name for operator in source.operators]
        self._order = NameOrder(self._names)
        self._signatures: dict[object, int] = {}
        self._sites = sites
        self._joined = joined
        self._embedding_size = embedding_size
        self._nodes: list[_Node] = []
        self._root = self._grow("", 0, list(range(len(self._operators))), nested)
        self._fits: dict[tuple[int, int], bool] = {}
        self._farthest: _State | None = None

    def search(self) -> _State | None:
        """The first complete state in the order of preference, if there is any."""
        root = self._nodes[self._root]
        start = _State((), (_Frame(self._root, frozenset(root.children)),), None)
        open_states = [start]
        seen = set()
        while open_states and len(seen) < _MOST_STATES:
            state = self._closed(open_states.pop())
            key = (len(state.assigned), state.frames, _last_skipped(state))
            if key in seen:
                continue
            seen.add(key)
            if self._farthest is None or len(state.assigned) > len(self._farthest.assigned):
                self._farthest = state
            if len(state.assigned) == len(self._sites):
                if all(self._is_ignorable(node) for frame in state.frames for node in frame.left):
                    return state
                continue
            open_states += reversed(list(self._successors(state)))
        return None

    def mismatch(self) -> str:
        """The first place that nothing fits, for people."""
        assert self._farthest is not None
        state = self._farthest
        used = {at for at in state.assigned if at is not None}
        left = [at for at in range(len(self._operators)) if at not in used]
        if len(state.assigned) == len(self._sites):
            names = ", ".join(f"{self._label(at)}" for at in left[:3])
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            return f"weights are left over: {names}{more}"
        site = self._sites[len(state.assigned)]
        wanted = ", ".join(f"{key} {shape}" for key, shape in site.shapes.items())
        if not left:
            return f"weights are missing: {site.path} needs {wanted}"
        return f"{site.path} needs {wanted}, the file has next {self._label(left[0])}"

    def _label(self, at: int) -> str:
        operator = self._operators[at]
        return f"{operator.name or 'a lone array'} ({operator.shapes})"

    def _grow(self, name: str, depth: int, members: list[int], nested: bool) -> int:
        """Add the node of some operators whose names agree in their first `depth` components."""
        groups: dict[str, list[int]] = {}
        for at in members:
            parts = self._names[at].split(".")
            key = ".".join(parts[: depth + 1]) if nested and len(parts) > depth + 1 else f"={at}"
            groups.setdefault(key, []).append(at)
        children = []
        for key, group in groups.items():
            if key.startswith("="):
                operator = self._operators[group[0]]
                signature = self._signature(operator.signature)
                leaf = _Node(operator.name, (), group[0], group[0], signature)
                self._nodes.append(leaf)
                children.append(len(self._nodes) - 1)
            else:
                children.append(self._grow(key, depth + 1, group, nested))
        signature = self._signature(tuple(sorted(self._nodes[each].signature for each in children)))
        first = min((self._nodes[child].first for child in children), default=0)
        self._nodes.append(_Node(name, tuple(children), None, first, signature))
        return len(self._nodes) - 1

    def _signature(self, of: object) -> int:
        """A number for each distinct signature."""
        return self._signatures.setdefault(of, len(self._signatures))

    def _closed(self, state: _State) -> _State:
        frames = state.frames
        while len(frames) > 1 and not frames[-1].left:
            frames = frames[:-1]
        return state._replace(frames=frames)

    def _successors(self, state: _State) -> Iterator[_State]:
        """What may come next, likeliest first."""
        here = len(state.assigned)
        site = self._sites[here]
        frame = state.frames[-1]
        classes: dict[object, list[int]] = {}
        for child in sorted(frame.left, key=lambda child: self._nodes[child].first):
            if self._may_start(child, here, state):
                classes.setdefault(self._nodes[child].signature, []).append(child)
        for members in classes.values():
            chosen, doubt = self._choose(members, site, state)
            node = self._nodes[chosen]
            rest = _Frame(frame.node, frame.left - {chosen})
            frames = (*state.frames[:-1], rest)
            doubt = state.doubt or doubt
            if node.operator is not None:
                yield _State((*state.assigned, node.operator), frames, doubt)
            else:
                below = _Frame(chosen, frozenset(node.children))
                yield _State(state.assigned, (*frames, below), doubt)
        if self._may_be_folded(site, state):
            yield state._replace(assigned=(*state.assigned, None))
        if len(state.frames) > 1 and all(self._is_ignorable(child) for child in frame.left):
            yield state._replace(frames=state.frames[:-1])

    def _may_start(self, child: int, here: int, state: _State) -> bool:
        """Whether the site, or one soon behind it, could be in this child."""
        node = self._nodes[child]
        if node.operator is None:
            return any(self._may_start(below, here, state) for below in node.children)
        key = (node.operator, here)
        if key not in self._fits:
            operator, site = self._operators[node.operator], self._sites[here]
            self._fits[key] = fitted(operator, site) is not None
        return self._fits[key] and self._reads_alike(node.operator, here, state)

    def _reads_alike(self, at: int, here: int, state: _State) -> bool:
        before = self._operators[at].before
        if not self._joined or before is None:
            return True
        mapped = set()
        for site in self._sites[here].before:
            while state.assigned[site] is None:
                behind = self._sites[site].behind
                assert behind is not None  # only such sites are ever left out
                site = behind
            mapped.add(state.assigned[site])
        return mapped == before

    def _may_be_folded(self, site: Site, state: _State) -> bool:
        if site.behind is None:
            return False
        operator = state.assigned[site.behind]
        assert operator is not None
        if "running_mean" in site.shapes:
            return "bias" in self._operators[operator].arrays
        return self._joined

    def _is_ignorable(self, child: int) -> bool:
        """Whether a module may be left out: a matrix from embeddings to classes."""
        node = self._nodes[child]
        if node.operator is None:
            return all(self._is_ignorable(below) for below in node.children)
        operator = self._operators[node.operator]
        weight = operator.arrays.get("weight")
        return (
            operator.kind == "affine"
            and weight is not None
            and weight.ndim == 2
            and self._embedding_size in weight.shape
        )

    def _choose(
        self, members: list[int], site: Site, state: _State
    ) -> tuple[int, str | None]:
        """One of several modules or layers of equal shapes, and what speaks against it."""
        if len(members) == 1:
            return members[0], None
        alike = [
            each for each in members if says_shortcut(self._nodes[each].name) == site.shortcut
        ]
        members = alike or members
        (key, *_) = site.shapes
        named = [each for each in members if tokens(self._nodes[each].name)[-1:] == (key,)]
        if len(named) == 1 or len(members) == 1:
            return (named or members)[0], None
        if self._nodes[members[0]].operator is not None and not _is_affine(site):
            together = self._company(members, state)
            if together is not None:
                return together, None
        chosen, *others = members
        for other in others:
            before = self._order.comes_before(self._nodes[chosen].name, self._nodes[other].name)
            if before is False or (before is None and not self._source.ordered):
                return chosen, self._doubt(chosen, other, site, before)
        return chosen, None

    def _company(self, members: list[int], state: _State) -> int | None:
        """The layer that goes with the convolution before, by its name or by standing next."""
        taken = [at for at in state.assigned if at is not None]
        affine = next((at for at in reversed(taken) if self._operators[at].kind == "affine"), None)
        if affine is None:
            return None
        by_name = [
            each for each in members if place(self._nodes[each].name) == place(self._names[affine])
        ]
        by_place = [
            each for each in members if self._nodes[each].first in (affine + 1, taken[-1] + 1)
        ]
        if not self._source.ordered:
            by_place = [
                each
                for each in by_place
                if self._order.comes_before(self._names[affine], self._nodes[each].name)
            ]
        if len(by_name) == 1 and place(self._names[affine]):
            return by_name[0]
        return by_place[0] if len(by_place) == 1 else None

    def _doubt(self, one: int, other: int, site: Site, before: bool | None) -> str:
        first, second = self._nodes[one].name, self._nodes[other].name
        why = (
            "its place in the file and the number in its name disagree"
            if before is False
            else "the file keeps no order and the names give none"
        )
        return f"{first} and {second} have equal shapes, and for {site.path} {why}"


def _is_affine(site: Site) -> bool:
    return site.layer.kind in ("conv", "linear")


def _last_skipped(state: _State) -> bool:
    return bool(state.assigned) and state.assigned[-1] is None


def _require_outside(found: Match, source: Source, sites: tuple[Site, ...]) -> None:
    """Raise unless what was dropped is one classifier before or behind the network.

    Raises:
        BuildError: it may be a part of another network.
    """
    operators = source.operators
    used = [at for at in found.assigned if at is not None]
    names = [operators[at].name for at in found.dropped]
    for at in found.dropped:
        outside = source.ordered and (at > max(used) or at < min(used))
        if len(found.dropped) > 1 or not (outside or says_classifier(operators[at].name)):
            raise BuildError(f"weights are left over: {', '.join(names[:3])}")
        twins = [
            site.path
            for site, mine in zip(sites, found.assigned, strict=True)
            if mine is not None and fitted(operators[at], site) is not None
        ]
        if twins and not source.ordered and not says_classifier(operators[at].name):
            raise BuildError(f"doubtful: {names[0]} has the shape of {twins[-1]} and is left over")


def weights_of(found: Match, source: Source, sites: tuple[Site, ...]) -> Weights:
    """The network's state dict, counters left out.

    A bias that a convolution of ours has no place for moves into the normalisation behind it:
    y = (x + b - mean) * s + shift is the same with mean - b.
    """
    weights: Weights = {}
    for site, at in zip(sites, found.assigned, strict=True):
        if at is not None:
            fit = fitted(source.operators[at], site)
            assert fit is not None
        elif isinstance(site.layer, BatchNorm):
            fit = identity_norm(site.layer, site.shapes["running_mean"][0])
        else:
            fit = {"weight": identity_norm(BatchNorm(), site.shapes["weight"][0])["weight"]}
        if site.behind is not None and "running_mean" in site.shapes:
            surplus = weights.pop(f"{sites[site.behind].path}.bias*", None)
            if surplus is not None and at is None:
                fit["bias"] = surplus
            elif surplus is not None:
                fit["running_mean"] = fit["running_mean"] - surplus
        for key, value in fit.items():
            spare = key not in site.shapes
            weights[f"{site.path}.{key}{'*' if spare else ''}"] = value
    return weights
