#!/usr/bin/env node
// The published package runs compiled files; a checkout runs the sources (Node strips types, but not under node_modules).
import { existsSync } from 'node:fs'

const compiled = new URL('../dist/main.js', import.meta.url)
const source = new URL('../src/main.ts', import.meta.url)
const { main } = await import((existsSync(source) ? source : compiled).href)
await main(process.argv.slice(2))
