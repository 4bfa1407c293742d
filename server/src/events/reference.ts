import { z } from 'zod'
import { EVENT_TYPES, eventTypes, type EventType } from './types.ts'

/** The text of `docs/events.md`: every type of event with its fields and an example. */
export function describeEvents(): string {
  return [
    '# Events',
    '',
    'What Tollgate tells of, to webhook endpoints and at `GET /api/v1/events`. Generated from `server/src/events/types.ts`.',
    'Types and fields are added, never changed; leave alone what you do not know. How events are delivered is in [notifications](notifications.md).',
    '',
    'Every event is an object of this form; `data` depends on its type.',
    '',
    ...jsonBlock({
      id: 'ev_5d1c0c3f6a1e4b7f9a2d8c7e6b5a4f3e',
      type: 'invoice.paid',
      timestamp: '2026-03-01T00:00:00.000Z',
      organization_id: 'org_1',
      data: { '…': '…' },
    }),
    ...EVENT_TYPES.flatMap(describeType),
  ].join('\n')
}

function describeType(type: EventType): string[] {
  const { summary, data, example } = eventTypes[type]
  const fields = Object.entries(z.toJSONSchema(data, { io: 'input' }).properties ?? {})
  return [
    `## ${type}`,
    '',
    summary,
    '',
    '| field | type | |',
    '|---|---|---|',
    ...fields.map(([name, schema]) => `| \`${name}\` | ${typeOf(schema)} | ${descriptionOf(schema)} |`),
    '',
    ...jsonBlock(example),
  ]
}

function jsonBlock(value: unknown): string[] {
  return ['```json', JSON.stringify(value, null, 2), '```', '']
}

type JsonSchema = z.core.JSONSchema._JSONSchema

function typeOf(schema: JsonSchema): string {
  if (typeof schema === 'boolean') return 'any'
  if (schema.enum) return schema.enum.map((value) => `\`${String(value)}\``).join(', ')
  if (schema.anyOf) return [...new Set(schema.anyOf.map(typeOf))].join(' or ')
  if (schema.format === 'date-time') return 'time'
  if (typeof schema.additionalProperties === 'object') return `object of ${typeOf(schema.additionalProperties)} by name`
  if (schema.type === 'array' && typeof schema.items === 'object' && !Array.isArray(schema.items))
    return `array of ${typeOf(schema.items)}`
  if (schema.type === 'object')
    return `object of ${Object.keys(schema.properties ?? {})
      .map((name) => `\`${name}\``)
      .join(', ')}`
  return [schema.type ?? 'any'].flat().join(' or ')
}

function descriptionOf(schema: JsonSchema): string {
  return typeof schema === 'boolean' ? '' : (schema.description ?? '')
}
