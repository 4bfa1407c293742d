import type { App } from '../http/app.ts'
import { registerExplainRoutes } from './explain-routes.ts'
import { registerExportRoutes, type ExportContext } from './export-routes.ts'
import { registerQuotaRoutes } from './quota-routes.ts'
import { registerReportRoutes } from './report-routes.ts'
import { registerStreamRoutes, type StreamContext } from './stream-routes.ts'

export type UsageReadingContext = ExportContext & StreamContext

/** Everything that can be read about usage, besides the balances and the summary of `metering/`. */
export function registerUsageReadingRoutes(app: App, context: UsageReadingContext): void {
  registerReportRoutes(app, context)
  registerQuotaRoutes(app, context)
  registerExportRoutes(app, context)
  registerExplainRoutes(app, context)
  registerStreamRoutes(app, context)
}
