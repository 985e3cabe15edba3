"""``python -m zmqlab.course``: grade one solution that comes as JSON on standard input; the answer is lines of JSON.

The protocol is that of :mod:`zmqlab.course.grading`, which starts this process. What the solution prints is collected,
so that it does not get between the lines.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from typing import Any, TextIO

from zmqlab.course.grading import PRINTED_MAX, Grade, grade_as_dict, title_of
from zmqlab.course.labs import find_lab
from zmqlab.course.submission import Submission, Unusable, Watch


def main() -> None:
    """Read the task, grade, and say so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent as well, which ends this process
    task = json.load(sys.stdin)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        made = judged(task, answers)
    made.printed = printed.getvalue().splitlines()[:PRINTED_MAX]
    _say(answers, {"grade": grade_as_dict(made)})


def judged(task: dict[str, Any], answers: TextIO) -> Grade:
    """The grade of a task."""
    lab = find_lab(task["lab"])
    made = Grade(lab=title_of(lab), outcome="not judged")
    try:
        with Watch(task["label"]):
            submission = Submission(task["source"], task["label"])
            made.finding = lab.judge(
                submission, lambda done, of: _say(answers, {"done": done, "of": of}), task["quick"]
            )
        made.outcome = "failed" if made.finding.failure else "passed"
    except Unusable as problem:
        made.problem = str(problem)
    return made


def _say(answers: TextIO, word: dict[str, Any]) -> None:
    answers.write(json.dumps(word) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
