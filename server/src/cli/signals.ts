import type { Output } from './print.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Starts something, lets it run until a signal comes, and stops it. A signal while it starts is heeded as soon as it has
 * started, so nothing is left running half; a second one ends the process at once.
 * @param start answers how to stop
 */
export async function runUntilSignal(start: () => Promise<() => Promise<void>>, output: Output): Promise<void> {
  const signalled = new Promise<void>((resolve) => {
    const onSignal = (): void => {
      for (const signal of SIGNALS) {
        process.off(signal, onSignal)
        process.once(signal, () => process.exit(1))
      }
      output.err('Stopping …\n')
      resolve()
    }
    for (const signal of SIGNALS) process.on(signal, onSignal)
  })
  const stop = await start()
  await signalled
  await stop()
}
