"""Numbers and texts as people read them, and the templates that hold the prose.

An ε or δ is never shown smaller than it is: shortened, it is rounded up. Text from the contract is escaped for
where it lands, so that a category with a bar or a tag in it stays a category.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal
from functools import cache
from typing import Any

import jinja2

_MARKDOWN = str.maketrans({character: "\\" + character for character in "\\`*_[]<>|#$~"})


def rounded_up(value: float, digits: int = 4) -> str:
    """A non-negative number with ``digits`` significant digits, never below ``value``.

    >>> rounded_up(0.99914), rounded_up(1.00001), rounded_up(1e-06)
    ('0.9992', '1.001', '1e-06')
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    exact = Decimal(repr(float(value)))
    step = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    return f"{float(exact.quantize(step, ROUND_CEILING)):g}"


def percent(value: float, decimals: int = 1) -> str:
    """A share as per cent."""
    return f"{100 * value:.{decimals}f} %"


def one_line(value: Any) -> str:
    """Text without line breaks."""
    return " ".join(str(value).split())


def markdown_text(value: Any) -> str:
    """One line of text that Markdown shows as it is, also inside a table."""
    return one_line(value).translate(_MARKDOWN)


def number(value: Any) -> str:
    """A number in at most six digits, thousands separated where it is whole."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1_000 else f"{value:.6g}"


def render(template: str, **values: Any) -> str:
    """The text of a template in ``templates/``; those named ``*.html.jinja`` escape every value."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("synth.release"),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(up=rounded_up, percent=percent, line=one_line, md=markdown_text, number=number)
    return environment
