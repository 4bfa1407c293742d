import fc from 'fast-check'
import { Webhook } from 'standardwebhooks'
import { describe, expect, it, test } from 'vitest'
import { systemClock } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import { isAllowedAddress, isWanted, nextAttemptAt, parseEndpointUrl, PATIENCE_MS, signedHeaders } from './rules.ts'

const production = { allowLoopback: false }
const development = { allowLoopback: true }
const https = { protocol: 'https:' }

const FORBIDDEN = {
  loopback: ['127.0.0.1', '127.255.255.254', '::1'],
  unspecified: ['0.0.0.0', '0.1.2.3', '::'],
  private: ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', 'fc00::1', 'fd00:ec2::254'],
  'link-local, and the metadata services there': ['169.254.169.254', '169.254.170.2', 'fe80::1'],
  'shared (CGNAT), and the metadata service there': ['100.64.0.1', '100.100.100.200', '100.127.255.255'],
  'a platform’s own': ['168.63.129.16', '192.0.0.192'],
  'multicast and broadcast': ['224.0.0.1', '239.255.255.255', '255.255.255.255', 'ff02::1'],
  reserved: ['192.0.2.1', '198.18.0.1', '198.51.100.1', '203.0.113.1', '240.0.0.1', '2001:db8::1', '100::1', 'fec0::1'],
  'IPv4 in IPv6, mapped': ['::ffff:127.0.0.1', '::ffff:10.0.0.1', '::ffff:169.254.169.254', '::ffff:8.8.8.8', '::ffff:7f00:1'],
  'IPv4 in IPv6, compatible': ['::127.0.0.1', '::a00:1', '::8.8.8.8'],
  'IPv4 in IPv6, translated': ['::ffff:0:127.0.0.1', '64:ff9b::7f00:1', '64:ff9b::169.254.169.254', '64:ff9b:1::a00:1'],
  '6to4 and Teredo': ['2002:7f00:1::', '2002:a9fe:a9fe::1', '2001::1', '2001:0:7f00:1::'],
  'not an address': ['', 'localhost', '1.2.3', 'fe80::1%eth0'],
}

describe('a connection', () => {
  for (const [kind, addresses] of Object.entries(FORBIDDEN)) {
    test.each(addresses)(`is never made to an address that is ${kind}: %s`, (address) => {
      expect(isAllowedAddress(address, https, production)).toBe(false)
    })
  }

  test.each([
    '8.8.8.8',
    '1.1.1.1',
    '172.15.255.255',
    '172.32.0.1',
    '100.63.255.255',
    '2606:4700::1111',
    '2a00:1450:4001:80b::200e',
  ])('is made to the public network: %s', (address) => {
    expect(isAllowedAddress(address, https, production)).toBe(true)
    expect(isAllowedAddress(address, { protocol: 'http:' }, development)).toBe(false)
  })

  it('in development is made to this machine too, and still to nothing private', () => {
    for (const address of FORBIDDEN.loopback) expect(isAllowedAddress(address, { protocol: 'http:' }, development)).toBe(true)
    for (const address of ['10.0.0.1', '169.254.169.254', '::ffff:127.0.0.1']) {
      expect(isAllowedAddress(address, https, development)).toBe(false)
    }
  })

  it('is made to no IPv4 address that stands in an IPv6 one, whatever the form', () => {
    const octet = fc.integer({ min: 0, max: 255 })
    const forms = fc.constantFrom('::ffff:', '::', '64:ff9b::', '::ffff:0:')
    fc.assert(
      fc.property(forms, octet, octet, octet, octet, (form, ...octets) => {
        expect(isAllowedAddress(form + octets.join('.'), https, production)).toBe(false)
      }),
    )
  })
})

describe('the address of an endpoint', () => {
  test.each([
    'https://example.com/hooks?tenant=1',
    'https://example.com:8443/',
    'https://example.com:443/',
    'https://[2606:4700::1111]/',
  ])('may be public and https: %s', (url) => {
    expect(parseEndpointUrl(url, production).protocol).toBe('https:')
  })

  test.each([
    ['nonsense', /an address such as/],
    ['http://example.com/', /https/],
    ['ftp://example.com/', /https/],
    ['file:///etc/passwd', /https/],
    ['https://user:password@example.com/', /no user name/],
    ['https://user@example.com/', /no user name/],
    ['https://example.com/#here', /fragment/],
    ['https://example.com:5432/', /port/],
    ['https://example.com:22/', /port/],
    ['https://127.0.0.1/', /public network/],
    ['https://0x7f.1/', /public network/],
    ['https://2130706433/', /public network/],
    ['https://[::1]/', /public network/],
    ['https://[::ffff:10.0.0.1]/', /public network/],
    ['https://169.254.169.254/latest/meta-data', /public network/],
    ['http://localhost:8080/', /https/],
    [`https://example.com/${'x'.repeat(2_000)}`, /2000/],
  ])('is refused: %s', (url, why) => {
    expect(() => parseEndpointUrl(url, production)).toThrow(why)
  })

  it('in development may be this machine, by http and at any port', () => {
    for (const url of ['http://localhost:8080/', 'http://127.0.0.1:3999/x', 'http://[::1]:80/']) {
      expect(parseEndpointUrl(url, development).href).toBe(url.replace(':80/', '/').replace(':8080', ':8080'))
    }
    expect(() => parseEndpointUrl('http://10.0.0.1/', development)).toThrow(/https/)
    expect(() => parseEndpointUrl('ftp://localhost/', development)).toThrow(/https/)
  })
})

it('an endpoint is told of what it asked for', () => {
  expect(isWanted(['*'], 'invoice.paid')).toBe(true)
  expect(isWanted(['invoice.paid'], 'invoice.paid')).toBe(true)
  expect(isWanted(['invoice.*'], 'invoice.paid')).toBe(true)
  expect(isWanted(['invoice.*'], 'invoices.paid')).toBe(false)
  expect(isWanted(['invoice.p'], 'invoice.paid')).toBe(false)
  expect(isWanted([], 'invoice.paid')).toBe(false)
})

it('a delivery is tried ever less often, for three days and not longer, the last time when they are just over', () => {
  fc.assert(
    fc.property(fc.string(), (seed) => {
      const begun = new Date('2026-03-01T00:00:00Z')
      const giveUpAt = new Date(begun.getTime() + PATIENCE_MS)
      let now = begun
      let attempts = 1
      for (;;) {
        const next = nextAttemptAt({ failures: attempts, giveUpAt, seed }, now)
        if (next === null) break
        expect(next.getTime()).toBeGreaterThan(now.getTime())
        now = next
        attempts += 1
      }
      expect(now).toEqual(giveUpAt)
      expect(now.getTime() - begun.getTime()).toBe(3 * DAY_MS)
      expect(attempts).toBeGreaterThan(25)
      expect(attempts).toBeLessThan(45)
    }),
  )
})

describe('a signature', () => {
  const secrets = ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'] as const
  const message = { id: 'ev_1', sentAt: systemClock.now(), body: '{"type":"invoice.paid","data":{"number":"ä"}}' }

  it('is what the library of Standard Webhooks verifies, with any secret that is valid', () => {
    const headers = signedHeaders(message, secrets)
    for (const secret of secrets) expect(new Webhook(secret).verify(message.body, headers)).toEqual(JSON.parse(message.body))
    expect(() => new Webhook('whsec_AAAAAAAAAAAAAAAAAAAAAAAA').verify(message.body, headers)).toThrow(/No matching/)
    expect(() => new Webhook(secrets[0]).verify(`${message.body} `, headers)).toThrow(/No matching/)
  })

  it('holds the id and the time too', () => {
    const headers = signedHeaders(message, secrets)
    expect(() => new Webhook(secrets[0]).verify(message.body, { ...headers, 'webhook-id': 'ev_2' })).toThrow(/No matching/)
    const later = String(Number(headers['webhook-timestamp']) + 1)
    expect(() => new Webhook(secrets[0]).verify(message.body, { ...headers, 'webhook-timestamp': later })).toThrow(/No matching/)
  })

  it('is the one of the specification’s own example', () => {
    // https://github.com/standard-webhooks/standard-webhooks: the vector of its libraries' tests.
    const vector = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', sentAt: new Date(1_614_265_330_000), body: '{"test": 2432232314}' }
    expect(signedHeaders(vector, [secrets[0]])['webhook-signature']).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
  })
})
