"""A client in a network that tests made, with keys (its argument): takes questions as lines of JSON, answers each with
one.

``["statuses", [endpoint, ...]]``, ``["load", rate, [endpoint, ...]]``, ``["finish"]``: the load's end and its verdict.
``["attach", [endpoint, ...]]`` is what a notebook does; after it ``["seen"]`` tells what it sees, and ``["load", rate,
[]]`` loads that cluster. ``["get", url]`` is what a probe asks for.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from zmqlab import Cluster, LoadClient, keys
from zmqlab.client import ask
from zmqlab.names import known_endpoints

ANSWER_TIMEOUT_S = 0.3


class Inside:
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.load: LoadClient | None = None
        self.cluster: Cluster | None = None

    def attach(self, endpoints: list[str]) -> Any:
        self.cluster = Cluster.attach(endpoints, keys=self._folder)
        return list(self.cluster.nodes)

    def seen(self) -> Any:
        """Which nodes are heard, which one leads, how far each is behind, and what has happened."""
        assert self.cluster is not None
        newest, running = self.cluster.feed.newest(), self.cluster.running
        return {
            "heard": list(running),
            "leader": self.cluster.feed.leader_among(running),
            "applied": {name: status.applied_index for name, status in newest.items()},
            "lag": {name: status.lag for name, status in newest.items()},
            "events": [[event.kind, event.node] for event in self.cluster.feed.events()],
        }

    def statuses(self, endpoints: list[str]) -> Any:
        """Endpoint -> what that node says of itself."""
        return {
            endpoint: {
                "name": status.name,
                "node_id": status.node_id,
                "role": status.role,
                "term": status.term,
                "applied": status.applied_index,
                "voters": {str(each.node_id): f"{each.host}:{each.port}" for each in status.members if each.voter},
                "members": len(status.members),
            }
            for endpoint, status in ask.statuses(endpoints, ANSWER_TIMEOUT_S).items()
        }

    def load_(self, rate: float, endpoints: list[str]) -> Any:
        """Begin to send orders; names stand for all their addresses."""
        if endpoints:
            self.load = LoadClient(list(known_endpoints(endpoints)), rate=rate, duration=None, keys=self._folder)
        else:
            assert self.cluster is not None
            self.load = LoadClient(self.cluster, rate=rate, duration=None)
        self.load.start()
        return list(self.load.settings.nodes)

    def get(self, url: str) -> Any:
        """The status of an answer over HTTP, as a probe asks for it."""
        with contextlib.suppress(HTTPError), urlopen(url, timeout=2) as answer:
            return answer.status
        return 503

    def finish(self) -> Any:
        assert self.load is not None
        self.load.stop()
        result = self.load.wait()
        incidents = self.load.judged.incidents
        self.load.close()
        total = result.total
        return {
            "incidents": [[each.title, each.elected_ms, each.silence_ms] for each in incidents],
            "seconds": result.report.result.elapsed_s,
            "ok": result.verdict.ok,
            "verdict": repr(result.verdict),
            "acknowledged": total.acknowledged,
            "failed": total.failed,
            "longest_gap_ms": result.longest_gap_ms,
            "longest_gap_at_s": result.report.result.longest_gap_at_s,
            "p50_ms": result.response_time.p50_ms,
            "p99_ms": result.response_time.p99_ms,
        }


def main() -> None:
    folder = sys.argv[1]
    keys.use(folder)
    inside = Inside(folder)
    calls: dict[str, Callable[..., Any]] = {"statuses": inside.statuses, "load": inside.load_, "finish": inside.finish}
    calls |= {"attach": inside.attach, "seen": inside.seen, "get": inside.get}
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"is": calls[name](*arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
