"""What can go wrong, by name: each error is also the builtin it resembles."""


class PtyprepError(Exception):
    """Something that the user can act on: the message says what, where, got, expected and next step."""


class ParameterError(PtyprepError, ValueError):
    """A parameter is unknown, missing, of the wrong kind or outside its limits."""


class PositionError(PtyprepError, ValueError):
    """Positions are missing, or do not belong to these frames."""


class FrameError(PtyprepError, ValueError):
    """The region, centre, orientation or rebin does not fit the frame."""


class SourceError(PtyprepError, OSError):
    """Raw data are absent, damaged or of another layout."""


class ChangedError(SourceError):
    """A raw file is not what it was when the scan began to read it; no frame can be left out to go on."""


class OutputError(PtyprepError, OSError):
    """Prepared data cannot be written where they should go."""


class RecipeError(PtyprepError, TypeError):
    """A recipe breaks its contract: a hook returned the wrong thing, or it was not found."""


class PeerError(PtyprepError, RuntimeError):
    """Another rank failed; the message names the rank and its reason.

    fatal : whether that rank ends, by Ctrl-C or `sys.exit`, and answers nobody any more
    """
    fatal = False


def in_words(err, kind=True):
    """ "Kind: message" of any exception; the message of some cannot be made.

    kind : False for the message alone

    >>> in_words(ValueError("bad luck"))
    'ValueError: bad luck'
    """
    try:
        return f"{type(err).__name__}: {err}" if kind else str(err)
    except BaseException as other:      # noqa: BLE001  whatever its author made of it must not hide the failure
        return f"{type(err).__name__} (whose message raises {type(other).__name__})"
