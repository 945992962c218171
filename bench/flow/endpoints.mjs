// The receivers of the flow bench, a process of its own: a port per endpoint. Each answers at once,
// or keeps its senders waiting; while the outage lasts, all of them hang up.

import { once } from 'node:events'
import { createServer } from 'node:http'
import { monotonicMs } from '../machine/clock.mjs'

/** Shorter than the senders' time limit, so that a hanging endpoint is slow and not dead. */
const HANG_MS = 15_000

let arrivals = []
let isOut = false

function serve(port, hangs) {
  return (request, response) => {
    if (isOut) {
      request.socket.destroy()
      return
    }
    const id = request.headers['webhook-id']
    request.resume()
    request.once('end', () => {
      arrivals.push([id, monotonicMs(), port])
      if (hangs) setTimeout(() => response.end('ok'), HANG_MS)
      else response.end('ok')
    })
  }
}

process.on('message', async ({ listen, outage, report }) => {
  if (listen) {
    const ports = []
    for (const hangs of listen) {
      const server = createServer(serve(ports.length, hangs)).listen(0, '127.0.0.1', 4096)
      server.keepAliveTimeout = 60_000
      await once(server, 'listening')
      ports.push(server.address().port)
    }
    process.send({ ports })
  }
  if (outage !== undefined) {
    isOut = outage
    process.send({ outage })
  }
  if (report) {
    process.send({ arrivals })
    arrivals = []
  }
})
process.on('disconnect', () => process.exit())
