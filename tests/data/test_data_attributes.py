from pathlib import Path

import pytest

from nas_face.data.formats.attributes import read_attributes
from nas_face.errors import DataError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "attributes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_identities_give_their_images_a_group(tmp_path):
    table = read_attributes(
        written(
            tmp_path, "\ufeffIdentity, sex,age\nann,f,20-29\n\nbob,m,\neve,f,30-39\nann,f,20-29\n"
        )
    )
    assert table.key == "identity" and table.attributes == ("sex", "age")
    names = ["ann/1", "ann/2", "bob/1", "joe/1"]
    identities = ["ann", "ann", "bob", "joe"]
    sex = table.groups("sex", names=names, identities=identities)
    assert sex.names == ("f", "m")
    assert sex.codes.tolist() == [0, 0, 1, -1]
    assert (sex.n_unlisted, sex.n_empty, sex.n_unused) == (1, 0, 1)
    age = table.groups("age", names=names, identities=identities)
    assert age.names == ("20-29",)
    assert age.codes.tolist() == [0, 0, -1, -1]
    assert (age.n_unlisted, age.n_empty, age.n_unused) == (1, 1, 1)


def test_images_may_have_groups_of_their_own(tmp_path):
    table = read_attributes(written(tmp_path, 'image,glasses\nann\\1,yes\n"ann/2",no\n'))
    found = table.groups("glasses", names=["ann/2", "ann/1"], identities=["ann", "ann"])
    assert found.names == ("no", "yes")
    assert found.codes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: the first line must be 'identity,ATTRIBUTE,...'"),
        ("person,sex\nann,f\n", ":1: the first line must be .* got 'person,sex'"),
        ("identity\nann\n", ":1: the first line must be"),
        ("identity,sex,\nann,f,\n", ":1: the first line must be"),
        ("identity,sex,sex\nann,f,f\n", ":1: two columns have the same name"),
        ("identity,sex\n", "there is no line after the header"),
        ("identity,sex\nann,f\nbob\n", ":3: a line has 2 columns, got 1"),
        ("identity,sex\n,f\n", ":2: the identity has no name"),
        ("identity,sex\nann,f\nann,m\n", ":3: identity ann has other values further up"),
        ('identity,sex\nann,"f\n', "not valid CSV"),
    ],
)
def test_what_is_not_of_the_form_is_named_by_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_attributes(written(tmp_path, text))


def test_unknown_attributes_and_foreign_files_are_refused(tmp_path):
    table = read_attributes(written(tmp_path, "identity,sex\nann,f\n"))
    with pytest.raises(DataError, match="no attribute 'sox'; did you mean 'sex'"):
        table.groups("sox", names=["ann/1"], identities=["ann"])
    with pytest.raises(DataError, match="none of 1 images has a value of 'sex'; .* such as 'bob'"):
        table.groups("sex", names=["bob/1"], identities=["bob"])
    with pytest.raises(DataError, match="no such"):
        read_attributes(tmp_path / "none.csv")


def test_a_line_break_in_a_cell_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text('identity,age\n"ann\nlee",20\n')
    with pytest.raises(DataError) as caught:
        read_attributes(path)
    assert len(str(caught.value).splitlines()) == 1
    path.write_text('identity,"a\nge"\nann,20\n')
    with pytest.raises(DataError, match="a name must be of one line"):
        read_attributes(path)
