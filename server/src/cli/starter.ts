import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CliError } from './connection.ts'

const CATALOG = `import { defineBilling } from '@tollgate/server/catalog'

// Meters are what is counted, credits what several meters draw from, features what a plan has or has not, plans what is sold.
export default defineBilling({
  currency: 'usd',
  meters: {
    requests: { name: 'Requests', unit: 'request' },
  },
  features: {
    reports: { name: 'Reports' },
    projects: { name: 'Projects', type: 'number', unit: 'project' },
  },
  plans: {
    free: {
      name: 'Free',
      allowances: { requests: { amount: 1000, period: 'calendar_month' } },
      features: { projects: 1 },
    },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900 }, yearly: { amountMinor: 29_000 } },
      allowances: {
        requests: { amount: 100_000, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '0.1' } },
      },
      features: { reports: true, projects: 20 },
    },
  },
  defaultPlan: 'free',
})
`

const ENVIRONMENT = `TOLLGATE_CATALOG=billing.config.ts
`

/**
 * `tollgate init`: a catalog to begin with, and the variable that names it. Answers what was written.
 * @throws CliError when one of the files is there already; then nothing is written
 */
export function writeStarter(directory: string): readonly string[] {
  const files = [
    ['billing.config.ts', CATALOG],
    ['.env', ENVIRONMENT],
  ] as const
  const taken = files.map(([name]) => join(directory, name)).filter((file) => existsSync(file))
  if (taken.length > 0) {
    throw new CliError(`${taken.join(' and ')} ${taken.length === 1 ? 'is' : 'are'} there already; nothing was written.`)
  }
  mkdirSync(directory, { recursive: true })
  return files.map(([name, content]) => {
    writeFileSync(join(directory, name), content, { flag: 'wx' })
    return join(directory, name)
  })
}
