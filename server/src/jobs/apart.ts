/** When so many in a row fail, it is not these that something is wrong with: the next run goes on. */
export const AWAY_AFTER = 3

/**
 * Does the same for each of many, one after the other, where one that fails keeps nobody else.
 * @param onFailure told of each failure; what it throws ends the run
 * @throws what the first failed with, after the others
 */
export async function eachApart<Item>(
  items: Iterable<Item>,
  work: (item: Item) => Promise<void>,
  onFailure: (item: Item, error: unknown) => void | Promise<void>,
): Promise<void> {
  const failures: unknown[] = []
  let inARow = 0
  for (const item of items) {
    try {
      await work(item)
      inARow = 0
    } catch (error) {
      failures.push(error)
      await onFailure(item, error)
      inARow += 1
      if (inARow === AWAY_AFTER) break
    }
  }
  if (failures.length > 0) throw failures[0]
}
