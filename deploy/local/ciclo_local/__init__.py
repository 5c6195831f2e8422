"""Kafka, two Tritons, Envoy and the five services on one machine, under a supervisor."""
