/** A place elsewhere at which people may sign in; each is switched on by its variables. */
export type SignInProvider = {
  /** As in `/api/v1/auth/callback/<id>`. */
  readonly id: string
  readonly credentials: { readonly clientId: string; readonly clientSecret: string }
} & ({ readonly kind: 'social' } | { readonly kind: 'oidc'; readonly discoveryUrl: string })
