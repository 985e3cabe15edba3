"""Runs that are kept: a folder for each, from which it is shown, compared with others and judged again.

A run under load ends with figures and a verdict. Here they go to a folder, with all that explains them: settings,
machine, a row for each second, events, what each fault cost, histograms, and the evidence that the verdict was passed
on. ``docs/runs.md`` lists the files. ``from zmqlab import Run`` is the door for people::

    load ──▶ kept_run (the folder) ──▶ run_pages  ──▶ one HTML page
                     │                    ▲  └─ run_charts (SVG)
                     └──▶ comparison ─────┘

The package measures nothing and judges nothing. It knows the lab (what was run, and which events are faults) and the
judge (what a verdict is passed on). It opens no sockets, and needs neither bokeh nor a notebook.

Modules, in reading order:

* :mod:`~zmqlab.runs.kept_run`: a run as an object: kept, read, listed, judged again; begin here.
* :mod:`~zmqlab.runs.kept_files`: the files of one repetition: their layout, how they are written and checked.
* :mod:`~zmqlab.runs.run_bands`: the times in a run in which something was broken, or no answer came.
* :mod:`~zmqlab.runs.comparison`: several runs side by side: figures, ratios, what differs in their settings.
* :mod:`~zmqlab.runs.page_shell`: the style sheet and the shell of all pages, and how a page is written.
* :mod:`~zmqlab.runs.kept_sweep`: a sweep of rates that is kept, shown with its knee, and compared.
* :mod:`~zmqlab.runs.kept_list`: what is kept in a folder, runs and sweeps, as a table.
* :mod:`~zmqlab.runs.run_charts`: charts as SVG: over time with faults, and by percentile.
* :mod:`~zmqlab.runs.run_pages`: a run, or several, as one HTML page that opens offline.
* :mod:`~zmqlab.runs.lamport_drawing`: Lamport diagrams as SVG: processes, messages between them, a story.
* :mod:`~zmqlab.runs.lamport`: a simulated run as such a picture.
* :mod:`~zmqlab.runs.trace_diagrams`: one order, or one election, of real processes as such a picture.

Import what you need from the modules; nothing is imported here.
"""
