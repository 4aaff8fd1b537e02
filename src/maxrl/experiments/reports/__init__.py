"""One page on any number of runs: read, sort into settings and arms, measure, draw, write.

reading      a run's files, kept as small arrays
grouping     which runs are one arm's, which settings there are, what repeats what
settings     the numbers of each setting: pass@k, paired differences, ratios, equal budgets
figures      the page's figures
sentences    what was found
limits       what cannot be concluded
page         `report_runs`: the facts for the templates `runs.html.j2` and `runs.md.j2`
"""

from maxrl.experiments.reports.page import report_runs

__all__ = ["report_runs"]
