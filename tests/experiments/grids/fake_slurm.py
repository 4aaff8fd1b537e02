"""Stands in for the commands of Slurm: each is this script under another name on PATH, and really runs what it is given.

`FAKE_SLURM` is a folder with `calls.jsonl` (every call with its words) and `JOB.json` (state and reason of a job). Jobs run
on this machine, unless there is a file `only-queue` in it; then they stay as the test writes them.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol")
LIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED")


def install(bin: Path, *names: str) -> None:
    """Put commands into a folder that comes first on PATH."""
    bin.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        path = bin / name
        path.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -S -E "{Path(__file__).resolve()}" {name} "$@"\n'
        )
        path.chmod(0o755)


def record(folder: Path, job: str, **changes: Any) -> dict[str, Any]:
    path = folder / f"{job}.json"
    content = {**(json.loads(path.read_text()) if path.exists() else {}), **changes}
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(content))
    os.replace(partial, path)
    return content


def jobs(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("[0-9]*.json"))}


def sbatch(folder: Path, words: list[str]) -> None:
    script = Path(words[-1]).resolve()
    if (folder / "refuse").exists():
        sys.exit((folder / "refuse").read_text())
    job = str(4001 + len(jobs(folder)))
    record(folder, job, state="PENDING", reason="Priority", script=script.read_text())
    if not (folder / "only-queue").exists():
        subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, "supervise", job],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    print(f"Submitted batch job {job}")


def supervise(folder: Path, words: list[str]) -> None:
    """What the controller and the node do with a job: run it, and again where it is queued again."""
    job = words[0]
    path = folder / f"{job}.sh"
    path.write_text(record(folder, job)["script"])
    while True:
        record(folder, job, state="RUNNING", reason="None", requeue=False)
        environment = {**os.environ, "SLURM_JOB_ID": job, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
        code = subprocess.run(["bash", str(path)], env=environment, check=False).returncode
        after = record(folder, job)
        if not after["requeue"]:
            break
    if after["state"] != "CANCELLED":
        record(folder, job, state="FAILED" if code else "COMPLETED", code=code)
    record(folder, job, over=True)


def srun(folder: Path, words: list[str]) -> None:
    job = os.environ["SLURM_JOB_ID"]
    while words[0].startswith("-"):
        option = words.pop(0)
        if option == "--output":
            log = words.pop(0).replace("%j", job).replace("%t", "0")
            Path(log).parent.mkdir(parents=True, exist_ok=True)
            sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
    record(folder, job, pid=os.getpid())
    os.environ |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    os.execvp(words[0], words)


def squeue(folder: Path, words: list[str]) -> None:
    if (folder / "no-controller").exists():
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller")
    for job, content in jobs(folder).items():
        if content["state"] in LIVE or content.get("lately"):
            print(f"{job}|{content['state']}|{content.get('reason', 'None')}")


def sacct(folder: Path, words: list[str]) -> None:
    if (folder / "no-accounts").exists():
        sys.exit("Slurm accounting storage is disabled")
    known = jobs(folder)
    for job in words[words.index("--jobs") + 1].split(","):
        if job in known and not known[job].get("forgotten"):
            by = " by 1000" if known[job]["state"] == "CANCELLED" else ""
            print(f"{job}|{known[job]['state']}{by}|{known[job].get('code', 0)}:0")


def scancel(folder: Path, words: list[str]) -> None:
    job = words[-1]
    content = record(folder, job)
    if words[0] == "--signal=INT":
        os.kill(content["pid"], signal.SIGINT)
        return
    record(folder, job, state="CANCELLED")
    if "pid" in content:
        with contextlib.suppress(ProcessLookupError):
            os.kill(content["pid"], signal.SIGTERM)
            time.sleep(0.5)  # KillWait
            os.kill(content["pid"], signal.SIGKILL)


def scontrol(folder: Path, words: list[str]) -> None:
    record(folder, words[1], requeue=True)


if __name__ == "__main__":
    where = Path(os.environ["FAKE_SLURM"])
    with (where / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    globals()[sys.argv[1]](where, sys.argv[2:])
