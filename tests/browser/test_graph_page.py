"""The interactive page in a real browser: hover, step, slide, both themes, no error."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from gradfit.graph import Film

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

# Uses the page as a reader would and writes what it saw into the document.
VISIT = """
<script>
(() => {
const seen = {};
const texts = () => [...document.querySelectorAll(".card text")].map(t => t.textContent);
seen.cards = document.querySelectorAll(".card").length;
const card = document.querySelector(".card.leaf");
card.onmouseenter();
seen.dimmed = document.querySelectorAll(".link:not(.near)").length;
seen.focused = document.getElementById("stage").classList.contains("focus");
card.onmouseleave();
seen.left = document.getElementById("stage").classList.contains("focus");
card.onclick();
seen.details = document.getElementById("details").textContent;
document.getElementById("forward").click();
seen.stepped = document.querySelector("#details h2").textContent;
document.getElementById("backward").click();
seen.back = document.querySelector("#details h2").textContent;
const before = texts().join("|");
const slider = document.getElementById("frame");
slider.value = 3; slider.dispatchEvent(new Event("input"));
seen.moved = texts().join("|") !== before;
seen.label = document.getElementById("label").textContent;
const paper = () => getComputedStyle(document.body).backgroundColor;
const first = paper(); document.getElementById("theme").click();
seen.themes = [first, paper()];
document.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
seen.errors = window.errors;
document.body.dataset.seen = JSON.stringify(seen);
})();
</script>
"""
WATCH = "<script>window.errors=[];window.onerror=(m)=>{window.errors.push(String(m))};</script>"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed"),
]


def leaf(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def loss(a, b):
    x = torch.linspace(0, 10, 11, dtype=torch.float64)
    return torch.mean((a * x - 2 * x + b) ** 2 / (a**2 + 1))


def visit(page: str, folder: Path) -> dict[str, object]:
    file = folder / "page.html"
    file.write_text(page.replace("<body>", "<body>" + WATCH).replace("</body>", VISIT + "</body>"))
    run = subprocess.run(
        [
            str(BROWSER),
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'data-seen="([^"]*)"', run.stdout)
    assert found, run.stdout[:500]
    return json.loads(found.group(1).replace("&quot;", '"').replace("&amp;", "&"))


def test_page_answers_to_hover_steps_slider_and_theme(tmp_path: Path) -> None:
    film = Film.of(loss, [(leaf(0.25 * i), leaf(0.0)) for i in range(5)])
    seen = visit(film.to_html(), tmp_path)
    assert seen["errors"] == []
    assert seen["cards"] >= 10
    assert seen["focused"]
    assert not seen["left"]
    assert "why" in str(seen["details"])
    assert seen["stepped"] != seen["back"]
    assert seen["moved"]
    assert str(seen["label"]).startswith("step 3")
    themes = seen["themes"]
    assert isinstance(themes, list)
    assert themes[0] != themes[1]
