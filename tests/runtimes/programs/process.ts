import { createFileQueue } from '@tollgate/sdk/file-queue'
import { tryEverything } from './everything.ts'

const [, , url, apiKey, organizationId, file] = process.argv
const place = { url: url!, apiKey: apiKey!, organizationId: organizationId!, queue: createFileQueue(file!) }
console.log(JSON.stringify(await tryEverything(place)))
