"""Time of a training step against what it cannot do without, and of who teaches what.

    python benchmarks/step_time.py [--cases demo resnet18 vit_tiny] [--rounds 9]
    python benchmarks/step_time.py --partition

A step: *plain* is fine-tuning on hard labels with the same loader. *Stored*: a method whose tutors' answers stand in
the store, against plain. *Live*: `kl+dp` with tutors that answer in every step, against plain and the forwards of both
tutors. `demo` is the demo's residual network taught by its mixer, 100 classes; `resnet18` and `vit_tiny` are timm's, 64
px, 1,000 classes, random weights on random images. All take turns within one process; printed are the medians of the
paired ratios.

`--partition`: targets and loss of a batch of 256 of 1,000 classes for 1 to 8 teachers, against the step of a ResNet-18
at 64 px.

SPEED_CPU_2026-11-27.md has results.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

import crossteach
from crossteach import Preprocess, Splits, Store, TrainableClassifier, TransferConfig, TransferLoss
from crossteach.answers.tutors import LiveTutors, fill_store
from crossteach.data.views import Views, augmentation
from crossteach.functional.judging import fit_judge
from crossteach.models.scoring import score
from crossteach.transferring.methods import METHODS
from crossteach.transferring.plan import TrainingPlan
from crossteach.transferring.sources import Source
from crossteach.transferring.training import train

STEPS = {"demo": 20, "resnet18": 3, "vit_tiny": 3}
"""Steps that are timed at once."""
STORED = ("kl+dp", "xe+dp", "kl+dp-unsupervised", "kl+dp-learned")
TIMM = {"resnet18": "resnet18", "vit_tiny": "vit_tiny_patch16_224"}


def task(case: str) -> tuple[TrainableClassifier, TrainableClassifier, Splits]:
    """Return student, teacher and data of a case."""
    if case == "demo":
        student, teacher = (crossteach.load_model(f"demo:{name}") for name in ("resnet", "mixer"))
        assert isinstance(student, TrainableClassifier) and isinstance(teacher, TrainableClassifier)
        return student, teacher, crossteach.load_data("glyphs")
    return random_task(TIMM[case], size=64, samples=1024, **({} if case == "resnet18" else {"img_size": 64}))


def random_task(
    architecture: str, size: int, samples: int, classes: int = 1000, **more: object
) -> tuple[TrainableClassifier, TrainableClassifier, Splits]:
    """Return two models of timm with random weights, and random images."""
    import timm

    rng = np.random.default_rng(0)
    part = (rng.integers(0, 256, (samples, size, size, 3), np.uint8), rng.integers(0, classes, samples))
    data = crossteach.from_arrays(part, part, part, classes=list(map(str, range(classes))), duplicates="keep")
    torch.manual_seed(0)
    modules = [timm.create_model(architecture, pretrained=False, num_classes=classes, **more) for _ in range(2)]
    shape = Preprocess(size=(size, size), channels=3)
    student, teacher = (crossteach.from_module(module, shape, name=architecture) for module in modules)
    return student, teacher, data


def step_times(case: str, rounds: int) -> dict[str, np.ndarray]:
    """Time the steps of a case in turn; seconds a step."""
    student, teacher, data = task(case)
    with tempfile.TemporaryDirectory() as folder:
        found = in_turn(work_of(student, teacher, data, TransferConfig(), STEPS[case], Store(folder)), rounds)
    return {name: seconds / STEPS[case] for name, seconds in found.items()}


def work_of(
    student: TrainableClassifier,
    teacher: TrainableClassifier,
    data: Splits,
    config: TransferConfig,
    steps: int,
    store: Store,
    methods: Sequence[str] = STORED,
) -> dict[str, Callable[[], object]]:
    """Return so many steps of each kind: plain, live, stored by each method, and the tutors' forwards alone."""
    views = Views(0, 1, augmentation("warp", 0.5))
    tutors, size = (student.clone(), teacher), config.optim.batch_size
    part = data.train.take(np.random.default_rng(0).permutation(len(data.train))[: steps * size])
    stored = fill_store(tutors, part, views, store)
    batch = views.batch(part, np.arange(size), np.zeros(size, np.int64))
    judge = fit_judge(stored.logits(batch), torch.from_numpy(part.labels[:size]))
    plain = TrainingPlan(METHODS["xe"], config, (Source(part, views, size),), 1e-4, 1)
    plans = {"plain": plain}
    answering = {"live": ("kl+dp", LiveTutors(tutors)), **{f"stored {method}": (method, stored) for method in methods}}
    for name, (method, answers) in answering.items():
        source = replace(plain.sources[0], tutors=answers)
        plans[name] = replace(plain, method=METHODS[method], sources=(source,), judge=judge)
    images = batch.images(student.preprocess)
    work: dict[str, Callable[[], object]] = {
        name: lambda plan=plan: train(student.clone(), plan)
        for name, plan in plans.items()  # type: ignore[misc]
    }
    work["tutors"] = lambda: [score(tutor, images) for tutor in tutors for _ in range(steps)]
    return work


def tell_steps(case: str, step: dict[str, np.ndarray]) -> None:
    """Print the ratios of a case."""
    print(f"\n{case}: plain {1e3 * np.median(step['plain']):.2f} ms a step of {TransferConfig().optim.batch_size}")
    for name in (n for n in step if n.startswith("stored")):
        print(f"  {name} / plain: {np.median(step[name] / step['plain']):.3f}")
    print(f"  live kl+dp / (plain + tutors): {np.median(step['live'] / (step['plain'] + step['tutors'])):.3f}")


def partition_times(rounds: int) -> None:
    """Print what targets and loss take for 1 to 8 teachers, and their share of a ResNet-18's step."""
    student, _, data = task("resnet18")
    random = torch.Generator().manual_seed(0)
    student_logits = torch.randn(256, 1000, generator=random).requires_grad_()
    labels = torch.from_numpy(np.asarray(data.train.labels)[:256])
    source = Source(data.train.take(np.arange(256)), Views(0, 1, augmentation("warp", 0.5)), 256)
    plain = TrainingPlan(METHODS["xe"], TransferConfig(), (source,), 1e-4, 1)
    work: dict[str, Callable[[], object]] = {"step": lambda: train(student.clone(), plain)}
    for method in ("kl+dp", "kl+dp-unsupervised"):
        for count in (1, 2, 4, 8):
            frozen, *teachers = torch.randn(count + 1, 256, 1000, generator=random).unbind()
            work[f"{method}, {count} teachers"] = partial(
                targets_and_loss, TransferLoss(method), student_logits, frozen, teachers, labels
            )
    work["cross-entropy alone"] = lambda: torch.nn.functional.cross_entropy(student_logits, labels).backward()
    found = in_turn(work, rounds)
    for name, seconds in found.items():
        share = 100 * np.median((seconds - found["cross-entropy alone"]) / found["step"])
        print(
            f"{name}: {1e3 * np.median(seconds):.2f} ms" + (f", {share:.1f}% of the step more" if "," in name else "")
        )


def targets_and_loss(
    loss: TransferLoss,
    student: torch.Tensor,
    frozen: torch.Tensor,
    teachers: list[torch.Tensor],
    labels: torch.Tensor,
) -> None:
    """Choose who teaches, compare, and send the gradient back to the logits."""
    loss(student, frozen, teachers, labels).loss.backward()  # type: ignore[no-untyped-call]


def in_turn(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Time all in turn, so many times and twice before that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 2):
        for name, each in work.items():
            started = time.perf_counter()
            each()
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values[2:]) for name, values in seconds.items()}


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description="Time of a training step against its parts.")
    parser.add_argument("--cases", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--partition", action="store_true", help="time who teaches what instead")
    arguments = parser.parse_args()
    if arguments.partition:
        partition_times(arguments.rounds)
    else:
        for case in arguments.cases:
            tell_steps(case, step_times(case, arguments.rounds))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
