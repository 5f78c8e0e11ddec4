"""Leads an export: reads the run, writes the folder beside its place, checks it, and moves it there."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import ExportError, RunFolderError
from ..files import make_folder, to_utf8, write_bytes, write_json, writing
from ..models.run import open_saved
from ..models.torch_classifier import TorchClassifier
from ..runs import first_difference, read_json
from ..types import Progress, Split, no_progress
from . import hf, onnx, timm, torch
from .card import require_card_maker, verdict_in_words, write_card
from .checking import fixed_images, images_of, largest_difference, test_split, texts_of
from .hub import push, require_way
from .licences import Licences, licence_of_all, licences_of, warnings_of
from .reading import Story, read_story, without_folders
from .target import Exportable, Target, takes_images

TARGETS: dict[str, Target] = {"timm": timm.TARGET, "hf": hf.TARGET, "torch": torch.TARGET, "onnx": onnx.TARGET}
RECORD, CARD = "export.json", "README.md"
CACHE = "__pycache__"
"""Python leaves it where the student's own architecture.py was imported."""
FORMAT = 1
"""Of what an export holds; raise it where that changes, and an export of before is not taken for the same."""
PACKAGES = ("crossteach", "torch", "timm", "transformers", "onnx", "onnxruntime")


def export_run(
    run: str | Path,
    to: str,
    out: str | Path,
    data: str | None = None,
    push_to: str | None = None,
    overwrite: bool = False,
    trust: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write the student of a run as a folder that other libraries open; the run is only read.

    The folder is written beside its place, opened again, and asked eight fixed images; only when its logits are the
    student's it is moved to its place.

    Args:
        run: The folder of a finished transfer.
        to: `timm`, `hf`, `torch` or `onnx`.
        out: The new folder. One that holds this very export is read.
        data: A data spec whose test samples are compared too.
        push_to: ORG/NAME on the Hugging Face hub, to which the folder is sent as well.
        overwrite: Whether to replace another export.
        trust: Whether to run the code of a student that this user has not saved.
        progress: Told what is being done.

    Returns:
        The content of `export.json`, with `out`, and `url` where it was sent.

    Raises:
        RunFolderError: If the run is not a finished transfer, or `out` holds something else.
        ExportError: If the student cannot go there, or the export answers otherwise.
        TrustError: If the student holds code that is not known.
        HubError: If it cannot be sent.
    """
    run, place = Path(run), Path(out)
    if to not in TARGETS:
        raise ExportError(f"--to must be one of {', '.join(TARGETS)}, not {to!r}")
    if push_to is not None:
        require_way(push_to)
    require_card_maker()
    story = read_story(run)
    student = open_saved(run, f"run:{run}", trust)
    _require_fit(student, to)
    made_of = _made_of(run, student, to, data)
    record = None if overwrite else _same_export(place, made_of)
    if record is None:
        _require_place(place, overwrite)
        record = _make(run, story, student, to, place, data, made_of, progress)
    url = push(place, push_to, [*record["files"], RECORD]) if push_to is not None else None
    return {"out": str(place), **record, "url": url}


def _require_fit(student: TorchClassifier, to: str) -> None:
    if TARGETS[to].fits(student):
        return
    source, of_text = student.architecture.get("source"), "" if takes_images(student) else " of text"
    fit = [name for name, target in TARGETS.items() if target.fits(student)]
    raise ExportError(
        f"{student.name!r} is a {source}: model{of_text}, which --to {to} cannot hold; targets that fit it: "
        f"{', '.join(fit)}"
    )


def _made_of(run: Path, student: TorchClassifier, to: str, data: str | None) -> dict[str, Any]:
    """Return everything that an export depends on."""
    told = hashlib.blake2b(digest_size=16)
    for name in ("summary.json", "verify.json"):
        told.update((run / name).read_bytes() if (run / name).is_file() else b"none")
    compared = None if data is None else without_folders(data)
    known = {"to": to, "student": student.fingerprint, "run": told.hexdigest(), "data": compared}
    return {**known, "format": FORMAT}


def _same_export(place: Path, made_of: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of an export that is there, if it is the one that is wanted and whole.

    Raises:
        RunFolderError: If another one is there.
    """
    if not (place / RECORD).is_file():
        return None
    record: dict[str, Any] = read_json(place / RECORD)
    if not isinstance(record, dict) or record.get("made_of") != made_of:
        kept = record.get("made_of") if isinstance(record, dict) else None
        raise RunFolderError(
            f"{place} holds another export ({first_difference(kept, made_of)}); choose another --out, or pass "
            "--overwrite"
        )
    missing = [name for name in record["files"] if not (place / name).is_file()]
    if missing:
        raise RunFolderError(f"{place} lacks {missing[0]} of this export; pass --overwrite to write it again")
    return record


def _require_place(place: Path, overwrite: bool) -> None:
    """Raise if the folder holds anything that an export has not written."""
    if place.exists() and not place.is_dir():
        raise RunFolderError(f"{place} is a file; --out needs a folder")
    if not place.is_dir():
        return
    record = read_json(place / RECORD) if overwrite and (place / RECORD).is_file() else {}
    ours = {RECORD, CACHE, *map(str, record.get("files") or ())}
    foreign = sorted(p.name for p in place.iterdir() if p.name not in ours or (p.is_dir() and p.name != CACHE))
    if foreign:
        raise RunFolderError(f"{place} holds other files ({foreign[0]}); choose a new or empty folder for --out")


def _make(
    run: Path,
    story: Story,
    student: TorchClassifier,
    to: str,
    place: Path,
    data: str | None,
    made_of: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Write the export beside its place, check it, describe it, and move it there."""
    target, split = TARGETS[to], None if data is None else test_split(data)
    licences = licences_of(story.spec), _of_teachers(story)
    named = story.classes if len(story.classes) == student.n_classes else ()
    what = Exportable(
        student=student,
        classes=student.classes or named or tuple(map(str, range(student.n_classes))),
        shape=_shape(student, split, story),
        licence=licence_of_all(*licences),
    )
    with _beside(place) as folder:
        progress("writing the export", 0, 3)
        target.write(what, folder)
        progress("writing the export", 1, 3)
        checked = _check(what, target, folder, split)
        progress("writing the export", 2, 3)
        said = _checked_in_words(checked, what)
        card = write_card(what, story, target, run, said, licences, _versions())
        write_bytes(folder / CARD, to_utf8(card))
        record = {
            "to": to,
            "student": story.student,
            "verdict": story.verdict,
            "original": story.kept,
            "exact": target.exact,
            "checked": checked,
            "input": None if what.reads_text else list(what.shape),
            "classes": len(what.classes),
            "licence": what.licence,
            "notes": [*_notes(story, {**licences[0], **licences[1]}), *_left_behind(student)],
            "files": sorted(path.name for path in folder.iterdir()),
            "made_of": made_of,
        }
        write_json(folder / RECORD, record)
        progress("writing the export", 3, 3)
    return record


def _of_teachers(story: Story) -> Licences:
    found: Licences = {}
    for _, spec in story.teachers:
        found |= licences_of(spec)
    return found


def _shape(student: TorchClassifier, split: Split | None, story: Story) -> tuple[int, int, int]:
    """Return the image that the export takes; a student without a size of its own takes the data's."""
    preprocess, known = student.preprocess, student.shape
    if preprocess.kind == "text":
        return 1, 1, int(student.fixed_inputs().shape[3])
    channels = preprocess.channels or (known[0] if known else len(preprocess.mean))
    size = preprocess.size or (None if split is None else split.inputs.size)
    if size is None:
        like = f" (it was taught on {story.data})" if story.data else ""
        raise ExportError(
            f"{student.name!r} takes images at the size of its data{like}: give these by --data, so that the size is "
            "known"
        )
    return channels, *size


def _check(what: Exportable, target: Target, folder: Path, split: Split | None) -> dict[str, Any]:
    """Open what was written, and compare it with the student."""
    ask = target.open(what, folder)
    on_fixed = texts_of(what.student) if what.reads_text else fixed_images(what.shape)
    checked: dict[str, Any] = {
        "fixed_inputs": len(on_fixed),
        "largest_difference": largest_difference(what.student, ask, on_fixed, target.exact),
        "samples": 0,
    }
    if split is not None:
        images = images_of(what.student, split)
        on_data = largest_difference(what.student, ask, images, target.exact)
        checked |= {"samples": len(images), "largest_difference": max(checked["largest_difference"], on_data)}
    return checked


def _checked_in_words(checked: dict[str, Any], what: Exportable) -> str:
    asked = f"{checked['fixed_inputs']} fixed {what.student.preprocess.kind}s" + (
        f" and {checked['samples']} test samples" if checked["samples"] else ""
    )
    if not checked["largest_difference"]:
        return f"opened again, it gives the student's logits bit for bit on {asked}"
    return (
        f"opened again, its logits differ from the student's by at most {checked['largest_difference']:.2g} on {asked}"
    )


def _notes(story: Story, licences: Licences) -> list[str]:
    """Say what the user should know."""
    kept = ["these are the original weights: what was learnt was not returned"] if story.kept else []
    unsure = [verdict_in_words(story).rstrip(".")] if story.verdict == "unverified" else []
    return [*kept, *unsure, *warnings_of({without_folders(spec): each for spec, each in licences.items()})]


def _left_behind(student: TorchClassifier) -> list[str]:
    """Name the files that the student's own code is told to read: nobody knows what else they are for."""
    if student.architecture.get("source") != "py":
        return []
    given = student.architecture.get("arguments", {})
    return [
        f"its code is given {key}={value}, a file that is no part of this; where the model is built it must be there"
        for key, value in given.items()
        if isinstance(value, str) and value and Path(value).is_file()
    ]


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """Give a folder to fill, and move it to its place when the block has ended well; else nothing is left of it."""
    place = place.resolve()
    make_folder(place.parent)
    part, old = (place.with_name(f".{place.name}.{os.getpid()}.{which}") for which in ("part", "old"))
    try:
        yield make_folder(part)
        with writing(place):
            if place.exists():
                place.rename(old)
            part.rename(place)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
