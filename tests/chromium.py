"""Open a page in headless Chromium, let a script look at it, and bring back what it saw."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WATCH = """<script>window.errors = [];
window.onerror = message => { window.errors.push(String(message)); };
for (const kind of ["error", "warn"])
  console[kind] = (...said) => { window.errors.push(said.join(" ")); };
</script>"""


def look(
    page: str, script: str, folder: Path, *, width: int = 1100, dark: bool = False
) -> dict[str, Any]:
    """Run ``script``, which fills the object ``seen``, in a page; return ``seen``.

    ``seen.errors`` holds what the page threw and what it wrote to the console.
    """
    after = (
        f"<script>(() => {{ const seen = {{}};\n{script}\nseen.errors = window.errors;\n"
        "document.body.dataset.seen = JSON.stringify(seen); })();</script></body>"
    )
    watched = re.sub("<body[^>]*>", lambda match: match.group() + WATCH, page, count=1)
    file = folder / "page.html"
    file.write_text(watched.replace("</body>", after), encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    run = subprocess.run(
        [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", scheme,
         f"--window-size={width},900", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'data-seen="([^"]*)"', run.stdout)
    assert found, run.stdout[:500]
    return json.loads(unescape(found.group(1)))
