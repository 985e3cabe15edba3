"""One node as a process: sockets, a journal on disk, logs, signals, metrics, around an engine.

Everything that a node decides is in :mod:`zmqlab.engine`. This package gives it a world: ZeroMQ sockets, LMDB, the
clock, the operating system's signals.

Rules: one thread and one poll loop serve the node, without asyncio. (Scrapes, name look-ups and the doorkeeper have
threads of their own, which never touch what the loop works on.) A turn takes what has arrived, bounded per socket.
Nothing waits for a batch to fill. Every socket and every message is bounded in :mod:`~zmqlab.node.transport` before the
engine sees a frame.

In reading order:

* :mod:`~zmqlab.node.loop`: the loop between sockets and engine.
* :mod:`~zmqlab.node.transport`: the three bound sockets and the connections to peers, each bounded.
* :mod:`~zmqlab.node.doorkeeper`: ends connections that are too many, and those that send what is no message.
* :mod:`~zmqlab.node.lmdb_journal`: stable storage in LMDB.
* :mod:`~zmqlab.node.lmdb_transactions`: transactions of one group, and of all groups of a node at once.
* :mod:`~zmqlab.node.lmdb_pages`: the pages of LMDB's file, checked before LMDB maps them.
* :mod:`~zmqlab.node.bad_disk`: a disk that is slow or full on demand.
* :mod:`~zmqlab.node.journal_failures`: what a failure of the disk means, and what to do next.
* :mod:`~zmqlab.node.process`: from settings to a running process: log file, signals, exit statuses.
* :mod:`~zmqlab.node.options`: settings from flags, environment and a file; the page that explains them.
* :mod:`~zmqlab.node.exposition`: an HTTP endpoint for Prometheus and for probes.
* :mod:`~zmqlab.node.prometheus`: what a node tells Prometheus.
"""
