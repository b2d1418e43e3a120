"""Files: one process at a time."""

import multiprocessing
import os
import signal

import pytest

from bnrepro import files

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path / "lock", until it is killed."""
    holds = FORK.Event()

    def hold():
        with files.locked(tmp_path / "lock"):
            holds.set()
            signal.pause()

    process = FORK.Process(target=hold)
    process.start()
    assert holds.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_lock_that_another_process_holds_is_refused_or_waited_for_until_that_one_is_killed(
    tmp_path, holder
):
    with pytest.raises(files.Busy, match="lock"), files.locked(tmp_path / "lock"):
        pass
    said = []

    def busy():
        said.append("waiting")
        holder.kill()

    with files.locked(tmp_path / "lock", busy):
        assert said == ["waiting"] and not holder.is_alive()
    with files.locked(tmp_path / "lock", busy):  # free: nothing to say
        assert said == ["waiting"]


def test_a_forked_child_does_not_let_its_parents_lock_go(tmp_path):
    path = tmp_path / "lock"
    with files.locked(path):
        child = os.fork()
        if child == 0:
            with pytest.raises(files.Busy), files.locked(path):
                pass
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(files.Busy), files.locked(path):
            pass


def test_the_lock_file_stays_so_that_no_two_processes_lock_two_files_of_one_name(tmp_path):
    path = tmp_path / "lock"
    with files.locked(path):
        first = path.stat().st_ino
    with files.locked(path):
        assert path.stat().st_ino == first


def test_a_lock_file_that_cannot_be_opened_is_an_os_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError), files.locked(tmp_path / "file" / "folder" / "lock"):
        pass

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)  # root may open everything
    with pytest.raises(PermissionError), files.locked(tmp_path / "lock"):
        pass
