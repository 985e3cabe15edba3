"""One node as a process: sockets, a journal on disk, metrics, and the one loop that drives a replica.

Rules: one thread, one poll loop, no asyncio. A turn takes what has arrived, bounded per socket, lets the replica work,
and looks again; nothing waits for a batch to fill. Everything that a stranger can send is checked in
:mod:`~zmqlab.node.transport` and :mod:`~zmqlab.node.node` before the replica sees it.

* :mod:`~zmqlab.node.transport`: the three bound sockets and the connections to peers, each bounded.
* :mod:`~zmqlab.node.journal`: stable storage in LMDB.
* :mod:`~zmqlab.node.node`: the loop; frames in, effects out.
* :mod:`~zmqlab.node.queries`: what people and tools ask.
* :mod:`~zmqlab.node.metrics`: the snapshot that is published ten times a second.
* :mod:`~zmqlab.node.process`: start, ports, exit statuses, log file.
"""
