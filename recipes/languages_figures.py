"""What transfers between published language identifiers need: strings, models, CLD3's answers, and what each knows.

    python recipes/languages_figures.py --out FOLDER      # a second call goes on where the first ended

It takes 2 minutes of one core and as long as 104 packages (350 MB unpacked) take to arrive, and leaves in FOLDER:
`strings.parquet`, `strings_12.parquet` and `strings_others.parquet` (languages_data.py tells of them),
`lid176.safetensors`, `py3langid.safetensors` and `lande.safetensors` (languages_weights.py; each opens as
`py:recipes/languages_models.py:lid176@FOLDER/lid176.safetensors`), and, in `strings_cld3.parquet` and
`strings_12_cld3.parquet`, what CLD3, a black box, says of each string: `id` (its row), `label` and `probability`.
`strings_cld3.npz` and `strings_12_cld3.npz` hold the same as `predictions:` opens it.
It needs pip, npm and node, and apt-get and dpkg-deb of Debian or Ubuntu.

Classes: recipes/languages/MODEL.csv gives each class of a model its shared one; the 87 of lid.176, py3langid and CLD3.
Codes are of ISO 639-1. Norwegian is one class (`no`: two models have nb and nn apart, two have one). Chinese is one
class in both scripts, with Wu and Cantonese; Serbian and Uzbek in both scripts; Egyptian and Moroccan Arabic are `ar`,
South Azerbaijani is `az`, `fil` is `tl`. Serbo-Croatian (`sh`), Latin transcriptions and what only some know map to
nothing. lande has 47 of the classes; its Sorani, Rundi and Hausa map to nothing.

Figures of 2026-11-27, Debian 12, 2 busy cores (rates are lower bounds): 6,292 strings of the test, 79 languages, 2,715
groups; selection 4,726, train 4,724, pool 78,684 (at 12 characters 70,346).

| model | trainable | probabilities, logs differ by | same top | loss, 30 steps on | strings/s: tokenizer, module |
|---|---|---|---|---|---|
| `lid176` | 0.80 M | 5e-7, 6e-4 | 100.00% | 1.030, 0.878 | 14,200, 100,891 |
| `py3langid` | 14.21 M | 5e-6, 4e-5 | 100.00% | 0.563, 0.525 | 31,055, 46,287 |
| `lande` | 0.08 M | 1e-4, 7e-4 | 100.00% | 1.553, 0.964 | 19,621, 204,737 |

The logs are of probabilities above 1e-4. fastText rounds where it takes a choice near 1 from 1 in float32; lande has
logits of 1,000, and in float64 its probabilities differ by 1e-5.

% right of the argmax over the shared classes (CLD3 gives its best class only, and a foreign one is wrong there):

| | test | captions | messages | first 12 characters | captions | messages |
|---|---|---|---|---|---|---|
| lid176 | 74.3 | 70.7 | 76.1 | 60.8 | 59.6 | 61.4 |
| py3langid | 88.2 | 82.0 | 91.4 | 77.3 | 70.7 | 80.5 |
| CLD3 | 77.0 | 69.0 | 81.2 | 59.6 | 52.9 | 62.8 |
| any right | 93.6 | 89.5 | 95.8 | 85.7 | 81.3 | 87.9 |
| mean of all three | 85.5 | 78.7 | 89.0 | 71.2 | 65.4 | 74.0 |
| mean of all three, calibrated | 88.8 | 83.1 | 91.8 | 77.5 | 72.1 | 80.1 |
| mean of lid176 and py3langid, calibrated | 88.8 | 83.4 | 91.5 | 77.7 | 72.8 | 80.1 |

| student, and what a teacher knows beside it | lid176 | py3langid | CLD3 | at 12: lid176 | py3langid | CLD3 |
|---|---|---|---|---|---|---|
| lid176 | | 17.3 | 12.1 | | 21.6 | 13.1 |
| py3langid | 3.3 | | 3.4 | 5.2 | | 4.9 |
| CLD3 | 9.3 | 14.6 | | 14.3 | 22.6 | |

On the 46 languages of lande: lid176 80.1, py3langid 89.3, lande 71.8, any right 94.4, mean of all three calibrated
89.6%; at 12 characters 65.8, 78.0, 55.1, 87.2 and 78.7%; lid176 knows 16.4% that lande lacks, py3langid 20.5%. Of
languages that not all share, over all own classes: lid176 38.6% of 1,986 strings of 25 languages, py3langid 83.7% of
1,703 of 22.
"""

import argparse
import itertools
import time
from functools import cache
from pathlib import Path
from typing import Any

import languages_models
import numpy as np
import pandas as pd
import torch
from languages_data import build, build_short, read_map
from languages_weights import MODELS, agreement, ask, ask_cld3, batches, rebuild
from torch import Tensor, nn

from crossteach.functional import fit_temperature, positive_flips

FLOOR = -14.0
"""Log probability of what a model never says."""
PARTS = {"train": "train", "selection": "val", "test": "test", "pool": "pool"}
"""What a table of answers calls the splits."""
TEAMS = (("lid176", "py3langid", "cld3"), ("lid176", "py3langid", "lande"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="where packages, strings and weights go")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    whole, short = build(out), build_short(out)
    tell_strings(whole, short)
    tell_models(whole, out)
    for name, frame in (("strings", whole), ("strings_12", short)):
        frame = frame.assign(cld3=answers_of_cld3(name, frame, out))
        write_table_of_cld3(name, frame, out)
        for team in TEAMS:
            tell_team(name, team, frame[frame.split.isin(["selection", "test"])], out)
    tell_others(pd.read_parquet(out / "strings_others.parquet"), out)


def tell_strings(whole: pd.DataFrame, short: pd.DataFrame) -> None:
    """Print how many strings, languages and groups there are."""
    print("| split | strings | of 12 characters | languages | groups | captions |\n|---|---|---|---|---|---|")
    for split, part in whole.groupby("split"):
        captions = part.group.str.startswith("picture").mean()
        told = f"{part.label.nunique() or '?'} | {part.group.nunique():,} | {captions:.0%}"
        print(f"| {split} | {len(part):,} | {(short.split == split).sum():,} | {told} |")


def tell_models(frame: pd.DataFrame, out: Path) -> None:
    """Print how close each module is to its library, what it learns in 30 steps, and how fast it reads."""
    print(
        "\n| model | trainable | probabilities differ by | their logs by | same top of 2,000 "
        "| loss, then after 30 steps | tokenizer, strings/s | module, strings/s |\n|---|---|---|---|---|---|---|---|"
    )
    texts = frame.text[frame.split == "test"].sample(2000, random_state=0).tolist()
    many = frame.text.sample(20_000, random_state=0).tolist()
    for name in MODELS:
        probs, logs, same = agreement(name, texts, out)
        model = rebuild(name, out)
        size = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        started = time.perf_counter()
        inputs = [model.tokenizer(batch) for batch in batches(many)]
        read = time.perf_counter() - started
        with torch.inference_mode():
            _ = [answer(model, given) for given in inputs]
        took = time.perf_counter() - started - read
        before, after = learn(name, model, frame[frame.split == "train"])
        rates = f"{len(many) / read:,.0f} | {len(many) / took:,.0f}"
        close = f"{probs:.1e} | {logs:.1e} | {same:.2%}"
        print(f"| `{name}` | {size / 1e6:.2f} M | {close} | {before:.3f}, {after:.3f} | {rates} |", flush=True)


def learn(name: str, model: nn.Module, frame: pd.DataFrame, steps: int = 30, lr: float = 1e-3) -> tuple[float, float]:
    """Train on 320 labelled strings for a few steps; the loss before and after."""
    names, sums = shared_of(name)
    frame = frame[frame.label.isin(names)].sample(320, random_state=0)
    labels = torch.tensor([names.index(label) for label in frame.label])
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.0)
    losses = []
    for _ in range(steps + 1):
        logits = logits_of(model, frame.text.tolist())
        loss = nn.functional.nll_loss((logits.softmax(1) @ sums).clamp(min=1e-12).log(), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses[0], losses[-1]


def logits_of(model: nn.Module, texts: list[str]) -> Tensor:
    """Ask a model for all strings."""
    return torch.cat([ask(model, batch) for batch in batches(texts)])


def answer(model: Any, inputs: Any) -> Tensor:
    """Ask a model for what its tokenizer made."""
    return model(**inputs) if isinstance(inputs, dict) else model(inputs)


@cache
def shared_of(name: str) -> tuple[list[str], Tensor]:
    """Name the shared classes that a model knows, and how its own sum into them: [own, shared] of zeros and ones."""
    own = getattr(languages_models, name.upper()).split()
    found = read_map(name)
    names = sorted(set(found.values()))
    sums = torch.zeros(len(own), len(names))
    for model_class, shared in found.items():
        sums[own.index(model_class), names.index(shared)] = 1
    return names, sums


def answers_of_cld3(name: str, frame: pd.DataFrame, out: Path) -> list[tuple[str, float]]:
    """Read the table of what CLD3 says of every string, or make it: `id` is the place of the string in its file."""
    path = out / f"{name}_cld3.parquet"
    if not path.exists():
        answers = ask_cld3(frame.text.tolist(), out)
        answers.insert(0, "id", np.arange(len(frame)))
        answers.to_parquet(path.with_suffix(".part"), index=False)
        path.with_suffix(".part").rename(path)
    answers = pd.read_parquet(path)
    return list(zip(answers.label, answers.probability, strict=True))


def write_table_of_cld3(name: str, frame: pd.DataFrame, out: Path) -> None:
    """Write CLD3's answers as `predictions:` opens them: of each split [n, C] probabilities, in the order of the file.

    CLD3 gives one class and its probability: the others, all that it shares or ever names, divide the rest evenly.
    """
    path, shared = out / f"{name}_cld3.npz", read_map("cld3")
    if path.exists():
        return
    said = [shared.get(label, label) for label, _ in frame.cld3]
    classes = sorted({*said, *shared.values()})
    given = np.array([probability for _, probability in frame.cld3]).clip(max=1 - np.exp(FLOOR))
    probs = ((1 - given) / (len(classes) - 1))[:, None].repeat(len(classes), 1)
    probs[np.arange(len(said)), [classes.index(label) for label in said]] = given
    parts = {part: probs[frame.split == split].astype(np.float32) for split, part in PARTS.items()}
    with path.with_suffix(".part").open("wb") as file:
        np.savez_compressed(file, classes=np.array(classes), **parts)
    path.with_suffix(".part").rename(path)


def tell_team(name: str, team: tuple[str, ...], frame: pd.DataFrame, out: Path) -> None:
    """Print what each model of a team, any of them and their means have right on the test, and the positive flips."""
    classes = sorted(set.intersection(*(set(read_map(model).values()) for model in team)))
    frame = frame[frame.label.isin(classes)]
    test = torch.from_numpy((frame.split == "test").to_numpy(copy=True))
    caption = torch.from_numpy(frame.group.str.startswith("picture").to_numpy(copy=True))[test]
    labels = torch.tensor([classes.index(label) for label in frame.label])
    logs = {model: shared_logs(model, classes, frame, out) for model in team}
    temperatures = {model: fit_temperature(log[~test], labels[~test]) for model, log in logs.items()}
    scores = {model: log[test] for model, log in logs.items()}
    calibrated = {model: log / temperatures[model] for model, log in scores.items()}
    right = {model: log.argmax(1) == labels[test] for model, log in scores.items()}
    rows = right | {"any right": torch.stack(list(right.values())).any(0)}
    for size in (2, 3):
        for some in itertools.combinations(team, size):
            for how, given in (("mean", scores), ("mean, calibrated", calibrated)):
                together = torch.stack([given[model].softmax(1) for model in some]).mean(0).argmax(1)
                rows[f"{how}: {', '.join(some)}"] = together == labels[test]
    tests = frame[frame.split == "test"]
    print(
        f"\n{name}: {len(tests):,} of the test, {tests.label.nunique()} languages, {tests.group.nunique():,} groups\n"
    )
    print("| | all | captions | messages |\n|---|---|---|---|")
    for what, hits in rows.items():
        told = (100 * part.double().mean() for part in (hits, hits[caption], hits[~caption]))
        print(f"| {what} | {' | '.join(f'{part:.1f}' for part in told)} |")
    print("\ntemperatures: " + ", ".join(f"{model} {value:.2f}" for model, value in temperatures.items()))
    print(f"\n| student, and what a teacher knows beside it | {' | '.join(team)} |\n|---|{'---|' * len(team)}")
    for student in team:
        flips = [positive_flips(scores[student], scores[teacher], labels[test]) for teacher in team]
        told = [f"{100 * flip.double().mean():.1f}" for flip in flips]
        print(f"| {student} | {' | '.join(told)} |", flush=True)


def shared_logs(model: str, classes: list[str], frame: pd.DataFrame, out: Path) -> Tensor:
    """Sum a model's probabilities into the classes, bring them to a sum of 1, and take logs: [strings, classes + 1].

    CLD3 gives one class and its probability: the others share the rest. The last column has what it says of foreign
    classes, for it cannot be asked for its second choice.
    """
    if model != "cld3":
        names, sums = shared_of(model)
        columns = [sums[:, names.index(name)] > 0 for name in classes]
        with torch.inference_mode():
            logits = logits_of(rebuild(model, out), frame.text.tolist())
            summed = torch.stack([logits[:, column].logsumexp(1) for column in columns], 1)
        return nn.functional.pad(summed.log_softmax(1), (0, 1), value=FLOOR)
    names = read_map(model)
    places = [classes.index(name) if (name := names.get(said)) in classes else -1 for said, _ in frame.cld3]
    given = torch.tensor([probability for _, probability in frame.cld3]).clamp(max=1.0)
    probs = ((1 - given) / (len(classes) - 1))[:, None].repeat(1, len(classes) + 1)
    probs[:, -1] = 0
    probs[torch.arange(len(probs)), places] = given
    return probs.log().clamp(min=FLOOR)


def tell_others(frame: pd.DataFrame, out: Path) -> None:
    """Print how each model does on the languages that not all share, over all its own classes."""
    print("\n| languages that not all share | languages | strings | right, of all its classes |\n|---|---|---|---|")
    for name in MODELS:
        model = rebuild(name, out)
        known = frame[frame.label.isin(model.classes)]
        if known.empty:
            continue
        with torch.inference_mode():
            preds = logits_of(model, known.text.tolist()).argmax(1).tolist()
        right = np.mean([model.classes[pred] == label for pred, label in zip(preds, known.label, strict=True)])
        print(f"| `{name}` | {known.label.nunique()} | {len(known):,} | {100 * right:.1f} |")


if __name__ == "__main__":
    main()
