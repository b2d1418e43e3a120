"""The tensors of S replicas: what is saved of one, and what comes back."""

import io

import torch

from bnrepro.training.engines.eager import Eager


def written(content) -> int:
    file = io.BytesIO()
    torch.save(content, file)
    return file.tell()


def test_a_saved_replica_takes_its_share_of_the_bytes_and_no_more(nets):
    state = nets.state(nets.config(seeds=range(16), norm="bn", optim={"momentum": 0.9}))
    whole = sum(
        tensor.numel() * tensor.element_size()
        for part in (state.params, state.buffers, state.velocity)
        for tensor in part.values()
    )
    overhead = 20_000  # names, shapes and archive entries of some 30 tensors
    assert whole / 16 <= written(state.saved(5)) < whole / 16 + overhead < whole / 4


def test_what_is_saved_does_not_move_with_the_state(nets):
    state = nets.state(nets.config(norm="bn"))
    saved, fresh = state.saved(1), nets.state(nets.config(norm="bn"))
    Eager(state, nets.data).advance(state, 0, 3)
    assert not torch.equal(state.params["classifier.weight"], fresh.params["classifier.weight"])
    assert torch.equal(saved["params"]["classifier.weight"], fresh.params["classifier.weight"][1])


def test_a_replica_restored_into_another_place_goes_on_as_it_would_have(nets):
    cfg = nets.config(seeds=[0, 3], norm="bn", optim={"momentum": 0.5})
    whole, first = nets.state(cfg), nets.state(cfg)
    for state, stop in ((whole, 20), (first, 8)):
        Eager(state, nets.data).advance(state, 0, stop)
        state.step = stop
    second = nets.state(nets.config(seeds=[3], norm="bn", optim={"momentum": 0.5}))
    second.restore(0, first.saved(1))
    Eager(second, nets.data).advance(second, second.step, 20)
    for part in ("params", "buffers", "velocity"):
        for name, value in getattr(whole, part).items():
            assert torch.equal(getattr(second, part)[name][0], value[1])


def test_a_state_names_the_tensors_that_a_saved_one_of_another_net_has_or_lacks(nets):
    plain, normalized = nets.state(nets.config()), nets.state(nets.config(norm="bn"))
    assert plain.differs(plain.saved(0)) == ""
    told = plain.differs(normalized.saved(0))
    assert "norms.0.weight" in told and "hidden.0.bias" in told
    cut = plain.saved(0)
    cut["params"]["classifier.bias"] = cut["params"]["classifier.bias"][:1]  # a shape that would broadcast
    assert plain.differs(cut) == "classifier.bias"


def test_divergence_is_noted_at_the_first_loss_that_is_not_finite(nets):
    state = nets.state(nets.config(seeds=[0, 1, 2]))
    losses = torch.ones(3, 4)
    losses[1, 2:], losses[2, 0] = torch.inf, torch.nan
    assert state.note_divergence(losses, 10).tolist() == [False, True, True]
    assert state.note_divergence(losses, 14).tolist() == [False, False, False]
    assert state.diverged_at.tolist() == [-1, 12, 10]
