import { html } from 'hono/html'
import type { App } from './app.ts'

type Page = {
  readonly title: string
  readonly sentence: string
  /** Fields of the form, and the buttons that send it; the script knows by the page's path where to. */
  readonly form?: { readonly fields: readonly Field[]; readonly buttons: readonly (readonly [name: string, label: string])[] }
}
type Field = { readonly name: string; readonly label: string; readonly type: string; readonly autocomplete: string }

const email: Field = { name: 'email', label: 'Address', type: 'email', autocomplete: 'username' }
const password: Field = { name: 'password', label: 'Password', type: 'password', autocomplete: 'current-password' }

/** Where the links of mails end while an application has no pages of its own. */
const PAGES: Readonly<Record<string, Page>> = {
  '/account/confirmation': {
    title: 'Confirm your address',
    sentence: 'Confirm it only if it was you who signed up with it: whoever that was acts under your address from then on.',
    form: { fields: [], buttons: [['confirm', 'Confirm the address']] },
  },
  '/account/confirmed': { title: 'Your address is confirmed', sentence: 'You can close this page.' },
  '/account/password': {
    title: 'Set a new password',
    sentence: 'At least eight characters.',
    form: {
      fields: [{ ...password, label: 'New password', autocomplete: 'new-password' }],
      buttons: [['reset', 'Set the password']],
    },
  },
  '/account/invitation': {
    title: 'You are invited',
    sentence: 'Sign in under the address that was invited, or sign up with it.',
    form: {
      fields: [{ name: 'name', label: 'Name (to sign up)', type: 'text', autocomplete: 'name' }, email, password],
      buttons: [
        ['sign-in', 'Sign in and accept'],
        ['sign-up', 'Sign up and accept'],
      ],
    },
  },
}

/** The token stands after #, which no server sees; it is taken out of the address at once. */
const SCRIPT = `const link = new URLSearchParams(location.hash.slice(1))
const token = link.get('token') ?? ''
history.replaceState(null, '', location.pathname)
const form = document.querySelector('form')
const says = document.querySelector('[role=status]')

async function send(path, body) {
  const response = await fetch('/api/v1/auth/' + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const answer = await response.json()
  if (!response.ok) throw new Error(answer.detail)
  return answer
}

const actions = {
  // The answer leads on, so the page never gets to say that it is done.
  confirm: () => new Promise(() => location.assign('/api/v1/auth/verify-email?' + link)),
  reset: ({ password }) => send('password-reset/confirm', { token, password }),
  async 'sign-in'({ email, password }) {
    const { two_factor_required: more } = await send('sign-in', { email, password })
    if (more) throw new Error('Sign in with your second factor first, and open the link again.')
    await send('invitations/accept', { token })
  },
  async 'sign-up'(person) {
    const { confirmation_required: more } = await send('sign-up', { ...person, invitation_token: token })
    if (more) throw new Error('Open the link that we mailed to this address, if it has no account yet. Then sign in here to accept.')
  },
}

form?.addEventListener('submit', async (event) => {
  event.preventDefault()
  const buttons = form.querySelectorAll('button')
  for (const button of buttons) button.disabled = true
  try {
    await actions[event.submitter.name](Object.fromEntries(new FormData(form)))
    form.remove()
    says.textContent = 'Done. You can close this page.'
  } catch (error) {
    says.textContent = error.message
    for (const button of buttons) button.disabled = false
  }
})
`

const STYLE = `body { font: 1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 12vh auto; padding: 0 1rem }
label { display: block; margin: 0 0 1rem } input { display: block; width: 100%; box-sizing: border-box; font: inherit; padding: .5rem }
button { font: inherit; padding: .5rem 1rem; margin: 0 .5rem .5rem 0 }
`

/** Only what the server itself serves may run or be shown, and nobody may frame it: a password is typed here. */
const POLICY = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"

/** Pages for what the mails of identity ask: a new password, an invitation. */
export function registerAccountPages(app: App): void {
  for (const [path, page] of Object.entries(PAGES)) {
    app.get(path, (c) => c.html(pageOf(page), 200, { 'content-security-policy': POLICY, 'referrer-policy': 'no-referrer' }))
  }
  app.get('/account/assets/account.js', (c) => c.body(SCRIPT, 200, { 'content-type': 'text/javascript; charset=utf-8' }))
  app.get('/account/assets/account.css', (c) => c.body(STYLE, 200, { 'content-type': 'text/css; charset=utf-8' }))
}

function pageOf({ title, sentence, form }: Page) {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${title}</title>
        <link rel="stylesheet" href="/account/assets/account.css" />
      </head>
      <body>
        <main>
          <h1>${title}</h1>
          <p>${sentence}</p>
          ${form === undefined ? '' : formOf(form)}
          <p role="status"></p>
        </main>
        <script src="/account/assets/account.js"></script>
      </body>
    </html>`
}

function formOf({ fields, buttons }: NonNullable<Page['form']>) {
  return html`<form method="post">
    ${fields.map(
      ({ name, label, type, autocomplete }) =>
        html`<label>${label}<input name="${name}" type="${type}" autocomplete="${autocomplete}" /></label>`,
    )}
    ${buttons.map(([name, label]) => html`<button name="${name}">${label}</button>`)}
  </form>`
}
