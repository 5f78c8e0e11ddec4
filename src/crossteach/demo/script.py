"""`crossteach demo`: the main job on the embedded default."""

from pathlib import Path
from typing import Any

from ..answers.store import Store
from ..config import TransferConfig
from ..data import load_data
from ..models import load_model
from ..scouting.folder import open_scout
from ..settings import with_settings
from ..transferring.curriculum import transfer
from ..types import Progress

MODELS = ("mlp", "mixer", "resnet", "convnet")
STUDENT, WEAKER, STRONGER = "resnet", "mlp", "convnet"
LESSONS = (
    ("kl", WEAKER),
    ("xe", None),
    ("auto", WEAKER),
    ("kl", STRONGER),
    ("auto", STRONGER),
)
"""Plain distillation, plain fine-tuning, and ours; fine-tuning knows no teacher, so it stands for both."""

SETTINGS: tuple[str, ...] = ()


def run_demo(out: Path, store: Store, seed: int, device: str, overwrite: bool, progress: Progress) -> dict[str, Any]:
    """Scout the four models, then teach one from a weaker and from a stronger one.

    Returns:
        `scout` (as scout.json) and `transfers` (a summary.json each).
    """
    data = load_data("glyphs")
    models = {name: load_model(f"demo:{name}", like=data).to(device) for name in MODELS}
    found = open_scout(list(models.values()), data, out / "scout", store, overwrite, progress)
    summaries = []
    for method, teacher in LESSONS:
        folder = out / "-".join(filter(None, (STUDENT, teacher, method)))
        settings = with_settings(TransferConfig(), [f"method={method}", f"seed={seed}", *SETTINGS])
        teachers = [models[teacher]] if teacher else []
        result = transfer(models[STUDENT], teachers, data, folder, settings, store, overwrite, progress)
        summaries.append(result.summary)
    return {"scout": found, "transfers": summaries}
