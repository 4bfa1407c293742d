import { afterEach, describe, expect, test } from 'vitest'
import { makeRoom, refuseWrites } from '../../test/full-disk.ts'
import { PASSWORD, testIdentity } from '../../test/identity.ts'

const anyAddress = testIdentity()
const confirmedOnly = testIdentity({ identity: { requireVerifiedEmail: true } })

describe.each([
  ['any address', anyAddress],
  ['confirmed addresses alone', confirmedOnly],
])('where %s may sign in, what a database without room could not store', (_, identity) => {
  const { db } = identity.database
  afterEach(() => makeRoom(db))
  const refused = { status: 503, body: { code: 'database_unavailable' } }

  test.each(['users', 'user_credentials', 'mails'])(
    'of a sign-up is not answered as done (%s), and it is done when asked for again',
    async (table) => {
      const email = `${table.replace('_', '-')}@example.com`
      const signUp = () => identity.open().call('POST', '/api/v1/auth/sign-up', { email, password: PASSWORD, name: 'Full' })
      await refuseWrites(db, table)
      expect(await signUp()).toMatchObject(refused)
      await makeRoom(db)
      expect((await signUp()).status).toBe(201)
      const link = await identity.confirmationOf(email)
      const browser = identity.open()
      await browser.call('GET', `${link.pathname}${link.search}`)
      const signedIn = await browser.call('POST', '/api/v1/auth/sign-in', { email, password: PASSWORD })
      expect(signedIn).toMatchObject({ status: 200, body: { caller: { user: { email, email_verified: true } } } })
    },
  )
})

test.each(['organizations', 'organization_members'])(
  'a sign-up without its organization (%s) is not answered as done, and it is done when asked for again, alone or by an invitation',
  async (table) => {
    const { db } = anyAddress.database
    const owner = await anyAddress.signUp(`owner-${table.replace('_', '-')}@example.com`)
    const [alone, invited] = [`alone-${table.replace('_', '-')}@example.com`, `invited-${table.replace('_', '-')}@example.com`]
    await owner.browser.call('POST', `/api/v1/organizations/${owner.organizationId}/invitations`, { email: invited })
    const token = /#token=(\S+)/.exec(await anyAddress.mailTo(invited, 'invitation'))![1]
    const signUp = (body: object) =>
      anyAddress.open().call('POST', '/api/v1/auth/sign-up', { password: PASSWORD, name: 'Full', ...body })
    await refuseWrites(db, table)
    const refused = await signUp({ email: alone })
    const invitedMeanwhile = table === 'organizations' ? null : await signUp({ email: invited, invitation_token: token })
    await makeRoom(db)
    for (const answer of [refused, invitedMeanwhile ?? refused])
      expect(answer).toMatchObject({ status: 503, body: { code: 'database_unavailable' } })
    expect((await signUp({ email: alone })).status).toBe(201)
    const joined = await signUp({ email: invited, invitation_token: token })
    expect(joined).toMatchObject({ status: 201, body: { caller: { organization_id: owner.organizationId } } })
  },
)

test.each(['user_verifications', 'mails'])(
  'a reset whose mail could not be stored (%s) is not answered as sent',
  async (table) => {
    const { db } = anyAddress.database
    const email = `reset-${table.replace('_', '-')}@example.com`
    await anyAddress.signUp(email)
    const ask = () => anyAddress.open().call('POST', '/api/v1/auth/password-reset', { email })
    await refuseWrites(db, table)
    const refused = await ask()
    await makeRoom(db)
    expect(refused).toMatchObject({ status: 503, body: { code: 'database_unavailable' } })
    expect((await ask()).status).toBe(202)
    expect(await anyAddress.mailTo(email, 'password_reset')).toContain('/account/password#token=')
  },
)

test('the mail that confirms an address is not said to go out again when it could not be stored', async () => {
  const { db } = anyAddress.database
  const { browser } = await anyAddress.signUp('again@example.com')
  await refuseWrites(db, 'mails')
  const refused = await browser.call('POST', '/api/v1/auth/email-verification')
  // The same by better-auth's own route.
  const refusedThere = await browser.call('POST', '/api/v1/auth/send-verification-email', { email: 'again@example.com' })
  await makeRoom(db)
  expect([refused.status, refusedThere.status]).toEqual([503, 503])
})
