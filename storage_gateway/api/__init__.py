"""The HTTP interface: routes, who may use them, and how errors are told."""

from .application import make_application
from .handed import HandedSite
from .protocol import GatewayRunner
from .services import Services

__all__ = ["GatewayRunner", "HandedSite", "Services", "make_application"]
