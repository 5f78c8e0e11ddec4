"""Plain distillation between two pretrained models of different architecture, and what it forgets.

    python recipes/forgetting.py [--student SPEC --teacher SPEC --data SPEC --out DIR]

Expected (the demo's residual network, 91.76%, from its MLP, 84.01%; 2 CPU cores, 2026-11-26): of the teacher's
positive flips (2.28% of the test samples) the student learns 48.0%. It gains 1.76% and forgets 5.70%, so it loses 3.94
points, and the gate keeps the original.
"""

import argparse

import crossteach

parser = argparse.ArgumentParser(description="KL between two pretrained models, and what it forgets.")
parser.add_argument("--student", default="demo:resnet")
parser.add_argument("--teacher", default="demo:mlp")
parser.add_argument("--data", default="glyphs")
parser.add_argument("--out", default="runs/forgetting")
parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
arguments = parser.parse_args()

data = crossteach.load_data(arguments.data)
student, teacher = (crossteach.load_model(spec, like=data) for spec in (arguments.student, arguments.teacher))
config = crossteach.with_settings(crossteach.TransferConfig(), ["method=kl", *arguments.settings])
summary = crossteach.transfer(student, [teacher], data, arguments.out, config).summary

end = summary["ungated"]
print(f"student {summary['accuracy_before']:.2f}%, teacher {summary['teacher_accuracy']:.2f}%")
print(f"of the teacher's positive flips ({summary['positive_flips']:.2f}%), {end['transfer_rate']:.1f}% are learnt")
print(
    f"gained {end['knowledge_gain']:.2f}%, forgotten {end['knowledge_loss']:.2f}%: {end['transfer_delta']:+.2f} points"
)
print(f"retained {end['retained']:.2f}% of what the student had right")
print(f"the gate: {summary['gate']['verdict']}")
