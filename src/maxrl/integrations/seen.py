"""Whether an engine sees its plug-in in this environment, and why not.

What is asked of an engine is asked in a process of its own: importing one takes seconds and changes the process that does.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version

from maxrl.errors import InputError, unknown_name
from maxrl.objectives import ESTIMATORS, Estimator, as_estimator


@dataclass(frozen=True)
class Finding:
    """One line of a report."""

    what: str
    found: str
    note: str = ""
    fatal: bool = False


TESTED = {"verl": "0.9.1", "skyrl": "0.3.0", "tinker-cookbook": "0.5.5", "verifiers": "0.4.0"}
"""What `make test-integrations` runs."""

SECONDS = 300
"""Within which an engine must have been imported: some take a minute on a cold disk."""


def findings(engine: str) -> list[Finding]:
    """What was found of an engine and our plug-in; `fatal` where it is not usable.

    Raises:
        InputError: there is no such engine.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    return ENGINES[engine]()


def _package(name: str) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "missing", f"not installed beside {sys.executable}", fatal=True)
    tested = TESTED.get(name)
    note = "" if tested in (None, found) else f"tested with {tested}"
    return Finding(name, found, note)


def _ask(code: str) -> tuple[list[str], str]:
    """The list that a fresh interpreter prints as JSON in its last line, and why there is none."""
    try:
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"no answer within {SECONDS} s"
    try:
        return json.loads(run.stdout.strip().splitlines()[-1]), ""
    except (ValueError, IndexError):
        return [], _why(run.stderr) or f"exit status {run.returncode}"


def _why(stderr: str) -> str:
    """The line of a traceback that names the exception: what follows may be its text, over several lines."""
    lines = stderr.strip().splitlines()
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    return (named or lines or [""])[-1]


def _seen(names: list[str], error: str, why_not: str) -> Finding:
    missing = [name for name in ESTIMATORS if f"maxrl/{name}" not in names]
    if error:
        return Finding("our estimators there", "unknown", error, fatal=True)
    if not names:
        return Finding("our estimators there", "none", why_not, fatal=True)
    if missing:
        return Finding(
            "our estimators there", f"{len(names)}", f"not {', '.join(missing)}: {why_not}", fatal=True
        )
    return Finding("our estimators there", f"{len(names)} names", ", ".join(names[:3]) + ", …")


def _verl() -> list[Finding]:
    package = _package("verl")
    if package.fatal:
        return [package]
    ours = [
        point for point in entry_points(group="verl.plugins") if point.module == "maxrl.integrations.verl"
    ]
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto")
    modules = os.environ.get("VERL_USE_EXTERNAL_MODULES", "")
    names, error = _ask(
        "import json, verl\n"
        "from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as R\n"
        "print(json.dumps([n for n, f in R.items() if f.__module__ == 'maxrl.integrations.verl']))"
    )
    why = _why_verl_does_not_load_us() if not names and not error else "another package has the name"
    return [
        package,
        Finding(
            "entry point verl.plugins",
            "there" if ours else "missing",
            "" if ours else "install maxrl beside verl",
        ),
        Finding(
            "VERL_USE_EXTERNAL_PLUGINS",
            policy,
            "" if policy == "auto" else "auto, or a list with maxrl, loads us",
        ),
        Finding(
            "VERL_USE_EXTERNAL_MODULES",
            modules or "not set",
            "" if ours else "maxrl.integrations.verl loads us, too",
        ),
        _seen(names, error, why),
    ]


def _why_verl_does_not_load_us() -> str:
    """verl keeps that to itself (level DEBUG): import the plug-in as it does, and see."""
    _, error = _ask("import json, verl, maxrl.integrations.verl; print(json.dumps([]))")
    return error or "verl was told not to load it"


def _skyrl() -> list[Finding]:
    package = _package("skyrl")
    if package.fatal:
        return [package]
    python = Finding(
        "Python", sys.version.split()[0],
        "" if sys.version_info >= (3, 12) else "SkyRL 0.3.0 says 3.11 but needs 3.12: its configuration does not load",
        fatal=sys.version_info < (3, 12),
    )  # fmt: skip
    names, error = _ask(
        "import json; from maxrl.integrations.skyrl import register; print(json.dumps(register()))"
    )
    missing = [name for name in names if not name.startswith("maxrl/")]
    fine = bool(names) and not missing and not error
    return [
        package,
        python,
        Finding(
            "our estimators there", f"{len(names)} names" if fine else "none",
            error or "for the main script python -m maxrl.integrations.skyrl …; those with memory need a state_file",
            fatal=not fine,
        ),
    ]  # fmt: skip


def _tinker() -> list[Finding]:
    package = _package("tinker-cookbook")
    if package.fatal:
        return [package]
    names, error = _ask(
        "import json; from tinker_cookbook.rl.types import EnvGroupBuilder\n"
        "from maxrl.integrations.tinker import MaxRLRewards\n"
        "class Both(MaxRLRewards, EnvGroupBuilder): ...\n"
        "print(json.dumps([Both.compute_group_rewards.__qualname__]))"
    )
    fine = names == ["MaxRLRewards.compute_group_rewards"]
    return [package, Finding("the mixin", "fits" if fine else "does not fit", error, fatal=not fine)]


def _slime() -> list[Finding]:
    there = importlib.util.find_spec("slime") is not None
    name = os.environ.get("MAXRL_ESTIMATOR", "maxrl")
    try:
        flaw = "" if isinstance(as_estimator(name), Estimator) else "has memory, which slime does not keep"
    except InputError as error:
        flaw = str(error)
    return [
        Finding(
            "slime", "there" if there else "missing", "" if there else "not importable here", fatal=not there
        ),
        Finding("--custom-reward-post-process-path", "maxrl.integrations.slime.post_process_rewards"),
        Finding(
            "MAXRL_ESTIMATOR", name, flaw or "in this shell; a Ray cluster that runs has its own", bool(flaw)
        ),
    ]


def _verifiers() -> list[Finding]:
    package = _package("verifiers")
    if package.fatal:
        return [package]
    # What must work: it is found by its name, and makes a problem.
    _, error = _ask(
        "import json\n"
        "from verifiers.v1.utils.loaders import load_environment, resolve_env_config\n"
        "env = load_environment(resolve_env_config({'taskset': {'id': 'maxrl-tasks', 'count': 1}}))\n"
        "print(json.dumps([task.data.id for task in env.taskset]))"
    )
    return [package, Finding("taskset maxrl-tasks", "none" if error else "seen", error, fatal=bool(error))]


def _prime_rl() -> list[Finding]:
    package = _package("prime-rl")
    if package.fatal:
        return [package]
    names, error = _ask(
        "import json; from prime_rl.trainer.rl.loss import LossInputs, LossOutputs\n"
        "from maxrl.integrations.prime_rl import policy_gradient_loss\n"
        "print(json.dumps([policy_gradient_loss.__name__]))"
    )
    loss = Finding(
        "maxrl.integrations.prime_rl.policy_gradient_loss", "fits" if names else "does not fit", error, fatal=not names
    )  # fmt: skip
    return [package, loss, *_verifiers()]


ENGINES: dict[str, Callable[[], list[Finding]]] = {
    "verl": _verl,
    "skyrl": _skyrl,
    "tinker": _tinker,
    "slime": _slime,
    "verifiers": _verifiers,
    "prime-rl": _prime_rl,
}
"""By the names that `maxrl doctor --engine` takes."""
