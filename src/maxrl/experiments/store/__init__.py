"""The run store: runs are folders, read back and kept in order; nothing beside them could say something else.

stored        `StoredRun`, `find_runs`: a folder's files, read when they are asked for
metrics_file  rows of JSON: `metrics.jsonl`, `diagnostics.jsonl`
processes     who makes a run now
checkpoints   which there are, which are whole
pruning       which of them are kept
weights       which weights `maxrl eval` measures
tables        `maxrl runs list`
details       `maxrl runs show` and `diff`
progress      phase, speed and time left of one
watch         `maxrl watch`
"""

from maxrl.experiments.store.stored import (
    ERROR_FILE,
    EVALS_FILE,
    LATEST_FILE,
    State,
    StoredRun,
    find_runs,
    is_run,
    varying_fields,
)

__all__ = [
    "ERROR_FILE",
    "EVALS_FILE",
    "LATEST_FILE",
    "State",
    "StoredRun",
    "find_runs",
    "is_run",
    "varying_fields",
]
