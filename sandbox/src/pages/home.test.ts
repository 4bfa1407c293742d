import { describe, expect, it } from 'vitest'
import { NOW, startReceiver, startTestSandbox } from '../../test/contract.ts'
import { openPage, sendForm } from '../../test/pages.ts'

describe("the sandbox's own page", () => {
  it('counts the objects, shows each kind and each object as JSON with links', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const customer = await stripe.customers.create({ email: 'a@example.com', metadata: { note: '<script>alert(1)</script>' } })
    const method = await stripe.paymentMethods.attach('pm_card_visa', { customer: customer.id })
    const home = await openPage(sandbox.url)
    expect(home.text).toContain('customer 1')
    expect(home.text).toContain('payment_method.attached')
    const kind = await openPage(`${sandbox.url}/ui/objects/customer`)
    expect(kind.text).toContain(customer.id)
    expect(kind.text).toContain('email a@example.com')
    const object = await openPage(`${sandbox.url}/ui/objects/payment_method/${method.id}`)
    expect(object.text).toContain('"last4": "4242"')
    expect(object.html).toContain(`<a href="/ui/find/${customer.id}">`)
    const found = await openPage(`${sandbox.url}/ui/find/${customer.id}`)
    expect(found.location).toBe(`/ui/objects/customer/${customer.id}`)
    expect((await openPage(sandbox.url + found.location)).text).toContain('<script>alert(1)</script>')
  })

  it('hides what only the sandbox knows: no secrets of endpoints, no internal kinds', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const endpoint = await stripe.webhookEndpoints.create({ enabled_events: ['invoice.paid'], url: 'http://127.0.0.1:9/hook' })
    const page = await openPage(`${sandbox.url}/ui/objects/webhook_endpoint/${endpoint.id}`)
    expect(page.status).toBe(200)
    expect(page.html).not.toContain(endpoint.secret ?? 'whsec_')
    expect((await openPage(`${sandbox.url}/ui/objects/_setting`)).status).toBe(404)
    expect((await openPage(`${sandbox.url}/ui/objects/customer/cus_none`)).status).toBe(404)
  })

  it('pages through long lists', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    for (let made = 0; made < 51; made += 1) await stripe.products.create({ name: `Product ${made}` })
    const first = await openPage(`${sandbox.url}/ui/objects/product`)
    expect(first.html.match(/name Product/g)).toHaveLength(50)
    const older = /href="(\/ui\/objects\/product\?from=[^"]+)"/.exec(first.html)?.[1] ?? ''
    const second = await openPage(sandbox.url + older)
    expect(second.text).toContain('name Product 0')
    expect(second.html).not.toContain('?from=')
  })

  it('moves the clock forward, and what is due happens', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const session = await stripe.checkout.sessions.create({ currency: 'usd', mode: 'setup', success_url: 'https://shop.example' })
    expect((await sendForm(`${sandbox.url}/ui/clock`, { advance_by: '86400' })).status).toBe(303)
    expect(sandbox.now()).toBe(NOW + 86_400)
    expect((await stripe.checkout.sessions.retrieve(session.id)).status).toBe('expired')
    await sendForm(`${sandbox.url}/ui/clock`, { advance_to: '2026-02-01T00:00' })
    expect(sandbox.now()).toBe(Date.UTC(2026, 1, 1) / 1000)
    const back = await sendForm(`${sandbox.url}/ui/clock`, { advance_to: '2020-01-01T00:00' })
    expect(back.status).toBe(400)
    expect(back.text).toContain('moves forward only')
    await sendForm(`${sandbox.url}/ui/clock`, { run: 'hour' })
    expect((await openPage(sandbox.url)).text).toContain('3600 times as fast')
  })

  it('moves a test clock, and renews what lives on it', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const clock = await stripe.testHelpers.testClocks.create({ frozen_time: NOW, name: 'Renewal' })
    const customer = await stripe.customers.create({
      invoice_settings: { default_payment_method: 'pm_card_visa' },
      payment_method: 'pm_card_visa',
      test_clock: clock.id,
    })
    const price = await stripe.prices.create({
      currency: 'usd',
      product_data: { name: 'Pro' },
      recurring: { interval: 'month' },
      unit_amount: 2900,
    })
    await stripe.subscriptions.create({ customer: customer.id, items: [{ price: price.id }] })
    expect((await openPage(sandbox.url)).text).toContain('Renewal')
    expect((await sendForm(`${sandbox.url}/ui/test_clocks/${clock.id}`, { advance_by: '2764800' })).status).toBe(303)
    expect((await stripe.invoices.list({ customer: customer.id })).data.map(({ status }) => status)).toEqual(['paid', 'paid'])
    const tooFar = await sendForm(`${sandbox.url}/ui/test_clocks/${clock.id}`, { advance_by: '31536000' })
    expect(tooFar.status).toBe(400)
    expect(tooFar.text).toContain('at most two intervals')
  })

  it('shows what was sent, and sends it again', async () => {
    const receiver = await startReceiver('whsec_again')
    const { sandbox, stripe } = await startTestSandbox({ webhooks: [{ secret: 'whsec_again', url: receiver.url }] })
    await stripe.customers.create()
    await sandbox.settled()
    const page = await openPage(`${sandbox.url}/ui/deliveries`)
    expect(page.text).toContain('delivered')
    const action = /action="(\/ui\/deliveries\/[^"]+\/resend)"/.exec(page.html)?.[1] ?? ''
    expect((await sendForm(sandbox.url + action)).status).toBe(303)
    expect(receiver.received.map(({ event }) => event.type)).toEqual(['customer.created', 'customer.created'])
    expect(receiver.received[1]?.event.id).toBe(receiver.received[0]?.event.id)
  })

  it.each([
    [{ origin: 'https://evil.example' }, 403],
    [{ origin: 'null', 'sec-fetch-site': 'cross-site' }, 403],
    [{ origin: 'null', 'sec-fetch-site': 'same-origin' }, 303],
  ])('takes a form only from itself: %j', async (headers, status) => {
    const { sandbox } = await startTestSandbox()
    const body = new URLSearchParams({ advance_by: '3600' })
    const response = await fetch(`${sandbox.url}/ui/clock`, {
      body,
      headers: headers as Record<string, string>,
      method: 'POST',
      redirect: 'manual',
    })
    expect(response.status).toBe(status)
    expect(sandbox.now()).toBe(status === 303 ? NOW + 3600 : NOW)
  })
})
