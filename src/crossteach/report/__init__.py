"""A run folder as one HTML page, made from its files alone: no model is loaded, nothing is fetched, torch stays out.

`write_report("run")` writes `run/report.html`, which holds its styles, script, figures and pictures in itself, beside
`run/figures/*.svg` and `run/tables/*.csv`. The pages of a scout, a transfer and a sweep differ in `scout.py`,
`transfer.py` and `sweep.py`: each turns files into what its template shows.
"""

from .making import Report as Report
from .making import make_report as make_report
from .making import write_report as write_report
