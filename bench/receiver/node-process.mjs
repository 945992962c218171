// A process of its own: answers 200 to every POST and notes when its last byte came.
// Raw sockets, because `node:http` would be a third of the time that is to be measured.
// It reads only what the contenders send: a head, `content-length`, a body.

import { once } from 'node:events'
import { createServer } from 'node:net'
import { monotonicMs } from '../machine/clock.mjs'

const ANSWER = Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
const LAST_ANSWER = Buffer.from(
  'HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok',
)
const HEAD_END = Buffer.from('\r\n\r\n')

let count = 0
let arrivals = []
let noteArrivals = false
let close = false

function serve(socket) {
  let pending = Buffer.alloc(0)
  socket.setNoDelay(true)
  socket.on('error', () => socket.destroy())
  socket.on('data', (chunk) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk])
    for (;;) {
      const headEnd = pending.indexOf(HEAD_END)
      if (headEnd < 0) return
      const head = pending.latin1Slice(0, headEnd)
      const length = Number(head.match(/content-length: ?(\d+)/i)?.[1] ?? 0)
      const end = headEnd + HEAD_END.length + length
      if (pending.length < end) return
      count++
      if (noteArrivals) arrivals.push([head.match(/webhook-id: ?(\S+)/i)?.[1], monotonicMs()])
      if (close) socket.end(LAST_ANSWER)
      else socket.write(ANSWER)
      pending = pending.subarray(end)
    }
  })
}

async function listen(portCount) {
  const ports = []
  for (let i = 0; i < portCount; i++) {
    const server = createServer(serve).listen(0, '127.0.0.1', 4096)
    await once(server, 'listening')
    ports.push(server.address().port)
  }
  return ports
}

process.on('message', async (message) => {
  if (message.listen) {
    noteArrivals = message.noteArrivals
    close = message.close
    process.send({ ports: await listen(message.listen) })
  }
  if (message.report === 'count') process.send({ count })
  if (message.report === 'arrivals') {
    process.send({ arrivals })
    arrivals = []
  }
})
process.on('disconnect', () => process.exit())
