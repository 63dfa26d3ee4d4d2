"""The interactive page in a real browser: hover, step, slide, both themes, no error."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

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
const head = () => document.querySelector("#details h2").textContent;
const count = kind => document.querySelectorAll(kind).length;
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key}));
press("Escape");
seen.forward = [];
for (let i = 0; i < seen.cards; i++) {
  document.getElementById("forward").click();
  seen.forward.push(head());
}
seen.computed = [count(".card.later"), count(".link.now")];
press("Escape");
seen.backward = [];
for (let i = 0; i < seen.cards; i++) { press("ArrowLeft"); seen.backward.push(head()); }
seen.flowing = count(".astern .link.now");
press("Escape");
seen.cleared = [count(".later"), count("#details h2"), count("#details .key")];
const camera = () => document.getElementById("camera").getAttribute("transform");
const places = [camera()];
press("+"); places.push(camera());
document.getElementById("farther").click(); places.push(camera());
const stage = document.getElementById("stage");
const here = {clientX: 300, clientY: 300};
stage.dispatchEvent(new WheelEvent("wheel", {deltaY: -200, ...here})); places.push(camera());
stage.dispatchEvent(new PointerEvent("pointerdown", here));
window.dispatchEvent(new PointerEvent("pointermove", {clientX: 350, clientY: 380}));
window.dispatchEvent(new PointerEvent("pointerup", {})); places.push(camera());
press("0"); places.push(camera());
seen.places = places;
seen.spoken = card.getAttribute("aria-label");
seen.reachable = count(".card[tabindex='0'][role=button][aria-label]");
const before = texts().join("|");
const slider = document.getElementById("frame");
slider.value = 3; slider.dispatchEvent(new Event("input"));
seen.moved = texts().join("|") !== before;
seen.label = document.getElementById("label").textContent;
seen.said = slider.getAttribute("aria-valuetext");
slider.value = 0; slider.dispatchEvent(new Event("input"));
seen.returned = texts().join("|") === before;
const box = part => part.getBoundingClientRect();
seen.outside = 0;
for (const c of document.querySelectorAll(".card")) {
  const room = box(c.querySelector("rect"));
  for (const t of c.querySelectorAll("text"))
    if (box(t).left < room.left || box(t).right > room.right) seen.outside++;
}
const paper = () => getComputedStyle(document.body).backgroundColor;
const first = paper(); document.getElementById("theme").click();
seen.themes = [first, paper()];
press("ArrowRight");
seen.errors = window.errors;
document.body.dataset.seen = JSON.stringify(seen);
})();
</script>
"""
WATCH = """<script>window.errors = [];
window.onerror = message => { window.errors.push(String(message)); };
for (const kind of ["error", "warn"])
  console[kind] = (...said) => { window.errors.push(said.join(" ")); };
</script>"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed"),
]


def leaf(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def loss(a, b):
    x = torch.linspace(0, 10, 11, dtype=torch.float64)
    return torch.mean((a * x - 2 * x + b) ** 2 / (a**2 + 1))


def visit(page: str, folder: Path) -> dict[str, Any]:
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


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    film = Film.of(loss, [(leaf(0.25 * i), leaf(0.0)) for i in range(5)])
    return visit(film.to_html(), tmp_path_factory.mktemp("page"))


def test_page_answers_to_hover_slider_and_theme(seen: dict[str, Any]) -> None:
    assert seen["errors"] == []
    assert seen["cards"] >= 10
    assert seen["focused"]
    assert not seen["left"]
    assert "why" in str(seen["details"])
    assert seen["moved"]
    assert seen["returned"]
    assert seen["outside"] == 0
    assert str(seen["label"]).startswith("step 3")
    assert seen["said"] == seen["label"]
    themes = seen["themes"]
    assert isinstance(themes, list)
    assert themes[0] != themes[1]


def test_steps_go_forward_through_values_and_back_through_gradients(
    seen: dict[str, Any],
) -> None:
    assert len(set(seen["forward"])) == seen["cards"] - 1  # x stands beside each of its two uses
    assert seen["forward"][-1].startswith("torch.mean")
    assert seen["computed"] == [0, 1]
    assert seen["backward"][0].startswith("torch.mean")
    assert not {"x"} & set(seen["backward"])
    assert set(seen["backward"]) < set(seen["forward"])
    assert seen["cleared"] == [0, 0, 1]


def test_wheel_drag_buttons_and_keys_move_the_picture(seen: dict[str, Any]) -> None:
    places = [[float(n) for n in re.findall(r"-?[0-9.]+(?:e-?\d+)?", p)] for p in seen["places"]]
    start, closer, farther, wheel, dragged, whole = places
    assert closer[2] == pytest.approx(1.25 * start[2])
    assert farther == pytest.approx(start)
    assert wheel[2] > start[2]
    assert dragged == pytest.approx([wheel[0] + 50, wheel[1] + 80, wheel[2]])
    assert whole[2] <= start[2]


def test_cards_are_spoken_and_reached_by_keyboard(seen: dict[str, Any]) -> None:
    assert seen["reachable"] == seen["cards"]
    assert "grad" in seen["spoken"]
