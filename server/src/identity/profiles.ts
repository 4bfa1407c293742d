import type { BetterAuthOptions } from 'better-auth'
import { APIError, createAuthMiddleware } from 'better-auth/api'
import { z } from 'zod'
import { nameText } from '../lib/name-text.ts'
import { CONTROLS, toStorable } from '../lib/storable.ts'

const LONGEST_NAME = 200
const LONGEST_IMAGE = 2_000

/** What people are called, and the address of their picture. */
export const personName = nameText(LONGEST_NAME)
const profile = z.object({ name: personName.optional(), image: z.string().max(LONGEST_IMAGE).nullish() })

/** Of better-auth's own routes, those that take a profile; it takes any text for one by itself. */
const TAKE_PROFILES: ReadonlySet<string> = new Set(['/sign-up/email', '/update-user'])

/**
 * Holds people to a name on better-auth's own routes as on ours. It is looked at before anything is looked up, so that the answer does not
 * tell who is known; it stands in mails to addresses that nobody has confirmed. What a provider calls somebody is brought into the form of a name.
 */
export const profileRules = {
  hooks: {
    before: createAuthMiddleware(async ({ path, body }) => {
      if (TAKE_PROFILES.has(path)) requireProfile(body)
    }),
  },
  databaseHooks: {
    user: { create: { before: async (user) => ({ data: { ...user, name: nameOf(user) } }) } },
  },
} satisfies Pick<BetterAuthOptions, 'hooks' | 'databaseHooks'>

function requireProfile(body: unknown): void {
  const read = profile.safeParse(body)
  if (read.success) return
  const [issue] = read.error.issues
  throw new APIError('BAD_REQUEST', { message: `${String(issue?.path[0] ?? 'body')}: ${issue?.message ?? 'is not valid'}` })
}

function nameOf({ name, email }: { readonly name: string; readonly email: string }): string {
  const shown = toStorable(name.replaceAll(CONTROLS, ' ').trim().slice(0, LONGEST_NAME))
  return personName.safeParse(name).data ?? (shown === '' ? email : shown)
}
