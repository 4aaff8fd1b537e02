"""Notebooks as scripts and as apps in a browser. Every process that is started here is ended here."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

ROOT = Path(__file__).parents[2]
PATIENCE = 300_000
"""Milliseconds after which something counts as broken, however busy the machine is."""


@dataclass
class Outside:
    """A proxy that nobody should ask: it notes who does, and answers nothing."""

    port: int
    asked: list[bytes] = field(default_factory=list[bytes])

    @property
    def environment(self) -> dict[str, str]:
        """For a process whose requests to other hosts are to end here."""
        address = f"http://127.0.0.1:{self.port}"
        names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        return {
            **dict.fromkeys(names, address),
            "no_proxy": "127.0.0.1,localhost",
            "NO_PROXY": "127.0.0.1,localhost",
        }


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside]:
    """Where requests of a notebook's server to other hosts would arrive."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = Outside(server.getsockname()[1])

        def note() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(5)
                        found.asked.append(connection.recv(200))

        threading.Thread(target=note, daemon=True).start()
        yield found


@pytest.fixture(scope="session")
def quiet_environment(outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """No settings of the user's, nothing from outside, one thread."""
    home = tmp_path_factory.mktemp("home")
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return {
        **inherited,
        **outside.environment,
        "HF_HUB_OFFLINE": "1",
        "MAXRL_CACHE": os.environ.get("MAXRL_CACHE", str(home / "cache")),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(home / "matplotlib")),
        "MARIMO_SKIP_UPDATE_CHECK": "1",
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "OMP_NUM_THREADS": "1",
    }


Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def script(quiet_environment: dict[str, str], outside: Outside) -> Script:
    """Runs a notebook as a script, in a working folder; it asks nothing of other hosts."""

    def run(notebook: str, *words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, str(ROOT / "notebooks" / notebook), "--", *words],
            capture_output=True,
            text=True,
            env=quiet_environment,
            cwd=folder,
        )
        assert outside.asked == []
        return done

    return run


@pytest.fixture(scope="session")
def first_run(script: Script, tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """notebooks/max_rl.py as a script on small settings: two epochs of three steps; `args` ends with its folder."""
    folder = tmp_path_factory.mktemp("script")
    words = [
        "--model-id",
        "tiny",
        "--epochs",
        "2",
        "--steps-per-epoch",
        "3",
        "--batch-size",
        "2",
        "--group-size",
        "8",
    ]
    words += [
        "--eval-problems",
        "5",
        "--learning-rate",
        "1e-4",
        "--seed",
        "3",
        "--output-dir",
        str(folder / "run"),
    ]
    return script("max_rl.py", *words, folder=folder)


@pytest.fixture(scope="session")
def finished_run(first_run: "subprocess.CompletedProcess[str]") -> Path:
    """Its folder."""
    assert first_run.returncode == 0, first_run.stderr
    return Path(first_run.args[-1])


@pytest.fixture(scope="module")  # an open one lets no other of this process be started
def browser() -> Iterator[Browser]:
    """Chromium; without one the test is skipped, or fails in CI or with MAXRL_REQUIRE_TOOLS=1."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        message = "no chromium: apt-get install chromium"
        if os.environ.get("CI") or os.environ.get("MAXRL_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def serve(quiet_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts `marimo run` on a notebook of the repository, with its options; gives its address."""
    running: list[subprocess.Popen[bytes]] = []

    def start(notebook: str, *options: str) -> str:
        port = _free_port()
        words = [
            "marimo",
            "run",
            str(ROOT / "notebooks" / notebook),
            "--headless",
            "--no-token",
            "--no-sandbox",
        ]
        log = (tmp_path / "marimo.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", *words, "--port", str(port), "--", *options],
            cwd=tmp_path,
            env=quiet_environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        running.append(process)
        address = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(process, f"{address}/health", tmp_path / "marimo.log")
        return address

    yield start
    for process in running:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _wait_until_it_answers(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(PATIENCE // 500):
        with contextlib.suppress(OSError), direct.open(address, timeout=5):
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.5)
    pytest.fail(f"no answer from {address}: {log.read_text()}")


@dataclass
class App:
    """A notebook in a browser."""

    page: Page
    errors: list[str]
    """What the browser's console complained of, and requests to other hosts."""

    def slide(self, label: str, key: str) -> None:
        """Press a key on a slider: Home, End, ArrowRight …"""
        slider = self.page.locator("marimo-slider").filter(has_text=label).get_by_role("slider")
        slider.focus()
        slider.press(key)

    def choose(self, label: str, value: str) -> None:
        """Choose from a drop-down list."""
        self.page.locator("marimo-dropdown").filter(has_text=label).locator("select").select_option(
            label=value
        )

    def fill(self, label: str, value: str) -> None:
        """Write into a number box in place of what stands there."""
        box = self.page.locator("marimo-number").filter(has_text=label).locator("input")
        box.fill(value)
        box.press("Tab")

    def data(self, figure: str, name: str) -> str:
        """A `data-…` attribute of a figure."""
        found = self.page.locator(f"#figure-{figure}").get_attribute(f"data-{name}")
        assert found is not None
        return found

    def drawn(self, figure: str) -> str:
        """The markup of a figure."""
        return self.page.locator(f"#figure-{figure} svg").inner_html()

    def wait_for_data(self, figure: str, name: str, other_than: str) -> str:
        """The attribute, when it has changed."""
        selector = f"#figure-{figure}:not([data-{name}='{other_than}'])"
        self.page.locator(selector).wait_for(state="attached", timeout=PATIENCE)
        return self.data(figure, name)

    def wait_for_text(self, text: str) -> None:
        """Until the page says it."""
        self.page.get_by_text(text).first.wait_for(timeout=PATIENCE)


@pytest.fixture
def open_app(browser: Browser, serve: Callable[..., str], outside: Outside) -> Iterator[Callable[..., App]]:
    """Opens a notebook as an app; afterwards nothing was asked of other hosts, and no cell shows an error."""
    opened: list[tuple[App, str]] = []

    def show(notebook: str, *options: str, width: int = 1280, scheme: str = "light") -> App:
        address = serve(notebook, *options)
        page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)  # pyright: ignore[reportArgumentType]
        page.set_default_timeout(PATIENCE)
        app = App(page, [])

        def on_console(message: ConsoleMessage) -> None:
            if message.type == "error":
                app.errors.append(message.text)

        def on_request(request: Request) -> None:
            if not request.url.startswith((address, address.replace("http", "ws"), "data:", "blob:")):
                app.errors.append(f"asked {request.url}")

        page.on("console", on_console)
        page.on("request", on_request)
        page.on("pageerror", lambda error: app.errors.append(str(error)))
        page.goto(address)
        opened.append((app, address))
        return app

    yield show
    for app, _ in opened:
        assert app.errors == []
        assert app.page.locator(".marimo-error").count() == 0
        assert app.page.get_by_text("Traceback").count() == 0
        app.page.close()
    assert outside.asked == []
