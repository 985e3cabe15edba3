"""The judge: was an acknowledged order lost, was one applied twice, do all nodes agree?

A verdict is passed on evidence: what clients were told, what the nodes' log holds, and what the nodes say of their
state. Evidence comes from sockets and plain values. This package does not know how a cluster was started or broken, so
it judges nodes of any process, and it must not trust the code that it judges: it replays the log by rules that were
written a second time.

Modules, in reading order:

* :mod:`~zmqlab.judge.verdict`: passes the verdict, and puts it beside the figures of a run; begin here.
* :mod:`~zmqlab.judge.promises`: what is promised, one pure function for each promise.
* :mod:`~zmqlab.judge.log_checks`: what is promised of the log itself, and what a part of it still shows.
* :mod:`~zmqlab.judge.real_time`: what times on one clock say about the order of requests and reads.
* :mod:`~zmqlab.judge.thresholds`: limits that a caller sets on the figures of a run.
* :mod:`~zmqlab.judge.run_evidence`: all that a verdict is passed on, of one Raft group or of several.
* :mod:`~zmqlab.judge.evidence`: takes it from the client's ledger and the living nodes, at the end of a run.
* :mod:`~zmqlab.judge.log_collector`: reads the log along while the run goes on.
* :mod:`~zmqlab.judge.live_count`: what is lost so far, and what was applied twice, counted while a run goes on.
* :mod:`~zmqlab.judge.log_differences`: from which index on the logs of two nodes differ.
* :mod:`~zmqlab.judge.replay`: reads the log a second time: which requests count, and what a naive book answers.

Import what you need from the modules; nothing is imported here.
"""
