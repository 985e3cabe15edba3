"""A lab for distributed systems: ZeroMQ, Raft and limit order books, run, broken and measured live."""
