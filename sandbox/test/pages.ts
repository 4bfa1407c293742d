import { expect } from 'vitest'

/** A page as a browser without JavaScript gets it. */
export interface Page {
  readonly status: number
  /** Where a redirect leads; empty otherwise. */
  readonly location: string
  readonly html: string
  /** The text between the tags, with white space collapsed. */
  readonly text: string
}

async function toPage(response: Response): Promise<Page> {
  const html = await response.text()
  expect(html, 'a page runs no script').not.toContain('<script')
  const text = html
    .replace(/<[^>]+>/g, ' ')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&amp;', '&')
    .replace(/\s+/g, ' ')
    .trim()
  return { html, location: response.headers.get('location') ?? '', status: response.status, text }
}

/** Opens a page; redirects are not followed. */
export async function openPage(url: string): Promise<Page> {
  return toPage(await fetch(url, { redirect: 'manual' }))
}

/** Sends a form as a browser does; redirects are not followed. */
export async function sendForm(url: string, fields: Readonly<Record<string, string>> = {}): Promise<Page> {
  return toPage(await fetch(url, { body: new URLSearchParams(fields), method: 'POST', redirect: 'manual' }))
}

/** Card fields with a number; in date and with a code. */
export function cardFields(number: string): { card_number: string; exp: string; cvc: string } {
  return { card_number: number, cvc: '123', exp: '12/34' }
}
