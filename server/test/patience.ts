/** How long a test waits for what has to come about. It ends what hangs, and measures nothing: a machine may be busy with other things. */
export const PATIENCE = { timeout: 60_000 } as const
