"""The service in one file: event-sourced, in memory, with Python's standard library only.

A write takes three steps: decide on the state which events it makes, append these to the log of
the graph, apply them to the state. Answers are read from the state. The log alone gives the state
again: a changeset is decided on such a copy, so that a rejection leaves nothing behind.

Level: `core` of `fencepost conformance`. `fencepost bench run` also needs the list of jobs, and
changesets of puts; here a changeset must keep the rules after each operation, not only after
the last, and puts that undo each other count as a change. Left out: a log on disk, single
edges, PATCH and POST of a job, DELETE of a dataset, other preconditions than `If-Match: *` on
DELETE of a graph, idempotency keys, dry runs, the list of datasets, limits of size. A write
that asks for one of these is refused.

    python3 examples/python/event_sourced.py --port 9000
    fencepost conformance --target http://127.0.0.1:9000 --level core
    fencepost bench run --target python=http://127.0.0.1:9000 --target-survives python=nothing
"""

import argparse
import hashlib
import json
import re
import signal
import sys
import threading
from collections import defaultdict, namedtuple
from graphlib import TopologicalSorter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote_to_bytes

Verbatim = namedtuple("Verbatim", "text")  # a number with the client's digits, or canonical JSON
Job = namedtuple("Job", "inputs outputs spec", defaults=((), (), "{}"))  # spec: canonical JSON
# What a client asks for. If it changes the graph, it is also the event in the log. The value of
# `put_job` is a Job, that of `put_dataset` is the metadata as canonical JSON.
Operation = namedtuple("Operation", "kind name value", defaults=("", None))
encode_scalar = json.JSONEncoder(ensure_ascii=False).encode


class Problem(Exception):
    def __init__(self, status, kind, **members):
        self.status, self.body = status, {"type": f"urn:fencepost:problem:{kind}", "title": kind}
        self.body |= {"status": status, "detail": f"The request was refused: {kind}"} | members


def malformed(at):
    return Problem(400, "malformed", at=at)


def read_members(pairs):
    """A set, which is no JSON, if a member comes twice."""
    members = dict(pairs)
    return members if len(members) == len(pairs) else set(members)


def parse(raw):
    hooks = {"object_pairs_hook": read_members, "parse_int": Verbatim, "parse_float": Verbatim}
    try:
        return json.loads(raw.decode(), parse_constant=int, **hooks)  # int refuses NaN
    except (ValueError, RecursionError):
        raise malformed("body") from None


def canonical(value, levels=64):
    if isinstance(value, Verbatim):
        return value.text
    if not isinstance(value, (dict, list, tuple)):
        return encode_scalar(value)
    if levels == 0:
        raise ValueError("too many levels")
    if not isinstance(value, dict):
        return "[" + ",".join(canonical(item, levels - 1) for item in value) + "]"
    members = (f"{encode_scalar(m)}:{canonical(value[m], levels - 1)}" for m in sorted(value))
    return "{" + ",".join(members) + "}"


def sha256(lines):
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_members(body, *allowed):
    if not isinstance(body, dict) or body.keys() - set(allowed):
        raise malformed("body")
    return body


def check_name(name, at):
    if not isinstance(name, str):
        raise malformed("body")
    no_text = re.search("[\0-\x1f\x7f-\x9f\ud800-\udfff]", name)
    if no_text or name in (".", "..") or not 1 <= len(name.encode()) <= 512:
        raise Problem(422, "invalid_name", at=at)
    return name


def read_names(body, member, prefix=""):
    if member not in body:
        raise malformed(prefix + member)
    if not isinstance(body[member], list):
        raise malformed("body")
    checked = {check_name(n, f"{prefix}{member}[{i}]") for i, n in enumerate(body[member])}
    return tuple(sorted(checked))


def read_object(body, member, prefix):
    try:
        text = canonical(body.get(member, {}))
        text.encode()  # refuses half of a surrogate pair
    except (ValueError, TypeError):
        text = ""
    if not text.startswith("{"):
        raise malformed(prefix + member)
    return text


def read_put(kind, name, body, *ignored, prefix=""):
    """`prefix` is the place of the operation in a changeset, as `operations[1].`"""
    lists, member = (("inputs", "outputs"), "spec") if kind == "put_job" else ((), "metadata")
    check_members(body, "name", *lists, member, *ignored)
    if body.get("name", name) != name:
        raise malformed("name")
    values = [read_names(body, names, prefix) for names in lists]
    text = read_object(body, member, prefix)
    return Operation(kind, name, Job(*values, text) if lists else text)


def read_changeset(body):
    items = check_members(body, "operations").get("operations")
    if not isinstance(items, list):
        raise malformed("operations" if items is None else "body")
    for i, item in enumerate(items):
        prefix = f"operations[{i}]."
        if not isinstance(item, dict) or item.get("op") not in ["put_job", "put_dataset"]:
            raise malformed("body")
        if "name" not in item:
            raise malformed(prefix + "name")
        name = check_name(item["name"], prefix + "name")
        yield read_put(item["op"], name, item, "op", prefix=prefix)


class State:
    def __init__(self, graph, log=()):
        self.graph, self.version, self.exists = graph, 0, False
        for version, events in log:
            self.apply(version, events)

    def apply(self, version, events):
        self.version = version
        for kind, name, value in events:
            match kind:
                case "create_graph" | "delete_graph":
                    self.exists = kind == "create_graph"
                    self.jobs, self.job_versions = {}, {}
                    self.metadata = {}  # of declared datasets
                    self.consumers, self.producers = defaultdict(set), {}
                case "put_job":
                    self.set_edges(name, value)
                    self.jobs[name], self.job_versions[name] = value, version
                case "delete_job":
                    self.set_edges(name, Job())
                    del self.jobs[name], self.job_versions[name]
                case "put_dataset":
                    self.metadata[name] = value

    def set_edges(self, name, job):
        old = self.jobs.get(name, Job())
        for dataset in old.inputs:
            self.consumers[dataset].discard(name)
            if not self.consumers[dataset]:
                del self.consumers[dataset]
        for dataset in old.outputs:
            del self.producers[dataset]
        for dataset in job.inputs:
            self.consumers[dataset].add(name)
        self.producers |= dict.fromkeys(job.outputs, name)

    def has_dataset(self, name):
        return name in self.metadata or name in self.consumers or name in self.producers

    def rejection(self, status, kind, **members):
        return Problem(status, kind, graph=self.graph, version=self.version, **members)

    def check_exists(self, kind, name, **members):
        if not (name in self.jobs if kind == "job" else self.has_dataset(name)):
            raise self.rejection(404, f"{kind}_not_found", name=name, **members)

    # Reads, by name and by the query or body of the request: the body of the answer

    def read_graph(self, *_):
        datasets = self.metadata.keys() | self.consumers.keys() | self.producers.keys()
        edges = sum(len(job.inputs) + len(job.outputs) for job in self.jobs.values())
        sizes = {"jobs": len(self.jobs), "datasets": len(datasets), "edges": edges}
        return sizes | {"state": "open", "moved_to": None, "storage": "memory"}

    def read_digest(self, *_):
        lines = [f"dataset\t{name}\t{sha256(text)}\n" for name, text in self.metadata.items()]
        for name, job in self.jobs.items():
            lines.append(f"job\t{name}\t{sha256(job.spec)}\n")
            lines += [f"in\t{name}\t{dataset}\n" for dataset in job.inputs]
            lines += [f"out\t{name}\t{dataset}\n" for dataset in job.outputs]
        return {"digest": sha256(sorted(lines))}

    def read_job(self, name, *_):
        self.check_exists("job", name)
        inputs, outputs, spec = self.jobs[name]
        body = {"name": name, "inputs": inputs, "outputs": outputs, "spec": Verbatim(spec)}
        return body | {"version": self.job_versions[name]}

    def read_jobs(self, _, query):
        limit = query.get("limit", "100")
        if not re.fullmatch("[1-9][0-9]{0,2}|1000", limit):
            raise malformed("limit")
        names = sorted(name for name in self.jobs if name > query.get("cursor", ""))
        shown = names[: int(limit)]
        cursor = shown[-1] if len(shown) < len(names) else None
        return {"items": [self.read_job(name) for name in shown], "next_cursor": cursor}

    def read_dataset(self, name, *_):
        self.check_exists("dataset", name)
        consumers = sorted(self.consumers.get(name, ()))
        body = {"name": name, "producer": self.producers.get(name), "consumers": consumers}
        metadata = Verbatim(self.metadata.get(name, "{}"))
        return body | {"declared": name in self.metadata, "metadata": metadata}

    def read_plan(self, _, body):
        members = ("datasets", "jobs", "stop_at")
        check_members(body, *members)
        datasets, jobs, stop_at = (read_names({member: []} | body, member) for member in members)
        if not datasets and not jobs:
            raise malformed("datasets")
        for kind, names in ("dataset", datasets), ("job", jobs):
            for name in names:
                self.check_exists(kind, name)
        producer = self.producers.get

        def producers(names):
            return {producer(name) for name in names if name not in stop_at} - {None}

        targets = producers(datasets) | set(jobs)
        found = distances(targets, lambda job: producers(self.jobs[job].inputs))
        inputs = {job: self.jobs[job].inputs for job in found}
        before = {job: {producer(name) for name in inputs[job]} & found.keys() for job in found}
        sorter, stages = TopologicalSorter(before), []
        sorter.prepare()
        while sorter.is_active():
            stages.append(sorted(sorter.get_ready()))
            sorter.done(*stages[-1])
        order = [job for stage in stages for job in stage]
        dependencies = sorted((first, job) for job in found for first in before[job])
        lines = [f"job\t{k}\t{job}\n" for k, stage in enumerate(stages) for job in stage]
        lines += [f"dep\t{first}\t{job}\n" for first, job in dependencies]
        body = {"targets": sorted([*datasets, *jobs]), "jobs": order, "stages": stages}
        sources = sorted({d for read in inputs.values() for d in read if producer(d) not in found})
        return body | {"dependencies": dependencies, "sources": sources, "digest": sha256(lines)}


class Graph:
    def __init__(self, name):
        self.log, self.state = [], State(name)

    def write(self, operations):
        """Whether the graph changed, and whether something came to be that was not there."""
        state = self.state if len(operations) == 1 else State(self.state.graph, self.log)
        events, created = [], False
        for number, operation in enumerate(operations):
            made, creates = decide(state, number, operation)
            events += made
            created |= creates
            if state is not self.state:
                state.apply(state.version, made)
        if events:
            version = self.state.version + (events[0].kind != "create_graph")
            self.log.append((version, events))
            self.state.apply(version, events)
        return bool(events), created


def decide(state, number, operation):
    """The events that an operation makes, and whether what it puts was not there."""
    kind, name, value = operation
    if kind == "create_graph":
        return [] if state.exists else [operation], True
    if kind == "put_job":
        old = state.jobs.get(name)
        if old is None or old[:2] != value[:2]:
            check_edges(state, number, name, value)
        return [] if old == value else [operation], old is None
    if kind == "put_dataset":
        is_there = state.metadata.get(name) == value
        return [] if is_there else [operation], not state.has_dataset(name)
    if kind == "delete_job":
        state.check_exists("job", name, operation=number)
    return [operation], False


def check_edges(state, number, name, job):
    for dataset in job.outputs:
        other = state.producers.get(dataset, name)
        if other != name:
            members = {"dataset": dataset, "producer": other, "job": name, "operation": number}
            raise state.rejection(409, "second_producer", **members)

    def steps(other):
        """Pairs (dataset, next job) of the graph in which `job` has been put."""
        for dataset in job.outputs if other == name else state.jobs[other].outputs:
            if dataset in job.inputs:
                yield dataset, name
            for reader in state.consumers.get(dataset, ()):
                if reader != name:
                    yield dataset, reader

    away = distances([name], lambda other: [reader for _, reader in steps(other)])
    before = {}  # job: the jobs that it depends on
    for other in away:
        for _, reader in steps(other):
            before.setdefault(reader, []).append(other)
    if name not in before:
        return
    back = distances([name], before.get)
    length = 1 + min(away[other] for other in before[name])
    start = min(other for other in back if other == name or away[other] + back[other] == length)
    back, cycle = distances([start], before.get), [start]
    for left in reversed(range(length)):
        cycle += min(pair for pair in steps(cycle[-1]) if back.get(pair[1]) == left)
    raise state.rejection(409, "cycle", cycle=cycle, operation=number)


def distances(starts, following):
    """Each job that is reached from `starts`, and in how many steps."""
    found, queue = dict.fromkeys(starts, 0), list(starts)
    for job in queue:
        for other in following(job):
            if other not in found:
                found[other] = found[job] + 1
                queue.append(other)
    return found


READS = {
    "GET": State.read_graph,
    "GET digest": State.read_digest,
    "GET jobs": State.read_jobs,
    "GET jobs *": State.read_job,
    "GET jobs * plan": lambda state, name, _: state.read_plan(name, {"jobs": [name]}),
    "GET datasets *": State.read_dataset,
    "GET datasets * plan": lambda state, name, _: state.read_plan(name, {"datasets": [name]}),
    "POST plans": State.read_plan,
}
UNREAD = ("declared", "producer", "consumers")  # members that GET of a dataset adds
WRITES = {
    "PUT": lambda _, body: [Operation("create_graph", **check_members(body))],
    "DELETE": lambda *_: [Operation("delete_graph")],
    "PUT jobs *": lambda name, body: [read_put("put_job", name, body, "version")],
    "DELETE jobs *": lambda name, _: [Operation("delete_job", name)],
    "PUT datasets *": lambda name, body: [read_put("put_dataset", name, body, *UNREAD)],
    "POST changesets": lambda _, body: list(read_changeset(body)),
}
UNSUPPORTED = ("If-Match", "If-None-Match", "Idempotency-Key")


def read_path(method, path):
    """The route, the graph, and the job or dataset."""
    segments = path.split("/")[3:]
    route = " ".join([method] + ["*" if i == 1 else s for i, s in enumerate(segments[1:])])
    if "" in segments or re.search("%(?![0-9A-Fa-f]{2})", path):
        raise malformed("path")
    if not path.startswith("/v1/graphs/") or route not in READS | WRITES:
        raise Problem(404, "route_not_found", name=path)
    try:
        names = [unquote_to_bytes(s.encode("latin-1")).decode() for s in segments[:3:2]]
    except UnicodeDecodeError:
        raise malformed("path") from None
    graph = check_name(names[0], "graph")
    return route, graph, check_name(names[1], segments[1][:-1]) if names[1:] else None


class Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    wbufsize = -1  # head and body of an answer leave together
    graphs, lock = {}, threading.Lock()

    def respond(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, body, headers = self.answer(raw)
        except Problem as problem:
            status, body = problem.status, problem.body
            headers = {"Content-Type": "application/problem+json"}
            if "version" in body:
                headers["Fencepost-Version"] = body["version"]
        data = canonical(body).encode()
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": len(data)} | headers
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = respond

    def answer(self, raw):
        path, _, query = self.path.partition("?")
        route, name, subject = read_path(self.command, path)
        if raw and self.headers.get_content_type() != "application/json":
            raise Problem(415, "unsupported_media_type", supported=["application/json"])
        query = dict(parse_qsl(query, keep_blank_values=True))
        content = query if self.command in ("GET", "DELETE") else parse(raw or b"{}")
        refused = [*query] + [name.lower() for name in UNSUPPORTED if name in self.headers]
        deletes_any = route == "DELETE" and self.headers.get("If-Match") == "*"
        if route in WRITES and refused != ["if-match"] * deletes_any:
            raise malformed(refused[0])
        operations = WRITES[route](subject, content) if route in WRITES else []
        with self.lock:
            graph = self.graphs.get(name) or Graph(name)
            if route == "PUT":
                self.graphs[name] = graph
            elif not graph.state.exists:
                raise Problem(404, "graph_not_found", name=name)
            state = graph.state
            if route in READS:
                body = READS[route](state, subject, content)
                if "name" not in body:
                    body |= {"graph": name, "version": state.version}
                tag = f'"{body.get("version", state.version)}"'
                return 200, body, {"Fencepost-Version": state.version, "ETag": tag}
            changed, created = graph.write(operations)
            version = state.job_versions[subject] if route == "PUT jobs *" else state.version
            tag = None if self.command == "DELETE" else f'"{version}"'
            body = {"graph": name, "version": state.version, "changed": changed, "etag": tag}
            tag_header = {"ETag": tag} if route == "POST changesets" else {}
            headers = {"Fencepost-Version": state.version} | tag_header
            return 201 if changed and created else 200, body, headers

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    port = parser.parse_args().port
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    ThreadingHTTPServer.request_queue_size = 128  # with 5, the default, a client may wait 1 s
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
