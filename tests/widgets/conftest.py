"""Fixtures of the widgets' tests: a cluster without processes, a sampler that turns by hand, a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from tests.widgets.fake_cluster import FakeCluster
from zmqlab.lab.cluster import Cluster
from zmqlab.widgets import sampler as samplers
from zmqlab.widgets.sampler import Sampler

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    made = FakeCluster()
    yield made
    made.stop()


@pytest.fixture
def sampler(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sampler]:
    """The cluster's sampler; no thread turns it, the test does, also for the widgets that are made of the cluster."""
    monkeypatch.setattr(Sampler, "start", lambda self: self)
    made = samplers.sampler_of(cast(Cluster, cluster))
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    from tests.widgets.browser import CHROMIUM, FLAGS

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield started
        started.close()
