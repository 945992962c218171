// How much the receiver itself can take: a process that writes ready-made requests to raw
// sockets, 16 per write (pipelined), so that the client costs almost nothing.
// A receiver that is not far above the contenders would be what the bench measures.

import { connect } from 'node:net'
import { signedRequest } from '../contenders/request.mjs'
import { monotonicMs } from '../machine/clock.mjs'
import { makeEvent } from '../workload/events.mjs'

const CONNECTIONS = 50
const PER_WRITE = 16

process.once('message', async ({ url, durationMs }) => {
  const { hostname, port, pathname } = new URL(url)
  const { headers, body } = signedRequest(makeEvent(1, 1))
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const one = `POST ${pathname} HTTP/1.1\r\nhost: ${hostname}:${port}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${head.join('')}\r\n${body}`
  const batch = Buffer.from(one.repeat(PER_WRITE))

  const start = monotonicMs()
  const counts = await Promise.all(
    Array.from({ length: CONNECTIONS }, () => run(Number(port), batch, start + durationMs)),
  )
  const perSecond = (counts.reduce((a, b) => a + b, 0) * 1000) / (monotonicMs() - start)
  process.send({ perSecond }, () => process.exit())
})

/** Writes a batch, waits for all its answers, writes the next. */
function run(port, batch, endMs) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(batch))
    let answered = 0
    let due = PER_WRITE
    socket.on('error', reject)
    socket.on('data', (chunk) => {
      for (let at = chunk.indexOf('HTTP/1.1 '); at >= 0; at = chunk.indexOf('HTTP/1.1 ', at + 9)) {
        if (chunk.latin1Slice(at + 9, at + 12) === '200') answered++
      }
      if (answered < due) return
      if (monotonicMs() >= endMs) {
        socket.destroy()
        resolve(answered)
        return
      }
      due += PER_WRITE
      socket.write(batch)
    })
  })
}
