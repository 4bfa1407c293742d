import { readFileSync } from 'node:fs'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { stripeOfConfig } from './options.ts'
import { ConfigError, describeVariables, readConfig, readEnvironment, variablesSchema } from './config.ts'

function problemsOf(environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

describe('readConfig', () => {
  it('needs nothing: every variable has a default or may be missing', () => {
    expect(readConfig({})).toMatchObject({ PORT: 3000, STRIPE_TRIAL_PERIOD_DAYS: 14, STRIPE_PAYMENT_GRACE_PERIOD_DAYS: 3 })
  })

  it('reads a Stripe key under both of its names', () => {
    const key = { STRIPE_API_KEY: 'sk_test_1', STRIPE_WEBHOOK_SECRET: 'whsec_1' }
    expect(readConfig(key).STRIPE_SECRET_KEY).toBe('sk_test_1')
    expect(readConfig({ ...key, STRIPE_SECRET_KEY: 'sk_test_1' }).STRIPE_SECRET_KEY).toBe('sk_test_1')
    expect(problemsOf({ ...key, STRIPE_SECRET_KEY: 'sk_test_2' })).toEqual([
      'STRIPE_API_KEY and STRIPE_SECRET_KEY are two names of one variable, and they differ: set one of them.',
    ])
  })

  it('says which variable is wrong and why, and never shows a secret', () => {
    const problems = problemsOf({ PORT: 'http', DATABASE_URL: 'mysql://localhost/x', STRIPE_SECRET_KEY: 'pk_test_secret' })
    expect(problems).toEqual([
      'PORT is wrong: a port number is expected.',
      'DATABASE_URL is wrong: an address such as postgresql://user:password@host:5432/name is expected.',
      'STRIPE_SECRET_KEY is wrong: a key that begins with sk_test_, sk_live_, rk_test_ or rk_live_ is expected.',
    ])
    expect(problems.join()).not.toContain('pk_test_secret')
  })

  it('refuses a key of the other mode, and a key whose webhooks could not be verified', () => {
    expect(problemsOf({ STRIPE_SECRET_KEY: 'sk_live_1', STRIPE_ENVIRONMENT: 'test', STRIPE_WEBHOOK_SECRET: 'whsec_1' })).toEqual([
      'STRIPE_ENVIRONMENT is test, but STRIPE_SECRET_KEY is a live key.',
    ])
    expect(problemsOf({ STRIPE_SECRET_KEY: 'sk_test_1' })).toEqual([
      'STRIPE_WEBHOOK_SECRET is missing: with a Stripe key, webhooks must be verified.',
    ])
  })

  it('CB KF EM: STRIPE_PUBLISHABLE_KEY is what it says, and of the mode of the secret key', () => {
    const live = { STRIPE_SECRET_KEY: 'sk_live_1', STRIPE_WEBHOOK_SECRET: 'whsec_1' }
    expect(readConfig({ ...live, STRIPE_PUBLISHABLE_KEY: 'pk_live_1' }).STRIPE_PUBLISHABLE_KEY).toBe('pk_live_1')
    expect(problemsOf({ ...live, STRIPE_PUBLISHABLE_KEY: 'pk_test_1' })).toEqual([
      'STRIPE_PUBLISHABLE_KEY is a key of the other mode than STRIPE_SECRET_KEY, which is a live key.',
    ])
    const [problem] = problemsOf({ STRIPE_PUBLISHABLE_KEY: 'sk_test_by_mistake' })
    expect(problem).toBe('STRIPE_PUBLISHABLE_KEY is wrong: a key that begins with pk_test_ or pk_live_ is expected.')
  })

  it('takes several secrets of webhooks', () => {
    const config = readConfig({ STRIPE_SECRET_KEY: 'sk_test_1', STRIPE_WEBHOOK_SECRET: 'whsec_1,whsec_2' })
    expect(stripeOfConfig(config)?.webhookSecrets).toEqual(['whsec_1', 'whsec_2'])
    const [problem] = problemsOf({ STRIPE_WEBHOOK_SECRET: 'whsec_1,other' })
    expect(problem).toContain('STRIPE_WEBHOOK_SECRET is wrong')
  })

  it('STRIPE_ENABLED=false is as without a key, whatever key is set', () => {
    const off = { STRIPE_ENABLED: 'false', STRIPE_SECRET_KEY: 'sk_live_1', STRIPE_ENVIRONMENT: 'test' }
    expect(readConfig(off).STRIPE_SECRET_KEY).toBeUndefined()
    expect(
      readConfig({ ...off, STRIPE_ENABLED: 'true', STRIPE_ENVIRONMENT: 'live', STRIPE_WEBHOOK_SECRET: 'whsec_1' }),
    ).toMatchObject({ STRIPE_SECRET_KEY: 'sk_live_1' })
    expect(problemsOf({ STRIPE_ENABLED: 'no' })).toEqual(['STRIPE_ENABLED is wrong: true or false is expected.'])
  })

  it('refuses one variable without the other that it needs, whichever is missing', () => {
    const pairs = [
      ['LAGO_API_URL', 'LAGO_API_KEY', 'https://lago.example.com', 'key'],
      ['SMTP_URL', 'MAIL_FROM', 'smtp://mail.example.com', 'billing@example.com'],
      ['TOLLGATE_REPORTING_CURRENCY', 'TOLLGATE_EXCHANGE_RATES', 'usd', 'eur=1.08'],
      ['GOOGLE_CLIENT_ID', 'GOOGLE_CLIENT_SECRET', 'id', 'secret'],
    ] as const
    for (const [one, other, ofOne, ofOther] of pairs) {
      expect(problemsOf({ [one]: ofOne, [other]: ofOther })).toEqual([])
      expect(problemsOf({ [one]: ofOne })).toEqual([`${other} is missing: ${one}, ${other} belong together.`])
      expect(problemsOf({ [other]: ofOther })).toEqual([`${one} is missing: ${one}, ${other} belong together.`])
    }
    for (const [wrong, expected] of [
      ['eur=0.00,gbp=1.27', 'rates above 0 are expected'],
      ['eur=1.08,gbp=1.27,eur=1.1', 'each currency is expected once'],
    ] as const) {
      const problems = problemsOf({ TOLLGATE_REPORTING_CURRENCY: 'usd', TOLLGATE_EXCHANGE_RATES: wrong })
      expect(problems).toEqual([`TOLLGATE_EXCHANGE_RATES is wrong: ${expected}.`])
    }
    expect(problemsOf({ TOLLGATE_SINK_URL: 'https://sink.example.com' })).toEqual([])
    expect(problemsOf({ TOLLGATE_SINK_KEY: 'key' })).toEqual([
      'TOLLGATE_SINK_URL is missing: TOLLGATE_SINK_KEY is sent nowhere else.',
    ])
  })

  it('takes an empty variable, or one of blanks, as not set', () => {
    expect(readConfig({ PORT: '', STRIPE_SECRET_KEY: '' }).PORT).toBe(3000)
    expect(readConfig({ STRIPE_PAYMENT_GRACE_PERIOD_DAYS: ' ' }).STRIPE_PAYMENT_GRACE_PERIOD_DAYS).toBe(3)
  })

  it('says in words of its own what each variable may be', () => {
    for (const name of Object.keys(variablesSchema.shape)) {
      for (const value of ['abc', '-1', '1e9', '1.5']) {
        const told = problemsOf({ [name]: value }).join(' ')
        expect(told).not.toMatch(/Invalid|Too (big|small)|NaN/)
      }
    }
  })
})

describe('readEnvironment', () => {
  it('leaves out what is empty or of blanks, so that a command takes it as not set too', () => {
    expect(readEnvironment(tmpdir(), { TOLLGATE_DATA_DIR: '  ', TOLLGATE_OPERATOR_KEY: '', PORT: '3' })).toEqual({ PORT: '3' })
  })

  it('puts the shell over .env.local over .env', () => {
    const directory = mkdtempSync(join(tmpdir(), 'tollgate-config-'))
    try {
      writeFileSync(join(directory, '.env'), 'PORT=1\nHOST=a\nLOG_LEVEL=debug\n')
      writeFileSync(join(directory, '.env.local'), 'PORT=2\nHOST=b\n')
      expect(readEnvironment(directory, { PORT: '3' })).toEqual({ PORT: '3', HOST: 'b', LOG_LEVEL: 'debug' })
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})

it('has an .env.example that says what the schema says', () => {
  const committed = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8')
  expect(committed, 'run: node scripts/generate-env-example.ts').toBe(describeVariables())
})
