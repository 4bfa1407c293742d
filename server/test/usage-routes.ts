import { registerGrantRoutes } from '../src/grants/routes.ts'
import { registerUsageRoutes } from '../src/metering/wire/routes.ts'
import type { TestMetering } from './metering.ts'
import { testRoutes } from './routes.ts'

/** Calls the routes of use and of grants, which work upon one metering. */
export function testUsageRoutes(fixture: TestMetering) {
  return testRoutes((app) => {
    const context = { ...fixture.context(), metering: fixture.metering(), db: fixture.database.db }
    registerUsageRoutes(app, context)
    registerGrantRoutes(app, context)
  })
}
