"""What the documentation takes from the code when it is built: hooks of MkDocs (see mkdocs.yml).

- The figures' own pages, benchmarks/*/README.md, and CHANGELOG.md become pages too; links to them are mended.
- The lists of strategies, design records and benchmarks in the menu are those of the folders.
- `<!-- commands -->` becomes the help of each command, `<!-- calls -->` the table of the HTTP API, and
  `<!-- formats -->` that of the formats.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(\[[^\]]*\]|\[!\[[^\]]*\]\([^)]*\)\])\(([^)\s#]+)(#[^)\s]*)?\)")
WIDTH = 86
"""Columns of a help text."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    sections = {name: pages for section in config.nav for name, pages in section.items()}
    sections["Strategies"].append({"Each strategy": menu(DOCS / "strategies")})
    sections["Records"] += [
        {"Measured": [place(page) for page in sorted(ROOT.glob("benchmarks/*/README.md"))]},
        {"Why it is so": menu(DOCS / "design")},
        {"Changes": "changelog.md"},
    ]
    return config


def menu(folder: Path) -> list[str]:
    return [place(page) for page in sorted(folder.glob("*.md")) if page.name != "README.md"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    shown = [*ROOT.glob("benchmarks/*/README.md"), *ROOT.glob("benchmarks/**/*.png"), ROOT / "CHANGELOG.md"]
    for file in [*shown, ROOT / "src/vizsla/web/static/favicon.svg"]:
        files.append(File.generated(config, place(file), abs_src_path=str(file)))
    return files


def place(file: Path) -> str:
    """Where a file of the repository stands in the site; outside of docs/ only some do."""
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS).as_posix()
    if file.name == "favicon.svg":
        return "images/vizsla.svg"
    return file.relative_to(ROOT).as_posix().replace("CHANGELOG", "changelog")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    for made in (commands, calls, formats):
        place_of_it = f"<!-- {made.__name__} -->"
        if place_of_it in markdown:
            markdown = markdown.replace(place_of_it, made())
    return mended(markdown, Path(str(page.file.abs_src_path)), page.file.src_uri, files)


def mended(markdown: str, source: Path, uri: str, files: Files) -> str:
    """The page with links to files of the repository as links within the site, or as text where it lacks them."""

    def mend(link: re.Match[str]) -> str:
        words, target, anchor = link[1], link[2], link[3] or ""
        file = Path(os.path.normpath(source.parent / target))
        if "://" in target or not file.exists() or not file.is_relative_to(ROOT):
            return link[0]
        if file.is_dir() or place(file) not in files.src_uris:
            return words[1:-1]
        return f"{words}({os.path.relpath(place(file), Path(uri).parent)}{anchor})"

    return LINK.sub(mend, markdown)


# --- the command line


def commands() -> str:
    """A heading and the help of each command, as the command prints it."""
    from vizsla.cli import cli

    return "\n\n".join(section(command, context) for command, context in walk(cli, None, "vizsla"))


def walk(
    command: click.Command, parent: click.Context | None, name: str
) -> list[tuple[click.Command, click.Context]]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    found = [(command, context)]
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found += walk(command.commands[sub], context, sub)
    return found


def section(command: click.Command, context: click.Context) -> str:
    return f"## {context.command_path}\n\n```text\n{help_text(command, context)}\n```"


def help_text(command: click.Command, context: click.Context) -> str:
    context.terminal_width = context.max_content_width = WIDTH
    return command.get_help(context)


# --- the HTTP API


def calls() -> str:
    """The calls of the API and the shapes of what goes in and out, from the server's own description."""
    api = description()
    rows = [
        f"| `{method.upper()} {path}` | {cell(call['description'])} | {goes_in(call)} | {comes_out(call)} |"
        for path, methods in api["paths"].items()
        for method, call in methods.items()
    ]
    shapes = [shape(name, schema) for name, schema in sorted(api["components"]["schemas"].items())]
    head = "| call | what it does | in | out |\n| --- | --- | --- | --- |"
    return "\n".join([head, *rows, "\n## What goes in and comes out\n", *shapes])


def description() -> dict[str, Any]:
    """`/openapi.json` of an empty project's server."""
    from vizsla.project import Project
    from vizsla.web.app import create_app

    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        with Project.open(Path(folder) / "project", images) as project:
            return create_app(project).openapi()


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def goes_in(call: dict[str, Any]) -> str:
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    asked = [f"`{one['name']}`" for one in call.get("parameters", []) if one["in"] == "query"]
    return ", ".join([*([kind(body)] if body else []), *asked]) or "–"


def comes_out(call: dict[str, Any]) -> str:
    fine = {code: answer for code, answer in call["responses"].items() if code < "300"}
    content: dict[str, Any] = next(iter(fine.values()))["content"]
    schemas = [kind(answer["schema"]) for answer in content.values() if "schema" in answer]
    return f"{', '.join(sorted(fine))}: {', '.join(schemas or [f'`{name}`' for name in content])}"


def kind(schema: dict[str, Any]) -> str:
    """What a schema allows, in a few words, with links to named shapes."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    return schema.get("format") or schema.get("type") or "anything"


def shape(name: str, schema: dict[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = [
        f"| `{field}`{'' if field in needed else ' ?'} | {kind(inner)} | {cell(inner.get('description', ''))} |"
        for field, inner in schema.get("properties", {}).items()
    ]
    said = f"{cell(schema['description'])}\n\n" if "description" in schema else ""
    return "\n".join([f"### {name}\n", f"{said}| field | kind | |\n| --- | --- | --- |", *rows, ""])


# --- formats


def formats() -> str:
    """Each format, what it takes and what it writes, from the registries."""
    from vizsla import interop

    rows = []
    for name in sorted({*interop.formats, *interop.importers}):
        written = interop.formats[name].about if name in interop.formats else "–"
        read = first_paragraph(interop.importers[name].__doc__) if name in interop.importers else "–"
        rows.append(f"| `{name}` | {cell(written)} | {cell(read)} |")
    return "\n".join(["| format | out | in |\n| --- | --- | --- |", *rows])


def first_paragraph(docstring: str | None) -> str:
    return (docstring or "").partition("\n\n")[0]
