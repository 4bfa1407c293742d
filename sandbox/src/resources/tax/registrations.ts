/** Where the account is registered to collect tax. Source: docs.stripe.com/api/tax/registrations. */
import type { TaxRegistration } from '../../billing/automatic-tax.ts'
import { isRegistrationActive } from '../../billing/automatic-tax.ts'
import { standardRateOf } from '../../billing/tax-table.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing, notSupported } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { type Module, operation, presenter } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'

type Registration = Stored<'tax.registration'>
type CreateParams = Omit<Params['POST /v1/tax/registrations'], 'expand'>
type UpdateParams = Omit<Params['POST /v1/tax/registrations/{id}'], 'expand'>

/** What a registration says of its own country. */
interface Options {
  readonly type: string
  readonly state?: string
  readonly standard?: { readonly place_of_supply_scheme?: string }
}

/** The kinds of registration that cover sales of software; goods and local taxes have others. */
const SUPPORTED_TYPES = new Set(['oss_non_union', 'oss_union', 'simplified', 'standard', 'state_sales_tax'])

function optionsOf(registration: Pick<Registration, 'country' | 'country_options'>): Options | undefined {
  const options: Readonly<Record<string, Options | undefined>> = registration.country_options
  return options[registration.country.toLowerCase()]
}

/** A registration as the rules of tax read it. */
export function registrationTerms(registration: Registration): TaxRegistration {
  const options = optionsOf(registration)
  return {
    activeFrom: registration.active_from,
    country: registration.country,
    expiresAt: registration.expires_at,
    isUnionWide: options?.type === 'oss_union' || options?.type === 'oss_non_union',
    state: options?.state ?? null,
  }
}

/** Checks what a registration is for; everything that the table of rates cannot serve is refused by name. */
function requireSupported(country: string, given: Pick<Registration, 'country' | 'country_options'>): void {
  const key = country.toLowerCase()
  const options = optionsOf(given)
  if (options === undefined) throw missing(`country_options[${key}]`)
  const other = Object.keys(given.country_options).find((name) => name !== key)
  if (other !== undefined) {
    throw invalidRequest(`You can only set \`country_options[${key}]\` for a registration in ${country}.`, {
      param: `country_options[${other}]`,
    })
  }
  const type = `country_options[${key}][type]`
  if (!SUPPORTED_TYPES.has(options.type)) throw notSupported(`A tax registration of the type \`${options.type}\``, type)
  const scheme = options.standard?.place_of_supply_scheme ?? 'standard'
  if (scheme !== 'standard') {
    throw notSupported(`The scheme \`${scheme}\``, `country_options[${key}][standard][place_of_supply_scheme]`)
  }
  if (standardRateOf({ country, state: options.state ?? null }) === null) {
    const place = options.state === undefined ? country : `${country}-${options.state}`
    throw notSupported(`Tax in ${place}`, options.state === undefined ? 'country' : `country_options[${key}][state]`)
  }
}

function instantOf(at: 'now' | number, now: number): number {
  return at === 'now' ? now : at
}

function requireOrder(activeFrom: number, expiresAt: number | null): void {
  if (expiresAt === null || expiresAt > activeFrom) return
  throw invalidRequest('`expires_at` must be after `active_from`.', { param: 'expires_at' })
}

function create(ctx: Ctx, params: CreateParams): Registration {
  const country = params.country.toUpperCase()
  const given = { country, country_options: params.country_options as Registration['country_options'] }
  requireSupported(country, given)
  const now = ctx.now()
  const activeFrom = instantOf(params.active_from, now)
  const expiresAt = params.expires_at ?? null
  requireOrder(activeFrom, expiresAt)
  return ctx.create('tax.registration', {
    id: ctx.newId('taxreg', 24),
    object: 'tax.registration',
    active_from: activeFrom,
    ...given,
    created: now,
    expires_at: expiresAt,
    livemode: false,
  })
}

function update(ctx: Ctx, id: string, params: UpdateParams): Registration {
  const old = ctx.require('tax.registration', id)
  const now = ctx.now()
  const { active_from: from, expires_at: until } = params
  const activeFrom = from === undefined ? old.active_from : instantOf(from, now)
  const expiresAt = until === undefined ? old.expires_at : until === '' ? null : instantOf(until, now)
  requireOrder(activeFrom, expiresAt)
  return ctx.update('tax.registration', id, { active_from: activeFrom, expires_at: expiresAt })
}

function statusOf(ctx: Ctx, registration: Registration): 'active' | 'expired' | 'scheduled' {
  const terms = registrationTerms(registration)
  const now = ctx.now()
  if (isRegistrationActive(terms, now)) return 'active'
  return terms.activeFrom > now ? 'scheduled' : 'expired'
}

const operations = [
  operation({
    on: 'POST /v1/tax/registrations',
    takes: ['active_from', 'country', 'country_options', 'expires_at'],
    run: create,
  }),
  operation({
    on: 'GET /v1/tax/registrations/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('tax.registration', id),
  }),
  operation({
    on: 'POST /v1/tax/registrations/{id}',
    takes: ['active_from', 'expires_at'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/tax/registrations',
    takes: ['limit', 'starting_after', 'ending_before', 'status'],
    run: (ctx, params) =>
      list(ctx, 'tax.registration', params, {
        url: '/v1/tax/registrations',
        where: (registration) =>
          params.status === undefined || params.status === 'all' || statusOf(ctx, registration) === params.status,
      }),
  }),
]

const presenters = [presenter('tax.registration', { compose: (object, ctx) => ({ status: statusOf(ctx, object) }) })]

export const taxRegistrationsModule: Module = { operations, presenters }
