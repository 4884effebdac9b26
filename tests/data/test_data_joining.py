"""Several sets of faces as one."""

from pathlib import Path

import numpy as np
import pytest

from nas_face.data.blobs import ChainedBlobs, MemoryBlobs
from nas_face.data.joining import join_listings, name_in_its_set
from nas_face.data.listing import FaceListing
from nas_face.errors import DataError


def listing(root: str, *identities: str) -> FaceListing:
    """A set with one image of each identity that is named, in that order."""
    counts: dict[str, int] = {}
    names = []
    for who in identities:
        counts[who] = counts.get(who, 0) + 1
        names.append(f"{who}/{counts[who]}.jpg")
    return FaceListing(
        root=Path(root),
        blobs=MemoryBlobs([f"{root}:{name}".encode() for name in names], source=root),
        names=tuple(names),
        identities=identities,
    )


def test_chained_images_are_those_of_the_parts_in_their_order() -> None:
    rng = np.random.default_rng(0)
    parts = [[rng.bytes(3) for _ in range(size)] for size in (3, 0, 1, 4)]
    blobs = ChainedBlobs.of(
        [MemoryBlobs(part, source=f"part {n}") for n, part in enumerate(parts)]
    )
    flat = [image for part in parts for image in part]
    assert len(blobs) == len(flat) == 8
    assert [blobs.read(row) for row in range(8)] == flat
    assert [blobs.where(row) for row in (0, 2, 3, 4, 7)] == [
        "part 0, image 0",
        "part 0, image 2",
        "part 2, image 0",
        "part 3, image 0",
        "part 3, image 3",
    ]


def test_people_of_all_sets_are_in_the_joined_one() -> None:
    joined = join_listings(
        [listing("a", "ann", "bob", "ann"), listing("b", "eve"), listing("c", "kim")]
    )
    assert joined.identities == ("ann", "bob", "ann", "eve", "kim")
    assert joined.names == ("ann/1.jpg", "bob/1.jpg", "ann/2.jpg", "eve/1.jpg", "kim/1.jpg")
    assert [joined.blobs.read(row) for row in (2, 3)] == [b"a:ann/2.jpg", b"b:eve/1.jpg"]
    assert str(joined.root) == "a + b + c"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            (listing("a", "ann", "bob"), listing("b", "eve", "bob")),
            r"^a and b: 'bob' would be in both; say data\.same_names: join if these are the same "
            r"people, apart if they are others, or leave them out with data\.exclude$",
        ),
        (
            (listing("a", "José_Aznar"), listing("b", "eve"), listing("c", "jose aznar", "eve")),
            r"^a and c: 'jose aznar' \('José_Aznar' in a\) and 1 more would be in both",
        ),
        (
            (listing("a", "0", "1"), listing("b", "0", "1")),
            r"'0' and 1 more .*; plain numbers are mostly other people in each set$",
        ),
    ],
)
def test_somebody_in_two_sets_is_refused_until_somebody_says_who_that_is(sets, message) -> None:
    with pytest.raises(DataError, match=message):
        join_listings(sets)


def test_excluded_people_may_be_in_both_and_stay_who_they_are() -> None:
    joined = join_listings(
        [listing("a", "ann", "bob"), listing("b", "bob", "Ann")], exclude=("bob", "Ann")
    )
    assert joined.identities == ("ann", "bob", "bob", "Ann")


def test_two_spellings_in_one_set_are_two_people() -> None:
    sets = [listing("a", "AnnLee", "ann_lee"), listing("b", "bob")]
    assert join_listings(sets).identities == ("AnnLee", "ann_lee", "bob")


def test_join_puts_images_under_the_earlier_spelling() -> None:
    sets = [listing("a", "Ann_Lee", "bob"), listing("b", "ann lee", "bob"), listing("c", "AnnLee")]
    joined = join_listings(sets, same_names="join")
    assert joined.identities == ("Ann_Lee", "bob", "Ann_Lee", "bob", "Ann_Lee")
    assert joined.names[1:4] == ("bob/1.jpg", "ann lee/1.jpg", "bob/1.jpg (2)")
    assert len(set(joined.names)) == 5


def test_apart_makes_two_people_of_one_name() -> None:
    sets = [listing("a", "7", "ann"), listing("b", "7", "Ann", "7 (2)"), listing("c", "7")]
    joined = join_listings(sets, same_names="apart")
    assert joined.identities == ("7", "ann", "7 (3)", "Ann", "7 (2)", "7 (4)")
    assert [name_in_its_set(each) for each in ("7 (3)", "7 (4)", "Ann")] == ["7", "7", "Ann"]
    assert len(set(joined.names)) == 6
