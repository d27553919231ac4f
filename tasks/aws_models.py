"""What the process knows of AWS's interfaces, for every client that it makes."""

from functools import cache

from botocore.loaders import Loader, create_loader
from botocore.session import Session


def open_session() -> Session:
    """Return a session of its own that need not read again what another has read."""
    session = Session()
    session.register_component("data_loader", _read_models())
    return session


@cache
def _read_models() -> Loader:
    """Return what knows AWS's interfaces: reading them anew for each client takes most of its time."""
    return create_loader()
