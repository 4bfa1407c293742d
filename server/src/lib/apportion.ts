/** `value` in whole units, each of `unit` parts; a half goes up. Pure. */
export function roundHalfUp(value: bigint, unit: bigint): bigint {
  return floorDivide(2n * value + unit, 2n * unit)
}

/**
 * Rounds exact values to whole units so that they add up to `sum`, by the largest remainder: each is off by less than one unit, and
 * one that is whole stays what it is. Pure.
 * @param values parts, `unit` of them to a whole unit
 * @param sum whole units; less than one away from what the values add up to, as a difference of two rounded numbers is
 */
export function roundToSum(values: readonly bigint[], unit: bigint, sum: bigint): bigint[] {
  const rounded = values.map((value) => floorDivide(value, unit))
  let rest = sum - rounded.reduce((total, value) => total + value, 0n)
  const byRemainder = values
    .map((value, index) => ({ index, remainder: value - rounded[index]! * unit }))
    .filter(({ remainder }) => remainder > 0n)
    .sort((a, b) => (a.remainder === b.remainder ? a.index - b.index : a.remainder > b.remainder ? -1 : 1))
  for (const { index } of byRemainder) {
    if (rest <= 0n) break
    rounded[index] = rounded[index]! + 1n
    rest -= 1n
  }
  return rounded
}

function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by
  return value % by < 0n ? quotient - 1n : quotient
}
