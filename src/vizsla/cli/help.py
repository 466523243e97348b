"""The help of `vizsla` in sections, with a line on each command, and examples below the help of each."""

from __future__ import annotations

import click

SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "Label your images": {
        "label": (
            "Label a folder of images, the most useful first.",
            "vizsla label",
            "vizsla label photos --classes cat,dog",
            "vizsla label photos --terminal",
        ),
        "status": ("Labels, accuracy, and whether to go on.", "vizsla status --project photos/.vizsla"),
        "query": ("The images whose labels would help most.", "vizsla query --project photos/.vizsla -n 20"),
        "train": (
            "Train on all labels now.",
            "vizsla train --project photos/.vizsla",
            "vizsla train --fine-tune --project photos/.vizsla",
        ),
        "predict": (
            "Predict the class of other images.",
            "vizsla predict photos/.vizsla more-photos --out predictions.csv",
        ),
    },
    "Bring in, take out": {
        "import": (
            "Take in labels from other tools.",
            "vizsla import csv labels.csv --project photos/.vizsla --images photos",
        ),
        "export": (
            "Write all labels, or the trained model.",
            "vizsla export csv --project photos/.vizsla --out labels.csv",
            "vizsla export model --project photos/.vizsla --out pets-model",
        ),
        "embed": ("Features of all images in a folder.", "vizsla embed photos --out features.npz"),
        "select": (
            "Choose rows of arrays from any framework.",
            "vizsla select --strategy margin --probs P.npy -n 100",
            "vizsla select --strategy kmeans --embeddings H.npy -n 20 --json",
        ),
    },
    "Measure": {
        "demo": ("What active learning saves, on 1,797 digits.", "vizsla demo"),
        "compare": (
            "Compare strategies on class folders of your own.",
            "vizsla compare pets --strategies random,margin,auto",
            "vizsla compare pets --long-tail 10 --noise 0.1",
        ),
    },
    "For a team": {
        "serve": (
            "Serve the labelling page.",
            "vizsla serve photos --host 0.0.0.0",
            "vizsla serve --project postgresql://me@db/pets --no-trainer",
        ),
        "worker": (
            "Train for a page that is served elsewhere.",
            "vizsla worker --project postgresql://me@db/pets --images photos",
        ),
        "move": (
            "Move a project into another database.",
            "vizsla move --project photos/.vizsla --to postgresql://me@db/pets",
            "vizsla move --project postgresql://me@db/pets --to backup",
        ),
        "users": ("Who may label.",),
        "users add": ("Make a token for someone.", "vizsla users add ada --project photos/.vizsla"),
        "users revoke": ("Make someone's token void.", "vizsla users revoke ada --project photos/.vizsla"),
        "users list": ("Everyone who has labelled or may.", "vizsla users list --project photos/.vizsla"),
    },
    "This installation": {
        "doctor": (
            "What is not well, and how to mend it.",
            "vizsla doctor",
            "vizsla doctor --project photos/.vizsla --json",
        ),
        "completion": ("Let the shell complete names at the Tab key.", "vizsla completion bash"),
    },
}
"""Section → command → its line, and examples of its use."""


class Sections(click.Group):
    """The group of all commands, listed in sections; a command that is in none comes last."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {
            title: [name for name in held if name in self.commands] for title, held in SECTIONS.items()
        }
        named = {name for names in sections.values() for name in names}
        sections["More"] = [name for name in self.list_commands(ctx) if name not in named]
        width = max(map(len, self.commands))
        for title, names in sections.items():
            if names:
                with formatter.section(title):
                    rows = [(name, self.commands[name].get_short_help_str()) for name in names]
                    formatter.write_dl([(name.ljust(width), about) for name, about in rows])


def describe(group: click.Group, before: str = "") -> None:
    """Give each command of a group the line and the examples that are written down for it."""
    known = {name: told for held in SECTIONS.values() for name, told in held.items()}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            describe(command, f"{before}{name} ")
        if told := known.get(f"{before}{name}"):
            command.short_help, *examples = told
            if examples:
                command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples)
