"""A Slurm of two nodes on this one machine, with accounting, for as long as a test needs it. Needs root."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "munged", "mariadbd", "mariadb-install-db")
PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"
NODES = ("n1", "n2")
PATIENCE = 60  # seconds for a service to answer

SLURM = """\
ClusterName=trial
SlurmctldHost=localhost
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=20
StateSaveLocation={at}/state
SlurmdSpoolDir={at}/spool/%n
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/slurmd.%n.pid
SlurmctldLogFile={at}/slurmctld.log
SlurmdLogFile={at}/slurmd.%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
KillWait=20
MinJobAge=3600
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=4 RealMemory=8000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=patient Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=16819
"""
ACCOUNTING = """\
AuthType=auth/munge
DbdHost=localhost
DbdPort=16819
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=13306
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile={at}/slurmdbd.log
PidFile={at}/slurmdbd.pid
"""
ACCOUNT = (
    "create user slurm@'127.0.0.1' identified by 'slurm'; create user slurm@localhost identified by 'slurm'; "
    "grant all on slurm_acct_db.* to slurm@'127.0.0.1'; grant all on slurm_acct_db.* to slurm@localhost"
)


def install() -> None:
    """Install what is missing where this may, else say what that is (SystemExit)."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if os.geteuid() != 0:
        raise SystemExit("a Slurm of its own needs root")
    if absent and not shutil.which("apt-get"):
        raise SystemExit(f"missing: {', '.join(absent)}; on Debian they are in {PACKAGES}")
    if absent:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES.split()]
        subprocess.run(["apt-get", "update", "-q"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


@contextmanager
def cluster(at: Path) -> Iterator[None]:
    """Up while this lasts; SLURM_CONF names it. Its files and logs: at."""
    for folder in ("state", "mysql", *(f"spool/{node}" for node in NODES)):
        (at / folder).mkdir(parents=True)
    conf, names = at / "slurm.conf", f"n[1-{len(NODES)}]"
    conf.write_text(SLURM.format(at=at, nodes=names, host=socket.gethostname().split(".")[0]))
    accounting = at / "slurmdbd.conf"  # beside slurm.conf: slurmdbd looks there
    hosts = Path("/etc/hosts")
    known = hosts.read_text()
    os.environ["SLURM_CONF"] = str(conf)
    started: list[subprocess.Popen] = []

    def start(*command: str) -> None:
        with open(at / f"{Path(command[0]).name}.out", "ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

    try:
        hosts.write_text(f"{known.rstrip()}\n127.0.0.1 {' '.join(NODES)}\n")
        if _run("pgrep", "-x", "munged"):
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge")
            subprocess.run(["su", "-s", "/bin/bash", "munge", "-c", "munged"], check=True)
        _database(at, start)
        accounting.write_text(ACCOUNTING.format(at=at))
        accounting.chmod(0o600)
        start("slurmdbd", "-D")
        _until(lambda: not _run("sacctmgr", "-n", "show", "cluster"), "slurmdbd")
        _run("sacctmgr", "-i", "add", "cluster", "trial")
        start("slurmctld", "-D", "-f", str(conf))
        for node in NODES:
            start("slurmd", "-D", "-f", str(conf), "-N", node)
        _until(lambda: subprocess.getoutput("sinfo -h -o %T%D") == f"idle{len(NODES)}", "two idle nodes")
        yield
    finally:
        subprocess.run(["scancel", "--user=root"], check=False)
        for process in reversed(started):  # the database last: the others still write to it
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
        hosts.write_text(known)


def _database(at: Path, start: Callable[..., None]) -> None:
    data, socket_file = at / "mysql", at / "mysql.sock"
    subprocess.run(
        ["mariadb-install-db", "--user=root", f"--datadir={data}"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    options = ("--bind-address=127.0.0.1", "--port=13306", "--innodb-buffer-pool-size=64M", "--user=root")
    start(
        "mariadbd",
        "--no-defaults",
        "--skip-log-bin",
        *options,
        f"--datadir={data}",
        f"--socket={socket_file}",
    )
    _until(lambda: not _run("mariadb-admin", "-S", str(socket_file), "ping"), "mariadbd")
    subprocess.run(["mariadb", "-S", str(socket_file), "-e", ACCOUNT], check=True)


def _run(*command: str) -> int:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"no answer within {PATIENCE} s: {what}")
        time.sleep(0.2)
