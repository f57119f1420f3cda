"""How the page looks: light and dark by the reader's setting, on paper, on a telephone."""

from psa_pose.evaluation.diagnosis.options import KEYPOINT_KINDS
from psa_pose.report.html import css_name
from psa_pose.visualization.diagnosis import COLORS

_LINES = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#7f7f7f', '#8a5a00')
_DARK_LINES = (
    '#56a8e0',
    '#ff8a3d',
    '#2cc99b',
    '#e7a3ca',
    '#9fd6f7',
    '#ffc04d',
    '#b0b0b0',
    '#d9a441',
)

_CSS = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c1e21;--dim:#5d646d;--line:#d9dde2;--soft:#f4f6f8;
--warn:#8a4b00;--warnbg:#fff4e0;--stop:#9b1c1c;--stopbg:#fdeaea;--good:#c9ced4;--black:#30343a}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e4e7eb;--dim:#9aa3ad;--line:#343a42;
--soft:#1d2126;--warn:#ffc978;--warnbg:#33260f;--stop:#ff9d9d;--stopbg:#3a1717;--good:#4a5159;
--black:#c4cad1}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem;max-width:1240px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0 .6rem}
h2{font-size:1.2rem;margin:2.2rem 0 .7rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.4rem 0 .5rem}
p{margin:.4rem 0}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.9rem}
a{color:inherit}
.dim,.missing,figcaption,.caption{color:var(--dim)}
.missing{font-style:italic}
.lead{display:flex;flex-wrap:wrap;gap:.6rem 2.2rem;margin:.8rem 0}
.lead div{min-width:8rem}
.lead b{display:block;font-size:1.75rem;line-height:1.2;font-weight:650}
.lead span{display:block;color:var(--dim);font-size:.88rem}
.notice{list-style:none;margin:.8rem 0;padding:.6rem .9rem;border-left:4px solid;border-radius:3px}
.notice.warning{color:var(--warn);background:var(--warnbg)}
.notice.stop{color:var(--stop);background:var(--stopbg)}
.notice.note{color:var(--dim);background:var(--soft)}
.scroll{overflow-x:auto;max-width:100%;margin:.6rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
.caption{margin:.9rem 0 0;font-size:.9rem}
th,td{padding:.22rem .7rem;text-align:right;border-bottom:1px solid var(--line);font-weight:400;
white-space:nowrap}
thead th{color:var(--dim);font-weight:600;vertical-align:bottom}
table.wrap th,table.wrap td{white-space:normal;overflow-wrap:break-word;min-width:6rem}
.one{white-space:nowrap}
th.text,td.text{text-align:left}
tbody th{font-weight:500}
tr:has(.best) td,tr:has(.best) th{font-weight:650}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.15rem 1.2rem;margin:.5rem 0}
dt{color:var(--dim)}dd{margin:0;min-width:0}
pre{background:var(--soft);padding:.8rem;overflow-x:auto;font-size:.82rem;line-height:1.4;
border-radius:4px;overflow-wrap:normal}
code{font-size:.88em;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
summary{cursor:pointer;color:var(--dim)}
figure{margin:0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:1.2rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr));gap:.9rem}
.same{grid-template-columns:repeat(auto-fit,minmax(min(100%,270px),1fr));margin-bottom:1.4rem}
.example{font-size:.85rem}
.example img{width:100%;height:auto;max-height:340px;object-fit:contain;
background:var(--soft);border-radius:4px}
svg{width:100%;height:auto;display:block}
svg line{stroke:var(--line)}
svg text{fill:var(--dim);font-size:12px;font-family:inherit}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}
.faint{opacity:.28;stroke-width:1.2}
.dot{fill:var(--c)}
.bar{display:inline-block;width:8.5rem;height:.85rem;background:var(--soft);vertical-align:-.08rem;
margin-right:.5rem;white-space:nowrap;overflow:hidden;border-radius:2px;font-size:0;text-align:left}
.bar.wide{width:15rem;margin:0}
.bar+b{font-weight:400;display:inline-block;min-width:2.6rem;text-align:right}
.fill{display:inline-block;height:100%;background:var(--c)}
.key{width:.8rem;height:.8rem;border-radius:2px;vertical-align:-.06rem}
.legend{font-size:.85rem;color:var(--dim);display:flex;flex-wrap:wrap;gap:0 1rem}
.bar,.fill{print-color-adjust:exact;-webkit-print-color-adjust:exact}
@media(max-width:600px){body{padding:.8rem;font-size:14px}dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:.4rem}}
@media print{:root{--bg:#fff;--fg:#000;--dim:#444;--line:#ccc;--soft:#f2f2f2;--warn:#703c00;
--warnbg:#fff4e0;--stop:#8b0000;--stopbg:#fdeaea;--good:#c9ced4;--black:#30343a}
html{font-size:11px}body{max-width:none;padding:0;font-size:1rem}th,td{padding:.12rem .4rem}
.bar.wide{width:12rem}nav{display:none}figure,tr{break-inside:avoid}
h2,h3{break-after:avoid}.scroll{overflow:visible}pre{white-space:pre-wrap}
.gallery{grid-template-columns:repeat(4,1fr)}.example img{height:150px}}
"""


def stylesheet() -> str:
    """All of it, with the colours of lines and of kinds of errors."""
    rules = [f'.s{i}{{--c:{color}}}' for i, color in enumerate(_LINES)]
    dark = [f'.s{i}{{--c:{color}}}' for i, color in enumerate(_DARK_LINES)]
    rules += [f'.{css_name(kind)}{{--c:{color}}}' for kind, color in COLORS.items()]
    rules += ['.k-good{--c:var(--good)}', '.k-missed-person{--c:var(--black)}', '.c1{--c:#3d86b8}']
    media = '@media screen and (prefers-color-scheme:dark){' + ''.join(dark) + '}'
    return ''.join([_CSS.strip(), *rules, media]).replace('\n', '')


SHOWN = (*KEYPOINT_KINDS, 'missed person')
"""Kinds of what became of a keypoint, in the order of legends."""
