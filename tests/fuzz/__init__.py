"""Generated calls of every public door: see ``docs/robustness.md``."""
