"""Build it yourself: five labs in which a person writes the missing piece, and a grader judges it.

A lab asks for one function or class: a client that retries, the vote rule, the commit rule, an order book, a mode of
acknowledgement. The grader puts it in the place of the real one and runs it, in the simulator under all its faults, or
against the naive exchange. It says *passed*, or names the seed that fails, tells its story and draws it.

In a notebook (``notebooks/labs``)::

    %load_ext zmqlab.course

    %%grade vote
    def grant_vote(me, request):
        ...

In a terminal ``zmqlab grade vote my_vote.py`` does the same, or ``zmqlab grade 2 my_vote.py``.

Rules. A person's code runs in a process of its own, since it may never end. What the person wrote is never blamed on
the simulator, and the reverse: an exception of that code is told with its line, and is not a broken promise.

Modules, in reading order:

* :mod:`~zmqlab.course.labs`: the five labs, by number and by name.
* :mod:`~zmqlab.course.submission`: a person's code: loaded, called, and stopped when it does not return.
* :mod:`~zmqlab.course.seeds`: many simulated runs with a piece in the place of the real one.
* :mod:`~zmqlab.course.raft_pieces`: the vote rule, the commit rule and the mode of acknowledgement, and their places.
* :mod:`~zmqlab.course.retrying_client`: a simulated client whose retries are a person's.
* :mod:`~zmqlab.course.book_duel`: an order book beside the naive one, and the shortest sequence in which they differ.
* :mod:`~zmqlab.course.grading`: the process that grades, what it says meanwhile, and the grade that is shown.

``python -m zmqlab.course`` is that process.
"""

from __future__ import annotations

from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext zmqlab.course``: the notebook gets the cell magic ``%%grade``."""
    from zmqlab.course.grading import grade_cell

    shell.register_magic_function(grade_cell(shell), "cell", "grade")
