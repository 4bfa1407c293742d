import type { Output } from './print.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Resolves when a signal has come and `stop` has done its work. A second signal ends the process at once. */
export async function runUntilSignal(stop: () => Promise<void>, output: Output): Promise<void> {
  await new Promise<void>((resolve) => {
    const onSignal = (): void => {
      for (const signal of SIGNALS) process.off(signal, onSignal)
      resolve()
    }
    for (const signal of SIGNALS) process.on(signal, onSignal)
  })
  output.err('Stopping …\n')
  for (const signal of SIGNALS) process.once(signal, () => process.exit(1))
  await stop()
}
