/** Whether PostgreSQL can store a text: without a NUL, and without half of a surrogate pair. */
export function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}
