"""``client``: load a cluster that runs already, and judge it."""

from __future__ import annotations

from pathlib import Path

import typer

from zmqlab.cli.common import JSON_OPTION, NODES_OPTION, node_list
from zmqlab.errors import SettingsError
from zmqlab.settings import is_loopback, parse_duration, parse_rate

HISTORY_OPTION = typer.Option(None, "--history", help="Write all operations there, one JSON line each.", metavar="FILE")


def client(
    nodes: str = NODES_OPTION,
    rate: str = typer.Option("5000", "--rate", help="Orders a second, as in 5000 or 20k; max finds saturation."),
    duration: str = typer.Option("10s", "--duration", help="How long to send, as in 10s or 2m."),
    seed: int = typer.Option(1, "--seed", help="Makes the order flow and its schedule repeatable."),
    node_choice: str = typer.Option(
        "random", "--node-choice", help="Which node an order goes to: random, round-robin or leader."
    ),
    arrivals: str = typer.Option("poisson", "--arrivals", help="The schedule: poisson or constant."),
    symbols: int = typer.Option(16, "--symbols", help="How many symbols are traded."),
    clients: int = typer.Option(1, "--clients", help="How many clients share the rate, each with its own session."),
    history: Path | None = HISTORY_OPTION,
    allow_compacted: bool = typer.Option(
        False, "--allow-compacted", help="Pass even if the log's beginning is gone, so that not all can be checked."
    ),
    metrics_port: int | None = typer.Option(
        None, "--metrics-port", min=1, max=65_535, help="Show /metrics to Prometheus on this port while it runs."
    ),
    bind: str = typer.Option("127.0.0.1", "--bind", help="The address for --metrics-port."),
    insecure: bool = typer.Option(False, "--insecure", help="Allow --bind to let others in, unencrypted."),
    as_json: bool = JSON_OPTION,
) -> int:
    """Load running nodes with orders, show it live, and check every promise at the end.

    All nodes in the list that run at the end must agree. The exit status is 0 only if the verdict passes.
    """
    endpoints = node_list(nodes)
    parse_rate(rate)
    parse_duration(duration)
    if not (is_loopback(bind) or insecure):
        raise SettingsError(f"metrics on {bind} let others in, unencrypted: bind to 127.0.0.1, or say --insecure")
    from zmqlab.cli.progress import show_progress
    from zmqlab.cli.quick import report
    from zmqlab.lab.load_client import LoadClient

    load = LoadClient(
        endpoints,
        rate=rate,
        duration=duration,
        seed=seed,
        node_choice=node_choice,
        arrivals=arrivals,
        symbols=symbols,
        clients=clients,
        history=history,
        allow_compacted=allow_compacted,
        metrics_port=metrics_port,
        metrics_host=bind,
    )
    with load:
        load.start()
        show_progress(load, load.feed, to_stderr=as_json)
        result = load.wait()
    return report(result, as_json, "")
