"""`maxrl doctor`."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from maxrl.errors import InputError
from maxrl.integrations import seen

HELP = f"""\
usage: maxrl doctor [--engine NAME]

Says what this machine has, and what is missing for what. Secrets are looked for, never shown.
Exit status 1 if something that training needs is missing.

  --engine NAME   instead, whether our plug-in is seen by another engine in this
                  environment, and why not: {", ".join(seen.ENGINES)}.
                  Needs nothing of maxrl but its estimators."""


def run(argv: Sequence[str]) -> int:
    """Print the findings."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    engine = _engine(argv)
    # The machine's are found with the whole training stack, which an engine's environment does not have.
    findings = seen.findings(engine) if engine else import_module("maxrl.cli.machine").findings()
    _print(findings)
    return 1 if any(finding.fatal for finding in findings) else 0


def _print(findings: Sequence[seen.Finding]) -> None:
    """As a table; line by line where rich is missing, which an engine may not have."""
    if find_spec("rich") is None:
        for finding in findings:
            print(f"{finding.what}: {finding.found}" + (f" ({finding.note})" if finding.note else ""))
        return
    table = import_module("rich.table").Table(show_header=True)
    for title in ("what", "found", "note"):
        table.add_column(title)
    for finding in findings:
        table.add_row(finding.what, finding.found, finding.note)
    import_module("rich.console").Console().print(table)


def _engine(argv: Sequence[str]) -> str | None:
    words = [part for word in argv for part in word.split("=", 1)]
    if not words:
        return None
    if words[0] != "--engine":
        raise InputError(f"maxrl doctor takes no option but --engine, and got '{argv[0]}'")
    if len(words) != 2:
        raise InputError(f"--engine takes one name: {', '.join(seen.ENGINES)}")
    return words[1]
