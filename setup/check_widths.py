"""Check with headless Chromium that no page of the built site scrolls horizontally, at 1300 and 400 pixels.

    python setup/check_widths.py build/docs [--screenshots build/screenshots]

A page must fit into the window, and so must each block of code; wide tables may scroll inside themselves. Without
Chromium the check is skipped, and says so.
"""

import argparse
import functools
import html
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

WIDTHS = (1300, 400)
SECONDS = 300

# A frame has its own width, to which media queries refer; a window cannot be made as narrow as 400 pixels.
MEASURE = """<!doctype html><body><pre id="found"></pre><script>
(async () => {
  const found = [];
  for (const page of PAGES) for (const width of WIDTHS) {
    const frame = document.createElement("iframe");
    frame.width = width; frame.height = 900; frame.src = page;
    await new Promise(done => { frame.onload = done; document.body.append(frame); });
    const root = frame.contentDocument.scrollingElement, window_ = frame.contentWindow;
    await new Promise(done => setTimeout(done, 50));
    const wide = [];
    if (root.scrollWidth > width) {
      for (const part of frame.contentDocument.querySelectorAll("main *, header *, footer *"))
        if (part.getBoundingClientRect().right > width + 1)
          wide.push(`${part.tagName} "${part.textContent.trim().slice(0, 60)}"`);
      wide.push("the page");
    }
    for (const code of frame.contentDocument.querySelectorAll("pre, pre > code"))
      if (code.scrollWidth > code.clientWidth + 1 && code.clientWidth > 0)
        wide.push(`code "${code.textContent.trim().slice(0, 60)}"`);
    if (!frame.contentDocument.body.textContent.trim()) wide.push("an empty page");
    found.push([page, width, root.scrollWidth, wide.slice(0, 3)]);
    frame.remove();
  }
  document.getElementById("found").textContent = JSON.stringify(found);
})();
</script></body>"""


def find_browser() -> str | None:
    """Return the path of Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def pages_of(site: Path) -> list[str]:
    """Return the addresses of the pages of a built site, relative to its folder."""
    return sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if path.name != "404.html")


def measure(browser: str, site: Path) -> list[str]:
    """Return a line for each page and width at which something scrolls horizontally.

    Raises:
        RuntimeError: Chromium did not return a measurement of each page.
    """
    pages = pages_of(site)
    with _served(site, {"/measure": _measurement(pages)}) as address:
        written = _run(browser, "--dump-dom", "--virtual-time-budget=600000", f"{address}/measure")
    found = re.search(r'<pre id="found">(.*?)</pre>', written, re.DOTALL)
    results = json.loads(html.unescape(found[1])) if found and found[1] else []
    if len(results) != len(pages) * len(WIDTHS):
        raise RuntimeError(f"expected {len(pages) * len(WIDTHS)} measurements from {browser}, got {len(results)}")
    return [
        f"{page.removeprefix('/')} at {width} pixels: {'; '.join(wide)} (width {scroll_width})"
        for page, width, scroll_width, wide in results
        if wide
    ]


def take_screenshots(browser: str, site: Path, folder: Path) -> None:
    """Write a picture of each page at each width."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = {
        f"/frame/{width}/{page}": f'<body style="margin:0"><iframe src="/{page}" width="{width}" height="1600" '
        'style="border:0"></iframe></body>'
        for page in pages_of(site)
        for width in WIDTHS
    }
    with _served(site, frames) as address:
        for name in frames:
            _, _, width, page = name.split("/", 3)
            target = folder / f"{page.removesuffix('.html').replace('/', '_')}_{width}.png"
            window = f"--window-size={max(int(width), 500)},1600"
            _run(browser, window, f"--screenshot={target}", f"{address}{name}")


def main() -> None:
    """Check a built site; exit with a list of the pages that scroll."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--screenshots", type=Path, help="folder for pictures of all pages")
    options = parser.parse_args()
    browser = find_browser()
    if browser is None:
        print("widths of the pages: not checked, because there is no chromium (Debian: make browser)")
        return
    if options.screenshots:
        take_screenshots(browser, options.site, options.screenshots)
    if faults := measure(browser, options.site):
        sys.exit("these pages scroll horizontally:\n" + "\n".join(faults))
    print(f"widths of the pages: {len(pages_of(options.site))} pages fit into {' and '.join(map(str, WIDTHS))} pixels")


def _measurement(pages: list[str]) -> str:
    return MEASURE.replace("PAGES", json.dumps([f"/{page}" for page in pages])).replace("WIDTHS", json.dumps(WIDTHS))


@contextmanager
def _served(site: Path, extra: dict[str, str]) -> Iterator[str]:
    """Serve a folder and some pages more on this machine."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in extra:
                content = extra[self.path].encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _run(browser: str, *arguments: str) -> str:
    quiet = "disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless", "--no-sandbox", *(f"--{name}" for name in quiet.split())]
        command += ["--hide-scrollbars", f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout


if __name__ == "__main__":
    main()
