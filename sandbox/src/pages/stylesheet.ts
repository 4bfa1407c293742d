/** The one stylesheet of all pages. Colours are pairs of at least 4.5:1 in both schemes (WCAG AA). */
export const stylesheet = `
:root {
  color-scheme: light dark;
  --ground: #f5f6f8; --surface: #ffffff; --ink: #1b2030; --quiet: #565d70; --line: #d3d7e0; --edge: #7d8496;
  --accent: #4338ca; --accent-ink: #ffffff; --good: #0b6b3a; --bad: #b3181f; --bad-ground: #fdf0f0; --note: #eef0fb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12141b; --surface: #1b1e28; --ink: #e9ebf2; --quiet: #a8aec0; --line: #343a4b; --edge: #8087a0;
    --accent: #a5b0ff; --accent-ink: #12141b; --good: #63d29a; --bad: #ff9a9a; --bad-ground: #34191d; --note: #232740;
  }
}
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.5 system-ui, "Liberation Sans", sans-serif; overflow-wrap: anywhere; }
a { color: var(--accent); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .75rem; }
h2 { font-size: 1.125rem; line-height: 1.3; margin: 0 0 .75rem; }
h3 { font-size: 1.0625rem; line-height: 1.3; margin: 0; }
p { margin: 0 0 .75rem; }
.skip { position: absolute; left: -100rem; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip:focus { left: 1rem; top: .5rem; background: var(--surface); padding: .5rem; }
.bar { background: var(--note); border-bottom: 1px solid var(--line); padding: .5rem 1rem; font-size: .875rem; display: flex; gap: .5rem 1.5rem; flex-wrap: wrap; justify-content: center; }
main { max-width: 34rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
main.wide { max-width: 72rem; }
.columns { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.5rem; align-items: start; }
@media (min-width: 52rem) { .columns { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 3rem; } }
.card { background: var(--surface); border: 1px solid var(--line); border-radius: .5rem; padding: 1.25rem; margin: 0 0 1.25rem; }
.card > :last-child { margin-bottom: 0; }
.card > dl.lines:first-child > div:first-child, details[open] dl > div:first-child { padding-top: 0; }
.card > dl.lines:last-child > div:last-child { padding-bottom: 0; }
.card > dl + p { margin-top: .75rem; }
details.card { padding-block: .75rem; }
.total { font-size: 2rem; line-height: 1.2; font-weight: 650; margin: 0 0 .25rem; font-variant-numeric: tabular-nums; }
.total.time { font-size: 1.375rem; }
.total .quiet { font-weight: 400; }
.quiet { color: var(--quiet); }
.small { font-size: .875rem; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .6rem; font-size: .8125rem; color: var(--quiet); white-space: nowrap; }
.badge.good { color: var(--good); }
.badge.bad { color: var(--bad); }
dl.lines { margin: 0; }
dl.lines > div { display: flex; justify-content: space-between; gap: 1rem; padding: .5rem 0; border-top: 1px solid var(--line); }
dl.lines > div:first-child { border-top: 0; }
dl.lines dt { min-width: 0; }
dl.lines dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
dl.facts dd { white-space: normal; min-width: 0; }
dl.facts dt, dl.lines dt:has(+ dd.wrap) { flex: none; }
dl.lines .sum { font-weight: 650; }
form { margin: 0; }
fieldset { border: 0; margin: 0 0 1rem; padding: 0; min-width: 0; }
legend { font-weight: 650; padding: 0; margin-bottom: .5rem; }
.field { margin: 0 0 1rem; }
.field label { display: block; font-weight: 600; margin-bottom: .25rem; }
.field .hint { color: var(--quiet); font-size: .875rem; margin: 0 0 .25rem; }
.field .error { color: var(--bad); font-size: .875rem; font-weight: 600; margin: 0 0 .25rem; }
input[type=text], input[type=email], input[type=number], input[type=tel], input[type=datetime-local], select, textarea {
  width: 100%; min-height: 2.75rem; padding: .5rem .75rem; font: inherit; color: var(--ink); background: var(--surface);
  border: 1px solid var(--edge); border-radius: .375rem;
}
[aria-invalid=true] { border: 2px solid var(--bad) !important; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.option { display: flex; gap: .75rem; align-items: flex-start; padding: .75rem; border: 1px solid var(--line); border-radius: .375rem; margin-bottom: .5rem; }
.option input { width: 1.25rem; height: 1.25rem; margin: .125rem 0 0; flex: none; accent-color: var(--accent); }
.option label { flex: 1; min-width: 0; font-weight: 600; }
.option label .detail { display: block; font-weight: 400; color: var(--quiet); font-size: .875rem; }
button, .button {
  display: block; width: 100%; min-height: 2.75rem; padding: .6rem 1rem; font: inherit; font-weight: 650; text-align: center; text-decoration: none;
  color: var(--accent-ink); background: var(--accent); border: 1px solid var(--accent); border-radius: .375rem; cursor: pointer;
}
button.plain, .button.plain { color: var(--ink); background: transparent; border-color: var(--edge); }
button.danger { color: var(--surface); background: var(--bad); border-color: var(--bad); }
button.inline, .button.inline { display: inline-block; width: auto; }
.actions { display: grid; gap: .75rem; margin-top: 1rem; }
.row { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; }
.row > input { width: auto; flex: 1 1 12rem; }
.row.between { justify-content: space-between; flex-wrap: nowrap; }
.row.between > :first-child { min-width: 0; margin: 0; }
.row.between + * { margin-top: .75rem; }
.problem { background: var(--bad-ground); border: 2px solid var(--bad); border-radius: .5rem; padding: 1rem 1.25rem; margin: 0 0 1.25rem; }
.problem h2 { color: var(--bad); margin-bottom: .25rem; }
.problem ul { margin: 0; padding-left: 1.25rem; }
.problem a { color: var(--bad); }
.notice { background: var(--note); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1.25rem; margin: 0 0 1.25rem; }
.notice > :last-child { margin-bottom: 0; }
.scroll { overflow-x: auto; position: relative; }
table { width: 100%; border-collapse: collapse; font-size: .9375rem; }
th, td { text-align: left; padding: .5rem .75rem .5rem 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: normal; }
th:last-child, td:last-child { padding-right: 0; }
td.wrap { overflow-wrap: anywhere; }
dl.lines dd.wrap { white-space: normal; }
.card > table:first-child thead th { padding-top: 0; }
thead th { border-top: 0; color: var(--quiet); font-size: .8125rem; font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { margin: 0; padding: 1rem; overflow-x: auto; background: var(--ground); border: 1px solid var(--line); border-radius: .375rem; font-size: .8125rem; line-height: 1.45; overflow-wrap: normal; }
code { font-size: .875em; }
details summary { cursor: pointer; font-weight: 600; padding: .25rem 0; }
nav.tabs { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0 0 1.25rem; padding-bottom: .5rem; border-bottom: 1px solid var(--line); }
nav.tabs a[aria-current] { color: var(--ink); font-weight: 650; }
footer { color: var(--quiet); font-size: .875rem; text-align: center; padding: 0 1rem 2rem; }
@media print { .bar, form, footer { display: none; } }
`
