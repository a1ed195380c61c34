"""Four page templates: the same article in four kinds of clutter.

Everything outside the article is boilerplate that extraction must take away: navigation, cookie
banner, breadcrumbs, related links, newsletter box, footer.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TEMPLATES", "View", "listing", "render"]

Links = Sequence[tuple[str, str]]

COOKIES = (
    "We use cookies to remember your settings and to count our visitors. "
    "By continuing to browse this site you agree to our use of cookies."
)
NEWSLETTER = "Subscribe to our weekly newsletter and never miss an update. You can leave any time."


@dataclass(frozen=True)
class View:
    """What a template needs: the article, and the links around it as (href, label)."""

    site: str
    title: str
    language: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    nav: Links
    related: Links
    footer: Links
    head: str = ""
    charset: str = "utf-8"


def render(view: View, template: int) -> str:
    """The page as HTML in template `template` (modulo their number)."""
    body = TEMPLATES[template % len(TEMPLATES)](view)
    return (
        f'<!DOCTYPE html>\n<html lang="{view.language}">\n<head>\n'
        f'<meta charset="{view.charset}">\n<title>{_e(view.title)} | {_e(view.site)}</title>\n'
        f"{view.head}<style>nav a{{margin-right:1em}} .cookie{{position:fixed}}</style>\n"
        f"<script>window.dataLayer=[];function track(e){{dataLayer.push(e)}}</script>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def listing(view: View, entries: Links) -> str:
    """An index page: nothing but links."""
    items = "".join(f"<li>{_a(link)}</li>\n" for link in entries)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{_e(view.title)} | {_e(view.site)}</title></head>\n<body>{_nav(view)}"
        f"<h1>{_e(view.title)}</h1><ul>\n{items}</ul>{_footer(view)}</body></html>\n"
    )


def _semantic(view: View) -> str:
    return (
        f"<header><a href='/'>{_e(view.site)}</a>{_nav(view)}</header>"
        f"<div class='cookie' role='dialog'><p>{COOKIES}</p><button>Accept all</button></div>"
        f"<main><article><h1>{_e(view.title)}</h1>{_article(view, 'h2')}</article>"
        f"<aside><h3>Related pages</h3>{_list(view.related)}</aside></main>{_footer(view)}"
    )


def _divs(view: View) -> str:
    return (
        f"<div id='page'><div id='top'><div class='logo'>{_e(view.site)}</div>"
        f"<div class='menu'>{''.join(_a(link) for link in view.nav)}</div></div>"
        f"<div class='crumbs'>{_a(('/', 'Home'))} &raquo; {_e(view.title)}</div>"
        f"<div id='sidebar'><div class='widget'><b>Newsletter</b><p>{NEWSLETTER}</p>"
        f"<form><input name='mail'><input type='submit' value='Sign up'></form></div>"
        f"<div class='widget'><b>Most read</b>{_list(view.related)}</div></div>"
        f"<div id='content' class='entry-content'><h1>{_e(view.title)}</h1>"
        f"{_article(view, 'h3')}</div><div class='cookie-notice'>{COOKIES} <a href='/'>OK</a></div>"
        f"</div>{_footer(view)}"
    )


def _tables(view: View) -> str:
    menu = "".join(f"<tr><td>{_a(link)}</td></tr>" for link in view.nav)
    return (
        f"<table width='100%'><tr><td colspan='2' class='banner'>{_e(view.site)}</td></tr>"
        f"<tr><td valign='top' width='160'><table class='nav'>{menu}</table></td>"
        f"<td valign='top' class='post'><h1>{_e(view.title)}</h1>{_article(view, 'h2')}</td></tr>"
        f"<tr><td colspan='2' class='related'>See also: "
        f"{' | '.join(_a(link) for link in view.related)}</td></tr></table>{_footer(view)}"
    )


def _blog(view: View) -> str:
    share = "".join(f"<a class='share' href='/'>{name}</a>" for name in ("Share", "Mail", "Print"))
    return (
        f"<div class='site-header'>{_nav(view)}</div><div class='post hentry'>"
        f"<h1 class='entry-title'>{_e(view.title)}</h1><div class='meta'>{share}</div>"
        f"<div class='entry-content'>{_article(view, 'h2')}</div></div>"
        f"<section class='related-posts'><h4>You may also like</h4>{_list(view.related)}</section>"
        f"<section id='comments' class='comments'><h4>Comments</h4><p>Comments on this page are "
        f"closed. Please read the rules of the house first.</p></section>"
        f"<div class='newsletter'>{NEWSLETTER}</div><div class='gdpr'>{COOKIES}</div>"
        f"{_footer(view)}"
    )


TEMPLATES = (_semantic, _divs, _tables, _blog)


def _article(view: View, tag: str) -> str:
    pieces = []
    for heading, paragraphs in view.sections:
        if heading:
            pieces.append(f"<{tag}>{_e(heading)}</{tag}>")
        pieces += [f"<p>{_e(text)}</p>" for text in paragraphs]
    return "\n".join(pieces)


def _nav(view: View) -> str:
    return f"<nav>{''.join(_a(link) for link in view.nav)}</nav>"


def _footer(view: View) -> str:
    return (
        f"<footer class='footer'><p>{_e(view.site)}. Read our terms of use and privacy policy "
        f"before you use this site.</p>{' '.join(_a(link) for link in view.footer)}</footer>"
    )


def _list(links: Links) -> str:
    return "<ul>" + "".join(f"<li>{_a(link)}</li>" for link in links) + "</ul>"


def _a(link: tuple[str, str]) -> str:
    return f'<a href="{html.escape(link[0], quote=True)}">{_e(link[1])}</a>'


def _e(text: str) -> str:
    return html.escape(text, quote=False)
