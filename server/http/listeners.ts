// Which listener answers which route. Without --admin-port there is one, and it answers all.

import { openPaths } from './access/auth.ts'
import type { HttpConfig, Route } from './context.ts'

/** Changes come from this machine itself unless --admin-host says otherwise. */
export const defaultAdminHost = '127.0.0.1'

/** null: there is no listener of its own. */
export function adminAddress({
  adminPort,
  adminHost,
}: Pick<HttpConfig, 'adminPort' | 'adminHost'>): { host: string; port: number } | null {
  return adminPort === null ? null : { host: adminHost ?? defaultAdminHost, port: adminPort }
}

export interface SplitRoutes {
  /** Of the public listener. */
  readonly routes: readonly Route[]
  /** Of --admin-port; null: there is no such listener. */
  readonly admin: readonly Route[] | null
}

/**
 * Changes are answered at --admin-port alone. What is read at the paths of changes is answered at both, as
 * is health; /metrics at one of them.
 */
export function splitRoutes(
  routes: readonly Route[],
  { adminPort, adminMetrics }: Pick<HttpConfig, 'adminPort' | 'adminMetrics'>,
): SplitRoutes {
  if (adminPort === null) return { routes, admin: null }
  const isChange = ({ role }: Route) => role === 'admin'
  const isMetrics = ({ role }: Route) => role === 'metrics'
  const paths = new Set(routes.filter(isChange).map(({ path }) => path))
  return {
    routes: routes.filter((route) => !isChange(route) && !(adminMetrics && isMetrics(route))),
    admin: routes.filter(
      (route) =>
        paths.has(route.path) ||
        route.isOfChanges === true ||
        openPaths.has(route.path) ||
        (adminMetrics && isMetrics(route)),
    ),
  }
}
