"""The HTTP interface: routes, who may use them, and how errors are told."""

from .application import make_application
from .protocol import GatewayRunner
from .services import Services

__all__ = ["GatewayRunner", "Services", "make_application"]
