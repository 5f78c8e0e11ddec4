"""Parts of the recipe of language identifiers that need no downloads: tokenizers, tree, catalogues, maps of classes."""

import csv
import heapq
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

RECIPES = Path(__file__).parent.parent / "recipes"
sys.path.insert(0, str(RECIPES))
import languages_models as models  # noqa: E402
from languages_data import catalogue, cut, language_of, plain, read_map, shared_classes  # noqa: E402
from languages_models import character_ngrams, fnv1a  # noqa: E402
from languages_weights import huffman_paths  # noqa: E402


def test_fasttexts_hash_and_ngrams_of_languages_are_those_of_a_plain_loop():
    def plain_hash(span: bytes) -> int:
        value = 2166136261
        for byte in span:
            signed = byte - 256 if byte > 127 else byte
            value = ((value ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
        return value

    assert plain_hash(b"a") == 0xE40C292C, "the published FNV-1a of one letter"
    words = ["<the>", "<ñu>", "<a>", "<日本語>", "<>"]
    spans = [
        (place, word[i : i + n].encode())
        for place, word in enumerate(words)
        for n in (2, 3, 4)
        for i in range(len(word) - n + 1)
    ]
    flat = "".join(words).encode()
    edges = np.cumsum([0, *(len(word.encode()) for word in words)])
    word, starts, stops = character_ngrams(flat, edges, 2, 4)
    found = [(int(w), flat[i:j]) for w, i, j in zip(word, starts, stops, strict=True)]
    assert sorted(found) == sorted(spans)
    assert fnv1a(flat, starts, stops).tolist() == [plain_hash(span) for _, span in found]


def test_the_tree_of_languages_is_huffmans():
    """The cost of the paths is that of merging the two lightest again and again, and every class can be reached."""
    counts = [90, 55, 54, 30, 21, 13, 12, 5, 2]
    paths = huffman_paths(counts)
    heap, cost = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        cost += both
        heapq.heappush(heap, both)
    assert (np.abs(paths).sum(1) * counts).sum() == cost
    chance = np.prod(np.where(paths == 0, 1, 0.5), axis=1)
    assert chance.sum() == 1
    assert paths[8].nonzero()[0][0] == paths[7].nonzero()[0][0] == 0, "the two rarest meet first"
    assert (paths[8, 0], paths[7, 0]) == (-1, 1), "and the rarest is left, as fastText takes it first"


def lid176_of_two_words():
    """Fill a small module by hand: the words `</s>` and `hello`, and the n-grams `<he` and `lo>` of `hello`."""

    model = models.Lid176(words=2, ngrams=2, width=2)
    spans = [(b"</s>", 0), (b"hello", 0), (b"<he", 1), (b"lo>", 1)]
    hashes = [int(models.fnv1a(span, np.array([0]), np.array([len(span)]))[0]) for span, _ in spans]
    model.words[:] = torch.tensor(sorted(hashes[:2]))
    model.ngrams[:] = torch.tensor(sorted(value % model.buckets for value in hashes[2:]))
    model.paths[0, 0] = 1
    return model


def test_language_models_read_bytes_and_learn():

    fasttext = lid176_of_two_words()
    ids = fasttext.tokenizer([b"hello  world", b"", b"hello\0hello"])["ids"]
    end = int(ids[1, 0])
    assert [set(row) - {4} for row in ids.tolist()] == [{0, 1, 2, 3}, {end}, {0, 1, 2, 3}] and end in (0, 1)
    assert (ids != 4).sum(1).tolist() == [4, 1, 7]

    langid = models.Py3Langid(features=3, states=3, rows=3)  # a to state 1, b to state 2, the rest to 0
    langid.moves[:, ord("a")], langid.moves[:, ord("b")] = 1, 2
    langid.row_of[:], langid.feature_of[:] = torch.arange(3), torch.tensor([-1, 0, 2])
    given = langid.tokenizer([b"aab", b"---", b"AB", b"b" * 16])
    assert given["ids"].tolist() == [[0, 2], [3, 3], [0, 2], [2, 3]]
    assert torch.allclose(given["weights"].exp(), torch.tensor([[3.0, 2.0], [1.0, 1.0], [2.0, 2.0], [17.0, 1.0]]))
    assert torch.allclose(given["scale"], torch.tensor([3**-0.5, 0.0, 2**-0.5, 0.25]))

    lande = models.Lande(ngrams=3, width=4)
    lande.ngrams[:] = torch.tensor([ord("a"), ord(" ") << 16 | ord("a"), ord("a") << 16 | ord("b")])
    assert torch.allclose(
        lande.tokenizer([b"A-b, ab!", "€".encode()]),  # " a b ab " has 8 units and 7 pairs
        torch.tensor([[2 / 8, 2 / 7, 1 / 7], [0.0, 0.0, 0.0]]),
    )

    for model in (fasttext, langid, lande):
        inputs = model.tokenizer([b"hello", b"ab a b"])
        logits = model(**inputs) if isinstance(inputs, dict) else model(inputs)
        assert logits.shape == (2, len(model.classes)) and len(set(model.classes)) == len(model.classes)
        logits[:, 0].sum().backward()
        assert any(weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_maps_of_languages_name_classes_of_their_models_once():
    assert len(shared_classes()) == 87
    for name, own in (
        ("lid176", models.LID176),
        ("py3langid", models.PY3LANGID),
        ("lande", models.LANDE),
        ("cld3", ""),
    ):
        rows = list(csv.DictReader((RECIPES / "languages" / f"{name}.csv").read_text().splitlines()))
        assert len({row["model_class"] for row in rows}) == len(rows)
        assert not own or {row["model_class"] for row in rows} <= set(own.split())
        assert set(read_map(name).values()) <= shared_classes()


def test_catalogues_and_locales_of_languages():
    header = b"Content-Type: text/plain; charset=iso-8859-2\n"
    messages = [(b"", header), (b"verb\x04_Open the file", "_Otevřít soubor".encode("iso-8859-2")), (b"Quit", b"")]
    where, texts, tables = 28 + 16 * len(messages), b"", [[], []]
    for pair in messages:
        for table, text in zip(tables, pair, strict=True):
            table += [len(text), where + len(texts)]
            texts += text + b"\0"
    numbers = [0x950412DE, 0, len(messages), 28, 28 + 8 * len(messages), 0, 0, *tables[0], *tables[1]]
    frame = plain(catalogue(np.array(numbers, "<u4").tobytes() + texts, "cs"))
    assert dict(zip(frame.label, frame.text, strict=True)) == {"cs": "Otevřít soubor", "en": "Open the file"}
    assert frame.group.nunique() == 1
    named = {"pt_BR": "pt", "nn_NO": "no", "sr@latin": "sr", "be@latin": None, "ca@valencia": "ca", "zh_TW": "zh"}
    assert {locale: language_of(locale) for locale in named} == named


def test_a_message_and_its_translations_stand_on_one_side():
    rows = [(f"message {i} in {code}", code, f"message/{i}") for i in range(300) for code in ("cs", "de", "fi")]
    rows += [("said by two", "cs", "message/1"), ("said by two", "de", "message/2"), ("seldom", "eo", "message/3")]
    frame = cut(pd.DataFrame(rows, columns=["text", "label", "group"]))
    assert frame.groupby("group").split.nunique().max() == 1
    assert set(frame.label) == {"cs", "de", "fi"} and "said by two" not in set(frame.text)
    assert frame.groupby(["split", "label"]).size().unstack().max(axis=1).to_dict() == {
        "selection": 60,
        "test": 80,
        "train": 60,
    }


def test_what_cld3_says_is_found_by_split_and_row(tmp_path):
    """Its one class has its probability, the other classes share the rest, and a name of its own is a shared one."""
    from languages_figures import write_table_of_cld3

    import crossteach

    said = [("de", 0.75), ("fil", 0.5), ("fil", 1.0), ("de", 0.25)]
    rows = [
        (f"{split} {k}", label, split, said[(k + shift) % 4])
        for shift, split in enumerate(("train", "pool", "selection", "test"))
        for k, label in enumerate(["de", "tl"] * 4)
    ]
    frame = pd.DataFrame(rows, columns=["text", "label", "split", "cld3"])
    write_table_of_cld3("strings", frame, tmp_path)
    frame[["text", "label", "split"]].to_parquet(tmp_path / "strings.parquet")
    spec = f"csv:{tmp_path}/strings.parquet"
    data = crossteach.load_data(spec, pools=[spec])
    table = crossteach.load_model(f"predictions:{tmp_path}/strings_cld3.npz", like=data)
    splits = {"train": data.train, "selection": data.selection, "test": data.test, "pool": data.pools[0].split}
    for name, split in splits.items():
        probs = table.answers(split, np.arange(len(split))).softmax(1)
        told = frame.cld3[frame.split == name].tolist()
        assert [table.classes[k] for k in probs.argmax(1)] == [label.replace("fil", "tl") for label, _ in told]
        assert torch.allclose(probs.max(1).values, torch.tensor([p for _, p in told]).float(), atol=1e-5)
        assert torch.allclose(probs.min(1).values * (len(table.classes) - 1), 1 - probs.max(1).values, atol=1e-5)
