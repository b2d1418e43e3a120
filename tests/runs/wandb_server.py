"""A stand-in for the W&B server on localhost: runs, history, artifacts, files, sweeps and their agents.

It answers what the client asks for here, by the name of each request, and refuses everything else by name. So it
shows that what we send is whole, and that the client's own paths work: resuming, `wandb sync`, retries, agents,
the public API. It does not show that the real server agrees. It checks no key, no length of a name, no quota and
no type; it draws nothing and samples nothing; it believes the client where the real one may not. Its answers were
learned from the client's requests (wandb 0.31), not from the server's source.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import yaml

ENTITY = "tester"
PATIENCE = 120.0  # seconds for what a test waits for, on a machine that has other things to do
Json: TypeAlias = dict[str, Any]


@dataclass
class Run:
    id: str
    project: str = ""
    name: str = ""
    group: str = ""
    sweep: str = ""
    tags: list[str] = field(default_factory=list)
    config: Json = field(default_factory=dict)
    summary: Json = field(default_factory=dict)
    history: list[Json] = field(default_factory=list)
    state: str = "running"


@dataclass
class Artifact:
    id: str
    run: str
    project: str
    collection: str
    type: str
    digest: str
    version: int
    metadata: str
    committed: bool = False


@dataclass
class Sweep:
    config: Json
    issued: int = 0


class Store:
    """All that the server was told. It outlives the server's death."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.agents: dict[str, str] = {}  # of which sweep
        self.refused: list[str] = []  # requests that nobody here answers
        self.url = ""
        self.changed = threading.Condition()  # held while a request is answered

    def wait(self, what: Callable[[], bool]) -> None:
        """Until it is so."""
        with self.changed:
            assert self.changed.wait_for(what, PATIENCE), "the server was not told in time"

    def artifact_of(self, run: str) -> Artifact:
        """The newest that is whole."""
        return [a for a in self.artifacts.values() if a.run == run and a.committed][-1]

    def file(self, owner: str, name: str) -> Path:
        """Where an uploaded file of a run or an artifact lies."""
        return self.folder / owner / name

    def address(self, owner: str, name: str) -> str:
        return f"{self.url}/files/{owner}/{quote(name)}"


Answer: TypeAlias = Callable[[Store, Json], Any]
ANSWERS: dict[str, Answer] = {}


def answers(*requests: str) -> Callable[[Answer], Answer]:
    def register(answer: Answer) -> Answer:
        ANSWERS.update(dict.fromkeys(requests, answer))
        return answer

    return register


def listed(nodes: list[Json]) -> Json:
    """A page that is all of the list."""
    page = {"endCursor": None, "hasNextPage": False}
    edges = [{"node": node, "cursor": ""} for node in nodes]
    return {"totalCount": len(nodes), "pageInfo": page, "edges": edges}


# ---- runs ---------------------------------------------------------------------------------------------------


@answers("UpsertBucket")
def upsert_run(store: Store, v: Json) -> Json:
    new = v["name"] not in store.runs
    run = store.runs.setdefault(v["name"], Run(v["name"]))
    told = {
        "project": "project",
        "displayName": "name",
        "groupName": "group",
        "sweep": "sweep",
        "tags": "tags",
    }
    for theirs, ours in told.items():
        if v.get(theirs):
            setattr(run, ours, v[theirs])
    if v.get("config"):
        run.config = json.loads(v["config"])
    return {"upsertBucket": {"bucket": as_bucket(run), "inserted": new}}


@answers("RunResumeStatus")
def resumed_run(store: Store, v: Json) -> Json:
    run = store.runs.get(v["name"])
    return {"model": {"bucket": run and as_bucket(run)}}


def as_project(name: str) -> Json:
    return {"id": "p1", "internalId": "1", "name": name, "entity": {"id": "e1", "name": ENTITY}}


def as_bucket(run: Run) -> Json:
    """A run, as the client asks for it when it opens one."""
    tail = json.dumps([json.dumps(row) for row in run.history[-1:]])
    counts = {"historyLineCount": len(run.history), "eventsLineCount": 0, "logLineCount": 0}
    texts = {"summaryMetrics": json.dumps(run.summary), "config": json.dumps(run.config), "historyTail": tail}
    fixed = {"eventsTail": "[]", "wandbConfig": '{"t": {"1": []}}', "project": as_project(run.project)}
    return {"id": run.id, "name": run.id, "displayName": run.name, "tags": run.tags} | counts | texts | fixed


def stream(store: Store, run: Run, sent: Json) -> None:
    """History lines from a given one on, the summary, and at last the exit status."""
    for name, chunk in (sent.get("files") or {}).items():
        lines = [json.loads(line) for line in chunk["content"]]
        if name == "wandb-history.jsonl":
            run.history[chunk["offset"] :] = lines
        elif name == "wandb-summary.json":
            run.summary = lines[-1]
    if sent.get("complete"):
        run.state = "finished" if sent.get("exitcode") == 0 else "failed"


@answers("CreateRunFiles")
def run_files(store: Store, v: Json) -> Json:
    files = [{"name": name, "uploadUrl": store.address(v["run"], name)} for name in v["files"]]
    return {"createRunFiles": {"runID": v["run"], "uploadHeaders": [], "files": files}}


@answers("Runs")
def runs(store: Store, v: Json) -> Json:
    """Of a project; the one filter known here is by tag."""
    there = [run for run in store.runs.values() if run.project == v["project"]]
    if not there:
        return {"project": None}
    tag = json.loads(v["filters"]).get("tags")
    nodes = [as_node(run) for run in there if tag is None or tag in run.tags]
    return {"project": as_project(v["project"]) | {"runCount": len(nodes), "runs": listed(nodes)}}


def as_node(run: Run) -> Json:
    """A run, as the public API asks for it."""
    told = {"id": run.id, "name": run.id, "displayName": run.name, "state": run.state, "group": run.group}
    return told | {"projectId": "1", "tags": run.tags, "sweepName": run.sweep or None}


# ---- artifacts ----------------------------------------------------------------------------------------------


@answers("CreateArtifact")
def create_artifact(store: Store, v: Json) -> Json:
    given = v["input"]
    name = given["artifactCollectionName"]
    version = sum(a.collection == name for a in store.artifacts.values())
    key = f"{name}-v{version}"
    told = given["runName"], given["projectName"], name, given["artifactTypeName"], given["digest"]
    store.artifacts[key] = Artifact(key, *told, version, given.get("metadata") or "{}")
    sequence = {"id": name, "latestArtifact": None}
    return {"createArtifact": {"artifact": {"id": key, "state": "PENDING", "artifactSequence": sequence}}}


@answers("ArtifactType")
def type_before(store: Store, v: Json) -> Json:
    """Of an artifact that was logged before under this name: nothing is refused here for having another type."""
    return {"project": {"artifact": None}}


@answers("CreateArtifactManifest")
def artifact_manifest(store: Store, v: Json) -> Json:
    key = v["artifactID"]
    url = store.address(key, MANIFEST) if v.get("includeUpload") else None
    file = {"id": "m1", "name": v["name"], "displayName": "", "uploadUrl": url, "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": f"manifest-{key}", "file": file}}}


MANIFEST = "manifest.json"


@answers("CreateArtifactFiles")
def artifact_files(store: Store, v: Json) -> Json:
    nodes = []
    for asked in v["input"]["artifactFiles"]:
        key, name = asked["artifactID"], asked["name"]
        node = {"id": f"{key}/{name}", "name": name, "displayName": name, "storagePath": name}
        node |= {"uploadUrl": store.address(key, name), "uploadHeaders": [], "uploadMultipartUrls": None}
        nodes.append(node | {"artifact": {"id": key}})
    return {"createArtifactFiles": {"files": listed(nodes)}}


@answers("CommitArtifact")
def commit_artifact(store: Store, v: Json) -> Json:
    artifact = store.artifacts[v["artifactID"]]
    artifact.committed = True
    return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}


@answers("RunOutputArtifacts")
def artifacts_of_run(store: Store, v: Json) -> Json:
    """The newest first: no order is promised."""
    there = [a for a in reversed(store.artifacts.values()) if a.run == v["run"]]
    return {"project": {"run": {"artifacts": listed([as_artifact(a) for a in there])}}}


def as_artifact(artifact: Artifact) -> Json:
    """What the public API asks of an artifact, most of which is of no interest here."""
    sequence = {"__typename": "ArtifactSequence", "name": artifact.collection}
    sequence["project"] = as_project(artifact.project)
    fixed = {"description": None, "ttlDurationSeconds": 0, "ttlIsInherited": True, "tags": [], "aliases": []}
    fixed |= {"historyStep": None, "size": 0, "fileCount": 0, "commitHash": None, "updatedAt": None}
    told = {
        "versionIndex": artifact.version,
        "artifactType": {"name": artifact.type},
        "digest": artifact.digest,
    }
    told |= {"metadata": artifact.metadata, "state": "COMMITTED" if artifact.committed else "PENDING"}
    told |= {"createdAt": "2026-01-01T00:00:00Z"}
    return {"__typename": "Artifact", "id": artifact.id, "artifactSequence": sequence} | fixed | told


@answers("FetchArtifactManifest")
def manifest_address(store: Store, v: Json) -> Json:
    return {"artifact": {"currentManifest": {"file": {"directUrl": store.address(v["id"], MANIFEST)}}}}


@answers("GetArtifactMembershipFileUrls")
def file_addresses(store: Store, v: Json) -> Json:
    key = f"{v['collection']}-{v['alias']}"
    names = json.loads(store.file(key, MANIFEST).read_text())["contents"]
    nodes = [{"__typename": "File", "name": name, "directUrl": store.address(key, name)} for name in names]
    collection = {"__typename": "ArtifactSequence", "artifactMembership": {"files": listed(nodes)}}
    return {"project": {"artifactCollection": collection}}


# ---- sweeps -------------------------------------------------------------------------------------------------


@answers("UpsertSweep")
def upsert_sweep(store: Store, v: Json) -> Json:
    name = f"sweep{len(store.sweeps)}"
    store.sweeps[name] = Sweep(yaml.safe_load(v["config"]))
    sweep = {"id": name, "name": name, "project": as_project(v["projectName"])}
    return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}


@answers("Sweep", "SweepWithRuns")
def sweep(store: Store, v: Json) -> Json:
    name = v.get("sweep") or v["name"]
    config = store.sweeps[name].config
    told = {
        "id": name,
        "name": name,
        "method": config["method"],
        "state": "RUNNING",
        "config": json.dumps(config),
    }
    none = dict.fromkeys(("description", "heartbeatAt", "updatedAt", "controller", "scheduler"))
    fixed = {"createdAt": "2026-01-01T00:00:00", "runCount": 0, "runs": listed([]), "priorRuns": listed([])}
    return {"project": {"sweep": told | none | fixed}}


@answers("CreateAgent")
def create_agent(store: Store, v: Json) -> Json:
    key = f"agent{len(store.agents)}"
    store.agents[key] = v["sweep"]
    return {"createAgent": {"agent": {"id": key}}}


@answers("Heartbeat")
def heartbeat(store: Store, v: Json) -> Json:
    """The next point of the grid for an agent that is idle, and after the last one the word to leave."""
    busy = any(json.loads(v.get("runState") or "{}").values())
    commands = [] if busy else [next_trial(store.agents[v["id"]], store)]
    return {"agentHeartbeat": {"agent": {"id": v["id"]}, "commands": json.dumps(commands)}}


def next_trial(name: str, store: Store) -> Json:
    sweep = store.sweeps[name]
    axes = [
        [(key, x) for x in p.get("values", [p.get("value")])] for key, p in sweep.config["parameters"].items()
    ]
    left = list(itertools.product(*axes))[sweep.issued :]
    if not left:
        return {"type": "exit"}
    sweep.issued += 1
    args = {key: {"value": value} for key, value in left[0]}
    program = sweep.config["program"]
    return {"type": "run", "run_id": f"{name}-trial{sweep.issued}", "program": program, "args": args}


# ---- who is asking ------------------------------------------------------------------------------------------


@answers("Viewer", "GetDefaultEntity", "ServerInfo", "ServerFeaturesQuery")
def viewer(store: Store, v: Json) -> Json:
    user = {"id": "u1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "admin": False}
    user |= {"teams": listed([{"name": ENTITY}]), "apiKeys": listed([])}
    versions = {"max_cli_version": "9.9.9"}
    info = {"cliVersionInfo": versions, "latestLocalVersionInfo": None, "features": []}
    return {"viewer": user, "serverInfo": info}


# ---- HTTP ---------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listener  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: object) -> None: ...

    def reply(self, data: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def uploaded(self) -> Path:
        _, _, owner, name = unquote(self.path).split("/", 3)
        return self.server.store.file(owner, name)

    def do_GET(self) -> None:
        there = self.path.startswith("/files/") and self.uploaded().is_file()
        self.reply(self.uploaded().read_bytes() if there else b"", 200 if there else 404)

    def do_PUT(self) -> None:
        file, data = self.uploaded(), self.body()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self.reply(b"")

    def do_POST(self) -> None:
        data, store = self.body(), self.server.store
        with store.changed:
            store.changed.notify_all()
            if self.path.endswith("/file_stream"):
                stream(store, store.runs[self.path.split("/")[4]], json.loads(data))
                self.reply(b"{}")
            elif self.path == "/graphql":
                self.reply(*self.graphql(json.loads(data)))
            else:
                self.reply(b"{}")

    def graphql(self, asked: Json) -> tuple[bytes, int]:
        found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
        name = found[1] if found else asked["query"]
        if name not in ANSWERS:
            self.server.store.refused.append(asked["query"])
            return json.dumps({"errors": [{"message": f"the stand-in does not know {name}"}]}).encode(), 400
        answer = ANSWERS[name](self.server.store, asked.get("variables") or {})
        return json.dumps({"data": answer}).encode(), 200


class Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, store: Store) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.store = store
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None: ...  # a client that was killed


class WandbServer:
    """The server as a test sees it: it can die and come back, at the same address, with what it was told."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.port = 0
        self.start()

    def start(self) -> None:
        self._listener = Listener(self.port, self.store)
        self.port = self._listener.server_port
        self.store.url = f"http://127.0.0.1:{self.port}"
        # It looks for the word to stop 100 times a second: a test waits for that.
        threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        for connection in list(self._listener.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
