import type { Meter } from '../../catalog/catalog.ts'
import type { Instant } from '../../lib/clock.ts'
import { calendarPeriodOf, HOUR_MS } from '../../lib/period.ts'
import type { Quantity } from '../../lib/quantity.ts'
import type { UsageEvent, UsageProperties } from '../usage.ts'
import { propertyOf, textOfValue } from './property-values.ts'
import { isCounted } from './readings.ts'

/** What is summed up, and what every report is made of. */
export type UsageSums = {
  readonly events: number
  readonly quantity: Quantity
  readonly drawn: Quantity
  readonly overage: Quantity
}

export type HourlyChange = UsageSums & { readonly organizationId: string; readonly meter: string; readonly hour: Instant }

/** The same of one combination of the values of the meter's `groupBy`, by the hour and by the day. */
export type GroupedChange = UsageSums & {
  readonly organizationId: string
  readonly meter: string
  readonly span: 'hour' | 'day'
  readonly startsAt: Instant
  /** JSON of the values by property. */
  readonly labels: string
}

export type Rollups = { readonly hourly: readonly HourlyChange[]; readonly grouped: readonly GroupedChange[] }

/** What the events' organizations say of them. */
export type RollupTerms = {
  readonly meterOf: (event: UsageEvent) => Meter
  readonly timeZoneOf: (organizationId: string) => string
  /** Of a correction, those of the event that it corrects. */
  readonly propertiesOf: (event: UsageEvent) => UsageProperties | null
}

/** Longer values of a property are cut: those that begin alike so far are told apart by nobody who reads a report. */
const LONGEST_VALUE = 255

/**
 * The moment at which an event counts: when it happened, but within the period that it was booked to. A use that is told
 * after its period was forgotten, or by a clock that runs ahead, so counts where its grants say it does.
 */
export function countsAt({ occurredAt, after: { periodStart, periodEnd } }: Pick<UsageEvent, 'occurredAt' | 'after'>): Instant {
  if (occurredAt < periodStart) return periodStart
  return periodEnd !== null && occurredAt >= periodEnd ? new Date(periodEnd.getTime() - 1) : occurredAt
}

/**
 * The hour and the day that an event is summed up in. Hours are counted from the day's beginning in the organization's zone, so
 * that they fill its days also where those do not begin on a full hour of UTC. The first hour and day of a period begin with the
 * period: from its start to its end they hold exactly the period's use, also of a cycle that begins at 12:34:56.
 */
export function spansOfEvent(
  event: Pick<UsageEvent, 'occurredAt' | 'after'>,
  timeZone: string,
): { readonly hour: Instant; readonly day: Instant } {
  const at = countsAt(event)
  const { periodStart } = event.after
  const { start: day } = calendarPeriodOf('day', timeZone, at)
  const hour = new Date(at.getTime() - ((at.getTime() - day.getTime()) % HOUR_MS))
  return { hour: hour < periodStart ? periodStart : hour, day: day < periodStart ? periodStart : day }
}

/** Whether an event adds to what was used: a refusal and a hold do not. */
export function isUse({ refusal, verb }: Pick<UsageEvent, 'refusal' | 'verb'>): boolean {
  return refusal === null && verb !== 'reserve'
}

/** Sums up events by organization, meter and hour, and by what their meters are split by. */
export function rollupsOf(events: readonly UsageEvent[], terms: RollupTerms): Rollups {
  // By organization, which has one or two: a name made of all that tells sums apart costs as much as the adding.
  const hourly = new Map<string, Summing<HourlyChange>[]>()
  const grouped = new Map<string, Summing<GroupedChange>>()
  const spansOf = lastingSpans()
  for (const event of events) {
    const { organizationId, meter: meterKey } = event
    const meter = terms.meterOf(event)
    if (!isUse(event) || !isCounted(meter, terms.propertiesOf(event))) continue
    const { hour, day } = spansOf(event, terms.timeZoneOf(organizationId))
    add(hourlyOf(hourly, organizationId, meterKey, hour), event)
    if (meter.groupBy.length === 0) continue
    const labels = labelsOf(meter, terms.propertiesOf(event))
    for (const [span, startsAt] of [['hour', hour] as const, ['day', day] as const]) {
      const own = `${organizationId}\n${meterKey}\n${span}\n${startsAt.getTime()}\n${labels}`
      let parts = grouped.get(own)
      if (!parts) grouped.set(own, (parts = { organizationId, meter: meterKey, span, startsAt, labels, ...NOTHING }))
      add(parts, event)
    }
  }
  return { hourly: [...hourly.values()].flat(), grouped: [...grouped.values()] }
}

function hourlyOf(known: Map<string, Summing<HourlyChange>[]>, organizationId: string, meter: string, hour: Instant) {
  const own = known.get(organizationId)
  const time = hour.getTime()
  const sums = own?.find((one) => one.meter === meter && one.hour.getTime() === time)
  if (sums) return sums
  const begun: Summing<HourlyChange> = { organizationId, meter, hour, events: 0, quantity: 0n, drawn: 0n, overage: 0n }
  if (own) own.push(begun)
  else known.set(organizationId, [begun])
  return begun
}

type Spans = { readonly hour: Instant; readonly day: Instant }

/** The uses of a group happen at one time, and most of them in one period: their hour and day are worked out once. */
function lastingSpans(): (event: UsageEvent, timeZone: string) => Spans {
  let last:
    | (Pick<UsageEvent, 'occurredAt'> & { readonly start: number; readonly end: number; readonly timeZone: string })
    | undefined
  let spans: Spans | undefined
  return (event, timeZone) => {
    const { occurredAt, after } = event
    const start = after.periodStart.getTime()
    const end = after.periodEnd?.getTime() ?? Number.POSITIVE_INFINITY
    const isSame = last?.occurredAt === occurredAt && last.start === start && last.end === end && last.timeZone === timeZone
    if (spans && isSame) return spans
    last = { occurredAt, start, end, timeZone }
    return (spans = spansOfEvent(event, timeZone))
  }
}

function labelsOf({ groupBy }: Meter, properties: UsageProperties | null): string {
  const labels: Record<string, string> = {}
  for (const name of groupBy) {
    const value = propertyOf(properties, name)
    if (value !== undefined) labels[name] = cut(textOfValue(value))
  }
  return JSON.stringify(labels)
}

function cut(value: string): string {
  // Half a character at the end could not be stored.
  return value.length <= LONGEST_VALUE ? value : value.slice(0, LONGEST_VALUE).replace(/[\uD800-\uDBFF]$/, '')
}

type Summing<Change extends UsageSums> = Omit<Change, keyof UsageSums> & { -readonly [Sum in keyof UsageSums]: UsageSums[Sum] }

const NOTHING: UsageSums = { events: 0, quantity: 0n, drawn: 0n, overage: 0n }

function add(sums: Summing<UsageSums>, event: UsageEvent): void {
  // A correction is not a use more or less, it changes what one counts.
  if (event.corrects === null) sums.events += 1
  sums.quantity += event.counted
  sums.drawn += event.drawn
  sums.overage += event.overage
}
