/** Whether PostgreSQL can store a text: without a NUL, and without half of a surrogate pair. */
export function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}

/** A text that others wrote, e.g. the answer of another server, as PostgreSQL can store it. */
export function toStorable(text: string): string {
  return text.replaceAll('\0', '').toWellFormed()
}

/** Characters that a terminal, a table or a mail's header would obey instead of show, and those that turn the direction of writing: a name could show as another. */
export const CONTROLS = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu
