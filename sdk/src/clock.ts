/** The machine's time, for what is stamped when no caller names a time. */
export const machineTime = (): Date => new Date()
