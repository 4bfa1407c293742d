import type { Controls } from '../control/routes.ts'
import type { Ctx } from '../engine/context.ts'
import { StripeError } from '../engine/errors.ts'
import { page, redirect, type PageRequest, type PageResponse, type PageRoute } from '../http/pages.ts'
import type { Stored, StoredName, StoredObject } from '../model/stored.ts'
import { advanceTestClock } from '../resources/test-clocks.ts'
import {
  renderDeliveries,
  renderEventList,
  renderHome,
  renderObject,
  renderObjects,
  type DeliveryRow,
  type EventRow,
  type ObjectRow,
} from './home-view.ts'
import { html, type Html } from './html.ts'
import { renderMessage } from './layout.ts'
import { respond, respondNotFound, segment, textOf } from './respond.ts'

const pageSize = 50

/** The kinds that a client of the API can see. */
function shownNames(ctx: Ctx): StoredName[] {
  return ctx.store.names().filter((name) => !name.startsWith('_') && !name.startsWith('deleted_'))
}

function newest<K extends StoredName>(ctx: Ctx, name: K, from: string | null): { rows: Array<Stored<K>>; older: string | null } {
  const start = from !== null && ctx.get(name, from) !== undefined ? { from } : {}
  const rows: Array<Stored<K>> = []
  for (const object of ctx.store.walk(name, { forward: false, ...start })) {
    if (rows.length === pageSize) return { older: (rows.at(-1) as StoredObject | undefined)?.id ?? null, rows }
    rows.push(object)
  }
  return { older: null, rows }
}

function eventRow(event: Stored<'event'>): EventRow {
  const { id } = event.data.object
  return { created: event.created, id: event.id, subject: typeof id === 'string' ? id : null, type: event.type }
}

function deliveryRow(ctx: Ctx, delivery: Stored<'_delivery'>): DeliveryRow {
  return {
    attempts: delivery.attempts,
    event: delivery.event,
    id: delivery.id,
    result: delivery.lastResult,
    state: delivery.state,
    type: ctx.get('event', delivery.event)?.type ?? delivery.event,
    url: ctx.get('webhook_endpoint', delivery.endpoint)?.url ?? delivery.endpoint,
  }
}

const tellingFields = ['status', 'name', 'email', 'type', 'amount', 'total', 'unit_amount', 'currency', 'customer'] as const

function objectRow(object: StoredObject): ObjectRow {
  const facts = tellingFields.flatMap((field) => {
    const value = object[field]
    return typeof value === 'string' || typeof value === 'number' ? [`${field} ${value}`] : []
  })
  return { created: typeof object['created'] === 'number' ? object['created'] : null, facts: facts.join(', '), id: object.id }
}

/** The kind of an object that an id names. */
function kindOf(ctx: Ctx, id: string): StoredName | null {
  return shownNames(ctx).find((name) => ctx.get(name, id) !== undefined) ?? null
}

/** JSON as markup: a text that is the id of another object is a link to it. */
function linked(ctx: Ctx, value: unknown, own: string): Html[] {
  const lines = JSON.stringify(value, null, 2).split('\n')
  return lines.map((line, index) => {
    const end = index === lines.length - 1 ? '' : '\n'
    const match = /^(\s*(?:"[^"]+": )?)"([A-Za-z0-9_]{3,80})"(,?)$/.exec(line)
    const [, before = '', id = '', after = ''] = match ?? []
    if (match === null || id === own || !id.includes('_') || kindOf(ctx, id) === null) return html`${line}${end}`
    return html`${before}"<a href="/ui/find/${id}">${id}</a>"${after}${end}`
  })
}

function homePage(request: PageRequest, controls: Controls, problem: string | null = null, status = 200): PageResponse {
  return request.transact((ctx) => {
    const counts = shownNames(ctx).map((name) => [name, ctx.store.count(name)] as const)
    const content = renderHome({
      address: ctx.baseUrl,
      clock: controls.clock(),
      counts: counts.filter(([, count]) => count > 0).sort(([left], [right]) => (left < right ? -1 : 1)),
      events: newest(ctx, 'event', null).rows.slice(0, 10).map(eventRow),
      problem,
      testClocks: newest(ctx, 'test_helpers.test_clock', null).rows.map((clock) => ({
        frozenTime: clock.frozen_time,
        id: clock.id,
        name: clock.name,
        status: clock.status,
      })),
    })
    return respond(content, status)
  })
}

const objectsPage = (request: PageRequest): PageResponse =>
  request.transact((ctx) => {
    const name = shownNames(ctx).find((candidate) => candidate === segment(request, 'name'))
    if (name === undefined) return respondNotFound('kind of object')
    const { older, rows } = newest(ctx, name, request.url.searchParams.get('from'))
    const next = older === null ? null : `/ui/objects/${name}?from=${older}`
    return respond(renderObjects({ name, older: next, rows: (rows as unknown as StoredObject[]).map(objectRow) }))
  })

const objectPage = (request: PageRequest): PageResponse =>
  request.transact((ctx) => {
    const name = shownNames(ctx).find((candidate) => candidate === segment(request, 'name'))
    const id = segment(request, 'id')
    const object = name === undefined ? undefined : ctx.get(name, id)
    if (name === undefined || object === undefined) return respondNotFound('object')
    const deliveries =
      name === 'event' ? ctx.store.by('_delivery', 'event', id).map((delivery) => deliveryRow(ctx, delivery)) : null
    return respond(renderObject({ deliveries, id, json: linked(ctx, ctx.present(object), id), name }))
  })

const findPage = (request: PageRequest): PageResponse =>
  request.transact((ctx) => {
    const id = segment(request, 'id')
    const name = kindOf(ctx, id)
    return name === null ? respondNotFound('object') : redirect(`/ui/objects/${name}/${id}`)
  })

const eventsPage = (request: PageRequest): PageResponse =>
  request.transact((ctx) => {
    const { older, rows } = newest(ctx, 'event', request.url.searchParams.get('from'))
    return respond(renderEventList({ events: rows.map(eventRow), older: older === null ? null : `/ui/events?from=${older}` }))
  })

const deliveriesPage = (request: PageRequest): PageResponse =>
  request.transact((ctx) =>
    respond(renderDeliveries(newest(ctx, '_delivery', null).rows.map((delivery) => deliveryRow(ctx, delivery)))),
  )

/** Another site's page must not move the clock of a developer who looks at it: a form of ours names our own address as its origin. */
function isOwnForm(request: PageRequest): boolean {
  const { host, origin } = request.headers
  const site = request.headers['sec-fetch-site'] ?? 'none'
  if (typeof origin !== 'string' || origin === 'null') return site === 'same-origin' || site === 'none'
  return URL.canParse(origin) && new URL(origin).host === host
}

const foreign = (): PageResponse =>
  respond(renderMessage({ text: 'This form was sent from another site, and did nothing.', title: 'Refused' }), 403)

/** Where a form wants a clock to go: unix seconds, or null when it says nothing that can be read. */
function targetOf(request: PageRequest, from: number): number | null {
  const by = textOf(request.form, 'advance_by')
  const to = textOf(request.form, 'advance_to')
  const target = by === '' ? Date.parse(`${to}Z`) / 1000 : from + Number(by)
  return Number.isSafeInteger(target) ? target : null
}

function runClock(controls: Controls, how: string): void {
  const { now } = controls.clock()
  if (how === 'freeze') controls.setClock({ frozen: now })
  if (how === 'real') controls.setClock('real')
  if (how === 'hour') controls.setClock({ at: now, rate: 3600 })
}

async function moveClock(request: PageRequest, controls: Controls): Promise<PageResponse> {
  if (!isOwnForm(request)) return foreign()
  const how = textOf(request.form, 'run')
  if (how !== '') {
    runClock(controls, how)
    return redirect('/')
  }
  const { now } = controls.clock()
  const target = targetOf(request, now)
  if (target === null || target < now)
    return homePage(request, controls, 'The clock moves forward only, to a time that can be read.', 400)
  controls.advanceTo(target)
  await controls.settled()
  return redirect('/')
}

async function moveTestClock(request: PageRequest, controls: Controls): Promise<PageResponse> {
  if (!isOwnForm(request)) return foreign()
  try {
    request.transact((ctx) => {
      const clock = ctx.require('test_helpers.test_clock', segment(request, 'id'))
      advanceTestClock(ctx, clock.id, targetOf(request, clock.frozen_time) ?? clock.frozen_time)
    })
  } catch (error) {
    if (!(error instanceof StripeError)) throw error
    return homePage(request, controls, error.body.message, error.status)
  }
  await controls.settled()
  return redirect('/')
}

async function resend(request: PageRequest, controls: Controls): Promise<PageResponse> {
  if (!isOwnForm(request)) return foreign()
  const id = segment(request, 'id')
  if (request.transact((ctx) => ctx.get('_delivery', id)) === undefined) return respondNotFound('delivery')
  controls.resend(id)
  await controls.settled()
  return redirect('/ui/deliveries')
}

/** The sandbox's own pages: what it holds, what happened, what was sent, and the clocks. */
export function homePages(controls: Controls): PageRoute[] {
  return [
    page('GET /', (request) => homePage(request, controls)),
    page('GET /ui/objects/{name}', objectsPage),
    page('GET /ui/objects/{name}/{id}', objectPage),
    page('GET /ui/find/{id}', findPage),
    page('GET /ui/events', eventsPage),
    page('GET /ui/deliveries', deliveriesPage),
    page('POST /ui/deliveries/{id}/resend', (request) => resend(request, controls)),
    page('POST /ui/clock', (request) => moveClock(request, controls)),
    page('POST /ui/test_clocks/{id}', (request) => moveTestClock(request, controls)),
  ]
}
