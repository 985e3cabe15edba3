"""What a table of statuses says of its nodes together."""

from __future__ import annotations

import msgspec
import pytest

from tests.monitoring.fakes import a_status
from zmqlab.tables import NodeState, StatusTable, html_table, text_table
from zmqlab.wire.node_status import Member


@pytest.mark.parametrize(
    ("exchanges", "said"),
    [
        ([], ""),
        (["", ""], ""),
        (["compiled", "compiled"], "compiled"),
        (["python", ""], "python"),
        (["python", "compiled", "python"], "compiled on node1; python on node0, node2"),
    ],
)
def test_which_exchange_matches_orders(exchanges: list[str], said: str) -> None:
    states = []
    for number, exchange in enumerate(exchanges):
        status = a_status()
        status.exchange = exchange
        states.append(NodeState(f"node{number}", "tcp://127.0.0.1:5002", "running", status))
    states.append(NodeState("gone", "tcp://127.0.0.1:5102", "silent"))
    assert StatusTable(tuple(states)).exchange == said


def test_a_lost_majority_is_named_with_the_members_that_are_silent() -> None:
    """At 80 columns the endpoint of a dead node was broken into two lines, and nothing said why none led."""
    status = a_status()
    status.name, status.role, status.leader_id, status.shards = "node0", "pre_candidate", 0, 1
    status.members = [
        Member(node_id=number + 1, name=f"node{number}", host="127.0.0.1", port=5_000 + 100 * number)
        for number in range(3)
    ]
    endpoints = [f"tcp://127.0.0.1:{port}" for port in (5_002, 5_102, 5_202)]
    said = StatusTable.of_answers(endpoints, {endpoints[0]: status}).text(80).splitlines()
    assert [line.split()[:3] for line in said[-4:-1]] == [
        ["node0", "running", "pre_candidate"],
        ["node1", "silent", "-"],
        ["node2", "silent", "-"],
    ]
    assert said[-1] == "no node leads: 1 node answers, and a majority of 3 is 2. Start another one"
    alone = StatusTable.of_answers(endpoints[:1], {endpoints[0]: status})
    assert "no node leads" not in alone.text(), "the others were not asked"
    status.members += [
        Member(node_id=number + 1, name=f"node{number}", host="127.0.0.1", port=5_000 + 100 * number)
        for number in (3, 4)
    ]
    five = [f"tcp://127.0.0.1:{5_002 + 100 * number}" for number in range(5)]
    assert StatusTable.of_answers(five, {five[0]: status}).text(80).endswith("a majority of 5 is 3. Start 2 others")
    del status.members[3:]
    second = msgspec.structs.replace(status, name="node1")
    table = StatusTable.of_answers(endpoints, {endpoints[0]: status, endpoints[1]: second})
    assert "no node leads" not in table.text(), "an election may go on"
    assert "no node leads" not in StatusTable.of_answers(endpoints, {}).text(), "that is not known"


HEAD = ("fault", "times", "gap median ms", "recovery worst s")
ROWS = [("mixed scale up, leader killed", 2, "1,204", "20.1"), ("calm", "-", "34", "-")]


def test_a_table_without_a_width_has_a_line_for_each_row() -> None:
    assert text_table(HEAD, ROWS).splitlines() == [
        "fault                          times  gap median ms  recovery worst s",
        "mixed scale up, leader killed      2          1,204              20.1",
        "calm                               -             34                 -",
    ]
    assert text_table(HEAD, ROWS, 80) == text_table(HEAD, ROWS), "it fits"


def test_headings_give_way_first_and_then_texts_between_words() -> None:
    assert text_table(HEAD, ROWS, 60).splitlines() == [
        "fault                          times     gap  recovery",
        "                                      median   worst s",
        "                                          ms",
        "mixed scale up, leader killed      2   1,204      20.1",
        "calm                               -      34         -",
    ]
    assert text_table(HEAD, ROWS, 46).splitlines()[3:] == [
        "mixed scale up, leader       2  1,204     20.1",
        "killed",
        "calm                         -     34        -",
    ]


@pytest.mark.parametrize("width", range(16, 80))
def test_a_table_is_never_wider_than_its_width(width: int) -> None:
    assert max(map(len, text_table(HEAD, ROWS, width).splitlines())) <= width


def test_in_a_notebook_text_stands_at_the_left_and_figures_where_the_page_has_them() -> None:
    """The evidence of a verdict, a sentence in each row, was set to the right."""
    shown = html_table(HEAD, ROWS)
    assert shown.count("text-align:left") == 3
    assert '<th style="text-align:left">fault</th><th>times</th>' in shown
    assert '<td style="text-align:left">calm</td><td>-</td>' in shown
    assert "style" not in html_table(HEAD, ROWS, aligned=False)
    assert html_table((), [("a", "<b>")], aligned=False).endswith(
        "<tr><td>a</td><td>&lt;b&gt;</td></tr></tbody></table>"
    )
