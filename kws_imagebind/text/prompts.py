"""Templates: the sentence around a word that an encoder is asked to compare a recording with."""

from __future__ import annotations

from collections.abc import Sequence

BARE = "{}"  # the word itself
SAYING = "a person saying {}"

# Sets of templates by name, for encoders that read meaning.
TEMPLATE_SETS: dict[str, tuple[str, ...]] = {
    "bare": (BARE,),
    "saying": (SAYING,),
    "clip": ("a photo of a {}.",),  # CLIP's own (arXiv:2103.00020), for images: what happens if it is kept
    "speech": (
        SAYING,
        "someone says the word {}",
        "the spoken word {}",
        "a voice giving the command {}",
        "a recording in which {} is said",
    ),
}


class PromptError(ValueError):
    """A template that cannot be filled; the message says which and why."""


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates, each once.

    >>> check_templates(["a person saying {}", "{}"])
    ('a person saying {}', '{}')

    Raises:
        PromptError: there is none, or one has not exactly one place for the word.
    """
    for template in templates:
        if template.count(BARE) != 1 or "{" in template.replace(BARE, "") or "}" in template.replace(BARE, ""):
            raise PromptError(f"template '{template}' needs one '{{}}' for the word, as in 'a person saying {{}}'")
    if not templates:
        raise PromptError("no template is given; expected at least one, such as 'a person saying {}'")
    return tuple(dict.fromkeys(templates))


def template_set(name: str) -> tuple[str, ...]:
    """The templates of a named set.

    >>> template_set("saying")
    ('a person saying {}',)

    Raises:
        PromptError: lists the sets that exist.
    """
    if name not in TEMPLATE_SETS:
        raise PromptError(f"unknown set of prompts '{name}'; available: {', '.join(TEMPLATE_SETS)}")
    return TEMPLATE_SETS[name]


def render(template: str, text: str) -> str:
    """A template with a text in its place.

    >>> render("a person saying {}", "yes")
    'a person saying yes'
    """
    return template.replace(BARE, text)
