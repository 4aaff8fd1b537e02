"""Grids on Hugging Face Jobs: a job per run, its folder in a bucket on the Hub.

Jobs are started through `huggingface_hub`, with the token that it finds (`HF_TOKEN`, or `hf auth login`). What a job leaves
is in `hf://buckets/NAMESPACE/BUCKET/GRID/RUN` (see `hf_work`), from where the next job of the same run goes on.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, Volume
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HTTPError

from maxrl.errors import InputError, MaxRLError, unknown_name
from maxrl.experiments.grids.hf_options import HfJobsOptions, flavor_for, seconds
from maxrl.experiments.grids.hf_work import MIRROR_VARIABLE
from maxrl.experiments.grids.runner import GridRun, JobReport, JobState
from maxrl.experiments.grids.work import RUN_VARIABLE
from maxrl.experiments.store import ERROR_FILE

MOUNT = "/runs"
WORK = "/tmp/maxrl"

_STATES: dict[str, JobState] = {
    "SCHEDULING": "queued",
    "RUNNING": "running",
    "COMPLETED": "done",
    "ERROR": "failed",
    "CANCELED": "cancelled",
    "DELETED": "unknown",
}
_HOURS = {"second": 3600.0, "minute": 60.0, "hour": 1.0, "day": 1 / 24}
_SPACE = re.compile(r"^(?:https://)?(?:huggingface\.co|hf\.co)/spaces/")


def hourly_price(flavor: str, *, endpoint: str | None = None) -> float:
    """US dollars that an hour of a flavor costs, as the service lists it now.

    Raises:
        InputError: there is no such flavor.
        MaxRLError: the service cannot be reached.
    """
    with _hub("list hardware and prices"):
        listed = {entry.name: entry for entry in HfApi(endpoint=endpoint).list_jobs_hardware()}
    if flavor not in listed:
        raise unknown_name("flavor", flavor, listed)
    entry = listed[flavor]
    if entry.unit_label not in _HOURS:
        raise MaxRLError(f"the price of {flavor} is per {entry.unit_label}, which this version cannot read")
    return entry.unit_cost_usd * _HOURS[entry.unit_label]


class HfJobsRunner:
    """Runs of a grid as jobs on Hugging Face.

    Args:
        options: of the jobs.
        folder: of the grid; its name is the grid's in the bucket and in the labels of its jobs.
        endpoint: of the Hub; by default `HF_ENDPOINT` or huggingface.co.
    """

    name = "hf-jobs"
    detached = True

    def __init__(self, options: HfJobsOptions, folder: Path, *, endpoint: str | None = None) -> None:
        self.options = options
        self.grid = folder.resolve().name
        self._api = HfApi(endpoint=endpoint)
        self._namespace = options.namespace
        self._bucket_is_there = False

    def slots(self) -> int | None:
        """None: the service keeps the queue."""
        return None

    def device(self, run: GridRun) -> str:
        """Flavor of a run's job."""
        return flavor_for(run.fields) if self.options.flavor == "auto" else self.options.flavor

    def start(self, run: GridRun) -> str:
        """Start a job that makes the run, or goes on with what the bucket has of it; the job's id.

        Raises:
            InputError: the run needs a file of this machine, or the model's size is not known.
            MaxRLError: the service refuses, or cannot be reached.
        """
        with _hub("find out who the token belongs to"):
            namespace = self.namespace()
        body = self._body(run, namespace, self.options.secrets())
        with _hub(f"start {run.name}"):
            if not self._bucket_is_there:
                self._api.create_bucket(self._bucket(namespace), private=True, exist_ok=True)
                self._bucket_is_there = True
            job = self._api.run_job(
                image=self.options.image,
                command=body["command"],
                env=body["environment"],
                secrets=body.get("secrets"),
                flavor=body["flavor"],
                timeout=body["timeoutSeconds"],
                attempts=body.get("attempts"),
                labels=body["labels"],
                volumes=[Volume(**volume) for volume in body["volumes"]],
                namespace=namespace,
            )
        return job.id

    def states(self, jobs: Mapping[str, str]) -> dict[str, JobReport]:
        """How jobs stand, by one request; those that the grid's listing lacks are asked for one by one.

        Raises:
            MaxRLError: the service cannot be reached, so that nothing is known.
        """
        if not jobs:
            return {}
        with _hub("list jobs"):
            listed = {job.id: job for job in self._listing()}
        found = {}
        for name, job_id in jobs.items():
            job = listed.get(job_id) or self._inspect(job_id)
            found[name] = JobReport(state="unknown", message="no such job") if job is None else _report(job)
        return found

    def find(self, runs: Iterable[GridRun]) -> dict[str, str]:
        """Name of the run → id of its newest job, for runs that have one: by the jobs' labels.

        Raises:
            MaxRLError: the service cannot be reached.
        """
        with _hub("list jobs"):
            jobs = [job for job in self._listing() if job.created_at is not None]
        newest = {
            (job.labels or {}).get("maxrl-run"): job.id
            for job in sorted(jobs, key=lambda job: job.created_at)
        }
        return {run.name: newest[_digest(run.name)] for run in runs if _digest(run.name) in newest}

    def logs(self, run: GridRun, job: str, *, follow: bool = False) -> Iterator[str]:
        """Lines that a job has printed, and with `follow` those it prints until it ends.

        Raises:
            MaxRLError: the service does not know the job, or cannot be reached.
        """
        with _hub(f"read the log of {run.name}"):
            yield from self._api.fetch_job_logs(job_id=job, follow=follow, namespace=self.namespace())

    def cancel(self, run: GridRun, job: str) -> None:
        """Ask a job to end. The service ends its process; whether there is time for a checkpoint is up to it."""
        with _hub(f"cancel {run.name}"):
            try:
                self._api.cancel_job(job_id=job, namespace=self.namespace())
            except HfHubHTTPError:
                found = self._inspect(job)
                if found is not None and _report(found).state in ("queued", "running"):
                    raise

    def collect(self, run: GridRun, job: str) -> None:
        """Bring the bucket's files of a run into its folder here. Its record comes last: it says that the rest is there.

        Raises:
            MaxRLError: the service cannot be reached, or there is no such bucket.
        """
        with _hub(f"collect {run.name}"):
            source = f"hf://buckets/{self._bucket(self.namespace())}/{self._path(run)}"
            records = ["run.json", "*/run.json"]
            left = [
                *records,
                *([] if self.options.collect_checkpoints else ["checkpoint-*", "*/checkpoint-*"]),
            ]
            try:
                plan = self._api.sync_bucket(source, str(run.folder), exclude=left, quiet=True)
            except EntryNotFoundError:  # the job has left nothing yet
                return
            there = {operation.path for operation in plan.operations}
            if there and ERROR_FILE not in there:  # it went on since
                (run.folder / ERROR_FILE).unlink(missing_ok=True)
            self._api.sync_bucket(source, str(run.folder), include=records, quiet=True)

    def request(self, run: GridRun) -> str:
        """What `start` would send, with secrets masked; without a token, and without asking anyone."""
        namespace = self._namespace or "<your account>"
        body = self._body(run, namespace, dict.fromkeys(self.options.secrets(), "***"))
        parts = (
            ("buckets", self._bucket(namespace), {"visibility": "private"}),
            ("jobs", namespace, body),
        )
        return "\n".join(
            f"POST {self._api.endpoint}/api/{kind}/{where}\n{json.dumps(content, indent=2, ensure_ascii=False)}"
            for kind, where, content in parts
        )

    def namespace(self) -> str:
        """Whom the jobs belong to; asks the service once, where the options do not say."""
        if self._namespace is None:
            self._namespace = str(self._api.whoami(cache=True)["name"])
        return self._namespace

    def _bucket(self, namespace: str) -> str:
        return self.options.bucket if "/" in self.options.bucket else f"{namespace}/{self.options.bucket}"

    def _path(self, run: GridRun) -> str:
        return f"{self.grid}/{run.name}"

    def _body(self, run: GridRun, namespace: str, secrets: Mapping[str, str]) -> dict[str, Any]:
        _refuse_local_files(run)
        options = self.options
        fields = {**run.fields, "output_dir": f"{WORK}/{self._path(run)}"}
        if options.package is None:  # a name that somebody may have taken would run with the user's secrets
            raise InputError(
                "it is not said where a job gets maxrl from: give package a requirement, as maxrl @ git+https://…@COMMIT, "
                'or nothing (--package "") where the image has it'
            )
        install = ["uv", "run", "--no-project", "--with", options.package] if options.package else []
        labels = {"name": _label(run.name), "maxrl-grid": _label(self.grid), "maxrl-run": _digest(run.name)}
        space = _SPACE.sub("", options.image)
        return {
            "command": [*install, "python", "-m", "maxrl.experiments.grids.hf_work"],
            "arguments": [],
            "environment": {
                "PYTHONUNBUFFERED": "1",
                **{name: str(value) for name, value in (options.env or {}).items()},
                RUN_VARIABLE: json.dumps(fields, ensure_ascii=False),
                MIRROR_VARIABLE: f"{MOUNT}/{self._path(run)}",
            },
            "flavor": self.device(run),
            **({"secrets": dict(secrets)} if secrets else {}),
            "timeoutSeconds": seconds(options.timeout),
            **({"attempts": options.attempts} if options.attempts > 1 else {}),
            "labels": {**(options.labels or {}), **labels},
            "volumes": [{"type": "bucket", "source": self._bucket(namespace), "mountPath": MOUNT}],
            **({"spaceId": space} if space != options.image else {"dockerImage": options.image}),
        }

    def _listing(self) -> Iterable[Any]:
        return self._api.list_jobs(labels={"maxrl-grid": _label(self.grid)}, namespace=self.namespace())

    def _inspect(self, job: str) -> Any | None:
        with _hub(f"ask for job {job}"):
            try:
                return self._api.inspect_job(job_id=job, namespace=self.namespace())
            except HfHubHTTPError as error:
                if error.response.status_code == 404:
                    return None
                raise


def _report(job: Any) -> JobReport:
    stage = str(getattr(job.status.stage, "value", job.status.stage))
    # A stage of a later version of the service: starting the run once more beside it would be worse than waiting.
    return JobReport(
        state=_STATES.get(stage, "running"), message=": ".join(filter(None, [stage, job.status.message]))
    )


def _label(text: str) -> str:
    # Labels are stored as tags, too, which have no dots.
    return re.sub(r"[^a-zA-Z0-9_-]", "-", text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _refuse_local_files(run: GridRun) -> None:
    for name, value in run.fields.items():
        for word in _words(value) if name != "output_dir" else ():
            file = word.split(":")[0]  # task.py:Task
            if (os.sep in file or file.endswith(".py")) and Path(file).exists():
                raise InputError(
                    f"{name} of {run.name} is {word}, on this machine, where a job on Hugging Face cannot see it; upload it "
                    "to the Hub and name it there, or put it into the package that the job installs"
                )


def _words(value: object) -> Iterator[str]:
    """Every text in a field's value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inside in value.values():
            yield from _words(inside)
    elif isinstance(value, (list, tuple)):
        for inside in value:
            yield from _words(inside)


@contextmanager
def _hub(doing: str) -> Iterator[None]:
    """Turns what goes wrong with the Hub into one line that says what to do."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = " ".join(str(error.server_message or error.response.reason_phrase).split())
        raise MaxRLError(f"cannot {doing}: {status} {said}; {_advice(status)}") from error
    except (HTTPError, OSError) as error:  # no network, no token, or HF_HUB_OFFLINE
        raise MaxRLError(f"cannot {doing}: {' '.join(str(error).split())}") from error


def _advice(status: int) -> str:
    if status >= 500:
        return "a fault of the service: give the same command again later, jobs that were started are kept"
    return {
        401: "the token is missing or not valid: `hf auth login`, or set HF_TOKEN",
        402: "the account has no credit for it: https://huggingface.co/settings/billing",
        403: "the token's owner may not: it needs the right to run jobs and to write to buckets in that namespace",
        404: "check namespace and bucket; a job may have been deleted",
        409: "it does not fit the present state there",
        429: "too many requests: wait some minutes and give the same command again, jobs that were started are kept",
    }.get(status, "check the options against `maxrl grid run --dry-run`")
