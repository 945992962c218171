import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Express } from 'express'
import { expect } from 'vitest'
import { forged, signed } from '../receivers.ts'

export async function check({ app }: { app: Express }): Promise<void> {
  const server = createServer(app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/webhooks`
  expect((await fetch(url, signed)).status).toBe(200)
  expect((await fetch(url, forged)).status).toBe(401)
  server.close()
}
