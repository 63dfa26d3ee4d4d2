"""A descent that was interrupted goes on as if it had not been."""

import numpy as np
import pytest
import torch
from descents import START, line
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from gradfit import descend
from gradfit._descend import checkpoint as module
from gradfit._descend.rules import optimizers
from gradfit.errors import InputError, StopFit

LINE = line()


class Interrupted:
    """A loss that is interrupted from the keyboard at its n-th evaluation."""

    def __init__(self, loss, calls):
        self.loss, self.left = loss, calls

    def __call__(self, *batch, **params):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.loss(*batch, **params)


def same(run, other):
    """Whether two results agree bit for bit, but for the time they took."""
    ours, theirs = run.to_dict(), other.to_dict()
    del ours["seconds"], theirs["seconds"]
    return repr(ours) == repr(theirs)


def hilly(a, b):
    return (1 - a) ** 2 + 5 * (b - a * a) ** 2 + torch.sin(3 * a) ** 2


SETTINGS = {
    "plain": {"lr": 0.01},
    "never cleared": {"lr": 0.001, "clear_grad": False},
    "momentum": {"lr": 0.005, "optimizer": "momentum"},
    "adam, cosine": {"lr": 0.05, "optimizer": "adam", "schedule": "cosine"},
    "plateau": {"lr": 0.05, "schedule": "plateau"},
    "many steps": {"lr": 0.05, "schedule": lambda o: lr_scheduler.MultiStepLR(o, [20, 60])},
    "one cycle": {"lr": 0.05, "schedule": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 200)},
    "lbfgs": {"lr": 0.1, "optimizer": lambda p, lr: torch.optim.LBFGS(p, lr=lr, max_iter=2)},
    "rprop": {"lr": 0.01, "optimizer": "rprop"},
    "automatic": {"tol": 1e-14},
    "thinned": {"lr": 0.01, "record": 16},
    "patient": {"lr": 0.01, "patience": 50, "clip": 0.3},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("calls", [9, 17])
def test_resuming_after_ctrl_c_is_bit_equal(setting, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    asked = {"epochs": 100, **setting}
    whole = descend(hilly, START, **asked)
    file = tmp_path / "run.pt"
    cut = descend(Interrupted(hilly, calls), START, checkpoint=file, **asked)
    assert cut.status.name == "INTERRUPTED"
    resumed = descend(hilly, START, resume=file, **asked)
    assert same(resumed, whole)


def test_resuming_twice_and_saving_on_the_way_is_bit_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    file = tmp_path / "run.pt"
    asked = {"lr": 0.05, "optimizer": "nadam", "epochs": 60}
    whole = descend(hilly, START, **asked)
    descend(Interrupted(hilly, 10), START, checkpoint=file, **asked)
    descend(Interrupted(hilly, 20), START, checkpoint=file, resume=file, **asked)
    assert same(descend(hilly, START, resume=file, **asked), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("name", sorted(set(optimizers()) - {"muon"}))
def test_every_optimizer_resumes_bit_equal(name, tmp_path):
    file = tmp_path / "run.pt"
    asked = {"lr": 0.01, "optimizer": name}
    descend(hilly, START, epochs=4, checkpoint=file, **asked)
    resumed = descend(hilly, START, epochs=9, resume=file, **asked)
    assert same(resumed, descend(hilly, START, epochs=9, **asked))


def test_a_finished_descent_goes_on_with_more_epochs(tmp_path):
    file = tmp_path / "run.pt"
    descend(hilly, START, lr=0.01, epochs=30, checkpoint=file)
    assert same(
        descend(hilly, START, lr=0.01, epochs=80, resume=file),
        descend(hilly, START, lr=0.01, epochs=80),
    )


def test_stopping_from_on_step_saves_the_step_it_stopped_at(tmp_path):
    file = tmp_path / "run.pt"

    def stop(step):
        if step.step == 7:
            raise StopFit

    descend(hilly, START, lr=0.01, epochs=30, checkpoint=file, on_step=stop)
    seen = []
    run = descend(
        hilly, START, lr=0.01, epochs=30, resume=file, on_step=lambda s: seen.append(s.step)
    )
    assert seen == list(range(8, 31))
    assert same(run, descend(hilly, START, lr=0.01, epochs=30))


@pytest.mark.parametrize("own", [True, False])
def test_shuffled_batches_go_on_in_the_same_order(own, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.0)

    def squares(batch, a, b):
        x, y = batch
        return torch.mean((a * x / 100 + b - y / 100) ** 2)

    def data():
        generator = torch.Generator().manual_seed(3) if own else None
        points = TensorDataset(LINE.x, LINE.y)
        return DataLoader(points, batch_size=10, shuffle=True, generator=generator)

    asked = {"lr": 0.1, "epochs": 6, "seed": 1}
    whole = descend(squares, START, data=data(), **asked)
    file = tmp_path / "run.pt"
    descend(Interrupted(squares, 57), START, data=data(), checkpoint=file, **asked)
    resumed = descend(squares, START, data=data(), resume=file, **asked)
    assert same(resumed, whole)


def test_a_random_loss_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.0)

    def loss(a, b):
        return hilly(a, b) * (1 + 0.1 * torch.rand((), dtype=torch.float64))

    whole = descend(loss, START, lr=0.01, epochs=40, seed=2)
    file = tmp_path / "run.pt"
    descend(Interrupted(loss, 15), START, lr=0.01, epochs=40, seed=2, checkpoint=file)
    resumed = descend(loss, START, lr=0.01, epochs=40, resume=file)
    np.testing.assert_array_equal(resumed.losses, whole.losses)


def test_a_module_with_many_parameters_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    x = torch.linspace(-1, 1, 20)[:, None]

    def fresh():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(1, 60), nn.Tanh(), nn.Linear(60, 1))

    def run(cut=None, **asked):
        net = fresh()

        def loss():
            return ((net(x) - x**2) ** 2).mean()

        asked |= {"optimizer": "adam", "lr": 0.01, "epochs": 30}
        return descend(loss if cut is None else Interrupted(loss, cut), net, **asked), net

    whole, net = run()
    file = tmp_path / "run.pt"
    run(cut=12, checkpoint=file)
    resumed, again = run(resume=file)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    for p, q in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)


def test_checkpoints_are_written_now_and_then_only(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(module.Checkpoint, "write", lambda self, run: written.append(run.step))
    descend(hilly, START, lr=0.01, epochs=50, checkpoint=tmp_path / "run.pt")
    assert written == [0, 50]


def test_a_failed_write_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    file = tmp_path / "run.pt"
    save = torch.save

    def fails_later(state, path):
        save(state, path)
        if state["n_eval"] > 5:
            raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fails_later)
    with pytest.raises(OSError, match="disk full"):
        descend(hilly, START, lr=0.01, epochs=30, checkpoint=file)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    assert same(
        descend(hilly, START, lr=0.01, epochs=30, resume=file),
        descend(hilly, START, lr=0.01, epochs=30),
    )


@pytest.mark.parametrize(
    ("start", "asked", "match"),
    [
        ({"a": 0.0, "c": 0.0}, {}, "the checkpoint holds parameters"),
        (START, {"optimizer": "adam"}, "was made with optimizer 'sgd'; 'adam' came"),
        (START, {"schedule": "cosine"}, "was made with schedule 'constant'; 'cosine' came"),
    ],
)
def test_the_checkpoint_of_another_descent_is_refused(start, asked, match, tmp_path):
    file = tmp_path / "run.pt"
    descend(hilly, START, lr=0.01, epochs=5, checkpoint=file)

    def loss(**params):
        return sum(p**2 for p in params.values())

    with pytest.raises(InputError, match=match):
        descend(loss, start, resume=file, **{"lr": 0.01, **asked})


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    file = tmp_path / "run.pt"
    file.write_text("hello")
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        descend(hilly, START, lr=0.01, resume=file)
    torch.save({"a": 1}, file)
    with pytest.raises(InputError, match="is no checkpoint of this version"):
        descend(hilly, START, lr=0.01, resume=file)


def test_loading_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    file = tmp_path / "run.pt"
    torch.save({"version": Evil()}, file)
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        descend(hilly, START, lr=0.01, resume=file)
