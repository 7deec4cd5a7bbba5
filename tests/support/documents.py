"""Commands as the documents write them: what stands in a block or between backticks, as words to be parsed."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_BLOCK: Final = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"`([^`\n]+)`")
_COMMAND: Final = re.compile(r"(?:^|[\s(`;|&])((?:\.venv/bin/)?python -m \w|aws [a-z])")
_ENDS: Final = frozenset({"|", "||", "&&", ";", "&", ">", ">>", "2>", "<", ")"})


@dataclass(frozen=True)
class Documented:
    """One command of a document; ``whole`` when it stands in a block, so that it must run as it is written."""

    document: str
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        """Return it as somebody would type it."""
        return f"{self.document}: {shlex.join(self.words)}"


def commands(path: Path) -> Iterator[Documented]:
    """Yield every ``python -m ...`` and ``aws ...`` of a Markdown document, in order within blocks and spans."""
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(ROOT))
    for block in _BLOCK.findall(text):
        for line in re.sub(r"\\\n *", " ", block).splitlines():
            yield from _commands(name, line, whole=True)
    for span in _SPAN.findall(_BLOCK.sub("", text)):
        if _COMMAND.match(span):
            yield from _commands(name, span, whole=False)


def advised(path: Path) -> Iterator[Documented]:
    """Yield the commands that a module's messages tell somebody to run, in single quotes; values stand for braces."""
    name = str(path.relative_to(ROOT))
    for quoted in re.findall(r"'((?:python -m|aws) [^'\"\n]+)'", path.read_text(encoding="utf-8")):
        yield Documented(name, tuple(shlex.split(re.sub(r"\{[^}]*\}", "VALUE", quoted))), whole=True)


def _commands(name: str, line: str, *, whole: bool) -> Iterator[Documented]:
    for found in _COMMAND.finditer(line):
        words = _words(line[found.start(1) :])
        yield Documented(name, tuple(words), whole)


def _words(text: str) -> list[str]:
    """Return a command's words: up to what ends it in a shell, `$(...)` as one word, comments left out."""
    text = re.sub(r"\$\([^()]*\)", "SUBSTITUTED", text)
    reader = shlex.shlex(text, posix=True, punctuation_chars="|&;<>)")
    reader.whitespace_split = True
    reader.commenters = "#"
    words: list[str] = []
    try:
        for word in reader:
            if word in _ENDS:
                break
            words.append(word)
    except ValueError:  # a quotation that goes on in the next line
        pass
    return words
