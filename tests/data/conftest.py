import pytest


@pytest.fixture(autouse=True)
def decoding_in_processes(forks: None) -> None:
    """As where no JAX is: images come without it."""
