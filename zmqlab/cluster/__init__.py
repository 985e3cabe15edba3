"""Clients of a running cluster: single orders and questions.

* :mod:`~zmqlab.cluster.queries`: ask one node or all of them a question.
* :mod:`~zmqlab.cluster.client`: send single orders, each of which counts exactly once.
* :mod:`~zmqlab.cluster.bare_client`: send single requests without retries, so that a chapter can show what retries do.
"""
