"""Runs functions of the widgets' JavaScript without a page, by the Node.js that playwright brings along."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import playwright

from zmqlab.widgets.live_figure import page_text

NODE = Path(playwright.__file__).parent / "driver" / "node"
LOOP = """
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
    let answer;
    try { answer = { value: (0, eval)(JSON.parse(line)) }; } catch (error) { answer = { error: String(error) }; }
    const plain = (key, value) => value instanceof Map ? [...value] : Number.isNaN(value) ? "NaN" : value;
    process.stdout.write(JSON.stringify(answer, plain) + "\\n");
});
"""


class JavaScript:
    """A process that has read some files of ``zmqlab/widgets``, and works out expressions. Maps come as pairs."""

    def __init__(self, *names: str) -> None:
        code = "\n".join(map(page_text, names)).replace("\nconst ", "\nvar ")  # eval sees no const of another script
        self._process = subprocess.Popen(
            [str(NODE), "-e", f"(0, eval)({json.dumps(code)});{LOOP}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, expression: str, **values: Any) -> Any:
        """The value of ``expression``, in which the names of ``values`` may stand."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        names = ", ".join(values)
        code = f"(({names}) => ({expression}))({', '.join(map(json.dumps, values.values()))})"
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)
