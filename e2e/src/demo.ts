// `npm run demo`: walks the loop and tells it. Uses a server of its own on free ports, in a directory that is removed afterwards;
// with `--keep` the directory stays and is named.
import { createLoop, runLoop } from './loop.ts'
import { createPlace, startProgram } from './process.ts'

const place = await createPlace()
let step = 0
const heading = (title: string): void => {
  step += 1
  process.stdout.write(`\n${step}. ${title}\n`)
}
try {
  process.stdout.write('Starting PostgreSQL, the Stripe sandbox and the episodic-memory host …\n')
  const program = await startProgram({ ...place, program: { kind: 'example', name: 'episodic-memory' } })
  try {
    process.stdout.write(`Tollgate is at ${program.runtime.url}, the sandbox at ${program.runtime.sandboxUrl}\n`)
    await runLoop(
      createLoop(program, (line) => process.stdout.write(`   ${line}\n`)),
      heading,
    )
    process.stdout.write('\nThe whole loop ran. Start your own with: npm start\n')
  } finally {
    await program.end('SIGINT')
  }
} finally {
  if (process.argv.includes('--keep')) process.stdout.write(`Kept: ${place.dataDir}\n`)
  else await place.remove()
}
