"""The registry of replications: names, a person's own classes, and what becomes of a name that leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmqlab.errors import SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.replica import RaftByQuorum
from zmqlab.replica.replications import REPLICATIONS, ReplicationKind, replication_of
from zmqlab.settings import NodeSettings

OWN = """
from zmqlab.replica import RaftByQuorum

class Mine(RaftByQuorum):
    '''Raft, under
    another name.

    And more.'''

not_a_class = 7
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    (tmp_path / f"{name}_broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [])
    return name


def test_the_default_is_raft_by_quorum() -> None:
    assert REPLICATIONS.find(NodeSettings(name="n", port=5_000).replication).make is RaftByQuorum


def test_a_persons_own_class_is_imported_from_the_current_folder(own_module: str) -> None:
    kind = REPLICATIONS.find(f"{own_module}:Mine")
    assert issubclass(kind.make, RaftByQuorum)  # type: ignore[arg-type]
    assert kind.promises == "Raft, under another name."


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (":Yours", "AttributeError: module"),
        ("_missing:Mine", "ModuleNotFoundError: No module named"),
        ("_broken:Mine", "ZeroDivisionError: division by zero"),
        (":not_a_class", "is no class: it is 7"),
    ],
)
def test_a_class_that_is_not_there_is_one_line(own_module: str, rest: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        REPLICATIONS.find(own_module + rest)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_is_taken_once() -> None:
    kind = REPLICATIONS.register(ReplicationKind(name="mine", make=RaftByQuorum, promises="All.", loses="Nothing."))
    try:
        assert REPLICATIONS.find("mine") is kind
        assert REPLICATIONS.known("mine") in list(REPLICATIONS)
        with pytest.raises(ValueError, match="choose another name"):
            REPLICATIONS.register(kind)
    finally:
        REPLICATIONS.remove("mine")
    assert REPLICATIONS.known("mine") is None


@pytest.mark.parametrize(
    ("name", "ack", "chosen"),
    [
        ("raft", "quorum", "raft"),
        ("raft", "leader", "leader-ack"),
        ("raft", "none", "raft"),
        ("leader-ack", "leader", "leader-ack"),
        ("broadcast", "quorum", "broadcast"),
    ],
)
def test_an_ack_is_a_choice_of_replication(name: str, ack: str, chosen: str) -> None:
    assert replication_of(name, ack) == chosen  # type: ignore[arg-type]


def test_wrong_choices_are_refused_before_anything_starts() -> None:
    with pytest.raises(SettingsError, match="ack is 'all': choose quorum, leader or none"):
        Cluster(ack="all")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="answers in its own way"):
        Cluster(ack="leader", replication="broadcast")
    with pytest.raises(SettingsError, match="replication 'paxos': choose raft"):
        Cluster(replication="paxos")
    with pytest.raises(SettingsError, match="write raft, or module:Class"):
        NodeSettings(name="n", port=5_000, replication="../x")
