"""The offline process: Feast, joins and datasets. Only `protocol` is imported by the service."""
