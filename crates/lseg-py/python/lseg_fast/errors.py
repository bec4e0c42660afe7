"""Every way in which the engine fails. A message is one line: what was expected, what was found, what to do."""


class Error(Exception):
    """Of which all others are."""


class ModelError(Error):
    """A model file that cannot be read, is no LSeg, or makes no numbers."""


class InputError(Error, ValueError):
    """An image, a label, a point or a word of the call that the engine does not take."""


class DeviceError(Error):
    """The device is not there, or failed."""


class LostError(DeviceError):
    """The device failed in a way that ended this engine: another may work."""


class BusyError(Error):
    """All places for results on the device are held: drop one, or release it. Or the stream takes no more frames."""


class OutOfMemoryError(Error, MemoryError):
    """More memory is needed than is free or was allowed."""
