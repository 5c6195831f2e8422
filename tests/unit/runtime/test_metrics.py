from prometheus_client import generate_latest

from ciclo_runtime.metrics import ServiceMetrics


def test_names_begin_with_the_service_and_two_services_share_nothing() -> None:
    store, trainer = ServiceMetrics("feature-store"), ServiceMetrics("trainer")
    store.events_handled.labels("DriftDetected", "done").inc()

    shown = generate_latest(store.registry).decode()

    total = 'ciclo_feature_store_events_handled_total{outcome="done",type="DriftDetected"} 1.0'
    assert total in shown
    assert "DriftDetected" not in generate_latest(trainer.registry).decode()


def test_every_name_has_the_prefix_and_a_unit() -> None:
    units = ("_total", "_seconds", "_messages")
    metrics = ServiceMetrics("monitor")
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert name.startswith("ciclo_monitor_")
        assert name.endswith(units)
