"""The question that Triton and our services answer alike: an empty message in, yes or no out."""

from typing import TYPE_CHECKING

from ciclo_local.ports import address

if TYPE_CHECKING:
    from collections.abc import Callable

_YES = b"\x08\x01"
"""Field 1 holds 1: `true` in Triton's answers, SERVING in those of `grpc.health.v1`."""


def require_yes(port: int, method: str) -> None:
    """Asks the server on a loopback port.

    Args:
        port: Where it listens.
        method: Full name of the RPC, such as `/grpc.health.v1.Health/Check`.

    Raises:
        ConnectionError: It says no.
        grpc.RpcError: It does not answer within a second.
    """
    import grpc

    # A proxy that the environment names is for elsewhere.
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address(port), options=options) as channel:
        ask: Callable[..., bytes] = channel.unary_unary(method)
        if ask(b"", timeout=1.0) != _YES:
            raise ConnectionError(f"{method.rpartition('/')[2]} says no")
