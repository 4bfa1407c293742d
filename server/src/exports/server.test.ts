import { expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { OPERATOR_KEY, testIdentity } from '../../test/identity.ts'

const identity = testIdentity()

type Made = { readonly id: string; readonly state: string; readonly file_url: string }

test('OC-12 a whole server makes the file in the background, and the organization’s admin gets it, and nobody else', async () => {
  const ada = await identity.signUp('ada@example.com')
  const grace = await identity.signUp('grace@example.com')
  await ada.browser.call('POST', '/api/v1/usage/consume', { meter: 'search', quantity: 2, idempotency_key: 'one' })
  const asked = await ada.browser.call('POST', '/api/v1/exports', { kind: 'usage_statement', format: 'csv' })
  expect(asked.status, JSON.stringify(asked.body)).toBe(202)
  const { id } = asked.body as unknown as Made
  const read = async () => (await ada.browser.call('GET', `/api/v1/exports/${id}`)).body as unknown as Made
  await vi.waitFor(async () => expect((await read()).state).toBe('done'), PATIENCE)
  const { file_url: path } = await read()
  const answer = await identity.tollgate.fetch(
    new Request(`http://localhost:3000${path}`, { headers: { authorization: `Bearer ${ada.token}` } }),
  )
  expect(await answer.text()).toMatch(/^day,meter,events,quantity,drawn,overage\r\n\d{4}-\d\d-\d\d,search,1,2,2,0\r\n$/)
  expect((await grace.browser.call('GET', path)).status).toBe(404)
  const listed = await grace.browser.call('GET', '/api/v1/exports')
  expect(listed.body).toEqual({ exports: [], has_more: false })
  const all = await identity.as(OPERATOR_KEY, 'GET', '/api/v1/admin/exports')
  expect(all.body).toMatchObject({ exports: [{ id, organization_id: ada.organizationId }] })
})
