"""``gradfit demo``: the whole story on simulated points, on screen and as one page."""

import json

from gradfit.app import files, output
from gradfit.app.story import CHAPTERS, Scene
from gradfit.app.story.blocks import Chapter
from gradfit.app.story.page import page
from gradfit.app.story.screen import render


def run(delivery: output.Delivery) -> int:
    """Tell the story chapter by chapter, write it down, and return the exit code."""
    files.check_directory(delivery.out)
    scene = Scene()
    talk = not delivery.as_json and not delivery.quiet
    with output.remarks(delivery.quiet):
        chapters = _told(scene, talk, delivery.quiet)
        numbers = json.dumps(scene.numbers(), indent=2)
    if delivery.as_json:
        output.show(numbers)
    if delivery.out is not None:
        written = files.write_files(
            delivery.out,
            {
                "story.html": lambda path: output.save_text(path, page(chapters)),
                "story.json": lambda path: output.save_text(path, numbers),
                "points.csv": lambda path: output.save_text(path, _table(scene)),
            },
        )
        if not delivery.quiet:
            output.remark(f"wrote {', '.join(str(path) for path in written)}")
    return 0


def _told(scene: Scene, talk: bool, quiet: bool) -> list[Chapter]:
    """Compute the chapters, and show each as soon as it is there."""
    chapters: list[Chapter] = []
    for number, chapter in enumerate(CHAPTERS, 1):
        with output.progress(f"chapter {number} of {len(CHAPTERS)}", quiet):
            chapters.append(chapter(scene))
        if talk:
            output.show(("\n" if number > 1 else "") + render(number, chapters[-1]))
    return chapters


def _table(scene: Scene) -> str:
    rows = zip(scene.x.tolist(), scene.y.tolist(), strict=True)
    return "\n".join(["x,y", *(f"{x!r},{y!r}" for x, y in rows)])
