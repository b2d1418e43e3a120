"""The net on a page of numpy: forward, backward and update by hand. One process a core, one net each."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from benchmarks.task import BATCH, RATE, Result, Run, cores, crew, images_and_labels, openblas_kernel, rate

Layers = list[tuple[np.ndarray, np.ndarray]]  # weight (inputs, outputs), bias (outputs,)


def step(layers: Layers, x: np.ndarray, labels: np.ndarray) -> float:
    """One step of SGD, in place; x (m, 784) float32 -> the loss before it."""
    inputs = [x]
    for weight, bias in layers[:-1]:
        h = inputs[-1] @ weight
        h += bias
        np.negative(h, out=h)
        np.exp(h, out=h)
        h += 1
        inputs.append(np.reciprocal(h, out=h))  # sigmoid
    weight, bias = layers[-1]
    p = inputs[-1] @ weight + bias
    p -= p.max(1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(1, keepdims=True)
    rows = np.arange(len(x))
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    grad = p / np.float32(len(x))  # of the logits
    for i in reversed(range(len(layers))):
        (weight, bias), h = layers[i], inputs[i]
        below = grad @ weight.T if i else None
        weight -= np.float32(RATE) * (h.T @ grad)
        bias -= np.float32(RATE) * grad.sum(0)
        if below is not None:
            grad = below * h * (1 - h)
    return float(loss)


def trainer(seed: int) -> Run:
    images, labels = (tensor.numpy() for tensor in images_and_labels())
    images, rng, widths = images.reshape(-1, 784), np.random.default_rng(seed), (784, 100, 100, 100, 10)
    layers = [
        (rng.normal(0, 0.1, (i, o)).astype(np.float32), np.zeros(o, np.float32)) for i, o in pairwise(widths)
    ]

    def run(steps: int) -> None:
        left = steps
        while left:
            for index in rng.permutation(len(images)).reshape(-1, BATCH)[:left]:
                step(layers, images[index] * np.float32(1 / 255), labels[index])
                left -= 1

    return run


def train(steps: int) -> Result:
    processes = len(cores())
    per_s = rate(crew(trainer, [(seed,) for seed in range(processes)]), steps)
    note = f"{processes} processes, OpenBLAS for {openblas_kernel()}"
    return {"replica_steps_per_s": processes * per_s, "note": note}
