import { expect, test } from 'vitest'
import { printAnswer } from './print.ts'

function printed(answer: unknown, json = false): string {
  let text = ''
  printAnswer(answer, { json, output: { out: (more) => void (text += more), err: () => undefined } })
  return text
}

test('what somebody else wrote moves no cursor and breaks no row of a table', () => {
  const rows = [
    { id: 'a', name: '\u001b[2J\u001b]0;title\u0007red\u009b31m' },
    { id: 'b', name: 'two\r\nlines, \u202ebackwards' },
  ]
  expect(printed(rows).split('\n')).toEqual([
    'id  name',
    'a   \\u001b[2J\\u001b]0;title\\u0007red\\u009b31m',
    'b   two\\u000d\\u000alines, \\u202ebackwards',
    '',
  ])
})

test('one record keeps the lines of a text, as of a mail, and nothing else that moves the cursor', () => {
  expect(printed({ subject: 'x\u001b[1m', text: 'Hello,\n\nthere.' })).toBe('subject  x\\u001b[1m\ntext     Hello,\n\nthere.\n')
})

test('as JSON it says the same, escaped', () => {
  const answer = { name: 'red\u009b31m, \u202ebackwards', lines: 'a\nb' }
  const text = printed(answer, true)
  expect(text).toBe('{\n  "name": "red\\u009b31m, \\u202ebackwards",\n  "lines": "a\\nb"\n}\n')
  expect(JSON.parse(text)).toEqual(answer)
})
