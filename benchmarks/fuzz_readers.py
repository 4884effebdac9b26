"""Do the readers of records, verification sets, tars and lists stand hostile files?

Each input is a valid file that was damaged (bits flipped, cut, spliced, lengths made huge, bytes
put in), or one made up of the format's own parts in random order. A reader may accept it, and then
every image must be readable, or refuse it with a `NasFaceError`. What is accepted of verification
sets must be what Python's own pickle makes of them; where that fails, or NumPy would be needed,
the input is counted as unsure. Anything else ends the run with exit code 1:
another exception, more memory than a fixed amount and a multiple of the input's size, or more than
a few seconds of processor time. Memory is the peak of what Python and NumPy allocate for an input;
a limit of the process's address space stands behind it.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_readers.py --inputs 100000 --seed 0
"""

import argparse
import io
import logging
import pickle
import pickletools
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
from rich.console import Console
from rich.table import Table

from nas_face.data.blobs import MemoryBlobs
from nas_face.data.formats.attributes import read_attributes
from nas_face.data.formats.lfw_pairs import list_lfw_pairs
from nas_face.data.formats.pair_csv import list_pair_csv
from nas_face.data.formats.pair_paths import list_pair_paths
from nas_face.data.formats.records import list_records, write_records
from nas_face.data.formats.tars import list_tars, write_tars
from nas_face.data.formats.template_lists import list_templates
from nas_face.data.formats.verification_bin import list_bin
from nas_face.data.listing import FaceListing, PairListing
from nas_face.errors import NasFaceError

MAX_BYTES = 4 * 2**20
MAX_BYTES_PER_BYTE = 400
MAX_SECONDS = 10.0
ADDRESS_SPACE = 4 * 2**30

Files = Mapping[str, bytes]
Make = Callable[[random.Random], Files]

MAGIC = struct.pack("<I", 0xCED7230A)
HUGE = (
    *(struct.pack("<I", value) for value in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x1FFFFFFF)),
    *(struct.pack("<Q", value) for value in (2**64 - 1, 2**63 - 1, 2**63, 2**40, 2**32)),
    *(b"9" * n for n in (9, 18, 19, 25, 5000)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader under test.

    Args:
        name: for the table.
        make: an input: files by name.
        read: reads what lies in a folder.
        check: asserts that what was read from a folder is right; False if it cannot be told.
    """

    name: str
    make: Make
    read: Callable[[Path], object]
    check: Callable[[Path], bool] | None = None


@dataclass(slots=True)
class Tally:
    """What became of a reader's inputs."""

    n_inputs: int = 0
    n_refused: int = 0
    n_unsure: int = 0
    slowest_ms: float = 0.0
    peak_bytes: int = 0
    largest_bytes: int = 0


class TooSlow(BaseException):
    """An input took more processor time than any may."""


def main() -> int:
    """Parse, run every reader, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=7000, help="in all, shared by the readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", help="only the one of this name")
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    signal.signal(signal.SIGPROF, _too_slow)
    with tempfile.TemporaryDirectory() as folder:
        readers = [
            reader
            for reader in make_readers(Path(folder))
            if arguments.reader in (None, reader.name)
        ]
        share = -(-arguments.inputs // len(readers))
        table = Table(title=f"{share * len(readers):,} inputs, seed {arguments.seed}")
        table.add_column("reader")
        for heading in (
            "inputs",
            "refused",
            "accepted",
            "unsure",
            "slowest ms",
            "peak KiB",
            "largest KiB",
        ):
            table.add_column(heading, justify="right")
        for reader in readers:
            tally = Tally()
            for number in range(arguments.start, arguments.start + share):
                wrong = try_input(reader, Path(folder), arguments.seed, number, tally)
                if wrong is not None:
                    print(
                        f"{wrong}; again by --seed {arguments.seed} --reader {reader.name!r} "
                        f"--start {number} --inputs 1",
                        file=sys.stderr,
                    )
                    return 1
            table.add_row(
                reader.name,
                f"{tally.n_inputs:,}",
                f"{tally.n_refused:,}",
                f"{tally.n_inputs - tally.n_refused:,}",
                f"{tally.n_unsure:,}",
                f"{tally.slowest_ms:.1f}",
                f"{tally.peak_bytes / 1024:.0f}",
                f"{tally.largest_bytes / 1024:.0f}",
            )
    Console(width=100).print(table)
    return 0


def try_input(reader: Reader, folder: Path, seed: int, number: int, tally: Tally) -> str | None:
    """Make and read one input; what is wrong with how it was read, if anything is."""
    rng = random.Random(f"{seed}/{reader.name}/{number}")
    files = reader.make(rng)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    size = sum(map(len, files.values()))
    wrong, accepted = None, False
    tracemalloc.start()
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    start = time.process_time()
    try:
        reader.read(folder)
        accepted = True
    except NasFaceError as error:
        tally.n_refused += 1
        if len(str(error).splitlines()) != 1:
            wrong = f"a message of several lines: {error}"
    except TooSlow:
        wrong = f"more than {MAX_SECONDS} s"
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        seconds = time.process_time() - start
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    if accepted and reader.check is not None:
        try:
            tally.n_unsure += not reader.check(folder)
        except Exception as error:
            wrong = f"accepted, but {type(error).__name__}: {error}"
    for name in files:
        (folder / name).unlink()
    if peak > MAX_BYTES + MAX_BYTES_PER_BYTE * size:
        wrong = f"{peak:,} bytes of memory for an input of {size:,}"
    tally.n_inputs += 1
    tally.slowest_ms = max(tally.slowest_ms, 1000 * seconds)
    tally.peak_bytes = max(tally.peak_bytes, peak)
    tally.largest_bytes = max(tally.largest_bytes, size)
    return wrong


def make_readers(folder: Path) -> list[Reader]:
    """All readers; `folder` gets the image files that pair lists name."""
    for who in ("ann", "bob"):
        (folder / who).mkdir()
        for number in (1, 2, 3):
            (folder / who / f"{who}_{number:04d}.jpg").write_bytes(b"")
    sets = record_sets(folder)
    bins = verification_sets()
    lfw = [
        b"2\t1\nann\t1\t2\nann\t1\tbob\t1\nbob\t2\t1\nbob\t2\tann\t3\n",
        b"bob 1 2\nbob 1 ann 3\n",
    ]
    csv = [
        b"first,second,same\nann/ann_0001.jpg,ann/ann_0002.jpg,1\n"
        b'"ann/ann_0001.jpg","bob/bob_0001.jpg",no\n'
    ]
    paths = [
        b"ann/ann_0001.jpg ann/ann_0002.jpg 1\nann/ann_0001.jpg bob/bob_0001.jpg 0\n",
        b"0\tann/ann_0001.jpg\tbob/bob_0001.jpg\n1\tbob/bob_0001.jpg\tbob/bob_0002.jpg\n",
    ]
    templates = [b"ann/ann_0001.jpg 1 7\nann/ann_0002.jpg 1 8\nbob/bob_0001.jpg 2 9\n"]
    template_pairs = [b"1 1 1\n1 2 0\n"]
    people = [
        b"identity,gender,age\nann,f,20-29\nbob,m,\n",
        b'image,light\n"ann/ann_0001.jpg",low\n',
    ]
    tars = tar_files(folder)
    records, scanned = record_inputs(sets, with_idx=True), record_inputs(sets, with_idx=False)
    return [
        Reader(
            name=".rec and .idx", make=records, read=lambda root: read_faces(root / "train.idx")
        ),
        Reader(name=".rec alone", make=scanned, read=lambda root: read_faces(root / "train.rec")),
        Reader(
            name=".bin, damaged",
            make=lambda rng: {"x.bin": damaged(rng, bins)},
            read=lambda root: read_pairs(root / "x.bin"),
            check=lambda root: compare_with_pickle(root / "x.bin"),
        ),
        Reader(
            name=".bin, opcode soup",
            make=lambda rng: {"x.bin": rng.choice((shuffled_opcodes, opcode_soup))(rng, bins)},
            read=lambda root: read_pairs(root / "x.bin"),
            check=lambda root: compare_with_pickle(root / "x.bin"),
        ),
        Reader(
            name="LFW pairs",
            make=lambda rng: {"pairs.txt": text(rng, lfw, b"\t")},
            read=lambda root: list_lfw_pairs(root / "pairs.txt", root),
        ),
        Reader(
            name="CSV pairs",
            make=lambda rng: {"pairs.csv": text(rng, csv, b",")},
            read=lambda root: list_pair_csv(root / "pairs.csv", root),
        ),
        Reader(
            name="path pairs",
            make=lambda rng: {"pairs.lst": text(rng, paths, b" ")},
            read=lambda root: list_pair_paths(root / "pairs.lst", root),
        ),
        Reader(
            name="tars",
            make=lambda rng: {"x.tar": damaged(rng, tars)},
            read=lambda root: read_tar(root / "x.tar"),
        ),
        Reader(
            name="template lists",
            make=lambda rng: {
                "tid.txt": text(rng, templates, b" "),
                "pairs.txt": text(rng, template_pairs, b" "),
            },
            read=lambda root: list_templates(root / "tid.txt", root / "pairs.txt", root),
        ),
        Reader(
            name="attributes",
            make=lambda rng: {"people.csv": text(rng, people, b",")},
            read=lambda root: read_attributes(root / "people.csv"),
        ),
    ]


def read_faces(path: Path) -> None:
    """List a record file and read every image."""
    listing = list_records(path)
    for row in range(len(listing.names)):
        listing.blobs.read(row)
    assert len(set(listing.names)) == len(listing.names) > 0


def read_tar(path: Path) -> None:
    """List a tar and read every image."""
    listing = list_tars(path)
    for row in range(len(listing.names)):
        listing.blobs.read(row)
    assert len(set(listing.names)) == len(listing.names) > 0


def tar_files(folder: Path) -> list[bytes]:
    """Tars of a few short images, ours and one with long names and other members."""
    found = []
    for names in (("ann/1.jpg", "ann/2.jpg", "bob/1.png"), (f"{'n' * 120}/1.jpg", "é/2.jpg")):
        listing = FaceListing(
            root=folder,
            blobs=MemoryBlobs([b"JPEG" * (at + 1) for at in range(len(names))]),
            names=names,
            identities=tuple(name.partition("/")[0] for name in names),
        )
        path = folder / "valid.tar"
        write_tars(listing, path)
        found.append(path.read_bytes())
        path.unlink()
    return found


def read_pairs(path: Path) -> None:
    """List a verification set and read every image."""
    listing: PairListing = list_bin(path)
    for row in range(len(listing.names)):
        listing.blobs.read(row)
    assert 2 * len(listing.same) == len(listing.names) == len(listing.blobs)


class FewNames(pickle.Unpickler):
    """Python's own, without NumPy: damaged pickles of arrays have crashed the whole process."""

    def find_class(self, module: str, name: str) -> object:
        """As pickle does, for one function."""
        if (module, name) != ("_codecs", "encode"):
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module, name)


def compare_with_pickle(path: Path) -> bool:
    """Ours and Python's own reading agree; False where Python's fails."""
    listing = list_bin(path)
    try:
        images, same = FewNames(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception:
        return False
    assert [listing.blobs.read(row) for row in range(len(listing.names))] == list(
        map(bytes, images)
    )
    assert listing.same.tolist() == [bool(each) for each in same]
    return True


def record_sets(folder: Path) -> list[Files]:
    """Valid record files: InsightFace's with all that belongs to it, and a plain one."""
    grey = b"P5 2 2 255 \x00\x40\x80\xff"
    images = [grey, grey + bytes(20), grey + MAGIC + b"abc", grey + b"x" + MAGIC * 3]
    listing = FaceListing(
        root=folder,
        blobs=MemoryBlobs(images),
        names=("ann/1.pgm", "ann/2.pgm", "bob/1.pgm", "bob/2.pgm"),
        identities=("ann", "ann", "bob", "bob"),
    )
    target = folder / "valid"
    write_records(listing, target)
    valid = {path.name: path.read_bytes() for path in target.iterdir()}
    offsets, rec = [], b""
    for key, image in enumerate(images):
        offsets.append(len(rec))
        rec += record(struct.pack("<IfQQ", 0, key // 2, key, 0) + image.replace(MAGIC, b""))
    idx = "".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets))
    return [valid, {"train.rec": rec, "train.idx": idx.encode()}]


def record(content: bytes, kind: int = 0) -> bytes:
    """A record or a part of one."""
    word = kind << 29 | len(content)
    return MAGIC + struct.pack("<I", word) + content + bytes(-len(content) % 4)


def record_inputs(sets: Sequence[Files], *, with_idx: bool) -> Make:
    """Inputs of which one file or two are damaged, or that are made up."""

    def make(rng: random.Random) -> Files:
        files = dict(rng.choice(sets))
        if rng.random() < 0.25:
            files["train.rec"], offsets = record_soup(rng)
            files["train.idx"] = index_soup(rng, offsets)
        else:
            for name in rng.choices([*files, "train.rec", "train.rec"], k=rng.choice((1, 1, 2))):
                files[name] = damaged(rng, [files[name], *(each.get(name, b"") for each in sets)])
        if not with_idx:
            files.pop("train.idx", None)
        return files

    return make


def record_soup(rng: random.Random) -> tuple[bytes, list[int]]:
    """Frames of random kinds, headers and labels; where each begins."""
    rec, offsets = b"", []
    for key in range(rng.randrange(1, 12)):
        flag = rng.choice((0, 0, 0, 1, 2, 2, 3, 2**32 - 1))
        label = rng.choice((0.0, 1.0, 5.0, -1.0, 0.5, 3e38, float("nan"), float("inf")))
        content = struct.pack("<IfQQ", flag, label, rng.choice((key, 0, 2**64 - 1)), 0)
        content += np.array([rng.choice((0, 1, 3, 7)) for _ in range(flag % 7)], "<f4").tobytes()
        content += rng.randbytes(rng.choice((0, 0, 3, 40)))
        offsets.append(len(rec))
        rec += record(
            content[: rng.choice((0, 8, 23, 999, 999, 999))], rng.choice((0, 0, 1, 2, 3, 7))
        )
    return rec, offsets


def index_soup(rng: random.Random, offsets: Sequence[int]) -> bytes:
    """Lines of keys and offsets, most of them right."""
    lines = []
    for key, offset in enumerate(offsets):
        key = rng.choice((key, key, key, key, 0, 2**40))
        offset = rng.choice((offset,) * 6 + (offset + 1, 2**50, 10**17, -1))
        lines.append(f"{key}{rng.choice(('	', '	', '	', ' ', ''))}{offset}\n")
    return "".join(lines).encode()


def verification_sets() -> list[bytes]:
    """Pickles of all protocols, and what Python 2 writes."""
    images = [b"\xff\xd8" + bytes(range(256)) * n for n in (0, 1, 2)] + [b"it's \"\\\n"]
    arrays = [np.frombuffer(image, dtype=np.uint8) for image in images]
    truth = [True, False]
    found = []
    for protocol in range(6):
        for value in (
            (images, truth),
            [tuple(images), tuple(truth)],
            (arrays, [np.bool_(each) for each in truth]),
            (images, np.array(truth)),
        ):
            found.append(pickle.dumps(value, protocol=protocol))
    python2 = b"\x80\x02]q\x01("
    for image in images:
        python2 += b"T" + struct.pack("<i", len(image)) + image + b"q\x02"
    found.append(python2 + b"e]q\x03(\x88\x89e\x86q\x04.")
    found.append(b"((lp1\nS'a\\xff'\np2\naS\"b'\"\np3\na(lp4\nI01\natp5\n.")
    return found


def shuffled_opcodes(rng: random.Random, valid: Sequence[bytes]) -> bytes:
    """A valid pickle of which some opcodes come twice, elsewhere, not at all or from another."""

    def cut(data: bytes) -> list[bytes]:
        starts = [start for _, _, start in pickletools.genops(data) if start is not None]
        ends = [*starts[1:], len(data)]
        return [data[start:end] for start, end in zip(starts, ends, strict=True)]

    # Without the last one: pickletools takes no string of protocol 0 that is not ASCII.
    opcodes, others = cut(rng.choice(valid[:-1])), cut(rng.choice(valid[:-1]))
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, place = rng.randrange(len(opcodes)), rng.randrange(len(opcodes))
        match rng.randrange(4):
            case 0:
                opcodes.insert(place, opcodes[at])
            case 1:
                opcodes.insert(place, opcodes.pop(at))
            case 2 if len(opcodes) > 1:
                opcodes.pop(at)
            case _:
                opcodes[at] = rng.choice(others)
    return b"".join(opcodes)


def opcode_soup(rng: random.Random, _valid: Sequence[bytes]) -> bytes:
    """Opcodes with fitting arguments in any order; and some without."""
    soup = io.BytesIO()
    if rng.random() < 0.5:
        soup.write(rng.choice((b"\x80\x02", b"\x80\x04", b"](C\x01aC\x01be](\x88e", b"(](](]")))
    words = (b"latin1", b"_codecs", b"encode", b"numpy", b"dtype", b"u1", b"b1", b"|", b"os", b"")
    for _ in range(rng.choice((3, 10, 40, 200))):
        word = rng.choice(words)
        length = rng.choice((len(word),) * 12 + (0, 255, 2**31 - 1, 2**32 - 1))
        small = struct.pack("<B", min(length, 255))
        soup.write(
            rng.choice(
                (
                    rng.choice((b"(", b"(", b"]", b"l", b")", b"t", b"\x85", b"\x86", b"\x87")),
                    rng.choice((b"a", b"e", b"N", b"\x88", b"\x89", b"\x94", b"R", b"b", b"\x93")),
                    rng.choice((b"p", b"g")) + rng.choice((b"0", b"1", b"-1", b"9" * 18)) + b"\n",
                    rng.choice((b"q", b"h")) + rng.choice((b"\0", b"\1", b"\xff")),
                    rng.choice((b"r", b"j")) + rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff")),
                    rng.choice((b"C", b"U", b"\x8c")) + small + word,
                    rng.choice((b"B", b"X")) + struct.pack("<I", length) + word,
                    b"T" + struct.pack("<I", length) + word,
                    rng.choice((b"\x8e", b"\x8d", b"\x96", b"\x95"))
                    + struct.pack("<Q", length)
                    + word,
                    b"I" + rng.choice((b"01", b"00", b"1", b"-7", b"x", b"9" * 30)) + b"\n",
                    rng.choice((b"K\0", b"K\1", b"M\1\0", b"J\xff\xff\xff\xff")),
                    rng.choice((b"S'", b'S"', b"V", b"S"))
                    + word
                    + rng.choice((b"'\n", b"\n", b"")),
                    b"c"
                    + rng.choice(
                        (
                            b"_codecs\nencode\n",
                            b"numpy\ndtype\n",
                            b"numpy\nndarray\n",
                            b"numpy.core.multiarray\n_reconstruct\n",
                            b"numpy.core.multiarray\nscalar\n",
                            b"numpy.core.numeric\n_frombuffer\n",
                            b"os\nsystem\n",
                        )
                    ),
                    rng.randbytes(1),
                )
            )
        )
    return soup.getvalue() + rng.choice((b".", b"", b"\x86.", b"e\x86.", b"t."))


def text(rng: random.Random, valid: Sequence[bytes], separator: bytes) -> bytes:
    """A damaged list, or lines of random columns."""
    if rng.random() < 0.6:
        return damaged(rng, valid)
    cells = (
        *(b"ann", b"bob", b"1", b"2", b"0", b"1", b"yes", b"first", b"second", b"same", b"-1"),
        *(b"ann/ann_0001.jpg", b"bob/bob_0001.jpg", b"", b"..", b"/", b"\0", b'"', b"nan"),
        *("é".encode(), "٣".encode(), b"\xff", b"\xef\xbb\xbf", b"9" * 25, b"a" * 300, b"\r"),
    )
    lines = [
        rng.choice((separator, separator, b" ", b"\t", b",")).join(
            rng.choices(cells, k=rng.choice((0, 1, 2, 3, 3, 3, 4, 4, 9)))
        )
        for _ in range(rng.randrange(8))
    ]
    return b"\n".join(lines) + rng.choice((b"\n", b""))


def damaged(rng: random.Random, valid: Sequence[bytes]) -> bytes:
    """One of some valid files, damaged once or a few times."""
    data = bytearray(valid[0] if rng.random() < 0.5 else rng.choice(valid))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0:
                for _ in range(rng.choice((1, 1, 4, 32))):
                    if data:
                        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + rng.choice((1, 2, 4, 8, 40))]
            case 3:
                donor = rng.choice(valid)
                begin = rng.randrange(len(donor) + 1)
                part = donor[begin : begin + rng.choice((1, 4, 16, 100, 10**6))]
                data[at : at + rng.choice((0, len(part)))] = part
            case 4:
                part = rng.choice(HUGE)
                data[at : at + rng.choice((0, len(part)))] = part
            case 5:
                part = rng.randbytes(rng.choice((1, 3, 16, 200)))
                data[at : at + rng.choice((0, len(part)))] = part
            case 6:
                part = bytes(data[at : at + rng.choice((1, 4, 30))])
                data[at:at] = part * rng.choice((1, 2, 50))
            case _:
                if rng.random() < 0.1:
                    data[:] = rng.randbytes(rng.choice((0, 1, 10, 1000)))
                elif data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlow


if __name__ == "__main__":
    sys.exit(main())
