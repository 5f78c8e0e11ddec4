"""The recipe of the file types, without its downloads: bytes read as published, modules, data, label spaces."""

import csv
import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

ROOT = Path(__file__).parent.parent
MODELS = ("magika_05", "magika_10", "guesslang")


@pytest.fixture(autouse=True)
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")


def test_magika_05_reads_beginning_middle_and_end():
    from file_types_models import magika_05

    letters = bytes(range(97, 97 + 26))
    text, body = letters * 40 + b"a", letters * 347  # 1,041 and 9,022 bytes
    pad = [256]
    short, odd, long, large = (
        magika_05().tokenizer([b" \n ab\tc\r\n", b"abc" * 3, text, b"\n" * 96 + body + b"\t" * 4000]).tolist()
    )
    assert short == [*b"ab\tc", *pad * 508, *pad * 254, *b"ab\tc", *pad * 254, *pad * 508, *b"ab\tc"]
    assert odd[512:1024] == [*pad * 251, *b"abcabcabc", *pad * 252], "the odd token of padding stands on the right"
    assert long == [*text[:512], *text[264:776], *text[-512:]]
    # of the first block 4,000 bytes remain and 96 of the last: the middle is that of bytes 96 to 9,118, the body's own
    assert large == [*body[:512], *body[4255:4767], *pad * 416, *body[-96:]]


def test_magika_10_reads_beginning_and_end_and_strips_one_side_each():
    from file_types_models import magika_10

    blank = b"\n" * 5000 + b"x" * 10 + b"\n" * 5000
    short, blocks = magika_10().tokenizer([b"  ab \n", blank]).tolist()
    assert short == [*b"ab \n", *[256] * 1020, *[256] * 1020, *b"  ab"]
    assert blocks == [256] * 2048, "nothing is stripped further in than a block"


def test_guesslang_hashes_pairs_as_tensorflow_does():
    from file_types_models import PAIR_BUCKETS, fingerprint, guesslang

    # the example of tf.strings.to_hash_bucket_fast, whose third string is longer than any pair
    assert [fingerprint(text) % 3 for text in (b"Hello", b"2.x")] == [0, 2]
    rows = guesslang().tokenizer([b"a\r\nb", b"", "é".encode(), b"\xff\xfe"]).tolist()
    assert rows[0] == [PAIR_BUCKETS[97, 10], PAIR_BUCKETS[10, 98], *[5000] * 3]
    assert rows[1] == [5000] * 5
    assert rows[2] == [fingerprint(" ".join("\ufffd" * 2).encode()) % 5000, *[5000] * 4]
    assert PAIR_BUCKETS[127, 97] == fingerprint(b"\x7f a") % 5000
    assert rows[3] == rows[2][:1] * 5, "each byte that is no text is a replacement character of three bytes"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_each_text_for_itself_and_all_its_weights_learn(name):
    import file_types_models

    torch.manual_seed(0)
    model = getattr(file_types_models, name)()
    texts = [b"def f(x):\n    return x\n" * 30, b"#include <stdio.h>\nint main() {}\n", b""]
    logits = model(model.tokenizer(texts))
    assert logits.shape == (3, len(model.classes)) and len(set(model.classes)) == len(model.classes)
    for text, row in zip(texts, logits, strict=True):
        torch.testing.assert_close(model(model.tokenizer([text]))[0], row)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_label_map_names_the_model_s_own_classes_once_and_all_shared_ones(name):
    import file_types_models
    from file_types import into_shared
    from file_types_data import SUFFIXES

    with (ROOT / "recipes" / "file_types" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = [row["model_class"] for row in rows]
    assert len(own) == len(set(own)) and set(own) <= set(getattr(file_types_models, name)().classes)
    assert {row["class"] for row in rows} == set(SUFFIXES)
    sums = into_shared(name)
    assert sums.sum() == len(rows) and set(sums.sum(1).tolist()) == {0.0, 1.0}


def archive(path: Path, files: dict[str, bytes]) -> None:
    """Write a wheel or a tar that holds files."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as wheel:
            for name, text in files.items():
                wheel.writestr(name, text)
        return
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))


def test_snippets_are_cut_by_project_and_nothing_stands_on_two_sides(tmp_path, monkeypatch):
    import file_types_data as data

    folder = tmp_path / "packages" / "data"
    folder.mkdir(parents=True)
    packages = []
    licence = b"".join(b"# line %d of a licence that everybody has\n" % line for line in range(40))
    for number in range(20):
        lines = [b"value_%d = compute(%d, %d)\n" % (line, number, line) for line in range(200)]
        files = {
            "src/one.py": b"".join(lines),
            "src/two.c": b"".join(b"int " + line for line in lines),
            "notes.txt": b"".join(b"see " + line for line in lines),
            "vendor/other.py": b"".join(b"their_" + line for line in lines),
            "copy.py": licence,
            "small.py": b"x = 1\n",
            "picture.py": b"\0" * 500,
        }
        wheel = number % 2
        name = f"demo{number}"
        archive(folder / (f"{name}-1.0-py3-none-any.whl" if wheel else f"{name}-1.0.tgz"), files)
        group = "siblings" if number < 2 else r"^(src|nothing)/" if number == 2 else ""
        packages.append(data.Package("wheel" if wheel else "npm", name, "1.0", group))
    monkeypatch.setattr(data, "read_packages", lambda: packages)
    data.make_data(tmp_path)
    parts: dict[str, set[str]] = {}
    texts: dict[str, set[bytes]] = {}
    for size in data.SIZES:
        rows = [
            row
            for name in ("snippets", "pool")
            for row in pq.read_table(tmp_path / f"{name}_{size}.parquet").to_pylist()
        ]
        for row in rows:
            parts.setdefault(row["group"], set()).add(row["split"])
            texts.setdefault(row["split"], set()).add(row["text"])
            path = row["path"].partition(":")[2]
            assert path in {"src/one.py", "src/two.c", "notes.txt", "copy.py"}
            label = None if row["split"] == "pool" else {".py": "python", ".c": "c"}[Path(path).suffix]
            assert row["label"] == label and len(row["text"]) == size
            assert row["text"].startswith((b"value_", b"int ", b"see ", b"# line"))
    assert all(len(sides) == 1 for sides in parts.values())
    assert {"siblings", "demo2/src"} < set(parts) and not {"demo0", "demo1", "demo2"} & set(parts)
    assert set(texts) == {"selection", "test", "pool"}
    assert sum(licence[:7] in text for side in texts.values() for text in side) <= 8, (
        "one file, of which all have copies"
    )
    before = (tmp_path / "pool_200.parquet").read_bytes()
    (folder / "demo3-1.0-py3-none-any.whl").unlink()
    data.make_data(tmp_path)
    assert (tmp_path / "pool_200.parquet").read_bytes() == before, "what is there stays"


def test_boilerplate_of_another_part_is_left_out():
    from file_types_data import Snippet, without_shared

    def snippet(*lines: str) -> Snippet:
        return Snippet("\n".join(lines).encode(), "c", "group", "path")

    common, own = (
        [f"a common line, number {n:02}" for n in range(4)],
        [f"a line of its own, number {n}" for n in range(4)],
    )
    test = [snippet(*common)]
    kept = [snippet(*common[:2], *own), snippet("short", "lines"), snippet(*own[:1], *common[:1])]
    dropped = [snippet(*common[:3], own[0]), snippet(*own, *common[:2]), snippet("  short", "lines ")]
    assert without_shared([*kept, dropped[0], dropped[2]], test) == kept
    assert without_shared([snippet(*common, " ")], test) == []
    assert without_shared([kept[0], kept[0]], test) == kept[:1]


def test_other_types_are_cut_out_of_what_no_pool_has():
    from file_types_data import Snippet, others

    def file(path: str, group: str) -> list[Snippet]:
        return [Snippet(f"{group} {path} {n}".encode(), None, group, f"package:{path}") for n in range(3)]

    groups = ("selected", "tested", "pooled")
    cuts = {group: [file(path, group) for path in ("a.LUA", "b.exs", "c.txt", "lua")] for group in groups}
    taken = others(cuts, {"selected": "selection", "tested": "test", "pooled": "pool"})
    assert {(s.label, s.group, s.path) for s in taken} == {
        (label, group, f"package:{path}")
        for label, path in (("lua", "a.LUA"), ("ex", "b.exs"))
        for group in ("selected", "tested")
    }
    assert len(taken) == 12


@pytest.mark.parametrize("declared", ["Types: deb\nURIs: a\n", "deb a b main\n"])
def test_apt_is_shown_the_sources_of_what_it_knows(tmp_path, monkeypatch, declared):
    import file_types_data as data

    own = tmp_path / "etc"
    (own / "sources.list.d").mkdir(parents=True)
    (own / "sources.list.d" / "own.sources").write_text(declared)
    monkeypatch.setattr(data, "APT", own)
    options = data.source_lists(tmp_path / "apt")
    assert f"-o=Dir::Etc::sourceparts={tmp_path / 'apt' / 'sources'}" in options
    shown = (tmp_path / "apt" / "sources" / "own.sources").read_text()
    assert shown == declared.replace("deb", "deb-src")


def test_an_even_pool_has_as_many_snippets_of_each_class_that_guesslang_gives(tmp_path, monkeypatch):
    import file_types
    import pyarrow as pa
    from safetensors.torch import save_file

    module = file_types.MODELS["guesslang"]()
    save_file(module.state_dict(), tmp_path / "guesslang.safetensors")
    monkeypatch.setattr(file_types, "EVEN", 3)
    texts = [bytes([65 + k % 26, 97 + k % 7]) * (1 + k % 5) for k in range(150)]
    for size in file_types.SIZES:
        pq.write_table(
            pa.table({"text": texts, "path": [str(k) for k in range(150)]}), tmp_path / f"pool_{size}.parquet"
        )
    file_types.make_even_pools(tmp_path)
    module.eval()
    preds = module(module.tokenizer(texts)).argmax(1).tolist()
    even = pq.read_table(tmp_path / f"pool_{file_types.SIZES[0]}_even.parquet")
    rows = [int(path) for path in even["path"].to_pylist()]
    given = [preds[row] for row in rows]
    assert rows == sorted(rows) and even["text"].to_pylist() == [texts[row] for row in rows]
    assert {k: given.count(k) for k in given} == {k: min(3, preds.count(k)) for k in preds}


def test_what_was_gained_is_told_of_all_snippets_and_class_by_class(capsys):
    import numpy as np
    from pool_mix import class_of, tell

    assert [class_of(f"a:b.c/{name}") for name in ("Makefile", "x.PY", "x.odd", "x")] == [
        "makefile",
        "python",
        None,
        None,
    ]
    labels, before, after = np.array([0, 0, 0, 1, -1]), np.array([0, 1, 1, 1, 0]), np.array([0, 0, 1, 0, 0])
    tell("pool", ("go", "css"), labels, {"before": before, "after": after})
    told = capsys.readouterr().out
    assert "| all | 4 | 50.0 | 50.0 |" in told and "| mean of the classes |  | 66.7 | 33.3 |" in told
    assert told.index("| css | 1 | 100.0 | 0.0 |") < told.index("| go | 3 | 33.3 | 66.7 |"), (
        "the largest loss stands first"
    )
