/** The version of this server, as its package has it. */
export const VERSION = '0.1.0'
