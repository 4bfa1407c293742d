import { expect, it } from 'vitest'
import { createCircuit, type Passage } from './circuit.ts'

function testCircuit() {
  let time = 0
  const circuit = createCircuit(() => time)
  const lose = (passage: Passage | null): void => {
    passage!.lost(1_000)
    passage!.end()
  }
  return { circuit, lose, advance: (ms: number) => void (time += ms) }
}

it('lets no call go for a while after one without an answer, then one that looks, and all after its answer', () => {
  const { circuit, lose, advance } = testCircuit()
  lose(circuit.enter())
  advance(999)
  expect(circuit.enter()).toBeNull()
  advance(1)
  const looking = circuit.enter()
  expect(looking).toMatchObject({ isProbe: true })
  expect(circuit.enter()).toBeNull()
  lose(looking)
  expect(circuit.enter()).toBeNull()
  advance(1_000)
  const again = circuit.enter()!
  again.answered()
  again.end()
  expect([circuit.enter(), circuit.enter()]).toMatchObject([{ isProbe: false }, { isProbe: false }])
})

it('does not take a server for away that has answered another call meanwhile', () => {
  const { circuit, lose } = testCircuit()
  const [slow, quick] = [circuit.enter(), circuit.enter()!]
  quick.answered()
  quick.end()
  lose(slow)
  expect(circuit.enter()).not.toBeNull()
})

it('lets another look where the one that looked ended without a word', () => {
  const { circuit, lose, advance } = testCircuit()
  lose(circuit.enter())
  advance(1_000)
  circuit.enter()!.end()
  expect(circuit.enter()).toMatchObject({ isProbe: true })
})

it('remembers nothing where no pause is wanted', () => {
  const { circuit } = testCircuit()
  circuit.enter()!.lost(0)
  expect(circuit.enter()).toMatchObject({ isProbe: false })
})
