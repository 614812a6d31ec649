"""Reports jobs to OpenTelemetry: a span for each job, a histogram of durations, and a counter of bytes.

python examples/tracing_opentelemetry.py MODEL clips "A gondola at dawn" "A gondola at noon"

It exports to the console; replace that by the OTLP exporters. No prompt, key or link becomes an attribute.

It needs `pip install . opentelemetry-sdk`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from weakref import WeakKeyDictionary

from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import Span, StatusCode, Tracer

from venice_async import Failed, State, Stopped, Succeeded, VeniceClient, VideoJob, VideoRequest


class Telemetry:
    """Listens to the jobs of a client: `VeniceClient(on_state=Telemetry(tracer, meter))`."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        """Report to `tracer` and `meter`."""
        self._tracer = tracer
        self._spans: WeakKeyDictionary[VideoJob, tuple[Span, float]] = WeakKeyDictionary()
        self._last: WeakKeyDictionary[VideoJob, type[State]] = WeakKeyDictionary()
        self._seconds = meter.create_histogram(
            "venice.job.duration", "s", "From the start of a job to its end"
        )
        self._running = meter.create_up_down_counter("venice.jobs.running", "{job}", "Running jobs")
        self._bytes = meter.create_counter("venice.clip.size", "By", "Bytes of verified clips")

    def __call__(self, job: VideoJob, state: State) -> None:
        """Record a new state. Progress within a state is ignored."""
        if job not in self._spans:
            self._begin(job)
        if self._last.get(job) is type(state):
            return
        self._last[job] = type(state)
        span, since = self._spans[job]
        span.add_event(type(state).__name__)
        if isinstance(state, Succeeded | Failed | Stopped):
            self._end(job, state, span, time.monotonic() - since)

    def _begin(self, job: VideoJob) -> None:
        span = self._tracer.start_span("venice.job", attributes={"venice.model": model_of(job)})
        self._spans[job] = span, time.monotonic()
        self._running.add(1)

    def _end(self, job: VideoJob, state: State, span: Span, seconds: float) -> None:
        labels = {"venice.model": model_of(job), "venice.outcome": type(state).__name__.lower()}
        if job.ticket is not None:
            span.set_attribute("venice.queue_id", job.ticket.queue_id)
        if isinstance(state, Succeeded):
            self._bytes.add(state.video.size, labels)
        if isinstance(state, Failed):
            labels["error.type"] = type(state.error).__name__
            span.set_status(StatusCode.ERROR, state.error.message)
        span.set_attributes(labels)
        span.end()
        self._seconds.record(seconds, labels)
        self._running.add(-1)


def model_of(job: VideoJob) -> str:
    """Return the model of a job, new or resumed."""
    return job.request.model if job.request else job.ticket.model if job.ticket else "unknown"


async def main(model: str, folder: str, *prompts: str) -> None:
    """Generate clips and report each job."""
    traces = TracerProvider()
    traces.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    metrics = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())])
    telemetry = Telemetry(traces.get_tracer("clips"), metrics.get_meter("clips"))
    requests = [
        VideoRequest(model=model, prompt=prompt, duration="5s", aspect_ratio="16:9") for prompt in prompts
    ]
    async with VeniceClient(on_state=telemetry) as venice:
        async for outcome in venice.batch(requests, into=folder):
            print(outcome.video.path if outcome.video else outcome.error, file=sys.stderr)
    traces.shutdown()
    metrics.shutdown()


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
