"""The errors of this package; the command line shows each as one line."""


class IlvError(Exception):
    """Base of all errors that a user can mend; every other exception is a bug and traces."""


class ConfigError(IlvError):
    """Wrong use or configuration; raised before any work begins."""


class StorageError(IlvError):
    """A file could not be read or written: full disk, missing permission, lost bucket."""


class RecordError(IlvError):
    """One broken record, span or frame; becomes a `failed` row with its reason.

    Attributes:
        reason: one of `fields.FAILED_REASONS`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
