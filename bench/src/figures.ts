/** What one run measured: how many per second, how many milliseconds, how many megabytes; latency where it is known. */
export type Measured = {
  readonly value: number
  readonly p50Ms?: number
  readonly p99Ms?: number
  /** What the load generator took of the processor for each request, in microseconds. */
  readonly loadMicros?: number
  /** What else is worth knowing of it, in words. */
  readonly note?: string
}

/** One figure beside its reference of the same run. */
export type Case = {
  readonly name: string
  readonly title: string
  readonly reference: string
  readonly unit: '/s' | 'ms' | 'MB'
  /** The ratio to the reference that is wanted, at least where more is better, at most where less is. */
  readonly wanted: number
  readonly better: 'more' | 'less'
  readonly measure: () => Promise<Measured>
  readonly measureReference: () => Promise<Measured>
  /** Rounds of measuring in turns; a case that takes minutes has one. Default: what the run was told. */
  readonly rounds?: number
}

export type Figure = Pick<Case, 'name' | 'title' | 'reference' | 'unit' | 'wanted' | 'better'> & {
  readonly value: number
  readonly referenceValue: number
  readonly ratio: number
  readonly reached: boolean
  readonly p50Ms: number | null
  readonly p99Ms: number | null
  readonly note: string | null
}

/** Measures a case and its reference in turns, so that what else the machine does touches both; the median of each counts. */
export async function measureCase(one: Case, rounds: number): Promise<Figure> {
  const measured: Measured[] = []
  const references: Measured[] = []
  const times = one.rounds ?? rounds
  if (times > 1) {
    // Once unheard: programs compile themselves while they run, and tables begin empty.
    await one.measure()
    await one.measureReference()
  }
  for (let round = 0; round < times; round += 1) {
    measured.push(await one.measure())
    references.push(await one.measureReference())
  }
  return figureOf(one, medianOf(measured), medianOf(references))
}

function figureOf({ name, title, reference, unit, wanted, better }: Case, own: Measured, other: Measured): Figure {
  const ratio = Number((own.value / other.value).toFixed(2))
  return {
    name,
    title,
    reference,
    unit,
    wanted,
    better,
    value: rounded(own.value),
    referenceValue: rounded(other.value),
    ratio,
    reached: better === 'more' ? ratio >= wanted : ratio <= wanted,
    p50Ms: own.p50Ms === undefined ? null : rounded(own.p50Ms),
    p99Ms: own.p99Ms === undefined ? null : rounded(own.p99Ms),
    note: own.note ?? null,
  }
}

function rounded(value: number): number {
  return Number(value.toFixed(value < 100 ? 1 : 0))
}

function medianOf(measured: readonly Measured[]): Measured {
  return measured.toSorted((a, b) => a.value - b.value)[Math.floor(measured.length / 2)]!
}

const amount = (value: number, unit: Figure['unit']): string =>
  `${value.toLocaleString('en-US')}${unit === '/s' ? unit : ` ${unit}`}`
const bound = ({ better, wanted }: Figure): string => `${better === 'more' ? '≥' : '≤'} ${wanted}`

/** A figure as one line of a terminal. */
export function lineOf(figure: Figure): string {
  const { title, reference, unit, value, referenceValue, ratio, reached, p99Ms, note } = figure
  const latency = p99Ms === null ? '' : `, p99 ${p99Ms} ms`
  return `${title.padEnd(50)}${amount(value, unit).padStart(11)}   ${reference.padEnd(44)}${amount(referenceValue, unit).padStart(11)}   ratio ${ratio} (wanted ${bound(figure)})${reached ? '' : ' MISSED'}${latency}${note === null ? '' : `, ${note}`}`
}

/** A run as it is kept. */
export type Run = {
  readonly at: string
  readonly node: string
  readonly machine: { readonly cores: number; readonly model: string; readonly memoryGb: number }
  readonly rows: readonly Figure[]
}

/** The figures of a run as the README shows them. */
export function tableOf({ at, node, machine, rows }: Run): string {
  const lines = rows.map((figure) => {
    const { title, reference, unit, value, referenceValue, ratio, reached, p99Ms } = figure
    const own = `${amount(value, unit)}${p99Ms === null ? '' : `, p99 ${p99Ms} ms`}`
    return `| ${title} | ${own} | ${reference} | ${amount(referenceValue, unit)} | ${reached ? ratio : `**${ratio}**`} | ${bound(figure)} |`
  })
  return [
    `${at.slice(0, 10)}, ${machine.cores} cores (${machine.model}), ${machine.memoryGb} GB, Node ${node}; a ratio in bold misses what is wanted.`,
    '',
    '| what | measured | beside | measured | ratio | wanted |',
    '|---|---|---|---|---|---|',
    ...lines,
  ].join('\n')
}

const MARKS = /(<!-- figures -->\n)[^]*?(<!-- \/figures -->)/

/** A README with the table between its marks replaced. */
export function withTable(readme: string, run: Run): string {
  return readme.replace(MARKS, (_whole, before: string, after: string) => `${before}\n${tableOf(run)}\n\n${after}`)
}
