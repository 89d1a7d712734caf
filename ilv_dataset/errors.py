"""The errors of this package, each one line on the command line, and the status of Ctrl-C."""

INTERRUPTED = 130  # the exit status of a command that Ctrl-C ends; source: shells, 128 + SIGINT


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


class EndpointError(IlvError):
    """A model's endpoint cannot be used, or may not be any longer; run again to go on."""


class ReplyError(IlvError):
    """One item of a model's reply is not usable; it is asked again, or falls back.

    Attributes:
        reason: one of `fields.REPLY_FAULTS`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
