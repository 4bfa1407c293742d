import type { App } from '../http/app.ts'
import { registerReportRoutes } from './report-routes.ts'
import type { ReadingContext } from './reports.ts'

/** Everything that can be read about usage, besides the balances and the summary of `metering/`. */
export function registerUsageReadingRoutes(app: App, context: ReadingContext): void {
  registerReportRoutes(app, context)
}
