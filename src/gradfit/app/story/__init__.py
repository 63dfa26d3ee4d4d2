"""The story that the demo tells: found out, told in chapters, set on a screen and on a page."""

from gradfit.app.story.scene import Scene
from gradfit.app.story.telling import CHAPTERS

__all__ = ["CHAPTERS", "Scene"]
