"""The prompts of a summary: template files, and the variables each of them declares."""

from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel

from worker.models import Locale
from worker.subtitles import Line

_templates = Environment(
    loader=PackageLoader("worker", "templates"),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 - the reader is a model, not a browser
    trim_blocks=True,
    lstrip_blocks=True,
)


class Prompt(BaseModel):
    """A template and its variables; rendering with one missing is an error before any money is spent."""

    template: ClassVar[str]

    def render(self, part: str) -> str:
        """The `system` or the `user` part."""
        return _templates.get_template(f"{self.template}/{part}.j2").render(dict(self))


class WindowNotes(Prompt):
    """Notes on a few minutes of a track, in the track's own language."""

    template = "window_notes"

    title: str
    locale: Locale
    lines: list[Line]


class TrackSummary(Prompt):
    """Title, summary and key moments of a whole track from the notes on its windows."""

    template = "track_summary"

    title: str
    locale: Locale
    notes: list[str]


def clock(milliseconds: int) -> str:
    """`1:02:03` or `2:03`, as in a video player."""
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


_templates.filters["clock"] = clock
_templates.globals["languages"] = {"ko": "Korean", "en": "English"}
