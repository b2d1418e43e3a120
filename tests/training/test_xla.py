"""The engine of flat nets on a CPU: a replica's bits depend on nothing but itself; what it cannot say, eager runs."""

import pytest
import torch

from bnrepro.training.engines import build_engine, xla
from bnrepro.training.engines.eager import Eager
from bnrepro.training.engines.trace import traced
from bnrepro.training.engines.xla import Xla


@pytest.fixture(scope="module")
def aten():
    from bnrepro.training.engines import aten

    return aten


def advanced(nets, cfg, *stops):
    state = nets.state(cfg)
    engine = Xla(state, nets.data, workers=2)
    cuts = list(zip((0, *stops), stops, strict=False))
    losses = torch.cat([engine.advance(state, start, stop) for start, stop in cuts], dim=1)
    engine.close()
    return state, losses


def assert_same_bits(found, expected, rows=slice(None)):
    for part in ("params", "buffers", "velocity"):
        for name, value in getattr(expected[0], part).items():
            assert torch.equal(getattr(found[0], part)[name], value[rows])
    assert torch.equal(found[1], expected[1][rows])


SETTINGS = {"norm": "bn", "dropout": 0.3, "optim": {"momentum": 0.5, "schedule": "exponential"}}


def test_a_seed_alone_has_the_bits_that_it_has_among_others(nets):
    several = advanced(nets, nets.config(seeds=[0, 3, 5], **SETTINGS), 50)
    assert_same_bits(advanced(nets, nets.config(seeds=[3], **SETTINGS), 50), several, slice(1, 2))


@pytest.mark.parametrize("chunk", [500, 16])
def test_steps_cut_anywhere_give_the_same_bits(chunk, nets, monkeypatch):
    expected = advanced(nets, nets.config(**SETTINGS), 50)
    monkeypatch.setattr(xla, "CHUNK", chunk)
    for stops in ((7, 50), (1, 16, 33, 50)):
        assert_same_bits(advanced(nets, nets.config(**SETTINGS), *stops), expected)


def test_no_steps_change_nothing_and_have_no_losses(nets):
    state, losses = advanced(nets, nets.config(**SETTINGS), 0)
    fresh = nets.state(nets.config(**SETTINGS))
    assert losses.shape == (2, 0)
    assert all(torch.equal(value, fresh.params[name]) for name, value in state.params.items())


def said_again(aten, function, *inputs):
    program = traced(function, inputs)
    return [aten.to_torch(each) for each in aten.as_jax(program)(*map(aten.to_jax, inputs))]


def test_an_operation_in_place_makes_a_new_value(aten):
    def function(buffer, x):
        moved = buffer.clone()
        before = moved * 2
        moved.mul_(0.9).add_(x)
        return before, moved, moved * 2

    given = torch.arange(3.0), torch.ones(3)
    torch.testing.assert_close(said_again(aten, function, *given), list(function(*given)))


def test_a_view_taken_before_a_change_is_read_anew_or_refused(aten):
    def anew(x):
        moved = x.clone()
        first = moved[0]
        moved.add_(1)
        return first * 1, moved[0] * 1

    def through_a_view(x):
        moved = x.clone()
        moved[0].add_(1)
        return (moved * 1,)

    def before(x):
        moved = x.clone()
        kept = moved[0] * 1
        moved.add_(1)
        return kept, moved

    x = torch.arange(6.0).view(2, 3)
    torch.testing.assert_close(said_again(aten, before, x), list(before(x)))
    for function in (anew, through_a_view):  # never the number it had when it was traced, for any other input
        with pytest.raises(NotImplementedError, match="changed in place"):
            traced(function, [x])


def test_what_a_function_finds_outside_is_a_constant(aten):
    outside = torch.tensor([1.0, 2.0, 3.0])
    x = torch.ones(3)
    torch.testing.assert_close(
        said_again(aten, lambda x: (x * outside, outside[1:] + 1), x), [outside, outside[1:] + 1]
    )


def test_a_step_with_an_operation_that_has_no_counterpart_is_eager_and_says_which(nets, aten, monkeypatch):
    monkeypatch.setattr(xla, "_cache", {})
    monkeypatch.delitem(aten.TABLE, "sigmoid")
    cfg = nets.config()
    states = [nets.state(cfg), nets.state(cfg)]
    engine, eager = build_engine(states[0], nets.data), Eager(states[1], nets.data)
    assert engine.name == "eager" and "sigmoid has no counterpart" in engine.note
    assert torch.equal(engine.advance(states[0], 0, 20), eager.advance(states[1], 0, 20))
    assert all(torch.equal(v, states[1].params[k]) for k, v in states[0].params.items())
