"""What a client of a cluster needs: sessions that survive the failure of any node, and questions to nodes.

A client keeps a session with the cluster. The session numbers its requests, sends a request again until it is answered,
and the replicas apply each number once (Raft thesis, 6.3). The load generator,
:class:`~zmqlab.client.order_client.Client` and the simulator's clients all run the same session.

The package knows the wire format and nothing of a node's inside: no Raft, no replica, no journal. Three of its modules
are free of I/O, so that the simulator can run them in virtual time: ``roster``, ``retries`` and ``session`` import no
ZeroMQ and read no clock. Nothing is imported here for the same reason.

Modules, in reading order:

* :mod:`~zmqlab.client.roster`: which nodes there are and which one leads, by the nodes' own statuses.
* :mod:`~zmqlab.client.retries`: which node a request goes to, and when it is sent again.
* :mod:`~zmqlab.client.session`: one session: its numbers, its window, its answers; the core that has no I/O.
* :mod:`~zmqlab.client.request_traces`: what a client's sessions send and hear, as traces.
* :mod:`~zmqlab.client.connections`: a session, or several, on ZeroMQ sockets.
* :mod:`~zmqlab.client.ask`: one question to one node, to any node or to all nodes.
* :mod:`~zmqlab.client.order_client`: ``Client``, for single orders and questions.
* :mod:`~zmqlab.client.bare_client`: ``BareClient``, which sends each frame once and leaves the rest to its caller.
"""
