"""How the HTML report looks, in light and in dark."""

STYLE = """
:root { color-scheme: light dark; --page: #f5f6f8; --paper: #ffffff; --ink: #1b2430;
  --soft: #566273; --line: #dfe4ea; --accent: #1f5fa8; --note: #fff6e0;
  --note-line: #d9a520; --stripe: #f8fafc; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12161c; --paper: #1b212a; --ink: #e4e9f0; --soft: #a2aebd;
    --line: #333d4a; --accent: #7db4f0; --note: #2e2817; --note-line: #c2962a;
    --stripe: #202732; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 68rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue",
  Arial, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: .5rem 0 .75rem;
  letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 0 0 .75rem; scroll-margin-top: 1rem; }
p { margin: 0 0 .75rem; max-width: 46rem; }
header p { margin-bottom: .2rem; color: var(--soft); }
a { color: var(--accent); }
.headline { display: grid; gap: .75rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 11.5rem), 1fr)); }
.headline > div { background: var(--paper); border: 1px solid var(--line);
  border-radius: .5rem; padding: .8rem 1rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; }
dd strong { display: block; font-size: 1.7rem; line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums; }
dd span { color: var(--soft); font-size: .85rem; font-variant-numeric: tabular-nums; }
.warnings { background: var(--note); border-left: 4px solid var(--note-line);
  border-radius: .3rem; padding: .9rem 1.1rem; margin: 1.25rem 0; }
.warnings h2 { font-size: 1rem; margin-bottom: .4rem; }
.warnings ul { margin: 0; padding-left: 1.1rem; }
.warnings li + li { margin-top: .35rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem;
  padding: 0; margin: 1.25rem 0; font-size: .92rem; }
section { background: var(--paper); border: 1px solid var(--line);
  border-radius: .5rem; padding: 1.25rem; margin: 1.25rem 0; }
.table { overflow-x: auto; margin: 1rem 0; }
.table:focus-visible, figure:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem;
  font-size: .88rem; }
th, td { padding: .42rem .8rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { padding-left: .5rem; }
thead th { border-bottom: 2px solid var(--line); color: var(--soft); font-weight: 600;
  white-space: nowrap; }
tbody th { font-weight: 500; }
tbody tr:nth-child(even) { background: var(--stripe); }
td { min-width: 6.5rem; }
.plots { display: grid; gap: 1.25rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
figure { margin: 0; max-width: 29rem; }
figure.wide { max-width: 46rem; overflow-x: auto; }
figure.wide svg { min-width: 30rem; }
@media (min-width: 62rem) {
  .beside { display: grid; gap: 1.5rem; align-items: start;
    grid-template-columns: minmax(0, 1fr) minmax(0, 25rem); }
  section[aria-labelledby="reporting-checklists"] td:nth-child(2) {
    min-width: 19rem; }
}
figure svg { display: block; width: 100%; height: auto; fill: currentColor; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .4rem; }
footer { color: var(--soft); font-size: .85rem; }
@media (max-width: 34rem) {
  body { padding: 1rem .75rem 2rem; }
  h1 { font-size: 1.4rem; }
  section { padding: 1rem .85rem; }
  .headline { grid-template-columns: 1fr 1fr; gap: .5rem; }
  .headline > div { padding: .6rem .7rem; }
  dd strong { font-size: 1.35rem; }
  th, td { padding: .42rem .5rem; }
}
@media print {
  body { background: none; max-width: none; padding: 0; }
  section { border: none; padding: 0; } figure, tr { break-inside: avoid; }
  nav { display: none; } .table { overflow: visible; }
}
"""
