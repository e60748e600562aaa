"""What one gateway process counts, and how it is at the moment: for `GET /metrics`.

Labels take few values, all of them known beforehand: stores by their configured names, operations,
codes, routes as they are written in the route table. Never an id, a name of an object, a URL.
docs/metrics.md lists everything.
"""

import logging
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from . import __version__
from .backends.metered import Operation

PREFIX = "storage_gateway_"
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Upper bounds of the buckets that times are counted in."""
CUT_OFF = "cut_off"
"""Instead of a status: the answer did not come to its end, or there was nobody left to hear it."""

Labels = tuple[str, ...]
Values = Iterable[tuple[Labels, float]]
Ask = Callable[[], Values]
_Family = GaugeMetricFamily | CounterMetricFamily

logger = logging.getLogger(__name__)


class Metrics:
    """The metrics of one gateway; another one in the same process has its own."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._states = _States()
        self._registry.register(self._states)
        self._operations = Histogram(
            f"{PREFIX}store_operation_seconds",
            "Operations of stores, by how they ended",
            ("store", "operation", "outcome"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._bytes = Counter(
            f"{PREFIX}store_bytes",
            "Bytes of blobs that stores took and gave",
            ("store", "direction"),
            registry=self._registry,
        )
        self._requests = Histogram(
            f"{PREFIX}request_seconds",
            "Requests until their answer was complete, or cut off",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.gauge("build", "Always 1", ("version",), lambda: [((__version__,), 1)])

    def observe_store(self, done: Operation) -> None:
        """Count an operation of a store; may be called from any thread."""
        self._operations.labels(done.store, done.operation, done.outcome).observe(done.seconds)
        if done.sent:
            self._bytes.labels(done.store, "sent").inc(done.sent)
        if done.received:
            self._bytes.labels(done.store, "received").inc(done.received)

    def observe_request(self, method: str, route: str, status: str, seconds: float) -> None:
        """Count a request that has ended; ``route`` is the path as the route table has it, and
        ``status`` that of its answer, or `CUT_OFF`.
        """
        self._requests.labels(method, route, status).observe(seconds)

    def gauge(self, name: str, text: str, labels: Labels, ask: Ask) -> None:
        """Have ``ask`` say how something is whenever somebody wants to know."""
        self._states.add(lambda: GaugeMetricFamily(PREFIX + name, text, labels=labels), ask)

    def counter(self, name: str, text: str, labels: Labels, ask: Ask) -> None:
        """Have ``ask`` say how often something was so far, likewise."""
        self._states.add(lambda: CounterMetricFamily(PREFIX + name, text, labels=labels), ask)

    def text(self) -> bytes:
        """Return all of them, in the text format of Prometheus."""
        return generate_latest(self._registry)


class _States(Collector):
    """What is asked for at the moment in which somebody wants to know."""

    def __init__(self) -> None:
        self._asked: list[tuple[Callable[[], _Family], Ask]] = []

    def add(self, make: Callable[[], _Family], ask: Ask) -> None:
        self._asked.append((make, ask))

    def collect(self) -> Iterator[Metric]:
        """Yield what can be told: the others are not to be lost with one that cannot."""
        for make, ask in self._asked:
            family = make()
            try:
                for labels, value in ask():
                    family.add_metric(labels, value)
            except Exception:
                logger.exception("metric not told", extra={"metric": family.name})
                continue
            yield family
