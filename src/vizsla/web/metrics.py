"""`/metrics`: what a server does and how its project stands, for Prometheus.

Requests are counted by each server as they come. The project is looked at when someone asks, so all servers of a
project say the same of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from vizsla.errors import DatabaseAway
from vizsla.project import Project
from vizsla.standing import Standing, standing
from vizsla.store.overview import TRAINING

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
STATES = ("embedding", "idle", "training", "failed")
_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # the page's budgets are among them


class Metrics:
    """The figures of one server. Args: listeners: how many browsers listen to its news."""

    def __init__(self, project: Project, listeners: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Standing(project, listeners))
        self._seconds = Histogram(
            "vizsla_request_seconds",
            "Seconds until the answer to a request began; status 5xx are errors of ours.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._seconds.labels(method, route, str(status)).observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus's text format."""
        return generate_latest(self._registry)


class _Standing(Collector):
    """The project and its queue at the moment someone asks."""

    def __init__(self, project: Project, listeners: Callable[[], int]) -> None:
        self._project = project
        self._listeners = listeners

    def describe(self) -> list[Metric]:
        return []  # or the registry would ask the database as soon as this is registered

    def collect(self) -> Iterator[Metric]:
        yield _gauge("event_streams", "Browsers that listen to this server.", self._listeners())
        try:
            found = [*_of_labels(self._project), *_of_training(self._project)]
        except DatabaseAway:
            found = []
        yield _gauge("database_up", "1 where the database answers, else 0.", bool(found))
        yield from found


def _of_labels(project: Project) -> Iterator[Metric]:
    store = project.store
    counts, (leases, annotators) = store.counts(), store.held()
    images = GaugeMetricFamily(
        "vizsla_images", "Images that are there, by the answer that stands.", labels=["status"]
    )
    for status in ("unlabelled", "labelled", "skipped", "flagged"):
        images.add_metric([status], getattr(counts, status))
    yield images
    yield CounterMetricFamily(
        "vizsla_answers", "Answers and undos ever written.", value=store.pulse().label_id
    )
    yield _gauge("queue_images", "Unanswered images that nobody holds.", max(0, counts.unlabelled - leases))
    yield _gauge("open_leases", "Images that annotators hold.", leases)
    yield _gauge("active_annotators", "Annotators who hold images.", annotators)


def _of_training(project: Project) -> Iterator[Metric]:
    now, said = standing(project), project.store.setting(TRAINING) or {}
    state = GaugeMetricFamily("vizsla_training_state", "1 for what the trainer does.", labels=["state"])
    for name in STATES:
        state.add_metric([name], said.get("state") == name)
    yield state
    yield _gauge("labels_to_next_model", "Labels until the next model is due.", now.labels_to_next)
    yield from _of_model(now)


def _of_model(now: Standing) -> Iterator[Metric]:
    """Of the model whose ranking people follow; nothing before the first."""
    if now.model is None:
        return
    yield _gauge("model_version", "Version of the model that ranks.", now.model.version)
    yield _gauge("model_labels", "Labels that it was trained on.", now.model.labels_used)
    if "seconds" in now.model.metrics:
        yield _gauge("training_seconds", "How long its training took.", now.model.metrics["seconds"])
    if now.accuracy is not None:
        yield _gauge("model_accuracy", "Its accuracy by random checks, as a fraction.", now.accuracy.value)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"vizsla_{name}", about, value=float(value))
