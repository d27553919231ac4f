"""The one error hierarchy.

Every message is a sentence for the operator: what was wrong, where, what to do. It never holds a
secret, because Prefect writes it into logs, states and its database.
"""


class RunbookError(Exception):
    """Something that a runbook cannot go on with; the message says what to do about it."""


class ConfigurationError(RunbookError):
    """A profile, a variable or a reference is wrong: nothing was touched, a person must correct it."""


class UnreachableError(RunbookError):
    """A server or store did not answer or went away: worth another try."""


class LockedError(UnreachableError):
    """The application holds a lock for longer than we may wait: nothing of this try was changed."""


class AccessDeniedError(RunbookError):
    """A server or store knows us and refuses: another try would be refused as well."""


class DeadCredentialError(AccessDeniedError):
    """A provider does not know the credential, or not any longer: nobody can do anything with it."""


class StoreFullError(RunbookError):
    """There is no room left where something had to be written."""


class SourceError(RunbookError):
    """What was to be saved could not be read as one consistent whole."""


class UnsuitableStoreError(RunbookError):
    """A store lacks what keeps two hosts apart: it is no place for leases, nor for backups."""


class DamagedSetError(RunbookError):
    """A backup set is not what its manifest says."""


class AlreadyExistsError(RunbookError):
    """A conditional write found something there: somebody else was first."""


class NotFoundError(RunbookError):
    """What was asked for is not in the store."""


class LeaseHeldError(RunbookError):
    """Somebody else holds the lease; the message says who and since when."""


class UnreadableLeaseError(RunbookError):
    """A lease is there that cannot be read: somebody may hold it."""


class LeaseLostError(RunbookError):
    """Our lease was taken over or ran out: stop at once, another run may be at work."""


class SufferingError(RunbookError):
    """The application suffered, and did not recover while we waited."""


class RefusedError(RunbookError):
    """A decision said no; the message is its reason."""
