"""What the process says of itself."""

import resource
import time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, MetricsData, NumberDataPoint, Sum

from telemetry import names
from telemetry.metrics import watch_cpu, watch_series


def metric_named(data: MetricsData | None, name: str) -> Metric:
    """Return a metric."""
    assert data
    (metric,) = [metric for metric in data.resource_metrics[0].scope_metrics[0].metrics if metric.name == name]
    return metric


def readings(data: MetricsData | None, name: str) -> tuple[object, dict[tuple[str, ...], float]]:
    """Return the data of a metric, and its values by their labels' values."""
    metric = metric_named(data, name)
    points = [point for point in metric.data.data_points if isinstance(point, NumberDataPoint)]
    return metric.data, {tuple(map(str, (point.attributes or {}).values())): point.value for point in points}


def test_the_cpu_time_is_the_kernels() -> None:
    """Seconds of all threads so far, of the program's own code and of the kernel's for it; they only grow."""
    reader = InMemoryMetricReader()
    watch_cpu(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
    before = resource.getrusage(resource.RUSAGE_SELF)
    data, first = readings(reader.get_metrics_data(), names.CPU_TIME)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert isinstance(data, Sum)
    assert data.is_monotonic
    assert first.keys() == {("user",), ("system",)}
    assert before.ru_utime <= first["user",] <= after.ru_utime
    assert before.ru_stime <= first["system",] <= after.ru_stime
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    _, second = readings(reader.get_metrics_data(), names.CPU_TIME)
    assert sum(second.values()) >= sum(first.values()) + 0.05


def test_a_gauge_of_several_series_is_read_each_time() -> None:
    """Each value stands under its own labels, as it is when somebody looks."""
    reader, now = InMemoryMetricReader(), {"a": 1.0, "b": 2.0}
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    watch_series(meter, "test.gauge", lambda: [(value, {"of": key}) for key, value in now.items()], "For a test.")
    assert readings(reader.get_metrics_data(), "test.gauge")[1] == {("a",): 1, ("b",): 2}
    now["b"] = 5
    assert readings(reader.get_metrics_data(), "test.gauge")[1] == {("a",): 1, ("b",): 5}


def test_a_gauge_of_several_series_has_its_unit() -> None:
    """What is counted stands in braces, so that no name on `/metrics` is longer for it."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    watch_series(meter, "test.gauge", lambda: [(1, {"of": "a"})], "For a test.", unit="{connection}")
    assert metric_named(reader.get_metrics_data(), "test.gauge").unit == "{connection}"
