"""HTML that cannot be broken from outside: all text is escaped but what was made here."""

import html
from collections.abc import Iterable
from typing import Any


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


_VOID = {'img', 'meta', 'br', 'line', 'polyline', 'rect', 'circle', 'wbr'}


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element.

    Args:
        name: of the element.
        children: `Html` as it is, anything else as text; None is left out.
        attributes: a trailing underscore is dropped (`class_`), others become hyphens; None and
            False are left out.
    """
    given = ''.join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID and not children:
        return Html(f'<{name}{given}/>')
    return Html(f'<{name}{given}>{join(children)}</{name}>')


def join(parts: Iterable[Any]) -> Html:
    """One after the other, escaped where they are no markup."""
    return Html(
        ''.join(
            part if isinstance(part, Html) else html.escape(str(part))
            for part in parts
            if part is not None
        )
    )


def section(title: str, *children: Any) -> Html:
    """A part of the page, with a heading that can be linked to."""
    name = title.lower().replace(' ', '-')
    return tag('section', tag('h2', title), *children, id=name)


def table(
    head: Iterable[Any],
    rows: Iterable[Iterable[Any]],
    *,
    left: int = 1,
    caption: str | None = None,
    wrap: bool = False,
) -> Html:
    """A table that scrolls within itself where it is wider than the page.

    Args:
        head: names of the columns; none leaves the row out.
        rows: cells; the first of a row is its heading.
        left: so many columns are text, at the left; the others are numbers, at the right.
        caption: above the table.
        wrap: long words may be broken into lines.
    """
    head = list(head)

    def cells(values: Iterable[Any], header: bool) -> Html:
        return tag(
            'tr',
            *(
                tag(
                    'th' if header or not i else 'td',
                    value,
                    scope=('col' if header else 'row') if header or not i else None,
                    class_='text' if i < left else None,
                )
                for i, value in enumerate(values)
            ),
        )

    scrolled = tag(
        'div',
        tag(
            'table',
            tag('thead', cells(head, True)) if head else None,
            tag('tbody', *(cells(row, False) for row in rows)),
            class_='wrap' if wrap else None,
            aria_label=caption,
        ),
        class_='scroll',
        tabindex='0',
    )
    # Not the table's own caption, which would be as wide as the table.
    return join([tag('p', caption, class_='caption'), scrolled]) if caption else scrolled


def pairs(rows: Iterable[tuple[Any, Any]]) -> Html:
    """Names and values; those without a value are left out."""
    shown = [(name, value) for name, value in rows if value not in (None, '')]
    return tag('dl', *(part for n, v in shown for part in (tag('dt', n), tag('dd', v))))


def notices(texts: Iterable[str], kind: str = 'warning') -> Html | None:
    """A list of what the reader must know; None where there is nothing."""
    items = [tag('li', text[:1].upper() + text[1:]) for text in dict.fromkeys(texts)]
    return tag('ul', *items, class_=f'notice {kind}') if items else None


def bar(share: float, text: str = '', color: str = 'c1') -> Html:
    """A bar of a share in [0, 1], with its number beside it."""
    width = 100 * min(max(share, 0), 1)
    inner = tag('i', class_=f'fill {color}', style=f'width:{width:.1f}%')
    return join((tag('span', inner, class_='bar', aria_hidden='true'), tag('b', text)))


def stacked(shares: Iterable[tuple[str, float]]) -> Html:
    """Parts of a whole; each a class of its colour, and named when pointed at."""
    known = [(name, share) for name, share in shares if share > 0]
    label = ', '.join(f'{name} {share:.0%}' for name, share in known)
    parts = [
        tag(
            'i',
            class_=f'fill {css_name(name)}',
            style=f'width:{100 * share:.2f}%',
            title=f'{name} {share:.1%}',
        )
        for name, share in known
    ]
    return tag('span', *parts, class_='bar wide', role='img', aria_label=label or 'no labels')


def legend(names: Iterable[str]) -> Html:
    """Which colour is what."""
    return tag(
        'p',
        *(
            tag('span', tag('i', class_=f'fill key {css_name(name)}'), ' ', name, ' ')
            for name in names
        ),
        class_='legend',
    )


def css_name(name: str) -> str:
    """A class for a name of ours."""
    return 'k-' + name.replace(' ', '-')
