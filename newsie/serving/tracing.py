"""OpenTelemetry traces, sent if the environment names a collector. They hold times and routes, never text."""

from __future__ import annotations

import os

from fastapi import FastAPI

from newsie.errors import MissingExtraError

__all__ = ["trace"]

VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
NOT_TRACED = "/health,/metrics,/ping"


def trace(app: FastAPI) -> None:
    """Send a span for each request to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names, if any.

    Raises:
        MissingExtraError: a collector is named, but the extra `trace` is not installed.
    """
    if not any(os.environ.get(name) for name in VARIABLES):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError(
            f"tracing ({' or '.join(VARIABLES)} is set)", str(error.name), "trace"
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME", "newsie")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=provider, excluded_urls=NOT_TRACED, exclude_spans=["receive", "send"]
    )
