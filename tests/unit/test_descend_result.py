"""What a descent leaves behind: values, words, graph and film; and how little it costs."""

import pickle
import time

import numpy as np
import pytest
import torch
from descents import START, bowl, by_hand, line
from torch import nn

from gradfit import descend
from gradfit.errors import InputError, ModelError

LINE = line()


def test_a_result_survives_a_pickle_and_says_what_it_lost():
    run = descend(lambda a, b: bowl(a, b), START, lr=0.01, epochs=5)
    again = pickle.loads(pickle.dumps(run))
    assert again.summary() == run.summary()
    assert repr(again.to_dict()) == repr(run.to_dict())
    with pytest.raises(ModelError, match="could not be pickled with this result"):
        again.landscape()


def test_a_named_loss_survives_a_pickle():
    run = descend(bowl, START, lr=0.01, epochs=5)
    again = pickle.loads(pickle.dumps(run))
    assert again.source.loss is bowl


def test_plain_data_hold_nothing_but_plain_values():
    def kinds(value):
        if isinstance(value, dict):
            return set().union(*map(kinds, value.values()))
        return set().union(*map(kinds, value)) if isinstance(value, list) else {type(value)}

    run = descend(bowl, START, lr=0.01, epochs=5)
    assert kinds(run.to_dict()) <= {float, int, str, bool}
    assert run.to_dict()["params"] == run.params


def test_summary_tells_values_loss_work_and_diagnosis():
    run = descend(LINE.loss, START, lr=1e-5, epochs=1000)
    text = run.summary()
    assert "Gradient descent, sgd, lr 1e-5" in text
    assert "NOT CONVERGED (MAX_EPOCHS)" in text
    assert "condition number" in text
    assert "Crawling:" in text
    assert max(map(len, text.splitlines())) <= 80
    assert repr(run) == text


def test_the_graph_of_the_loss_stands_at_the_best_step():
    run = descend(LINE.loss, START, lr=1e-5, epochs=10)
    graph = run.graph()
    assert float(graph["a"].value) == run.params["a"]
    assert float(graph["a"].grad) == pytest.approx(run.gradient[0], rel=1e-12)


def test_the_graph_of_a_batch_and_of_a_module_opens():
    net = nn.Linear(1, 1)
    batches = [torch.ones(3, 1), torch.zeros(2, 1)]
    run = descend(lambda batch: (net(batch) ** 2).mean(), net, lr=0.1, epochs=2, data=batches)
    graph = run.graph()
    assert any("weight" in name for name in graph.names)
    keyed = descend(lambda *, a, b: bowl(a, b), START, lr=0.01, epochs=2)
    assert float(keyed.graph().result) == keyed.loss == bowl(**keyed.params)


def test_the_film_of_a_descent_stands_at_its_steps():
    run = descend(LINE.loss, START, lr=1e-5, epochs=40)
    film = run.film(5)
    at = [list(run.steps).index(int(label.removeprefix("step "))) for label in film.labels]
    assert (at[0], at[-1], len(at)) == (0, len(run.steps) - 1, 5)
    for graph, index in zip(film, at, strict=True):
        assert float(graph.result) == pytest.approx(run.losses[index], rel=1e-12)
        assert float(graph["a"].grad) == pytest.approx(run.grads["a"][index], rel=1e-12)


def test_the_film_of_a_module_leaves_it_where_the_descent_left_it():
    net = nn.Linear(1, 1)
    x = torch.linspace(0, 1, 5)[:, None]
    run = descend(lambda: ((net(x) - 2 * x) ** 2).mean(), net, lr=0.1, epochs=6)
    before = [p.detach().clone() for p in net.parameters()]
    film = run.film(3)
    assert [float(graph.result) for graph in film] == pytest.approx(
        run.losses[[0, 3, 6]].tolist(), rel=1e-6
    )
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_a_film_of_nothing_is_refused():
    run = descend(LINE.loss, START, lr=1e-5, epochs=2)
    with pytest.raises(InputError, match="`n` must be a number of frames, at least 1; got 0"):
        run.film(0)
    many = descend(lambda a: (a**2).sum(), {"a": np.ones(200)}, lr=0.1, epochs=2)
    with pytest.raises(InputError, match="more than 128 numbers moved"):
        many.film()


@pytest.mark.slow
def test_overhead_over_a_loop_by_hand_is_small():
    hand, ours = [], []
    # The least of each: whatever else the machine does only adds. A busy one gets more rounds.
    while len(hand) < 5 or (len(hand) < 25 and min(ours) >= 1.25 * min(hand)):
        began = time.process_time()
        by_hand(LINE.loss, 1e-5, 1000, clear=True)
        hand.append(time.process_time() - began)
        began = time.process_time()
        descend(LINE.loss, START, lr=1e-5, epochs=1000)
        ours.append(time.process_time() - began)
    assert min(ours) < 1.25 * min(hand)
