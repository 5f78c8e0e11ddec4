"""Everything that crossteach raises on purpose.

```text
CrossteachError
├── SpecError             a model, data or setting string that cannot be read
├── ModelError            a model that cannot be built or used
│   ├── WeightsError      weights that are missing, unsafe, not finite or for another architecture
│   └── LabelSpaceError   models and data that do not score the same classes
├── TrustError            code that is not the user's own, and that the user has not vouched for
├── DataError             data that cannot be read or do not fit together
│   └── MissingLabelsError    a step needs labels that the data do not have
├── ConfigError           a setting outside its range
├── StoreError            stored predictions that cannot be written or read
├── RunFolderError        an output folder that is incomplete, of another configuration or not a run
│   └── FolderInUseError      an output folder that another process fills
├── DevicesError          devices that are not there, or that cannot do together what is asked
│   └── LostProcessError      another process of the same run has ended
├── ExportError           a student that cannot be exported, or whose export answers otherwise
├── HubError              an export that cannot be sent to the Hugging Face hub
├── SweepError            a sweep that cannot run, or jobs of it that failed
├── ExecutorError         nothing is left that could run a task
├── WriteError            a file that cannot be written: a full disk, a folder without permission
└── MissingExtraError     an optional dependency that is not installed
```

Each message says what was expected, what came, and what to do, in one line. The command line prints it and exits 1.
"""


class CrossteachError(Exception):
    r"""Base of all errors that tell the user something.

    Names out of files stand in messages: what would end the line, or steer a terminal, is written out.

    Example:
        >>> print(CrossteachError("no class is called 'cat\x1b[31m\n'"))
        no class is called 'cat\x1b[31m '
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class SpecError(CrossteachError):
    """A model, data or setting string that cannot be read."""


class ModelError(CrossteachError):
    """A model that cannot be built or used."""


class WeightsError(ModelError):
    """Weights that are missing, unsafe, not finite or for another architecture."""


class LabelSpaceError(ModelError):
    """Models and data that do not score the same classes."""


class TrustError(CrossteachError):
    """Code that is not the user's own, and that the user has not vouched for."""


class DataError(CrossteachError):
    """Data that cannot be read or do not fit together."""


class MissingLabelsError(DataError):
    """A step needs labels that the data do not have."""


class ConfigError(CrossteachError):
    """A setting outside its range."""


class StoreError(CrossteachError):
    """Stored predictions that cannot be written or read."""


class RunFolderError(CrossteachError):
    """An output folder that is incomplete, of another configuration or not a run."""


class FolderInUseError(RunFolderError):
    """An output folder that another process fills."""


class DevicesError(CrossteachError):
    """Devices that are not there, or that cannot do together what is asked."""


class LostProcessError(DevicesError):
    """Another process of the same run has ended."""


class KilledProcessError(DevicesError):
    """A process of several was killed, so all of them were ended."""


class ExportError(CrossteachError):
    """A student that cannot be exported, or whose export answers otherwise."""


class HubError(CrossteachError):
    """An export that cannot be sent to the Hugging Face hub."""


class SweepError(CrossteachError):
    """A sweep that cannot run, or jobs of it that failed."""


class ExecutorError(CrossteachError):
    """Nothing is left that could run a task."""


class WriteError(CrossteachError):
    """A file that cannot be written: a full disk, a folder without permission."""


class MissingExtraError(CrossteachError):
    """An optional dependency that is not installed."""


def printable(text: str) -> str:
    r"""Write out the characters that no line can show; those that part words become spaces.

    Example:
        >>> printable("bell \a, naïve\u2028日本語")
        'bell \\x07, naïve 日本語'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
