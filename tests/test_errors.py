"""How an operating failure is told in a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmqlab.errors import ClusterError

pytest.importorskip("IPython", reason="the extra [lab] is not installed")
CELL = """from zmqlab import Cluster
cluster = Cluster()
cluster.kill("node0")
"""


def test_a_reader_of_a_notebook_sees_the_line_of_the_cell_and_not_the_way_through_the_package(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message stood below thirty lines of a traceback."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    shell.run_cell(CELL)
    said = capsys.readouterr().out.strip().splitlines()
    assert said[-2] == 'line 3 of the cell: cluster.kill("node0")'
    assert said[-1].startswith("ClusterError: the cluster has not been started")
    assert not any("lab/cluster.py" in line for line in said)


def test_where_no_cell_is_concerned_the_way_is_shown() -> None:
    with pytest.raises(ClusterError) as raised:
        raise ClusterError("no")
    said = "".join(raised.value._render_traceback_())
    assert "test_errors.py" in said
    assert said.endswith("ClusterError: no\n")
