// Owns the little world in which documents run: one receiver on 127.0.0.1 that stands for every host
// the documents name, and the services they open and never close.
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Connect } from '../../src/deliver/connect.ts'

export interface Received {
  host: string
  url: string
  headers: IncomingHttpHeaders
  body: string
}

/** Every request so far, whichever host it was for. */
export const received: Received[] = []

let answer: (request: Received) => number = () => 200

/** Says which status a request gets; 200 otherwise. */
export function answerWith(status: (request: Received) => number): void {
  answer = status
}

const server = createServer(async (request, response) => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  const { headers, url = '' } = request
  const body = Buffer.concat(chunks).toString()
  const one: Received = { host: headers.host ?? '', url, headers, body }
  received.push(one)
  response.statusCode = answer(one)
  response.end()
})
await new Promise<void>((resolve) => {
  server.listen(0, '127.0.0.1', resolve)
})
server.unref()
const { port } = server.address() as AddressInfo

/**
 * Takes the place of the package's connector: also for https, every connection leads here, except
 * those to a receiver that the document itself has started on 127.0.0.1.
 */
export const connectToReceiver: Connect = (target, received, connected) => {
  const own = target.hostname === '127.0.0.1' && ![80, 443].includes(target.port)
  const socket = connect(own ? target.port : port, '127.0.0.1').on('data', received)
  const failed = (error: Error) => connected(error, null)
  socket.once('error', failed).once('connect', () => {
    socket.off('error', failed)
    connected(null, socket)
  })
  return {
    phase: 'connect',
    giveUp: (error) => {
      socket.destroy(error)
    },
  }
}

const opened: { close(): Promise<void> }[] = []

/** Has a service closed when its document is through. */
export function closeLater(service: { close(): Promise<void> }): void {
  opened.push(service)
}

// The default data file belongs to the working directory: each document gets an empty one.
const home = process.cwd()
const folder = mkdtempSync(path.join(tmpdir(), 'k-msg-docs-'))
process.chdir(folder)

export async function leave(): Promise<void> {
  await Promise.all(opened.map((service) => service.close()))
  await new Promise((resolve) => {
    server.close(resolve)
    server.closeAllConnections()
  })
  process.chdir(home)
  rmSync(folder, { recursive: true, force: true })
}
