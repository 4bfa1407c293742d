import { MOVEMENT_KINDS } from '../analytics/rules.ts'
import { SUBSCRIPTION_STATUSES } from '../standing/rules.ts'

export type ExportKind =
  | 'invoices'
  | 'usage_statement'
  | 'organizations'
  | 'subscriptions'
  | 'revenue_movements'
  | 'analytics_report'
export type ExportFormat = 'csv' | 'pdf' | 'zip'

/** What there is, and in which formats. What spans organizations is for operators only. */
export const EXPORT_KINDS: Readonly<
  Record<ExportKind, { readonly formats: readonly ExportFormat[]; readonly scope: 'organization' | 'all' | 'either' }>
> = {
  invoices: { formats: ['csv', 'zip'], scope: 'either' },
  usage_statement: { formats: ['csv', 'pdf'], scope: 'organization' },
  organizations: { formats: ['csv'], scope: 'all' },
  subscriptions: { formats: ['csv'], scope: 'all' },
  revenue_movements: { formats: ['csv'], scope: 'all' },
  analytics_report: { formats: ['pdf'], scope: 'all' },
}

export const CONTENT_TYPES: Readonly<Record<ExportFormat, string>> = {
  csv: 'text/csv; charset=utf-8',
  pdf: 'application/pdf',
  zip: 'application/zip',
}

/** Whose an export is that operators make over all organizations. */
export const EVERYBODY = '*'

/** By what a kind can be narrowed; none where its rows have no status. */
const STATUSES: Readonly<Partial<Record<ExportKind, readonly string[]>>> = {
  invoices: ['draft', 'open', 'paid', 'uncollectible', 'void'],
  organizations: [...SUBSCRIPTION_STATUSES, 'none'],
  subscriptions: SUBSCRIPTION_STATUSES,
  revenue_movements: MOVEMENT_KINDS,
}

type Asked = {
  readonly kind: ExportKind
  readonly format: ExportFormat
  readonly organizationId: string | null
  readonly filter: { readonly status?: string }
}

/** Why an export cannot be made; null when it can. Pure. */
export function findRefusal({ kind, format, organizationId, filter }: Asked): { field: string; detail: string } | null {
  const { formats, scope } = EXPORT_KINDS[kind]
  const known = STATUSES[kind] ?? []
  if (!formats.includes(format)) return { field: 'format', detail: `${kind} can be had as ${formats.join(' or ')}.` }
  if (scope === 'organization' && organizationId === null) {
    return { field: 'organization_id', detail: `${kind} is of one organization: organization_id is missing.` }
  }
  if (scope === 'all' && organizationId !== null) {
    return { field: 'kind', detail: `${kind} spans all organizations.` }
  }
  if (filter.status !== undefined && !known.includes(filter.status)) {
    const detail = known.length === 0 ? `${kind} has no status.` : `The status of ${kind} is one of ${known.join(', ')}.`
    return { field: 'filter.status', detail }
  }
  return null
}

/** The name under which a file is saved. Pure. */
export function fileNameOf({
  kind,
  format,
  createdAt,
}: {
  readonly kind: ExportKind
  readonly format: ExportFormat
  readonly createdAt: Date
}): string {
  return `${kind.replaceAll('_', '-')}-${createdAt.toISOString().slice(0, 10)}.${format}`
}
