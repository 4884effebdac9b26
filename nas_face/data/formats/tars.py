"""WebDataset: samples in tar files, each the members that share a name up to its first dot."""

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, final

import numpy as np

from nas_face.data.blobs import SpanBlobs
from nas_face.data.faces import SkippedImage
from nas_face.data.formats.atomic import replacing
from nas_face.data.formats.folders import IMAGE_SUFFIXES
from nas_face.data.formats.tar_names import has_counter, numbered_tar, tars_of
from nas_face.data.formats.trees import image_suffix
from nas_face.data.listing import FaceListing
from nas_face.errors import DataError

DEFAULT_SHARD_BYTES = 256 << 20
"""Images in one tar of several, bytes; a usual size for reading in sequence."""

_MAX_SIDECAR_BYTES = 1 << 20  # a longer one is no identity's name
_SIDECARS = ("json", "cls", "txt")
_BLOCK = 512
_REMEDY = "give each image a .cls, .txt or .json beside it, or a folder for each identity"


def list_tars(path: Path) -> FaceListing:
    """List the images of WebDataset tars, without reading them.

    A sample is the members in a row with one name up to the first dot of its last part. Its images
    are the members whose ending is an image's; such as `seg.png` only where there is none with a
    plain ending. Its identity is `identity` in its `.json`, else its `.cls`, else `label` or
    `class` in its `.json`, else its `.txt`, else the folder of its name, less the folders that all
    samples have in common. Nothing is ever extracted, so a member may be called anything.

    Args:
        path: a .tar, a folder with such, or a pattern of several, `shards-{000..009}.tar` or
            `shards-%06d.tar` (all that there are, counted from 0).

    Returns:
        Its images, shard by shard. An image is called `name` of its `.json`, else
        `IDENTITY/FILE`, with a number where that is taken. Samples without an identity and members
        that are links are named in `skipped`.

    Raises:
        DataError: a tar is missing, compressed or broken, or none of its samples has an image and
            an identity.
    """
    shards = tuple(tars_of(path))
    samples = [
        sample for number, shard in enumerate(shards) for sample in _read_shard(shard, number)
    ]
    if not any(sample.images for sample in samples):
        raise DataError(f"{path}: no image in it; image files end in {_image_endings()}")
    n_common = _n_common_folders([sample.folders for sample in samples if sample.images])
    names: dict[str, None] = {}
    identities: list[str] = []
    spans: list[tuple[int, int, int]] = []
    skipped: list[SkippedImage] = []
    for sample in samples:
        skipped += sample.skipped
        identity = sample.identity or "/".join(sample.folders[n_common:])
        for image in sample.images:
            if not identity:
                skipped.append(SkippedImage(name=image.name, reason="nothing says whose it is"))
                continue
            file_name = image.name.rpartition("/")[2]
            names[_unused(sample.name or f"{identity}/{file_name}", names)] = None
            identities.append(identity)
            spans.append((sample.shard, image.offset, image.size))
    if not spans:
        raise DataError(f"{path}: none of its images says whose it is; {_REMEDY}")
    files, offsets, lengths = np.array(spans, dtype=np.int64).T
    return FaceListing(
        root=path,
        blobs=SpanBlobs(shards, files, offsets, lengths),
        names=tuple(names),
        identities=tuple(identities),
        skipped=tuple(skipped),
    )


def write_tars(
    listing: FaceListing, path: Path, *, shard_bytes: int = DEFAULT_SHARD_BYTES
) -> tuple[Path, ...]:
    """Write images as WebDataset tars, their bytes as they are.

    Image number i becomes `i.jpg` (or .png, ...: its name's ending, else by its content), `i.cls`
    with the number of its identity, counted from 0 in the order of the names, and `i.json` with
    `identity` and `name`. The same listing gives the same bytes. Each tar is moved into place when
    all are written.

    Args:
        listing: what to write.
        path: one .tar that takes all, or a pattern with a counter such as `faces-%06d.tar`.
        shard_bytes: a pattern's tar is closed once its images have this many bytes.

    Returns:
        The tars.

    Raises:
        DataError: an image cannot be read, or a tar cannot be written.
        ValueError: `shard_bytes` is below 1.
    """
    if shard_bytes < 1:
        raise ValueError(f"shard_bytes must be at least 1, got {shard_bytes}")
    several = has_counter(path)
    number_of = {name: number for number, name in enumerate(sorted(set(listing.identities)))}
    paths: list[Path] = []
    with ExitStack() as in_place:
        rows = iter(range(len(listing.names)))
        row = next(rows, None)
        while row is not None or not paths:
            shard = numbered_tar(path, len(paths)) if several else path
            partial = in_place.enter_context(replacing(shard))
            paths.append(shard)
            n_bytes = 0
            with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
                while row is not None and (not several or n_bytes < shard_bytes):
                    n_bytes += _write_sample(tar, listing, row, number_of)
                    row = next(rows, None)
    return tuple(paths)


@final
class _HeaderReader(io.BufferedReader):
    """A file of which nothing long is read: a broken header may state a length of any size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_SIDECAR_BYTES + _BLOCK:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    name: str
    offset: int
    size: int


@final
@dataclass(slots=True, kw_only=True)
class _Sample:
    shard: int
    key: str
    folders: tuple[str, ...]
    images: list[_Image] = field(default_factory=list)
    dotted: list[_Image] = field(default_factory=list)
    sidecars: dict[str, str] = field(default_factory=dict)
    skipped: list[SkippedImage] = field(default_factory=list)
    identity: str = ""
    name: str = ""

    def close(self) -> None:
        """Settle which of its members are its images, and whose they are."""
        if not self.images:
            self.images, self.dotted = self.dotted, []
        reason = "a second image of its sample"
        self.skipped += [SkippedImage(name=each.name, reason=reason) for each in self.dotted]
        known = _json_object(self.sidecars.get("json", ""))
        found = (
            _text(known.get("identity")),
            self.sidecars.get("cls", "").strip(),
            _text(known.get("label")),
            _text(known.get("class")),
            self.sidecars.get("txt", "").strip(),
        )
        self.identity = next((each for each in found if each), "")
        self.name = _text(known.get("name")) if len(self.images) == 1 else ""


def _read_shard(path: Path, number: int) -> list[_Sample]:
    samples: list[_Sample] = []
    try:
        with _HeaderReader(io.FileIO(path)) as file:
            head = file.read(6)
            if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
                raise DataError(
                    f"{path}: a compressed tar cannot be read at any place; decompress it first "
                    "(images gain nothing by it)"
                )
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in _members(path, tar, file):
                    _add_member(samples, number, member, file)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such tar") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    # On broken files tarfile raises what it stumbles on; headers nested deeply, RecursionError.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not a tar, or a broken one: {error}") from error
    for sample in samples:
        sample.close()
    return samples


def _members(path: Path, tar: tarfile.TarFile, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    last = -1
    while (member := tar.next()) is not None:
        if member.size < 0 or member.offset <= last:  # a size below 0 leads back: no end
            raise DataError(f"{path}: the header at byte {member.offset} is broken")
        last = member.offset
        tar.members.clear()  # type: ignore[attr-defined]  # they would pile up
        yield member
    # A broken header in the middle ends tarfile's list like the end of the archive does.
    file.seek(tar.offset)
    if any(file.read(_BLOCK)):
        raise DataError(f"{path}: the header at byte {tar.offset} is broken")


def _add_member(
    samples: list[_Sample], shard: int, member: tarfile.TarInfo, file: BinaryIO
) -> None:
    *folders, last = PurePosixPath(member.name).parts or ("",)
    stem, dot, ending = last.partition(".")
    if member.isdir() or not stem or not dot:
        return
    key = "/".join((*folders, stem))
    if not samples or samples[-1].key != key:
        folders = [each for each in folders if each not in ("/", "..")]
        samples.append(_Sample(shard=shard, key=key, folders=tuple(folders)))
    sample, ending = samples[-1], ending.lower()
    is_image = "." + ending.rpartition(".")[2] in IMAGE_SUFFIXES
    if not member.isreg() or member.issparse():
        if is_image:
            reason = "a link, or not stored in one piece"
            sample.skipped.append(SkippedImage(name=member.name, reason=reason))
    elif is_image:
        image = _Image(name=member.name, offset=member.offset_data, size=member.size)
        (sample.dotted if "." in ending else sample.images).append(image)
    elif ending in _SIDECARS and member.size <= _MAX_SIDECAR_BYTES:
        file.seek(member.offset_data)
        sample.sidecars[ending] = file.read(member.size).decode("utf-8", "replace")


def _json_object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    is_name = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value) if is_name else ""


def _n_common_folders(folders: list[tuple[str, ...]]) -> int:
    """Leading folders that all have in common; of the deepest of all, the last one stays."""
    first, last = min(folders), max(folders)
    shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    n_common = sum(1 for _ in shared)
    return n_common - 1 if n_common and n_common == len(last) else n_common


def _unused(name: str, names: dict[str, None]) -> str:
    if name not in names:
        return name
    head, dot, ending = name.rpartition(".")
    candidates = (f"{head}_{number}{dot}{ending}" for number in itertools.count(2))
    return next(each for each in candidates if each not in names)


def _write_sample(
    tar: tarfile.TarFile, listing: FaceListing, row: int, number_of: dict[str, int]
) -> int:
    data = listing.blobs.read(row)
    name, identity = listing.names[row], listing.identities[row]
    known = json.dumps(
        {"identity": identity, "name": name}
    )  # ASCII: names may be no valid Unicode
    _write_member(tar, f"{row:09d}{image_suffix(name, data).lower()}", data)
    _write_member(tar, f"{row:09d}.cls", str(number_of[identity]).encode())
    _write_member(tar, f"{row:09d}.json", known.encode())
    return len(data)


def _write_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # its time, owner and mode are the same for all: 0, 0, 644
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _image_endings() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))
