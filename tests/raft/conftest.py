"""``pytest tests/raft --rewrite`` rewrites the transcripts of the golden scripts. Commit only a diff that you can
explain.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="rewrite the transcripts of tests/raft/scripts")
