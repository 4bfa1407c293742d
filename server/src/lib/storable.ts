/** Whether PostgreSQL can store a text: without a NUL, and without half of a surrogate pair. */
export function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}

/** A text that others wrote, e.g. the answer of another server, as PostgreSQL can store it. */
export function toStorable(text: string): string {
  return text.replaceAll('\0', '').toWellFormed()
}
