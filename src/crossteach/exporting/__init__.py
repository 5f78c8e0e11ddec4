"""A student for those who do not have crossteach: a folder that other libraries open, checked before it is there.

`reading.py` reads the run, `making.py` leads an export from start to end, `checking.py` asks what was written and
compares, `card.py` with `licences.py` writes the model card, and `hub.py` sends the folder to the Hugging Face hub.
Each target is a file of its own that says how to write, open and use it: `timm.py`, `hf.py`, `torch.py`, `onnx.py`.
"""

from .making import export_run as export_run
