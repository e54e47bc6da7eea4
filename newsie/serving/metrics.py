"""Metrics for Prometheus. Labels never hold text.

Every request is counted once in `newsie_http_requests_total`, under the status of its response (499 if the
client had disconnected), so that successes and failures add up to the total.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from newsie.inference.cascade import PassedOn
from newsie.inference.prediction import Prediction
from newsie.serving.batching import BatchReport
from newsie.version import __version__

__all__ = ["CONTENT_TYPE", "MULTIPROCESS_VARIABLE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The variable with the directory where workers add up metrics. Set it before this module is imported."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ARTICLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class Metrics:
    """The metrics of one app, in a registry of its own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "newsie_http_requests_total",
            "Requests that were answered.",
            ("route", "method", "code"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "newsie_request_duration_seconds",
            "From a request to classify or explain (POST) to its answer.",
            buckets=SECONDS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "newsie_queue_duration_seconds",
            "How long an article waited for its batch.",
            buckets=SECONDS,
            registry=registry,
        )
        self.inference_seconds = Histogram(
            "newsie_inference_duration_seconds",
            "How long the model took for a batch.",
            buckets=SECONDS,
            registry=registry,
        )
        self.queue_size = Gauge(
            "newsie_queue_size",
            "Articles that wait.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.batch_size = Histogram(
            "newsie_batch_size", "Articles of a batch.", buckets=ARTICLES, registry=registry
        )
        self.batch_tokens = Histogram(
            "newsie_batch_tokens",
            "Tokens of a batch, without padding.",
            buckets=TOKENS,
            registry=registry,
        )
        self.rejected = Counter(
            "newsie_rejected_total", "Requests that were refused.", ("reason",), registry=registry
        )
        self.predictions = Counter(
            "newsie_predictions_total",
            "Articles by the most probable label of a task.",
            ("task", "label"),
            registry=registry,
        )
        self.confidence = Histogram(
            "newsie_prediction_confidence",
            "Probability of the most probable label of a task.",
            ("task",),
            buckets=SHARES,
            registry=registry,
        )
        self.truncated = Counter(
            "newsie_truncated_inputs_total",
            "Articles whose end was not read.",
            registry=registry,
        )
        self.passed_on = Counter(
            "newsie_cascade_passed_on_total",
            "Articles that the small student of a cascade passed on to the larger one; compare with the "
            "sum of newsie_batch_size.",
            registry=registry,
        )
        self.model_loaded = Gauge(
            "newsie_model_loaded_timestamp_seconds",
            "When the model was loaded, as Unix time.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.build = Gauge(
            "newsie_build_info",
            "1 for the version and the model that answer.",
            ("version", "model"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._model = ""
        self._lock, self._passed_on = threading.Lock(), 0
        self._predictions = cache(self.predictions.labels)
        self._confidence = cache(self.confidence.labels)

    def render(self) -> bytes:
        """Return the metrics of all workers in the text format."""
        registry = self._registry
        if os.environ.get(MULTIPROCESS_VARIABLE):
            registry = CollectorRegistry()
            registry.register(_Workers())
        return generate_latest(registry)

    def answered(
        self, route: str, method: str, code: int, seconds: float, refused: str | None
    ) -> None:
        """Count a request that has ended, answered or not."""
        self.requests.labels(route, method, str(code)).inc()
        if method == "POST":  # fast probes and pages would hide slow requests
            self.request_seconds.observe(seconds)
        if refused is not None:
            self.rejected.labels(refused).inc()

    def loaded(self, fingerprint: str) -> None:
        """Record that a model was loaded and is now served."""
        if self._model and self._model != fingerprint:
            # Set to 0, as metrics that workers share cannot be removed.
            self.build.labels(__version__, self._model).set(0)
            if not os.environ.get(MULTIPROCESS_VARIABLE):
                self.build.remove(__version__, self._model)
        self._model, self._passed_on = fingerprint, 0
        self.build.labels(__version__, fingerprint).set(1)
        self.model_loaded.set(time.time())

    def batch(self, report: BatchReport) -> None:
        """Count a batch that was computed or failed."""
        self.batch_size.observe(report.articles)
        self.batch_tokens.observe(report.tokens)
        self.inference_seconds.observe(report.seconds)
        for wait in report.waits_seconds:
            self.queue_seconds.observe(wait)

    def cascade(self, count: PassedOn) -> None:
        """Update the count of the current cascade from its running total."""
        with self._lock:
            self.passed_on.inc(max(0, count.passed_on - self._passed_on))
            self._passed_on = count.passed_on

    def predicted(self, prediction: Prediction) -> None:
        """Count the prediction for an article."""
        for task, probabilities in prediction.probabilities.items():
            best = int(probabilities.argmax())
            self._predictions(task, prediction.labels[task].labels[best]).inc()
            self._confidence(task).observe(float(probabilities[best]))
        if prediction.truncated:
            self.truncated.inc()


class _Workers(Collector):
    """The metrics of all workers, without models that are no longer served."""

    def collect(self) -> Iterator[Metric]:
        for metric in MultiProcessCollector(None).collect():  # type: ignore[no-untyped-call]
            if metric.name == "newsie_build_info":
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric
