/** The account's tax settings. Source: docs.stripe.com/api/tax/settings. */
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { type Module, operation } from '../../engine/module.ts'
import type { Params, TaxSettings } from '../../wire.gen.ts'
import { addressOf } from '../customers/address.ts'

const SETTING_ID = 'tax'

type Kept = Pick<TaxSettings, 'defaults' | 'head_office'>

const DEFAULTS: Kept = { defaults: { provider: 'stripe', tax_behavior: null, tax_code: null }, head_office: null }

/** The settings in force; the one thing that they must have is the head office. */
export function taxSettings(ctx: Ctx): TaxSettings {
  const kept = (ctx.get('_setting', SETTING_ID)?.value as Kept | undefined) ?? DEFAULTS
  const isActive = kept.head_office !== null
  return {
    object: 'tax.settings',
    ...kept,
    livemode: false,
    status: isActive ? 'active' : 'pending',
    status_details: isActive ? { active: {} } : { pending: { missing_fields: ['head_office'] } },
  }
}

type UpdateParams = Omit<Params['POST /v1/tax/settings'], 'expand'>

/** Changes settings; those not named stay, and none can be removed. */
function update(ctx: Ctx, params: UpdateParams): TaxSettings {
  const before = taxSettings(ctx)
  const code = params.defaults?.tax_code
  if (code !== undefined && !/^txcd_\d{8}$/.test(code)) {
    throw invalidRequest(`No such tax code: '${code}'`, { code: 'resource_missing', param: 'defaults[tax_code]' })
  }
  const office = params.head_office?.address
  if (office !== undefined && (office.country ?? '') === '') throw missing('head_office[address][country]')
  const kept: Kept = {
    defaults: {
      ...before.defaults,
      tax_behavior: params.defaults?.tax_behavior ?? before.defaults.tax_behavior,
      tax_code: code ?? before.defaults.tax_code,
    },
    head_office: office === undefined ? before.head_office : { address: addressOf(office) },
  }
  ctx.store.put('_setting', { id: SETTING_ID, value: kept })
  const after = taxSettings(ctx)
  ctx.emit('tax.settings.updated', after, { before: { ...before } })
  return after
}

const operations = [
  operation({ on: 'GET /v1/tax/settings', takes: [], run: taxSettings }),
  operation({ on: 'POST /v1/tax/settings', takes: ['defaults', 'head_office'], run: update }),
]

export const taxSettingsModule: Module = { operations }
