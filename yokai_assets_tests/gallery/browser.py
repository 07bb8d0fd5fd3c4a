"""A headless Chromium, spoken to over a pipe: for tests of what only a browser knows, and for looking at pages.

No dependency: the DevTools protocol as JSON over two file descriptors (`--remote-debugging-pipe`). Which browser is
there is `find_browser`; what pages must be like is said by the tests.
`python -m yokai_assets_tests.gallery.browser PAGE FOLDER` takes pictures of a page: two widths, light and dark.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER_VARIABLE = "YOKAI_TEST_BROWSER"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars", "--mute-audio",
    "--remote-debugging-pipe",
)  # fmt: skip


def find_browser() -> str | None:
    """Return a Chromium's program: the one that YOKAI_TEST_BROWSER names, else the first one on the PATH."""
    return os.environ.get(BROWSER_VARIABLE) or next(filter(None, map(shutil.which, _NAMES)), None)


class BrowserError(RuntimeError):
    """The browser refused a command, went away, or took too long."""


class Browser:
    """One page of a running browser; what it complains about is collected in `complaints`."""

    def __init__(self, process: "subprocess.Popen[bytes]", reading: int, writing: int) -> None:
        self._process, self._reading, self._writing = process, reading, writing
        self._buffer = b""
        self._events: deque[dict[str, Any]] = deque()
        self._count = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        # Without it elements get the focus, but no event of it: the window has none.
        self._send("Emulation.setFocusEmulationEnabled", enabled=True)

    def open(self, path: Path) -> None:
        """Open a file and wait until it and what it needs at once are loaded."""
        self._events.clear()
        answer = self._send("Page.navigate", url=path.as_uri())
        if "errorText" in answer:
            raise BrowserError(f"{path}: {answer['errorText']}")
        self._wait_for("Page.loadEventFired")

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited where it is a promise."""
        answer = self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key, by its DOM name and its key code."""
        for kind in ("rawKeyDown", "keyUp"):
            self._send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def resize(self, width_px: int, height_px: int = 900, *, is_phone: bool = False) -> None:
        """Set the size of the window as pages see it."""
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": is_phone}
        self._send("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme: str) -> None:
        """Set the preferred colours: `light` or `dark`."""
        self._send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self) -> bytes:
        """Return what is seen of the page as PNG."""
        answer = self._send("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    def settle(self, seconds: float = 0.3) -> None:
        """Let the page go on for a moment, and hear what it says."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._receive(left, is_needed=False)

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(60)
            if answer and answer.get("id") == self._count:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]

    def _wait_for(self, event: str) -> None:
        while not any(known["method"] == event for known in self._events):
            self._receive(60)

    def _receive(self, timeout: float, *, is_needed: bool = True) -> dict[str, Any] | None:
        end = time.monotonic() + timeout
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                if is_needed:
                    raise BrowserError(f"the browser said nothing for {timeout:.0f} s")
                return None
            if not (data := os.read(self._reading, 1 << 20)):
                raise BrowserError("the browser has gone away")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self._events.append(message)
            self._note(message["method"], message["params"])
        return message

    def _note(self, method: str, said: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(f"console: {[value.get('value') for value in said['args']]}")
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif method == "Network.loadingFailed" and not said.get("canceled"):
            self.complaints.append(f"request failed: {said['errorText']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {said['message']}")
            # A dialog stops the page, and with it every answer.
            message = {"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            os.write(self._writing, json.dumps({**message, "sessionId": self._session}).encode() + b"\0")


@contextmanager
def browser(program: str) -> Iterator[Browser]:
    """Yield a running browser with an empty page and a profile of its own."""
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(prefix="yokai-browser-", ignore_cleanup_errors=True) as profile:
        # The protocol wants descriptors 3 and 4, which Python cannot place: a shell does.
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        process = subprocess.Popen(
            ["/bin/bash", "-c", command, program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Browser(process, ours_in, ours_out)
        finally:
            os.close(ours_out)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours_in)


def main(page: str, folder: str) -> None:
    """Take pictures of a page at 1280 and 360 px, light and dark."""
    program = find_browser()
    if program is None:
        sys.exit(f"No Chromium on the PATH; name one in {BROWSER_VARIABLE}.")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with browser(program) as window:
        for width_px in (1280, 360):
            for scheme in ("light", "dark"):
                window.resize(width_px, is_phone=width_px < 500)
                window.prefer(scheme)
                window.open(Path(page).resolve())
                window.run("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
                # As high as the page: what is beyond the window is not painted.
                height_px = min(12_000, int(window.run("document.documentElement.scrollHeight")))
                window.resize(width_px, height_px, is_phone=width_px < 500)
                window.settle(1.0)
                file = target / f"{Path(page).stem}-{width_px}-{scheme}.png"
                file.write_bytes(window.screenshot())
                print(file)
        print(*window.complaints, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
