"""The common ground of Mailer: what the services share, and nothing that knows one of them."""

__version__ = "0.1.0"
