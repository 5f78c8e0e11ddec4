"""Everything for transfers between published language identifiers: strings, models, CLD3's answers, and what each knows.

    python recipes/languages_figures.py --out FOLDER
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from languages_strings import build, build_short, read_map
from languages_weights import MODELS, agreement, ask, ask_cld3, batches, rebuild
from torch import Tensor, nn

SHARED = ("lid176", "py3langid", "cld3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="where packages, strings and weights go")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    whole, short = build(out), build_short(out)
    tell_strings(whole, short)
    tests = whole[whole.split == "test"]
    tell_models(whole, tests.text.sample(2000, random_state=0).tolist(), out)
    for name, frame in (("strings", whole), ("strings_12", short)):
        cld3 = answers_of_cld3(name, frame, out)
        tell_figures(name, frame[frame.split == "test"], cld3[(frame.split == "test").to_numpy()], out)


def tell_strings(whole: pd.DataFrame, short: pd.DataFrame) -> None:
    """Print how many strings, languages and groups there are."""
    print("| split | strings | of 12 characters | languages | groups | captions |\n|---|---|---|---|---|---|")
    for split, part in whole.groupby("split"):
        cut, captions = (short.split == split).sum(), part.group.str.startswith("picture").mean()
        print(
            f"| {split} | {len(part):,} | {cut:,} | {part.label.nunique() or '?'} | {part.group.nunique():,} "
            f"| {captions:.0%} |"
        )


def tell_models(frame: pd.DataFrame, texts: list[str], out: Path) -> None:
    """Print how close each module is to its library, what it learns in 30 steps, and how fast it reads."""
    print(
        "\n| model | trainable | probabilities differ by | their logs by | same top of 2,000 | loss, then after 30 steps "
        "| tokenizer, strings/s | whole, strings/s |\n|---|---|---|---|---|---|---|---|"
    )
    many = frame.text.sample(20_000, random_state=0).tolist()
    for name in MODELS:
        probs, logs, same = agreement(name, texts, out)
        model = rebuild(name, out)
        size = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        started = time.perf_counter()
        for batch in batches(many):
            model.tokenizer(batch)
        read = time.perf_counter() - started
        logits_of(model, many)
        took = time.perf_counter() - started - read
        before, after = learn(name, model, frame[frame.split == "train"])
        print(
            f"| `{name}` | {size / 1e6:.2f} M | {probs:.1e} | {logs:.1e} | {same:.2%} | {before:.3f}, {after:.3f} "
            f"| {len(many) / read:,.0f} | {len(many) / took:,.0f} |",
            flush=True,
        )


def learn(name: str, model: nn.Module, frame: pd.DataFrame, steps: int = 30, lr: float = 1e-3) -> tuple[float, float]:
    """Train on 320 labelled strings for a few steps; the loss before and after."""
    names, sums = shared_of(name)
    frame = frame[frame.label.isin(names)].sample(320, random_state=0)
    labels = torch.tensor([names.index(label) for label in frame.label])
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.0)
    losses = []
    for _ in range(steps + 1):
        logits = torch.cat([ask(model, batch) for batch in batches(frame.text.tolist())])
        loss = nn.functional.nll_loss((logits.softmax(1) @ sums).clamp(min=1e-12).log(), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses[0], losses[-1]


def shared_of(name: str) -> tuple[list[str], Tensor]:
    """Name the shared classes that a model knows, and how its own sum into them: [own, shared] of zeros and ones."""
    import languages_models

    own = getattr(languages_models, name.upper()).split()
    found = read_map(name)
    names = sorted(set(found.values()))
    sums = torch.zeros(len(own), len(names))
    for model_class, name_of_it in found.items():
        sums[own.index(model_class), names.index(name_of_it)] = 1
    return names, sums


def logits_of(model: nn.Module, texts: list[str]) -> Tensor:
    """Ask a model for all strings."""
    with torch.inference_mode():
        return torch.cat([ask(model, batch) for batch in batches(texts)])


def answers_of_cld3(name: str, frame: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Read the table of what CLD3 says of every string, or make it: `id` is the place of the string in its file."""
    path = out / f"{name}_cld3.parquet"
    if not path.exists():
        answers = ask_cld3(frame.text.tolist(), out)
        answers.insert(0, "id", np.arange(len(frame)))
        answers.to_parquet(path.with_suffix(".part"), index=False)
        path.with_suffix(".part").rename(path)
    return pd.read_parquet(path)


def tell_figures(name: str, frame: pd.DataFrame, cld3: pd.DataFrame, out: Path) -> None:
    """Print what each model, any of them and their mean have right on the test, and the positive flips."""
    for models in (SHARED, ("lid176", "py3langid", "lande")):
        classes = sorted(set.intersection(*(set(read_map(model).values()) for model in models)))
        rows = frame[frame.label.isin(classes)]
        answers = cld3[frame.label.isin(classes).to_numpy()]
        probs = {model: shared_probabilities(model, classes, rows.text.tolist(), answers, out) for model in models}
        labels = np.array([classes.index(label) for label in rows.label])
        right = {model: probs[model].argmax(1) == labels for model in models}
        caption = rows.group.str.startswith("picture").to_numpy()
        print(f"\n{name}: {len(rows):,} strings of {rows.label.nunique()} languages, {rows.group.nunique():,} groups\n")
        print("| | all | captions | messages |\n|---|---|---|---|")
        mean = {"any right": np.logical_or.reduce([right[model] for model in models])}
        for size in (2, 3):
            for team in itertools.combinations(models, size):
                together = np.mean([probs[model] for model in team], axis=0).argmax(1)
                mean[f"mean of {', '.join(team)}"] = together == labels
        for what, hits in (right | mean).items():
            told = [hits.mean(), hits[caption].mean(), hits[~caption].mean()]
            print(f"| {what} | {' | '.join(f'{100 * part:.1f}' for part in told)} |")
        print(f"\n| positive flips: student, teacher | {' | '.join(models)} |\n|---|{'---|' * len(models)}")
        for student in models:
            flips = [100 * (~right[student] & right[teacher]).mean() for teacher in models]
            print(f"| {student} | {' | '.join(f'{flip:.1f}' if flip else '' for flip in flips)} |")


def shared_probabilities(
    model: str, classes: list[str], texts: list[str], cld3: pd.DataFrame, out: Path
) -> np.ndarray:
    """Sum a model's probabilities into the classes and bring them to a sum of 1: [strings, classes].

    CLD3 gives one class and its probability; the others share the rest, and all is shared where the class is foreign.
    """
    if model == "cld3":
        found = cld3.label.map(read_map(model)).to_numpy()
        named = np.array([[answer == name for name in classes] for answer in found])
        probability = np.where(named.any(1), cld3.probability.to_numpy(), 1 / len(classes))[:, None]
        rest = np.where(named.any(1, keepdims=True), (1 - probability) / (len(classes) - 1), 1 / len(classes))
        return np.where(named, probability, rest)
    names, sums = shared_of(model)
    columns = sums[:, [names.index(name) for name in classes]]
    probs = (logits_of(rebuild(model, out), texts).softmax(1) @ columns).double().numpy() + 1e-12
    return probs / probs.sum(1, keepdims=True)


if __name__ == "__main__":
    main()
