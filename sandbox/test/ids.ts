/** The id of an object that may be expanded; fails when there is none. */
export function idOf(reference: string | { id: string } | null | undefined): string {
  if (reference === null || reference === undefined) throw new Error('There is no such reference')
  return typeof reference === 'string' ? reference : reference.id
}
