"""Tar shards: which members are a sample, which tars are a split, and what is refused."""

import gzip
import io
import json
import shutil
import tarfile
import tracemalloc

import numpy as np
import pytest
from sources import add, pictures_of, write_folder, write_tars

import crossteach
from crossteach.data.files import BrokenPictureWarning
from crossteach.data.tars import TarIndex, Wanted, WordPlace
from crossteach.errors import DataError, SpecError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("tars") / "pictures")


@pytest.fixture
def shards(root, tmp_path):
    return write_tars(tmp_path / "shards", root)


def told(data, words):
    (note,) = [note for note in data.notes if words in note]
    return note


def tar(path, *members):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members:
            add(file, name, content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def pictures(root):
    return [path.read_bytes() for _, _, path in pictures_of(root)]


def test_patterns_of_braces_and_stars_stand_for_the_same_tars(shards):
    whole = crossteach.load_data(f"wds:{shards}")
    for pattern in (
        "{train-000,train-001,train-002,val-000,val-001,test-000,test-001}.tar",
        "*.tar",
        "[tv]*-00%3F.tar",
    ):
        assert crossteach.load_data(f"wds:{shards}/{pattern}").fingerprint == whole.fingerprint


def test_folders_named_by_splits_and_options_name_them_too(shards, tmp_path):
    whole = crossteach.load_data(f"wds:{shards}")
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        (tmp_path / "nested" / name / "deep").mkdir(parents=True)
        for i, path in enumerate(sorted(shards.glob(f"{split}-*"))):
            shutil.copy(path, tmp_path / "nested" / name / "deep" / f"{i}.tar")
    assert crossteach.load_data(f"wds:{tmp_path}/nested").fingerprint == whole.fingerprint
    given = f"wds:{tmp_path}/nested/train?test={tmp_path}/nested/test/deep/*.tar"
    data = crossteach.load_data(given)
    assert data.test.fingerprint == whole.test.fingerprint and data.selection_seen
    (shards / "more.tar").write_bytes((shards / "train-000.tar").read_bytes())
    with pytest.raises(
        DataError, match=r"test-000.tar names a split but more.tar none; rename it, or name the splits by"
    ):
        crossteach.load_data(f"wds:{shards}")


def test_tars_that_name_no_split_are_train_and_the_rest_is_cut(tmp_path, pictures):
    for i in range(3):
        members = [
            m
            for k in range(13)
            for m in ((f"{13 * i + k}.png", pictures[13 * i + k]), (f"{13 * i + k}.cls", str(k % 3)))
        ]
        tar(tmp_path / f"{i:03}.tar", *members)
    data = crossteach.load_data(f"wds:{tmp_path}/{{000..002}}.tar")
    assert data.classes == ("0", "1", "2") and len(data.train) + len(data.selection) + len(data.test) == 39
    assert "samples of train were cut off for it" in told(data, "there is no test split")


def test_labels_lie_where_the_options_say(tmp_path, pictures):
    def members(split, start):
        for i in range(start, start + 8):
            yield f"{split}/{i:02}.v1.PNG", pictures[i]
            yield f"{split}/{i:02}.mask.png", pictures[0]
            yield (
                f"{split}/{i:02}.json",
                json.dumps({"label": i % 2, "kind": ["x", "y"][i % 2], "who": i % 4, "all": [1, 2]}),
            )
            yield f"{split}/{i:02}.txt", f"word{i % 2}\n"

    for k, split in enumerate(("train", "test")):
        tar(tmp_path / f"{split}.tar", *members(split, 8 * k))
    spec = f"wds:{tmp_path}?image=v1.png&selection_from=test"
    data = crossteach.load_data(spec)
    assert data.classes == ("0", "1") and data.train.labels.tolist() == [0, 1] * 4 and data.notes == ()
    data = crossteach.load_data(f"{spec}&label=json/kind&group=json/who")
    assert data.classes == ("x", "y") and data.train.group_names == ("0", "1", "2", "3")
    assert crossteach.load_data(f"{spec}&label=.txt").classes == ("word0", "word1")
    with pytest.raises(DataError, match=r"several labels for one sample, as '1\|2'"):
        crossteach.load_data(f"{spec}&label=json/all")
    with pytest.raises(DataError, match=r"no sample of .* has a label in the field absent of KEY.json; say where"):
        crossteach.load_data(f"{spec}&label=json/absent")
    bare = tar(tmp_path / "bare" / "x.tar", ("a.png", pictures[0]))
    with pytest.raises(DataError, match=r"no sample of .* has a label in KEY.cls or the field label"):
        crossteach.load_data(f"wds:{bare}")
    with pytest.raises(SpecError, match=r"option label of .* must be a suffix as cls, or json/FIELD"):
        crossteach.load_data(f"{spec}&label=txt/x")
    with pytest.raises(SpecError, match="has the option 'val_', which wds: does not know"):
        crossteach.load_data(f"{spec}&val_=x")


def test_what_is_not_read_is_counted_and_named(shards, root, pictures):
    link = tarfile.TarInfo("linked.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(shards / "train-009.tar", "w") as file:
        add(file, "a.png", pictures[0] + b" ")
        add(file, "a.jpg", pictures[1])
        add(file, "a.cls", b"cat")
        add(file, "a.cls", b"dog")
        add(file, "b.cls", b"cat")
        add(file, "._a.png", b"apple")
        add(file, "README", b"text")
        add(file, "c.png", pictures[2] + b" ")
        add(file, "c.json", b"{no json")
        file.addfile(link)
    data = crossteach.load_data(f"wds:{shards}")
    note = told(data, "in the tars of train: ")
    for counted in (
        "1 pictures that are not the first of their key, train-009.tar/a.jpg among them",
        "1 members whose name stands before in their tar, train-009.tar/a.cls among them",
        "1 members that are hidden or left behind by a system, train-009.tar/._a.png among them",
        "1 members without a suffix, train-009.tar/README among them",
        "1 samples without a picture, train-009.tar/b among them",
        "train-009.tar/c among them",
    ):
        assert counted in note
    assert len(data.train) == 17 and data.train.labels[-2:].tolist() == [0, -100]
    assert data.train.inputs.digests(np.array([15]))[0] != data.train.inputs.digests(np.array([0]))[0]


def test_ids_come_from_keys_and_where_tars_share_keys_from_both(shards, root, tmp_path, pictures):
    before = crossteach.load_data(f"wds:{shards}")
    with tarfile.open(tmp_path / "train-000.tar", "w") as whole:  # the same samples in one tar, the last first
        for path in sorted(shards.glob("train-*"), reverse=True):
            with tarfile.open(path) as part:
                for member in part:
                    whole.addfile(member, part.extractfile(member))
    for path in shards.glob("train-*"):
        path.unlink()
    shutil.move(tmp_path / "train-000.tar", shards)
    after = crossteach.load_data(f"wds:{shards}")
    assert sorted(after.train.ids) == sorted(before.train.ids) and list(after.train.ids) != list(before.train.ids)
    by_id = dict(zip(after.train.ids, after.train.labels, strict=True))
    assert [by_id[i] for i in before.train.ids] == before.train.labels.tolist()
    tar(shards / "train-001.tar", ("00000.png", pictures[0] + b" "), ("00000.cls", "cat"))
    data = crossteach.load_data(f"wds:{shards}")
    assert len(set(data.train.ids)) == len(data.train) == 16
    assert "1 keys that another tar holds too (ids come from tar and key then)" in told(data, "of train")


def test_an_edited_picture_and_a_broken_one(shards):
    before = crossteach.load_data(f"wds:{shards}")
    with tarfile.open(shards / "test-000.tar") as file:
        members = [(m.name, m.offset_data, m.size) for m in file if not m.name.endswith("cls")]
    content = bytearray((shards / "test-000.tar").read_bytes())
    _, offset, size = members[0]
    content[offset + size // 2] ^= 255
    (shards / "test-000.tar").write_bytes(content)
    assert crossteach.load_data(f"wds:{shards}").test.fingerprint != before.test.fingerprint
    content[offset : offset + size] = b"x" * size
    (shards / "test-000.tar").write_bytes(content)
    with pytest.raises(
        DataError, match=r"1 of 12 files in test of 'wds:.*' cannot be decoded, .*test-000.tar/00000 among"
    ):
        crossteach.load_data(f"wds:{shards}")
    data = crossteach.load_data(f"wds:{shards}?max_broken=0.1")
    assert len(data.test) == 11 and "1 of 12 pictures of test cannot be decoded and are skipped" in told(
        data, "skipped"
    )


HEADER = 2560
"""Where the third member of the tars begins."""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: gzip.compress(c), r"is compressed \(gzip\), so nothing in it can be found by its place; unpack it"),
        (lambda c: c[: len(c) // 2 - 100], "is no whole tar .*; fetch or write it again, or leave it out"),
        (lambda c: c[:1000], "is no whole tar"),
        (lambda c: c[:300], "is no whole tar"),
        (lambda c: b"", "is no whole tar .empty file"),
        (lambda c: b"no tar at all" * 200, "is no whole tar"),
        (lambda c: c[:HEADER] + b"x" * 512 + c[HEADER + 512 :], r"is no whole tar .what follows byte \d+ is no member"),
    ],
)
def test_a_tar_that_is_not_whole_is_refused_in_one_line(shards, change, words):
    """The module tarfile stops in silence where a header in the middle is damaged."""
    path = shards / "test-000.tar"
    with tarfile.open(path) as file:
        assert file.getmembers()[2].offset == HEADER
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=words) as refused:
        crossteach.load_data(f"wds:{shards}")
    assert "\n" not in str(refused.value) and "test" in str(refused.value)


def test_bytes_changed_anywhere_give_data_or_one_line(shards):
    path = shards / "test-000.tar"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    with tarfile.open(path) as file:
        headers = [member.offset for member in file]
    refused = []
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            content[rng.choice(headers) + int(rng.integers(512))] = int(rng.integers(256))
        path.write_bytes(content)
        try:
            crossteach.load_data(f"wds:{shards}/test-*.tar?test={shards}/train-*.tar&max_broken=0.9")
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 100 and not any("\n" in line for line in refused)


def test_a_tar_that_becomes_shorter_while_it_is_used_shows_grey_and_warns(shards):
    data = crossteach.load_data(f"wds:{shards}?max_broken=0.3")
    path = shards / "test-001.tar"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.warns(BrokenPictureWarning, match="test-001.tar/00007 cannot be decoded .the tar has become shorter"):
        pixels = data.test.inputs.read(np.array([0, 7]), (8, 8), None)
    assert (pixels[1] == 128 / 255).all() and not (pixels[0] == 128 / 255).all()


def test_a_tar_without_a_member_is_counted(shards):
    tar(shards / "train-009.tar")
    note = told(crossteach.load_data(f"wds:{shards}"), "in the tars of train")
    assert note == "in the tars of train: 1 tars without a sample, train-009.tar among them"


def test_patterns_that_lead_nowhere_are_refused_in_one_line(shards, tmp_path):
    for pattern, words in (
        ("x-{0..3}.tar", "no such tars as .*: .*x-0.tar is missing, with 3 others; expected a .tar"),
        ("x-*.tar", "no such tars as .*; expected a .tar"),
        ("{0..99999999999999}.tar", "stands for more than 100000 names; shorten it"),
        ("{a,b}" * 30 + ".tar", "stands for more than 100000 names"),
    ):
        with pytest.raises(DataError, match=words):
            crossteach.load_data(f"wds:{shards}/{pattern}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"folder .*empty of .* holds no .tar"):
        crossteach.load_data(f"wds:{tmp_path}/empty")
    with pytest.raises(DataError, match="has no train split"):
        crossteach.load_data(f"wds:{shards}/test-*.tar")


def test_nothing_is_written_and_names_that_lead_out_are_only_names(tmp_path, pictures):
    members = [
        m for i, p in enumerate(pictures[:30]) for m in ((f"../../out{i}.png", p), (f"../../out{i}.cls", "ab"[i % 2]))
    ]
    tar(tmp_path / "a" / "x.tar", *members)
    data = crossteach.load_data(f"wds:{tmp_path}/a/x.tar")
    assert len(data.train) + len(data.selection) + len(data.test) == 30
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "x.tar"]


def test_as_a_pool_labels_are_not_read(shards, root, tmp_path, pictures):
    extra = [
        path.read_bytes() for _, _, path in pictures_of(write_folder(tmp_path / "fresh", labels=("z",), size=(30, 9)))
    ]
    fresh = tar(tmp_path / "fresh.tar", *((f"{i}.png", content) for i, content in enumerate(extra)), ("0.cls", b"\xff"))
    (pool,) = crossteach.load_data(f"wds:{shards}", [f"wds:{fresh}?channels=3"]).pools
    assert len(pool.split) == 13 and pool.split.labels is None and pool.notes == ()
    with pytest.raises(DataError, match=r"the pool .* has 1 channels .*; add \?channels=3"):
        crossteach.load_data(f"wds:{shards}", [f"wds:{fresh}?channels=1"])


def test_the_index_of_many_samples_is_small(tmp_path):
    """Some 60 bytes a sample and its key: a million samples are 80 MB."""
    count = 600
    with (tmp_path / "many.tar").open("wb") as out:
        for i in range(count):
            for suffix, content in (("png", b"x" * 100), ("cls", b"%d" % (i % 10))):
                member = tarfile.TarInfo(f"{i:08}.{suffix}")
                member.size = len(content)
                out.write(member.tobuf() + content.ljust(512, b"\0"))
        out.write(b"\0" * 1024)
    wanted = Wanted(label=(WordPlace("cls"),))
    index = TarIndex("train", wanted)
    index.add(tmp_path / "many.tar")
    del index
    tracemalloc.start()
    index = TarIndex("train", wanted)
    index.add(tmp_path / "many.tar")
    pictures, labels = index.pictures(), index.labels()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pictures) == count and len(labels.words) == 10
    assert kept < 250 * count  # the arrays of the index and of the pictures
    assert io.BytesIO(pictures.read(7)).read() == b"x" * 100 and pictures.tail(7, 30) == b"x" * 30
