"""The figures about deliveries as Prometheus reads them."""

from prometheus_client import CollectorRegistry, generate_latest

from services.sender.delivery_metrics import DeliveryMetrics


def test_attempts_are_counted_by_account_and_outcome_with_their_durations() -> None:
    registry = CollectorRegistry()
    metrics = DeliveryMetrics(registry, in_flight=lambda: 3, claimed=lambda: 2, unwritten=lambda: 1)
    for outcome, seconds in (("sent", 0.004), ("sent", 0.005), ("failed", 400.0)):
        metrics.attempt_ended("main", outcome, seconds)
    lines = generate_latest(registry).decode().splitlines()
    assert 'mailer_attempts_total{account="main",outcome="sent"} 2.0' in lines
    assert 'mailer_attempts_total{account="main",outcome="failed"} 1.0' in lines
    assert 'mailer_attempt_seconds_bucket{account="main",le="0.005"} 2.0' in lines
    assert 'mailer_attempt_seconds_bucket{account="main",le="300.0"} 2.0' in lines
    assert 'mailer_attempt_seconds_bucket{account="main",le="+Inf"} 3.0' in lines
    assert 'mailer_attempt_seconds_count{account="main"} 3.0' in lines
    assert 'mailer_attempt_seconds_sum{account="main"} 400.009' in lines
    assert "mailer_attempts_in_flight 3.0" in lines


def test_without_an_attempt_the_figures_have_their_names_and_no_rows() -> None:
    registry = CollectorRegistry()
    DeliveryMetrics(registry, in_flight=lambda: 0, claimed=lambda: 0, unwritten=lambda: 0)
    lines = generate_latest(registry).decode().splitlines()
    assert "# TYPE mailer_attempts_total counter" in lines
    assert "# TYPE mailer_attempt_seconds histogram" in lines
