#!/usr/bin/env node
// As much of curl as the READMEs use: a machine that runs the tests need not have it.
import { readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { basename } from 'node:path'

const headers = new Headers()
const form = new FormData()
let method = null
let body = null
let url = ''
let forms = 0

const words = process.argv.slice(2)
while (words.length > 0) {
  const word = words.shift()
  if (word === '-H') {
    const [name, ...value] = words.shift().split(':')
    headers.append(name, value.join(':').trim())
  } else if (word === '-X') method = words.shift()
  else if (word === '-d') body = words.shift()
  else if (word === '-F') {
    const [name, file] = words.shift().split('=@')
    form.append(name, new File([await readFile(file)], basename(file)))
    forms += 1
  } else if (word === '-s' || word === '-i' || word === '-si') continue
  else url = word
}
const encoded = forms > 0 ? new Response(form) : body === null ? null : new Response(body)
if (forms > 0) headers.set('content-type', encoded.headers.get('content-type'))
const sent = encoded === null ? null : Buffer.from(await encoded.arrayBuffer())
// Not by fetch: what it says of itself as a browser would, servers judge by a browser's rules.
const call = request(
  url,
  { method: method ?? (sent === null ? 'GET' : 'POST'), headers: Object.fromEntries(headers) },
  (answer) => answer.pipe(process.stdout),
)
call.on('error', (error) => {
  process.stderr.write(`curl: ${error.message}\n`)
  process.exitCode = 7
})
call.end(sent)
