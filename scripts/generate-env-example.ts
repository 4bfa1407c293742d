// Writes .env.example from the schema of the variables; server/src/config.test.ts fails when it has drifted.
import { writeFileSync } from 'node:fs'
import { describeVariables } from '../server/src/config.ts'

writeFileSync(new URL('../.env.example', import.meta.url), describeVariables())
