"""The table of ports that people and other programs rely on."""

from dataclasses import astuple

from ciclo_local.ports import BLOCK, DEFAULT_BASE, Ports


def test_offsets_are_the_documented_ones() -> None:
    ports = Ports.from_base(1000 * 10)

    assert (ports.envoy, ports.envoy_admin) == (10000, 10001)
    assert (ports.kafka, ports.kafka_controller) == (10002, 10003)
    assert (ports.triton_serving_http, ports.triton_serving) == (10004, 10005)
    assert (ports.triton_shadow_http, ports.triton_shadow) == (10007, 10008)
    assert (ports.feature_store, ports.trainer, ports.registry) == (10010, 10012, 10014)
    assert (ports.gateway, ports.monitor, ports.monitor_metrics) == (10016, 10018, 10019)


def test_no_two_listeners_share_a_port_and_all_lie_in_the_block() -> None:
    ports = astuple(Ports.from_base(DEFAULT_BASE))

    assert len(set(ports)) == len(ports)
    assert max(ports) < DEFAULT_BASE + BLOCK


def test_the_default_block_lies_below_the_ephemeral_ports() -> None:
    assert DEFAULT_BASE + BLOCK < 32768
