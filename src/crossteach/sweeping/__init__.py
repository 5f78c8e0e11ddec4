"""Many transfers from one plan: a YAML file, worker processes, a folder that two terminals can read, one table.

`plan.py` reads the file, `survey.py` opens and checks every model once, `asked.py` says which views tutors answer, and
`cost.py` estimates what is left to do; `preparing.py` puts these together. `jobs.py` has what workers run and
`executors.py` runs it; on Ray `ray_executor.py`, `ray_driver.py` and `ray_task.py` do. `running.py` leads a sweep from
start to end, `folder.py` reads and writes its folder, and `study.py` summarises the results.
"""

from .folder import sweep_status as sweep_status
from .running import plan_cost as plan_cost
from .running import require_whole as require_whole
from .running import sweep as sweep
