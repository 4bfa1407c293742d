#!/usr/bin/env node
// A checkout runs the sources; the published package the files compiled from them.
import { existsSync } from 'node:fs'

const source = new URL('../src/main.ts', import.meta.url)
const compiled = new URL('../src/main.js', import.meta.url)
const { main } = await import((existsSync(source) ? source : compiled).href)
await main(process.argv.slice(2))
