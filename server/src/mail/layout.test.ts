import { expect, it } from 'vitest'
import { renderMail, type MailContent } from './layout.ts'

const content: MailContent = {
  subject: 'Your <b>payment</b> failed',
  preview: 'A preview',
  paragraphs: ['Everything goes on for "Acme & Sons".', '<script>alert(1)</script>'],
  facts: [['Amount', '<29>']],
  action: { label: 'Pay <now>', url: 'https://example.com/?a=1&b="2"' },
  footer: ['This is the billing address of <Acme>.'],
  stop: { label: 'No more', url: 'https://example.com/stop' },
}

it('escapes everything that it is given', async () => {
  const { html } = await renderMail(content)
  expect(html).not.toMatch(/<script|<b>|<29>|<now>|<Acme>/)
  expect(html).toContain('&lt;script&gt;alert(1)&lt;/script&gt;')
  expect(html).toContain('href="https://example.com/?a=1&amp;b=&quot;2&quot;"')
})

it('says the same as text', async () => {
  const { text, subject } = await renderMail(content)
  expect(subject).toBe(content.subject)
  expect(text).toBe(
    [
      'Everything goes on for "Acme & Sons".',
      '<script>alert(1)</script>',
      'Amount: <29>',
      'Pay <now>:\nhttps://example.com/?a=1&b="2"',
      '-- \nThis is the billing address of <Acme>.\nNo more: https://example.com/stop\n',
    ].join('\n\n'),
  )
})

it('fits a narrow screen, in the light and in the dark', async () => {
  const { html } = await renderMail(content)
  expect(html).toContain('<meta name="viewport" content="width=device-width, initial-scale=1" />')
  expect(html).toContain('<meta name="color-scheme" content="light dark" />')
  expect(html).toContain('@media (prefers-color-scheme: dark)')
  // No width but the column's largest one, and nothing that is fetched from anywhere.
  expect([...html.matchAll(/(?<![-\w])width:\s*(\S+?)[;"]/g)].map(([, width]) => width)).toEqual([])
  expect(html).not.toMatch(/<img|<link|@import|url\(/)
})
