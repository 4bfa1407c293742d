// Writes docs/events.md from the types of events; server/src/events/events.test.ts fails when it has drifted.
import { writeFileSync } from 'node:fs'
import { describeEvents } from '../server/src/events/reference.ts'

writeFileSync(new URL('../docs/events.md', import.meta.url), describeEvents())
