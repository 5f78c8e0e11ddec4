"""Many transfers from one plan: a YAML file, worker processes, a folder that two terminals can read, one table.

`plan.py` reads the file, `survey.py` opens every model once and says what the rest will cost, `jobs.py` is what workers
do, `running.py` is the story, `folder.py` what stands on disk, `study.py` what the results say.
"""

from .folder import sweep_status as sweep_status
from .running import plan_cost as plan_cost
from .running import require_whole as require_whole
from .running import sweep as sweep
