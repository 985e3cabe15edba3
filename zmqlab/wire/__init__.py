"""The wire: bytes to messages and back. The only package that knows the layout of a frame.

A frame is one ZeroMQ message: a header of eight bytes and a body. Bodies come in three kinds. Orders and their answers
are fixed-width records, because they are many. Raft messages are fixed-width structs with bytes appended. Queries,
answers, metrics and events are msgpack maps, because people and dashboards read them and fields are added.

Rules:

* A frame that does not parse raises :class:`~zmqlab.errors.FrameError` and no other exception. Its receiver counts it
  and drops it, so nothing from a socket can stop a node.
* Lengths and counts are checked against the bytes that are there, before anything is stored.
* The meaning of an order is not judged here: the exchange rejects a senseless one, on every node alike.
* No socket and no clock. It imports the messages of :mod:`zmqlab.raft`, the records of :mod:`zmqlab.market` and
  msgspec.

``docs/wire-format.md`` describes the format for other languages; a test compares it with this package.

Modules, in reading order:

* :mod:`~zmqlab.wire.frames`: the header, the types of frames, and the bounds of their sizes
* :mod:`~zmqlab.wire.records`: commands, reports and fills as fixed-width records
* :mod:`~zmqlab.wire.client`: requests, sessions and responses; their frames field by field, for people
* :mod:`~zmqlab.wire.traces`: what processes saw of sampled requests and of elections; which requests, and how many
* :mod:`~zmqlab.wire.control`: queries, answers, metrics, events and trades as msgpack
* :mod:`~zmqlab.wire.peer`: Raft messages, forwarded requests and HELLO, between nodes

Left out: encryption and identities of processes, which belong to the sockets (:mod:`zmqlab.net`).
"""
