import doctest
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.data import leakage
from nas_face.data.leakage import (
    fingerprints,
    name_key,
    require_disjoint,
    shared_fingerprints,
    shared_identities,
)
from nas_face.errors import DataError


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(leakage) == (0, 1)


@pytest.mark.parametrize(
    "spelling",
    ["aaron eckhart", "AARON-ECKHART", "AaronEckhart", "Aaron__Eckhart ", "Aáron_Eckhart"],
)
def test_spellings_of_a_name_are_probably_one_person(spelling: str) -> None:
    shared = shared_identities(["Aaron_Eckhart", "Al_Pacino"], [spelling, "Bob"])
    assert shared.equal == ()
    assert shared.probable == (("Aaron_Eckhart", spelling),)
    assert shared.trained == ("Aaron_Eckhart",)


def test_equal_names_are_shared_and_not_probable_as_well() -> None:
    shared = shared_identities(["a_b", "c", "d"], ["c", "a_b", "A B", "e"])
    assert shared.equal == ("a_b", "c")
    assert shared.probable == ()
    assert len(shared) == 2


@pytest.mark.parametrize(
    ("one", "other"), [("s1_11", "s11_1"), ("007", "7"), ("__", "--"), ("Li_Na", "Li_Nan")]
)
def test_different_names_stay_apart(one: str, other: str) -> None:
    assert len(shared_identities([one], [other])) == 0


def test_plain_numbers_are_people_unless_it_is_said_that_they_differ() -> None:
    assert shared_identities(["0", "1", "x1"], ["1", "x1"]).equal == ("1", "x1")
    differ = shared_identities(["0", "1", "x1"], ["1", "x1"], numbers_differ=True)
    assert differ.equal == ("x1",)


def test_disjoint_sets_pass() -> None:
    require_disjoint({"a", "b"}, ["c"], where="pairs.txt")
    require_disjoint([], [], where="pairs.txt")
    require_disjoint(["1"], ["1"], where="pairs.txt", numbers_differ=True)


def test_shared_people_are_refused_with_counts_names_and_remedy() -> None:
    message = (
        "pairs.txt: 5 of its 6 identities are in the training set (1 of them probably): "
        "'a', 'b', 'c', ...; leave them out of the training set "
        "(nas-face data check --write-exclude FILE)"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        require_disjoint("abcde", ["d", "c", "b", "a", "E", "z"], where="pairs.txt")


def test_probable_people_are_refused_by_both_spellings() -> None:
    with pytest.raises(DataError, match=r"1 of its 1 .*: 'al pacino' \('Al_Pacino' there\);"):
        require_disjoint(["Al_Pacino"], ["al pacino"], where="pairs.txt")


def test_a_fingerprint_is_the_head_of_the_keys_sha256() -> None:
    whole = hashlib.sha256(b"alpacino").hexdigest()
    assert fingerprints(["Al_Pacino", "al pacino"]) == [whole[:12]]


def test_fingerprints_know_names_again_and_hold_none() -> None:
    kept = fingerprints(["Al_Pacino", "Bob", "Carl"])
    assert kept == sorted(kept)
    assert "pacino" not in "".join(kept).lower()
    assert shared_fingerprints(kept, ["Dan", "bob", "AL PACINO"]) == ("AL PACINO", "bob")
    assert shared_fingerprints(kept, ["Dan"]) == ()


_names = st.sets(st.text("aAbBéÉ_- 01", max_size=4), max_size=8)


@given(trained=_names, judged=_names)
def test_fingerprints_agree_with_names(trained: set[str], judged: set[str]) -> None:
    expected = {b for a in trained for b in judged if a == b or name_key(a) == name_key(b)}
    assert set(shared_fingerprints(fingerprints(trained), judged)) == expected
    shared = shared_identities(trained, judged)
    known = {name_key(name) for name in shared.trained}
    assert {name for name in judged if name_key(name) in known} == expected
