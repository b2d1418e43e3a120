"""What all interactive figures share: widths and what a reader sets.

A width of `WIDE` or `HALF` means: as wide as the page, or half of it; the page's script puts the pixels in.
"""

import altair as alt

WIDE, HALF, HEIGHT = 555, 222, 260


def choice(name: str, options: list, label: str, value: object = None) -> alt.Parameter:
    first = options[0] if value is None else value
    return alt.param(name=name, value=first, bind=alt.binding_radio(options=options, name=label))


def slider(name: str, low: float, high: float, value: float, label: str) -> alt.Parameter:
    return alt.param(name=name, value=value, bind=alt.binding_range(min=low, max=high, step=0.1, name=label))
