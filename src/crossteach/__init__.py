"""Any pretrained classifier teaches any other, and the student loses nothing it knows.

```python
import crossteach

data = crossteach.load_data("glyphs")
student, teacher = crossteach.load_model("demo:convnet"), crossteach.load_model("demo:mixer")
result = crossteach.transfer(student, [teacher], data, out="run")
result.student, result.summary["transfer_delta"]
```

Importing the package loads no torch; a name does, when it is first used. No module bears the name of a public
function (`transfer` lives in `curriculum.py`): importing a module binds its name here, and would hide the function.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answers.prediction import predict as predict
    from .answers.store import Store as Store
    from .config import CurriculumConfig as CurriculumConfig
    from .config import GateConfig as GateConfig
    from .config import OptimConfig as OptimConfig
    from .config import PartitionConfig as PartitionConfig
    from .config import PoolConfig as PoolConfig
    from .config import TransferConfig as TransferConfig
    from .config import ViewsConfig as ViewsConfig
    from .data import from_arrays as from_arrays
    from .data import from_dataset as from_dataset
    from .data import from_frame as from_frame
    from .data import from_texts as from_texts
    from .data import load_data as load_data
    from .data import pool_from as pool_from
    from .errors import CrossteachError as CrossteachError
    from .exporting import export_run as export_run
    from .functional.flips import Change as Change
    from .functional.flips import Flips as Flips
    from .functional.flips import flips as flips
    from .models import from_callable as from_callable
    from .models import from_module as from_module
    from .models import load_model as load_model
    from .report import write_report as write_report
    from .scouting.scout import Scouting as Scouting
    from .scouting.scout import scout as scout
    from .settings import with_settings as with_settings
    from .sweeping import plan_cost as plan_cost
    from .sweeping import sweep as sweep
    from .sweeping import sweep_status as sweep_status
    from .transferring.curriculum import transfer as transfer
    from .transferring.gate import GateResult as GateResult
    from .transferring.gate import decide as decide
    from .transferring.lesson import TransferResult as TransferResult
    from .transferring.loss import TransferLoss as TransferLoss
    from .transferring.methods import METHODS as METHODS
    from .transferring.verification import verify as verify
    from .types import Classifier as Classifier
    from .types import Predictions as Predictions
    from .types import Preprocess as Preprocess
    from .types import Split as Split
    from .types import Splits as Splits
    from .types import TrainableClassifier as TrainableClassifier

__version__ = "0.1.0"

_HOME = {
    "TransferConfig": "config",
    "CurriculumConfig": "config",
    "ViewsConfig": "config",
    "PartitionConfig": "config",
    "PoolConfig": "config",
    "OptimConfig": "config",
    "GateConfig": "config",
    "with_settings": "settings",
    "from_arrays": "data",
    "from_dataset": "data",
    "from_frame": "data",
    "from_texts": "data",
    "load_data": "data",
    "pool_from": "data",
    "CrossteachError": "errors",
    "export_run": "exporting",
    "Change": "functional.flips",
    "Flips": "functional.flips",
    "flips": "functional.flips",
    "METHODS": "transferring.methods",
    "from_callable": "models",
    "from_module": "models",
    "load_model": "models",
    "predict": "answers.prediction",
    "write_report": "report",
    "Scouting": "scouting.scout",
    "scout": "scouting.scout",
    "Store": "answers.store",
    "sweep_status": "sweeping",
    "plan_cost": "sweeping",
    "sweep": "sweeping",
    "GateResult": "transferring.gate",
    "decide": "transferring.gate",
    "TransferResult": "transferring.lesson",
    "TransferLoss": "transferring.loss",
    "transfer": "transferring.curriculum",
    "verify": "transferring.verification",
    "Classifier": "types",
    "Predictions": "types",
    "Preprocess": "types",
    "Split": "types",
    "Splits": "types",
    "TrainableClassifier": "types",
}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'crossteach' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
