import type { Hono } from 'hono'
import { expect } from 'vitest'
import { forged, signed } from '../receivers.ts'

export async function check({ app }: { app: Hono }): Promise<void> {
  expect((await app.request('/webhooks', signed)).status).toBe(200)
  expect((await app.request('/webhooks', forged)).status).toBe(401)
}
