"""The net in JAX as one writes it by hand: jit of a scan over 500 steps, with jax.grad; BN or none."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from benchmarks.task import BATCH, RATE, Result, Run, cores, crew, fastest, images_and_labels

CHUNK = 500  # steps of one compiled loop
WIDTHS = (784, 100, 100, 100, 10)
MOMENTUM, EPS = 0.1, 1e-5  # of BN, as in torch


def initial(seed: int, bn: bool):
    """Weights and running averages, a dict for every layer. Hidden layers have a bias, or with BN a beta."""
    keys = jax.random.split(jax.random.key(seed), len(WIDTHS) - 1)
    weights, running = [], []
    for i, key in enumerate(keys):
        layer = {"w": 0.1 * jax.random.normal(key, WIDTHS[i : i + 2]), "b": jnp.zeros(WIDTHS[i + 1])}
        if bn and i < len(keys) - 1:
            layer["gamma"] = jnp.ones(WIDTHS[i + 1])
            running.append({"mean": jnp.zeros(WIDTHS[i + 1]), "var": jnp.ones(WIDTHS[i + 1])})
        weights.append(layer)
    return weights, running


def loss(weights, running, x, labels):
    """Softmax cross-entropy, and the running averages after this batch."""
    moved, m = [], len(x)
    for i, layer in enumerate(weights[:-1]):
        x = x @ layer["w"]
        if running:
            mean, var = x.mean(0), x.var(0)
            x = (x - mean) * jax.lax.rsqrt(var + EPS) * layer["gamma"]
            new = {"mean": mean, "var": var * (m / (m - 1))}
            moved.append(jax.tree.map(lambda old, now: old + MOMENTUM * (now - old), running[i], new))
        x = jax.nn.sigmoid(x + layer["b"])
    log_p = jax.nn.log_softmax(x @ weights[-1]["w"] + weights[-1]["b"])
    return -jnp.take_along_axis(log_p, labels[:, None], 1).mean(), moved


def step(state, index, images, labels):
    """One step of SGD on the rows index (m,) of images (N, 784) uint8."""
    weights, running = state
    x = images[index].astype(jnp.float32) * (1 / 255)
    (value, running), grads = jax.value_and_grad(loss, has_aux=True)(weights, running, x, labels[index])
    return (jax.tree.map(lambda w, g: w - RATE * g, weights, grads), running), value


def steps_of(state, indices, images, labels):
    """The state after len(indices) steps, and their losses."""
    return jax.lax.scan(functools.partial(step, images=images, labels=labels), state, indices)


def trainer(seeds: tuple[int, ...], bn: bool, devices: int) -> Run:
    """Trains these seeds, stacked if they are several; over so many XLA devices. Whole CHUNKs of steps."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    images, labels = (jnp.asarray(t.numpy()) for t in images_and_labels())
    images = images.reshape(-1, 784)
    states, rngs = [initial(seed, bn) for seed in seeds], [np.random.default_rng(seed) for seed in seeds]
    if len(seeds) == 1:
        state, advance = states[0], steps_of
    else:
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        advance = jax.vmap(steps_of, in_axes=(0, 0, None, None))
    if devices > 1:
        seed, same = PartitionSpec("seed"), PartitionSpec()
        mesh = Mesh(np.array(jax.devices()), ("seed",))
        advance = jax.shard_map(
            advance, mesh=mesh, in_specs=(seed, seed, same, same), out_specs=seed, check_vma=False
        )
    advance = jax.jit(advance)
    waiting = [np.empty((0, BATCH), np.int32) for _ in seeds]  # each seed's batches, drawn by the epoch

    def drawn(i: int) -> np.ndarray:
        if len(waiting[i]) < CHUNK:
            epoch = rngs[i].permutation(len(images)).astype(np.int32).reshape(-1, BATCH)
            waiting[i] = np.concatenate([waiting[i], epoch])
        chunk, waiting[i] = waiting[i][:CHUNK], waiting[i][CHUNK:]
        return chunk

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps // CHUNK):
            indices = np.stack([drawn(i) for i in range(len(seeds))])
            state, losses = advance(state, indices[0] if len(seeds) == 1 else indices, images, labels)
            np.asarray(losses)  # waits for the chunk

    return run


def train(steps: int, replicas: int, bn: bool) -> Result:
    """One process on all cores, or shards of it, or one process a core: whichever is fastest."""
    seeds, all_cores = tuple(range(replicas)), len(cores())
    ways = {"one process": crew(trainer, [(seeds, bn, 1)], shared_out=False)}
    if replicas == 1:
        ways["one core"] = crew(trainer, [(seeds, bn, 1)])
    else:
        shards = max(n for n in range(1, all_cores + 1) if replicas % n == 0)
        if shards > 1:
            ways[f"shard_map over {shards} devices"] = crew(trainer, [(seeds, bn, shards)], shared_out=False)
        parts = [seeds[i::all_cores] for i in range(min(all_cores, replicas))]
        ways["one process a core"] = crew(trainer, [(part, bn, 1) for part in parts])
    return fastest(ways, steps, CHUNK, replicas)
