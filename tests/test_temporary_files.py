"""Nothing that the tests make stays among the temporary files of the machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.deploy.network import environment

WHERE = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]


def test_temporary_files_stand_in_the_folder_of_this_run_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run folders of tests in which something goes wrong on purpose stayed for ever: a dozen in each run."""
    own = tmp_path_factory.getbasetemp()
    assert Path(tempfile.gettempdir()).is_relative_to(own)
    for variables in (None, environment()):
        said = subprocess.run(WHERE, env=variables, capture_output=True, text=True, check=True).stdout.strip()
        assert Path(said).is_relative_to(own)
