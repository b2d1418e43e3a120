"""The usual ways to train this net, written as their own guides write them."""

from __future__ import annotations

import functools
import logging

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.task import BATCH, RATE, Result, clock, device, fastest, images_and_labels, network


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
    return {"steps_per_s": steps / (marks[warm + steps] - marks[warm]), "note": "0 loader workers"}


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
