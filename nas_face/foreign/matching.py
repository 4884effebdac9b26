"""Operators of a file and sites of a network, brought together one to one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

from nas_face.errors import BuildError
from nas_face.foreign.fitting import fitted
from nas_face.foreign.names import NameOrder, place, says_classifier, says_shortcut, tokens
from nas_face.foreign.operators import Source
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
    number: int | None


class _Trail(NamedTuple):
    """The keys of the states on the way to a state, last first."""

    key: "_Key"
    before: "_Trail | None"


_Key = tuple[int, tuple[_Frame, ...], bool]


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
        """The first complete state in the order of preference, if there is any.

        The search then goes on: another way through is a doubt, unless the file's order or its
        names are for the first.
        """
        root = self._nodes[self._root]
        start = _State((), (_Frame(self._root, frozenset(root.children)),), None)
        # Each with the states that led to it, so that those of a complete one are known.
        open_states: list[tuple[_State, _Trail | None]] = [(start, None)]
        seen: set[_Key] = set()
        found: _State | None = None
        leading: set[_Key] = set()
        while open_states and len(seen) < _MOST_STATES:
            raw, trail = open_states.pop()
            state = self._closed(raw)
            key = _key(state)
            if found is not None and key in leading:
                doubt = self._rivals(found, state)
                if doubt is not None:
                    return found._replace(doubt=doubt)
            if key in seen:
                continue
            seen.add(key)
            trail = _Trail(key, trail)
            if self._farthest is None or len(state.assigned) > len(self._farthest.assigned):
                self._farthest = state
            if len(state.assigned) < len(self._sites):
                open_states += [(each, trail) for each in reversed(list(self._successors(state)))]
            elif all(self._is_ignorable(node) for frame in state.frames for node in frame.left):
                if found is None:
                    found = state
                    if found.doubt is not None or self._joined:
                        return found
                elif (doubt := self._rivals(found, state)) is not None:
                    return found._replace(doubt=doubt)
                while trail is not None:
                    leading.add(trail.key)
                    trail = trail.before
        return found

    def _rivals(self, found: _State, other: _State) -> str | None:
        """Why nobody can say which of two complete ways is right; none if the first is."""
        for site, mine, rival in zip(self._sites, found.assigned, other.assigned, strict=False):
            if mine == rival:
                continue
            if mine is None or rival is None:
                folded = mine if rival is None else rival
                assert folded is not None
                name = self._names[folded]
                return f"{name} is either {site.path}, or that is folded into the layer before"
            one, two = self._names[mine], self._names[rival]
            if says_shortcut(one) == site.shortcut != says_shortcut(two):
                return None
            before = self._order.comes_before(one, two)
            if before or (before is None and self._source.ordered and mine < rival):
                return None
            last = self._last_affine(found.assigned[: self._sites.index(site)])
            if last is not None and place(one) == place(self._names[last]) != place(two):
                return None
            return self._doubt(one, two, site, before)
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
                number = self._number(operator.name, depth) if nested else None
                leaf = _Node(operator.name, (), group[0], group[0], signature, number)
                self._nodes.append(leaf)
                children.append(len(self._nodes) - 1)
            else:
                children.append(self._grow(key, depth + 1, group, nested))
        signature = self._signature(
            tuple(sorted(self._nodes[each].signature for each in children))
        )
        first = min((self._nodes[child].first for child in children), default=0)
        number = self._number(name, depth - 1)
        self._nodes.append(_Node(name, tuple(children), None, first, signature, number))
        return len(self._nodes) - 1

    def _number(self, name: str, depth: int) -> int | None:
        """Component `depth` of a name, if it is a bare number."""
        parts = name.split(".")
        component = parts[depth] if 0 <= depth < len(parts) else ""
        return int(component) if component.isdecimal() else None

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
        classes: dict[int, list[int]] = {}
        entries: dict[int, int] = {}
        for child in sorted(frame.left, key=lambda child: self._nodes[child].first):
            entry = self._entry(child, here, state)
            if entry is not None and not self._is_ahead(child, frame):
                entries[child] = entry
                classes.setdefault(self._nodes[child].signature, []).append(child)
        choices = [self._choose(members, site, state) for members in classes.values()]
        together = self._company([child for child, _ in choices], state)
        choices.sort(
            key=lambda choice: (
                says_shortcut(self._names[entries[choice[0]]]) != site.shortcut,
                choice[0] != together or _is_affine(site),
                entries[choice[0]],
            )
        )
        for chosen, doubt in choices:
            node = self._nodes[chosen]
            rest = _Frame(frame.node, frame.left - {chosen})
            frames = (*state.frames[:-1], rest)
            doubt = state.doubt or doubt or self._swapped(chosen, frame, site)
            if node.operator is not None:
                yield _State((*state.assigned, node.operator), frames, doubt)
            else:
                below = _Frame(chosen, frozenset(node.children))
                yield _State(state.assigned, (*frames, below), doubt)
        if self._may_be_folded(site, state):
            yield state._replace(assigned=(*state.assigned, None))
        if len(state.frames) > 1 and all(self._is_ignorable(child) for child in frame.left):
            yield state._replace(frames=state.frames[:-1])

    def _entry(self, child: int, here: int, state: _State) -> int | None:
        """The first operator in a module, or the layer itself, that could be the site."""
        node = self._nodes[child]
        if node.operator is None:
            found = (self._entry(below, here, state) for below in node.children)
            return min((each for each in found if each is not None), default=None)
        key = (node.operator, here)
        if key not in self._fits:
            operator, site = self._operators[node.operator], self._sites[here]
            self._fits[key] = fitted(operator, site) is not None
        fits = self._fits[key] and self._reads_alike(node.operator, here, state)
        return node.operator if fits else None

    def _is_ahead(self, child: int, frame: _Frame) -> bool:
        """Whether a module with a bare number is asked for before one with a smaller number: a
        sequence runs in the order of its numbers."""
        number = self._nodes[child].number
        return number is not None and any(
            other.number is not None and other.number < number and not self._is_ignorable(each)
            for each, other in ((each, self._nodes[each]) for each in frame.left)
        )

    def _swapped(self, chosen: int, frame: _Frame, site: Site) -> str | None:
        """Doubt where a module of equal shapes with a greater number was defined earlier."""
        node = self._nodes[chosen]
        if node.number is None or not self._source.ordered:
            return None
        for each in frame.left:
            other = self._nodes[each]
            if other.number is None or other.signature != node.signature:
                continue
            if other.number > node.number and other.first < node.first:
                return self._doubt(other.name, node.name, site, False)
        return None

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

    def _choose(self, members: list[int], site: Site, state: _State) -> tuple[int, str | None]:
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
                names = self._nodes[chosen].name, self._nodes[other].name
                return chosen, self._doubt(*names, site, before)
        return chosen, None

    def _company(self, members: list[int], state: _State) -> int | None:
        """The layer that goes with the convolution before, by its name or by standing next."""
        affine = self._last_affine(state.assigned)
        if affine is None:
            return None
        last = next(at for at in reversed(state.assigned) if at is not None)
        by_name = [
            each for each in members if place(self._nodes[each].name) == place(self._names[affine])
        ]
        by_place = [each for each in members if self._nodes[each].first in (affine + 1, last + 1)]
        if not self._source.ordered:
            by_place = [
                each
                for each in by_place
                if self._order.comes_before(self._names[affine], self._nodes[each].name)
            ]
        if len(by_name) == 1 and place(self._names[affine]):
            return by_name[0]
        return by_place[0] if len(by_place) == 1 else None

    def _last_affine(self, assigned: tuple[int | None, ...]) -> int | None:
        """The last convolution or linear layer so far."""
        taken = (at for at in reversed(assigned) if at is not None)
        return next((at for at in taken if self._operators[at].kind == "affine"), None)

    def _doubt(self, one: str, other: str, site: Site, before: bool | None) -> str:
        why = (
            "its place in the file and the number in its name disagree"
            if before is False
            else "the file and the names give no order"
        )
        return f"{one} and {other} both fit, and for {site.path} {why}"


def _is_affine(site: Site) -> bool:
    return site.layer.kind in ("conv", "linear", "translation_variant_conv")


def _key(state: _State) -> _Key:
    """Equal for states from which the same ways lead on."""
    skipped = bool(state.assigned) and state.assigned[-1] is None
    return len(state.assigned), state.frames, skipped


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
