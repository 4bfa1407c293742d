import { html, type Html, type Interpolated } from './html.ts'
import { renderPage } from './layout.ts'
import { formatInstant } from './money.ts'

export interface ClockView {
  readonly now: number
  /** Times as fast as real time; 0 stands still. */
  readonly rate: number
}

export interface TestClockView {
  readonly id: string
  readonly name: string | null
  readonly frozenTime: number
  readonly status: string
}

export interface EventRow {
  readonly id: string
  readonly type: string
  readonly created: number
  readonly subject: string | null
}

export interface DeliveryRow {
  readonly id: string
  readonly event: string
  readonly type: string
  readonly url: string
  readonly state: string
  readonly attempts: number
  readonly result: string | null
}

export interface ObjectRow {
  readonly id: string
  readonly created: number | null
  readonly facts: string
}

const tabs = [
  ['/', 'Overview'],
  ['/ui/events', 'Events'],
  ['/ui/deliveries', 'Deliveries'],
] as const

/** The frame of the sandbox's own pages. */
export function renderOwnPage(page: {
  readonly title: string
  readonly path: string
  readonly problem?: string | null
  readonly body: Interpolated
}): Html {
  const problem = page.problem ?? null
  return renderPage({
    title: page.title,
    wide: true,
    problem: problem !== null,
    body: html`<nav class="tabs" aria-label="Sandbox">
        ${tabs.map(([href, label]) => html`<a href="${href}" ${href === page.path ? html`aria-current="page"` : null}>${label}</a>`)}
      </nav>
      <h1>${page.title}</h1>
      ${
        problem !== null &&
        html`<div class="problem" role="alert" tabindex="-1" autofocus>
          <h2>That did not work</h2>
          <p>${problem}</p>
        </div>`
      }
      ${page.body}`,
  })
}

const steps = [
  ['3600', '1 hour'],
  ['86400', '1 day'],
  ['604800', '7 days'],
  ['2678400', '31 days'],
] as const

function renderSteps(action: string, label: string): Html {
  return html`<form method="post" action="${action}" aria-label="${label}">
    <div class="row">
      ${steps.map(([seconds, words]) => html`<button class="plain inline" name="advance_by" value="${seconds}">+ ${words}</button>`)}
    </div>
  </form>`
}

/** A time as the browser's date field writes it, in UTC. */
const fieldTime = (seconds: number): string => new Date(seconds * 1000).toISOString().slice(0, 16)

function renderJump(action: string, id: string, from: number): Html {
  return html`<form method="post" action="${action}">
    <div class="field">
      <label for="${id}">Move to (UTC)</label>
      <div class="row">
        <input
          type="datetime-local"
          id="${id}"
          name="advance_to"
          value="${fieldTime(from)}"
          min="${fieldTime(from)}"
          required
          class="inline"
        />
        <button class="plain inline">Move</button>
      </div>
    </div>
  </form>`
}

function renderClock(clock: ClockView): Html {
  const words =
    clock.rate === 0
      ? 'It stands still.'
      : clock.rate === 1
        ? 'It runs in real time.'
        : `It runs ${clock.rate} times as fast as real time.`
  return html`<section class="card" aria-labelledby="clock">
    <h2 id="clock">Clock</h2>
    <p class="total time">${formatInstant(clock.now)}</p>
    <p class="quiet">${words}</p>
    ${renderSteps('/ui/clock', 'Move the clock forward')}
    <div class="actions">
      ${renderJump('/ui/clock', 'clock-to', clock.now)}
      <form method="post" action="/ui/clock" aria-label="How the clock runs">
        <div class="row">
          <button class="plain inline" name="run" value="freeze">Stand still</button>
          <button class="plain inline" name="run" value="real">Real time</button>
          <button class="plain inline" name="run" value="hour">An hour a second</button>
        </div>
      </form>
    </div>
  </section>`
}

function renderTestClock(clock: TestClockView): Html {
  const action = `/ui/test_clocks/${clock.id}`
  return html`<article class="card" aria-label="${clock.name ?? clock.id}">
    <div class="row between">
      <h3><a href="/ui/objects/test_helpers.test_clock/${clock.id}">${clock.name ?? clock.id}</a></h3>
      <span class="badge">${clock.status.replaceAll('_', ' ')}</span>
    </div>
    <p>${formatInstant(clock.frozenTime)}</p>
    ${renderSteps(action, `Move ${clock.name ?? clock.id} forward`)}
    <div class="actions">${renderJump(action, `to-${clock.id}`, clock.frozenTime)}</div>
  </article>`
}

function renderEvents(events: readonly EventRow[]): Html {
  if (events.length === 0) return html`<p class="quiet">Nothing has happened yet.</p>`
  return html`<table>
    <thead>
      <tr>
        <th scope="col">Event</th>
        <th scope="col">Object</th>
      </tr>
    </thead>
    <tbody>
      ${events.map(
        (event) =>
          html`<tr>
            <td class="wrap">
              <a href="/ui/objects/event/${event.id}">${event.type}</a>
              <div class="quiet small">${formatInstant(event.created)}</div>
            </td>
            <td class="wrap">${event.subject !== null && html`<a href="/ui/find/${event.subject}">${event.subject}</a>`}</td>
          </tr>`,
      )}
    </tbody>
  </table>`
}

/** Links to the next page of a list, if there is one. */
function renderMore(href: string | null): Html | null {
  return href === null ? null : html`<p><a class="button plain inline" href="${href}">Older</a></p>`
}

/** The overview at `/`. */
export function renderHome(view: {
  readonly clock: ClockView
  readonly testClocks: readonly TestClockView[]
  readonly counts: ReadonlyArray<readonly [name: string, count: number]>
  readonly events: readonly EventRow[]
  readonly address: string
  readonly problem: string | null
}): Html {
  return renderOwnPage({
    path: '/',
    problem: view.problem,
    title: 'Stripe sandbox',
    body: html`<p>
        The API answers at <code>${view.address}</code>. Any key that begins with <code>sk_test_</code> is taken unless keys were
        set.
      </p>
      <div class="columns">
        <div>
          ${renderClock(view.clock)} ${view.testClocks.length > 0 && html`<h2>Test clocks</h2>`}
          ${view.testClocks.map(renderTestClock)}
        </div>
        <div>
          <section class="card" aria-labelledby="objects">
            <h2 id="objects">Objects</h2>
            ${
              view.counts.length === 0
                ? html`<p class="quiet">There are no objects yet.</p>`
                : html`<dl class="lines">
                    ${view.counts.map(
                      ([name, count]) =>
                        html`<div>
                          <dt><a href="/ui/objects/${name}">${name}</a></dt>
                          <dd>${count}</dd>
                        </div>`,
                    )}
                  </dl>`
            }
          </section>
          <section class="card" aria-labelledby="latest">
            <h2 id="latest">Latest events</h2>
            ${renderEvents(view.events)}
          </section>
        </div>
      </div>`,
  })
}

/** A list of objects of one kind, newest first. */
export function renderObjects(view: {
  readonly name: string
  readonly rows: readonly ObjectRow[]
  readonly older: string | null
}): Html {
  return renderOwnPage({
    path: '',
    title: view.name,
    body: html`<div class="card">
        ${
          view.rows.length === 0
            ? html`<p class="quiet">There are none.</p>`
            : html`<table>
                <thead>
                  <tr>
                    <th scope="col">Id</th>
                    <th scope="col">About</th>
                  </tr>
                </thead>
                <tbody>
                  ${view.rows.map(
                    (row) =>
                      html`<tr>
                        <td class="wrap">
                          <a href="/ui/objects/${view.name}/${row.id}">${row.id}</a>
                          ${row.created !== null && html`<div class="quiet small">${formatInstant(row.created)}</div>`}
                        </td>
                        <td class="wrap">${row.facts}</td>
                      </tr>`,
                  )}
                </tbody>
              </table>`
        }
      </div>
      ${renderMore(view.older)}`,
  })
}

/** One object as JSON; ids in it are links. */
export function renderObject(view: {
  readonly name: string
  readonly id: string
  readonly json: Interpolated
  readonly deliveries: readonly DeliveryRow[] | null
}): Html {
  return renderOwnPage({
    path: '',
    title: view.id,
    body: html`<p><a href="/ui/objects/${view.name}">${view.name}</a></p>
      ${
        view.deliveries !== null &&
        html`<section class="card" aria-labelledby="sent">
          <h2 id="sent">Deliveries</h2>
          ${renderDeliveryTable(view.deliveries)}
        </section>`
      }
      ${html`<pre tabindex="0" role="region" aria-label="JSON">${view.json}</pre>`}`,
  })
}

function renderDelivery(delivery: DeliveryRow): Html {
  const tone = delivery.state === 'delivered' ? 'good' : delivery.state === 'failed' ? 'bad' : ''
  return html`<tr>
    <td><a href="/ui/objects/event/${delivery.event}">${delivery.type}</a></td>
    <td>${delivery.url}</td>
    <td><span class="badge ${tone}">${delivery.state}</span></td>
    <td class="number">${delivery.attempts}</td>
    <td>${delivery.result}</td>
    <td>
      <form method="post" action="/ui/deliveries/${delivery.id}/resend">
        <button class="plain inline">Send again<span class="unseen"> ${delivery.type} to ${delivery.url}</span></button>
      </form>
    </td>
  </tr>`
}

function renderDeliveryTable(rows: readonly DeliveryRow[]): Html {
  if (rows.length === 0) return html`<p class="quiet">Nothing was sent: no webhook endpoint listens.</p>`
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Deliveries">
    <table>
      <thead>
        <tr>
          <th scope="col">Event</th>
          <th scope="col">Endpoint</th>
          <th scope="col">State</th>
          <th scope="col" class="number">Tries</th>
          <th scope="col">Last answer</th>
          <th scope="col"><span class="unseen">Action</span></th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(renderDelivery)}
      </tbody>
    </table>
  </div>`
}

/** All events, newest first. */
export function renderEventList(view: { readonly events: readonly EventRow[]; readonly older: string | null }): Html {
  return renderOwnPage({
    body: html`<div class="card">${renderEvents(view.events)}</div>
      ${renderMore(view.older)}`,
    path: '/ui/events',
    title: 'Events',
  })
}

/** The last deliveries, newest first, each with a button that sends it again. */
export function renderDeliveries(rows: readonly DeliveryRow[]): Html {
  return renderOwnPage({
    body: html`<div class="card">${renderDeliveryTable(rows)}</div>`,
    path: '/ui/deliveries',
    title: 'Deliveries',
  })
}
