import sparticuz from '@sparticuz/chromium'
import { chromium, type Browser, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { serve, type HttpServer } from '../../server/src/http/serve.ts'
import { PASSWORD, testIdentity } from '../../server/test/identity.ts'

// The server's own pages in a real browser: those on which the links of identity's mails end, and that of the errors.

let server: HttpServer
let browser: Browser
const identity = testIdentity()

beforeAll(async () => {
  server = await serve({
    host: '127.0.0.1',
    port: 0,
    fetch: (request, connection) => identity.tollgate.fetch(request, connection),
  })
  // The server names itself by its public address, and the browser finds it there.
  const args = ['--no-sandbox', `--host-resolver-rules=MAP localhost:3000 127.0.0.1:${server.port}`]
  browser = await chromium.launch({ executablePath: await sparticuz.executablePath(), args, headless: true })
})
afterAll(async () => {
  await browser.close()
  await server.stop()
})

/** The page of a mail's link; what it complains of on its console counts as a failure. */
async function open(mail: string): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage()
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(error.message))
  await page.goto(/http\S+/.exec(mail)![0])
  return { page, complaints }
}

describe('the link of a mail', () => {
  it('sets a new password, and leaves no token in the address', async () => {
    await identity.signUp('forgetful@example.com')
    await identity.open().call('POST', '/api/v1/auth/password-reset', { email: 'forgetful@example.com' })
    const { page, complaints } = await open(await identity.mailTo('forgetful@example.com', 'password_reset'))
    expect(page.url()).not.toContain('token')
    await page.getByLabel('New password').fill('short')
    await page.getByRole('button', { name: 'Set the password' }).click()
    await page.getByRole('status').getByText('password').waitFor()
    await page.getByLabel('New password').fill('another good password')
    await page.getByRole('button', { name: 'Set the password' }).click()
    await page.getByText('Done.').waitFor()
    const signIn = { email: 'forgetful@example.com', password: 'another good password' }
    expect((await identity.open().call('POST', '/api/v1/auth/sign-in', signIn)).status).toBe(200)
    expect(complaints).toEqual([])
  })

  it('accepts an invitation by signing up, and by signing in', async () => {
    const owner = await identity.signUp('owner@example.com')
    const invitations = `/api/v1/organizations/${owner.organizationId}/invitations`
    await identity.signUp('known@example.com')
    for (const [email, button] of [
      ['new@example.com', 'Sign up and accept'],
      ['known@example.com', 'Sign in and accept'],
    ] as const) {
      await owner.browser.call('POST', invitations, { email })
      const { page, complaints } = await open(await identity.mailTo(email, 'invitation'))
      await page.getByLabel('Name').fill('Somebody')
      await page.getByLabel('Address').fill(email)
      await page.getByLabel('Password').fill(PASSWORD)
      await page.getByRole('button', { name: button }).click()
      await page.getByText('Done.').waitFor()
      expect(complaints).toEqual([])
      await page.context().clearCookies()
    }
    const members = await owner.browser.call('GET', `/api/v1/organizations/${owner.organizationId}/members`)
    expect(members.body).toMatchObject({
      members: [{ role: 'owner' }, { email: 'new@example.com' }, { email: 'known@example.com' }],
    })
  })
})

it('the page that the type of every error leads to fits onto a phone', async () => {
  const page = await browser.newPage({ viewport: { height: 800, width: 390 } })
  await page.goto('http://localhost:3000/docs/errors')
  expect(await page.getByText('idempotency_conflict').isVisible()).toBe(true)
  expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(390)
  const lines = await page.evaluate(`document.querySelector('#unauthenticated code').getClientRects().length`)
  expect(lines, 'lines of a code of one word').toBe(1)
})
