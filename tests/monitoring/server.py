"""A real Prometheus for tests: the project's own configuration and rules, in a hurry."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE_S
from zmqlab.lab.hosts import free_base_ports

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
CONFIG, RULES = DEPLOY / "prometheus" / "prometheus.yml", DEPLOY / "prometheus" / "alerts.yml"

SCRAPE = "200ms"
HOLD = "600ms"
"""Instead of every ``for``: three evaluations."""
RATE_OVER = "2s"
"""Instead of 15 s, and instead of Grafana's ``$__rate_interval``."""

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no prometheus here: `apt-get install prometheus` (Debian), or put prometheus and promtool on the PATH",
)

Sample = tuple[dict[str, str], float]


def hurried_rules(text: str) -> str:
    """The rules with short waits. Thresholds and expressions stay what they are; the true waits are promtool's test."""
    text = _replaced(r"interval: 1s", f"interval: {SCRAPE}", text)
    text = _replaced(r"for: \d+s", f"for: {HOLD}", text)
    return _replaced(r"\[15s\]", f"[{RATE_OVER}]", text)


def hurried_config(text: str, targets: Path) -> str:
    """The configuration with short waits, and with the targets of a test."""
    text = _replaced(r"_interval: 1s", f"_interval: {SCRAPE}", text)
    text = _replaced(r"scrape_timeout: 900ms", f"scrape_timeout: {SCRAPE}", text)
    return _replaced(re.escape('"../../run/prometheus/*.json"'), f'"{targets}/*.json"', text)


def _replaced(pattern: str, new: str, text: str) -> str:
    changed, count = re.subn(pattern, new, text)
    assert count, f"{pattern} is not there: this helper no longer fits the file"
    return changed


class Prometheus:
    """A running server with all that it has in ``folder``, which scrapes what ``targets/*.json`` list."""

    def __init__(self, folder: Path, targets: Path) -> None:
        (folder / "prometheus.yml").write_text(hurried_config(CONFIG.read_text(), targets))
        (folder / "alerts.yml").write_text(hurried_rules(RULES.read_text()))
        (port,) = free_base_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--storage.tsdb.min-block-duration=2h",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self.wait_until(self._is_ready, "Prometheus is ready")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def query(self, expression: str) -> list[Sample]:
        """An instant vector. A question that Prometheus refuses fails the test with its words."""
        data = self._get("/api/v1/query", query=expression)
        assert data["resultType"] == "vector", expression
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def value(self, expression: str) -> float:
        """The only sample; NaN if there is none."""
        samples = self.query(expression)
        assert len(samples) <= 1, (expression, samples)
        return samples[0][1] if samples else float("nan")

    def rules(self) -> list[dict[str, Any]]:
        """All rules, as loaded."""
        groups = self._get("/api/v1/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Alert -> the labels of each that fires."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in self._get("/api/v1/alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    def wait_until(self, look: Any, what: str, timeout_s: float = PATIENCE_S) -> None:
        """Return when ``look()`` is true; else fail, saying ``what`` did not happen."""
        deadline = time.monotonic() + timeout_s
        while not look():
            assert self._process.poll() is None, Path(self._log.name).read_text()
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
            time.sleep(0.05)

    def await_alert(self, name: str, timeout_s: float = PATIENCE_S, **labels: str) -> None:
        """Return when an alert with these labels fires."""

        def fires() -> bool:
            return any(labels.items() <= each.items() for each in self.firing().get(name, []))

        self.wait_until(fires, f"{name} fires for {labels}", timeout_s)

    def await_calm(self, timeout_s: float = PATIENCE_S, cluster: str = "") -> None:
        """Return when no alert of the cluster fires."""

        def is_calm() -> bool:
            return not any(each["cluster"] == cluster for alerts in self.firing().values() for each in alerts)

        self.wait_until(is_calm, f"no alert fires any more: {self.firing()}", timeout_s)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self._url + "/-/ready", timeout=30):
                return True
        except OSError:
            return False

    def _get(self, path: str, **arguments: str) -> Any:
        query = urllib.parse.urlencode(arguments)
        try:
            with urllib.request.urlopen(f"{self._url}{path}?{query}", timeout=PATIENCE_S) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{arguments}: {json.load(error)['error']}") from None
