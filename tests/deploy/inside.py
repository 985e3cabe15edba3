"""A client in a network that tests made, with keys (its argument): takes questions as lines of JSON, answers each with
one.

``["statuses", [endpoint, ...]]``, ``["load", rate, [endpoint, ...]]``, ``["finish"]``: the load's end and its verdict.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from zmqlab import LoadClient, keys
from zmqlab.client import ask
from zmqlab.names import known_endpoints

ANSWER_TIMEOUT_S = 0.3


class Inside:
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.load: LoadClient | None = None

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
        self.load = LoadClient(list(known_endpoints(endpoints)), rate=rate, duration=None, keys=self._folder)
        self.load.start()
        return list(self.load.settings.nodes)

    def finish(self) -> Any:
        assert self.load is not None
        self.load.stop()
        result = self.load.wait()
        self.load.close()
        total = result.total
        return {
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
    calls = {"statuses": inside.statuses, "load": inside.load_, "finish": inside.finish}
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"is": calls[name](*arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
