"""What feeding costs: seeded views against the same views with free random numbers, and against timm's loader.

    python benchmarks/loader.py [--pictures 512 --rounds 7 --workers 2] [--step] [--passes]

- In memory: batches of 128 glyphs, warped. *Seeded* numbers come from (seed, sample, view), *free* ones from
  torch.rand; the pixels are made by the same function.
- From a folder: JPEGs of 500 x 400 pixels, random resized crops of 224 px, mirrored, brightness, contrast and
  saturation changed; timm's loader does the same with its own transforms (RandomResizedCrop, flip, colour jitter of
  0.2) and as many workers, which there are processes.
- `--step`: the same with the training step of a ResNet-18 behind it.
- `--passes`: the answers of a ResNet-18 on plain samples and on a view are computed and stored, with the next chunk
  read while the model is asked, and one after the other. Memory is the most that was private beyond what there was.

Cases take turns within one process; printed are the medians of the rounds and of their paired ratios. A round of a
loader begins with its workers running, and its first batches are not counted.

SPEED_CPU_2026-11-27.md has results.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from growth import watched
from PIL import Image
from torch import Tensor

from crossteach import Preprocess, Splits, load_data
from crossteach.data.prefetch import prefetch
from crossteach.data.views import Views, augmentation

BATCH, SIZE, WARM = 32, 224, 4
"""Samples a batch from the folder, their pixels, and the batches before the clock is started."""
Rounds = dict[str, list[float]]


def in_memory(rounds: int) -> Rounds:
    """Time 50 batches of warped glyphs with seeded and with free random numbers."""
    train = load_data("glyphs").train
    warp, plain = augmentation("warp", 0.5), Preprocess(size=None, channels=1)
    views = Views(0, 0, warp)
    order = np.random.default_rng(0).permutation(len(train)).reshape(-1)[: 50 * 128].reshape(50, 128)

    def seeded() -> None:
        for rows in order:
            views.batch(train, rows, np.zeros(128, np.int64)).images(plain)

    def free() -> None:
        for rows in order:
            images = train.inputs.read(train.input_rows(rows), None, None)
            warp.pixels(images, torch.rand(128, warp.draws)).contiguous()

    return in_turn({"seeded": lambda: timed(seeded), "free": lambda: timed(free)}, rounds)


def write_pictures(folder: Path, count: int) -> None:
    """Cut JPEGs of two classes out of two photographs."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for name, picture in zip(("temple", "flower"), load_sample_images().images, strict=True):
        large = Image.fromarray(picture).resize((1280, 854))
        for part, share in (("train", 1.0), ("val", 0.05), ("test", 0.05)):
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(max(2, int(share * count / 2))):
                left, top = rng.integers(1280 - 500), rng.integers(854 - 400)
                large.crop((left, top, left + 500, top + 400)).save(place / f"{number}.jpg", quality=90)


def ours(data: Splits, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield endless batches of seeded crops, as a transfer draws them."""
    train, preprocess = data.train, Preprocess(size=(SIZE, SIZE), channels=3)
    views, rng = Views(0, 0, augmentation("crop", 1.0)), np.random.default_rng(0)
    assert train.labels is not None

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        passed = 0
        while True:
            for rows in rng.permutation(len(train))[: len(train) // BATCH * BATCH].reshape(-1, BATCH):
                images = views.batch(train, rows, np.full(BATCH, passed)).images(preprocess)
                yield images, torch.from_numpy(train.labels[rows])
            passed += 1

    return prefetch(batches(), 2 * workers)


def timms(folder: Path, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield endless batches of timm's loader."""
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", root=str(folder), split="train", is_training=True, batch_size=BATCH),
        input_size=(3, SIZE, SIZE),
        batch_size=BATCH,
        is_training=True,
        color_jitter=0.2,
        num_workers=workers,
        use_prefetcher=False,
        persistent_workers=True,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    while True:
        yield from loader


def step_of(name: str) -> Callable[[Tensor, Tensor], None]:
    """Return one step of plain fine-tuning."""
    import timm

    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, num_classes=2)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.001, momentum=0.9)

    def step(images: Tensor, labels: Tensor) -> None:
        torch.nn.functional.cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def from_folder(folder: Path, pictures: int, rounds: int, workers: int, step: bool) -> Rounds:
    """Time passes through the pictures of a folder, with nothing or a training step behind the loader."""
    data = load_data(f"folder:{folder}?workers={workers}")
    streams = {"crossteach": ours(data, workers), "timm": timms(folder, workers)}
    use = step_of("resnet18") if step else lambda images, labels: None
    count = max(1, (pictures // BATCH) // (4 if step else 1))

    def passed(stream: Iterable[tuple[Tensor, Tensor]]) -> float:
        for images, labels in islice(stream, WARM):
            use(images, labels)

        def work() -> None:
            for images, labels in islice(stream, count):
                use(images, labels)

        return timed(work) / (count * BATCH)

    return in_turn({name: lambda s=stream: passed(s) for name, stream in streams.items()}, rounds)  # type: ignore[misc]


def passes(folder: Path, pictures: int, rounds: int, workers: int) -> None:
    """Time a model's passes over the pictures of a folder, reading ahead and not."""
    import timm

    from crossteach import Store, from_module
    from crossteach.answers import prediction, tutors

    train, memory = load_data(f"folder:{folder}?workers={workers}").train, dict[str, list[float]]()
    torch.manual_seed(0)
    module = timm.create_model("resnet18", pretrained=False, num_classes=2)
    model = from_module(module, Preprocess(size=(SIZE, SIZE), channels=3), name="resnet18")
    read_ahead = {"read ahead": lambda drawn, *_: prefetch(drawn, 1), "in turn": lambda drawn, *_: drawn}

    def passed(how: str, what: str) -> float:
        prediction.read_ahead = tutors.read_ahead = read_ahead[how]  # type: ignore[assignment]
        with tempfile.TemporaryDirectory() as place:
            store, views = Store(place), Views(0, 1, augmentation("crop", 1.0))
            if what == "plain samples":
                found = watched(lambda: prediction.keep_answers(model, train, store))
            else:
                found = watched(lambda: tutors.fill_store([model], train, views, store))
        memory.setdefault(how, []).append(found["private"])
        return found["seconds"]

    for what in ("plain samples", "a view"):
        cases = {how: partial(passed, how, what) for how in read_ahead}
        tell(f"a pass over {what}", in_turn(cases, rounds), pictures)  # type: ignore[arg-type]
        print(", ".join(f"{how}: {max(values):.0f} MB" for how, values in memory.items()))
        memory.clear()


def in_turn(cases: dict[str, Callable[[], float]], rounds: int) -> Rounds:
    """Run all cases one after the other, so many times and once before that is not counted."""
    found: Rounds = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            seconds = case()
            if number:
                found[name].append(seconds)
    return found


def timed(work: Callable[[], object]) -> float:
    """Return how long something takes, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def tell(what: str, found: Rounds, samples: int = 1) -> None:
    """Print the median rate of each case and the median of the ratios of the first to the second."""
    (first, ours_), (second, theirs) = found.items()
    ratio = np.median(np.array(ours_) / np.array(theirs))
    rates = ", ".join(f"{name} {samples / np.median(seconds):,.0f}" for name, seconds in found.items())
    print(f"{what}: images a second: {rates}; time of {first} / {second}: {ratio:.3f}", flush=True)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description="What feeding costs.")
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step", action="store_true", help="put a ResNet-18's training step behind the loader")
    parser.add_argument("--passes", action="store_true", help="time passes of a model instead")
    arguments = parser.parse_args()
    if not arguments.passes:
        tell("in memory", in_memory(arguments.rounds), 50 * 128)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        write_pictures(folder, arguments.pictures)
        asked = (folder, arguments.pictures, arguments.rounds, arguments.workers)
        if arguments.passes:
            passes(*asked)
            return
        tell("from a folder", from_folder(*asked, step=False))
        if arguments.step:
            tell("from a folder, with a ResNet-18 step", from_folder(*asked, step=True))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.workers} workers")


if __name__ == "__main__":
    main()
