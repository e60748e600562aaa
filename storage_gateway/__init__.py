"""The storage gateway: everything with I/O. The pure kernels are crypto, urn and retention."""

__version__ = "0.1.0.dev0"
