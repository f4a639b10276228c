"""The agent's protocol (agent/agent.go) for clients in Python."""

import base64
import json
import os
import sys
import threading
import time


class NoFeature(Exception):
    """The client has no such feature."""


left = threading.Event()
_out = threading.Lock()


def emit(kind, **event):
    with _out:
        sys.stdout.write(json.dumps({"kind": kind, **event}) + "\n")
        sys.stdout.flush()


def plain(b):
    """Bytes of JSON: None is null."""
    return None if b is None else base64.b64decode(b)


def coded(b):
    return None if b is None else base64.b64encode(b).decode()


def records(job):
    """The job's records, with bytes for bytes and None for what is not set."""
    for r in job["records"] or []:
        headers = [(h["key"], plain(h["value"])) for h in r["headers"] or []]
        yield plain(r["key"]), plain(r["value"]), headers, r["time"] or None


def record(partition, offset, key, value, headers, when):
    return {
        "partition": partition, "offset": offset, "key": coded(key), "value": coded(value), "time": when,
        "headers": [{"key": k, "value": coded(v)} for k, v in headers or []] or None,
    }


def paced(job):
    """Numbers to send, one each job["every"] milliseconds, until the job ends."""
    n = job["first"]
    while not left.is_set():
        yield n, n % job["count"], str(n).encode()
        n += 1
        time.sleep(job["every"] / 1000)


def _watch():
    sys.stdin.read()
    left.set()


def serve(operations):
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch, daemon=True).start()
    done = {}
    try:
        if job["op"] not in operations:
            raise NoFeature("the client has no such feature")
        done = operations[job["op"]](job) or {}
    except NoFeature as e:
        done = {"error": str(e), "none": True}
    except Exception as e:  # whatever the client raises is its answer
        done = {"error": "%s: %s" % (type(e).__name__, e)}
    emit("done", **done)
    sys.stdout.flush()
    os._exit(0)  # a client's threads may outlive it
