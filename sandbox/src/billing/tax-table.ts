/**
 * One standard rate a country or state, which stands in for the rates that Stripe Tax keeps. It knows no reduced rates, no cities, no
 * provinces and no change of a rate over time. It is not tax advice: whoever needs what is really owed asks Stripe, or an adviser.
 */

/** The rate of a country, or of a state of the United States. */
export interface StandardRate {
  /** Decimal text. */
  readonly percent: string
  /** `tax_type` of the rate. */
  readonly type: 'gst' | 'jct' | 'sales_tax' | 'vat'
  /** What the rate is called on an invoice. */
  readonly name: string
  readonly jurisdiction: string
}

const vat = (percent: string, jurisdiction: string): StandardRate => ({ percent, type: 'vat', name: 'VAT', jurisdiction })
const gst = (percent: string, jurisdiction: string): StandardRate => ({ percent, type: 'gst', name: 'GST', jurisdiction })

/** Members of the European Union, whose registrations may cover one another. */
const EU_RATES: Readonly<Record<string, StandardRate>> = {
  AT: vat('20', 'Austria'),
  BE: vat('21', 'Belgium'),
  BG: vat('20', 'Bulgaria'),
  CY: vat('19', 'Cyprus'),
  CZ: vat('21', 'Czech Republic'),
  DE: vat('19', 'Germany'),
  DK: vat('25', 'Denmark'),
  EE: vat('24', 'Estonia'),
  ES: vat('21', 'Spain'),
  FI: vat('25.5', 'Finland'),
  FR: vat('20', 'France'),
  GR: vat('24', 'Greece'),
  HR: vat('25', 'Croatia'),
  HU: vat('27', 'Hungary'),
  IE: vat('23', 'Ireland'),
  IT: vat('22', 'Italy'),
  LT: vat('21', 'Lithuania'),
  LU: vat('17', 'Luxembourg'),
  LV: vat('21', 'Latvia'),
  MT: vat('18', 'Malta'),
  NL: vat('21', 'Netherlands'),
  PL: vat('23', 'Poland'),
  PT: vat('23', 'Portugal'),
  RO: vat('21', 'Romania'),
  SE: vat('25', 'Sweden'),
  SI: vat('22', 'Slovenia'),
  SK: vat('23', 'Slovakia'),
}

const COUNTRY_RATES: Readonly<Record<string, StandardRate>> = {
  ...EU_RATES,
  AU: gst('10', 'Australia'),
  CA: gst('5', 'Canada'),
  CH: vat('8.1', 'Switzerland'),
  GB: vat('20', 'United Kingdom'),
  IN: gst('18', 'India'),
  JP: { percent: '10', type: 'jct', name: 'JCT', jurisdiction: 'Japan' },
  NO: vat('25', 'Norway'),
  NZ: gst('15', 'New Zealand'),
  SG: gst('9', 'Singapore'),
}

/** A state with the first three digits of its postal codes, both ends included. */
interface UsState extends StandardRate {
  readonly postal: ReadonlyArray<readonly [first: number, last: number]>
}

const salesTax = (percent: string, jurisdiction: string, postal: UsState['postal']): UsState => ({
  percent,
  type: 'sales_tax',
  name: 'Sales Tax',
  jurisdiction,
  postal,
})

const US_STATES: Readonly<Record<string, UsState>> = {
  CA: salesTax('7.25', 'California', [[900, 961]]),
  NY: salesTax('4', 'New York', [
    [5, 5],
    [100, 149],
  ]),
  PA: salesTax('6', 'Pennsylvania', [[150, 196]]),
  TX: salesTax('6.25', 'Texas', [
    [733, 733],
    [750, 799],
    [885, 885],
  ]),
  WA: salesTax('6.5', 'Washington', [[980, 994]]),
}

/** Where a customer is, as far as the table tells places apart. Two-letter codes. */
export interface TaxPlace {
  readonly country: string
  /** Of the United States alone; null for one that the table does not know by the postal code. */
  readonly state: string | null
}

/** The parts of an address that taxes are decided by. */
export interface TaxAddress {
  readonly country: string | null
  readonly postal_code: string | null
  readonly state: string | null
}

/** The place of an address; null for one that does not say enough: a country, in the United States also a state or a postal code. */
export function taxPlaceOf(address: TaxAddress): TaxPlace | null {
  const country = address.country?.trim().toUpperCase() ?? ''
  if (!/^[A-Z]{2}$/.test(country)) return null
  if (country !== 'US') return { country, state: null }
  const state = stateNamed(address.state)
  if (state !== null) return { country, state }
  const postal = /^\s*(\d{3})\d{2}(?:-?\d{4})?\s*$/.exec(address.postal_code ?? '')?.[1]
  return postal === undefined ? null : { country, state: stateOfPostalCode(Number(postal)) }
}

function stateNamed(text: string | null): string | null {
  const name = text?.trim().toUpperCase() ?? ''
  if (/^[A-Z]{2}$/.test(name)) return name
  const known = Object.entries(US_STATES).find(([, state]) => state.jurisdiction.toUpperCase() === name)
  return known?.[0] ?? null
}

function stateOfPostalCode(prefix: number): string | null {
  const found = Object.entries(US_STATES).find(([, { postal }]) =>
    postal.some(([first, last]) => prefix >= first && prefix <= last),
  )
  return found?.[0] ?? null
}

/** The standard rate of a place; null where the table has none. */
export function standardRateOf({ country, state }: TaxPlace): StandardRate | null {
  return (country === 'US' ? US_STATES[state ?? ''] : COUNTRY_RATES[country]) ?? null
}

export function isInEuropeanUnion(country: string): boolean {
  return country in EU_RATES
}
