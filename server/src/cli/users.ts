import type { Command } from 'commander'
import { CliError } from './connection.ts'
import { path, queryOf, type Kit } from './kit.ts'

/** `tollgate users …`. */
export function addUsers(program: Command, { remote, server, answer }: Kit): void {
  const users = program.command('users').description('people who sign in')
  remote(users, 'list', 'list them')
    .option('--email <address>', 'only who has this address')
    .option('--after <id>', 'the last id of the page before')
    .action(async ({ email, after }: { email?: string; after?: string }, command: Command) => {
      const query = queryOf({ limit: '100', email, starting_after: after })
      answer(command, (await server(command).call<{ users: unknown[] }>('GET', `/api/v1/users?${query}`)).users)
    })
  remote(users, 'operator <address>', 'make somebody an operator, who sees every organization')
    .option('--remove', 'make them an ordinary user again')
    .action(async (address: string, { remove }: { remove?: boolean }, command: Command) => {
      const found = await server(command).call<{ users: { id: string }[] }>('GET', `/api/v1/users?email=${path(address)}`)
      const [user] = found.users
      if (user === undefined) throw new CliError(`There is no user with the address ${address}.`)
      answer(command, await server(command).call('PATCH', `/api/v1/users/${path(user.id)}`, { operator: remove !== true }))
    })
}
