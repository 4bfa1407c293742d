import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { PASSWORD, testIdentity } from '../../test/identity.ts'

const identity = testIdentity({ publicUrl: 'https://billing.example.com' })

/** RFC 6238, as an authenticator app does it. */
function codeOf(uri: string, step = 0): string {
  const secret = base32(new URL(uri).searchParams.get('secret')!)
  const seconds = (performance.timeOrigin + performance.now()) / 1_000
  const counter = Buffer.alloc(8)
  counter.writeBigUInt64BE(BigInt(Math.floor(seconds / 30) + step))
  const digest = createHmac('sha1', secret).update(counter).digest()
  const offset = digest[19]! & 15
  return String((digest.readUInt32BE(offset) & 0x7fff_ffff) % 1_000_000).padStart(6, '0')
}

function base32(text: string): Buffer {
  const bits = text
    .replace(/=+$/, '')
    .split('')
    .map((letter) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0'))
    .join('')
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)))
}

async function person(email: string) {
  const { browser } = await identity.signUp(email)
  const { pathname, search } = await identity.confirmationOf(email)
  await browser.call('GET', pathname + search)
  const setUp = await browser.call('POST', '/api/v1/auth/two-factor', { password: PASSWORD })
  const { totp_uri: uri, backup_codes: codes } = setUp.body as { totp_uri: string; backup_codes: string[] }
  return { browser, email, uri, codes }
}

async function signIn(email: string) {
  const browser = identity.open()
  return { browser, answer: await browser.call('POST', '/api/v1/auth/sign-in', { email, password: PASSWORD }) }
}

describe('a second factor', () => {
  it('is asked for once its first code was given, and the password alone opens nothing then', async () => {
    const { browser, email, uri } = await person('careful@example.com')
    expect((await signIn(email)).answer.body).toMatchObject({ two_factor_required: false })
    expect((await browser.call('POST', '/api/v1/auth/two-factor/verify', { code: codeOf(uri) })).status).toBe(200)
    const { browser: other, answer } = await signIn(email)
    expect(answer.body).toEqual({ two_factor_required: true, access_token: null, caller: null })
    expect(answer.headers.get('set-auth-token')).toBeNull()
    expect((await other.call('GET', '/api/v1/auth/me')).status).toBe(401)
    const wrong = codeOf(uri).replace(/^./, (digit) => String((Number(digit) + 1) % 10))
    expect((await other.call('POST', '/api/v1/auth/two-factor/verify', { code: wrong })).status).toBe(401)
    const verified = await other.call('POST', '/api/v1/auth/two-factor/verify', { code: codeOf(uri) })
    expect(verified.body).toMatchObject({ caller: { user: { email, two_factor_enabled: true } } })
    expect((await other.call('GET', '/api/v1/auth/me')).status).toBe(200)
  })

  it('is replaced by a backup code, each good for once', async () => {
    const { browser, email, uri, codes } = await person('backup@example.com')
    await browser.call('POST', '/api/v1/auth/two-factor/verify', { code: codeOf(uri) })
    const useCode = async () =>
      (await signIn(email)).browser.call('POST', '/api/v1/auth/two-factor/verify', { backup_code: codes[0] })
    expect((await useCode()).body).toMatchObject({ caller: { user: { email } } })
    expect((await useCode()).status).toBe(401)
  })

  it('cannot be set up before the address is confirmed, so that who reads its mail is not kept out by who signed up with it', async () => {
    const email = 'squatted@example.com'
    const { browser, token: session } = await identity.signUp(email)
    for (const path of ['/api/v1/auth/two-factor', '/api/v1/auth/two-factor/enable']) {
      const asked = { password: PASSWORD }
      for (const refused of [await browser.call('POST', path, asked), await identity.as(session, 'POST', path, asked)]) {
        expect(refused).toMatchObject({ status: 403, body: { code: 'email_not_verified' } })
      }
    }
    await browser.call('POST', '/api/v1/auth/password-reset', { email })
    const token = /#token=(\S+)/.exec(await identity.mailTo(email, 'password_reset'))![1]!
    const reset = { token, password: 'of who reads the mail' }
    expect((await browser.call('POST', '/api/v1/auth/password-reset/confirm', reset)).status).toBe(200)
    const owner = await identity.open().call('POST', '/api/v1/auth/sign-in', { email, password: reset.password })
    expect(owner.body).toMatchObject({ two_factor_required: false, caller: { user: { email } } })
  })

  it('is taken away by who knows the password', async () => {
    const { browser, email, uri } = await person('leaving@example.com')
    await browser.call('POST', '/api/v1/auth/two-factor/verify', { code: codeOf(uri) })
    expect((await browser.call('POST', '/api/v1/auth/two-factor/remove', { password: 'wrong password' })).status).toBe(400)
    const codes = await browser.call('POST', '/api/v1/auth/two-factor/backup-codes', { password: PASSWORD })
    expect(codes.body['backup_codes']).toHaveLength(10)
    expect((await browser.call('POST', '/api/v1/auth/two-factor/remove', { password: PASSWORD })).status).toBe(200)
    expect((await signIn(email)).answer.body).toMatchObject({ two_factor_required: false })
  })

  it('lies encrypted in the database', async () => {
    const { uri, codes } = await person('secret@example.com')
    const { rows } = await identity.database.db.query('select * from user_second_factors')
    const stored = JSON.stringify(rows)
    expect(stored).not.toContain(base32(new URL(uri).searchParams.get('secret')!).toString())
    expect(stored).not.toContain(codes[0])
  })
})

it('cookies are sent over https only where the server is reached by https', async () => {
  const { browser } = await person('secure@example.com')
  const { answer } = await signIn('secure@example.com')
  const cookies = answer.headers.getSetCookie()
  expect(cookies.length).toBeGreaterThan(0)
  for (const cookie of cookies) expect(cookie).toMatch(/; Secure/)
  expect(cookies.some((cookie) => cookie.startsWith('session_token='))).toBe(true)
  expect((await browser.call('GET', '/api/v1/auth/me')).status).toBe(200)
})
