"""Why a run cannot go on."""

FAILED = 1
USAGE = 64
UNAVAILABLE = 69


class Failure(Exception):
    """A message for a person, and the exit code (sysexits) that it ends with."""

    def __init__(self, message: str, code: int = FAILED):
        super().__init__(message)
        self.code = code
