"""The HTTP interface: routes, who may use them, and how errors are told."""

from .admin import ADMIN_HOST, make_admin_application
from .application import make_application
from .handed import HandedSite
from .protocol import GatewayRunner
from .services import Services

__all__ = [
    "ADMIN_HOST",
    "GatewayRunner",
    "HandedSite",
    "Services",
    "make_admin_application",
    "make_application",
]
