import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect } from 'vitest'
import { forged, signed } from '../receivers.ts'

process.env.PORT = '0' // any free one

export async function check({ server }: { server: Server }): Promise<void> {
  if (!server.listening) await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/webhooks`
  expect((await fetch(url, signed)).status).toBe(200)
  expect((await fetch(url, forged)).status).toBe(401)
  server.close()
}
