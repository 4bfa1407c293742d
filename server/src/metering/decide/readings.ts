import type { Meter } from '../../catalog/catalog.ts'
import type { Draw } from '../../grants/rules.ts'
import type { Instant } from '../../lib/clock.ts'
import { DomainError } from '../../lib/errors.ts'
import { MICRO, type Quantity } from '../../lib/quantity.ts'
import type { UsageProperties } from '../usage.ts'
import { propertyOf, textOfValue } from './property-values.ts'
import { mergeDraws } from './draws.ts'

/** What a `max` or `latest` meter has come to in a period; the grant is the plan's allowance that carries the period. */
export type MeterReading = {
  readonly organizationId: string
  readonly grantId: string
  readonly meter: string
  readonly quantity: Quantity
  readonly occurredAt: Instant
  /** What it is drawn from, so that a falling gauge gives back where it took. */
  readonly draws: readonly Draw[]
  /** What was told last of all, and when: it stands until another is told, also when the next period begins (`../levels.ts`). */
  readonly level: Quantity
  readonly levelAt: Instant
  readonly levelProperties: UsageProperties | null
}

/** A value of a `unique` meter that was seen in a period. */
export type MeterValue = {
  readonly organizationId: string
  readonly grantId: string
  readonly meter: string
  readonly value: string
}

/** One use, as far as its meter is concerned. */
export type MeteredUse = {
  readonly organizationId: string
  /** The plan's allowance of the period that the use belongs to. */
  readonly grantId: string
  readonly quantity: Quantity
  readonly occurredAt: Instant
  readonly properties: UsageProperties | null
}

/** What a use adds to its meter's quantity of the period (a falling gauge: less than nothing), and how that is remembered. */
export type Weight = {
  readonly counted: Quantity
  /** What the meter came to before; a falling gauge gives back from it. */
  readonly before: Counted
  /** Keeps what was counted, with what it drew; not called for a use that is refused or only checked. */
  readonly remember: (draws: readonly Draw[]) => void
}

/** What is counted of something, and what it drew. */
export type Counted = { readonly counted: Quantity; readonly drawn: readonly Draw[] }

const NOTHING: Counted = { counted: 0n, drawn: [] }

/** Whether each use adds what it says, so that uses can be held, corrected and told in any order. */
export function isAdditive(meter: Meter): boolean {
  return meter.aggregation === 'sum' || meter.aggregation === 'count'
}

/** Whether it tells a level, such as agents or seats, which stands until another is told. */
export function isLevel(meter: Meter): boolean {
  return meter.aggregation === 'max' || meter.aggregation === 'latest'
}

/** Whether a use of these properties counts: its meter may ask for certain values, and then one that lacks them does not. */
export function isCounted({ filter }: Meter, properties: UsageProperties | null): boolean {
  for (const [name, values] of filter) {
    const value = propertyOf(properties, name)
    if (value === undefined || !values.has(textOfValue(value))) return false
  }
  return true
}

/** The longest value that a `unique` meter tells apart. */
const LONGEST_VALUE = 255

/**
 * Turns uses into what they count: nothing for one that the meter's filter leaves out, else by its aggregation:
 * `sum` its quantity; `count` one; `max` what it exceeds the largest of the period by; `latest` its difference to the last of
 * the period, one that is told late changes nothing; `unique` one for a value that the period has not seen.
 */
export class Readings {
  readonly #readings = new Map<string, MeterReading>()
  readonly #values = new Set<string>()
  readonly #changed = new Map<string, MeterReading>()
  readonly #newValues = new Map<string, MeterValue>()
  readonly #goneValues = new Map<string, MeterValue>()

  constructor(readings: readonly MeterReading[], values: readonly MeterValue[]) {
    for (const reading of readings) this.#readings.set(nameOf(reading), reading)
    for (const value of values) this.#values.add(`${nameOf(value)}\n${value.value}`)
  }

  get changed(): readonly MeterReading[] {
    return [...this.#changed.values()]
  }

  get newValues(): readonly MeterValue[] {
    return [...this.#newValues.values()]
  }

  get goneValues(): readonly MeterValue[] {
    return [...this.#goneValues.values()]
  }

  /** What a `max` or `latest` meter has come to. */
  of(name: Omit<MeterValue, 'value'>): MeterReading | undefined {
    return this.#readings.get(nameOf(name))
  }

  put(reading: MeterReading): void {
    this.#readings.set(nameOf(reading), reading)
    this.#changed.set(nameOf(reading), reading)
  }

  /** Forgets a value that no use has any more: each was told before this decision, since none is taken back in the one that tells it. */
  forget(value: MeterValue): void {
    const name = `${nameOf(value)}\n${value.value}`
    this.#values.delete(name)
    this.#goneValues.set(name, value)
  }

  weigh(meter: Meter, use: MeteredUse): Weight {
    if (!isCounted(meter, use.properties)) return { counted: 0n, before: NOTHING, remember: nothing }
    switch (meter.aggregation) {
      case 'sum':
        return { counted: use.quantity, before: NOTHING, remember: nothing }
      case 'count':
        return { counted: MICRO, before: NOTHING, remember: nothing }
      case 'max':
        return this.#weighLargest(meter, use)
      case 'latest':
        return this.#weighLatest(meter, use)
      case 'unique':
        return this.#weighValue(meter, use)
    }
  }

  #weighLargest(meter: Meter, use: MeteredUse): Weight {
    const before = this.#readings.get(nameOf({ ...use, meter: meter.key }))
    if (before && use.quantity <= before.quantity) {
      const { quantity, occurredAt, draws } = before
      return { counted: 0n, before: NOTHING, remember: () => this.#keep(meter, use, { quantity, occurredAt, draws }) }
    }
    return {
      counted: use.quantity - (before?.quantity ?? 0n),
      before: NOTHING,
      remember: (draws) => this.#keep(meter, use, { ...use, draws: [...(before?.draws ?? []), ...draws] }),
    }
  }

  #weighLatest(meter: Meter, use: MeteredUse): Weight {
    const before = this.#readings.get(nameOf({ ...use, meter: meter.key }))
    if (before && use.occurredAt < before.occurredAt) return { counted: 0n, before: NOTHING, remember: nothing }
    const drawn = before?.draws ?? []
    return {
      counted: use.quantity - (before?.quantity ?? 0n),
      before: { counted: before?.quantity ?? 0n, drawn },
      remember: (draws) => this.#keep(meter, use, { ...use, draws: [...drawn, ...draws] }),
    }
  }

  #weighValue(meter: Meter, use: MeteredUse): Weight {
    const given = propertyOf(use.properties, meter.uniqueBy ?? '')
    if (given === undefined || textOfValue(given).length > LONGEST_VALUE) {
      throw new DomainError(
        'invalid_request',
        `The meter "${meter.key}" counts different values of the property "${meter.uniqueBy}": it is missing, or longer than ${LONGEST_VALUE} characters.`,
        { field: `properties.${meter.uniqueBy}` },
      )
    }
    const value = { organizationId: use.organizationId, grantId: use.grantId, meter: meter.key, value: textOfValue(given) }
    const name = `${nameOf(value)}\n${value.value}`
    if (this.#values.has(name)) return { counted: 0n, before: NOTHING, remember: nothing }
    return {
      counted: MICRO,
      before: NOTHING,
      remember: () => {
        this.#values.add(name)
        // One that was forgotten here is there still.
        if (!this.#goneValues.delete(name)) this.#newValues.set(name, value)
      },
    }
  }

  /** Keeps what the period has come to, and the level of this use, unless a later one was told before. */
  #keep(meter: Meter, use: MeteredUse, period: Pick<MeterReading, 'quantity' | 'occurredAt' | 'draws'>): void {
    const { organizationId, grantId } = use
    const name = { organizationId, grantId, meter: meter.key }
    const before = this.#readings.get(nameOf(name))
    const told = before && use.occurredAt < before.levelAt ? before : levelOf(use)
    this.put({
      ...name,
      quantity: period.quantity,
      occurredAt: period.occurredAt,
      draws: mergeDraws(period.draws).filter((draw) => draw.amount !== 0n || draw.overage !== 0n),
      level: told.level,
      levelAt: told.levelAt,
      levelProperties: told.levelProperties,
    })
  }
}

function levelOf(use: MeteredUse): Pick<MeterReading, 'level' | 'levelAt' | 'levelProperties'> {
  return { level: use.quantity, levelAt: use.occurredAt, levelProperties: use.properties }
}

function nothing(): void {}

function nameOf({ organizationId, grantId, meter }: Pick<MeterValue, 'organizationId' | 'grantId' | 'meter'>): string {
  return `${organizationId}\n${grantId}\n${meter}`
}
