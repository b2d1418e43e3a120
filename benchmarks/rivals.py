"""The usual ways to train this net, written as their own guides write them."""

from __future__ import annotations

import copy
import functools
import logging

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.task import BATCH, RATE, Result, Run, clock, device, fastest, images_and_labels, network


def dataloader(steps: int) -> Result:
    """The tutorials' loop: PIL images, transforms, DataLoader, loss.item() for the running mean."""
    from PIL import Image
    from torchvision import transforms

    images, labels = images_and_labels()
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    class Digits(Dataset):  # as torchvision.datasets.MNIST does it
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int):
            return transform(Image.fromarray(images[i].numpy())), int(labels[i])

    model = network().to(device())
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=RATE), nn.CrossEntropyLoss()

    def train(workers: int, steps: int) -> float:
        running, left = 0.0, steps
        while left:
            for x, y in DataLoader(Digits(), BATCH, shuffle=True, num_workers=workers):
                optimizer.zero_grad()
                loss = criterion(model(x.to(device())), y.to(device()))
                loss.backward()
                optimizer.step()
                running += loss.item()
                left -= 1
                if not left:
                    break
        return running

    return fastest({f"{n} loader workers": functools.partial(train, n) for n in (0, 2)}, steps)


def in_lightning(steps: int) -> Result:
    """PyTorch Lightning on tensors in memory; logger, progress bar and checkpoints are off."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    import lightning

    images, labels = images_and_labels()
    warm, marks = max(20, steps // 10), {}

    class Digits(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=RATE)

        def on_train_batch_end(self, outputs, batch, batch_idx) -> None:
            if self.global_step in (warm, warm + steps):
                marks[self.global_step] = clock()

    loader = DataLoader(TensorDataset(images.float() / 255, labels), BATCH, shuffle=True)
    trainer = lightning.Trainer(
        max_steps=warm + steps,
        accelerator="gpu" if device().type == "cuda" else "cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(), loader)
    return {"replica_steps_per_s": steps / (marks[warm + steps] - marks[warm]), "note": "0 loader workers"}


def eager(steps: int, bn: bool) -> Result:
    """A plain loop over float tensors in memory, batches by index, torch.optim.SGD."""
    images, labels = images_and_labels()
    x, y = (images.float() / 255).to(device()), labels.to(device())
    model = network(bn).to(device())
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=RATE), nn.CrossEntropyLoss()

    def train(threads: int, steps: int) -> None:
        torch.set_num_threads(threads)
        left = steps
        while left:
            for index in torch.randperm(len(x), device=device()).split(BATCH)[:left]:
                optimizer.zero_grad()
                criterion(model(x[index]), y[index]).backward()
                optimizer.step()
                left -= 1

    threads = (1, 2) if device().type == "cpu" else (1,)
    return fastest({f"{n} thread{'s' * (n > 1)}": functools.partial(train, n) for n in threads}, steps)


def ensemble(steps: int, replicas: int = 10) -> Result:
    """As torch's tutorial on model ensembling writes it: stacked parameters, vmap of grad, compiled."""
    images, labels = images_and_labels()
    x, y = (images.float() / 255).to(device()), labels.to(device())
    models = [network().to(device()) for _ in range(replicas)]
    params, buffers = stack_module_state(models)
    params = {name: p.detach() for name, p in params.items()}
    base = copy.deepcopy(models[0]).to("meta")

    def loss(params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(base, (params, buffers), (x,)), y)

    def step(params: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        grads = vmap(grad(loss))(params, buffers, x, y)
        return {name: p - RATE * grads[name] for name, p in params.items()}

    one, why = torch.compile(step), "torch.compile"
    rows = torch.arange(replicas * BATCH, device=device()).view(replicas, BATCH)
    try:
        one(params, x[rows], y[rows])
    except Exception as error:  # of many types: most often there is no C++ compiler
        one, why = step, f"not compiled ({type(error).__name__})"

    def train(threads: int, steps: int) -> None:
        nonlocal params
        torch.set_num_threads(threads)
        left = steps
        while left:
            orders = torch.stack([torch.randperm(len(x), device=device()) for _ in range(replicas)])
            for index in orders.split(BATCH, dim=1)[:left]:
                params = one(params, x[index], y[index])
                left -= 1

    threads = (1, 2) if device().type == "cpu" else (1,)
    ways: dict[str, Run] = {f"{why}, {n} thread{'s' * (n > 1)}": functools.partial(train, n) for n in threads}
    return fastest(ways, max(1, steps // replicas), replicas=replicas)
