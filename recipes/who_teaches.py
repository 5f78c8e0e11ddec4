"""Does the partition pick real complementary knowledge?

    python recipes/who_teaches.py [--data SPEC] [MODEL ...]

For every ordered pair, on views of the transfer set, it prints: the share of samples given to the teacher, how often
the teacher is right there, how often the frozen student would have been, and the accuracy of all targets. It does so
for three partitions: by the right class (supervised), by confidence (unsupervised), and at random with the share of the
second.

Expected (the demo's four models, 2026-11-23): yes. Where the unsupervised rule gives the resnet's samples to the
convnet (47.4%), the convnet is right on 91.7% and the resnet would have been on 87.6%; in a random share of the same
size it is 89.0 against 89.4%. The targets are right on 91.1%, supervised 93.7%, the resnet alone 89.2%. From a much
weaker teacher only the supervised rule helps: of what the MLP takes from the resnet (16.1% unsupervised) it has 70.5%
right, the resnet 76.5%, and the targets (88.2%) are worse than the resnet; supervised they are right on 91.3%.
"""

import argparse
from itertools import permutations

import torch

import crossteach
from crossteach.answers.tutors import fill_store
from crossteach.data.views import Views, augmentation
from crossteach.functional import supervised, targets, unsupervised

parser = argparse.ArgumentParser(description="Does the partition pick real complementary knowledge?")
parser.add_argument("models", nargs="*", default=["demo:mlp", "demo:mixer", "demo:resnet", "demo:convnet"])
parser.add_argument("--data", default="glyphs")
arguments = parser.parse_args()

data = crossteach.load_data(arguments.data)
models = [crossteach.load_model(spec, like=data) for spec in arguments.models]
views = Views(seed=0, count=1, augmentation=augmentation(data.augmentation))
batch = views.batch(data.train, torch.arange(len(data.train)).numpy(), torch.zeros(len(data.train), dtype=int).numpy())
answers = fill_store(models, data.train, views, crossteach.Store()).logits(batch)
labels = torch.from_numpy(data.train.labels)
generator = torch.Generator().manual_seed(0)


def percent(mask: torch.Tensor) -> str:
    return f"{100 * mask.double().mean().item():.1f}%" if len(mask) else "·"


print("| student | teacher | partition | to the teacher | teacher right there | student right there | targets right |")
print("|---|---|---|---|---|---|---|")
for s, t in permutations(range(len(models)), 2):
    tutors = torch.stack([answers[s], answers[t]])
    right = tutors.argmax(2) == labels
    chosen = {"supervised": supervised(tutors, labels), "unsupervised": unsupervised(tutors)}
    chosen["random"] = chosen["unsupervised"][torch.randperm(len(labels), generator=generator)]
    for name, tutor in chosen.items():
        there = tutor == 1
        taught = targets(tutors, tutor).argmax(1) == labels
        cells = (percent(there), percent(right[1][there]), percent(right[0][there]), percent(taught))
        print(f"| {models[s].name} | {models[t].name} | {name} | {' | '.join(cells)} |")
    print(f"| {models[s].name} | {models[t].name} | all to the student | · | · | · | {percent(right[0])} |")
