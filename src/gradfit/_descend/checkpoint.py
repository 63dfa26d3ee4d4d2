"""Save a descent while it runs, and go on from there as if nothing had happened.

A checkpoint is written to a temporary file and renamed, so a file that is there is whole. It holds
tensors and plain numbers only, and is read as such: loading one runs no code.
"""

import os
import time
from pathlib import Path
from typing import Any

import torch

from gradfit._descend.loop import Best, Run
from gradfit._descend.objective import Point
from gradfit._descend.parameters import Parameters
from gradfit._descend.record import Kept, as_table, from_table
from gradfit.errors import InputError

INTERVAL = 10.0
"""Seconds between two checkpoints."""
VERSION = 1


class Checkpoint:
    """Writes the state of a run: at its start, every few seconds, and when it ends."""

    def __init__(self, path: str | Path, words: dict[str, Any]) -> None:
        self.path = Path(path)
        self.words = words
        self.written = -float("inf")
        if not self.path.parent.is_dir():
            raise InputError(f"`checkpoint`: the folder {self.path.parent} does not exist")

    def __call__(self, run: Run) -> None:
        """Write when it is time."""
        now = time.monotonic()
        if now - self.written >= INTERVAL:
            self.written = now
            self.write(run)

    def write(self, run: Run) -> None:
        """Write now."""
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            torch.save(state_of(run) | {"version": VERSION, "words": self.words}, beside)
            beside.replace(self.path)
        finally:
            beside.unlink(missing_ok=True)


def state_of(run: Run) -> dict[str, Any]:
    """Return all that decides how the run goes on."""
    best = run.best
    n = run.parameters.n
    return {
        "shapes": {name: list(slot.shape) for name, slot in run.parameters.slots.items()},
        "blocks": [block.both for block in run.parameters.blocks],
        "record": torch.from_numpy(as_table(run.record.rows, n)),
        "stride": run.record.stride,
        "tail": torch.from_numpy(as_table(list(run.tail), n)),
        "best": None if best is None else torch.from_numpy(as_table([best.kept], n)),
        "best_values": None if best is None else best.values,
        "lowest": run.lowest,
        "improved": list(run.improved),
        "first_loss": run.first_loss,
        "seconds": run.seconds,
        "n_eval": run.objective.n_eval,
        "eps": run.objective.eps,
        "stepper": run.stepper.state(),
        "random": random_state(run),
    }


def resume_from(run: Run, path: str | Path, words: dict[str, Any]) -> None:
    """Put a new run where the saved one stood.

    Raises
    ------
    InputError
        No such file, no checkpoint, or one of another descent.
    """
    try:
        state = torch.load(Path(path), weights_only=True)
    except FileNotFoundError:
        raise InputError(f"`resume`: there is no file {path}") from None
    # What is no checkpoint can fail in any way while it is unpickled.
    except Exception as error:
        raise InputError(f"`resume`: {path} cannot be read as a checkpoint") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise InputError(f"`resume`: {path} is no checkpoint of this version of gradfit")
    _check_same(run, state, words)
    _put(run, state)


def _check_same(run: Run, state: dict[str, Any], words: dict[str, Any]) -> None:
    here = {name: list(slot.shape) for name, slot in run.parameters.slots.items()}
    if state["shapes"] != here:
        raise InputError(
            f"`resume`: the checkpoint holds parameters {state['shapes']}, `start` has {here}"
        )
    for word, value in words.items():
        if state["words"].get(word) != value:
            raise InputError(
                f"`resume`: the checkpoint was made with {word} {state['words'].get(word)!r}; "
                f"{value!r} came"
            )


def _put(run: Run, state: dict[str, Any]) -> None:
    for block, both in zip(run.parameters.blocks, state["blocks"], strict=True):
        block.both.copy_(both)
    run.record.rows = from_table(state["record"].numpy())
    run.record.stride = state["stride"]
    run.tail.extend(from_table(state["tail"].numpy()))
    best: Kept = from_table(state["best"].numpy())[0]
    run.best = Best(best, state["best_values"])
    last = run.tail[-1]
    run.step, run.point = last.step, Point(*last.point)
    run.lowest, run.first_loss = state["lowest"], state["first_loss"]
    run.improved = (int(state["improved"][0]), state["improved"][1])
    run.seconds = state["seconds"]
    run.objective.n_eval, run.objective.eps = state["n_eval"], state["eps"]
    run.stepper.load(state["stepper"])
    restore_random(run, state["random"])


def random_state(run: Run) -> dict[str, Any]:
    """Return the state of every generator that loss and batches may draw from."""
    own = getattr(run.objective.batches, "generator", None)
    return {
        "cpu": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(d) for d in random_devices(run.parameters)],
        "batches": None if own is None else own.get_state(),
    }


def restore_random(run: Run, state: dict[str, Any]) -> None:
    """Set every generator as it was."""
    torch.set_rng_state(state["cpu"])
    for device, saved in zip(random_devices(run.parameters), state["cuda"], strict=False):
        torch.cuda.set_rng_state(saved, device)
    own = getattr(run.objective.batches, "generator", None)
    if own is not None and state["batches"] is not None:
        own.set_state(state["batches"])


def random_devices(parameters: Parameters) -> list[torch.device]:
    """Return the graphics cards that parameters are on, in a fixed order."""
    devices = {block.both.device for block in parameters.blocks}
    return sorted((d for d in devices if d.type == "cuda"), key=str)
