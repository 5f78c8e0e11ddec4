"""`crossteach demo`: the main job on the embedded default."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..answers.store import Store
from ..config import TransferConfig
from ..data import load_data, load_pools
from ..models import load_model
from ..scouting.folder import open_scout
from ..settings import with_settings
from ..transferring.curriculum import transfer
from ..types import Progress

MODELS = ("mlp", "mixer", "resnet", "convnet")
POOL = "glyphs:pool"


@dataclass(frozen=True)
class Lesson:
    """One transfer of the demo."""

    student: str
    teacher: str
    method: str
    pool: bool = False

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return "-".join((self.student, self.teacher, self.method, *(["pool"] if self.pool else [])))


LESSONS = (
    Lesson("resnet", "mlp", "kl"),
    Lesson("resnet", "mlp", "auto"),
    Lesson("resnet", "mlp", "auto", pool=True),
    Lesson("mlp", "convnet", "auto"),
    Lesson("mlp", "convnet", "auto", pool=True),
)
"""From a weaker teacher by plain distillation and by ours, and what fresh images without labels add; then from a
stronger one."""

SETTINGS: tuple[str, ...] = ()


def run_demo(out: Path, store: Store, seed: int, device: str, overwrite: bool, progress: Progress) -> dict[str, Any]:
    """Scout the four models, then teach two of them, with and without a pool of unlabelled images.

    Returns:
        `scout` (as scout.json) and `transfers` (a summary.json each).
    """
    data = load_data("glyphs")
    pooled = load_pools(data, [POOL], progress)
    models = {name: load_model(f"demo:{name}", like=data).to(device) for name in MODELS}
    found = open_scout(list(models.values()), data, out / "scout", store, overwrite, progress)
    summaries = []
    for lesson in LESSONS:
        config = with_settings(TransferConfig(), [f"method={lesson.method}", f"seed={seed}", *SETTINGS])
        student, teacher, folder = models[lesson.student], models[lesson.teacher], out / lesson.folder
        taught = pooled if lesson.pool else data
        result = transfer(student, [teacher], taught, folder, config, store, overwrite, progress)
        summaries.append(result.summary)
    return {"scout": found, "transfers": summaries}
