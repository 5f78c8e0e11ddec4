"""The model card: `README.md` in the format of the Hugging Face hub."""

import html
import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError
from ..specs import parse_spec
from ..types import Kind
from .licences import Licences, published_by_timm, warnings_of
from .reading import Figures, Story, command, without_folders
from .target import Exportable, Target, takes

SHOWN = 5
"""Class names that the card shows; the export holds all of them."""
NOTE = "What follows is known of the models that this one came from; it is no legal advice."


def require_card_maker() -> None:
    """Raise MissingExtraError if the library that makes model cards is not installed."""
    if find_spec("huggingface_hub") is None:
        raise MissingExtraError("the model card needs huggingface-hub; pip install huggingface-hub")


def write_card(
    what: Exportable,
    story: Story,
    target: Target,
    run: Path,
    checked: str,
    licences: tuple[Licences, Licences],
    versions: Mapping[str, str],
) -> str:
    """Return the card's text. Whatever comes from names, specs or files is escaped.

    Args:
        what: The student.
        story: Of its transfer.
        target: Where it is exported to.
        run: The run folder, by whose name the command ends.
        checked: How the export was compared with the student, in words.
        licences: Of the student, and of its teachers.
        versions: Of the packages that took part.
    """
    from huggingface_hub import ModelCard, ModelCardData

    every, kind = licences[0] | licences[1], what.student.preprocess.kind
    task = f"{kind}-classification"
    title = f"{story.student}, as it was" if story.kept else f"{story.student}, taught by crossteach"
    data = ModelCardData(
        license=what.licence,
        library_name=target.library,
        pipeline_tag=task,
        tags=["crossteach", "knowledge-transfer", "knowledge-distillation", task],
        base_model=base_models(story) or None,
        metrics=["accuracy"] if story.figures else None,
        model_name=title,
        eval_results=_eval_results(story, story.figures, task) if story.figures else None,
    )
    card = ModelCard.from_template(
        data,
        template_str=files(__package__).joinpath("card.md").read_text(encoding="utf-8"),
        title=plain(title),
        lead=_lead(story, kind),
        warnings=[plain(each) for each in warnings_of({without_folders(k): v for k, v in every.items()})],
        licence_note=NOTE,
        usage=_code(target.usage(what)),
        holds="its tokenizer" if what.reads_text else target.holds,
        takes=takes(what),
        n_classes=len(what.classes),
        first_classes=_first_classes(what.classes),
        checked=plain(checked),
        facts=_facts(story),
        verdict=verdict_in_words(story),
        n_test=f"{story.n_test:,}",
        figures=_rows(story.figures) if story.figures else [],
        licences=[(_spec(spec), plain(licence or "unknown")) for spec, licence in every.items()],
        command=_code(" ".join(command(story, run).split())),
        versions=plain(", ".join(f"{name} {version}" for name, version in versions.items())),
        fingerprints=[(plain(name), plain(value)) for name, value in story.fingerprints.items()],
    )
    return str(card)


def plain(text: str) -> str:
    r"""Escape a text so that Markdown and HTML show it as it is, in one line.

    Example:
        >>> plain("<b>|a_b")
        '&lt;b&gt;\\|a\\_b'
    """
    return re.sub(r"([\\`*_\[\]|#~!{}$])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _code(text: str) -> str:
    """Keep a text from ending the block of code in which it stands."""
    return text.replace("```", "'''")


def _spec(spec: str) -> str:
    return plain(without_folders(spec))


def base_models(story: Story) -> list[str]:
    """Name the student's origin on the hub, where its spec says it: the published weights of timm, or a repository."""
    if ":" not in story.spec:
        return []
    spec = parse_spec(story.spec)
    if spec.scheme == "timm":
        name = getattr(published_by_timm(spec), "hf_hub_id", None)
        return [name] if name else []
    is_repository = spec.scheme == "hf" and re.fullmatch(r"[\w.-]+/[\w.-]+", spec.rest) and not spec.path.exists()
    return [spec.rest] if is_repository else []


def _eval_results(story: Story, figures: Figures, task: str) -> list[Any]:
    from huggingface_hub import EvalResult

    data = without_folders(story.data or "unnamed")
    return [
        EvalResult(
            task_type=task,
            dataset_type=re.sub(r"[^\w.-]+", "-", data).strip("-"),
            dataset_name=data,
            dataset_split="test",
            metric_type="accuracy",
            metric_name="Accuracy, in %",
            metric_value=round(figures.after, 2),
        )
    ]


def _lead(story: Story, kind: Kind) -> str:
    taught = " and ".join(plain(name) for name, _ in story.teachers) or "its own labels"
    if story.kept:
        return (
            f"**These are the original weights of {plain(story.student)}**, bit for bit: {taught} taught it, and what "
            "it had learnt was not returned."
        )
    what = "a text" if kind == "text" else "an image"
    return (
        f"{plain(story.student)} is {what} classifier that was pretrained, and then taught by {taught} what it did "
        "not know. It was to lose nothing that it knew before; what that came to is told below."
    )


def _first_classes(classes: tuple[str, ...]) -> str:
    names = ", ".join(plain(name) for name in classes[:SHOWN])
    return f": {names}" + (", …" if len(classes) > SHOWN else "")


def _facts(story: Story) -> list[tuple[str, str]]:
    teachers = [(f"teacher {number}", _spec(spec)) for number, (_, spec) in enumerate(story.teachers, 1)]
    pools = [("pool without labels", _spec(pool)) for pool in story.pools]
    used = [("samples of pools that taught", f"{story.pool_samples:,}")] if story.pools else []
    data = _spec(story.data) if story.data else "none that a spec names"
    return [("student", _spec(story.spec)), *teachers, ("method", plain(story.method)), ("data", data), *pools, *used]


def verdict_in_words(story: Story) -> str:
    """Say what was decided about the weights, and on what ground."""
    by = f"by {story.answered} labels that a person gave where the old and the new student differ"
    if story.verified is not None:
        delta, low, high = story.verified
        change = f"{delta:+.2f} points (95% interval {low:+.2f} to {high:+.2f})"
        ends = {
            "accepted": f"Accepted {by}: {change}.",
            "kept_original": f"The original weights were kept, {by}: training would have changed them by {change}.",
        }
        return ends.get(story.verdict, f"Not verified yet; {by} the change is {change}.")
    part = "" if story.alpha == 1 else f", {story.alpha:g} of the way from the old to the new"
    return {
        "accepted": f"Accepted: labels that nothing was trained on speak for these weights{part}.",
        "kept_original": "The original weights were kept: what was learnt could not be shown to do no harm.",
        "unverified": "Not verified: there were no labels to decide with, or none was asked for. "
        f"Of the test samples {story.changed:.2f}% are answered otherwise than before.",
    }.get(story.verdict, plain(story.verdict))


def _rows(figures: Figures) -> list[tuple[str, str, str]]:
    low, high = figures.interval
    rows = [("accuracy", f"{figures.before:.2f}%", f"{figures.after:.2f}%")]
    rows += [("change, 95% interval", "", f"{figures.delta:+.2f} points ({low:+.2f} to {high:+.2f})")]
    rows += [("learnt (was wrong, is right)", "", f"{figures.gain:.2f}%")]
    rows += [("forgotten (was right, is wrong)", "", f"{figures.loss:.2f}%")]
    return rows + [(f"accuracy of teacher {n}", f"{each:.2f}%", "") for n, each in enumerate(figures.teachers, 1)]
