"""System prompts: Jinja2 files under `templates/system_prompt`, with declared variables and a version each."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined, Template, meta
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict

from coach.citations import without_markers
from coach.clients import Passage
from coach.language import LOCALES, Locale

FOLDER = Path(__file__).parent / "templates" / "system_prompt"


class PromptPassage(BaseModel):
    """A passage as a prompt shows it, under its marker."""

    model_config = ConfigDict(frozen=True)

    marker: int
    title: str
    text: str


class PromptVariables(BaseModel):
    """Everything a system prompt may use."""

    model_config = ConfigDict(frozen=True)

    game: str
    patch: str
    sources_as_of: date | None
    context: dict[str, str]
    passages: list[PromptPassage]


SAMPLE = PromptVariables(
    game="Sample game",
    patch="1.0",
    sources_as_of=date(2026, 1, 1),
    context={"side": "attack"},
    passages=[PromptPassage(marker=1, title="Title", text="Text")],
)


@dataclass(frozen=True)
class Prompt:
    """One prompt file; `version` changes with any letter of it or of the files it extends."""

    version: str
    template: Template

    def render(self, variables: PromptVariables) -> str:
        """The text for the model; a variable the file uses and nobody declared is an error."""
        return self.template.render(variables.model_dump())


class Prompts:
    """All prompt files, each rendered once at start: a broken one stops the service, not a question."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._loader = FileSystemLoader(folder)
        self._environment = SandboxedEnvironment(
            loader=self._loader,
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"fence": fence, "line": line}
        self._prompts = {
            (name, locale): self._load(name, locale) for name in template_names(folder) for locale in LOCALES
        }

    def get(self, template: str, locale: Locale) -> Prompt:
        """The prompt of a game's template in a language; a template that left the image since is `default`."""
        return self._prompts.get((template, locale)) or self._prompts["default", locale]

    def has(self, template: str) -> bool:
        """Whether a game may name this template."""
        return (template, LOCALES[0]) in self._prompts

    def _load(self, name: str, locale: Locale) -> Prompt:
        path = f"{name}/{locale}.md.j2"
        digest = hashlib.sha256()
        for source in self._sources(path):
            digest.update(len(source).to_bytes(8) + source)
        prompt = Prompt(digest.hexdigest()[:12], self._environment.get_template(path))
        prompt.render(SAMPLE)
        return prompt

    def _sources(self, path: str) -> Iterator[bytes]:
        """The text of a file and of all it refers to."""
        source, *_ = self._loader.get_source(self._environment, path)
        yield source.encode()
        for reference in meta.find_referenced_templates(self._environment.parse(source)):
            if reference is None:
                raise ValueError(f"{path}: a prompt names the files it uses plainly, so that its version covers them")
            yield from self._sources(reference)


def template_names(folder: Path = FOLDER) -> list[str]:
    """The folders of prompts, one per game and `default`."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def fence(text: str) -> str:
    """Text that cannot close the tag it stands in."""
    return text.replace("<", "‹").replace(">", "›")


def line(text: str) -> str:
    """Text that cannot leave its line, its quotation marks or its tag: a nickname must not begin a section."""
    return fence(" ".join(text.split())).replace('"', "”")


def numbered(passages: Sequence[Passage]) -> list[PromptPassage]:
    """Passages under the markers `[1]` … in their order."""
    return [
        PromptPassage(marker=marker, title=without_markers(passage.title), text=without_markers(passage.text))
        for marker, passage in enumerate(passages, start=1)
    ]
