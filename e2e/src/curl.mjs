#!/usr/bin/env node
// As much of curl as the READMEs use: a machine that runs the tests need not have it.
import { readFile } from 'node:fs/promises'
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
const sent = forms > 0 ? form : body
const response = await fetch(url, { method: method ?? (sent === null ? 'GET' : 'POST'), headers, body: sent, redirect: 'manual' })
process.stdout.write(await response.text())
