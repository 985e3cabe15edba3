"""The fake clusters of the client's tests."""

from tests.client.conftest import MakeNodes, log, make_nodes

__all__ = ["MakeNodes", "log", "make_nodes"]
