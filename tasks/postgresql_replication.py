"""What of logical replication belongs to a PostgreSQL database itself: it does not follow the name."""

from tasks.credentials import resolve
from tasks.postgresql import connect, parse_url
from tasks.records.replication import Replication
from tasks.records.section import Reference
from tasks.retrying import retried

_SLOTS = "SELECT slot_name FROM pg_replication_slots WHERE database = %s ORDER BY 1"
_SUBSCRIPTIONS = """
    SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
    WHERE datname = %s ORDER BY 1"""


@retried
def observe_replication(admin_url: Reference, database: str) -> Replication:
    """Given a database, return the names of its logical slots and its subscriptions."""
    with connect(parse_url(resolve(admin_url))) as connection:
        slots = connection.execute(_SLOTS, (database,)).fetchall()
        subscriptions = connection.execute(_SUBSCRIPTIONS, (database,)).fetchall()
    return Replication(
        slots=tuple(str(name) for (name,) in slots),
        subscriptions=tuple(str(name) for (name,) in subscriptions),
    )
