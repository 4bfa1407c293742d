import { execFileSync } from 'node:child_process'
import type { Case, Measured } from './figures.ts'
import { consumeOverHttp } from './http-cases.ts'
import type { World } from './world.ts'

const EARLY_SECONDS = 30
/** Memory goes up and down with the garbage: a window is looked at, not a moment. */
const WINDOW_SECONDS = 10

/** The server's memory at the end of a long full load, beside what it was after 30 seconds; what was counted is compared too. */
export async function memoryCase(world: World, seconds: number): Promise<Case> {
  const customer = await world.newCustomer()
  let early: Measured = { value: Number.NaN }

  async function loadAndWatch(): Promise<Measured> {
    const samples: { readonly second: number; readonly megabytes: number }[] = []
    const began = performance.now()
    const watching = setInterval(
      () => samples.push({ second: (performance.now() - began) / 1_000, megabytes: residentMegabytes(world.tollgate.pid) }),
      1_000,
    )
    try {
      await consumeOverHttp(world, customer, seconds)
    } finally {
      clearInterval(watching)
    }
    const meanUntil = (end: number): number => {
      const window = samples.filter(({ second }) => second > end - WINDOW_SECONDS && second <= end)
      return window.reduce((sum, { megabytes }) => sum + megabytes, 0) / window.length
    }
    early = { value: meanUntil(Math.min(EARLY_SECONDS, seconds / 2)) }
    return { value: meanUntil(seconds) }
  }

  return {
    name: 'memory',
    title: `memory of the server after ${seconds} s of full load`,
    reference: `its memory after ${EARLY_SECONDS} s`,
    unit: 'MB',
    wanted: 1.2,
    better: 'less',
    rounds: 1,
    measure: loadAndWatch,
    measureReference: () => Promise.resolve(early),
  }
}

function residentMegabytes(pid: number): number {
  return Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' })) / 1_024
}
