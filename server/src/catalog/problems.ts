import { parseQuantity, type Quantity } from '../lib/quantity.ts'

/** What is wrong with a billing.config.ts: one sentence per problem, each with its place. */
export class CatalogError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(
      `The catalog has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${problems.map((p) => `- ${p}`).join('\n')}`,
    )
    this.name = 'CatalogError'
    this.problems = problems
  }
}

/** Reads a quantity of zero or more; a problem is noted and read as nothing, so that all problems are found at once. */
export function readQuantity(input: number | string, place: string, problems: string[]): Quantity {
  try {
    const quantity = parseQuantity(input, place)
    if (quantity < 0n) problems.push(`${place}: a negative amount means nothing here.`)
    return quantity
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error))
    return 0n
  }
}

/** The same for what must be more than nothing. */
export function readPositive(input: number | string, place: string, problems: string[]): Quantity {
  const found = problems.length
  const quantity = readQuantity(input, place, problems)
  if (quantity === 0n && problems.length === found) problems.push(`${place}: it must be more than 0.`)
  return quantity
}

export function list(names: Iterable<string>): string {
  return [...names].join(', ') || 'none'
}
