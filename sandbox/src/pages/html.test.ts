import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { html, linkTarget, toDocument } from './html.ts'

const text = (page: ReturnType<typeof html>): string => toDocument(page).replace('<!doctype html>\n', '')

describe('the html template', () => {
  it('escapes whatever is interpolated, so that no value opens a tag or leaves its attribute', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('<', '>', '"', "'", '&', 'a', ' ', '=') }), (value) => {
        const rendered = text(html`<p title="${value}">${value}</p>`)
        const inside = rendered.slice('<p title="'.length, -'</p>'.length)
        expect(inside.replace('">', '')).not.toMatch(/[<>"']/)
      }),
    )
  })

  it('keeps markup made by itself, joins lists and drops nothing-values', () => {
    const items = ['a', '<b>'].map((item) => html`<li>${item}</li>`)
    expect(text(html`<b>${items}</b>`)).toBe('<b><li>a</li><li>&lt;b&gt;</li></b>')
    expect(text(html`${null}${undefined}${false}${0}`)).toBe('0')
  })

  it('refuses link targets that are not http or https', () => {
    expect(linkTarget('javascript:alert(1)')).toBeNull()
    expect(linkTarget('data:text/html,x')).toBeNull()
    expect(linkTarget('not a url')).toBeNull()
    expect(linkTarget('https://example.com/a?b=c')).toBe('https://example.com/a?b=c')
  })
})
