"""A collector that receives metrics over OTLP, and records their names and attributes."""

from __future__ import annotations

import gzip
import threading

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from tests.support.http_server import Handler, Server


class OtlpCollector(Server):
    """A collector that listens on a free port of the loopback interface."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: dict[str, set[tuple[str, str]]] = {}
        take = self._take

        class Exported(Handler):
            def do_POST(self) -> None:
                body = self.body()
                take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.respond(200)

        super().__init__(Exported)

    @property
    def endpoint(self) -> str:
        """Return the value for OTEL_EXPORTER_OTLP_METRICS_ENDPOINT."""
        return f"{self.url}/v1/metrics"

    @property
    def received(self) -> dict[str, set[tuple[str, str]]]:
        """Return every received metric by its name in Prometheus, with all attributes that it had."""
        with self._lock:
            return {name: set(attributes) for name, attributes in self._received.items()}

    def _take(self, body: bytes) -> None:
        request = ExportMetricsServiceRequest.FromString(body)
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    with self._lock:
                        self._received.setdefault(_prometheus_name(metric), set()).update(_attributes(metric))


def _prometheus_name(metric: Metric) -> str:
    is_counter = metric.WhichOneof("data") == "sum" and metric.sum.is_monotonic
    return metric.name.replace(".", "_") + ("_total" if is_counter else "")


def _attributes(metric: Metric) -> set[tuple[str, str]]:
    points = getattr(metric, metric.WhichOneof("data") or "gauge").data_points
    return {(each.key, each.value.string_value) for point in points for each in point.attributes}
