"""The command line: one function for each command, and no decision of its own.

:func:`main` turns every foreseen failure into one line on standard error and an exit status: 2 for wrong arguments, a
:class:`~zmqlab.errors.ZmqlabError`'s own for the rest, 1 for an answer that is no (a verdict that fails) and for output
that can't be written. Heavy modules are imported inside the commands, so that ``--help`` and usage errors come at once.

This module imports nothing heavy: before the imports begin, which take half a second on a small machine, it decides
what a signal does. So Ctrl-C in the midst of them is one line, too, and process 1 of a container, to which the system
delivers no signal that it has not asked for, ends at SIGTERM from the first moment.

Modules, in reading order:

* :mod:`~zmqlab.cli.command_line`: all commands together, and what their errors are on standard error.
* :mod:`~zmqlab.cli.node_commands`: ``node``, ``keys``, ``status``, ``book``, ``scale``, ``remove``, ``ps``, ``reap``.
* :mod:`~zmqlab.cli.load_commands`: ``quick`` and ``client``.
* :mod:`~zmqlab.cli.sweep_command`: ``sweep``: a rising rate, up to the knee.
* :mod:`~zmqlab.cli.trace_commands`: ``trace``.
* :mod:`~zmqlab.cli.run_commands`: ``runs``, ``report``, ``compare`` and ``judge``.
* :mod:`~zmqlab.cli.fault_commands`: ``run``, ``sim`` and ``torture``.
* :mod:`~zmqlab.cli.course_commands`: ``grade``.
* :mod:`~zmqlab.cli.notebook_commands`: ``lab`` and ``demo``: the chapters in JupyterLab, the panel in a browser.

What a person sees:

* :mod:`~zmqlab.cli.output`: what commands print, with colours in a terminal; JSON; options that commands share.
* :mod:`~zmqlab.cli.terminal`: a run while it goes on: the whole screen of a terminal, or a line a second.
* :mod:`~zmqlab.cli.live_view`: what that screen says, from readings.
* :mod:`~zmqlab.cli.final_report`: what a command says at the end, with the verdict in the last line.
* :mod:`~zmqlab.cli.styled_lines`: lines of styled text that fit a width, and bars.

``python -m zmqlab.cli`` is the same as the ``zmqlab`` command.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and return its exit status."""
    from zmqlab.cli.command_line import carry_out

    return carry_out(arguments)


def main() -> None:
    """The ``zmqlab`` command. SIGTERM, and the end of its terminal, end it as Ctrl-C does, also as process 1."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one of them
                signal.signal(number, signal.default_int_handler)
        from zmqlab.cli.command_line import carry_out_and_flush

        status = carry_out_and_flush(sys.argv[1:])
    except KeyboardInterrupt:  # in the imports, or a second one while the first is obeyed
        print("zmqlab: interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    sys.exit(status)
