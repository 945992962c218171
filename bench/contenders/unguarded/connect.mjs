// A connector with the settings of ours: no vetting, no DNS of our own, nothing checked.

import { connect as connectTcp } from 'node:net'

const readBytes = 4_096

let used = false

export const wasUsed = () => used

export function createConnect({ connectTimeoutMs, setTimer }) {
  return ({ hostname, port }, received, connected) => {
    used = true
    const buffer = Buffer.allocUnsafeSlow(readBytes)
    const socket = connectTcp({
      host: hostname,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: 250,
      onread: {
        buffer,
        callback: (length) => {
          received(buffer.subarray(0, length))
          return true
        },
      },
    })
    const cancelTimer = setTimer(() => socket.destroy(new Error('timed out')), connectTimeoutMs)
    const failed = (error) => {
      cancelTimer()
      connected(error, null)
    }
    socket.once('error', failed).once('connect', () => {
      socket.off('error', failed)
      cancelTimer()
      connected(null, socket)
    })
    return { phase: 'connect', giveUp: (error) => socket.destroy(error) }
  }
}
