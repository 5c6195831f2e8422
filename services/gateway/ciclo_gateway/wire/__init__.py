"""Protobuf and domain, both ways: the only folder that imports generated messages."""
