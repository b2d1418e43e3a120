"""Small runs, composed as on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bnrepro.config import Config
from bnrepro.config.compose import single
from bnrepro.progress import Progress
from tests.runs.wandb_server import WandbServer

SMALL = (
    *(
        "model.width=8",
        "data.batch_size=20",
        "train.steps=40",
        "eval.every=10",
        "seeds=2",
        "data.examples=400",
    ),
    *("train.engine=eager", "train.workers=1", "train.checkpoint_seconds=0"),
)


@pytest.fixture
def small() -> tuple[str, ...]:
    """The settings of a run of half a second."""
    return SMALL


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """config("optim.lr=1", place="a"): a small run below tmp_path/a."""
    return lambda *overrides, place="": single([*SMALL, f"output={tmp_path / place}", *overrides])


@pytest.fixture
def quiet() -> Progress:
    return lambda done, remark: None


@pytest.fixture
def stop_at() -> Callable[..., Progress]:
    """A progress that ends the training at a step, as Ctrl-C or another exception does."""

    def make(step: int, how: type[BaseException] = KeyboardInterrupt) -> Progress:
        def progress(done: int, remark: str) -> None:
            if done == step:
                raise how

        return progress

    return make


@pytest.fixture
def wandb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """The only W&B server that this process and those it starts know of. Nothing of the user's own is read."""
    import wandb

    server = WandbServer(tmp_path / "server")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home/netrc"))
    (tmp_path / "home").mkdir()
    settings = {"BASE_URL": server.store.url, "API_KEY": "local" + 40 * "0", "AGENT_REPORT_INTERVAL": "1"}
    # Sent at once, tried again at once: the client's own pace is seconds.
    for what in ("FILE_STREAM", "FILE_TRANSFER", "GRAPHQL"):
        settings |= {f"X_{what}_RETRY_WAIT_{end}_SECONDS": "0.1" for end in ("MIN", "MAX")}
    settings["X_FILE_STREAM_TRANSMIT_INTERVAL"] = "0.1"
    for name, value in settings.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setattr("bnrepro.runs.wandb.lost", [])
    wandb.teardown()  # what an earlier test of this process told the client
    yield server
    wandb.teardown()
    server.stop()
    assert server.store.refused == []
